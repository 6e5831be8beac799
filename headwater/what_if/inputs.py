"""The tables behind a curated version: pinned as it was built, or computed again where a setting changed.

Only what stored tables hold can be computed again: SQL over ids and signals, and duplicate clusters from
stored pairs. Whatever would have to read text, or run a model's Python, is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from headwater.decisions import rule_names
from headwater.errors import UnknownName, UsageError
from headwater.lake import RAW_SCHEMA, SYSTEM_TABLES
from headwater.sql import run, sql_columns
from headwater.what_if.rules import Statement

if TYPE_CHECKING:
    import duckdb

    from headwater.lake import Lake, Table, TableRef
    from headwater.what_if.compiled import Compiled


@dataclass(frozen=True)
class Clusters:
    """Duplicate clusters to be computed from stored pairs."""

    table: Table
    """The stored clusters that they stand in for."""
    pairs: Table
    threshold: float


@dataclass
class Inputs:
    """What the model reads: ``tables`` as stored, ``queries`` and ``clusters`` computed again."""

    lake: Lake
    models: Mapping[str, Compiled]
    allow_changes: bool
    """Whether a model that differs from its stored version is to be computed again (variables were given)."""
    tables: dict[str, Table] = field(default_factory=dict)
    """``schema.table`` as SQL spells it to the stored version."""
    queries: dict[str, Statement] = field(default_factory=dict)
    clusters: dict[str, Clusters] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def resolve(
        self, con: duckdb.DuckDBPyConnection, statement: Statement, made: Table, *, what: str
    ) -> None:
        """Find every relation of ``statement`` among the inputs that ``made`` was built from."""
        for name in sorted(statement.relations()):
            if name in self.tables or name in self.queries or name in self.clusters:
                continue
            ref = _ref_of(name, made)
            table = self._latest(name, what) if ref is None else self._pinned(ref)
            self._place(con, name, table)

    def _latest(self, name: str, what: str) -> Table:
        try:
            table = self.lake.table(name)
        except UnknownName:
            raise UsageError(
                f"{what} reads {name}, which no lake holds at the version that it was built from",
                hint="a seed or view has no versions: make it a model of its own, and build",
            ) from None
        self.notes.append(f"{name} is read at its latest version: the stored {what} was built without it")
        return table

    def _pinned(self, ref: TableRef) -> Table:
        try:
            return self.lake.table(ref.name, version=ref.version)
        except UnknownName as error:
            raise UsageError(
                f"{ref} is not stored any more: {error.message}",
                hint="headwater build, then ask again: the new version reads what is stored",
            ) from error

    def _place(self, con: duckdb.DuckDBPyConnection, name: str, table: Table) -> None:
        model = self.models.get(table.short_name)
        if model is None or not self._changed(table):
            self.tables[name] = table
        elif not self.allow_changes:
            self.tables[name] = table
            self.notes.append(f"{table.ref} is read as it was built, though its model was edited since")
        elif model.spec.rows_of:
            raise _not_stored(table, model, "it is computed from the documents' text")
        elif model.is_python:
            self.clusters[name] = self._clusters(table, model)
        else:
            assert model.spec.sql is not None
            query = Statement.parse(con, model.spec.sql, name=table.name)
            if query.rules():
                raise _not_stored(table, model, "it is curated by rules of its own")
            self.resolve(con, query, table, what=table.name)
            self.queries[name] = query

    def _changed(self, table: Table) -> bool:
        """Whether a build would make other rows: its own code or settings, or those of an input."""
        model = self.models.get(table.short_name)
        if model is None or table.name.partition(".")[0] == RAW_SCHEMA:
            return False
        recorded = table.provenance
        others = recorded.extra.get("outside_the_lake")
        if model.fingerprint(others) != recorded.fingerprint:
            return True
        if not self.allow_changes:
            return False
        inputs = (ref for ref in recorded.inputs if ref.name != table.name)
        return any(self._changed(self._pinned(ref)) for ref in inputs if _bare(ref.name) in self.models)

    def _clusters(self, table: Table, model: Compiled) -> Clusters:
        """Clusters by another threshold; raises ``UsageError`` for any other Python model."""
        names = table.schema.names
        pairs = [
            found
            for found in (self._pinned(ref) for ref in table.provenance.inputs)
            if {"a", "b", "similarity"} <= set(found.schema.names)
        ]
        if len(pairs) != 1 or not {"doc_id", "cluster_id"} <= set(names) or "threshold" not in model.meta:
            raise _not_stored(table, model, "it is a Python model, and its settings changed")
        if self._changed(pairs[0]):
            made = self.models[pairs[0].short_name]
            raise _not_stored(pairs[0], made, "finding pairs compares the documents' text")
        threshold = float(model.meta["threshold"])
        floor = self.models[pairs[0].short_name].meta.get("floor")
        if floor is None:
            raise UsageError(
                f"{pairs[0].ref} does not say from which similarity on it keeps pairs",
                hint=f"add `meta: {{floor: …}}` to the config of {pairs[0].short_name}",
            )
        if not float(floor) <= threshold <= 1:
            raise UsageError(
                f"{table.short_name} at {threshold:g}: "
                f"pairs are stored from a similarity of {float(floor):g} to 1",
                hint=f"ask for a threshold from {float(floor):g} on, or build {pairs[0].short_name} with a "
                "lower floor first",
            )
        extra = set(names) - {"doc_id", "cluster_id", "cluster_size"}
        if extra:
            raise _not_stored(table, model, f"its columns {sorted(extra)} are not known to follow from pairs")
        return Clusters(table, pairs[0], threshold)

    def holder_of(self, column: str) -> str | None:
        """A relation that stores ``column`` for each document: an input, else another table of the lake."""
        if column == "text":
            return None
        for name, table in self._keyed():
            if column in table.schema.names:
                return name
        for short in self.lake.tables():
            name = f"{self.lake.schema}.{short}"
            if short in SYSTEM_TABLES or name in self.tables or name in self.clusters or name in self.queries:
                continue
            table = self.lake.table(name)
            if {"doc_id", column} <= set(table.schema.names) and not rule_names(table.schema.names):
                self.tables[name] = table
                self.notes.append(f"{column} is read from {table.ref}, which the model does not read yet")
                return name
        return None

    def stored_columns(self) -> list[str]:
        """Names of all columns that a rule may read."""
        return sorted(
            {c for _, table in self._keyed() for c in table.schema.names if c not in ("text", "doc_id")}
        )

    def _keyed(self) -> list[tuple[str, Table]]:
        found = {**self.tables, **{name: clusters.table for name, clusters in self.clusters.items()}}
        return [(name, table) for name, table in found.items() if "doc_id" in table.schema.names]


def create_views(con: duckdb.DuckDBPyConnection, inputs: Inputs, computed: Mapping[str, pa.Table]) -> None:
    """Show every input under the name that SQL gives it. Text is not shown."""
    shown: dict[str, tuple[Any, pa.Schema]] = {
        **{name: (table.dataset, table.schema) for name, table in inputs.tables.items()},
        **{name: (rows, rows.schema) for name, rows in computed.items()},
    }
    for schema in {name.partition(".")[0] for name in (*shown, *inputs.queries)}:
        run(con, f'create schema if not exists "{schema}"')
    for name, (source, columns) in shown.items():
        schema, _, table = name.partition(".")
        con.register(f"_hw_{schema}__{table}", source)
        run(
            con,
            f'create or replace view "{schema}"."{table}" as '
            f'select {sql_columns(columns)} from "_hw_{schema}__{table}"',
        )
    for name, query in inputs.queries.items():  # in the order of resolve: what they read stands before
        schema, _, table = name.partition(".")
        run(con, f'create or replace view "{schema}"."{table}" as {query.sql()}')


def _ref_of(name: str, made: Table) -> TableRef | None:
    """The recorded input that SQL calls ``name``; a deferred table lies in another schema."""
    refs = made.provenance.inputs
    exact = next((ref for ref in refs if ref.name == name), None)
    return exact or next((ref for ref in refs if _bare(ref.name) == _bare(name)), None)


def _bare(name: str) -> str:
    return name.rpartition(".")[2]


def _not_stored(table: Table, model: Compiled, why: str) -> UsageError:
    return UsageError(
        f"{table.ref} was built from other code or settings, and cannot be computed again from "
        f"stored tables: {why}",
        hint=f"headwater build --select {table.short_name}+ (model {model.unit_path}), in a target of its "
        "own to keep this one, then headwater diff",
    )
