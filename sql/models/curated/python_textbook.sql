{{ config(meta={"candidates": "raw.documents"}) }}

with candidates as (
    select
        d.doc_id,
        d.source,
        d.path,
        d.text_bytes,
        l.license_spdx,
        l.license_tier,
        l.license_conflict,
        s.num_words,
        s.num_lines,
        s.max_line_length,
        s.mean_line_length,
        s.alphanumeric_share,
        s.comment_line_share,
        s.is_generated,
        p.num_pii_spans,
        p.num_secrets,
        {% if var('decontaminate', false) -%}
        x.eval_hits,
        {% endif -%}
        {% if var('edu_scores', false) -%}
        q.edu_score,
        q.edu_score_raw,
        {% endif -%}
        k.cluster_id,
        k.cluster_size
    from {{ source('lake', 'documents') }} d
    left join {{ ref('license_concluded') }} l using (doc_id)
    left join {{ ref('signals') }} s using (doc_id)
    left join {{ ref('pii') }} p using (doc_id)
    {% if var('decontaminate', false) -%}
    left join {{ ref('eval_overlap') }} x using (doc_id)
    {% endif -%}
    {% if var('edu_scores', false) -%}
    left join {{ ref('edu_scores') }} q using (doc_id)
    {% endif -%}
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
        not is_generated                                      as keep__handwritten,
        {% if var('decontaminate', false) -%}
        eval_hits = 0                                         as keep__clean_of_evals,
        {% endif -%}
        {% if var('edu_scores', false) and not var('edu_top_share', 0) -%}
        edu_score >= {{ var('edu_score_min', 1.5) }}          as keep__educational,
        {% endif -%}
        {{ headwater.few_personal_data(max_spans=5) }},
        {{ headwater.no_secrets() }}
    from candidates
)

{% if var('edu_scores', false) and var('edu_top_share', 0) -%}
, survivors as (
    select
        *,
        {{ headwater.best_of('cluster_id', order_by='comment_line_share desc, text_bytes desc, doc_id') }} as keep__unique
    from ruled
)

select
    *,
    {{ headwater.top_share('edu_score_raw', var('edu_top_share')) }} as keep__educational
from survivors
{% else -%}
select
    *,
    {{ headwater.best_of('cluster_id', order_by='comment_line_share desc, text_bytes desc, doc_id') }} as keep__unique
from ruled
{% endif -%}
