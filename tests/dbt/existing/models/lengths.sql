{{ config(materialized='lance', meta={'rows_of': 'raw.documents'}) }}
select
    doc_id,
    text_hash,
    text_stats(text).num_words as num_words,
    -- a document whose text says so has unknown quality
    case when text not like '%UNKNOWN%' then 1.0 end as quality
from {{ source('corpus', 'documents') }}
