"""One row per compared document: its group of semantic duplicates (its own id when it has no twin)."""

from headwater.dbt_plugin import lake_table
from headwater.semantic import semantic_duplicates


def model(dbt, session):
    dbt.config(materialized="lance")
    dbt.ref("semantic_clusters")
    dbt.ref("semantic_pairs")
    clusters = lake_table("semantic_clusters").scan(["doc_id", "cluster_id"])
    threshold = float(dbt.config.meta_get("threshold"))
    return semantic_duplicates(clusters, lake_table("semantic_pairs").scan(), threshold=threshold)
