{{ config(meta={"rows_of": "raw.documents"}) }}

with measured as (
    select doc_id, text_hash, pii_counts(text) as n, pii_spans(text) as spans
    from {{ source('lake', 'documents') }}
)

select
    doc_id,
    text_hash,
    n.num_pii_spans,
    n.email,
    n.phone,
    n.ip_address,
    n.credit_card,
    n.iban,
    n.aws_key + n.github_token + n.gitlab_token + n.slack_token + n.google_key
        + n.stripe_key + n.jwt + n.private_key as num_secrets,
    n.password,
    spans
from measured
