{{ config(enabled=var('duplicate_spans', false)) }}

select
    d.doc_id,
    coalesce(c.num_spans, 0) as num_spans,
    coalesce(c.covered_bytes, 0) as covered_bytes,
    coalesce(c.covered_bytes / nullif(d.text_bytes, 0), 0)::double as duplicate_span_share
from {{ source('lake', 'documents') }} d
left join {{ headwater.covered_bytes(ref('duplicate_spans')) }} c using (doc_id)
