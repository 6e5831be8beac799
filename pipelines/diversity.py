"""How much the documents of each part differ, real and synthetic ones at the same sample size."""

from headwater.dbt_plugin import lake_table
from headwater.synthesis.diversity import diversity


def model(dbt, session):
    dbt.config(materialized="lance")
    dbt.source("lake", "documents")
    dbt.ref("document_domains")
    return diversity(
        lake_table("raw.documents"),
        lake_table("document_domains").scan(["doc_id", "part"]),
        embedding_model=dbt.config.meta_get("embedding_model"),
    )
