"""One vector per document that is still in, by a model that is too slow for all of them."""

from headwater.dbt_plugin import lake_table
from headwater.embedding.build import EmbeddingsBuild


def model(dbt, session):
    dbt.config(materialized="lance")
    dbt.source("lake", "documents")
    dbt.ref("strong_candidates")
    return EmbeddingsBuild(
        lake_table("raw.documents"),
        dbt.config.meta_get("model"),
        only=lake_table("strong_candidates"),
        device=dbt.config.meta_get("device"),
    )
