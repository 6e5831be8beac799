{{ config(enabled=var('redact_pii', false), meta={"rows_of": "raw.documents"}) }}

with redacted as (
    select
        * exclude (metadata) replace (
            redact_pii(text, placeholders := '{{ var("pii_placeholders", "dolma") }}') as text
        ),
        [doc_id::blob] as parent_ids
    from {{ source('lake', 'documents') }}
)

select
    * replace (strlen(text) as text_bytes),
    text_hash(text)::uuid as redacted_text_hash
from redacted
