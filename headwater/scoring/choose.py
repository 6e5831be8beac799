# the expressions in these queries are the user's own SQL, over narrow columns in a private database
"""A stratified sample of texts to label, drawn by SQL and a seeded hash."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from headwater.errors import UsageError
from headwater.lake import Lake, Provenance, Table
from headwater.lineage import open_optional, open_ref
from headwater.operators import get
from headwater.report.narrow import connection, load, rows
from headwater.scoring.labels import DOCUMENTS, LABELS, TASKS
from headwater.scoring.rubric import judged_part
from headwater.sql import run
from headwater.whole_files import whole_file

if TYPE_CHECKING:
    import duckdb

SIGNALS = "signals"

TASK_ROWS = pa.schema(
    {
        "text_hash": pa.binary(16),
        "doc_id": pa.binary(16),
        "stratum": pa.string(),
        "source": pa.string(),
        "path": pa.string(),
        "place": pa.int32(),
    }
)
"""``place``: the order in which to label, from 0; every prefix is stratified too."""


@dataclass(frozen=True, kw_only=True)
class ChoiceReport:
    """What was drawn."""

    table: str
    """``raw.label_tasks``, at the version that was written."""
    of: str
    candidates: int
    texts: int
    strata: dict[str, dict[str, int]]
    """By stratum: candidates and chosen."""
    already_labeled: int
    """Candidates left out because they are (or, for a second reading, are not) labeled."""
    seed: int
    csv: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def choose(
    lake: Lake,
    table: str = DOCUMENTS,
    *,
    count: int,
    stratify: Sequence[str] = (),
    sql: str | None = None,
    where: str | None = None,
    per_source: int | None = None,
    again: bool = False,
    seed: int = 0,
    to: str | Path | None = None,
    with_text: bool = False,
) -> ChoiceReport:
    """Draw ``count`` texts of ``table``, in equal numbers from the strata, and write ``raw.label_tasks``.

    Within a stratum, and between texts of equal place in theirs, a hash of the text decides. A stratum with
    fewer texts than its part gives all it has, and the others give more. Equal texts count once.

    Parameters
    ----------
    stratify: SQL expressions over ``candidates``: the columns of ``table`` (without text), of
        ``raw.documents`` and of ``signals``, where it is built. ``source``, ``ntile(3) over (order by
        text_bytes)``.
    sql: in their place a whole query over ``candidates`` that returns ``doc_id`` and ``stratum``.
    where: a condition on the candidates.
    per_source: at most so many texts of one source.
    again: draw from what is labeled already, for a second reading; without it from what is not.
    to: also a CSV to fill in, with empty ``score`` and ``reason``; ``with_text`` adds what is to be judged.

    Raises
    ------
    UsageError
        The SQL fails, or nothing is left to draw from.
    """
    if count < 1:
        raise UsageError(f"got {count} texts to choose", hint="--n 400")
    if sql and (stratify or where):
        raise UsageError("--sql is the whole query", hint="put strata and condition into it")
    chosen_of = open_ref(lake, table)
    base = lake.table(DOCUMENTS) if chosen_of.name != DOCUMENTS else chosen_of
    signals = open_optional(lake, SIGNALS)
    labels = open_optional(lake, LABELS)
    with connection() as con:
        get("seeded_hash").register(con)
        _load(con, chosen_of, base, signals, labels)
        run(con, "set enable_external_access = false")
        run(con, "set lock_configuration = true")
        _strata(con, sql, stratify, where)
        counts = _draw(con, count, per_source, again, seed)
        tasks = con.sql(
            "select text_hash, doc_id, stratum, source, path, place::int as place from chosen order by place"
        ).to_arrow_table()
        strata = {
            row["stratum"]: {"candidates": row["n"], "chosen": row["taken"]}
            for row in rows(
                con,
                "select u.stratum, count(*) as n, count(c.place) as taken from one_each u "
                "left join chosen c using (text_hash) group by u.stratum order by u.stratum",
            )
        }
    if not tasks.num_rows:
        raise UsageError(
            f"nothing of {chosen_of.ref} is left to choose from ({counts['others']:,} texts are "
            f"{'not labeled' if again else 'labeled already'})",
            hint="loosen --where, or draw a second reading with --again",
        )
    inputs = {t.ref.name: t.ref for t in (chosen_of, base, signals, labels) if t is not None}
    said = {"count": count, "stratify": list(stratify), "sql": sql, "where": where, "per_source": per_source}
    written = lake.write(
        TASKS,
        tasks.cast(TASK_ROWS),
        provenance=Provenance(
            kind="label",
            inputs=tuple(inputs[name] for name in sorted(inputs)),
            extra={**said, "again": again, "seed": seed},
        ),
    )
    if to is not None:
        write_csv(base, tasks, to, with_text=with_text)
    return ChoiceReport(
        table=str(written.ref),
        of=str(chosen_of.ref),
        candidates=counts["candidates"],
        texts=tasks.num_rows,
        strata=strata,
        already_labeled=counts["others"],
        seed=seed,
        csv=str(to) if to is not None else None,
    )


def _load(
    con: duckdb.DuckDBPyConnection, chosen_of: Table, base: Table, signals: Table | None, labels: Table | None
) -> None:
    narrow = [name for name in base.schema.names if name not in ("text", "metadata")]
    load(con, "documents", base, narrow)
    shown = {"documents": set(narrow)}
    if chosen_of.name != base.name:
        if "doc_id" not in chosen_of.schema.names:
            raise UsageError(f"{chosen_of.ref} has no doc_id", hint="choose from a table of documents")
        load(
            con, "chosen_of", chosen_of, [n for n in chosen_of.schema.names if n not in ("text", "metadata")]
        )
        shown["chosen_of"] = set(chosen_of.schema.names) - {"text", "metadata"}
    if signals is not None:
        load(con, SIGNALS, signals, signals.schema.names)
        shown[SIGNALS] = set(signals.schema.names)
    # One column of each name: a table's own before those of the documents, these before the signals.
    seen: set[str] = set()
    parts: list[str] = []
    joins: list[str] = []
    order = [name for name in ("chosen_of", "documents", SIGNALS) if name in shown]
    for relation in order:
        mine = sorted(shown[relation] - seen)
        seen |= shown[relation]
        parts += [f'{relation}."{name}"' for name in mine]
        joins.append(
            relation
            if not joins
            else f"{'left ' if relation == SIGNALS else ''}join {relation} using (doc_id)"
        )
    columns = ", ".join("doc_id" if part.endswith('."doc_id"') else part for part in parts)
    run(con, f"create temp view candidates as select {columns} from {' '.join(joins)}")
    run(con, "create temp table labeled (text_hash blob)")
    if labels is not None:
        load(con, "labeled", labels, ["text_hash"])


def _strata(
    con: duckdb.DuckDBPyConnection, sql: str | None, stratify: Sequence[str], where: str | None
) -> None:
    """``stratified``: doc_id and stratum, as text."""
    import duckdb

    names = " || ' · ' || ".join(f"coalesce(({each})::varchar, 'null')" for each in stratify) or "'all'"
    # Strata are made among the candidates that the condition leaves: a tercile is one of those.
    kept = f"(select * from candidates where ({where}))" if where else "candidates"
    query = sql or f"select doc_id, {names} as stratum from {kept}"
    try:
        run(
            con,
            "create temp table stratified as select doc_id, coalesce(stratum::varchar, 'null') as stratum "
            f"from (\n{query}\n)",
        )
    except duckdb.Error as error:
        raise UsageError(
            f"the sample's SQL fails: {str(error).splitlines()[0][:300]}",
            hint="it reads `candidates` (ids, paths, signals, no text) and returns doc_id and stratum",
        ) from None


def _draw(
    con: duckdb.DuckDBPyConnection, count: int, per_source: int | None, again: bool, seed: int
) -> dict[str, int]:
    """``one_each``: a row for each text; ``chosen``: those that are drawn, with their place."""
    run(
        con,
        f"""create temp table hashed as
        select d.text_hash, d.doc_id, s.stratum, d.source, d.path,
               seeded_hash(d.text_hash, seed := {int(seed)}) as drawn
        from documents d
        join (select distinct on (doc_id) doc_id, stratum from stratified order by doc_id, stratum) s
        using (doc_id)
        qualify row_number() over (partition by d.text_hash order by d.doc_id) = 1""",
    )
    wanted = "semi" if again else "anti"
    run(con, f"create temp table one_each as select * from hashed {wanted} join labeled using (text_hash)")
    limited = (
        f"qualify row_number() over (partition by source order by drawn, text_hash) <= {int(per_source)}"
        if per_source
        else ""
    )
    run(
        con,
        f"""create temp table chosen as
        select *, row_number() over (order by in_stratum, drawn, text_hash) - 1 as place
        from (
            select *, row_number() over (partition by stratum order by drawn, text_hash) as in_stratum
            from (select * from one_each {limited})
        )
        qualify place < {int(count)}""",
    )
    [found] = rows(
        con, "select (select count(*) from hashed) as candidates, (select count(*) from one_each) as left"
    )
    return {"candidates": found["candidates"], "others": found["candidates"] - found["left"]}


def write_csv(base: Table, tasks: pa.Table, to: str | Path, *, with_text: bool = False) -> Path:
    """The tasks as a CSV to fill in. It appears whole or not at all."""
    target = Path(to)
    names = ["text_hash", "doc_id", "stratum", "source", "path", "score", "reason"]
    texts: dict[bytes, str] = {}
    if with_text:
        names.append("text")
        for batch in base.with_text(tasks["doc_id"].cast(pa.binary(16))):
            for doc_id, text in zip(batch["doc_id"].to_pylist(), batch["text"].to_pylist(), strict=True):
                texts[doc_id] = judged_part(text)
    with whole_file(target) as scratch, scratch.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for row in tasks.to_pylist():
            shown = {k: row[k] for k in ("stratum", "source", "path")}
            shown |= {"text_hash": row["text_hash"].hex(), "doc_id": row["doc_id"].hex()}
            writer.writerow({**shown, **({"text": texts[row["doc_id"]]} if with_text else {})})
    return target


def open_tasks(lake: Lake) -> pa.Table:
    """The chosen texts in their order; UsageError where nothing was chosen yet."""
    tasks = open_optional(lake, TASKS)
    if tasks is None:
        raise UsageError(
            "nothing was chosen to label yet", hint="headwater label choose raw.documents --n 400"
        )
    return tasks.to_arrow().sort_by("place")


def tasks_left(lake: Lake, annotator_key: tuple[str, str, str], rubric: str) -> pa.Table:
    """The tasks that this annotator has not labeled by this rubric, in their order."""
    tasks = open_tasks(lake)
    labels = open_optional(lake, LABELS)
    if labels is None:
        return tasks
    columns = ["text_hash", "rubric", "annotator_kind", "annotator", "annotator_version"]
    mine = {
        row["text_hash"]
        for row in labels.to_arrow(columns).to_pylist()
        if row["rubric"] == rubric
        and (row["annotator_kind"], row["annotator"], row["annotator_version"]) == annotator_key
    }
    return tasks.filter(pc.invert(pc.is_in(tasks["text_hash"], pa.array(sorted(mine), pa.binary(16)))))
