{#- Which part of a corpus a document belongs to, for caps and for diversity: what its metadata says (`domain`),
    else its file name. A project with other domains overrides this macro. -#}
{% macro document_domain(path, metadata) -%}
  {{ return(adapter.dispatch('document_domain', 'headwater')(path, metadata)) }}
{%- endmacro %}

{% macro default__document_domain(path, metadata) -%}
coalesce(
            try(json_extract_string({{ metadata }}, '$.domain')),
            case when {{ path }} ilike '%.py' or {{ path }} ilike '%.pyi' then 'python' else 'prose' end
        )
{%- endmacro %}
