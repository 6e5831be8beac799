"""Spans of many tokens that an earlier document has too, each with its first occurrence."""

from headwater.dbt_plugin import lake_table
from headwater.dedup.spans import duplicate_spans


def model(dbt, session):
    dbt.config(materialized="lance")
    dbt.source("lake", "documents")
    return duplicate_spans(
        lake_table("raw.documents"),
        min_tokens=int(dbt.config.meta_get("min_tokens")),
        unit=dbt.config.meta_get("unit"),
    )
