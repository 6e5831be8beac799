{{ config(enabled=var('decontaminate', false)) }}

with matches as (
    select doc_id, unnest(matches, recursive := true)
    from {{ ref('eval_evidence') }}
)

select *
from matches
order by doc_id, eval_set, item_id, field, ngram
