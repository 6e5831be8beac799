"""How well scores agree with labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def ranks(values: npt.ArrayLike) -> Floats:
    """Ranks from 1; equal values share the mean of theirs."""
    array = np.asarray(values, dtype=np.float64)
    _, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[inverse], dtype=np.float64)


def rank_correlation(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Spearman's; 0 where one of the two is constant."""
    x, y = ranks(a), ranks(b)
    x, y = x - x.mean(), y - y.mean()
    length = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / length if length else 0.0


def rmse(a: Floats, b: Floats) -> float:
    """Root of the mean squared difference."""
    return float(np.sqrt(np.mean((a - b) ** 2)))


def at_threshold(scores: Floats, labels: Floats, threshold: float) -> dict[str, Any]:
    """``labels >= threshold`` as found by ``scores``, rounded: those from ``threshold - 0.5`` on.

    ``auc``: the chance that a file at or above the threshold has a higher score than one below it; ``None``
    where there is none of one kind.
    """
    is_wanted, is_found = labels >= threshold, scores >= threshold - 0.5
    positives, found, both = int(is_wanted.sum()), int(is_found.sum()), int((is_wanted & is_found).sum())
    negatives = len(labels) - positives
    auc = None
    if positives and negatives:
        placed = float(ranks(scores)[is_wanted].sum())
        auc = (placed - positives * (positives + 1) / 2) / (positives * negatives)
    return {
        "threshold": threshold,
        "positives": positives,
        "found": found,
        "precision": both / found if found else None,
        "recall": both / positives if positives else None,
        "f1": 2 * both / (found + positives) if found + positives else None,
        "auc": auc,
    }


def kappa(first: npt.ArrayLike, second: npt.ArrayLike) -> float | None:
    """Cohen's kappa with quadratic weights; ``None`` where chance alone would agree."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    seen = float(((a - b) ** 2).mean())
    chance = float(((a[:, None] - b[None, :]) ** 2).mean())
    return 1 - seen / chance if chance else None
