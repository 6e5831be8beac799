{{ config(meta={"rows_of": "raw.documents"}) }}

with found as (
    select
        doc_id,
        text_hash,
        license_evidence(text) as said
    from {{ source('lake', 'documents') }}
)

select
    doc_id,
    text_hash,
    said.spdx         as file_spdx,
    said.detector     as file_detector,
    said.confidence   as file_confidence,
    said.first_line,
    said.last_line,
    said.is_part      as file_is_part,
    said.refers       as refers_to_file,
    said.num_licenses,
    said.disagree     as file_disagrees
from found
