{#- A rule that chooses within a cluster: true for the one document to keep.

    Decided among the documents for which `among` holds, never beside it: a cluster whose best copy
    fails another rule still yields its best passing copy. A document outside `among` is not this
    rule's to drop (true); one without a cluster id is unknown (NULL).

    partition_by  column that holds the cluster (one value for each document, its own for singletons)
    order_by      the document to keep comes first; end with `doc_id`, so that ties are settled
    among         condition of the candidates, usually `headwater.all_keep()`
    sticky        documents of the latest approved version of this table, and those that a training run
                  has read, come before all others: new data does not evict them (view survivors_so_far)
    verify        'any' drops every other member of the cluster, which is a connected component, so that a
                  member may be unlike the survivor; 'survivor' drops only those whose similarity with the
                  survivor itself is at least `threshold` in `pairs`
    pairs         relation a, b, similarity, kind: ref('near_duplicate_pairs'), for verify='survivor'
    threshold     Jaccard similarity; the one that the clusters were made with
    id            column that holds the document's id -#}
{% macro best_of(partition_by, order_by, among=none, sticky=true, verify='any', pairs=none, threshold=none, id='doc_id') -%}
  {%- set among = among or headwater.all_keep() -%}
  {%- if verify not in ('any', 'survivor') -%}
    {{ exceptions.raise_compiler_error("best_of: got verify='" ~ verify ~ "', expected 'any' or 'survivor'") }}
  {%- endif -%}
  {%- if verify == 'survivor' and not pairs -%}
    {{ exceptions.raise_compiler_error("best_of: verify='survivor' needs pairs=ref('near_duplicate_pairs')") }}
  {%- endif -%}
  {%- if sticky -%}
    {%- set order_by = "_hw_survived('" ~ this.identifier ~ "', " ~ id ~ ") desc, " ~ order_by -%}
  {%- endif -%}
  {%- set window = "partition by " ~ partition_by ~ ", " ~ among ~ " order by " ~ order_by -%}
  {%- if verify == 'any' -%}
  _hw_best_of(
    {{ partition_by }},
    {{ among }},
    row_number() over ({{ window }})
  )
  {%- else -%}
  _hw_verified_best_of(
    {{ partition_by }},
    {{ among }},
    {{ headwater.is_like_the_first(pairs, threshold or var('near_duplicate_threshold'), partition_by, window, id) }},
    row_number() over ({{ window }})
  )
  {%- endif -%}
{%- endmacro %}


{#- True for a document that is like the first one of its window, by the listed pairs.

    Pairs are listed between shingle sets: where many documents have equal sets, a pair stands for all of them,
    with their smallest ids. So both documents are first replaced by the smallest id of their set (which every
    member is paired with). In clusters of more than 512 documents pairs may be missing altogether (the cap of
    a band bucket): there every member counts as alike. -#}
{% macro is_like_the_first(pairs, threshold, partition_by, window, id) -%}
  {%- set own = "coalesce((select min(equal.a) from " ~ pairs ~ " equal where equal.kind = 'equal_shingles' and equal.b = " ~ id ~ "), " ~ id ~ ")" -%}
  {%- set first = "first_value(" ~ own ~ ") over (" ~ window ~ ")" -%}
  count(*) over (partition by {{ partition_by }}) > 512
    or {{ own }} = {{ first }}
    or (least({{ own }}, {{ first }}), greatest({{ own }}, {{ first }})) in (
      select (alike.a, alike.b) from {{ pairs }} alike where alike.similarity >= {{ threshold }}::float
    )
{%- endmacro %}


{#- True when every keep__* column of the relation selected from is true; NULL counts as not true.
    Function calls only: DuckDB allows `*COLUMNS(…)` in no other place. -#}
{% macro all_keep() -%}
  list_bool_and(list_transform(list_value(*COLUMNS('keep__.*')), lambda kept: coalesce(kept, false)))
{%- endmacro %}
