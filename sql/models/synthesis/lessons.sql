{{ config(enabled=var('generate_lessons', false), meta={"candidates": "raw.generated_documents"}) }}

with candidates as (
    select
        d.doc_id,
        d.source,
        d.origin,
        d.generator,
        d.generator_version,
        d.prompt_id,
        d.parent_ids,
        d.generation,
        d.parameters,
        d.text_hash,
        d.text_bytes,
        d.metadata ->> '$.finish_reason' as finish_reason,
        s.* exclude (doc_id, text_hash, text_bytes)
    from {{ source('generated', 'generated_documents') }} d
    left join {{ ref('generated_signals') }} s using (doc_id)
),

ruled as (
    select
        *,
        source = 'lessons' as keep__is_a_lesson,
        {{ headwater.finished() }},
        {{ headwater.length_between(25, 400) }},
        {{ headwater.not_refused() }},
        {{ headwater.no_prompt_leak() }},
        {{ headwater.gopher_repetition() }}
    from candidates
)

select
    *,
    {{ headwater.best_of('text_hash', order_by='doc_id', sticky=false) }} as keep__unique
from ruled
