# the names in these queries are ours; every value is a parameter or an escaped literal
"""What changed between two versions of a table, for a person who reviews a pull request.

Ids, sizes and rule names only: text is never read. Works across targets (``dev:table`` against
``prod:table``) and between versions of one table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from headwater.errors import LakeError, UnknownName
from headwater.lineage import open_optional, open_ref
from headwater.report.losses import Funnel, decided, funnel, is_curated, load_decisions
from headwater.report.narrow import connection, load, one, rows
from headwater.sql import run

if TYPE_CHECKING:
    import duckdb

    from headwater.lake import Lake, Table

MAX_SAMPLES = 20
"""Documents named on either side."""
MAX_VALUES = 15
"""Values of a histogram that are spelled out, those that changed most."""
HISTOGRAMS = ("source", "license_tier", "license_spdx", "license_declared", "origin")
"""Columns whose values are counted, where both tables have them."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two versions."""

    table: str
    version: int
    digest: str
    build_id: str
    num_rows: int
    text_bytes: int | None
    """UTF-8 bytes of the documents' text; ``None`` where no table says."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A document that is in one version only."""

    doc_id: str
    source: str | None
    path: str | None
    text_bytes: int | None
    because: str
    """``new document`` / ``document gone``, or the rules it fails (or is unknown to) on the other side."""


@dataclass(frozen=True, kw_only=True)
class Reason:
    """How many documents changed sides, and why."""

    because: str
    documents: int


@dataclass(frozen=True, kw_only=True)
class RuleChange:
    """One rule before and after. ``None`` where that side does not have the rule."""

    rule: str
    failed: tuple[int | None, int | None]
    unknown: tuple[int | None, int | None]
    only: tuple[int | None, int | None]
    expression: tuple[str | None, str | None]

    @property
    def rewritten(self) -> bool:
        """Whether the rule is new, gone, or says something else."""
        return self.expression[0] != self.expression[1]


@dataclass(frozen=True, kw_only=True)
class CountChange:
    """Documents with one value of a column, before and after."""

    column: str
    value: str
    before: int
    after: int


@dataclass(frozen=True, kw_only=True)
class InputChange:
    """An input whose version differs; ``None`` where that side does not have it."""

    table: str
    before: int | None
    after: int | None
    same_content: bool


@dataclass(frozen=True, kw_only=True)
class Diff:
    """Everything that changed from ``a`` to ``b``."""

    a: Side
    b: Side
    same_content: bool
    added: int
    removed: int
    added_samples: tuple[Sample, ...]
    removed_samples: tuple[Sample, ...]
    added_reasons: tuple[Reason, ...]
    removed_reasons: tuple[Reason, ...]
    rules: tuple[RuleChange, ...]
    counts: tuple[CountChange, ...]
    inputs: tuple[InputChange, ...]
    funnels: tuple[Funnel | None, Funnel | None]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def to_markdown(self) -> str:
        """A comment for a pull request."""
        from headwater.report.markdown import diff_markdown

        return diff_markdown(self)


def diff(lake: Lake, a: str | Table, b: str | Table) -> Diff:
    """Compare two versions, written ``table``, ``table@version``, ``schema:table`` or ``…@approved``."""
    before = open_ref(lake, a) if isinstance(a, str) else a
    after = open_ref(lake, b) if isinstance(b, str) else b
    funnels = tuple(funnel(lake, table) if is_curated(table) else None for table in (before, after))
    with connection() as con:
        sizes = [_load_side(con, lake, name, table) for name, table in (("a", before), ("b", after))]
        keyed = _keyed(before) and _keyed(after)
        if keyed:
            for name, table in (("a", before), ("b", after)):
                _load_decisions(con, f"decisions_{name}", lake, table)
        added = _moved(con, "b", "a", "new document") if keyed else _NOTHING
        removed = _moved(con, "a", "b", "document gone") if keyed else _NOTHING
        counts = tuple(_counts(con, before, after))
    return Diff(
        a=_side(before, sizes[0]),
        b=_side(after, sizes[1]),
        same_content=before.digest == after.digest,
        added=added[0],
        removed=removed[0],
        added_samples=added[1],
        removed_samples=removed[1],
        added_reasons=added[2],
        removed_reasons=removed[2],
        rules=tuple(_rules(funnels[0], funnels[1])),
        counts=counts,
        inputs=tuple(_inputs(before, after)),
        funnels=(funnels[0], funnels[1]),
    )


def previous(lake: Lake, name: str) -> str:
    """``table@version`` of the last version whose content is not that of the latest one.

    Raises ``UnknownName`` when the table never held anything else.
    """
    latest = open_ref(lake, name)
    recorded = lake.versions(latest.name).select(["version", "digest"]).to_pylist()
    earlier = [row["version"] for row in recorded if row["digest"] != latest.digest]
    if not earlier:
        raise UnknownName(
            f"{latest.name} has only ever held what it holds now (version {latest.version})",
            hint="name two versions, or two schemas: headwater diff prod:TABLE dev:TABLE",
        )
    return f"{latest.name}@{max(earlier)}"


_NOTHING: tuple[int, tuple[Sample, ...], tuple[Reason, ...]] = (0, (), ())


def _keyed(table: Table) -> bool:
    return "doc_id" in table.schema.names


def _side(table: Table, text_bytes: int | None) -> Side:
    return Side(
        table=table.name,
        version=table.version,
        digest=table.digest,
        build_id=table.provenance.build_id or "",
        num_rows=table.num_rows,
        text_bytes=text_bytes,
    )


def _base(lake: Lake, table: Table) -> Table | None:
    """The table that knows source, path and size of the documents."""
    if is_curated(table):
        try:
            return decided(lake, table).base
        except (UnknownName, LakeError):
            pass  # clean-up removed that version; the latest one still names most documents
    return open_optional(lake, "documents")


def _load_side(con: duckdb.DuckDBPyConnection, lake: Lake, name: str, table: Table) -> int | None:
    """Load the ids and counted columns of one side, and its documents' names and sizes."""
    columns = [c for c in ("doc_id", *HISTOGRAMS) if c in table.schema.names]
    if not columns:
        return None
    load(con, name, table, columns)
    run(con, f"create temp table named_{name} (doc_id blob, source varchar, path varchar, text_bytes bigint)")
    base = _base(lake, table)
    if base is None or not _keyed(table):
        return None
    wanted = ["doc_id", "source", "path", "text_bytes"]
    known = [c for c in wanted if c in base.schema.names]
    load(con, "_base", base, known)
    run(con, f"insert into named_{name} by name select {', '.join(known)} from _base")
    run(con, "drop table _base")
    if "text_bytes" not in known:
        return None
    total = f"select coalesce(sum(n.text_bytes), 0)::bigint from {name} join named_{name} n using (doc_id)"
    return int(one(con, total)[0])


def _load_decisions(con: duckdb.DuckDBPyConnection, name: str, lake: Lake, table: Table) -> None:
    """The side's decisions; an empty table for one that was not made by rules."""
    if is_curated(table):
        load_decisions(con, name, lake, decided(lake, table))
    else:
        run(con, f"create temp table {name} (doc_id blob, failed varchar[], unknown varchar[])")


def _moved(
    con: duckdb.DuckDBPyConnection, here: str, there: str, otherwise: str
) -> tuple[int, tuple[Sample, ...], tuple[Reason, ...]]:
    """Documents in ``here`` that ``there`` does not hold: number, samples, reasons (``there``'s rules)."""
    run(
        con,
        f"""
        create or replace temp table moved as
        select x.doc_id, n.source, n.path, n.text_bytes,
          case
            when d.doc_id is not null then
              list_aggregate(list_concat(
                list_sort(coalesce(d.failed, [])),
                list_transform(list_sort(coalesce(d.unknown, [])), lambda r: r || ' unknown')
              ), 'string_agg', ', ')
            when o.doc_id is not null then 'in the base table, no decision on record'
            else '{otherwise}'
          end as because
        from {here} x
        anti join {there} y using (doc_id)
        left join named_{here} n using (doc_id)
        left join named_{there} o using (doc_id)
        left join decisions_{there} d using (doc_id)
        """,
    )
    number = int(one(con, "select count(*) from moved")[0])
    samples = rows(
        con,
        "select lower(hex(doc_id)) as doc_id, source, path, text_bytes, because "
        f"from moved order by hash(doc_id), doc_id limit {MAX_SAMPLES}",
    )
    reasons = rows(
        con,
        "select because, count(*) as documents from moved group by all "
        f"order by documents desc, because limit {MAX_SAMPLES}",
    )
    return (
        number,
        tuple(Sample(**row) for row in sorted(samples, key=_place)),
        tuple(Reason(**row) for row in reasons),
    )


def _place(sample: dict[str, Any]) -> tuple[str, str, str]:
    return (sample["source"] or "", sample["path"] or "", sample["doc_id"])


def _counts(con: duckdb.DuckDBPyConnection, before: Table, after: Table) -> Iterable[CountChange]:
    for column in HISTOGRAMS:
        if column not in before.schema.names or column not in after.schema.names:
            continue
        changed = rows(
            con,
            f"""
            select coalesce(x.value, y.value) as value,
                   coalesce(x.n, 0) as before, coalesce(y.n, 0) as after
            from (select coalesce("{column}", '(none)') as value, count(*) as n from a group by all) x
            full join (select coalesce("{column}", '(none)') as value, count(*) as n from b group by all) y
              on x.value = y.value
            where coalesce(x.n, 0) <> coalesce(y.n, 0)
            order by abs(coalesce(y.n, 0) - coalesce(x.n, 0)) desc, value
            limit {MAX_VALUES}
            """,
        )
        yield from (CountChange(column=column, **row) for row in changed)


def _rules(a: Funnel | None, b: Funnel | None) -> Iterable[RuleChange]:
    before = {rule.rule: rule for rule in a.rules} if a else {}
    after = {rule.rule: rule for rule in b.rules} if b else {}
    for name in [*after, *(name for name in before if name not in after)]:
        x, y = before.get(name), after.get(name)
        yield RuleChange(
            rule=name,
            failed=(x.failed if x else None, y.failed if y else None),
            unknown=(x.unknown if x else None, y.unknown if y else None),
            only=(x.only if x else None, y.only if y else None),
            expression=(x.expression if x else None, y.expression if y else None),
        )


def _inputs(before: Table, after: Table) -> Iterable[InputChange]:
    """Inputs that differ, matched by bare name so that two targets compare."""
    x = {ref.name.rpartition(".")[2]: ref for ref in before.provenance.inputs}
    y = {ref.name.rpartition(".")[2]: ref for ref in after.provenance.inputs}
    for name in sorted({*x, *y}):
        p, q = x.get(name), y.get(name)
        if p != q:
            yield InputChange(
                table=name,
                before=p.version if p else None,
                after=q.version if q else None,
                same_content=p is not None and q is not None and p.digest == q.digest,
            )
