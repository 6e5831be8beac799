{#- Documents that share a hash with another one: doc_id, cluster_id (the smallest doc_id with that hash), kind.

    relation   one row per document: doc_id and the hash
    hash       the column: text_hash, or a hash of the normalized text (operator `normalized_text_hash`)
    kind       what the rows say they are
    nothing    the hash of a text of which nothing is left when normalized; such texts are no duplicates -#}
{% macro exact_duplicates(relation, hash='text_hash', kind='exact', nothing="text_hash('')") -%}
  (
    select d.doc_id, c.cluster_id, '{{ kind }}' as kind
    from {{ relation }} d
    join (
      select {{ hash }} as hash, min(doc_id) as cluster_id
      from {{ relation }}
      where {{ hash }} <> {{ nothing }}::uuid
      group by {{ hash }}
      having count(*) > 1
    ) c on c.hash = d.{{ hash }}
  )
{%- endmacro %}


{#- Bytes of each document that its spans cover, overlaps counted once: doc_id, num_spans, covered_bytes.

    relation   `duplicate_spans` or `duplicate_lines`: doc_id, start, "end" -#}
{% macro covered_bytes(relation) -%}
  (
    select
      doc_id,
      count(*) as num_spans,
      sum(greatest(0, "end" - greatest(start, coalesce(covered_until, 0))))::bigint as covered_bytes
    from (
      select
        doc_id,
        start,
        "end",
        max("end") over (
          partition by doc_id order by start, "end" rows between unbounded preceding and 1 preceding
        ) as covered_until
      from {{ relation }}
    )
    group by doc_id
  )
{%- endmacro %}


{#- What another corpus has goes: true for a document that has no match there, unknown (NULL) for one that was
    never compared. For a left join with a table that `near_duplicates_against` or `exact_duplicates_against` made
    (one row per document, also without a match).

    compared   a column of that table that is never null, so that a missing row is seen
    match      the document of the other corpus -#}
{% macro not_in_other(compared='compared', match='match_doc_id') -%}
  case when {{ compared }} is not null then {{ match }} is null end as keep__not_in_other
{%- endmacro %}
