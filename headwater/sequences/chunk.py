"""Concat-and-chunk: closed documents end to end in the training order, cut every ``sequence_length`` tokens.

Nothing is lost and nothing is padded but the end of the last sequence, so where every token goes is
arithmetic on the documents' lengths: no search, no state but the sequence that is being filled.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.sequences.closing import Closed
from headwater.sequences.spans import SPAN, SPANS, Integers, sequences_schema, spans_of


class Chunks:
    """Turns closed documents, a batch at a time, into finished sequences.

    Holds the unfinished sequence (fewer than ``sequence_length`` tokens) and one batch.
    """

    def __init__(self, sequence_length: int, dtype: pa.DataType, eos_id: int, *, gather: bool) -> None:
        self.schema = sequences_schema(sequence_length, dtype, gather=gather)
        self._length = sequence_length
        self._dtype = dtype
        self._eos = eos_id
        self._gather = gather
        self._index = 0
        self._tail: npt.NDArray[Any] = np.empty(0, dtype=dtype.to_pandas_dtype())
        self._tail_length = 0
        self._tail_spans: pa.StructArray = pa.array([], SPAN)

    def add(self, closed: Closed) -> Iterator[pa.RecordBatch]:
        """Take documents; yields the sequences that are now full."""
        if len(closed.length) == 0:
            return
        if closed.tokens is not None:
            self._tail = np.concatenate([self._tail, closed.tokens])
        spans, sequence = self._cut(closed)
        self._tail_length += int(closed.length.sum())
        if full := self._tail_length // self._length:
            yield self._emit(spans, sequence, full)
        else:
            self._tail_spans = spans

    def finish(self) -> Iterator[pa.RecordBatch]:
        """The last sequence, padded with end-of-text tokens that no span covers, if one was begun."""
        if self._tail_length == 0:
            return
        padding = self._length - self._tail_length
        if not self._gather:
            pad = np.full(padding, self._eos, dtype=self._tail.dtype)
            self._tail = np.concatenate([self._tail, pad])
        self._tail_length += padding
        sequence = np.zeros(len(self._tail_spans), dtype=np.int64)
        yield self._emit(self._tail_spans, sequence, 1)

    def _cut(self, closed: Closed) -> tuple[pa.StructArray, Integers]:
        """All spans of the tail and the new documents, and the sequence (from 0) each lies in."""
        ends = self._tail_length + np.cumsum(closed.length)
        starts = ends - closed.length
        boundaries = np.arange(self._length, ends[-1], self._length)
        cuts = np.union1d(starts, boundaries[boundaries > starts[0]])
        piece = np.searchsorted(starts, cuts, side="right") - 1
        new = spans_of(closed, piece, cuts - starts[piece], np.diff(cuts, append=ends[-1]))
        sequence = np.concatenate([np.zeros(len(self._tail_spans), np.int64), cuts // self._length])
        return pa.concat_arrays([self._tail_spans, new]), sequence

    def _emit(self, spans: pa.StructArray, sequence: Integers, count: int) -> pa.RecordBatch:
        """Split off ``count`` full sequences; what is left becomes the tail."""
        offsets = np.searchsorted(sequence, np.arange(count + 1)).astype(np.int32)
        used = count * self._length
        columns: list[pa.Array] = [pa.array(np.arange(self._index, self._index + count))]
        if not self._gather:
            flat = pa.array(self._tail[:used], self._dtype)
            columns.append(pa.FixedSizeListArray.from_arrays(flat, self._length))
            self._tail = self._tail[used:].copy()
        whole = spans.slice(0, int(offsets[-1]))
        columns.append(pa.ListArray.from_arrays(pa.array(offsets), whole, type=SPANS))
        # Copied, so that a short tail does not keep its whole batch alive.
        self._tail_spans = spans.slice(int(offsets[-1])).take(pa.array(np.arange(len(spans) - offsets[-1])))
        self._tail_length -= used
        self._index += count
        return pa.record_batch(columns, schema=self.schema)
