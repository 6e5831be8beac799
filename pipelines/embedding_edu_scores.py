"""One row per embedded document: its educational value by a scorer that was fitted on embeddings."""

from headwater.dbt_plugin import lake_table
from headwater.scoring.apply import scores_of_embeddings


def model(dbt, session):
    dbt.config(materialized="lance")
    dbt.ref("embeddings")
    dbt.source("scorers", "scorers")
    return scores_of_embeddings(
        lake_table("embeddings"), lake_table("raw.scorers"), str(dbt.config.meta_get("scorer"))
    )
