"""From a model's answers to measures: bits per byte by held-out set, accuracy by kind of pair."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from headwater.ablate.results import ACCURACY, ALL_PAIRS, BITS_PER_BYTE

if TYPE_CHECKING:
    from headwater.ablate.questions import Questions

LN2 = 0.6931471805599453


def measures_of(questions: Questions, answers: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of ``measure, part, value, count``; ties are half right."""
    texts = questions.texts
    sizes = texts["text_bytes"].to_pylist()
    totals: dict[str, list[float]] = {}
    for sets, size, nats in zip(texts["sets"].to_pylist(), sizes, answers["nats"], strict=True):
        for one in sets:
            total = totals.setdefault(one, [0.0, 0.0])
            total[0] += nats
            total[1] += size
    rows: list[dict[str, Any]] = [
        {"measure": BITS_PER_BYTE, "part": one, "value": nats / LN2 / size, "count": int(size)}
        for one, (nats, size) in totals.items()
    ]
    right: dict[str, list[float]] = {}
    kinds = questions.pairs["kind"].to_pylist()
    for kind, real, mutant in zip(kinds, answers["real"], answers["mutant"], strict=True):
        point = 1.0 if real < mutant else 0.5 if real == mutant else 0.0
        for part in (ALL_PAIRS, kind):
            right.setdefault(part, []).append(point)
    rows += [
        {"measure": ACCURACY, "part": part, "value": statistics.fmean(points), "count": len(points)}
        for part, points in right.items()
    ]
    return rows
