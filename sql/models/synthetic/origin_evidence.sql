{{ config(enabled=var('synthetic', false) or var('mixed_textbook', false)) }}

select
    d.doc_id,
    d.source,
    d.origin,
    d.generator,
    m.machine_score,
    m.machine_evidence,
    case
        when d.origin = 'synthetic' then 'documented'
        when m.machine_score < {{ var('machine_text_threshold') }} then 'unmarked'
        when d.origin = 'human' then 'contradicted'
        else 'suspected'
    end as finding
from {{ ref('document_domains') }} d
left join {{ ref('machine_text_signals') }} m using (doc_id)
