"""The dbt-duckdb plugin: lake tables as relations, operators as functions, models into the lake.

In ``profiles.yml``::

    plugins:
      - module: headwater.dbt_plugin
        config: {lake: lake, defer_to: prod, operators: [my_package.operators]}

``operators`` names modules to import: those that declare the project's own operators.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
from dbt.adapters.duckdb.plugins import BasePlugin  # noqa: TID253 - this module is the dbt plugin

from headwater.engine.dask import ADDRESS_VARIABLE, DaskEngine
from headwater.errors import HeadwaterError, UsageError
from headwater.lake import Lake, Table
from headwater.models import ModelSpec
from headwater.models import materialize as materialize_model
from headwater.operators import register_all
from headwater.rejections import Rejections
from headwater.session import Session
from headwater.sql import run

LAKE_VARIABLE = "HEADWATER_LAKE"
BUILD_VARIABLE = "HEADWATER_BUILD_ID"

SQL_MACROS = {
    # A function, because `*COLUMNS(…)` may stand only inside function calls.
    "_hw_best_of(cluster_id, is_candidate, place)": (
        "case when cluster_id is null then null when not is_candidate then true else place = 1 end"
    ),
    "_hw_verified_best_of(cluster_id, is_candidate, is_alike, place)": (
        "case when cluster_id is null then null when not is_candidate then true "
        "else place = 1 or not is_alike end"
    ),
    "_hw_if_known(score, cluster_id)": (
        "case when score is null or ('' || score) = 'nan' then null else cluster_id end"
    ),
    "_hw_first_of(cluster_id, is_candidate, place, last_place)": (
        "case when cluster_id is null then null when not is_candidate then true else place <= last_place end"
    ),
}

_active: list[Session] = []
"""The session of the dbt invocation that runs in this process (the newest one counts)."""


_engines: list[DaskEngine] = []
"""Where the next sessions run their row-wise models (the last one counts); empty: on threads."""


@contextlib.contextmanager
def use_engine(engine: DaskEngine | None) -> Iterator[None]:
    """Sessions that begin inside the block run their row-wise models on ``engine``."""
    if engine is None:
        yield
        return
    _engines.append(engine)
    try:
        yield
    finally:
        _engines.remove(engine)


def session() -> Session:
    """The session of the running dbt invocation.

    Raises
    ------
    UsageError
        No dbt invocation with this plugin runs in this process.
    """
    if not _active:
        raise UsageError(
            "no Headwater session: this code runs outside dbt, or the profile does not load the plugin",
            hint="add `plugins: [{module: headwater.dbt_plugin, config: {lake: …}}]` to the profile",
        )
    return _active[-1]


def end_session() -> Session | None:
    """Take the newest session off and return it: its invocation is over.

    dbt-duckdb keeps its database for the next invocation of the same profile in this process. It is closed
    here, because with it the next one would read the versions that this one pinned.
    """
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    DuckDBConnectionManager.close_all_connections()
    return _active.pop() if _active else None


def lake_table(name: str) -> Table:
    """The pinned lake table that a Python model streams from, text included (``"raw.documents"``)."""
    return session().table(name)


def materialize(con: Any, spec: str, frame: Any = None) -> None:
    """Publish one model; called by the ``lance`` materialization with the model's spec as JSON."""
    try:
        materialize_model(session(), con, ModelSpec.from_json(spec), frame)
    except HeadwaterError as error:
        # dbt prints the whole traceback of a Python job: give it none but the message.
        raise error.with_traceback(None) from None


class Plugin(BasePlugin):  # type: ignore[misc]
    """See the module docstring. ``config``: ``lake`` (path or URI), ``defer_to``, ``storage_options``."""

    def initialize(self, plugin_config: dict[str, Any]) -> None:
        uri = os.environ.get(LAKE_VARIABLE) or plugin_config.get("lake") or "lake"
        lake = Lake(
            uri,
            schema=self.creds.schema,
            defer=plugin_config.get("defer_to"),
            storage_options=plugin_config.get("storage_options"),
        )
        self.session = Session(lake, threads=plugin_config.get("threads"), git_commit=git_commit(Path.cwd()))
        self.session.engine = _engines[-1] if _engines else _engine_of_environment()
        for module in plugin_config.get("operators") or ():
            _import_operators(str(module))
        if BUILD_VARIABLE in os.environ:
            self.session.build_id = os.environ[BUILD_VARIABLE]
        self.session.pin_all()
        _active.append(self.session)

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        register_all(conn)
        for signature, body in SQL_MACROS.items():
            run(conn, f"create or replace macro {signature} as {body}")
        self.session.register_all(conn)
        self.session.create_views(conn)
        self.rejections = Rejections.of(self.session)
        self.rejections.register(conn)
        self.rejections.create_view(conn)

    def configure_cursor(self, cursor: duckdb.DuckDBPyConnection) -> None:
        self.session.register_all(cursor)
        self.rejections.register(cursor)


def _engine_of_environment() -> DaskEngine | None:
    """For plain ``dbt build``: the scheduler that ``HEADWATER_DASK`` names."""
    if not os.environ.get(ADDRESS_VARIABLE):
        return None
    engine = DaskEngine(address=os.environ[ADDRESS_VARIABLE])
    atexit.register(engine.close)
    return engine


def _import_operators(module: str) -> None:
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise UsageError(
            f"cannot import {module}, which the profile lists under operators: {error}",
            hint="install the package that holds it, or put its folder on PYTHONPATH",
        ) from error


def git_commit(folder: Path) -> str | None:
    """The commit of the project's repository, or ``None`` outside one."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None
