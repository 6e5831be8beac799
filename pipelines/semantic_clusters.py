"""One row per embedded document: its cluster of like documents, and how typical it is there."""

from headwater.dbt_plugin import lake_table
from headwater.semantic import semantic_clusters


def model(dbt, session):
    dbt.config(materialized="lance")
    dbt.ref("embeddings")
    k = int(dbt.config.meta_get("k"))
    return semantic_clusters(
        lake_table("embeddings"),
        k=k or None,
        centered=bool(dbt.config.meta_get("centered")),
        sample_rows=int(dbt.config.meta_get("sample_rows")),
        seed=int(dbt.config.meta_get("seed")),
    )
