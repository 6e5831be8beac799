{#- Dolma's rule (arXiv 2402.00159): a document with more than five spans of personal data is dropped, one with
    fewer is redacted. Over the columns of `pii`; NULL where a document was never looked at. -#}
{% macro few_personal_data(max_spans=5) -%}
  num_pii_spans <= {{ max_spans }} as keep__few_personal_data
{%- endmacro %}


{#- No key or token of a known form; `generic` adds values assigned to names like `password`, which has
    false positives. -#}
{% macro no_secrets(generic=false) -%}
  num_secrets {{ '+ password' if generic }} = 0 as keep__no_secrets
{%- endmacro %}
