{{ config(materialized='lance', meta={'candidates': 'raw.documents'}) }}

with ruled as (
    select
        d.doc_id,
        d.source,
        d.path,
        s.num_words,
        k.cluster_id,
        s.num_words >= {{ var('min_words', 3) }} as keep__long_enough,
        s.quality > 0.5                          as keep__good,
        d.license_declared = 'MIT'               as keep__permissive_license
    from {{ source('corpus', 'documents') }} d
    left join {{ ref('lengths') }} s using (doc_id)
    left join {{ ref('copies') }} k using (doc_id)
)

select *, {{ headwater.best_of('cluster_id', order_by='num_words desc, doc_id') }} as keep__unique
from ruled
