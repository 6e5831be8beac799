{{ config(enabled=var('exact_duplicates', false) or var('duplicate_lines', false), meta={"rows_of": "raw.documents"}) }}

with counted as (
    select
        doc_id,
        text_hash,
        text_bytes,
        normalized_text_hash(text, form := 'whitespace') as whitespace_hash,
        normalized_text_hash(text, form := 'words') as words_hash,
        line_counts(text, unit := '{{ var("duplicate_line_unit", "line") }}') as units
    from {{ source('lake', 'documents') }}
)

select
    doc_id,
    text_hash,
    text_bytes,
    whitespace_hash::uuid as whitespace_hash,
    words_hash::uuid as words_hash,
    units.num_units,
    units.num_chars as unit_chars
from counted
