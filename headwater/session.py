"""Lake tables inside one DuckDB database: which version of each, and the views that show them.

Every table appears as ``<schema>.<table>`` without its text column; 16-byte ids appear as UUID.
Versions are pinned when the session first sees a table, so that one build reads one state of the
lake; what the build itself writes replaces the pin.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import duckdb

from headwater.dedup.survivors import Survivors
from headwater.errors import UnknownName
from headwater.lake import Lake, Table, new_build_id
from headwater.sql import run, sql_columns

if TYPE_CHECKING:
    from headwater.engine.dask import DaskEngine

PINS_VARIABLE = "HEADWATER_PINS"
"""JSON ``{"schema.table": version}``: read these exact versions (checks of an older version)."""


@dataclass
class ModelResult:
    """What happened to one model in this session, for the build's table and record."""

    name: str
    status: str
    """built, extended (row-wise increment), unchanged, failed."""
    rows: int = 0
    version: int = 0
    seconds: float = 0.0
    message: str = ""


@dataclass
class Session:
    """The lake as one dbt invocation (or one script) sees it. Holds no connection."""

    lake: Lake
    build_id: str = field(default_factory=new_build_id)
    threads: int | None = None
    full_refresh: bool = False
    git_commit: str | None = None
    engine: DaskEngine | None = None
    """Where row-wise models run; this process's threads without one."""
    tables: dict[str, Table] = field(default_factory=dict)
    """Qualified name as SQL spells it (the target's schema, also for deferred tables) to the pinned table."""
    survivors: Survivors = field(default_factory=Survivors)
    """Documents that `best_of` may not evict, as they were recorded when the session began."""
    results: dict[str, ModelResult] = field(default_factory=dict)
    failures: dict[str, Exception] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def pin_all(self) -> None:
        """Pin the current (or the environment's) version of every table the target can see."""
        pins: Mapping[str, int] = json.loads(os.environ.get(PINS_VARIABLE, "{}"))
        names = [f"{schema}.{table}" for schema in self.lake.schemas() for table in self.lake.tables(schema)]
        for name in dict.fromkeys((*names, *pins)):
            try:
                self.tables[name] = self.lake.table(name, version=pins.get(name))
            except UnknownName:
                if name in pins:
                    raise
                # The files of a writer that was killed before its first commit are no table.
        # The target's own tables win over the ones it defers to.
        for table in self.lake.tables(self.lake.defer) if self.lake.defer else ():
            deferred = self.tables.get(f"{self.lake.defer}.{table}")
            if deferred is not None:
                self.tables.setdefault(f"{self.lake.schema}.{table}", deferred)
        self.survivors = Survivors.of(self.lake)

    def table(self, name: str) -> Table:
        """The pinned table of this name (``schema.table``, or bare as the lake resolves it)."""
        with self.lock:
            wanted = name if "." in name else self._bare(name)
            if wanted not in self.tables:
                raise UnknownName.of("table", name, self.tables, where=f"lake {self.lake.uri}")
            return self.tables[wanted]

    def _bare(self, name: str) -> str:
        own = f"{self.lake.schema}.{name}"
        return own if own in self.tables else self.lake.resolve(name)

    def publish(self, con: duckdb.DuckDBPyConnection, name: str, table: Table) -> None:
        """Make a version that this session wrote the one it reads."""
        with self.lock:
            self.tables[name] = table
        self.register(con, name, table)
        self.create_view(con, name, table)

    def register_all(self, con: duckdb.DuckDBPyConnection) -> None:
        """Make the pinned tables scannable on a cursor: registered objects are per cursor."""
        with self.lock:
            tables = dict(self.tables)
        for name, table in tables.items():
            self.register(con, name, table)
        self.survivors.register(con)

    def create_views(self, con: duckdb.DuckDBPyConnection) -> None:
        """Create the schemas and views, once per database."""
        for schema in {name.partition(".")[0] for name in self.tables} | {self.lake.schema}:
            run(con, f'create schema if not exists "{schema}"')
        for name, table in self.tables.items():
            self.create_view(con, name, table)
        self.survivors.create_view(con)

    @staticmethod
    def scan_name(name: str) -> str:
        return "_lake_" + name.replace(".", "__")

    def register(self, con: duckdb.DuckDBPyConnection, name: str, table: Table) -> None:
        con.register(self.scan_name(name), table.dataset)

    def create_view(self, con: duckdb.DuckDBPyConnection, name: str, table: Table) -> None:
        schema, _, short = name.partition(".")
        run(
            con,
            f'create or replace view "{schema}"."{short}" as '
            f"select {sql_columns(table.schema)} from {self.scan_name(name)}",
        )

    def inputs(self, names: Iterable[str]) -> list[Table]:
        """The pinned tables among ``names`` (qualified, as SQL spells them)."""
        return [self.tables[name] for name in names if name in self.tables]

    def record(self, result: ModelResult) -> None:
        with self.lock:
            self.results[result.name] = result

    def to_json(self) -> list[dict[str, Any]]:
        return [dict(result.__dict__) for result in self.results.values()]
