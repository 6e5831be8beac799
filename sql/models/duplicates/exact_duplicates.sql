{{ config(enabled=var('exact_duplicates', false)) }}

select doc_id, cluster_id, kind
from {{ headwater.exact_duplicates(ref('text_hashes'), hash='text_hash', kind='exact') }}
union all
select doc_id, cluster_id, kind
from {{ headwater.exact_duplicates(ref('text_hashes'), hash='whitespace_hash', kind='whitespace') }}
union all
select doc_id, cluster_id, kind
from {{ headwater.exact_duplicates(ref('text_hashes'), hash='words_hash', kind='words') }}
order by doc_id, kind
