# the names in these queries are checked or the schema's own; predicates are trees, not text
"""Run the changed SQL over the pinned inputs, and compare with what the stored version kept."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from headwater.dedup.survivors import IS_SURVIVOR, Survivors
from headwater.errors import HeadwaterError, UnknownName, UsageError
from headwater.lineage import open_optional
from headwater.operators import register_all
from headwater.report.narrow import literal
from headwater.sql import run
from headwater.what_if import question
from headwater.what_if.aligned import Aligned
from headwater.what_if.comparison import Comparison
from headwater.what_if.decide import Outcomes, decide_aligned, decide_plainly, rules_of
from headwater.what_if.inputs import Inputs, create_views
from headwater.what_if.plan import chain_of, hand_down
from headwater.what_if.rows import ClusterRows, Rows
from headwater.what_if.rules import (
    Changes,
    Node,
    Statement,
    apply,
    columns_of,
    expression_text,
    home_of,
    join_column,
)

if TYPE_CHECKING:
    from headwater.lake import Lake, Table
    from headwater.project import Project
    from headwater.report.losses import Decided
    from headwater.what_if.compiled import Compiled
    from headwater.what_if.question import Clock, WhatIf


def answer(
    project: Project,
    facts: Decided,
    rows: Rows,
    model: Compiled,
    models: Mapping[str, Compiled],
    *,
    rules: Mapping[str, str],
    dropped: Sequence[str],
    settings: Mapping[str, Any],
    samples: int,
    seed: int,
    memory_limit: str | None,
    clock: Clock,
) -> WhatIf:
    """See :func:`headwater.what_if.what_if`."""
    assert model.spec.sql is not None
    lake = project.lake()
    table = facts.table
    inputs = Inputs(lake, models, allow_changes=bool(settings))
    with _connection(memory_limit) as con, _explained(table.short_name, inputs):
        changes = Changes.of(con, rules, dropped)
        statement = Statement.parse(con, model.spec.sql, name=table.name)
        inputs.resolve(con, statement, table, what=table.short_name)
        if IS_SURVIVOR in model.spec.sql:
            _show_survivors(con, lake, table, inputs)
        before = statement.rules()
        home = home_of(statement)
        _reach_columns(con, statement, home, changes, inputs)
        apply(statement, changes, home)
        if _edited(model, table, settings):
            inputs.notes.append(
                f"the model was edited since {table.ref} was built; the answer includes its edits"
            )
        if not (changes.predicates or changes.dropped or inputs.clusters or inputs.queries or inputs.notes):
            _refuse_nothing(model, table, settings)
        with clock("clusters"):
            clusters = {
                name: ClusterRows(
                    rows,
                    asked.pairs.scan(["a", "b", "similarity"]),
                    asked.threshold,
                    total="cluster_size" in asked.table.schema.names,
                )
                for name, asked in inputs.clusters.items()
            }
        with clock("rules"):
            outcomes = _decide(con, statement, table, facts, inputs, rows, clusters)
        with clock("compare"):
            comparison = Comparison(lake, facts, rows, outcomes)
            by_source = tuple(comparison.by_source())
            effects = tuple(_effects(con, lake, facts, before, statement, changes, outcomes.counts()))
        with clock("samples"):
            wanted = _columns_read(before, changes, inputs)
            gained, lost = (
                comparison.samples(side, inputs, clusters, wanted, limit=samples, seed=seed)
                for side in ("gained", "lost")
            )
        return question.WhatIf(
            table=table.name,
            version=table.version,
            digest=table.digest,
            unit=comparison.unit,
            candidates=len(rows),
            before=comparison.amount(comparison.kept),
            after=comparison.amount(comparison.passes),
            gained=comparison.amount(comparison.gained),
            lost=comparison.amount(comparison.lost),
            by_source=by_source,
            rules=effects,
            gained_samples=gained,
            lost_samples=lost,
            recomputed=tuple(
                [f"{name} at threshold {asked.threshold:g}" for name, asked in inputs.clusters.items()]
                + list(inputs.queries)
            ),
            notes=tuple(inputs.notes),
            seconds={name: round(value, 3) for name, value in clock.seconds.items()},
        )


def _decide(
    con: duckdb.DuckDBPyConnection,
    statement: Statement,
    table: Table,
    facts: Decided,
    inputs: Inputs,
    rows: Rows,
    clusters: Mapping[str, ClusterRows],
) -> Outcomes:
    """By aligned columns where the model is a chain of them, else as it is written."""
    create_views(con, inputs, {name: made.to_arrow(rows, empty=True) for name, made in clusters.items()})
    names = rules_of(con, statement, table.short_name)
    stored = {name: t.table.schema.names for name, t in inputs.clusters.items()}
    stored |= {name: t.schema.names for name, t in inputs.tables.items()}
    schemas = {name: [c for c in columns if c != "text"] for name, columns in stored.items()}
    base = next((name for name, t in inputs.tables.items() if t.ref == facts.base.ref), "")
    chain = chain_of(statement, base, schemas)
    aligned = Aligned(chain, rows, inputs.tables, clusters) if chain is not None else None
    if chain is not None and aligned is not None and aligned.one_row_each:
        _lock(con)
        return decide_aligned(con, chain, names, aligned)
    create_views(con, inputs, {name: made.to_arrow(rows) for name, made in clusters.items()})
    _lock(con)
    return decide_plainly(con, statement, names, facts.base, rows)


def _show_survivors(con: duckdb.DuckDBPyConnection, lake: Lake, table: Table, inputs: Inputs) -> None:
    """What ``best_of`` may not evict: as it is recorded now, which is what a build would go by."""
    survivors = Survivors.of(lake)
    if survivors.record(table.short_name) != list(table.provenance.extra.get("survivors", [])):
        inputs.notes.append(
            f"documents approved or trained on since {table.ref} was built come first in their clusters"
        )
    survivors.register(con)
    survivors.create_view(con)


def _lock(con: duckdb.DuckDBPyConnection) -> None:
    """What runs from here on holds a person's predicates: no files, no settings."""
    run(con, "set enable_external_access = false")
    run(con, "set lock_configuration = true")


@contextmanager
def _connection(memory_limit: str | None) -> Iterator[duckdb.DuckDBPyConnection]:
    from headwater.dbt_plugin import SQL_MACROS

    with tempfile.TemporaryDirectory(prefix="headwater-what-if-") as spill:
        con = duckdb.connect(
            config={
                "memory_limit": memory_limit or os.environ.get("HEADWATER_MEMORY", "1GB"),
                "temp_directory": str(Path(spill)),
                "preserve_insertion_order": False,
                "python_enable_replacements": False,
            }
        )
        try:
            register_all(con)
            for signature, body in SQL_MACROS.items():
                run(con, f"create or replace macro {signature} as {body}")
            yield con
        finally:
            con.close()


@contextmanager
def _explained(name: str, inputs: Inputs) -> Iterator[None]:
    """DuckDB's errors, which here come from the asked predicates, as ours."""
    try:
        yield
    except duckdb.Error as error:
        message = str(error).split("\n\nLINE")[0].split("\nLINE")[0].strip()
        if isinstance(error, duckdb.PermissionException):
            raise UsageError(f"{name}: a rule may not read files: {message}") from error
        if isinstance(error, duckdb.BinderException | duckdb.CatalogException | duckdb.ConversionException):
            columns = ", ".join(inputs.stored_columns())
            raise UsageError(
                f"{name} with these rules: {message}", hint=f"stored columns: {columns}"
            ) from error
        raise HeadwaterError(f"{name} with these rules: {message}") from error


def _edited(model: Compiled, table: Table, settings: Mapping[str, Any]) -> bool:
    """Whether the model's file differs from what built the table; with variables given nobody can tell."""
    others = table.provenance.extra.get("outside_the_lake")
    return not settings and model.fingerprint(others) != table.provenance.fingerprint


def _refuse_nothing(model: Compiled, table: Table, settings: Mapping[str, Any]) -> None:
    if (
        settings
        and model.fingerprint(table.provenance.extra.get("outside_the_lake")) != table.provenance.fingerprint
    ):
        return  # a variable that stands in the model's own SQL
    if settings:
        raise UsageError(
            f"{', '.join(settings)} changes nothing that {table.short_name} is made from",
            hint="it has the value the table was built with, or no model before this table reads it",
        )
    raise UsageError(
        "nothing is asked",
        hint="--rule name='predicate', --drop-rule name or --threshold near_duplicate=0.85",
    )


def _reach_columns(
    con: duckdb.DuckDBPyConnection, statement: Statement, home: Node, changes: Changes, inputs: Inputs
) -> None:
    """Join what the asked rules read and the model does not hand them, from stored tables by doc_id."""
    create_views(con, inputs, {name: c.table.schema.empty_table() for name, c in inputs.clusters.items()})
    for select in statement.selects():
        rules = {str(item.get("alias", "")).removeprefix("keep__") for item in select["select_list"]}
        mine = {name: expression for name, expression in changes.predicates.items() if name in rules}
        if select is home:
            known = statement.rules()
            mine |= {name: e for name, e in changes.predicates.items() if name not in known}
        missing: dict[str, list[str]] = {}
        for expression in mine.values():
            for column in _missing(con, statement, select, expression):
                holder = inputs.holder_of(column)
                if holder is None:
                    raise _no_column(column, inputs)
                missing.setdefault(holder, []).append(column)
        for holder, columns in missing.items():
            for column in dict.fromkeys(columns):
                if not hand_down(statement, select, holder, column):
                    join_column(statement, select, holder, [column])
        if missing:
            create_views(con, inputs, {n: c.table.schema.empty_table() for n, c in inputs.clusters.items()})
        for name, expression in mine.items():
            _check_type(con, statement, select, name, expression)


def _check_type(
    con: duckdb.DuckDBPyConnection, statement: Statement, select: Node, name: str, expression: Node
) -> None:
    """Refuse a predicate that is not true, false or unknown, unless it names the rules beside it."""
    aliases = {str(item.get("alias", "")).lower() for item in select["select_list"]} - {""}
    if any(first.lower() in aliases for first in columns_of(expression)):
        return
    scope = statement.scope(select)
    scope.root["select_list"] = [{**expression, "alias": "asked"}]
    ((_, kind, *_),) = run(con, f"describe ({scope.sql()})")
    if str(kind) not in ("BOOLEAN", '"NULL"', "NULL"):
        raise UsageError(
            f"rule {name} gives {kind}, not true or false",
            hint=f"compare it with something: --rule {name}='… >= …'",
        )


def _missing(
    con: duckdb.DuckDBPyConnection, statement: Statement, select: Node, expression: Node
) -> Iterator[str]:
    scope = statement.scope(select)
    shown = {str(row[0]).lower() for row in run(con, f"describe ({scope.sql()})")}
    shown |= {str(item.get("alias", "")).lower() for item in select["select_list"]}
    aliases = {
        str(node.get("alias") or node["qualified_name"]["path"][-1]).lower()
        for node in _tables_of(select["from_table"])
    }
    for first, path in columns_of(expression).items():
        if first.lower() in shown or (len(path) > 1 and first.lower() in aliases):
            continue
        yield first


def _tables_of(source: Node) -> Iterator[Node]:
    if source.get("type") == "JOIN":
        yield from _tables_of(source["left"])
        yield from _tables_of(source["right"])
    elif source.get("type") == "BASE_TABLE":
        yield source
    elif source.get("alias"):
        yield {"alias": source["alias"]}


def _no_column(column: str, inputs: Inputs) -> HeadwaterError:
    if column == "text":
        return UsageError(
            "a what-if reads stored signals, never text",
            hint="make the rule's measure a column of a row-wise model (meta: rows_of) and build that first",
        )
    return UnknownName.of("column", column, inputs.stored_columns(), where="what is stored for each document")


def _columns_read(before: Mapping[str, Node], changes: Changes, inputs: Inputs) -> list[str]:
    """Columns that the changed rules read, before and now, and those of inputs that were computed again."""
    touched = [*changes.predicates.values()]
    touched += [before[name] for name in (*changes.predicates, *changes.dropped) if name in before]
    columns = [path[-1] for expression in touched for path in columns_of(expression).values()]
    columns += [c for clusters in inputs.clusters.values() for c in clusters.table.schema.names]
    return [c for c in dict.fromkeys(columns) if c not in ("doc_id", "text")]


def _effects(
    con: duckdb.DuckDBPyConnection,
    lake: Lake,
    facts: Decided,
    before: Mapping[str, Node],
    statement: Statement,
    changes: Changes,
    counts: Mapping[str, tuple[int, int, int]],
) -> Iterator[question.RuleEffect]:
    after = statement.rules()
    stored = {rule.rule: rule for rule in facts.rules if rule.rule in before or rule.rule in after}
    recorded = _recorded_counts(lake, facts)
    for name in dict.fromkeys((*stored, *(name for name in before), *after)):
        change = "dropped" if name in changes.dropped else ""
        if name in changes.predicates:
            change = "changed" if name in before else "added"
        old = stored[name].expression if name in stored else None
        if old is None and name in before:
            old = expression_text(con, before[name])
        new = None
        if name in after:
            new = expression_text(con, after[name]) if name in changes.predicates else old
        failed, unknown, only = counts.get(name, (None, None, None))
        was = recorded.get(name, (None, None))
        yield question.RuleEffect(
            rule=name,
            change=change,
            expression=(old, new),
            failed=(was[0], failed),
            unknown=(was[1], unknown),
            only=only,
        )


def _recorded_counts(lake: Lake, facts: Decided) -> dict[str, tuple[int, int]]:
    """Documents that each rule failed, and was unknown for, as the build recorded them."""
    rules = open_optional(lake, f"{facts.schema}.rules")
    if rules is None:
        return {}
    rows = rules.to_arrow(filter=f"build_id = {literal(facts.build_id)}").to_pylist()
    return {
        row["rule"]: (row["num_failed"], row["num_unknown"]) for row in rows if row["table"] == facts.name
    }
