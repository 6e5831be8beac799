-- For each folder of a source, the license file that is nearest to what lies in it: in the folder itself, or in
-- the first folder above that has one. A license file of package metadata stands for the folder the metadata is in.
with placed as (
    select
        d.doc_id,
        d.source,
        regexp_replace(coalesce(d.path, ''), '/*[^/]*$', '') as folder,
        d.path
    from {{ source('lake', 'documents') }} d
),

files as (
    select
        p.source,
        regexp_replace(p.folder, '(^|/)[^/]+[.](dist|egg)-info(/.*)?$', '')             as folder,
        p.path,
        e.file_spdx,
        regexp_matches(p.path, '(?i)(^|/)(licen[cs]e|copying|unlicense|copyright)([.](txt|md|rst|html?))?$') as is_plain
    from placed p
    join {{ ref('license_evidence') }} e using (doc_id)
    where
        regexp_matches(p.path, '(?i)(^|/)(licen[cs]e|copying|unlicense|copyright)([-_. ][^/]{0,24})?$')
        and e.file_spdx is not null
),

-- `LICENSE.python` beside `LICENSE` is the license of a part.
chosen as (
    select *
    from files
    qualify is_plain or not bool_or(is_plain) over (partition by source, folder)
),

licensed as (
    select
        source,
        folder,
        min(path)                                                           as license_path,
        case
            when count(distinct file_spdx) = 1 then min(file_spdx)
            else string_agg(
                distinct case when contains(file_spdx, ' OR ') then '(' || file_spdx || ')' else file_spdx end,
                ' AND '
                order by case when contains(file_spdx, ' OR ') then '(' || file_spdx || ')' else file_spdx end
            )
        end                                                                 as license_spdx
    from chosen
    group by source, folder
),

folders as (
    select
        source,
        folder,
        case when folder = '' then [] else string_split(folder, '/') end as parts
    from (select distinct source, folder from placed)
),

above as (
    select
        f.source,
        f.folder,
        u.depth,
        array_to_string(f.parts[1:u.depth], '/') as ancestor
    from folders f, unnest(range(len(f.parts) + 1)) u (depth)
)

select
    a.source,
    a.folder,
    arg_max(l.license_path, a.depth) as license_path,
    arg_max(l.license_spdx, a.depth) as license_spdx
from above a
join licensed l on l.source = a.source and l.folder = a.ancestor
group by a.source, a.folder
