"""One row per document: the SPDX expression of its declared license, and the policy's tier for it."""

import polars as pl

from headwater.licenses import conclude


def model(dbt, session):
    dbt.config(materialized="lance")
    documents = dbt.source("lake", "documents").project("doc_id, license_declared")
    policy = dict(dbt.ref("license_policies").project("spdx_id, tier").fetchall())
    # Few distinct declarations stand for many documents: conclude each once, and join.
    declared = documents.project("license_declared").distinct().pl()
    concluded = pl.from_arrow(conclude(declared["license_declared"].to_arrow(), policy))
    names = declared.with_columns(license_spdx=concluded.struct[0], license_tier=concluded.struct[1])
    joined = documents.set_alias("d").join(
        session.from_arrow(names.to_arrow()).set_alias("n"),
        "d.license_declared is not distinct from n.license_declared",
        how="left",
    )
    return joined.project("d.doc_id, d.license_declared, n.license_spdx, n.license_tier")
