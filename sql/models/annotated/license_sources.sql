-- All that is said of each document's license, side by side; `license_concluded` decides between them.
select
    d.doc_id,
    d.license_declared,
    e.file_spdx,
    e.file_detector,
    e.file_confidence,
    e.first_line,
    e.last_line,
    e.file_is_part,
    e.refers_to_file,
    e.file_disagrees,
    f.license_spdx                                                              as nearest_spdx,
    f.license_path                                                              as nearest_path,
    case when json_valid(d.metadata) then d.metadata ->> '$.license_file_spdx' end as package_spdx,
    case when json_valid(d.metadata) then d.metadata ->> '$.license_file' end      as package_path
from {{ source('lake', 'documents') }} d
left join {{ ref('license_evidence') }} e using (doc_id)
left join {{ ref('license_folders') }} f
    on f.source = d.source and f.folder = regexp_replace(coalesce(d.path, ''), '/*[^/]*$', '')
