{#- A rule that chooses within a cluster: true for the one document to keep.

    Decided among the documents for which `among` holds, never beside it: a cluster whose best copy
    fails another rule still yields its best passing copy. A document outside `among` is not this
    rule's to drop (true); one without a cluster id is unknown (NULL).

    partition_by  column that holds the cluster (one value for each document, its own for singletons)
    order_by      the document to keep comes first; end with `doc_id`, so that ties are settled
    among         condition of the candidates, usually `headwater.all_keep()` -#}
{% macro best_of(partition_by, order_by, among=none) -%}
  {%- set among = among or headwater.all_keep() -%}
  _hw_best_of(
    {{ partition_by }},
    {{ among }},
    row_number() over (partition by {{ partition_by }}, {{ among }} order by {{ order_by }})
  )
{%- endmacro %}


{#- True when every keep__* column of the relation selected from is true; NULL counts as not true.
    Function calls only: DuckDB allows `*COLUMNS(…)` in no other place. -#}
{% macro all_keep() -%}
  list_bool_and(list_transform(list_value(*COLUMNS('keep__.*')), lambda kept: coalesce(kept, false)))
{%- endmacro %}
