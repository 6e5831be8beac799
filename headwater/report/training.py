# the names in these queries are ours; every value is a parameter
"""What a training run logged beside its loss: by source, on held-out tables, and at spikes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headwater.report.narrow import connection
from headwater.trace.runs import live_rows

if TYPE_CHECKING:
    from headwater.lake import Lake

MOST_CURVES = 6
MOST_SOURCES = 20
MOST_EVALUATIONS = 40
MOST_SPIKES = 10
MOST_DOCUMENTS = 5
BINS = 90
"""Points of a source's curve: each the mean of its steps, by tokens. Single steps of a source are noisy."""


@dataclass(frozen=True, kw_only=True)
class SourceLoss:
    """A source's part in training; ``first`` and ``last`` are its mean loss in the first and last tenth."""

    source: str
    tokens: int
    first: float | None
    last: float | None
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class TrainingDetails:
    """Empty where a run logged none of it."""

    sources: tuple[SourceLoss, ...] = ()
    num_sources: int = 0
    num_tokens: int = 0
    evaluations: tuple[dict[str, Any], ...] = ()
    spikes: tuple[dict[str, Any], ...] = ()
    num_spikes: int = 0

    @property
    def curves(self) -> list[tuple[str, tuple[tuple[float, float], ...]]]:
        """Name and points of the largest sources that make a curve."""
        return [(s.source, s.points) for s in self.sources if len(s.points) > 1][:MOST_CURVES]


def training_details(lake: Lake, run_id: str) -> TrainingDetails:
    """What stands in the log of a run, without what a later attempt went back behind."""
    if not lake.exists("training_runs"):
        return TrainingDetails()
    sources, num_sources, num_tokens = _sources(lake, run_id)
    spikes = live_rows(lake, "loss_spikes", run_id).to_pylist()
    for spike in spikes:
        spike["documents"] = (spike["documents"] or [])[:MOST_DOCUMENTS]
    return TrainingDetails(
        sources=sources,
        num_sources=num_sources,
        num_tokens=num_tokens,
        evaluations=tuple(live_rows(lake, "evaluations", run_id).to_pylist()[-MOST_EVALUATIONS:]),
        spikes=tuple(spikes[-MOST_SPIKES:]),
        num_spikes=len(spikes),
    )


def _sources(lake: Lake, run_id: str) -> tuple[tuple[SourceLoss, ...], int, int]:
    logged = live_rows(lake, "training_sources", run_id)
    if "source" not in logged.schema.names or not logged.num_rows:
        return (), 0, 0
    with connection() as con:
        con.register("logged", logged)
        found = con.sql(_TOTALS).fetchall()
        points: dict[str, list[tuple[float, float]]] = {}
        for source, step, loss in con.sql(_CURVES, params={"bins": BINS, "most": MOST_SOURCES}).fetchall():
            points.setdefault(source, []).append((step, loss))
    rows = tuple(
        SourceLoss(source=name or "", tokens=n, first=first, last=last, points=tuple(points.get(name, ())))
        for name, n, first, last in found[:MOST_SOURCES]
    )
    return rows, len(found), sum(row[1] for row in found)


_TOTALS = """
    with logged as (select * replace (case when isfinite(loss) then loss end as loss) from logged),
    ends as (select min(step) as low, max(step) as high, (max(step) - min(step)) / 10 as tenth from logged)
    select source, sum(tokens)::bigint as tokens,
        sum(loss * tokens) filter (step <= low + tenth)
            / sum(tokens) filter (step <= low + tenth and loss is not null),
        sum(loss * tokens) filter (step >= high - tenth)
            / sum(tokens) filter (step >= high - tenth and loss is not null)
    from logged, ends group by source order by tokens desc, source
"""

_CURVES = """
    with top as (
        select source from logged group by source order by sum(tokens) desc, source limit $most),
    ends as (select min(step) as low, greatest(max(step) - min(step), 1) as span from logged)
    select source, avg(step)::double, sum(loss * tokens) / sum(tokens)
    from logged join top using (source), ends where isfinite(loss) and tokens > 0
    group by source, least(floor((step - low) * $bins / span), $bins - 1) order by 1, 2
"""
