{#- Prompts as a table, for `headwater generate`: every combination of topics, audiences, styles, …, or one for each
    seed, with random words. Use it as a relation:

        select * from {{ headwater.prompt_grid(
            recipe='lessons',
            template='Write a lesson about {topic} for {audience}. Use the words {words}.',
            axes={'topic': {'from': ref('topics'), 'column': 'topic'}, 'audience': ['children', 'engineers']},
            words={'from': ref('words'), 'n': 3},
        ) }}

    recipe      name of the recipe: the `source` of the documents that come of it
    template    the prompt, with {axis} and {words} in place of values. [[seed]], or [[seed 1, 800 characters]], stands
                for the text of the seed: the generator puts it there, so that no text rides through SQL
    axes        name -> a list of values, or {'from': relation, 'column': column} for the distinct values of a column
    words       {'from': relation, 'column': 'word', 'n': 3}: so many of its words, other ones in each prompt
    seeds       a relation with doc_id (and generation, for seeds that were generated themselves): then there are
                `samples` prompts for each of its rows, with values of each axis by a seeded hash, not the whole grid
    samples     prompts for each combination (or seed): they differ in the parameter `seed`, and in their words
    limit       at most so many prompts, chosen by a seeded hash; a larger limit keeps all of a smaller one
    system      a system message
    parameters  of these prompts alone, e.g. {'max_tokens': 300}; they win over the command's
    seed        other words, other choices
    Columns: prompt_id, recipe, system, prompt, parent_ids, generation, metadata, parameters. -#}
{% macro prompt_grid(recipe, template, axes, words=none, seeds=none, samples=1, limit=none, system=none, parameters=none, seed=0) -%}
  {%- set parts = modules.re.split('([{][a-z_][a-z0-9_]*[}])', template) -%}
  {%- set used = [] -%}
  {%- for part in parts -%}{%- if loop.index0 is odd -%}{%- do used.append(part[1:-1]) -%}{%- endif -%}{%- endfor -%}
  {%- set known = (axes | list) + (['words'] if words else []) -%}
  {%- if not axes and not seeds -%}
    {{ exceptions.raise_compiler_error("prompt_grid: got no axes and no seeds") }}
  {%- endif -%}
  {%- for name in used if name not in known -%}
    {{ exceptions.raise_compiler_error("prompt_grid: the template says {" ~ name ~ "}; there is " ~ known | join(', ')) }}
  {%- endfor -%}
  {%- for name in axes if name in ('doc_id', 'generation', 'sample', 'words') or not modules.re.match('[a-z_][a-z0-9_]*$', name) -%}
    {{ exceptions.raise_compiler_error("prompt_grid: an axis may not be called '" ~ name ~ "'") }}
  {%- endfor -%}
  {%- if '[[seed' in template and not seeds -%}
    {{ exceptions.raise_compiler_error("prompt_grid: the template asks for [[seed]], and there are no seeds") }}
  {%- endif -%}
  {%- if samples is not number or samples < 1 -%}
    {{ exceptions.raise_compiler_error("prompt_grid: got " ~ samples ~ " samples, expected at least 1") }}
  {%- endif -%}
  (
  with
  {%- for name, values in axes.items() %}
  "axis_{{ name }}" as ({{ headwater._axis_values(name, values) }}),
  {%- endfor %}
  chosen as (
    select
      {%- if seeds %}
      "of".doc_id,
      {{ 'coalesce("of".generation, 0)' if headwater._has_column(seeds, 'generation') else '0' }}::int as generation,
      {%- else %}
      null::uuid as doc_id,
      0 as generation,
      {%- endif %}
      {%- for name in axes %}
      {%- if seeds %}
      "axis_{{ name }}"."values"[1 + (md5_number_lower(concat_ws(':', '{{ seed }}', '{{ name }}', "of".doc_id::varchar, n.sample)) % len("axis_{{ name }}"."values")::ubigint)::bigint] as "{{ name }}",
      {%- else %}
      "of_{{ name }}"."value" as "{{ name }}",
      {%- endif %}
      {%- endfor %}
      n.sample
    from range({{ samples }}) n(sample)
    {%- if seeds %}
    cross join {{ seeds }} "of"
    {%- for name in axes %} cross join "axis_{{ name }}"{% endfor %}
    {%- else %}
    {%- for name in axes %} cross join (select unnest("values") as "value" from "axis_{{ name }}") "of_{{ name }}"{% endfor %}
    {%- endif %}
  ),
  keyed as (
    select *, concat_ws(chr(31), doc_id::varchar, {% for name in axes %}"{{ name }}", {% endfor %}sample) as "_key" from chosen
    {%- if limit is not none %}
    order by md5(concat_ws(':', '{{ seed }}', "_key")), "_key" limit {{ limit | int }}
    {%- endif %}
  ),
  worded as (
    select
      *
      {%- if words %},
      {{ headwater.random_words(words['from'], words.get('n', 3), seed, '"_key"', words.get('column', 'word')) }} as words
      {%- endif %}
    from keyed
  ),
  written as (
    select
      {{ headwater._literal(recipe) }} as recipe,
      {{ headwater._literal(system) if system else 'null' }}::varchar as system,
      concat(
        {%- for part in parts if part %}
        {%- if modules.re.match('[{][a-z_][a-z0-9_]*[}]$', part) %}
        {{ "array_to_string(words, ', ')" if part == '{words}' and words else '"' ~ part[1:-1] ~ '"' }}
        {%- else %}
        {{ headwater._literal(part) }}
        {%- endif %}{{ "," if not loop.last }}
        {%- endfor %}
      ) as prompt,
      {{ '[doc_id::blob]' if seeds else '[]::blob[]' }} as parent_ids,
      generation,
      json_object(
        {%- for name in axes %}'{{ name }}', "{{ name }}", {% endfor -%}
        {%- if words %}'words', words, {% endif -%}
        'sample', sample
      )::varchar as metadata,
      {% if samples > 1 -%}
      json_merge_patch({{ headwater._literal((parameters or {}) | tojson) }}, json_object('seed', {{ (parameters or {}).get('seed', seed) }} + sample))::varchar
      {%- else -%}
      {{ headwater._literal(parameters | tojson) if parameters else 'null' }}::varchar
      {%- endif %} as parameters
    from worded
  )
  select {{ headwater.prompt_id() }} as prompt_id, * from written
  )
{%- endmacro %}


{#- `n` different words of a relation, other ones for each `key`: a list. The words, in a seeded order, are cut into n
    equal parts, and each part gives the word at a hash of the key: equal on every machine. Fewer words than n repeat.

    relation   with the column `column`: ref('words')
    key        SQL expression, for example the topic, or doc_id::varchar -#}
{% macro random_words(relation, n, seed, key, column='word') -%}
  (
    select list_transform(range({{ n }}), lambda i: "_words"[
      (i * len("_words")) // {{ n }} + 1 + (
        md5_number_lower(concat_ws(':', '{{ seed }}', {{ key }}, i))
        % greatest(((i + 1) * len("_words")) // {{ n }} - (i * len("_words")) // {{ n }}, 1)::ubigint
      )::bigint
    ])
    from (
      select list("_word" order by md5(concat_ws(':', '{{ seed }}', "_word")), "_word") as "_words"
      from (select distinct {{ column }}::varchar as "_word" from {{ relation }} where {{ column }} is not null)
    )
  )
{%- endmacro %}


{#- A prompt's id: a hash of all that is asked. Equal prompts have one id, so `select distinct` leaves one of them. -#}
{% macro prompt_id(prompt='prompt', system='system', parent_ids='parent_ids', parameters='parameters') -%}
  substr(sha256(concat_ws(chr(31),
    coalesce({{ system }}, ''), {{ prompt }}, coalesce({{ parameters }}, ''),
    coalesce(array_to_string(list_transform({{ parent_ids }}, lambda parent: hex(parent)), ','), '')
  )), 1, 32)
{%- endmacro %}


{#- The place of a seed's text in a template: the n-th of parent_ids, at most so many characters of it. -#}
{% macro seed_text(n=1, characters=2000) -%}
  [[seed {{ n }}, {{ characters }} characters]]
{%- endmacro %}


{#- One row with the list of an axis' values, in order. -#}
{% macro _axis_values(name, values) -%}
  {%- if values is mapping -%}
    {%- if not values.get('from') or not values.get('column') -%}
      {{ exceptions.raise_compiler_error("prompt_grid: axis '" ~ name ~ "' needs {'from': relation, 'column': column}") }}
    {%- endif -%}
    select list("value" order by "value") as "values" from (select distinct {{ values['column'] }}::varchar as "value" from {{ values['from'] }}) where "value" is not null
  {%- elif values is string or not values -%}
    {{ exceptions.raise_compiler_error("prompt_grid: axis '" ~ name ~ "' needs a list of values, or {'from': …, 'column': …}") }}
  {%- else -%}
    select [{% for value in values %}{{ headwater._literal(value) }}{{ ", " if not loop.last }}{% endfor %}] as "values"
  {%- endif -%}
{%- endmacro %}


{#- Whether a relation has a column; said yes only of models whose columns are known to dbt's cache, or of SQL that
    names it. -#}
{% macro _has_column(relation, column) -%}
  {%- if relation is string -%}
    {{ return(modules.re.search('\\b' ~ column ~ '\\b', relation) is not none) }}
  {%- endif -%}
  {%- set names = [] -%}
  {%- if execute -%}
    {%- for found in adapter.get_columns_in_relation(relation) -%}{%- do names.append(found.name) -%}{%- endfor -%}
  {%- endif -%}
  {{ return(column in names) }}
{%- endmacro %}


{% macro _literal(value) -%}'{{ (value | string).replace("'", "''") }}'{%- endmacro %}
