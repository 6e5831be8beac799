"""One row per document: the evaluation sets it was compared with, and every run of words they share."""

from headwater.dbt_plugin import lake_table
from headwater.decontaminate import EvidenceBuild


def model(dbt, session):
    dbt.config(materialized="lance")
    dbt.source("lake", "documents")
    dbt.source("evals", "eval_items")
    return EvidenceBuild(lake_table("raw.documents"), lake_table("raw.eval_items"))
