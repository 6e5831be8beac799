{{ config(enabled=var('generate_lessons', false), meta={"rows_of": "raw.generated_documents"}) }}

with measured as (
    select
        doc_id,
        text_hash,
        text_bytes,
        text_stats(text) as words,
        web_stats(text, variant := 'datatrove') as web,
        {{ headwater.count_refusals('text') }} as num_refusals,
        {{ headwater.count_prompt_leaks('text') }} as num_prompt_leaks
    from {{ source('generated', 'generated_documents') }}
)

select
    doc_id,
    text_hash,
    text_bytes,
    words.num_words,
    words.num_lines,
    words.alphanumeric_share,
    web.* exclude (max_repeats, removed_word_share),
    num_refusals,
    num_prompt_leaks
from measured
