{{ config(enabled=var('synthetic', false) or var('mixed_textbook', false), meta={"rows_of": "raw.documents"}) }}

with measured as (
    select doc_id, text_hash, machine_text(text) as marks
    from {{ source('lake', 'documents') }}
)

select
    doc_id,
    text_hash,
    marks.score as machine_score,
    marks.evidence as machine_evidence,
    marks.num_marks as num_machine_marks,
    marks.repeated_share as repeated_word_share
from measured
