{#- Published rules for web text, over the signals of `web_stats` and `c4_stats` computed with the same
    variant. Who does what, and where each number comes from: docs/reference/rules.md.

    except=['stop_words']   leaves rules out;  min_words=30   moves a threshold;
    signals='w'             reads w.gopher_words: an alias, or a struct column `web_stats(text) as w` -#}

{#- Gopher's quality rules (arXiv 2112.11446, A1.1). Stop words: distinct in datatrove and the paper,
    counted in DCLM and Dolma. Symbols: each kind to itself in datatrove and the paper. -#}
{% macro gopher_quality(variant="datatrove", except=[], signals=none) -%}
  {{ headwater.select_rules(headwater.gopher_quality_rules(variant), "gopher", except, signals, kwargs) }}
{%- endmacro %}

{% macro gopher_quality_rules(variant) -%}
  {%- set apart = {
    "hashes": ["{s}gopher_hash_ratio", "<=", 0.1],
    "ellipses": ["{s}gopher_ellipsis_ratio", "<=", 0.1],
    "stop_words": ["{s}gopher_distinct_stop_words", ">=", 2],
  } -%}
  {%- set together = {
    "symbols": ["{s}gopher_symbol_ratio", "<=", 0.1],
    "stop_words": ["{s}gopher_stop_words", ">=", 2],
  } -%}
  {%- set own = headwater.rule_variant(
    {"datatrove": apart, "paper": apart, "dclm": together, "dolma": together}, variant, "gopher_quality"
  ) -%}
  {%- set rules = {
    "min_words": ["{s}gopher_words", ">=", 50],
    "max_words": ["{s}gopher_words", "<=", 100000],
    "min_word_length": ["{s}gopher_word_length", ">=", 3],
    "max_word_length": ["{s}gopher_word_length", "<=", 10],
    "bullet_lines": ["{s}gopher_bullet_line_share", "<=", 0.9],
    "ellipsis_lines": ["{s}gopher_ellipsis_line_share", "<=", 0.3],
    "alpha_words": ["{s}gopher_alpha_word_share", ">=", 0.8],
  } -%}
  {%- do rules.update(own) -%}
  {{ return(rules) }}
{%- endmacro %}


{#- Gopher's repetition rules (Table A1). Dolma has none for paragraphs and allows 0.30 of the characters in
    duplicate lines. -#}
{% macro gopher_repetition(variant="datatrove", except=[], signals=none) -%}
  {{ headwater.select_rules(headwater.gopher_repetition_rules(variant), "gopher", except, signals, kwargs) }}
{%- endmacro %}

{% macro gopher_repetition_rules(variant) -%}
  {%- set paragraphs = {
    "dup_paragraphs": ["{s}gopher_dup_paragraph_share", "<=", 0.3],
    "dup_paragraph_chars": ["{s}gopher_dup_paragraph_char_share", "<=", 0.2],
  } -%}
  {%- set own = headwater.rule_variant(
    {"datatrove": paragraphs, "paper": paragraphs, "dclm": paragraphs, "dolma": {}}, variant, "gopher_repetition"
  ) -%}
  {%- set rules = {
    "dup_lines": ["{s}gopher_dup_line_share", "<=", 0.3],
    "dup_line_chars": ["{s}gopher_dup_line_char_share", "<=", 0.3 if variant == "dolma" else 0.2],
  } -%}
  {%- do rules.update(own) -%}
  {%- for n, share in [(2, 0.2), (3, 0.18), (4, 0.16)] -%}
    {%- do rules.update({"top_" ~ n ~ "_gram": ["{s}gopher_top_" ~ n ~ "_gram_share", "<=", share]}) -%}
  {%- endfor -%}
  {%- for n, share in [(5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.1)] -%}
    {%- do rules.update({"dup_" ~ n ~ "_gram": ["{s}gopher_dup_" ~ n ~ "_gram_share", "<=", share]}) -%}
  {%- endfor -%}
  {{ return(rules) }}
{%- endmacro %}


{#- FineWeb's own rules: as shipped (`datatrove`), or as its report states them (`paper`: a limit itself
    fails, ten times the share of characters in duplicate lines, no rule on line feeds). -#}
{% macro fineweb(variant="datatrove", except=[], signals=none) -%}
  {%- set rules = headwater.rule_variant({
    "datatrove": {
      "terminal_lines": ["{s}fineweb_terminal_line_share", ">=", 0.12],
      "short_lines": ["{s}fineweb_short_line_share", "<=", 0.67],
      "dup_line_chars": ["{s}fineweb_dup_line_char_share", "<=", 0.01],
      "newlines": ["{s}fineweb_newline_ratio", "<=", 0.3],
    },
    "paper": {
      "terminal_lines": ["{s}fineweb_terminal_line_share", ">", 0.12],
      "short_lines": ["{s}fineweb_short_line_share", "<", 0.67],
      "dup_line_chars": ["{s}fineweb_dup_line_char_share", "<", 0.1],
    },
  }, variant, "fineweb") -%}
  {{ headwater.select_rules(rules, "fineweb", except, signals, kwargs) }}
{%- endmacro %}


{#- C4's rules for pages; `c4_clean(text)` is the page without the lines it drops. Sentences: 5 in the paper
    and datatrove, 3 in the original code (`tfds`) and DCLM. `mc4`: three long lines. -#}
{% macro c4(variant="datatrove", except=[], signals=none) -%}
  {{ headwater.select_rules(headwater.c4_rules(variant), "c4", except, signals, kwargs) }}
{%- endmacro %}

{% macro c4_rules(variant) -%}
  {%- set lorem_ipsum = ["{s}c4_lorem_ipsum_lines", "<=", 0] -%}
  {%- set curly_bracket = ["{s}c4_curly_bracket_lines", "<=", 0] -%}
  {%- set max_chars = ["{s}c4_chars", "<=", 190000] -%}
  {{ return(headwater.rule_variant({
    "datatrove": {
      "min_sentences": ["{s}c4_sentences", ">=", 5],
      "lorem_ipsum": lorem_ipsum,
      "curly_bracket": curly_bracket,
    },
    "fineweb": {
      "min_sentences": ["{s}c4_sentences", ">=", 5],
      "lorem_ipsum": lorem_ipsum,
      "curly_bracket": curly_bracket,
    },
    "tfds": {
      "min_sentences": ["{s}c4_sentences", ">=", 3],
      "lorem_ipsum": lorem_ipsum,
      "curly_bracket": curly_bracket,
      "max_chars": max_chars,
    },
    "dclm": {
      "min_sentences": ["{s}c4_sentences", ">=", 3],
      "lorem_ipsum": lorem_ipsum,
      "curly_bracket": curly_bracket,
      "max_chars": max_chars,
    },
    "dolma": {
      "lorem_ipsum": lorem_ipsum,
      "curly_bracket": curly_bracket,
      "javascript": ["{s}c4_javascript_lines", "<=", 0],
    },
    "mc4": {"min_paragraphs": ["{s}c4_paragraphs", ">=", 3]},
  }, variant, "c4")) }}
{%- endmacro %}


{#- Dolma's rules for Common Crawl: `v1_5` (its mixer: Gopher, over `web_stats(…, variant := 'dolma')`),
    `cccc` (the later recipe: also C4's, and no run of a short phrase more than 32 times; `dolma_v2`). -#}
{% macro dolma(variant="v1_5", except=[], signals=none) -%}
  {%- set cccc = headwater.c4_rules("dolma") -%}
  {%- do cccc.update({"repeats": ["{s}max_repeats", "<=", 32]}) -%}
  {%- set rules = headwater.gopher_quality_rules("dolma") -%}
  {%- do rules.update(headwater.gopher_repetition_rules("dolma")) -%}
  {%- do rules.update(headwater.rule_variant({"v1_5": {}, "cccc": cccc}, variant, "dolma")) -%}
  {{ headwater.select_rules(rules, "dolma", except, signals, kwargs) }}
{%- endmacro %}


{#- DCLM-Baseline's heuristics, after RefinedWeb: Gopher's two sets as DCLM counts them
    (`web_stats(…, variant := 'dclm')`), and at most one word in twenty in lines that are no prose. -#}
{% macro dclm(except=[], signals=none) -%}
  {%- set rules = headwater.gopher_quality_rules("dclm") -%}
  {%- do rules.update(headwater.gopher_repetition_rules("dclm")) -%}
  {%- do rules.update({"removed_words": ["{s}removed_word_share", "<=", 0.05]}) -%}
  {{ headwater.select_rules(rules, "dclm", except, signals, kwargs) }}
{%- endmacro %}
