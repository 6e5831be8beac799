{{ config(enabled=var('duplicate_lines', false)) }}

with repeated as (
    select doc_id, count(*) as duplicate_units, sum(num_chars)::bigint as duplicate_chars
    from {{ ref('duplicate_lines') }}
    group by doc_id
)

select
    h.doc_id,
    h.num_units,
    coalesce(r.duplicate_units, 0) as duplicate_units,
    coalesce(r.duplicate_units / nullif(h.num_units, 0), 0)::double as duplicate_paragraph_share,
    coalesce(r.duplicate_chars / nullif(h.unit_chars, 0), 0)::double as duplicate_char_share
from {{ ref('text_hashes') }} h
left join repeated r using (doc_id)
