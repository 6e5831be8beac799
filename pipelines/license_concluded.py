"""One row per document: the SPDX expression of its declared license, and the policy's tier for it."""

import polars as pl

from headwater.licenses import tiers_of


def model(dbt, session):
    dbt.config(materialized="lance")
    documents = dbt.source("lake", "documents").project("doc_id, license_declared").pl()
    policy = dict(dbt.ref("license_policies").project("spdx_id, tier").fetchall())
    concluded = tiers_of(documents["license_declared"].unique(), policy)
    return documents.join(concluded, on="license_declared", how="left", nulls_equal=True).select(
        "doc_id", "license_declared", "license_spdx", "license_tier"
    )
