"""A run's figures for TensorBoard, beside those in the lake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headwater.errors import MissingExtra


class TensorBoardLog:
    """The same figures for TensorBoard. Raises ``MissingExtra`` when its package is not installed."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtra.of("tensorboard", "tensorboard") from error
        self._writer = SummaryWriter(str(folder))

    def step(self, row: Mapping[str, Any], sources: Mapping[str, tuple[int, float | None]]) -> None:
        """A row of ``training_steps``, and what :meth:`SourceLosses.totals` gave."""
        for name in ("loss", "grad_norm", "learning_rate", "tokens_per_second", "mfu", "data_wait_seconds"):
            if row.get(name) is not None:
                self._writer.add_scalar(f"train/{name}", row[name], row["step"])
        for source, (tokens, loss) in sources.items():
            self._writer.add_scalar(f"source_tokens/{source}", tokens, row["step"])
            if loss is not None:
                self._writer.add_scalar(f"source_loss/{source}", loss, row["step"])

    def evaluations(self, step: int, found: Sequence[Mapping[str, Any]]) -> None:
        """What ``evaluate`` gave at a step."""
        for row in found:
            for name in ("loss", "bits_per_byte"):
                self._writer.add_scalar(f"{name}/{row['table']}", row[name], step)

    def close(self) -> None:
        self._writer.close()
