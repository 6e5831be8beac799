"""Rules decide, decisions are kept (contract C3).

A curated model returns every candidate of its base table with one boolean column per rule, named
``keep__<rule>``. :func:`route` sends each candidate to one of two places: the table, when every rule
is true, or ``decisions``, with the rules that failed and the rules whose answer is unknown (NULL).
Decisions are written first and named by the table's commit, so that there is one commit point: a
build killed in between leaves rows that no version names and no reader counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from headwater.digest import ContentDigest
from headwater.errors import ConservationError
from headwater.lake import Lake, Provenance, Table, TableVersion
from headwater.sql import run

PREFIX = "keep__"

DECISIONS = pa.schema(
    {
        "build_id": pa.string(),
        "table": pa.string(),
        "doc_id": pa.binary(16),
        "failed": pa.list_(pa.string()),
        "unknown": pa.list_(pa.string()),
    }
)
RULES = pa.schema(
    {
        "build_id": pa.string(),
        "table": pa.string(),
        "rule": pa.string(),
        "expression": pa.string(),
        "description": pa.string(),
        "on_null": pa.string(),
        "max_unknown": pa.float64(),
        "columns": pa.list_(pa.string()),
        "num_failed": pa.int64(),
        "num_unknown": pa.int64(),
    }
)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule of a curated model; ``columns`` are the names its expression mentions."""

    name: str
    expression: str = ""
    description: str = ""
    on_null: str = "quarantine"
    max_unknown: float | None = None
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Routed:
    """What a routed build published, and how the candidates split."""

    version: TableVersion
    num_candidates: int
    num_kept: int
    num_dropped: int
    num_unknown: int


def rule_names(columns: Iterable[str]) -> list[str]:
    """Names of the rules among a query's columns, without the prefix, in their order."""
    return [name.removeprefix(PREFIX) for name in columns if name.startswith(PREFIX)]


def parse_rules(
    con: duckdb.DuckDBPyConnection, sql: str | None, names: Sequence[str], documented: Mapping[str, Any]
) -> list[Rule]:
    """Describe the rules of a model: expression from its SQL, reason and NULL policy from its ``.yml``.

    Parameters
    ----------
    sql:
        The compiled query, or ``None`` for a Python model (its expressions stay empty).
    documented:
        Column name to ``{"description": str, "meta": {"on_null": str, "max_unknown": float}}``.
    """
    expressions = _expressions(con, sql) if sql else {}
    rules = []
    for name in names:
        entry = documented.get(PREFIX + name, {})
        meta = entry.get("meta", {})
        expression, columns = expressions.get(PREFIX + name, ("", ()))
        rules.append(
            Rule(
                name=name,
                expression=expression,
                description=" ".join(entry.get("description", "").split()),
                on_null=meta.get("on_null", "quarantine"),
                max_unknown=meta.get("max_unknown"),
                columns=tuple(columns),
            )
        )
    return rules


def route(
    con: duckdb.DuckDBPyConnection,
    relation: str,
    *,
    lake: Lake,
    name: str,
    base: Table,
    rules: Sequence[Rule],
    provenance: Provenance,
    select_kept: Callable[[str], pa.RecordBatchReader],
) -> Routed:
    """Publish the rows of ``relation`` that pass every rule as table ``name``, and decisions on the rest.

    Parameters
    ----------
    relation:
        A table on ``con`` that holds every candidate once, with ``doc_id`` as UUID.
    base:
        The declared base table whose documents must all be accounted for.
    select_kept:
        Given a condition, streams the rows of ``relation`` that meet it, as they are to be stored.

    Raises
    ------
    ConservationError
        A document of the base table is missing from the candidates, doubled, or unknown to it.
    """
    num_candidates = _assert_conserved(con, relation, base, name)
    run(con, f"create or replace temp table _hw_decided as {_decisions_query(relation, rules)}")
    ((num_dropped, num_unknown),) = run(
        con, "select count(*), count(*) filter (len(unknown) > 0 and len(failed) = 0) from _hw_decided"
    )
    ((num_kept,),) = run(con, f"select count(*) from {relation} where {_all_true(rules)}")
    if num_kept + num_dropped != num_candidates:
        raise ConservationError(
            f"{name}: {num_kept} kept and {num_dropped} decided do not make {num_candidates} candidates"
        )
    # One lease over both commits: whoever drops orphans waits until the table names its decisions.
    with lake.lease(name.partition(".")[0], purpose=f"routes {name}"):
        decisions = _write_decisions(con, lake, name, rules, provenance.build_id)
        extra = {
            **provenance.extra,
            "candidates": base.name,
            "num_candidates": num_candidates,
            "num_unknown": num_unknown,
            "decisions": decisions,
        }
        version = lake.write(name, select_kept(_all_true(rules)), provenance=replace(provenance, extra=extra))
    run(con, "drop table _hw_decided")
    return Routed(
        version=version,
        num_candidates=num_candidates,
        num_kept=num_kept,
        num_dropped=num_dropped,
        num_unknown=num_unknown,
    )


def _write_decisions(
    con: duckdb.DuckDBPyConnection, lake: Lake, name: str, rules: Sequence[Rule], build_id: str
) -> dict[str, Any]:
    """The first of the two commits; returns what the table's commit will name."""
    schema, _, short = name.partition(".")
    record = Provenance(kind="log", build_id=build_id)
    digest = ContentDigest()
    rows = con.sql(
        f"""select {_literal(build_id)} as build_id, {_literal(short)} as "table",
                   doc_id::blob as doc_id, failed, unknown
            from _hw_decided order by doc_id"""
    ).to_arrow_reader(65_536)
    lake.write(f"{schema}.decisions", _counted(rows, digest), mode="append", provenance=record)
    described = _rule_rows(rules, _rule_counts(con, rules), build_id, short)
    lake.write(f"{schema}.rules", described, mode="append", provenance=record)
    return {"build_id": build_id, "count": digest.num_rows, "digest": digest.hex()}


def named_decisions(lake: Lake, schema: str) -> set[tuple[str, str]]:
    """``(build_id, table)`` of all decisions that some version of a curated table names."""
    named = set()
    for table in lake.tables(schema):
        for row in lake.versions(f"{schema}.{table}").to_pylist():
            if "decisions" in json.loads(row["extra"]):
                named.add((row["build_id"], table))
    return named


def drop_orphans(lake: Lake, schema: str) -> int:
    """Delete the decisions and rules of builds that died before their commit; return how many rows.

    The table of rules is small and tells whether there is anything to do.
    """
    if "rules" not in lake.tables(schema):
        return 0
    with lake.lease(schema, purpose="drops orphaned decisions"):
        rules = lake.table(f"{schema}.rules").to_arrow(["build_id", "table"]).to_pylist()
        named = named_decisions(lake, schema)
        if all((row["build_id"], row["table"]) in named for row in rules):
            return 0
        return sum(
            _drop_unnamed(lake, lake.table(f"{schema}.{name}"), named) for name in ("decisions", "rules")
        )


def _drop_unnamed(lake: Lake, table: Table, named: set[tuple[str, str]]) -> int:
    wanted = pa.array(sorted("/".join(pair) for pair in named), pa.string())

    def kept() -> Iterator[pa.RecordBatch]:
        for batch in table.scan():
            keys = pc.binary_join_element_wise(batch["build_id"], batch["table"], "/")
            yield batch.filter(pc.is_in(keys, value_set=wanted))

    version = lake.write(table.name, kept(), schema=table.schema, provenance=Provenance(kind="log"))
    return table.num_rows - version.num_rows


# -- inside ---------------------------------------------------------------------------------------


def _quoted(rule: Rule) -> str:
    return '"' + (PREFIX + rule.name).replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _all_true(rules: Sequence[Rule]) -> str:
    return " and ".join(f"{_quoted(rule)} is true" for rule in rules)


def _decisions_query(relation: str, rules: Sequence[Rule]) -> str:
    failed = ", ".join(f"case when {_quoted(r)} is false then {_literal(r.name)} end" for r in rules)
    unknown = ", ".join(f"case when {_quoted(r)} is null then {_literal(r.name)} end" for r in rules)
    return f"""
        select doc_id,
               list_filter([{failed}], lambda x: x is not null) as failed,
               list_filter([{unknown}], lambda x: x is not null) as unknown
        from {relation} where not ({_all_true(rules)})"""


def _rule_counts(con: duckdb.DuckDBPyConnection, rules: Sequence[Rule]) -> dict[str, tuple[int, int]]:
    counts = dict.fromkeys((rule.name for rule in rules), (0, 0))
    for side in (0, 1):
        column = ("failed", "unknown")[side]
        for rule, count in run(
            con, f"select rule, count(*) from (select unnest({column}) as rule from _hw_decided) group by 1"
        ):
            failed, unknown = counts[rule]
            counts[rule] = (count, unknown) if side == 0 else (failed, count)
    return counts


def _rule_rows(
    rules: Sequence[Rule], counts: Mapping[str, tuple[int, int]], build_id: str, table: str
) -> pa.Table:
    rows = [
        {
            "build_id": build_id,
            "table": table,
            "rule": rule.name,
            "expression": rule.expression,
            "description": rule.description,
            "on_null": rule.on_null,
            "max_unknown": rule.max_unknown,
            "columns": list(rule.columns),
            "num_failed": counts[rule.name][0],
            "num_unknown": counts[rule.name][1],
        }
        for rule in rules
    ]
    return pa.Table.from_pylist(rows, RULES)


def _assert_conserved(con: duckdb.DuckDBPyConnection, relation: str, base: Table, name: str) -> int:
    con.register("_hw_base", base.dataset.scanner(columns=["doc_id"]).to_reader())
    run(con, "create or replace temp table _hw_base_ids as select doc_id::uuid as doc_id from _hw_base")
    con.unregister("_hw_base")
    ((total, distinct),) = run(con, f"select count(*), count(distinct doc_id) from {relation}")
    odd = "select count(*), min(doc_id)::varchar from"
    (missing,) = run(con, f"{odd} _hw_base_ids anti join {relation} using (doc_id)")
    (foreign,) = run(con, f"{odd} {relation} anti join _hw_base_ids using (doc_id)")
    run(con, "drop table _hw_base_ids")
    problems = []
    if missing[0]:
        problems.append(f"{missing[0]:,} documents of {base.name} are missing, e.g. {missing[1]}")
    if total != distinct:
        problems.append(f"{total - distinct:,} rows are doubled")
    if foreign[0]:
        problems.append(f"{foreign[0]:,} rows are not documents of {base.name}, e.g. {foreign[1]}")
    if problems:
        raise ConservationError(
            f"{name} does not return every document of {base.name} exactly once: {'; '.join(problems)}",
            hint="left join from the base table, on unique columns, with no `where` before the rules",
        )
    return int(total)


def _counted(reader: pa.RecordBatchReader, digest: ContentDigest) -> pa.RecordBatchReader:
    def batches() -> Iterator[pa.RecordBatch]:
        for batch in reader:
            batch = batch.cast(DECISIONS)
            digest.add(batch)
            yield batch

    return pa.RecordBatchReader.from_batches(DECISIONS, batches())


def _expressions(con: duckdb.DuckDBPyConnection, sql: str) -> dict[str, tuple[str, list[str]]]:
    """Alias to (expression, column names), by DuckDB's own parser."""
    ((serialized,),) = run(con, "select json_serialize_sql(?)", [sql])
    tree = json.loads(serialized)
    if tree.get("error"):
        return {}
    template = json.loads(run(con, "select json_serialize_sql('select 1')")[0][0])
    result = {}
    for node in _walk(tree):
        alias = str(node.get("alias", ""))
        if alias.startswith(PREFIX) and "class" in node:
            template["statements"][0]["node"]["select_list"] = [{**node, "alias": ""}]
            ((text,),) = run(con, "select json_deserialize_sql(?::json)", [json.dumps(template)])
            names = {n["column_names"][-1] for n in _walk(node) if n.get("class") == "COLUMN_REF"}
            names -= {str(p) for n in _walk(node) if n.get("class") == "LAMBDA" for p in _lambda_names(n)}
            result[alias] = (_tidy(text), sorted(names))
    return result


def _lambda_names(node: Mapping[str, Any]) -> Iterator[str]:
    yield from (n["column_names"][-1] for n in _walk(node.get("lhs")) if n.get("class") == "COLUMN_REF")


def _tidy(statement: str) -> str:
    text = re.sub(r"^\s*SELECT\s+", "", statement).strip()
    choice = re.match(r"_hw_best_of\((\w+), .* ORDER BY (.*)\)\)$", text, re.DOTALL)
    verified = re.match(r"_hw_verified_best_of\((\w+), .* ORDER BY (.*)\)\)$", text, re.DOTALL)
    if choice or verified:  # as its author wrote it, not as the macro expands
        cluster, order = (choice or verified).groups()  # type: ignore[union-attr]
        order, num_sticky = re.subn(r"^_hw_survived\([^)]*\) DESC, ", "", order)
        like = ", if like it" if verified else ""
        kept = ", what was approved or trained on before all" if num_sticky else ""
        return f"best of {cluster}{like}, by {order}{kept}"
    if text.startswith("_hw_first_of(") and _closes_at_end(text[len("_hw_first_of") :]):
        return _tidy_first_of(_arguments(text[len("_hw_first_of(") : -1])) or text
    return text[1:-1] if text.startswith("(") and _closes_at_end(text) else text


def _tidy_first_of(arguments: list[str]) -> str | None:
    """A share or number of the highest, as its author thinks of it; n are the candidates."""
    if len(arguments) != 4:
        return None
    cluster, _, place, limit = arguments
    if cluster.startswith("_hw_if_known("):
        cluster = _arguments(cluster[len("_hw_if_known(") : -1])[-1]
    order = re.search(r" ORDER BY (.*)\)$", place, re.DOTALL)
    while (start := limit.find("count() OVER (")) >= 0:
        inside = limit[start + len("count() OVER ") :]
        end = next(i for i in range(1, len(inside) + 1) if inside[:i].count("(") == inside[:i].count(")"))
        limit = f"{limit[:start]}n{inside[end:]}"
    each = "" if cluster in ("true", "CAST('t' AS BOOLEAN)") else f" of each {cluster}"
    return f"the first {limit}{each} by {order[1]}" if order else None


def _arguments(text: str) -> list[str]:
    """Split at the commas that stand in no parentheses (and in no string)."""
    parts, depth, start, quoted = [], 0, 0, False
    for index, char in enumerate(text):
        quoted ^= char == "'"
        if not quoted:
            depth += (char == "(") - (char == ")")
            if char == "," and depth == 0:
                parts.append(text[start:index].strip())
                start = index + 1
    return [*parts, text[start:].strip()]


def _closes_at_end(text: str) -> bool:
    depth = 0
    for index, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if depth == 0:
            return index == len(text) - 1
    return False


def _walk(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from _walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from _walk(value)
