# the names in these queries are ours; every value is a parameter or an escaped literal
"""What the report page shows, read from the lake: ids, signals and counts, and the text of a few samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from headwater.lineage import Node, open_optional, tree
from headwater.report.charts import Bar, thin
from headwater.report.clusters import paths_of
from headwater.report.losses import Decided, load_decisions
from headwater.report.narrow import connection, literal, load, one, rows
from headwater.report.private import is_private, is_private_rule
from headwater.report.words import count, share, size
from headwater.sql import run

if TYPE_CHECKING:
    import duckdb

    from headwater.lake import Lake, Table

NUM_SAMPLES = 20
SAMPLE_CHARACTERS = 600
MAX_SAMPLE_BYTES = 1_000_000
"""Documents above this are not sampled: their whole text would be read for its first lines."""
MAX_BARS = 12
CURVE_POINTS = 360
"""Half the chart's width: one point per two units of its drawing."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A document shown on the page; ``rules`` are those that dropped it (``?`` marks an unknown one)."""

    doc_id: str
    source: str
    path: str
    text_bytes: int | None
    rules: tuple[str, ...]
    text: str
    cut: bool


@dataclass(frozen=True, kw_only=True)
class TopCluster:
    """A large near-duplicate cluster, the member that was kept, and a few that were not."""

    cluster_id: str
    size: int
    kept: tuple[str, ...]
    others: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Distributions:
    """Everything about candidates that one pass over ids and signals gives."""

    lengths: tuple[tuple[str, int, int], ...]
    licenses: tuple[Bar, ...]
    tiers: tuple[Bar, ...]
    sources: tuple[Bar, ...]
    num_sources: int
    kept: tuple[Sample, ...]
    dropped: tuple[Sample, ...]
    clusters: tuple[TopCluster, ...]
    num_clusters: int
    num_clustered: int


@dataclass(frozen=True, kw_only=True)
class Training:
    """The last training run's loss curve."""

    run_id: str
    points: tuple[tuple[float, float], ...]
    num_steps: int
    last_step: int
    checkpoints: tuple[int, ...]


def distributions(lake: Lake, facts: Decided) -> Distributions:
    """Histograms, samples and clusters of the candidates, split into kept and dropped."""
    with connection() as con:
        _load_candidates(con, lake, facts)
        licensed = _load_licenses(con, lake, facts)
        clustered = _load_clusters(con, lake, facts)
        return Distributions(
            lengths=tuple(_lengths(con)),
            licenses=tuple(_bars(con, "license_spdx")) if licensed else (),
            tiers=tuple(_bars(con, "license_tier")) if licensed else (),
            sources=tuple(_bars(con, "source")),
            num_sources=int(one(con, "select count(distinct source) from candidates")[0]),
            kept=tuple(_samples(con, facts, _KEPT)),
            dropped=tuple(_samples(con, facts, _DROPPED)),
            clusters=tuple(_clusters(con, lake)) if clustered else (),
            num_clusters=int(one(con, "select count(*) from sizes")[0]) if clustered else 0,
            num_clustered=int(one(con, "select coalesce(sum(n), 0)::bigint from sizes")[0])
            if clustered
            else 0,
        )


def training(lake: Lake) -> Training | None:
    """The loss of the run that logged last; ``None`` before any training."""
    steps = open_optional(lake, "training_steps")
    if steps is None or not steps.num_rows:
        return None
    run_ids = steps.to_arrow(columns=["run_id"]).column(0)
    run_id = str(run_ids[len(run_ids) - 1].as_py())
    only = f"run_id = {literal(run_id)}"
    with connection() as con:
        run(con, "create temp table runs (attempt bigint, start_step bigint)")
        runs = open_optional(lake, "training_runs")
        if runs is not None:
            load(con, "runs", runs, ["attempt", "start_step"], filter=only)
        load(con, "steps", steps, ["attempt", "step", "loss"], filter=only)
        points = run(con, _LIVE_LOSS)
    saved = open_optional(lake, "checkpoints")
    checkpoints = saved.to_arrow(columns=["step"], filter=only).column(0).to_pylist() if saved else []
    return Training(
        run_id=run_id,
        points=tuple(thin([(step, loss) for step, loss in points if loss is not None], CURVE_POINTS)),
        num_steps=len(points),
        last_step=int(points[-1][0]),
        checkpoints=tuple(sorted(set(checkpoints))),
    )


_LIVE_LOSS = """
    select step, arg_max(case when isfinite(loss) then loss end, attempt) from steps
    where not exists (select 1 from runs where runs.attempt > steps.attempt and runs.start_step < step)
    group by step order by step
"""
"""A resumed run is a new attempt: what it went back behind does not count."""


def lineage(lake: Lake, table: Table) -> list[tuple[int, Node]]:
    """The lineage as (depth, node), each version once: of the packed sequences, if any, then of ``table``."""
    packed = open_optional(lake, "sequences")
    tops = [tree(lake, top) for top in (packed, table) if top is not None]
    shown: dict[str, tuple[int, Node]] = {}
    for top in tops:
        _collect(top, 0, shown)
    return list(shown.values())


def _collect(node: Node, depth: int, shown: dict[str, tuple[int, Node]]) -> None:
    if str(node.ref) not in shown:
        shown[str(node.ref)] = (depth, node)
        for parent in node.inputs:
            _collect(parent, depth + 1, shown)


def _load_candidates(con: duckdb.DuckDBPyConnection, lake: Lake, facts: Decided) -> None:
    """``candidates``: every document of the base table with its size and what became of it."""
    known = [c for c in ("doc_id", "source", "path", "text_bytes") if c in facts.base.schema.names]
    load(con, "base", facts.base, known)
    load(con, "kept", facts.table, ["doc_id"])
    load_decisions(con, "dropped", lake, facts)
    missing = ", ".join(f"null as {c}" for c in ("source", "path", "text_bytes") if c not in known)
    run(
        con,
        f"""
        create temp table candidates as
        select base.*, {missing + "," if missing else ""} k.doc_id is not null as is_kept,
               coalesce(d.failed, []) as failed, coalesce(d.unknown, []) as unknown
        from base left join kept k using (doc_id) left join dropped d using (doc_id)
        """,
    )


def _load_licenses(con: duckdb.DuckDBPyConnection, lake: Lake, facts: Decided) -> bool:
    """Add what was concluded about licenses, at the version the rules saw."""
    table = _input(lake, facts, "license_concluded")
    wanted = ["doc_id", "license_spdx", "license_tier"]
    if table is None or not set(wanted) <= set(table.schema.names):
        return False
    load(con, "licenses", table, wanted)
    run(
        con,
        "create or replace temp table candidates as select c.*, l.license_spdx, l.license_tier "
        "from candidates c left join licenses l using (doc_id)",
    )
    return True


def _load_clusters(con: duckdb.DuckDBPyConnection, lake: Lake, facts: Decided) -> bool:
    table = _input(lake, facts, "duplicate_clusters")
    if table is None:
        return False
    load(con, "clusters", table, ["doc_id", "cluster_id"])
    run(
        con,
        "create temp table sizes as select cluster_id, count(*) as n from clusters "
        "where cluster_id is not null group by cluster_id having count(*) > 1",
    )
    return True


def _input(lake: Lake, facts: Decided, bare: str) -> Table | None:
    for ref in facts.table.provenance.inputs:
        if ref.name.rpartition(".")[2] == bare and ref.version:
            return lake.table(ref.name, version=ref.version)
    return open_optional(lake, bare)


def _lengths(con: duckdb.DuckDBPyConnection) -> Iterable[tuple[str, int, int]]:
    """Documents by powers of two of their bytes; labels are lower edges."""
    found = con.execute(
        "select floor(log2(greatest(text_bytes, 1)))::int as bin, count(*) filter (is_kept), "
        "count(*) filter (not is_kept) from candidates where text_bytes is not null group by 1 order by 1"
    ).fetchall()
    if not found:
        return
    counted = {b: (kept, dropped) for b, kept, dropped in found}
    for b in range(found[0][0], found[-1][0] + 1):
        kept, dropped = counted.get(b, (0, 0))
        yield _binary_size(b), kept, dropped


def _binary_size(power: int) -> str:
    unit = min(power // 10, 3)
    return f"{2 ** (power - 10 * unit)} {('B', 'KiB', 'MiB', 'GiB')[unit]}"


def _bars(con: duckdb.DuckDBPyConnection, column: str) -> Iterable[Bar]:
    """The most frequent values of a column with how many of their documents were kept; the rest as one."""
    found = con.execute(
        f"select coalesce(nullif({column}, ''), '(none)') as value, count(*) as n, "
        "count(*) filter (is_kept) as kept, coalesce(sum(text_bytes), 0)::bigint as bytes "
        "from candidates group by 1 order by n desc, value"
    ).fetchall()
    shown, rest = found[:MAX_BARS], found[MAX_BARS:]
    for value, n, kept, text_bytes in shown:
        yield Bar(label=value, value=n, inner=kept, note=_note(n, kept, text_bytes))
    if rest:
        # No bar: together they are often more than the longest one, which would make that one a hair.
        totals = [sum(row[i] for row in rest) for i in (1, 2, 3)]
        yield Bar(label=f"{len(rest):,} more", value=0, inner=0, note=_note(*totals))


def _note(n: int, kept: int, text_bytes: int) -> str:
    return f"{count(n)} · {size(text_bytes)} · {share(kept, n)} kept"


_KEPT = f"""
    select doc_id, source, path, text_bytes, failed, unknown from candidates
    where is_kept and coalesce(text_bytes, 0) <= {MAX_SAMPLE_BYTES} order by doc_id limit {NUM_SAMPLES}
"""
"""Ids are hashes, so the lowest ones are a random sample, and the same one for the same content."""
_DROPPED = f"""
    select doc_id, source, path, text_bytes, failed, unknown from (
      select *, row_number() over (partition by failed, unknown order by doc_id) as turn
      from candidates where not is_kept and coalesce(text_bytes, 0) <= {MAX_SAMPLE_BYTES}
    ) order by turn, doc_id limit {NUM_SAMPLES}
"""
"""Round robin over the combinations of rules, so that rare reasons are seen too."""


def _samples(con: duckdb.DuckDBPyConnection, facts: Decided, query: str) -> Iterable[Sample]:
    chosen = rows(con, query)
    texts = _texts(facts.base, [row["doc_id"] for row in chosen])
    private = {rule.rule for rule in facts.rules if is_private_rule(rule.rule, rule.columns)}
    for row in chosen:
        rules = (*row["failed"], *(f"{rule}?" for rule in row["unknown"]))
        text = texts.get(row["doc_id"], "")
        if any(is_private(rule) or rule.rstrip("?") in private for rule in rules):
            text = "(withheld: a rule about private data dropped this document)"
        yield Sample(
            doc_id=row["doc_id"].hex(),
            source=row["source"] or "",
            path=row["path"] or "",
            text_bytes=row["text_bytes"],
            rules=rules,
            text=text[:SAMPLE_CHARACTERS],
            cut=len(text) > SAMPLE_CHARACTERS,
        )


def _texts(base: Table, ids: Sequence[bytes]) -> dict[bytes, str]:
    """The first characters of a few documents; full texts are let go batch by batch."""
    if not ids or "text" not in base.schema.names:
        return {}
    found: dict[bytes, str] = {}
    for batch in base.with_text(pa.array(ids, pa.binary(16))):
        pairs = zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True)
        found.update((doc_id, (text or "")[: SAMPLE_CHARACTERS + 1]) for doc_id, text in pairs)
    return found


def _clusters(con: duckdb.DuckDBPyConnection, lake: Lake) -> Iterable[TopCluster]:
    chosen = rows(
        con,
        """
        with top as (select cluster_id, n from sizes order by n desc, cluster_id limit 10)
        select t.cluster_id, t.n,
               arg_min(c.doc_id, c.doc_id, 3) filter (d.is_kept) as kept,
               arg_min(c.doc_id, c.doc_id, 3) filter (not d.is_kept) as others
        from top t join clusters c using (cluster_id) join candidates d using (doc_id)
        group by all order by t.n desc, t.cluster_id
        """,
    )
    named = [doc_id for row in chosen for doc_id in [*(row["kept"] or ()), *(row["others"] or ())]]
    paths = paths_of(lake, named)

    def label(doc_id: bytes) -> str:
        source, path = paths.get(doc_id, (None, None))
        return f"{source}/{path}" if path else doc_id.hex()

    for row in chosen:
        yield TopCluster(
            cluster_id=row["cluster_id"].hex(),
            size=row["n"],
            kept=tuple(label(i) for i in row["kept"] or ()),
            others=tuple(label(i) for i in row["others"] or ()),
        )
