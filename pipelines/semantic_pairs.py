"""Pairs of documents of one cluster whose vectors nearly coincide."""

from headwater.dbt_plugin import lake_table
from headwater.semantic import semantic_pairs


def model(dbt, session):
    dbt.config(materialized="lance")
    dbt.ref("embeddings")
    dbt.ref("semantic_clusters")
    return semantic_pairs(
        lake_table("embeddings"),
        lake_table("semantic_clusters").scan(["doc_id", "cluster_id"]),
        floor=float(dbt.config.meta_get("floor")),
        centered=bool(dbt.config.meta_get("centered")),
    )
