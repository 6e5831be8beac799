"""Checks (contract C4): Great Expectations suites against one exact table version.

A suite lies in ``expectations/<table>.json`` and runs pushed down into DuckDB over Lance: views of the
table and of everything it was built from, each at the version that its provenance records. Great
Expectations is imported only when a suite runs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from headwater.checks.closure import closure as closure
from headwater.checks.context import (
    create_project,
    great_expectations,
    quiet,
    read_suite,
    suite_digest,
    suite_names,
)
from headwater.checks.dbt_tests import DbtTest, run_dbt_tests
from headwater.checks.report import CheckReport, CheckResult, redact, results_of
from headwater.checks.said import fields_of, said_rows, template_of
from headwater.checks.views import MEMORY_LIMIT, Views, pinned_views, quoted
from headwater.errors import UnknownName

if TYPE_CHECKING:
    from headwater.lake import Lake, Table

_upstream_of = closure


def check(
    lake: Lake,
    table: str,
    *,
    version: int | str | None = None,
    project_dir: Path = Path(),
    closure: bool = False,
    pins: Mapping[str, int] | None = None,
    memory_limit: str = MEMORY_LIMIT,
) -> CheckReport:
    """Run the suite of ``table`` against one exact version of it.

    Parameters
    ----------
    version:
        A number, a tag or ``"approved"``; the latest without it.
    project_dir:
        The project whose ``expectations/`` holds the suites.
    closure:
        Also run the suites of the tables it was built from, at the versions it was built from.
    pins:
        Versions that the suite's SQL should see instead of the recorded ones, by qualified name.
    memory_limit:
        DuckDB's, e.g. ``"1GB"``; larger sorts and groups spill to a temporary folder.

    Raises
    ------
    UnknownName
        No such table, version or suite.
    CheckFailed
        The suite is empty. A failed expectation does not raise: it is in the report.
    BadInput
        The suite cannot be read, or only in part.
    MissingExtra
        Great Expectations is not installed.
    """
    project = Path(project_dir)
    target = _open(lake, table, version, project)
    if not closure:
        return check_version(lake, target, project, pins=pins, memory_limit=memory_limit)
    known = set(suite_names(project))
    refs = [ref for ref in _upstream_of(lake, target) if ref.name.rpartition(".")[2] in known]
    upstream = [
        check_version(lake, lake.table(ref.name, version=ref.version), project, memory_limit=memory_limit)
        for ref in refs
    ]
    return check_version(
        lake, target, project, pins=pins, memory_limit=memory_limit, upstream=tuple(upstream)
    )


def check_version(
    lake: Lake,
    table: Table,
    project_dir: Path,
    *,
    pins: Mapping[str, int] | None = None,
    memory_limit: str = MEMORY_LIMIT,
    upstream: tuple[CheckReport, ...] = (),
) -> CheckReport:
    """Run the suite of an opened table; :func:`check` says what it raises."""
    suite = read_suite(project_dir, table.short_name)
    for expectation in suite.expectations:
        if template := template_of(expectation.configuration.meta):
            fields_of(template)  # refused before it is needed
    started = time.monotonic()
    with pinned_views(lake, table, pins=pins, memory_limit=memory_limit) as views:
        outcome = _validate(suite, table.short_name, views)
        results = results_of(suite, outcome, partial(_say, views, quoted(table.short_name)))
    return CheckReport(
        table=table.ref,
        suite=suite.name,
        suite_digest=suite_digest(suite),
        results=results,
        seconds=time.monotonic() - started,
        upstream=upstream,
    )


def _say(views: Views, view: str, configuration: Any) -> tuple[str, ...]:
    template = template_of(configuration.meta)
    query = configuration.kwargs.get("unexpected_rows_query")
    if template is None or not query:
        return ()
    try:
        return said_rows(views.connection, query, view, template)
    except (duckdb.Error, ValueError) as error:
        return (f"what it found cannot be said as {template!r}: {redact(str(error))}",)


def _open(lake: Lake, table: str, version: int | str | None, project_dir: Path) -> Table:
    try:
        return lake.table(table, version=version)
    except UnknownName as error:
        short = table.rpartition(".")[2]
        if short not in suite_names(project_dir) or lake.exists(table):
            raise
        raise UnknownName(
            f"the suite {short!r} (expectations/{short}.json) is for a table that is not in the lake: "
            f"{table!r}",
            hint=f"build the table, or rename the suite; {error.hint}",
        ) from error


def _validate(suite: Any, view: str, views: Views) -> Any:
    """Let Great Expectations judge the view ``main.<view>``.

    In an ephemeral context: a data source added to the file context would be written to its
    configuration file.
    """
    gx = great_expectations()
    from sqlalchemy.pool import StaticPool

    from headwater.checks import dialect

    with quiet():
        context = gx.get_context(mode="ephemeral", project_config=_ephemeral_config())
        source = context.data_sources.add_sql(
            "lake",
            connection_string=f"{dialect.NAME}://",
            kwargs={
                "creator": dialect.connector(views.connection, views.scans),
                "poolclass": StaticPool,
            },
        )
        engine = source.get_execution_engine()
        engine.dialect_module = dialect
        try:
            asset = source.add_table_asset(view, table_name=view)
            batch = asset.add_batch_definition_whole_table("version").get_batch()
            # No rows: partial lists would carry values that may be somebody's personal data.
            return batch.validate(
                suite, result_format={"result_format": "BASIC", "partial_unexpected_count": 0}
            )
        finally:
            engine.close()
            source.get_engine().dispose()


def _ephemeral_config() -> Any:
    """In-memory stores and nothing else: the default leaves a temporary folder for a documentation site."""
    from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults

    return DataContextConfig(
        analytics_enabled=False,
        progress_bars={"globally": False},
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
    )


__all__ = [
    "CheckReport",
    "CheckResult",
    "DbtTest",
    "check",
    "check_version",
    "closure",
    "create_project",
    "run_dbt_tests",
    "suite_names",
]
