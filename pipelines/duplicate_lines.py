"""Lines (or paragraphs) that occurred before in the corpus, each with its first occurrence."""

from headwater.dbt_plugin import lake_table
from headwater.dedup.lines import duplicate_lines


def model(dbt, session):
    dbt.config(materialized="lance")
    dbt.source("lake", "documents")
    return duplicate_lines(
        lake_table("raw.documents"),
        unit=dbt.config.meta_get("unit"),
        form=dbt.config.meta_get("form"),
        min_chars=int(dbt.config.meta_get("min_chars")),
    )
