"""From the rows of some steps to their batches.

A chunk's tensors lie in memory that is used again as soon as no batch of the chunk is referred to any
more: fresh pages for 24 bytes a token cost more than filling them. A batch therefore stays valid for as long
as somebody holds it.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from headwater.errors import DataMismatch, MissingExtra, UsageError
from headwater.kernels.sequence_batch import lay_out_sequences
from headwater.loading.rows import NO_SOURCE, Rows, frozen
from headwater.loading.schedule import Run

try:
    import torch
except ImportError as error:
    raise MissingExtra.of("torch", "train") from error

DTYPES: dict[str, type[np.signedinteger[Any]]] = {
    "input_ids": np.int64,
    "labels": np.int64,
    "segment_ids": np.int32,
    "position_ids": np.int32,
}
FIELDS = (*DTYPES, "segment_sources")
KEPT_BUFFERS = 6
"""As many as are in use at once: four read ahead, one that is read from, one that somebody still holds."""

Batch = dict[str, Any]
_NO_INT64, _NO_INT32 = np.empty(0, np.int64), np.empty(0, np.int32)


class Layout:
    """Makes batches of ``fields``, ``length`` tokens a row; pinned when asked and when there is a device."""

    def __init__(self, fields: Sequence[str], length: int, *, pin_memory: bool) -> None:
        unknown = [name for name in fields if name not in FIELDS]
        if unknown or not fields:
            raise UsageError(f"got the fields {list(fields)}", hint=f"choose from {', '.join(FIELDS)}")
        self.fields = tuple(name for name in FIELDS if name in fields)
        self._length = length
        self._pinned = pin_memory and torch.cuda.is_available()
        self._free: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in DTYPES}

    def batches(self, run: Run, rows: Rows) -> list[Batch]:
        """The batches of ``run.steps`` steps, of which ``rows`` are this rank's share in order.

        Raises ``DataMismatch`` when spans do not fit into their sequence.
        """
        count = rows.num_rows
        size = count * self._length
        if len(rows.tokens) != size:
            raise DataMismatch(f"sequences {self._named(run)} hold {len(rows.tokens)} tokens, not {size}")
        tensors, arrays = {}, {}
        for name, dtype in DTYPES.items():
            if name in self.fields:
                tensors[name], arrays[name] = self._tensor(name, dtype, size)
            else:
                arrays[name] = _NO_INT64 if dtype is np.int64 else _NO_INT32
        most = rows.most_segments if "segment_sources" in self.fields else 0
        sources = np.full((count, most), NO_SOURCE, np.int32)
        bad = lay_out_sequences(
            rows.tokens,
            rows.offsets,
            rows.lengths,
            rows.sources,
            self._length,
            arrays["input_ids"],
            arrays["labels"],
            arrays["segment_ids"],
            arrays["position_ids"],
            sources,
        )
        if bad >= 0:
            raise DataMismatch(
                f"among the sequences {self._named(run)} one has spans that do not fit into its "
                f"{self._length} tokens",
                hint="the table is damaged: pack again",
            )
        if "segment_sources" in self.fields:
            tensors["segment_sources"] = torch.from_numpy(sources)
        shape = (run.steps, count // run.steps, -1)
        steps = zip(*(tensor.view(shape).unbind(0) for tensor in tensors.values()), strict=True)
        return [
            {
                **dict(zip(tensors, parts, strict=True)),
                "first_sequence": run.first + step * run.size,
                "count": run.size,
            }
            for step, parts in enumerate(steps)
        ]

    def _tensor(
        self, name: str, dtype: type[np.signedinteger[Any]], size: int
    ) -> tuple[Any, npt.NDArray[Any]]:
        if self._pinned:
            # torch's own pool of pinned memory waits for copies that are still under way; ours would not.
            kind = torch.int64 if dtype is np.int64 else torch.int32
            tensor = torch.empty(size, dtype=kind, pin_memory=True)
            return tensor, tensor.numpy()
        array = self._borrow(name, dtype, size)
        return torch.from_numpy(array), array

    def _borrow(self, name: str, dtype: type[np.signedinteger[Any]], size: int) -> npt.NDArray[Any]:
        free = self._free[name]
        memory = None
        while free and memory is None:
            candidate = free.pop()
            memory = candidate if len(candidate) >= size else None
        if memory is None:
            memory = np.empty(size, dtype)
        # The tensor refers to this very view; when the last tensor over it is gone, so is the view.
        view = memory[:size]
        weakref.finalize(view, _give_back, free, memory)
        return view

    @staticmethod
    def _named(run: Run) -> str:
        return f"{run.first} to {run.first + run.size * run.steps - 1}"


def _load_kernel() -> None:
    """Have the kernel read from numba's cache (or compiled) with this module, not in the first batch."""
    tokens, none = frozen(np.zeros(0, np.uint16)), frozen(np.zeros(0, np.int32))
    offsets, sources = frozen(np.zeros(2, np.int32)), np.zeros((1, 0), np.int32)
    outputs = (_NO_INT64, _NO_INT64, _NO_INT32, _NO_INT32, sources)
    lay_out_sequences(tokens, offsets, none, none, 0, *outputs)


_load_kernel()


def _give_back(free: list[npt.NDArray[Any]], memory: npt.NDArray[Any]) -> None:
    if len(free) < KEPT_BUFFERS:
        free.append(memory)
