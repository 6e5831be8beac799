-- Needs the language extra, so it is built where the project says `languages: true`.
{{ config(enabled=var("languages", false), meta={"rows_of": "raw.documents"}) }}

with identified as (
    select
        doc_id,
        text_hash,
        language(text) as lang,
        programming_language(coalesce(path, ''), text) as code
    from {{ source('lake', 'documents') }}
)

select
    doc_id,
    text_hash,
    lang.language as language,
    lang.score as language_score,
    code.language as programming_language,
    code.how as programming_language_how,
    code.confidence as programming_language_confidence,
    code.type as programming_language_type,
    code.syntax as programming_language_syntax
from identified
