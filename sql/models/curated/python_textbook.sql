{{ config(meta={"candidates": "raw.documents"}) }}

with candidates as (
    select
        d.doc_id,
        d.source,
        d.path,
        d.text_bytes,
        l.license_spdx,
        l.license_tier,
        s.num_words,
        s.num_lines,
        s.max_line_length,
        s.mean_line_length,
        s.alphanumeric_share,
        s.comment_line_share,
        s.is_generated,
        k.cluster_id,
        k.cluster_size
    from {{ source('lake', 'documents') }} d
    left join {{ ref('license_concluded') }} l using (doc_id)
    left join {{ ref('signals') }} s using (doc_id)
    left join {{ ref('duplicate_clusters') }} k using (doc_id)
),

ruled as (
    select
        *,
        license_tier in ('model', 'gold', 'silver', 'bronze') as keep__permissive_license,
        num_words >= 50                                       as keep__long_enough,
        num_words <= 100000                                   as keep__short_enough,
        mean_line_length <= 100 and max_line_length <= 1000   as keep__readable_lines,
        alphanumeric_share >= 0.25                            as keep__mostly_text,
        comment_line_share between 0.01 and 0.8               as keep__commented,
        not is_generated                                      as keep__handwritten
    from candidates
)

select
    *,
    {{ headwater.best_of('cluster_id', order_by='comment_line_share desc, text_bytes desc, doc_id') }} as keep__unique
from ruled
