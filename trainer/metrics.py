"""Loss by source and by document; the other figures of a run, by one name.

Shapes: B rows of this rank, C of the step over all ranks, L tokens, S segments (documents) of a row.
"""

# ruff: noqa: TID253  (the trainer is about torch)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt
import torch
import torch.distributed as dist

from headwater.training.flops import flops_per_token, mfu, peak_flops
from headwater.training.spikes import SpikeDetector, worst_documents
from headwater.training.tensorboard import TensorBoardLog

__all__ = [
    "SourceLosses", "SpikeDetector", "TensorBoardLog", "flops_per_token", "mfu", "peak_flops",
    "segment_losses", "worst_documents",
]  # fmt: skip


class SourceLosses:
    """Tokens and mean loss of each source in a step; added up on the device, read once a step."""

    def __init__(self, names: Sequence[str], device: torch.device) -> None:
        self.names = list(names)
        # Rows: loss, predicted tokens, tokens. The last column takes padding and what has no name.
        self._sums = torch.zeros(3, len(self.names) + 1, dtype=torch.float64, device=device)

    def add(self, losses: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> None:
        """``losses`` (B, L-1): of each token but the first, 0 where nothing was predicted."""
        segments = batch["segment_ids"].long()
        sources = batch["segment_sources"].long().gather(1, segments.clamp(min=0))
        sources = torch.where((segments < 0) | (sources < 0), len(self.names), sources)
        predicted = batch["labels"][:, 1:] >= 0
        self._sums[0].index_add_(0, sources[:, 1:].flatten(), losses.detach().flatten().double())
        self._sums[1].index_add_(0, sources[:, 1:].flatten(), predicted.flatten().double())
        self._sums[2].index_add_(0, sources.flatten(), torch.ones_like(sources).flatten().double())

    def totals(self) -> dict[str, tuple[int, float | None]]:
        """``{source: (tokens, mean loss)}`` over all ranks since the last call; every rank calls it.

        ``tokens`` add up to the step's; the loss is over those that their document predicts (``None`` when
        there are none). Sources that the step did not see are left out.
        """
        if dist.is_initialized():
            dist.all_reduce(self._sums)
        losses, predicted, tokens = self._sums.tolist()
        self._sums.zero_()
        return {
            name: (int(tokens[i]), losses[i] / predicted[i] if predicted[i] else None)
            for i, name in enumerate(self.names)
            if tokens[i]
        }


def segment_losses(
    losses: torch.Tensor, batch: dict[str, torch.Tensor], rank: int, count: int
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Summed loss and predicted tokens of each document of a step, both (C, S), for ``worst_documents``.

    Every rank calls it with its rows' ``losses`` (B, L-1); row ``i`` is sequence ``first_sequence + i``.
    """
    segments = batch["segment_ids"].long()
    most = segments.max() + 1
    if dist.is_initialized():
        dist.all_reduce(most, op=dist.ReduceOp.MAX)
    width = max(int(most), 1)
    own = torch.zeros(2, len(segments), width + 1, dtype=torch.float64, device=segments.device)
    places = torch.where(segments < 0, width, segments)[:, 1:]  # padding goes into the last column
    own[0].scatter_add_(1, places, losses.detach().double())
    own[1].scatter_add_(1, places, (batch["labels"][:, 1:] >= 0).double())
    both = torch.zeros(2, count, width, dtype=torch.float64, device=segments.device)
    both[:, rank * len(segments) : (rank + 1) * len(segments)] = own[:, :, :-1]
    if dist.is_initialized():
        dist.all_reduce(both)
    sums, predicted = both.cpu().numpy()
    return sums, predicted
