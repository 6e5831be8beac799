"""What would be kept, had a rule or a threshold been another: from stored signals, without a build.

The curated model's own SQL runs once more over the versions that its table was built from, with the asked
rules in the place of its own. Nothing is written and no text is read. Rules that choose between documents
(the best copy of a cluster, a top share) stand in the same SQL, so they are decided again as well.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.errors import UnknownName, UsageError
from headwater.lineage import open_ref
from headwater.project import Project
from headwater.what_if.compiled import Compiled, compiled_models

if TYPE_CHECKING:
    from headwater.lake import Table

SAMPLES = 10
"""Documents shown of each kind, gained and lost."""


@dataclass(frozen=True, kw_only=True)
class Amount:
    """Documents and their size in the unit of the whole answer (``None`` where no table says)."""

    rows: int = 0
    size: int | None = None


@dataclass(frozen=True, kw_only=True)
class SourceChange:
    """What one source gains and loses."""

    source: str
    gained: Amount
    lost: Amount


@dataclass(frozen=True, kw_only=True)
class RuleEffect:
    """One rule as it was and as it is asked about; ``None`` where a side does not have it."""

    rule: str
    change: str
    """``changed``, ``added``, ``dropped``, or empty for a rule that stays."""
    expression: tuple[str | None, str | None]
    failed: tuple[int | None, int | None]
    unknown: tuple[int | None, int | None]
    only: int | None
    """Documents that fail this rule and no other, as it is asked about."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A document that would change sides, with the values that the changed rules read."""

    doc_id: str
    source: str | None
    path: str | None
    size: int | None
    rules: tuple[str, ...]
    """Gained: the rules it failed before. Lost: the rules it fails now; unknown ones end in `` unknown``."""
    values: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class WhatIf:
    """The answer."""

    table: str
    version: int
    digest: str
    unit: str
    """Of every ``size``: ``tokens``, ``bytes of text``, or ``documents`` where neither is stored."""
    candidates: int
    before: Amount
    after: Amount
    gained: Amount
    lost: Amount
    by_source: tuple[SourceChange, ...]
    rules: tuple[RuleEffect, ...]
    gained_samples: tuple[Sample, ...]
    lost_samples: tuple[Sample, ...]
    recomputed: tuple[str, ...]
    """Inputs that were computed again from stored tables, with the setting that changed."""
    notes: tuple[str, ...]
    seconds: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def what_if(
    project: Project | str | Path,
    table: str,
    *,
    rules: Mapping[str, str] | None = None,
    drop: Iterable[str] = (),
    thresholds: Mapping[str, float] | None = None,
    variables: Mapping[str, Any] | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
    memory_limit: str | None = None,
    models: Mapping[str, Compiled] | None = None,
) -> WhatIf:
    """Rows and tokens that ``table`` would gain and lose under other rules or settings.

    Parameters
    ----------
    table: a curated table, ``table``, ``schema.table`` or ``table@version``.
    rules: rule name to predicate; a name that the model does not have is a new rule.
    drop: names of rules to leave out.
    thresholds: ``{"near_duplicate": 0.85}`` is short for the variable ``near_duplicate_threshold``.
    variables: dbt variables to change, as ``--vars`` of a build.
    samples: documents to show of each kind, chosen by ``seeded_hash(doc_id, seed)``.
    memory_limit: DuckDB's, by default that of a build (``HEADWATER_MEMORY``, else 1GB).
    models: the compiled project, for a caller that asks several questions.

    Raises
    ------
    UsageError
        The table is not curated, a predicate is not one condition over stored columns, or the change
        reaches something that stored tables do not hold.
    UnknownName
        No such table, rule, column or variable.
    """
    from headwater.report.losses import decided
    from headwater.what_if.answer import answer
    from headwater.what_if.rows import Rows

    clock = Clock()
    found = project if isinstance(project, Project) else Project.find(project)
    opened = open_ref(found.lake(), table)
    if "decisions" not in (opened.provenance.extra or {}):
        raise UsageError(
            f"{opened.name}@{opened.version} was not made by rules, so there is no rule to change",
            hint="name a curated table: a model with keep__ columns and `meta: {candidates: …}`",
        )
    settings = {**_threshold_variables(thresholds or {}), **(variables or {})}
    asked = {name.removeprefix("keep__"): text for name, text in (rules or {}).items()}
    facts = decided(found.lake(), opened)
    with ThreadPoolExecutor(1) as pool:
        # Sorting ids needs no Python, compiling needs little else.
        rows = pool.submit(Rows, facts.base)
        if models is None:
            with clock("compile"):
                models = compiled_models(found, opened.short_name, settings)
        model = _model(models, opened)
        with clock("ids"):
            ready = rows.result()
    return answer(
        found,
        facts,
        ready,
        model,
        models,
        rules=asked,
        dropped=tuple(drop),
        settings=settings,
        samples=samples,
        seed=seed,
        memory_limit=memory_limit,
        clock=clock,
    )


class Clock:
    """Seconds by the name of the step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - started


def _threshold_variables(thresholds: Mapping[str, float]) -> dict[str, float]:
    found = {}
    for name, value in thresholds.items():
        if not 0 < value <= 1:
            raise UsageError(f"threshold {name} must be above 0 and at most 1, got {value}")
        found[name if name.endswith("_threshold") else f"{name}_threshold"] = value
    return found


def _model(models: Mapping[str, Compiled], table: Table) -> Compiled:
    model = models.get(table.short_name)
    if model is None:
        raise UnknownName.of("model", table.short_name, models, where="the project")
    if model.spec.sql is None:
        raise UsageError(
            f"{table.name} is made by a Python model, whose rules are not SQL",
            hint="write the rules as keep__ columns of a SQL model over its result",
        )
    return model
