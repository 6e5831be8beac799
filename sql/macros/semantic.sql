{#- Rules that choose by score, cluster or meaning. Each is an expression for a keep__* column: true or false for the
    documents that `among` holds for (by default: those that pass every other rule of the relation selected from),
    true for the others, which are not this rule's to drop, and NULL (unknown) where the score or cluster is. So a
    rule that is to be decided among the survivors of another one stands in a later SELECT. -#}


{#- The documents with the highest scores: the first `share` of them, at least one, ties settled by id.

    score    column or expression; NULL and NaN are unknown, and no part of what the share is taken of
    share    above 0, at most 1
    among    condition of the candidates, usually `headwater.all_keep()`
    within   column: take the share of each of its values, instead of all together
    id       column that holds the document's id -#}
{% macro top_share(score, share, among=none, within=none, id='doc_id') -%}
  {%- do headwater._check_share('top_share', share) -%}
  {%- set among = among or headwater.all_keep() -%}
  {%- set key = "_hw_if_known(" ~ score ~ ", " ~ (within or "true") ~ ")" -%}
  {%- set part = "partition by " ~ key ~ ", " ~ among -%}
  _hw_first_of(
    {{ key }},
    {{ among }},
    row_number() over ({{ part }} order by {{ score }} desc, {{ id }}),
    ceil({{ share }} * count(*) over ({{ part }}))
  )
{%- endmacro %}


{#- All but the most prototypical documents, those nearest to their cluster's centroid: diversity by D4
    (arXiv 2308.12284; SSL prototypes). Drops the first `share`, rounded down.

    share        what to drop: 0 to below 1
    similarity   column: cosine to the centroid, of `semantic_clusters`
    within       column of the cluster: drop the share of each cluster. Without it the share is of all, as in D4,
                 which thins tight clusters more than loose ones
    among, id    as in top_share -#}
{% macro prototypical_share(share, similarity='centroid_similarity', within=none, among=none, id='doc_id') -%}
  {%- if share is not number or share < 0 or share >= 1 -%}
    {{ exceptions.raise_compiler_error("prototypical_share: got share " ~ share ~ ", expected a number from 0 to below 1") }}
  {%- endif -%}
  {%- set among = among or headwater.all_keep() -%}
  {%- set key = "_hw_if_known(" ~ similarity ~ ", " ~ (within or "true") ~ ")" -%}
  {%- set part = "partition by " ~ key ~ ", " ~ among -%}
  _hw_first_of(
    {{ key }},
    {{ among }},
    row_number() over ({{ part }} order by {{ similarity }}, {{ id }} desc),
    count(*) over ({{ part }}) - floor({{ share }} * count(*) over ({{ part }}))
  )
{%- endmacro %}


{#- A sample balanced by cluster: at most `n` documents of each, or `share` of each (at least one).

    cluster    column; NULL is unknown
    n, share   one of them
    order_by   what comes first is kept, ties settled by id; by default a hash of the id under `seed`: chance that
               everyone can repeat, and a larger n keeps all of a smaller one
    among, id  as in top_share -#}
{% macro balanced_sample(cluster, n=none, share=none, order_by=none, seed=0, among=none, id='doc_id') -%}
  {%- if (n is none) == (share is none) -%}
    {{ exceptions.raise_compiler_error("balanced_sample: give n or share, one of them") }}
  {%- endif -%}
  {%- if n is not none and (n is not integer or n < 1) -%}
    {{ exceptions.raise_compiler_error("balanced_sample: got n " ~ n ~ ", expected a whole number of at least 1") }}
  {%- endif -%}
  {%- if share is not none -%}{%- do headwater._check_share('balanced_sample', share) -%}{%- endif -%}
  {%- set among = among or headwater.all_keep() -%}
  {%- set part = "partition by " ~ cluster ~ ", " ~ among -%}
  _hw_first_of(
    {{ cluster }},
    {{ among }},
    row_number() over ({{ part }} order by {{ order_by or "seeded_hash(" ~ id ~ ", seed := " ~ seed ~ ")" }}, {{ id }}),
    {% if n is not none %}{{ n }}{% else %}ceil({{ share }} * count(*) over ({{ part }})){% endif %}
  )
{%- endmacro %}


{#- One document of each group of semantic duplicates (SemDeDup, arXiv 2303.09540), by `best_of`: chosen among those
    that pass the other rules, so that a group whose best copy fails one still yields its best passing copy.

    group      column: cluster_id of `semantic_duplicates`
    order_by   the document to keep comes first. By default the one farthest from its cluster's centroid, as
               published; any other order is as good: 'edu_score desc'
    verify     'any'       one document of the group, which is a connected component, stays
               'survivor'  only those whose similarity with the one that stays is at least `threshold` go
               'earlier'   a document goes if any that comes before it in the order is that similar, whether it goes
                           itself or not: what SemDeDup publishes
    pairs      ref('semantic_pairs'), for the last two
    threshold  cosine; by default var('semantic_threshold'), which the groups were made with
    among, sticky, id  as in best_of

    Where `semantic_pairs` lists links only, and in groups of more than 512, every member counts as alike. -#}
{% macro semantic_unique(group='semantic_group', order_by='centroid_similarity', among=none, sticky=true, verify='any', pairs=none, threshold=none, id='doc_id') -%}
  {%- set among = among or headwater.all_keep() -%}
  {%- set order_by = order_by ~ ", " ~ id -%}
  {%- if verify not in ('any', 'survivor', 'earlier') -%}
    {{ exceptions.raise_compiler_error("semantic_unique: got verify='" ~ verify ~ "', expected 'any', 'survivor' or 'earlier'") }}
  {%- endif -%}
  {%- if verify == 'any' -%}
    {{ headwater.best_of(group, order_by=order_by, among=among, sticky=sticky, id=id) }}
  {%- else -%}
    {%- if not pairs -%}
      {{ exceptions.raise_compiler_error("semantic_unique: verify='" ~ verify ~ "' needs pairs=ref('semantic_pairs')") }}
    {%- endif -%}
    {%- if sticky -%}
      {%- set order_by = "_hw_survived('" ~ this.identifier ~ "', " ~ id ~ ") desc, " ~ order_by -%}
    {%- endif -%}
    {%- set threshold = threshold or var('semantic_threshold', 0.95) -%}
    {%- set window = "partition by " ~ group ~ ", " ~ among ~ " order by " ~ order_by -%}
    {%- set alike = "(select list(near.other) from (select a as self, b as other, similarity, kind from " ~ pairs ~ " union all select b, a, similarity, kind from " ~ pairs ~ ") near where near.self = " ~ id ~ " and (near.similarity >= " ~ threshold ~ "::float or near.kind = 'link'))" -%}
    {%- set linked = "exists (select 1 from (select a as self from " ~ pairs ~ " where kind = 'link' union all select b from " ~ pairs ~ " where kind = 'link') link where link.self = " ~ id ~ ")" -%}
  _hw_verified_best_of(
    {{ group }},
    {{ among }},
    count(*) over (partition by {{ group }}) > 512
      or {{ linked }}
      or coalesce(
        {% if verify == 'survivor' -%}
        list_contains({{ alike }}, first_value({{ id }}) over ({{ window }}))
        {%- else -%}
        list_has_any({{ alike }}, list({{ id }}) over ({{ window }} rows between 512 preceding and 1 preceding))
        {%- endif %}, false),
    row_number() over ({{ window }})
  )
  {%- endif -%}
{%- endmacro %}


{% macro _check_share(macro, share) -%}
  {%- if share is not number or share <= 0 or share > 1 -%}
    {{ exceptions.raise_compiler_error(macro ~ ": got share " ~ share ~ ", expected a number above 0 and at most 1") }}
  {%- endif -%}
{%- endmacro %}
