{{ config(enabled=var('redact_pii', false), meta={"rows_of": "raw.documents"}) }}

-- A synthetic document names its parents in a column of its own; here the parent is the text that was redacted.
with documents as (
    select columns(lambda name: name not in ('metadata', 'parent_ids'))
    from {{ source('lake', 'documents') }}
),

redacted as (
    select
        * replace (
            redact_pii(text, placeholders := '{{ var("pii_placeholders", "dolma") }}') as text
        ),
        [doc_id::blob] as parent_ids
    from documents
)

select
    * replace (strlen(text) as text_bytes),
    text_hash(text)::uuid as redacted_text_hash
from redacted
