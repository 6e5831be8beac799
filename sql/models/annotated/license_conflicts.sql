-- Documents that pass as permissive while a near-duplicate carries a notice that does not.
with pairs as (
    select a as doc_id, b as twin, similarity from {{ ref('near_duplicate_pairs') }}
    union all
    select b, a, similarity from {{ ref('near_duplicate_pairs') }}
)

select
    p.doc_id,
    p.twin,
    p.similarity,
    mine.license_spdx,
    mine.license_tier,
    theirs.license_spdx     as twin_license_spdx,
    theirs.license_tier     as twin_license_tier,
    theirs.license_detector as twin_license_detector,
    theirs.license_where    as twin_license_where
from pairs p
join {{ ref('license_concluded') }} mine using (doc_id)
join {{ ref('license_concluded') }} theirs on theirs.doc_id = p.twin
where
    p.similarity >= {{ var('near_duplicate_threshold') }}
    and mine.license_tier in ('model', 'gold', 'silver', 'bronze', 'lead')
    and theirs.license_tier in ('weak-copyleft', 'copyleft', 'network-copyleft', 'restricted')
    and theirs.license_detector in ('spdx_tag', 'text', 'notice')
