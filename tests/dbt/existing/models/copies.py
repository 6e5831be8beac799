import polars as pl


def model(dbt, session):
    dbt.config(materialized="lance")
    documents = dbt.source("corpus", "documents").project("doc_id, text_hash").pl()
    return documents.with_columns(cluster_id=pl.col("doc_id").min().over("text_hash")).select(
        "doc_id", "cluster_id"
    )
