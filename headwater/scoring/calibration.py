"""From raw scores to expected labels: isotonic regression, and how well that holds."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from headwater.errors import BadInput

Floats = npt.NDArray[np.float64]

MIN_BLOCK = 10
"""Labels that a level of the curve rests on at least: a level of one lucky file would be a promise."""
BINS = 10
"""Bins of equal counts, for the calibration error."""


class Calibration(NamedTuple):
    """A curve through ``knots`` that does not fall: straight between them, level beyond the ends."""

    knots: Floats
    values: Floats

    def __call__(self, raw: npt.ArrayLike) -> Floats:
        """Expected labels. Additions, products and one division, each rounded by itself: the same double
        everywhere."""
        x = np.asarray(raw, dtype=np.float64)
        if len(self.knots) == 1:
            return np.full(x.shape, self.values[0], dtype=np.float64)
        slopes = np.diff(self.values) / np.diff(self.knots)
        place = np.clip(np.searchsorted(self.knots, x, side="right") - 1, 0, len(slopes) - 1)
        moved = np.clip(x, self.knots[0], self.knots[-1]) - self.knots[place]
        return self.values[place] + moved * slopes[place]


def checked(knots: Floats, values: Floats, low: float, high: float) -> Calibration:
    """The curve, or BadInput when it is none."""
    if (
        len(knots) == 0
        or knots.shape != values.shape
        or knots.ndim != 1
        or not (np.isfinite(knots).all() and np.isfinite(values).all())
        or (np.diff(knots) <= 0).any()
        or (np.diff(values) < 0).any()
        or values[0] < low
        or values[-1] > high
    ):
        raise BadInput(
            "a scorer's calibration is no curve",
            hint="knots rise, values do not fall and lie within the scores",
        )
    return Calibration(knots, values)


def isotonic(raw: Floats, labels: Floats, *, min_block: int = MIN_BLOCK) -> Calibration:
    """Fit the curve: pool adjacent violators; then blocks of fewer than ``min_block`` rows join a neighbor.

    A knot of the curve is a block's mean raw score, its value the block's mean label.
    """
    order = np.lexsort((labels, raw))
    x, y = raw[order], labels[order]
    # Equal raw scores are one block from the start: the curve has one value for each.
    _, first = np.unique(x, return_index=True)
    parts = np.append(first, len(x))
    blocks: list[list[float]] = []  # rows, sum of raw scores, sum of labels
    for a, b in pairwise(parts):
        blocks.append([float(b - a), float(x[a:b].sum()), float(y[a:b].sum())])
        while len(blocks) > 1 and blocks[-2][2] / blocks[-2][0] >= blocks[-1][2] / blocks[-1][0]:
            last = blocks.pop()
            blocks[-1] = [p + q for p, q in zip(blocks[-1], last, strict=True)]
    while len(blocks) > 1:
        small = min(range(len(blocks)), key=lambda i: blocks[i][0])
        if blocks[small][0] >= min_block:
            break
        sides = [i for i in (small - 1, small + 1) if 0 <= i < len(blocks)]
        near = min(sides, key=lambda i: abs(_level(blocks[i]) - _level(blocks[small])))
        low, high = sorted((small, near))
        blocks[low] = [p + q for p, q in zip(blocks[low], blocks[high], strict=True)]
        del blocks[high]
    knots = np.array([b[1] / b[0] for b in blocks])
    return Calibration(knots, np.array([_level(b) for b in blocks]))


def _level(block: list[float]) -> float:
    return block[2] / block[0]


def reliability(predicted: Floats, labels: Floats, bins: int = BINS) -> list[dict[str, Any]]:
    """Mean prediction and mean label of ``bins`` bins of equal counts, in the order of the predictions."""
    order = np.argsort(predicted, kind="stable")
    found = []
    for part in np.array_split(order, min(bins, len(order))):
        found.append(
            {
                "num_rows": len(part),
                "predicted": float(predicted[part].mean()),
                "label": float(labels[part].mean()),
                "label_error": float(labels[part].std(ddof=1) / np.sqrt(len(part)))
                if len(part) > 1
                else None,
            }
        )
    return found


def expected_error(bins: list[dict[str, Any]]) -> float:
    """The mean distance between prediction and label over the bins, weighted by their rows."""
    rows = sum(each["num_rows"] for each in bins)
    return float(sum(each["num_rows"] * abs(each["predicted"] - each["label"]) for each in bins) / rows)
