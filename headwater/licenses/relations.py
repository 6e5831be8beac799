"""``license_concluded`` as a DuckDB relation: each distinct statement is concluded once, and joined back."""

from __future__ import annotations

from collections.abc import Mapping

import duckdb

from headwater.licenses.conclusions import SAID, conclude_said

# 0.8 and 0.7 rank what stands beside a file below what stands in it: an order, not measured frequencies.
_COLUMNS = """
    s.doc_id, s.license_declared, c.license_spdx, c.license_tier, c.license_detector,
    case
        when c.license_detector = 'license_file' then s.nearest_path
        when c.license_detector = 'package_license_file' then s.package_path
        when c.license_detector = 'declared' then 'license_declared'
        when c.license_detector is not null then 'lines ' || s.first_line || '-' || s.last_line
    end as license_where,
    case
        when c.license_detector in ('license_file', 'package_license_file') then 0.8
        when c.license_detector = 'declared' then 0.7
        when c.license_detector is not null then s.file_confidence
    end as license_confidence,
    c.license_conflict, c.license_others
"""


def concluded(
    session: duckdb.DuckDBPyConnection, sources: duckdb.DuckDBPyRelation, policy: Mapping[str, str]
) -> duckdb.DuckDBPyRelation:
    """One row per document of ``sources`` (the model ``license_sources``): license, evidence, tier.

    ``policy``: SPDX id to tier. Few distinct statements stand for many documents.
    """
    said = sources.project(", ".join(SAID)).distinct().to_arrow_table()
    each = session.from_arrow(conclude_said(said, policy)).set_alias("c")
    same = " and ".join(f"s.{name} is not distinct from c.{name}" for name in SAID)
    return sources.set_alias("s").join(each, same, how="left").project(_COLUMNS)
