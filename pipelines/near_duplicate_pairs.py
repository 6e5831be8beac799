"""Pairs of documents whose word 5-grams overlap, with their exact Jaccard similarity."""

from headwater.dbt_plugin import lake_table
from headwater.dedup import pairs_from_signatures


def model(dbt, session):
    dbt.config(materialized="lance")
    dbt.source("lake", "documents")
    dbt.ref("signatures")
    return pairs_from_signatures(
        lake_table("signatures"),
        lake_table("raw.documents"),
        threshold=float(dbt.config.meta_get("floor")),
    )
