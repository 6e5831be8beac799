{{ config(enabled=var('synthetic', false) or var('mixed_textbook', false)) }}

-- What made a synthetic document stands in columns that a lake has once it holds one.
with documents as (
    select null::integer as generation, null::varchar as generator
    where false
    union all by name
    select * from {{ source('lake', 'documents') }}
),

named as (
    select
        doc_id,
        source,
        text_bytes,
        origin,
        coalesce(generation, 0) as generation,
        generator,
        {{ headwater.document_domain('path', 'metadata') }} as domain
    from documents
)

select *, domain || '/' || case when origin = 'synthetic' then 'synthetic' else 'real' end as part
from named
