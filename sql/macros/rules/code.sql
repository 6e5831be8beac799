{#- Published rules for source code, over the signals of `file_stats` and `code_stats` (for a variant's
    comment rules only). Sources: docs/reference/rules.md.

    language   expression for the file's programming language by Linguist's name ('Python', 'HTML', …; any
               case), for the rules that depend on it; none: those rules are left out -#}

{#- StarCoder: `code` (BigCode's filtering.py with its defaults), `deepseek` (DeepSeek-Coder's statement of
    StarCoder's rules: letters, not letters and digits; "at least" for HTML; JSON and YAML from 50 characters). -#}
{% macro starcoder(variant="code", language=none, except=[], signals=none) -%}
  {%- set deepseek = headwater.rule_variant({"code": false, "deepseek": true}, variant, "starcoder") -%}
  {%- set rules = {
    "max_line_length": ["{s}file_max_line_length", "<=", 1000],
    "mean_line_length": ["{s}file_mean_line_length", "<=", 100],
  } -%}
  {%- if deepseek -%}
    {%- do rules.update({"alphabetic": ["{s}file_alphabetic_share", ">=", 0.25]}) -%}
  {%- else -%}
    {%- do rules.update({
      "alphanumeric": ["{s}file_alphanumeric_share", ">=", 0.25],
      "min_comments": ["{s}comment_char_share", ">=", 0.01],
      "max_comments": ["{s}comment_char_share", "<=", 0.8],
    }) -%}
  {%- endif -%}
  {%- if language is none -%}
    {%- do rules.update({"xml": ["cast({s}has_xml_header as int)", "<=", 0]}) -%}
  {%- else -%}
    {%- set least = 50 if deepseek else 100 -%}
    {%- do rules.update({
      "xml": [headwater.for_languages(language, ["xslt"], "0", "cast({s}has_xml_header as int)"), "<=", 0],
      "html_share": [headwater.for_languages(language, ["html"], "{s}visible_text_share", "1"), ">=" if deepseek else ">", 0.2],
      "html_chars": [headwater.for_languages(language, ["html"], "{s}visible_text_chars", "1000000"), ">=" if deepseek else ">", 100],
      "min_data_chars": [headwater.for_languages(language, ["json", "yaml"], "{s}file_chars", "1000000"), ">=", least],
      "max_data_chars": [headwater.for_languages(language, ["json", "yaml"], "{s}file_chars", "0"), "<=", 5000],
    }) -%}
  {%- endif -%}
  {{ headwater.select_rules(rules, "starcoder", except, signals, kwargs) }}
{%- endmacro %}


{#- The Stack: `v2` (StarCoder 2's paper, 2.1), `v1` (BigCode's basic filter for the first one).

    path   expression for the file's path, for v2's rule on text files; none: the rule is left out -#}
{% macro the_stack(variant="v2", language=none, path=none, except=[], signals=none) -%}
  {%- set v2 = headwater.rule_variant({"v1": false, "v2": true}, variant, "the_stack") -%}
  {%- if not v2 -%}
    {%- set rules = {
      "max_line_length": ["{s}file_max_line_length", "<=", 1000],
      "mean_line_length": ["{s}file_mean_line_length", "<=", 100],
      "alphanumeric": ["{s}file_alphanumeric_share", ">=", 0.25],
    } -%}
  {%- else -%}
    {%- set rules = {
      "max_lines": ["{s}file_lines", "<=", 100000],
      "max_line_length": ["{s}file_max_line_length", "<=", 1000],
      "mean_line_length": ["{s}file_mean_line_length", "<=", 100],
      "says_generated": ["cast({s}says_generated as int)", "<=", 0],
      "alphabetic": ["{s}file_alphabetic_share", ">=", 0.25],
      "encoded_run": ["{s}encoded_max_chars", "<=", 1024],
      "encoded_share": ["{s}encoded_share", "<=", 0.5],
    } -%}
    {%- if language is not none -%}
      {%- set loose = ["html", "json", "markdown", "roff", "roff manpage", "smt", "tex", "text", "xml"] -%}
      {%- set data = ["text", "json", "yaml", "web ontology language", "graphviz (dot)"] -%}
      {%- set assembly = ["motorola 68k assembly", "webassembly"] -%}
      {%- do rules.update({
        "max_line_length": [headwater.for_languages(language, loose, "{s}file_max_line_length / 100", "{s}file_max_line_length"), "<=", 1000],
        "mean_line_length": [headwater.for_languages(language, loose, "0", "{s}file_mean_line_length"), "<=", 100],
        "alphabetic": [headwater.for_languages(language, assembly, "{s}file_alphanumeric_share", "{s}file_alphabetic_share"), ">=", 0.25],
        "max_data_lines": [headwater.for_languages(language, data, "{s}file_lines", "0"), "<=", 512],
        "html_share": [headwater.for_languages(language, ["html"], "{s}visible_text_share", "1"), ">=", 0.2],
        "html_chars": [headwater.for_languages(language, ["html"], "{s}visible_text_chars", "1000000"), ">=", 100],
      }) -%}
      {%- if path is not none -%}
        {%- set name = "lower(parse_filename(" ~ path ~ "))" -%}
        {%- set documents = "('readme', 'notes', 'todo', 'description', 'cmakelists')" -%}
        {%- set wanted = "cast(contains(" ~ name ~ ", 'requirement') or regexp_replace(" ~ name ~ ", '\\.[^.]*$', '') in " ~ documents ~ " as int)" -%}
        {%- do rules.update({"text_names": [headwater.for_languages(language, ["text"], wanted, "1"), ">=", 1]}) -%}
      {%- endif -%}
    {%- endif -%}
  {%- endif -%}
  {{ headwater.select_rules(rules, "stack", except, signals, kwargs) }}
{%- endmacro %}


{#- `inside` for files in one of the languages (lower case), else `outside`; an unknown language is unknown. -#}
{% macro for_languages(language, names, inside, outside) -%}
  {%- set listed = "('" ~ (names | join("', '")) ~ "')" -%}
  {{ return("case when lower(" ~ language ~ ") in " ~ listed ~ " then " ~ inside ~ " when " ~ language ~ " is not null then " ~ outside ~ " end") }}
{%- endmacro %}
