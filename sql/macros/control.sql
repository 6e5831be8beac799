{#- Conditional training (Korbak et al. 2023, arXiv 2302.08582): a score becomes the control token that opens a
    document in `sequences`, and generation asks for the good one.

        select doc_id, {{ headwater.control_by_score('edu_score', 2.5) }} as quality_token
        from {{ ref('edu_scores') }}

    then `headwater pack TABLE --control quality_token`, or as `control` in a part of a mixture:
    'control': headwater.control_by_score('edu_score', 2.5).

    score       SQL expression; NULL, and a NaN, get no token
    thresholds  a number: '<|good|>' from it on, '<|bad|>' below; or token -> its least score, as in
                {'<|good|>': 3.5, '<|fair|>': 2}: the highest that the score reaches
    otherwise   the token below all thresholds, none for no token
    unmarked    share of the documents that get no token whatever their score (the paper's: 0.01), so that the
                model can also be asked without one; by a seeded hash of `id`
    id          column that holds the document's id -#}
{% macro control_by_score(score, thresholds, otherwise='<|bad|>', unmarked=0, id='doc_id') -%}
  {%- set levels = {'<|good|>': thresholds} if thresholds is number else thresholds -%}
  {%- if not levels -%}
    {{ exceptions.raise_compiler_error("control_by_score: got no thresholds") }}
  {%- endif -%}
  {%- for token, least in levels.items() if least is not number -%}
    {{ exceptions.raise_compiler_error("control_by_score: the threshold of '" ~ token ~ "' is " ~ least ~ ", expected a number") }}
  {%- endfor -%}
  {%- if unmarked is not number or unmarked < 0 or unmarked >= 1 -%}
    {{ exceptions.raise_compiler_error("control_by_score: got unmarked=" ~ unmarked ~ ", expected a share from 0 to below 1") }}
  {%- endif -%}
  case
    when ({{ score }}) is null or isnan(({{ score }})::double) then null
    {%- if unmarked > 0 %}
    when seeded_hash({{ id }}, seed := 1668247156) < {{ (unmarked * 18446744073709551616) | int }}::ubigint then null
    {%- endif %}
    {%- for token, least in levels.items() | sort(attribute=1, reverse=true) %}
    when ({{ score }}) >= {{ least }} then '{{ token | replace("'", "''") }}'
    {%- endfor %}
    {%- if otherwise %}
    else '{{ otherwise | replace("'", "''") }}'
    {%- endif %}
  end
{%- endmacro %}
