"""Best-fit-decreasing: whole documents in as few sequences as they go into, padded at the end.

Documents are packed a window at a time. One longer than a sequence is first cut into whole sequences; its
rest and the shorter documents are taken from the longest to the shortest, each into the sequence where the
least room is left, or into a new one. Nothing is lost; a document that fits into a sequence is not cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.kernels.packing import best_fit, copy_slices
from headwater.sequences.closing import Closed
from headwater.sequences.spans import SPANS, Integers, sequences_schema, spans_of

WINDOW_TOKENS = 1 << 23
"""Least tokens in a window. On real code, windows of 2^23 left 0.05 % padding in sequences of 2,048 and
0.09 % in those of 8,192, half of what 2^22 left; all documents at once leave 0.01 %."""
WINDOW_SEQUENCES = 256
"""Least sequences' worth of tokens in a window: the last of them are the ones that stay unfilled."""


class BestFit:
    """Turns closed documents into sequences, each window as soon as it is full.

    A window ends with the first document that brings it to its number of tokens, so windows do not depend on
    batches. Holds one window and one batch.
    """

    def __init__(self, sequence_length: int, dtype: pa.DataType, eos_id: int, *, gather: bool) -> None:
        self.schema = sequences_schema(sequence_length, dtype, gather=gather)
        self._length = sequence_length
        self._window = max(WINDOW_TOKENS, WINDOW_SEQUENCES * sequence_length)
        self._dtype = dtype
        self._eos = eos_id
        self._index = 0
        self._held: list[Closed] = []
        self._held_tokens = 0

    def add(self, closed: Closed) -> Iterator[pa.RecordBatch]:
        """Take documents; yields the sequences of every window that they fill."""
        while len(closed.length):
            ends = self._held_tokens + np.cumsum(closed.length)
            count = int(np.searchsorted(ends, self._window)) + 1
            self._held.append(closed.slice(0, count))
            self._held_tokens = int(ends[min(count, len(ends)) - 1])
            if self._held_tokens < self._window:
                return
            yield self._packed()
            closed = closed.slice(count)

    def finish(self) -> Iterator[pa.RecordBatch]:
        """The sequences of the last window."""
        if self._held:
            yield self._packed()

    def _packed(self) -> pa.RecordBatch:
        closed = Closed.concat(self._held)
        self._held, self._held_tokens = [], 0
        piece, offset, length = _cut(closed.length, self._length)
        row, rows = _rows(length, self._length)
        order = np.argsort(row, kind="stable")  # in a row, documents stand as they came
        piece, offset, length, row = piece[order], offset[order], length[order], row[order]
        spans = spans_of(closed, piece, offset, length)
        span_offsets = np.searchsorted(row, np.arange(rows + 1)).astype(np.int32)
        columns: list[pa.Array] = [pa.array(np.arange(self._index, self._index + rows))]
        if closed.tokens is not None:
            flat = self._filled(closed, piece, offset, length, row, rows)
            columns.append(pa.FixedSizeListArray.from_arrays(pa.array(flat, self._dtype), self._length))
        columns.append(pa.ListArray.from_arrays(pa.array(span_offsets), spans, type=SPANS))
        self._index += rows
        return pa.record_batch(columns, schema=self.schema)

    def _filled(
        self, closed: Closed, piece: Integers, offset: Integers, length: Integers, row: Integers, rows: int
    ) -> npt.NDArray[Any]:
        assert closed.tokens is not None
        begins = (np.cumsum(closed.length) - closed.length)[piece] + offset
        before = np.cumsum(length) - length
        first = np.searchsorted(row, row)  # the first span of the row that a span lies in
        out = np.full(rows * self._length, self._eos, dtype=self._dtype.to_pandas_dtype())
        copy_slices(closed.tokens, begins, length, row * self._length + before - before[first], out)
        return out


def _cut(lengths: Integers, capacity: int) -> tuple[Integers, Integers, Integers]:
    """Cut pieces into whole sequences and a rest: piece number, offset in it and length of each item."""
    items = -(-lengths // capacity)
    piece = np.repeat(np.arange(len(lengths)), items)
    nth = np.arange(len(piece)) - np.repeat(np.cumsum(items) - items, items)
    offset = nth * capacity
    return piece, offset, np.minimum(lengths[piece] - offset, capacity)


def _rows(length: Integers, capacity: int) -> tuple[Integers, int]:
    """The row of each item, and how many rows there are."""
    row = np.empty(len(length), dtype=np.int64)
    order = np.argsort(-length, kind="stable")
    return row, int(best_fit(length, order, capacity, row))
