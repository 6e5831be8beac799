{#- A mixture of corpora: a row per document with its part, the part's share of the tokens, and its cap.

    `headwater pack` counts the tokens: shares are exact, documents repeat up to the cap, all of a part once
    before any of it twice. Use it as a relation:

        select * from {{ mixture({
            'textbook': {'from': ref('python_textbook'), 'where': 'num_words >= 200', 'share': 0.8},
            'tests':    {'from': ref('python_tests'), 'share': 0.2, 'max_epochs': 4},
        }) }}

    parts      name of the part -> a dictionary with
                 from        relation with a column doc_id
                 share       of the tokens, above 0; all shares sum to 1
                 max_epochs  how often a document may be repeated at most; 2.5 is twice all, and half of it again (1)
                 where       condition on the relation, for documents that stand in several
                 curriculum  SQL expression to order by before the seeded hash, NULL last
                 control     SQL expression for a control token's text, or NULL: "'<|good|>'"
                 fim_rate    share of the documents to rearrange to fill the middle
    Columns: doc_id, part, share, max_epochs, and curriculum, control, fim_rate where any part has them. -#}
{% macro mixture(parts) -%}
  {%- set known = ['from', 'share', 'max_epochs', 'where', 'curriculum', 'control', 'fim_rate'] -%}
  {%- if not parts -%}
    {{ exceptions.raise_compiler_error("mixture: got no parts") }}
  {%- endif -%}
  {%- set total = namespace(share=0.0) -%}
  {%- set used = [] -%}
  {%- for part, given in parts.items() -%}
    {%- for key in given if key not in known -%}
      {{ exceptions.raise_compiler_error("mixture: part '" ~ part ~ "' has no setting '" ~ key ~ "'; it has: " ~ known | join(', ')) }}
    {%- endfor -%}
    {%- if not given.get('from') -%}
      {{ exceptions.raise_compiler_error("mixture: part '" ~ part ~ "' names no relation: {'from': ref('…'), …}") }}
    {%- endif -%}
    {%- set share = given.get('share') -%}
    {%- if share is not number or share <= 0 -%}
      {{ exceptions.raise_compiler_error("mixture: part '" ~ part ~ "' has share " ~ share ~ ", expected a number above 0") }}
    {%- endif -%}
    {%- set cap = given.get('max_epochs', 1) -%}
    {%- if cap is not number or cap <= 0 -%}
      {{ exceptions.raise_compiler_error("mixture: part '" ~ part ~ "' has max_epochs " ~ cap ~ ", expected a number above 0") }}
    {%- endif -%}
    {%- set total.share = total.share + share -%}
    {%- do used.extend(given.keys()) -%}
  {%- endfor -%}
  {%- if (total.share - 1) | abs > 0.000001 -%}
    {{ exceptions.raise_compiler_error("mixture: the shares of " ~ parts.keys() | join(', ') ~ " sum to " ~ total.share | round(6) ~ ", expected 1") }}
  {%- endif -%}
  (
  {%- for part, given in parts.items() %}
    select
      doc_id,
      '{{ part | replace("'", "''") }}' as part,
      {{ given['share'] }}::double as share,
      {{ given.get('max_epochs', 1) }}::double as max_epochs
      {%- if 'curriculum' in used %},
      ({{ given.get('curriculum') or 'null' }})::double as curriculum
      {%- endif %}
      {%- if 'control' in used %},
      ({{ given.get('control') or 'null' }})::varchar as control
      {%- endif %}
      {%- if 'fim_rate' in used %},
      ({{ given.get('fim_rate') or 0 }})::float as fim_rate
      {%- endif %}
    from {{ given['from'] }}
    {%- if given.get('where') %}
    where {{ given['where'] }}
    {%- endif %}
    {{- "\n    union all" if not loop.last }}
  {%- endfor %}
  )
{%- endmacro %}


{#- True for the clusters that `headwater pack --hold-out SHARE` keeps out of training: the same hash, the same
    seed, so SQL and pack agree on every document, and a larger share holds out all of a smaller one.

    cluster_id   the cluster; for a document without one its own id: 'coalesce(k.cluster_id, d.doc_id)'
    share        of the clusters, 0 to 1 -#}
{% macro held_out(cluster_id, share) -%}
  {%- if share is not number or share < 0 or share >= 1 -%}
    {{ exceptions.raise_compiler_error("held_out: got share " ~ share ~ ", expected a number from 0 to below 1") }}
  {%- endif -%}
  seeded_hash({{ cluster_id }}, seed := 1751477348) < {{ (share * 18446744073709551616) | int }}::ubigint
{%- endmacro %}
