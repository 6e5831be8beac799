"""One row per document: the SPDX expression concluded from all that is said of it, the evidence, the tier."""

from headwater.licenses.relations import concluded


def model(dbt, session):
    dbt.config(materialized="lance")
    policy = dict(dbt.ref("license_policies").project("spdx_id, tier").fetchall())
    return concluded(session, dbt.ref("license_sources"), policy)
