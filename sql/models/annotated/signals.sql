{{ config(meta={"rows_of": "raw.documents"}) }}

with measured as (
    select
        doc_id,
        text_hash,
        text_bytes,
        text_stats(text) as words,
        code_stats(text) as code,
        file_stats(text) as file,
        web_stats(text, variant := 'datatrove') as web,
        c4_stats(text, variant := 'datatrove') as c4
    from {{ source('lake', 'documents') }}
)

select
    doc_id,
    text_hash,
    text_bytes,
    words.num_words,
    words.num_lines,
    words.mean_word_length,
    words.max_line_length,
    words.mean_line_length,
    words.alphanumeric_share,
    words.alpha_word_share,
    words.digit_share,
    words.duplicate_line_share,
    words.duplicate_line_char_share,
    code.comment_line_share,
    code.comment_char_share,
    code.blank_line_share,
    code.num_definitions,
    code.num_functions,
    code.num_imports,
    code.is_generated,
    file.*,
    web.* exclude (max_repeats, removed_word_share),
    c4.*
from measured
