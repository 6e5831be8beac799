{{ config(meta={"rows_of": "raw.documents"}) }}

with signed as (
    select doc_id, text_hash, minhash_signature(text) as s
    from {{ source('lake', 'documents') }}
)

select
    doc_id,
    text_hash,
    s.num_shingles,
    s.shingle_set_hash::uuid as shingle_set_hash,
    s.minhash
from signed
