-- depends_on: {{ ref('synthetic_limits') }}, {{ ref('diversity') }}: what the suite compares it with
{{ config(enabled=var('mixed_textbook', false), meta={"candidates": "raw.documents"}) }}

with candidates as (
    select
        d.doc_id,
        d.source,
        d.path,
        d.text_bytes,
        o.origin,
        o.generation,
        o.domain,
        l.license_spdx,
        l.license_tier,
        s.num_words,
        s.alphanumeric_share,
        s.is_generated,
        m.machine_score,
        k.cluster_id
    from {{ source('lake', 'documents') }} d
    left join {{ ref('document_domains') }} o using (doc_id)
    left join {{ ref('license_concluded') }} l using (doc_id)
    left join {{ ref('signals') }} s using (doc_id)
    left join {{ ref('machine_text_signals') }} m using (doc_id)
    left join {{ ref('duplicate_clusters') }} k using (doc_id)
),

ruled as (
    select
        *,
        origin = 'synthetic'
            or license_tier in ('model', 'gold', 'silver', 'bronze')                  as keep__permissive_license,
        num_words between 20 and 100000                                                as keep__of_good_length,
        alphanumeric_share >= 0.25                                                     as keep__mostly_text,
        origin = 'synthetic' or not is_generated                                       as keep__handwritten,
        machine_score < {{ var('machine_text_threshold') }} or origin <> 'synthetic'   as keep__no_assistant_talk
    from candidates
)

select
    *,
    {{ headwater.best_of('cluster_id', order_by="(origin = 'synthetic'), text_bytes desc, doc_id") }} as keep__unique
from ruled
