{#- The `lance` materialization: a SQL or Python model becomes a new version of a lake table, or
    nothing. All of the work is `headwater.models.materialize`; this hands it the model. -#}

{% materialization lance, adapter="duckdb", supported_languages=["sql", "python"] %}
  {%- set target_relation = this.incorporate(type="view") -%}
  {{ run_hooks(pre_hooks, inside_transaction=False) }}
  {{ run_hooks(pre_hooks, inside_transaction=True) }}
  {% call statement("main", language="python") -%}
{{ headwater.lance_job(compiled_code) }}
  {%- endcall %}
  {{ run_hooks(post_hooks, inside_transaction=True) }}
  {% do adapter.commit() %}
  {{ run_hooks(post_hooks, inside_transaction=False) }}
  {% do persist_docs(target_relation, model) %}
  {{ return({"relations": [target_relation]}) }}
{% endmaterialization %}


{#- The Python that dbt-duckdb runs for a model: dbt's own code for a Python model, a stub for SQL. -#}
{% macro lance_job(compiled_code) %}
{%- set is_sql = model.language == "sql" -%}
{%- set spec = headwater.lance_spec(compiled_code if is_sql else none) -%}
{% if is_sql -%}
class dbtObj:
    def __init__(self, load_df_function):
        pass


def model(dbt, con):
    return con.sql("select 1")
{%- else -%}
{{ compiled_code }}
{%- endif %}


SPEC = {{ headwater.python_literal(spec | tojson) }}


def materialize(frame, con):
    from headwater.dbt_plugin import materialize

    materialize(con, SPEC, {{ "None" if is_sql else "frame" }})
{% endmacro %}


{% macro lance_spec(sql) %}
{%- set meta = config.get("meta") or {} -%}
{%- set inputs = [] -%}
{%- set relations = {} -%}
{%- for unique_id in model.depends_on.nodes -%}
  {%- set node = graph.sources.get(unique_id) or graph.nodes.get(unique_id) -%}
  {%- if node and node.resource_type in ("model", "seed", "source", "snapshot") -%}
    {%- set identifier = node.identifier or node.alias or node.name -%}
    {%- set name = node.schema ~ "." ~ identifier -%}
    {%- do inputs.append(name) -%}
    {%- do relations.update({name: node.relation_name}) -%}
  {%- endif -%}
{%- endfor -%}
{%- set columns = {} -%}
{%- for name, column in model.columns.items() -%}
  {%- do columns.update({name: {"description": column.get("description") or "", "data_type": column.get("data_type") or none, "meta": column.get("meta") or (column.get("config") or {}).get("meta") or {}}}) -%}
{%- endfor -%}
{{ return({
    "name": this.schema ~ "." ~ this.identifier,
    "sql": sql,
    "source": sql if sql is not none else model.compiled_code or model.raw_code,
    "inputs": inputs,
    "relations": relations,
    "rows_of": meta.get("rows_of"),
    "candidates": meta.get("candidates"),
    "order_by": meta.get("order_by"),
    "columns": columns,
    "full_refresh": should_full_refresh(),
}) }}
{% endmacro %}


{#- A Python string literal: JSON's escapes are Python's, and `tojson` twice quotes the quotes. -#}
{% macro python_literal(text) %}{{ return(text | tojson) }}{% endmacro %}
