# the names in these queries are ours; every value is a parameter or an escaped literal
"""The funnel of a curated table: what came in, what each rule took, what was kept.

A document counts for every rule it failed, so the rules' numbers overlap; ``only`` counts the documents
that a rule alone stands against, i.e. what dropping that rule would bring back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from headwater.errors import DataMismatch, UsageError
from headwater.lineage import open_optional
from headwater.report.narrow import connection, literal, load, one, rows
from headwater.sql import run

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from headwater.lake import Lake, Table


@dataclass(frozen=True, kw_only=True)
class RuleLoss:
    """One rule of a curated table and what it took. Bytes are bytes of UTF-8 text."""

    rule: str
    expression: str
    description: str
    on_null: str
    max_unknown: float | None
    columns: tuple[str, ...]
    failed: int = 0
    failed_bytes: int = 0
    only: int = 0
    """Documents that failed this rule and no other, with nothing unknown."""
    only_bytes: int = 0
    unknown: int = 0
    """Documents for which the rule came out NULL."""


@dataclass(frozen=True, kw_only=True)
class Funnel:
    """Documents and bytes from the base table to the curated one. ``*_bytes`` is ``None`` without sizes."""

    table: str
    version: int
    digest: str
    build_id: str
    candidates: str
    documents_in: int
    bytes_in: int | None
    kept: int
    kept_bytes: int | None
    rejected: int
    """Documents that failed at least one rule."""
    rejected_bytes: int | None
    unknown: int
    """Documents that failed no rule but for which at least one was unknown: not kept either."""
    unknown_bytes: int | None
    rules: tuple[RuleLoss, ...]
    quarantined: dict[str, int]
    """What ingest could not read, by reason; never part of ``documents_in``."""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def render(self) -> RichTable:
        """The funnel as a table for ``rich.print``: what came in, what each rule took, what was kept."""
        from headwater.report.terminal import funnel_table

        return funnel_table(self)


@dataclass(frozen=True, kw_only=True)
class Decided:
    """A curated table version together with the build that decided it."""

    table: Table
    build_id: str
    base: Table
    rules: tuple[RuleLoss, ...]
    num_decisions: int
    """Documents that were not kept, as the table's version records it."""

    @property
    def name(self) -> str:
        """The bare name, as it stands in the ``decisions`` table."""
        return self.table.name.rpartition(".")[2]

    @property
    def schema(self) -> str:
        """The lake schema that holds the table and its system tables."""
        return self.table.name.rpartition(".")[0]


def is_curated(table: Table) -> bool:
    """Whether this version was made by rules whose decisions are on record."""
    return bool((table.provenance.extra or {}).get("decisions"))


def decided(lake: Lake, table: Table) -> Decided:
    """The build, base table and rules of a curated version. Raises ``UsageError`` for other tables."""
    extra = table.provenance.extra or {}
    if not extra.get("decisions"):
        raise UsageError(
            f"{table.name}@{table.version} was not made by rules, so there are no decisions to show",
            hint="name a curated table: a model with keep__ columns and `meta: {candidates: …}`",
        )
    build_id = str(extra["decisions"]["build_id"])
    schema, _, bare = table.name.rpartition(".")
    return Decided(
        table=table,
        build_id=build_id,
        base=_base(lake, table, str(extra.get("candidates") or "documents")),
        rules=tuple(_rules(lake, f"{schema}.rules", build_id, bare)),
        num_decisions=int(extra["decisions"]["count"]),
    )


def funnel(lake: Lake, table: str | Table) -> Funnel:
    """Count what each rule took from the base table's documents. Reads ids, rule names and sizes only."""
    opened = lake.table(table) if isinstance(table, str) else table
    facts = decided(lake, opened)
    sized = "text_bytes" in facts.base.schema.names
    with connection() as con:
        load_decisions(con, "dropped", lake, facts)
        load(con, "base", facts.base, ["doc_id", "text_bytes"] if sized else ["doc_id"])
        size = "text_bytes" if sized else "0"
        total = one(con, f"select count(*), coalesce(sum({size}), 0)::bigint from base")
        combinations = rows(
            con,
            f"select failed, unknown, count(*) as n, coalesce(sum({size}), 0)::bigint as bytes "
            "from dropped left join base using (doc_id) group by all order by all",
        )
    return _funnel(facts, combinations, total, sized, _quarantined(lake))


def load_decisions(con: Any, name: str, lake: Lake, facts: Decided) -> None:
    """Load doc_id, failed and unknown of the build behind ``facts`` into the temporary table ``name``.

    Raises ``DataMismatch`` when there are not as many as the table's version recorded.
    """
    decisions = open_optional(lake, f"{facts.schema}.decisions")
    if decisions is None:
        run(con, f'create temp table "{name}" (doc_id blob, failed varchar[], unknown varchar[])')
    else:
        load(
            con,
            name,
            decisions,
            ["table", "doc_id", "failed", "unknown"],
            filter=f"build_id = {literal(facts.build_id)}",
            where=f'"table" = {literal(facts.name)}',
        )
    found = int(one(con, f'select count(*) from "{name}"')[0])
    if found != facts.num_decisions:
        raise DataMismatch(
            f"{facts.table.ref} records {facts.num_decisions:,} decisions, "
            f"{facts.schema}.decisions holds {found:,} of its build {facts.build_id}",
            hint="the decisions were changed after the build; build the table again",
        )


def _funnel(
    facts: Decided,
    combinations: list[dict[str, Any]],
    total: tuple[Any, ...],
    sized: bool,
    quarantined: dict[str, int],
) -> Funnel:
    """Fold the distinct (failed, unknown) lists, which are few, into counts per rule."""
    losses = {rule.rule: dict.fromkeys(_COUNTS, 0) for rule in facts.rules}
    parts = {"rejected": [0, 0], "unknown": [0, 0]}
    for row in combinations:
        failed, unknown, n, size = row["failed"] or [], row["unknown"] or [], row["n"], row["bytes"]
        part = parts["rejected" if failed else "unknown"]
        part[0] += n
        part[1] += size
        for rule in failed:
            loss = losses.setdefault(rule, dict.fromkeys(_COUNTS, 0))
            loss["failed"] += n
            loss["failed_bytes"] += size
            if len(failed) == 1 and not unknown:
                loss["only"] += n
                loss["only_bytes"] += size
        for rule in unknown:
            losses.setdefault(rule, dict.fromkeys(_COUNTS, 0))["unknown"] += n
    known = {rule.rule: rule for rule in facts.rules}
    rules = tuple(
        replace(known.get(name) or _unlisted(name), **counts)  # type: ignore[arg-type]  # all ints
        for name, counts in losses.items()
    )
    dropped_bytes = parts["rejected"][1] + parts["unknown"][1]
    return Funnel(
        table=facts.table.name,
        version=facts.table.version,
        digest=facts.table.digest,
        build_id=facts.build_id,
        candidates=str(facts.base.ref),
        documents_in=total[0],
        bytes_in=total[1] if sized else None,
        kept=facts.table.num_rows,
        kept_bytes=total[1] - dropped_bytes if sized else None,
        rejected=parts["rejected"][0],
        rejected_bytes=parts["rejected"][1] if sized else None,
        unknown=parts["unknown"][0],
        unknown_bytes=parts["unknown"][1] if sized else None,
        rules=rules,
        quarantined=quarantined,
    )


_COUNTS = ("failed", "failed_bytes", "only", "only_bytes", "unknown")


def _unlisted(name: str) -> RuleLoss:
    """A rule that decisions name but the ``rules`` table does not list: shown rather than lost."""
    return RuleLoss(rule=name, expression="", description="", on_null="", max_unknown=None, columns=())


def _base(lake: Lake, table: Table, candidates: str) -> Table:
    """The base table at the version that this one was built from, or the latest where none is recorded."""
    bare = candidates.rpartition(".")[2]
    for ref in table.provenance.inputs:
        if ref.name == candidates or ref.name.rpartition(".")[2] == bare:
            return lake.table(ref.name, version=ref.version)
    return lake.table(candidates)


def _rules(lake: Lake, name: str, build_id: str, bare: str) -> Iterable[RuleLoss]:
    table = open_optional(lake, name)
    if table is None:
        return
    found = table.to_arrow(filter=f"build_id = {literal(build_id)}")
    for row in found.to_pylist():
        if row["table"].rpartition(".")[2] == bare:
            yield RuleLoss(
                rule=row["rule"],
                expression=row["expression"] or "",
                description=row["description"] or "",
                on_null=row["on_null"] or "",
                max_unknown=row["max_unknown"],
                columns=tuple(row["columns"] or ()),
            )


def _quarantined(lake: Lake) -> dict[str, int]:
    table = open_optional(lake, "raw.quarantine")
    if table is None or not table.num_rows:
        return {}
    with connection() as con:
        load(con, "quarantine", table, ["reason"])
        found = con.execute(
            "select reason, count(*) from quarantine group by all order by 2 desc, 1"
        ).fetchall()
    return {str(reason): int(n) for reason, n in found}
