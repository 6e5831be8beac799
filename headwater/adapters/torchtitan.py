"""torchtitan's data loader over a stream: checkpoints without ranks in them.

torchtitan's own loaders key their state by data-parallel rank and refuse to resume on another number of
them. This one keeps a single position, the same on every rank, so a run goes on with any number.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from headwater.errors import UsageError
from headwater.lake import Lake
from headwater.lake.names import read_version
from headwater.streaming import IGNORE, stream

try:
    import torch
    from torchtitan.components.dataloader import BaseDataLoader
except ImportError as error:
    raise UsageError(f"torchtitan is not installed ({error})", hint="pip install torchtitan") from error

STATE_KEY = "headwater"
FIELDS = ("input_ids", "labels", "position_ids")


class StreamDataLoader(BaseDataLoader):  # type: ignore[misc]  # torchtitan is untyped here
    """``Trainer.Config(dataloader=StreamDataLoader.Config(lake="lake"))``.

    Yields ``({"input": (B, L) int64, "positions": (B, L) int64}, labels (B, L) int64)`` with ``B`` the local
    batch size and ``L`` the sequence length of the table. Labels are shifted, as torchtitan wants them: the
    label at *i* is token *i* + 1, and -100 where that token is of another document, padding, or beyond the
    sequence. Positions begin at 0 in each document; torchtitan's flex and varlen attention make document
    masks of them.

    Consecutive batches take consecutive sequences, so with gradient accumulation an optimizer step *s*
    (from 0) trains on ``[s * G, (s + 1) * G)``, ``G`` the global batch size, whatever the number of ranks.
    """

    @dataclass(kw_only=True, slots=True)
    class Config(BaseDataLoader.Config):  # type: ignore[misc]
        lake: str = "lake"
        """Path or URI of the lake"""

        target: str = "dev"
        """Schema of the lake; prod streams approved data only"""

        table: str = "sequences"
        """Packed table"""

        version: str | None = None
        """A number, a tag or 'approved'; without it approved in prod, else the latest"""

        pin_memory: bool = False
        """Put batches into page-locked memory"""

    def __init__(
        self,
        config: Config,
        *,
        dp_world_size: int,
        dp_rank: int,
        seq_len: int,
        local_batch_size: int,
        **_: Any,
    ) -> None:
        version = config.version
        self.data = stream(
            Lake(config.lake, schema=config.target),
            config.table,
            dp_rank=dp_rank,
            dp_world_size=dp_world_size,
            global_batch_size=local_batch_size * dp_world_size,
            version=read_version(version),
            fields=FIELDS,
            pin_memory=config.pin_memory,
        )
        if self.data.sequence_length != seq_len:
            raise UsageError(
                f"{self.data.table.ref} holds sequences of {self.data.sequence_length}, "
                f"training.seq_len is {seq_len}",
                hint="set training.seq_len to the table's length, or pack again with --sequence-length",
            )

    def __iter__(self) -> Iterator[tuple[dict[str, torch.Tensor], torch.Tensor]]:
        for batch in self.data:
            inputs = {"input": batch["input_ids"], "positions": batch["position_ids"].long()}
            yield inputs, shifted(batch["labels"])

    def state_dict(self) -> dict[str, Any]:
        """One JSON string: a checkpoint keeps it once, whichever rank wrote it, and any rank reads it."""
        return {STATE_KEY: json.dumps(self.data.state_dict())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the state stopped; an empty state (a checkpoint of weights only) begins anew."""
        if not state_dict:
            return
        if STATE_KEY not in state_dict:
            raise UsageError(
                f"the checkpoint's loader state has no {STATE_KEY!r}: {', '.join(map(str, state_dict))}",
                hint="it was written by another data loader; leave out its state: "
                "--checkpoint.exclude_from_loading dataloader",
            )
        self.data.load_state_dict(json.loads(state_dict[STATE_KEY]))


def shifted(labels_BL: torch.Tensor) -> torch.Tensor:
    """The label of the next place at each place, and -100 at the last."""
    moved = torch.full_like(labels_BL, IGNORE)
    moved[:, :-1] = labels_BL[:, 1:]
    return moved
