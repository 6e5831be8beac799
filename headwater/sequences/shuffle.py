"""The external shuffle: token lists brought into the training order with sequential reads and writes.

The order gives every document (and epoch) a *rank*; the tokens lie in another order in ``tokens``. Taking
them one by one would be a random read for each document. Instead they are read once, front to back, sorted
block by block into *buckets* (ranges of ranks) and written to a scratch file; then each bucket is read back,
sorted by rank and handed on. Blocks and buckets have a fixed size, so memory is bounded by the setting and
the bytes that go to and from the disk are known before (:func:`shuffle_cost`). An order whose tokens fit
into one bucket uses no disk.

The scratch file has no name: it goes with the process, however the process ends.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.errors import DataMismatch, UsageError

SHUFFLE_MEMORY = 256 << 20
"""Bytes that a shuffle holds at most: a block and its sorted copy while writing, a bucket and its sorted
copy while reading, each a quarter of it."""

LEAST_MEMORY = 1 << 12
MOST_MEMORY = 1 << 33
"""A bucket's token lists have 32-bit offsets."""

RECORD_BYTES = 16
"""Beside its tokens, what a document costs in the scratch file: its rank and its length, int64 each."""

SLICE_BYTES = 128 << 10
"""Least average bytes of one bucket's part of a block: reads shorter than this would seek more than read."""

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class ShuffleCost:
    """What a shuffle reads and writes, in bytes, beyond the one scan of the tokens (``bytes_scanned``).

    ``passes`` is how often every token goes through the scratch file; 0 without one. ``peak_disk_bytes``
    bounds the scratch space from above.
    """

    bytes_scanned: int
    passes: int
    num_buckets: int
    bytes_written: int
    bytes_read: int
    peak_disk_bytes: int


def bucket_bytes(memory_bytes: int) -> int:
    """Bytes of a bucket, and of a block."""
    if memory_bytes < LEAST_MEMORY:
        raise UsageError(f"a shuffle in {memory_bytes} bytes of memory", hint=f"give {LEAST_MEMORY} or more")
    return min(memory_bytes, MOST_MEMORY) // 4


def fan_out(memory_bytes: int) -> int:
    """Buckets that one pass writes to at most."""
    return max(bucket_bytes(memory_bytes) // SLICE_BYTES, 8)


def shuffle_cost(
    tokens_bytes: int,
    memory_bytes: int = SHUFFLE_MEMORY,
    *,
    num_documents: int = 0,
    scanned_bytes: int | None = None,
) -> ShuffleCost:
    """Reads and writes of shuffling an order, before it is done.

    Parameters
    ----------
    tokens_bytes:
        Bytes of the order's tokens (2 or 4 a token), a document once for each epoch.
    num_documents:
        Documents in the order, times their epochs: each costs ``RECORD_BYTES`` more.
    scanned_bytes:
        Bytes of tokens in the table; the order's own without it (one epoch of everything).
    """
    total = tokens_bytes + RECORD_BYTES * num_documents
    buckets = max(-(-total // bucket_bytes(memory_bytes)), 1)
    passes = passes_of(buckets, memory_bytes)
    return ShuffleCost(
        bytes_scanned=tokens_bytes if scanned_bytes is None else scanned_bytes,
        passes=passes,
        num_buckets=buckets,
        bytes_written=passes * total,
        bytes_read=passes * total,
        peak_disk_bytes=min(passes, 2) * total,
    )


def passes_of(buckets: int, memory_bytes: int) -> int:
    """How often the tokens go through the scratch file to reach ``buckets`` buckets."""
    passes, reached = 0, 1
    while reached < buckets:
        passes, reached = passes + 1, reached * fan_out(memory_bytes)
    return passes


@dataclass
class Meter:
    """Bytes that were really read and written, to hold against :func:`shuffle_cost`."""

    bytes_scanned: int = 0
    bytes_written: int = 0
    bytes_read: int = 0


@dataclass(frozen=True)
class _Block:
    """Documents in some order: ranks and lengths (n,) int64, ``tokens`` end to end."""

    ranks: Integers
    lengths: Integers
    tokens: npt.NDArray[Any]

    @property
    def nbytes(self) -> int:
        return RECORD_BYTES * len(self.ranks) + self.tokens.nbytes


@dataclass
class _Extents:
    """Where a bucket's documents lie in a scratch file: (offset of the ranks, of the lengths, of the tokens,
    documents, tokens), a row for each block that had some."""

    rows: list[tuple[int, int, int, int, int]] = field(default_factory=list)


class Shuffle:
    """One shuffle of one order.

    Parameters
    ----------
    dtype:
        numpy type of a token id.
    first_ranks:
        (buckets,) The smallest rank of each bucket, ascending from 0: from the order, so that each bucket
        holds about :func:`bucket_bytes`.
    folder:
        Where the scratch file is made; the system's temporary folder without it.
    """

    def __init__(
        self, dtype: npt.DTypeLike, first_ranks: Integers, memory_bytes: int, folder: str | None = None
    ) -> None:
        self.meter = Meter()
        self._dtype = np.dtype(dtype)
        self._first = first_ranks
        self._memory = memory_bytes
        self._folder = folder

    def sorted(
        self, batches: Iterable[pa.ListArray], entries: pa.RecordBatchReader
    ) -> Iterator[tuple[int, pa.ListArray]]:
        """The first rank and the token lists of each bucket, in order: every rank once.

        Parameters
        ----------
        batches:
            The token column of ``tokens``, in stored order.
        entries:
            ``position`` (row of ``tokens``) and ``rank``, ascending by position; a row that stands in the
            order several times has as many entries.
        """
        blocks = self._joined(batches, _Entries(entries))
        if len(self._first) <= 1:
            whole = list(blocks)
            if whole:
                yield 0, self._in_order(whole)
            return
        yield from self._through(blocks, 0, len(self._first))

    def _joined(self, batches: Iterable[pa.ListArray], entries: _Entries) -> Iterator[_Block]:
        """Blocks of about a bucket's bytes of what the order wants, as it comes."""
        limit = bucket_bytes(self._memory)
        held: list[_Block] = []
        size, row = 0, 0
        for column in batches:
            end = row + len(column)
            positions, ranks = entries.before(end)
            offsets = column.offsets.to_numpy().astype(np.int64)
            values = column.values.to_numpy()
            self.meter.bytes_scanned += int(offsets[-1] - offsets[0]) * self._dtype.itemsize
            for part in _pieces_of(positions - row, ranks, offsets, limit, self._dtype.itemsize):
                block = _gathered(part[0], part[1], offsets, values)
                if held and size + block.nbytes > limit:
                    yield _joined_up(held)
                    size = 0
                held.append(block)
                size += block.nbytes
            row = end
        if held:
            yield _joined_up(held)
        if not entries.finished:
            raise DataMismatch(
                f"the order names rows beyond the {row} that the token table holds",
                hint="the token table changed while it was being packed; pack again",
            )

    def _through(self, blocks: Iterable[_Block], low: int, high: int) -> Iterator[tuple[int, pa.ListArray]]:
        """Scatter the blocks of buckets [low, high) into a scratch file, then sort its buckets one by one."""
        fan = fan_out(self._memory)
        width = 1  # buckets that share a slot of this pass, to be divided by the next
        while -(-(high - low) // width) > fan:
            width *= fan
        starts = np.arange(low, high, width)
        with tempfile.TemporaryFile(prefix="headwater-shuffle-", dir=self._folder) as file:
            slots = [_Extents() for _ in starts]
            for block in blocks:
                self._scatter(file, block, self._first[starts], slots)
            file.flush()
            for start, extents in zip(starts.tolist(), slots, strict=True):
                if not extents.rows:
                    continue
                if width == 1:
                    yield int(self._first[start]), self._in_order(list(self._read(file, extents)))
                else:
                    inner = self._regrouped(self._read(file, extents))
                    yield from self._through(inner, start, min(start + width, high))

    def _scatter(self, file: BinaryIO, block: _Block, firsts: Integers, slots: list[_Extents]) -> None:
        slot = np.searchsorted(firsts, block.ranks, side="right") - 1
        order = np.argsort(slot, kind="stable")
        ordered = _taken(block, order)
        at = file.tell()
        for column in (ordered.ranks, ordered.lengths, ordered.tokens):
            file.write(np.ascontiguousarray(column).data.cast("B"))
        self.meter.bytes_written += ordered.nbytes
        used, counts = np.unique(slot, return_counts=True)
        ends = np.cumsum(counts)
        token_ends = np.concatenate([[0], np.cumsum(ordered.lengths)])
        n = len(order)
        for bucket, end, count in zip(used.tolist(), ends.tolist(), counts.tolist(), strict=True):
            begin = end - count
            first_token, last_token = int(token_ends[begin]), int(token_ends[end])
            slots[bucket].rows.append(
                (
                    at + 8 * begin,
                    at + 8 * (n + begin),
                    at + RECORD_BYTES * n + first_token * self._dtype.itemsize,
                    count,
                    last_token - first_token,
                )
            )

    def _read(self, file: BinaryIO, extents: _Extents) -> Iterator[_Block]:
        for ranks_at, lengths_at, tokens_at, documents, tokens in extents.rows:
            block = _Block(
                _pread(file, ranks_at, documents, np.dtype(np.int64)),
                _pread(file, lengths_at, documents, np.dtype(np.int64)),
                _pread(file, tokens_at, tokens, self._dtype),
            )
            self.meter.bytes_read += block.nbytes
            yield block

    def _regrouped(self, blocks: Iterable[_Block]) -> Iterator[_Block]:
        held: list[_Block] = []
        size = 0
        for block in blocks:
            if held and size + block.nbytes > bucket_bytes(self._memory):
                yield _joined_up(held)
                size = 0
            held.append(block)
            size += block.nbytes
        if held:
            yield _joined_up(held)

    def _in_order(self, blocks: list[_Block]) -> pa.ListArray:
        block = _joined_up(blocks)
        block = _taken(block, np.argsort(block.ranks, kind="stable"))
        offsets = np.concatenate([[0], np.cumsum(block.lengths)]).astype(np.int32)
        kind = pa.from_numpy_dtype(self._dtype)
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(block.tokens, kind), type=pa.list_(kind))


class _Entries:
    """Reads (position, rank) forward, as far as asked for."""

    def __init__(self, reader: pa.RecordBatchReader) -> None:
        self._batches = iter(reader)
        self._positions: Integers = np.empty(0, np.int64)
        self._ranks: Integers = np.empty(0, np.int64)
        self._ended = False

    @property
    def finished(self) -> bool:
        """True when no entry is left."""
        self._fill()
        return self._ended and not len(self._positions)

    def before(self, end: int) -> tuple[Integers, Integers]:
        """The entries not handed out yet whose position is below ``end``."""
        parts: list[tuple[Integers, Integers]] = []
        while True:
            self._fill()
            count = int(np.searchsorted(self._positions, end))
            parts.append((self._positions[:count], self._ranks[:count]))
            more = count == len(self._positions) and not self._ended
            self._positions, self._ranks = self._positions[count:], self._ranks[count:]
            if not more:
                break
        return np.concatenate([p for p, _ in parts]), np.concatenate([r for _, r in parts])

    def _fill(self) -> None:
        while not len(self._positions) and not self._ended:
            batch = next(self._batches, None)
            if batch is None:
                self._ended = True
            else:
                self._positions = batch["position"].to_numpy().astype(np.int64)
                self._ranks = batch["rank"].to_numpy().astype(np.int64)


def _pieces_of(
    rows: Integers, ranks: Integers, offsets: Integers, limit: int, itemsize: int
) -> Iterator[tuple[Integers, Integers]]:
    """Rows with their ranks, divided where they come to more than ``limit`` bytes (repeated epochs)."""
    sizes = np.cumsum((offsets[rows + 1] - offsets[rows]) * itemsize + RECORD_BYTES)
    start, before = 0, 0
    while start < len(rows):
        end = max(int(np.searchsorted(sizes, before + limit, side="right")), start + 1)
        yield rows[start:end], ranks[start:end]
        start, before = end, int(sizes[end - 1])


def _gathered(rows: Integers, ranks: Integers, offsets: Integers, values: npt.NDArray[Any]) -> _Block:
    lengths = offsets[rows + 1] - offsets[rows]
    return _Block(ranks, lengths, _spans_of(values, offsets[rows], lengths))


def _taken(block: _Block, order: npt.NDArray[np.intp]) -> _Block:
    starts = np.cumsum(block.lengths) - block.lengths
    lengths = block.lengths[order]
    return _Block(block.ranks[order], lengths, _spans_of(block.tokens, starts[order], lengths))


def _spans_of(values: npt.NDArray[Any], starts: Integers, lengths: Integers) -> npt.NDArray[Any]:
    """``values[start : start + length]`` of all, end to end, by Arrow's copy of whole lists."""
    if not len(lengths):
        return values[:0]
    if np.array_equal(starts[1:], (starts + lengths)[:-1]):
        return values[starts[0] : starts[-1] + lengths[-1]]
    bounds = pa.LargeListViewArray.from_arrays(pa.array(starts), pa.array(lengths), pa.array(values))
    flat: npt.NDArray[Any] = bounds.flatten().to_numpy()
    return flat


def _joined_up(blocks: list[_Block]) -> _Block:
    """The blocks as one. Empties the list: what is copied here need not be held twice."""
    if len(blocks) == 1:
        return blocks.pop()
    joined = _Block(
        np.concatenate([b.ranks for b in blocks]),
        np.concatenate([b.lengths for b in blocks]),
        np.concatenate([b.tokens for b in blocks]),
    )
    blocks.clear()
    return joined


def _pread(file: BinaryIO, offset: int, count: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    found = np.empty(count, dtype)
    view, done = found.data.cast("B"), 0
    while done < len(view):
        got = os.preadv(file.fileno(), [view[done:]], offset + done)
        if got == 0:
            raise DataMismatch("the scratch file of the shuffle is shorter than what was written to it")
        done += got
    return found
