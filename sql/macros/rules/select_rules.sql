{#- `<expression> as keep__<prefix>_<rule>` for each rule of a published set, separated by commas.

    rules       name: [signal, comparison, threshold]; a signal may be any expression of `{s}` columns
    prefix      of the rules' names
    excluded    names of rules to leave out
    signals     a table alias or struct column that holds the signals; none: columns of the query itself
    thresholds  name: threshold, in place of the published one -#}
{% macro select_rules(rules, prefix, excluded, signals, thresholds) -%}
  {%- for name in (excluded or []) + (thresholds | list) -%}
    {%- if name not in rules -%}
      {%- do exceptions.raise_compiler_error(prefix ~ " has no rule '" ~ name ~ "'; it has: " ~ (rules | join(", "))) -%}
    {%- endif -%}
  {%- endfor -%}
  {%- set s = signals ~ "." if signals else "" -%}
  {%- set columns = [] -%}
  {%- for name, rule in rules.items() -%}
    {%- if name not in (excluded or []) -%}
      {%- set threshold = thresholds.get(name, rule[2]) -%}
      {%- if threshold is not number -%}
        {%- do exceptions.raise_compiler_error(prefix ~ ": the threshold of " ~ name ~ " must be a number, got '" ~ threshold ~ "'") -%}
      {%- endif -%}
      {%- do columns.append(rule[0].replace("{s}", s) ~ " " ~ rule[1] ~ " " ~ threshold ~ " as keep__" ~ prefix ~ "_" ~ name) -%}
    {%- endif -%}
  {%- endfor -%}
  {%- if not columns -%}
    {%- do exceptions.raise_compiler_error(prefix ~ ": every rule is excepted") -%}
  {%- endif -%}
  {{ columns | join(",\n  ") }}
{%- endmacro %}


{#- The variant's entry, or an error that names those there are. -#}
{% macro rule_variant(variants, variant, macro_name) -%}
  {%- if variant not in variants -%}
    {%- do exceptions.raise_compiler_error(macro_name ~ " has no variant '" ~ variant ~ "'; it has: " ~ (variants | join(", "))) -%}
  {%- endif -%}
  {{ return(variants[variant]) }}
{%- endmacro %}
