"""One row per semantic cluster: a readable name, its words, and its most typical documents."""

from headwater.dbt_plugin import lake_table
from headwater.semantic import topics


def model(dbt, session):
    dbt.config(materialized="lance")
    dbt.source("lake", "documents")
    dbt.ref("semantic_clusters")
    more = str(dbt.config.meta_get("stop_words"))
    return topics(
        lake_table("raw.documents"),
        lake_table("semantic_clusters").to_arrow(),
        sample=int(dbt.config.meta_get("sample")),
        stop_words=more.split(),
    )
