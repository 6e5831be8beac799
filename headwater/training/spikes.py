"""Loss spikes: when the loss jumps, and the documents it came with.

Shapes: C sequences of a step, S segments (documents) of a sequence.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from headwater.trace import trace_step

if TYPE_CHECKING:
    from headwater.lake import Lake, Table

WINDOW = 64
"""Steps that tell how much the loss varies from one to the next."""
RECENT = 16
"""Steps whose median is what the next loss is expected to be: few, so that it follows a falling curve."""
DEVIATIONS = 6.0
"""Robust standard deviations above what is expected. Measured with these windows: of normal noise 1 step in
400,000 goes there, of noise with Student's t distribution (5 degrees of freedom) 7 in 10,000."""
LEAST_RISE = 0.02
"""Part of the expected loss that a spike rises at least, where the loss hardly varies at all."""
NORMAL = 1.4826
"""Standard deviations of normal noise in its median absolute deviation (1 / 0.6745)."""

MOST_DOCUMENTS = 20


class SpikeDetector:
    """Says which loss is a spike: far above the median of the last ones, for how much they vary.

    The scale is the median absolute *difference* of neighbouring losses, not their deviation from a
    median: a curve that falls, however steeply, is no noise. Spikes join the window like any loss (medians
    bear them), and a loss that stays high is told once, when it rises. State: the last 64 losses.
    """

    def __init__(self) -> None:
        self._losses: deque[float] = deque(maxlen=WINDOW)
        self._high = False
        self.expected = float("nan")

    def __call__(self, loss: float) -> bool:
        """True when ``loss`` begins a spike; ``expected`` then says what was expected in its place."""
        losses = np.array(self._losses)
        if math.isfinite(loss):
            self._losses.append(loss)
        if len(losses) < RECENT:
            return False
        self.expected = float(np.median(losses[-RECENT:]))
        # A difference of two has sqrt(2) of the noise of one.
        noise = NORMAL * float(np.median(np.abs(np.diff(losses)))) / 2**0.5
        rise = max(DEVIATIONS * noise, LEAST_RISE * abs(self.expected))
        was, self._high = self._high, not loss <= self.expected + rise
        return self._high and not was


def worst_documents(
    table: Table,
    first_sequence: int,
    sums: npt.NDArray[np.float64],
    predicted: npt.NDArray[np.float64],
    most: int = MOST_DOCUMENTS,
) -> list[dict[str, Any]]:
    """The pieces of documents in a step by what they added to its loss, the most first.

    Returns rows of ``loss_spikes.documents``: ``doc_id`` (hex), ``source``, ``sequence_index``, ``start``,
    ``tokens`` and ``loss`` (mean over the piece's predicted tokens, in nats). They are ordered by the loss
    that they added above the step's mean: a short odd piece weighs little.

    Parameters
    ----------
    sums, predicted:
        (C, S): summed loss and predicted tokens of each segment, as the trainer's ``segment_losses`` gives.
    """
    rows = list(range(first_sequence, first_sequence + len(sums)))
    spans = table.dataset.take(rows, columns=["spans"])["spans"].to_pylist()
    known = np.isfinite(sums)
    excess = sums - sums[known].sum() / max(predicted[known].sum(), 1.0) * predicted
    excess = np.where(known, excess, np.inf)  # not a number: worse than any
    excess = np.where(predicted > 0, excess, -np.inf)
    best = np.argsort(-excess, axis=None, kind="stable")[:most]
    found = []
    for row, segment in zip(*np.unravel_index(best, excess.shape), strict=True):
        targets = float(predicted[row, segment])
        if segment >= len(spans[row]) or not targets:
            continue
        span = spans[row][segment]
        found.append(
            {
                "doc_id": span["doc_id"].hex(),
                "source": span["source"],
                "sequence_index": rows[row],
                "start": span["start"],
                "tokens": span["length"],
                "loss": float(sums[row, segment]) / targets,
            }
        )
    return found


def documents_of_spike(lake: Lake, run_id: str, step: int) -> list[dict[str, Any]]:
    """The documents of a logged step, the largest share first: what can be told without its losses."""
    return sorted(trace_step(lake, step, run_id).rows, key=lambda row: -row["share"])
