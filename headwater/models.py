"""Materialize one model into the lake: full, row-wise incremental, or routed by its rules.

dbt calls :func:`materialize` through the ``lance`` materialization; nothing here needs dbt.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa

from headwater import decisions
from headwater.dedup.survivors import IS_SURVIVOR
from headwater.digest import ContentDigest
from headwater.errors import HeadwaterError, UsageError
from headwater.lake import SYSTEM_TABLES, Provenance, TableRef, TableVersion
from headwater.operators import registered
from headwater.row_wise import build_rows
from headwater.session import ModelResult, Session
from headwater.sql import fixed_ids, is_id, run, sql_columns, stored_columns
from headwater.sql_errors import explain_error


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """What the materialization knows about a model."""

    name: str
    """Qualified: ``schema.table``."""
    sql: str | None
    """Compiled SQL, or ``None`` for a Python model."""
    source: str
    """What the fingerprint is made of: compiled SQL, or the code of a Python model."""
    inputs: tuple[str, ...] = ()
    """Upstream relations, ``schema.table``."""
    relations: Mapping[str, str] = field(default_factory=dict)
    """Upstream ``schema.table`` to the way compiled SQL spells it."""
    rows_of: str | None = None
    candidates: str | None = None
    order_by: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    """The model's documented columns (description, meta)."""
    full_refresh: bool = False

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        data = json.loads(text)
        return cls(**{**data, "inputs": tuple(data.get("inputs", ()))})


def materialize(
    session: Session, con: duckdb.DuckDBPyConnection, spec: ModelSpec, frame: Any = None
) -> ModelResult:
    """Build one model and publish it; an unchanged one (same request, same inputs) is left alone."""
    started = time.perf_counter()
    short = spec.name.rpartition(".")[2]
    if short in SYSTEM_TABLES:
        raise UsageError(
            f"a model may not be called {short!r}", hint="it is a system table; rename the model"
        )
    session.register_all(con)
    try:
        result = _build(session, con, spec, frame)
    except duckdb.Error as error:
        shown = {t.name: [c for c in t.schema.names if c != "text"] for t in session.inputs(spec.inputs)}
        failure = explain_error(error, spec.sql or "", short, shown)
        session.failures[short] = failure
        raise failure from error
    except HeadwaterError as error:
        session.failures[short] = error
        raise
    result.seconds = time.perf_counter() - started
    session.record(result)
    return result


def _build(session: Session, con: duckdb.DuckDBPyConnection, spec: ModelSpec, frame: Any) -> ModelResult:
    short = spec.name.rpartition(".")[2]
    inputs, others = _inputs(session, con, spec)
    others |= getattr(frame, "outside", {})
    fingerprint = fingerprint_of(spec, session.lake.schema, others)
    own = session.tables.get(spec.name)
    current = own if own is not None and own.name == spec.name else None
    same_request = current is not None and current.provenance.fingerprint == fingerprint
    refresh = spec.full_refresh or session.full_refresh
    kept = session.survivors.record(short) if IS_SURVIVOR in (spec.sql or "") else None
    extra = current.provenance.extra if current is not None else {}
    if (
        current is not None
        and same_request
        and not refresh
        and _same_data(current.provenance.inputs, inputs)
        and (kept is None or session.survivors.settled(short, current, extra.get("survivors", [])))
    ):
        session.publish(con, spec.name, current)
        return ModelResult(short, "unchanged", current.num_rows, current.version)
    provenance = Provenance(
        kind="model",
        build_id=session.build_id,
        git_commit=session.git_commit,
        fingerprint=fingerprint,
        inputs=inputs,
        extra={
            **({"outside_the_lake": others} if others else {}),
            **({"survivors": kept} if kept is not None else {}),
        },
    )
    if spec.rows_of:
        version, status, message = build_rows(
            session, spec, current if same_request and not refresh else None, provenance
        )
    elif hasattr(frame, "publish"):  # it knows how to move its own table to today's inputs
        if hasattr(frame, "reuse") and not refresh:  # and what another request may take over
            frame.reuse(current)
        version, status, message = frame.publish(
            session.lake, spec.name, current if same_request and not refresh else None, provenance
        )
    else:
        version, status, message = _set_wise(session, con, spec, frame, provenance)
    session.publish(con, spec.name, version)
    return ModelResult(short, status, version.num_rows, version.version, message=message)


def fingerprint_of(spec: ModelSpec, target_schema: str, others: Mapping[str, str]) -> str:
    """Digest of what a model asks for: code, operator versions, settings, and inputs outside the lake.

    The target's schema is written ``@``, so that ``dev`` and ``prod`` agree.
    """
    code = spec.source.replace(f'"{target_schema}"', '"@"')
    operators = {
        name: operator.version
        for name, operator in sorted(registered().items())
        if re.search(rf"\b{re.escape(name)}\b", code)
    }
    request = {
        "code": code,
        "operators": operators,
        "rows_of": spec.rows_of,
        "candidates": spec.candidates,
        "order_by": spec.order_by,
        "outside_the_lake": sorted(digest for digest in others.values()),
    }
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:32]


def _same_data(before: Sequence[TableRef], now: Sequence[TableRef]) -> bool:
    return {(ref.name, ref.digest) for ref in before} == {(ref.name, ref.digest) for ref in now}


def _inputs(
    session: Session, con: duckdb.DuckDBPyConnection, spec: ModelSpec
) -> tuple[tuple[TableRef, ...], dict[str, str]]:
    """Exact versions of the tables a model reads; and seeds and views, which no lake holds, by digest."""
    refs, others = [], {}
    for name in spec.inputs:
        table = session.tables.get(name)
        if table is not None:
            refs.append(table.ref)
        else:
            rows = con.sql(f"select * from {spec.relations[name]}").to_arrow_reader(65_536)
            others[name] = ContentDigest.of(rows).hex()
    return tuple(sorted(refs, key=lambda ref: ref.name)), others


# -- set models -----------------------------------------------------------------------------------


def _set_wise(
    session: Session, con: duckdb.DuckDBPyConnection, spec: ModelSpec, frame: Any, provenance: Provenance
) -> tuple[TableVersion, str, str]:
    if isinstance(frame, pa.RecordBatchReader) and not decisions.rule_names(frame.schema.names):
        # A stream of ready rows needs no SQL: it goes to the lake as it comes, in its own order.
        version = session.lake.write(spec.name, frame, provenance=provenance)
        return version, "built", f"{version.num_rows:,} rows"
    query = spec.sql if spec.sql is not None else _frame_query(con, frame, spec)
    described = run(con, f"describe (\n{query}\n)")
    types = {str(row[0]): str(row[1]) for row in described}
    names = list(types)
    rules = decisions.rule_names(names)
    stored = stored_columns({n: t for n, t in types.items() if not n.startswith(decisions.PREFIX)})
    order_by = _order_by(spec, names)
    if not rules and spec.candidates:
        raise UsageError(
            f"model {spec.name} declares candidates but returns no keep__* column",
            hint="name each rule's boolean column keep__<rule>",
        )
    if not rules:
        # Text rides through no sort (C2): only narrow results are ordered here.
        rows = con.sql(f"select {stored} from (\n{query}\n) {order_by}").to_arrow_reader(65_536)
        version = session.lake.write(spec.name, fixed_ids(rows, types), provenance=provenance)
        return version, "built", f"{version.num_rows:,} rows"
    if not spec.candidates:
        raise UsageError(
            f"model {spec.name} has rules but does not say whose documents it judges",
            hint="add `meta: {candidates: <base table>}` to its config",
        )
    relation = f"_hw_result_{spec.name.replace('.', '_')}"
    run(con, f"create or replace temp table {relation} as\n{query}")

    def select_kept(condition: str) -> pa.RecordBatchReader:
        rows = con.sql(f"select {stored} from {relation} where {condition} {order_by}")
        return fixed_ids(rows.to_arrow_reader(65_536), types)

    routed = decisions.route(
        con,
        relation,
        lake=session.lake,
        name=spec.name,
        base=session.table(spec.candidates),
        rules=decisions.parse_rules(con, spec.sql, rules, spec.columns),
        provenance=provenance,
        select_kept=select_kept,
    )
    run(con, f"drop table {relation}")
    for system in ("decisions", "rules"):
        name = f"{spec.name.partition('.')[0]}.{system}"
        session.publish(con, name, session.lake.table(name))
    share = routed.num_kept / routed.num_candidates if routed.num_candidates else 0.0
    message = f"kept {routed.num_kept:,} of {routed.num_candidates:,} ({share:.0%})"
    if routed.num_unknown:
        message += f", {routed.num_unknown:,} unknown"
    return routed.version, "built", message


def _frame_query(con: duckdb.DuckDBPyConnection, frame: Any, spec: ModelSpec) -> str:
    """Make what a Python model returned readable as SQL, without copying it.

    Polars has no UUID: ids come back as strings. ``doc_id``, and columns whose ``data_type`` the
    model's ``.yml`` gives as uuid, are read as ids again.
    """
    name = f"_hw_frame_{spec.name.replace('.', '_')}"
    if isinstance(frame, duckdb.DuckDBPyRelation):
        # Its connection is this one, which cannot stream it and run the next statement at once.
        run(con, f"drop table if exists {name}")
        frame.create(name)
        return f"select * from {name}"
    collect = getattr(frame, "collect", None)
    if collect is not None and type(frame).__module__.startswith("polars"):
        frame = collect(engine="streaming")
    if type(frame).__module__.startswith("polars"):
        frame = frame.to_arrow()
    if not isinstance(frame, pa.Table | pa.RecordBatchReader):
        raise UsageError(
            f"a Python model returned {type(frame).__name__}",
            hint="return a Polars frame, an Arrow table, a RecordBatchReader or a DuckDB relation",
        )
    columns = sql_columns(frame.schema, with_text=True)
    for column in frame.schema.names:
        declared = str(spec.columns.get(column, {}).get("data_type") or "").lower() == "uuid"
        if (column == "doc_id" or declared) and not is_id(frame.schema.field(column).type):
            columns = re.sub(rf'(?<!:)"{column}"(?=,|$)', f'"{column}"::uuid as "{column}"', columns)
    if isinstance(frame, pa.RecordBatchReader):
        # A reader can be read once; the describe and the select below would read it twice.
        con.register("_hw_stream", frame)
        run(con, f"create or replace temp table {name} as select {columns} from _hw_stream")
        con.unregister("_hw_stream")
        return f"select * from {name}"
    con.register(f"{name}_arrow", frame)
    return f"select {columns} from {name}_arrow"


def _order_by(spec: ModelSpec, names: Sequence[str]) -> str:
    """Same rows, same order: by the declared order, else by the ids, else by every column."""
    if spec.order_by:
        return f"order by {spec.order_by}"
    if "doc_id" in names:
        return 'order by "doc_id"'
    plain = [n for n in names if not n.startswith(decisions.PREFIX)]
    return "order by " + ", ".join('"' + n.replace('"', '""') + '"' for n in plain)
