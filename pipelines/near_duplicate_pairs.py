"""Pairs of documents whose word 5-grams overlap, with their exact Jaccard similarity."""

from headwater.dbt_plugin import lake_table
from headwater.dedup import IncrementalPairs


def model(dbt, session):
    dbt.config(materialized="lance")
    dbt.source("lake", "documents")
    dbt.ref("signatures")
    return IncrementalPairs(
        signatures=lake_table("signatures"),
        documents=lake_table("raw.documents"),
        threshold=float(dbt.config.meta_get("floor")),
    )
