"""What ablations measured, as tables of the lake, and its summary: means over seeds, paired differences."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from headwater.ablate.statistics import Estimate, paired, t_interval
from headwater.errors import UnknownName, UsageError
from headwater.lake import Provenance
from headwater.lineage import open_optional
from headwater.report.narrow import literal

if TYPE_CHECKING:
    from headwater.lake import Lake

BITS_PER_BYTE = "bits_per_byte"
ACCURACY = "accuracy"
ALL_PAIRS = "minimal pairs"

_AT = pa.timestamp("us", tz="UTC")
ABLATIONS = pa.schema(
    {
        "ablation_id": pa.string(),
        "arms": pa.list_(
            pa.struct(
                {
                    "arm": pa.string(),
                    "digest": pa.string(),
                    "documents": pa.int64(),
                    "text_bytes": pa.int64(),
                    "rules": pa.list_(pa.string()),
                }
            )
        ),
        "seeds": pa.list_(pa.int64()),
        "base": pa.string(),
        "curated": pa.string(),
        "held_out": pa.string(),
        "clusters": pa.string(),
        "tokenizer_id": pa.string(),
        "tokenizer_from": pa.string(),
        "sequence_length": pa.int64(),
        "tokens": pa.int64(),
        "steps": pa.int64(),
        "recipe": pa.string(),
        "config": pa.string(),
        "parameters": pa.int64(),
        "chars_per_token": pa.float64(),
        "set_bytes": pa.string(),
        "pairs": pa.string(),
        "at": _AT,
    }
)
"""One row for each ablation as it was asked for. ``base``, ``curated``, ``held_out`` and ``clusters`` are
``table@version digest``; ``config``, ``set_bytes`` (bytes of text by held-out set) and ``pairs`` (by kind)
are JSON."""

RESULTS = pa.schema(
    {
        "ablation_id": pa.string(),
        "arm": pa.string(),
        "arm_digest": pa.string(),
        "seed": pa.int64(),
        "run_id": pa.string(),
        "table": pa.string(),
        "version": pa.int64(),
        "digest": pa.string(),
        "tokens": pa.int64(),
        "distinct_tokens": pa.int64(),
        "tokens_per_second": pa.float64(),
        "measure": pa.string(),
        "part": pa.string(),
        "value": pa.float64(),
        "count": pa.int64(),
        "at": _AT,
    }
)
"""One row for each arm, seed and measure. ``count`` is bytes of text or pairs. ``distinct_tokens`` is null
where the arm holds more tokens than the training takes: then none was repeated."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One arm under one measure; ``difference`` is against the first arm, seed by seed."""

    arm: str
    value: Estimate
    difference: Estimate | None
    seeds: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A measure over all arms; lower is better for bits per byte, higher for accuracy."""

    measure: str
    part: str
    count: int
    arms: tuple[Measured, ...]


@dataclass(frozen=True, kw_only=True)
class ArmFacts:
    """What an arm was: its documents and text, and how often the training went over its tokens."""

    arm: str
    digest: str
    documents: int
    text_bytes: int | None
    rules: tuple[str, ...]
    epochs: float | None
    """Tokens trained on over tokens of the arm; of a larger arm by its bytes and the tokenizer's rate."""
    repeated: bool
    tokens_per_second: float | None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """An ablation as far as it is measured."""

    ablation_id: str
    arms: tuple[ArmFacts, ...]
    seeds: tuple[int, ...]
    measures: tuple[Measure, ...]
    facts: Mapping[str, Any]
    """The row of ``ablations``, without arms."""
    missing: int
    """Runs that were asked for and are not measured yet."""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def record(lake: Lake, row: Mapping[str, Any]) -> None:
    """Append the row of an ablation, unless the same stands there already."""
    name = f"{lake.schema}.ablations"
    known = open_optional(lake, name)
    plain = {k: row[k] for k in ABLATIONS.names if k != "at"}
    if known is not None:
        rows = known.to_arrow(filter=f"ablation_id = {literal(str(row['ablation_id']))}").to_pylist()
        if any({k: v for k, v in r.items() if k != "at"} == plain for r in rows[-1:]):
            return
    _append(lake, name, [{**plain, "at": datetime.now(UTC)}], ABLATIONS)


def record_results(lake: Lake, rows: Sequence[Mapping[str, Any]]) -> None:
    """Append the measures of one run."""
    now = datetime.now(UTC)
    _append(lake, f"{lake.schema}.ablation_results", [{**row, "at": now} for row in rows], RESULTS)


def finished(lake: Lake, ablation_id: str) -> set[tuple[str, int]]:
    """``(digest of the arm, seed)`` of the runs that are measured."""
    table = open_optional(lake, f"{lake.schema}.ablation_results")
    if table is None:
        return set()
    rows = table.to_arrow(["arm_digest", "seed"], filter=f"ablation_id = {literal(ablation_id)}")
    return set(zip(rows["arm_digest"].to_pylist(), rows["seed"].to_pylist(), strict=True))


def outcome(lake: Lake, ablation_id: str | None = None) -> Outcome:
    """Summarize an ablation, the last one by default; an id may be cut short.

    Raises ``UsageError`` when the lake has none, ``UnknownName`` for an id that it does not have.
    """
    table = open_optional(lake, f"{lake.schema}.ablations")
    if table is None:
        raise UsageError(
            f"no ablation is recorded in {lake.uri}", hint="headwater ablate raw python_textbook"
        )
    asked = table.to_arrow().to_pylist()
    same = [r for r in asked if r["ablation_id"].startswith(ablation_id or "")]
    if not same:
        raise UnknownName.of("ablation", ablation_id, {r["ablation_id"] for r in asked}, where=table.name)
    last = max(same, key=lambda r: r["at"])
    rows = _rows(lake, last["ablation_id"])
    return summarize(last, rows)


def summarize(row: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> Outcome:
    """From the row of ``ablations`` and its rows of ``ablation_results``; seeds are those asked for last."""
    arms = row["arms"]
    digests = {a["digest"]: a["arm"] for a in arms}
    seeds = set(row["seeds"])
    kept = [r for r in results if r["arm_digest"] in digests and r["seed"] in seeds]
    values: dict[tuple[str, str], dict[str, dict[int, float]]] = {}
    counts: dict[tuple[str, str], int] = {}
    for r in kept:
        key = (r["measure"], r["part"])
        values.setdefault(key, {}).setdefault(digests[r["arm_digest"]], {})[r["seed"]] = r["value"]
        counts[key] = r["count"]
    measures = []
    for (measure, part), by_arm in values.items():
        first = by_arm.get(arms[0]["arm"], {})
        found = tuple(
            Measured(
                arm=a["arm"],
                value=t_interval([by_arm[a["arm"]][s] for s in sorted(by_arm[a["arm"]])]),
                difference=paired(first, by_arm[a["arm"]]) if i else None,
                seeds=dict(sorted(by_arm[a["arm"]].items())),
            )
            for i, a in enumerate(arms)
            if a["arm"] in by_arm
        )
        measures.append(Measure(measure=measure, part=part, count=counts[measure, part], arms=found))
    facts = {k: v for k, v in row.items() if k not in ("arms", "ablation_id", "seeds")}
    for name in ("config", "set_bytes", "pairs"):
        facts[name] = json.loads(facts[name])
    done = {(r["arm_digest"], r["seed"]) for r in kept}
    return Outcome(
        ablation_id=row["ablation_id"],
        arms=tuple(_arm_facts(a, row, kept) for a in arms),
        seeds=tuple(row["seeds"]),
        measures=tuple(sorted(measures, key=_place)),
        facts=facts,
        missing=len(arms) * len(seeds) - len(done),
    )


def _arm_facts(
    arm: Mapping[str, Any], row: Mapping[str, Any], results: Sequence[Mapping[str, Any]]
) -> ArmFacts:
    own = [r for r in results if r["arm_digest"] == arm["digest"]]
    distinct = next((r["distinct_tokens"] for r in own if r["distinct_tokens"] is not None), None)
    whole = distinct
    if whole is None and arm["text_bytes"] and row["chars_per_token"]:
        whole = arm["text_bytes"] / row["chars_per_token"]
    rates = [r["tokens_per_second"] for r in own if r["tokens_per_second"]]
    return ArmFacts(
        arm=arm["arm"],
        digest=arm["digest"],
        documents=arm["documents"],
        text_bytes=arm["text_bytes"],
        rules=tuple(arm["rules"] or ()),
        epochs=row["tokens"] / whole if whole else None,
        repeated=distinct is not None and distinct < row["tokens"],
        tokens_per_second=sum(rates) / len(rates) if rates else None,
    )


def _place(measure: Measure) -> tuple[int, int, str]:
    """Bits per byte first, then all pairs, then their kinds."""
    return (measure.measure != BITS_PER_BYTE, measure.part not in (ALL_PAIRS, "raw"), measure.part)


def _rows(lake: Lake, ablation_id: str) -> list[dict[str, Any]]:
    table = open_optional(lake, f"{lake.schema}.ablation_results")
    if table is None:
        return []
    found = table.to_arrow(filter=f"ablation_id = {literal(ablation_id)}").to_pylist()
    return sorted(found, key=lambda r: r["at"])  # a run that was measured twice counts once, the last time


def _append(lake: Lake, name: str, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> None:
    table = pa.Table.from_pylist([dict(r) for r in rows], schema)
    lake.write(name, table, mode="append", provenance=Provenance(kind="log"))
