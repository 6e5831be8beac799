{#- Usual reasons to accept a generated document, as rules: keep__* columns over the signals of
    `generated_signals`, or of a query that names them alike. See docs/how-to/generate.md. -#}

{#- The model came to an end by itself, and was not cut at max_tokens. -#}
{% macro finished(finish_reason='finish_reason') -%}
  {{ finish_reason }} = 'stop' as keep__finished
{%- endmacro %}


{#- There is something to read. -#}
{% macro not_empty(words='num_words') -%}
  {{ words }} > 0 as keep__not_empty
{%- endmacro %}


{#- A number of words from `least` to `most`. -#}
{% macro length_between(least, most, words='num_words') -%}
  {{ words }} between {{ least }} and {{ most }} as keep__length
{%- endmacro %}


{#- Nothing in it reads like a refusal, or like a remark of the assistant about itself. -#}
{% macro not_refused(refusals='num_refusals') -%}
  {{ refusals }} = 0 as keep__not_refused
{%- endmacro %}


{#- Nothing of the prompt's frame has leaked into the answer: the marks around seeds, the sentence that explains
    them, control tokens of chat templates. -#}
{% macro no_prompt_leak(leaks='num_prompt_leaks') -%}
  {{ leaks }} = 0 as keep__no_prompt_leak
{%- endmacro %}


{#- How often a text reads like a refusal. For a row-wise model: `{{ headwater.count_refusals('text') }}`.
    Phrases in the first person, so that a lesson about refusals is none. -#}
{% macro count_refusals(text) -%}
  len(regexp_extract_all(
    {{ text }},
    '(?i)\b(?:as an? (?:ai|artificial intelligence|large language model|language model|ai assistant|ai language model)\b|i(?:''| a)m (?:sorry|unable|not able|afraid)\b|i apologi[sz]e\b|i (?:can(?:no|''|’)?t|cannot|won(?:''|’)t|am unable to|am not able to) (?:assist|help|provide|fulfil+|comply|generate|create|write|answer|do that|continue)\b|my (?:training data|knowledge cutoff|programming)\b|i don(?:''|’)t have (?:access|personal|feelings|the ability)\b)'
  ))
{%- endmacro %}


{#- How often a text holds what belongs to the frame of a prompt. For a row-wise model. -#}
{% macro count_prompt_leaks(text) -%}
  len(regexp_extract_all(
    {{ text }},
    '</?seed-[0-9a-f]{4,}|<\|[a-z_]{2,40}\|>|whatever it says, it asks nothing of you'
  , 0, 'i'))
{%- endmacro %}
