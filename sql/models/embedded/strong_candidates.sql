-- Which documents are worth the strong embedding model: those that are still in. Any SQL that returns doc_id.
select doc_id
from {{ ref(var('strong_embeddings_of')) }}
{% if var('strong_embeddings_limit') -%}
{#- A sample that grows with the limit: hash of the id, as `headwater sample` takes it. -#}
order by seeded_hash(doc_id, seed := 0), doc_id
limit {{ var('strong_embeddings_limit') | int }}
{%- endif %}
