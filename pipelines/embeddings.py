"""One vector per document, by the model that is fast enough for all of them."""

from headwater.dbt_plugin import lake_table
from headwater.embedding.build import EmbeddingsBuild


def model(dbt, session):
    dbt.config(materialized="lance")
    dbt.source("lake", "documents")
    return EmbeddingsBuild(
        lake_table("raw.documents"),
        dbt.config.meta_get("model"),
        device=dbt.config.meta_get("device"),
    )
