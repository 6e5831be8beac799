"""One row per document: the cluster of near-duplicates it belongs to (its own id when it has no twin)."""

from headwater.dbt_plugin import lake_table
from headwater.dedup import total_clusters


def model(dbt, session):
    dbt.config(materialized="lance")
    dbt.ref("near_duplicate_pairs")
    documents = lake_table("raw.documents")
    dbt.source("lake", "documents")
    pairs = lake_table("near_duplicate_pairs")
    threshold = float(dbt.config.meta_get("threshold"))
    return total_clusters(documents.scan(["doc_id"]), pairs.scan(), threshold=threshold)
