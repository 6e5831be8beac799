"""The documents without the lines that occurred before: a new text table."""

from headwater.dbt_plugin import lake_table
from headwater.dedup.cleaned import without_spans


def model(dbt, session):
    dbt.config(materialized="lance")
    dbt.source("lake", "documents")
    dbt.ref("duplicate_lines")
    spans = lake_table("duplicate_lines").scan(["doc_id", "start", "end"])
    return without_spans(lake_table("raw.documents"), spans)
