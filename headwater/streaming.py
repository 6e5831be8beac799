"""From a ``sequences`` table to torch: one position, any number of ranks, no worker processes.

Step *s* takes the sequences ``[position, position + global_batch_size)`` and each rank its slice of
them, by arithmetic. So the state is one integer with the digest of the table it counts in, and another
number of ranks reads on as if nothing had changed. Threads read ahead: Lance does its work in Rust
without the GIL, and a forked worker would crash with an open dataset.
"""

from __future__ import annotations

import queue
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headwater.errors import DataMismatch, MissingExtra, UsageError
from headwater.sequences.packing import close_documents
from headwater.sequences.source import PROD, bypass_of

try:
    import torch
    from torch.utils.data import IterableDataset, get_worker_info
except ImportError as error:
    raise MissingExtra.of("torch", "train") from error

if TYPE_CHECKING:
    from headwater.lake import Lake, Table

STATE_FORMAT = 1

CHUNK_TOKENS = 1 << 18
"""Tokens read at once: takes of 512 rows run several times faster than takes of 8."""
MAX_CHUNK_STEPS = 256
READ_AHEAD_CHUNKS = 2
"""Chunks that wait decoded while another is being read: at 2^18 tokens about 20 MB in all."""

IGNORE = -100
"""Label that torch's cross-entropy leaves out."""


def stream(
    lake: Lake,
    table: str = "sequences",
    *,
    dp_rank: int = 0,
    dp_world_size: int = 1,
    global_batch_size: int = 8,
    version: int | str | None = None,
    state: Mapping[str, Any] | None = None,
) -> SequenceStream:
    """A torch ``IterableDataset`` over one version of a packed table, from where ``state`` left off.

    Parameters
    ----------
    dp_rank, dp_world_size:
        This process's place among the data-parallel ranks.
    global_batch_size:
        Sequences in a step over all ranks; divisible by ``dp_world_size``. Training with another number
        of ranks sees the same steps as long as this stays.
    version:
        A number, a tag, or ``"approved"``. Without it: the approved version in ``prod``, the latest one
        elsewhere. Outside ``prod``, an unapproved version warns, and ``bypass`` says so for the record.
    state:
        What :meth:`SequenceStream.state_dict` gave, from any number of ranks.

    Raises
    ------
    NotApproved
        Unapproved data in ``prod``, or ``"approved"`` without an approval.
    DataMismatch
        ``state`` counts in another table, tokenizer or sequence length.
    """
    wanted = "approved" if version is None and lake.schema == PROD else version
    found = lake.table(table, version=wanted)
    bypass = bypass_of(lake, found)
    if bypass is not None:
        warnings.warn(f"training on unapproved data: {bypass}", stacklevel=2)
    dataset = SequenceStream(lake, found, dp_rank, dp_world_size, global_batch_size, bypass)
    if state is not None:
        dataset.load_state_dict(state)
    return dataset


class SequenceStream(IterableDataset[dict[str, Any]]):  # type: ignore[misc]  # torch is untyped here
    """Batches of this rank, from ``next_sequence`` to the last full global batch. Made by :func:`stream`.

    Each batch is a dict, ``B = global_batch_size / dp_world_size`` rows, ``L`` tokens:

    - ``input_ids`` (B, L) int64
    - ``labels`` (B, L) int64: the ids, and -100 at padding and at the first token of each document, which
      no token of its own document predicts (labels are not shifted)
    - ``segment_ids`` (B, L) int32: which document of its sequence a token belongs to, -1 at padding
    - ``position_ids`` (B, L) int64: from 0 in each segment
    - ``first_sequence``, ``count``: the step's sequences over all ranks, for the log

    The last global batch that is not full is dropped, so every rank makes the same number of steps;
    ``num_dropped`` says how many sequences that leaves out.
    """

    def __init__(
        self,
        lake: Lake,
        table: Table,
        dp_rank: int,
        dp_world_size: int,
        global_batch_size: int,
        bypass: str | None,
    ) -> None:
        _check_ranks(dp_rank, dp_world_size, global_batch_size)
        facts = table.provenance.extra
        if "sequence_length" not in facts or "tokenizer_id" not in facts:
            raise UsageError(f"{table.ref} was not made by pack", hint="headwater pack TABLE")
        self.table = table
        self.bypass = bypass
        self.tokenizer_id: str = facts["tokenizer_id"]
        self.sequence_length: int = int(facts["sequence_length"])
        self.vocab_size: int = int(facts["vocab_size"])
        self.num_sequences = table.num_rows
        self.next_sequence = 0
        self.wait_seconds = 0.0
        self._batch = global_batch_size
        self._rows = global_batch_size // dp_world_size
        self._offset = dp_rank * self._rows
        self._read = _reader(lake, table)

    def __len__(self) -> int:
        """Steps left."""
        return (self.num_sequences - self.next_sequence) // self._batch

    @property
    def num_dropped(self) -> int:
        """Sequences at the end that do not fill a global batch."""
        return (self.num_sequences - self.next_sequence) % self._batch

    def state_dict(self) -> dict[str, Any]:
        """Where to go on: counts the batches that were handed out, not those read ahead."""
        return {
            "format": STATE_FORMAT,
            "next_sequence": self.next_sequence,
            "table": self.table.name,
            "digest": self.table.digest,
            "tokenizer_id": self.tokenizer_id,
            "sequence_length": self.sequence_length,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` stopped. Raises ``DataMismatch`` when it was taken over other data."""
        mine = self.state_dict()
        differ = [key for key in mine if key != "next_sequence" and state.get(key) != mine[key]]
        if differ:
            sides = "; ".join(f"{key}: state {state.get(key)!r}, table {mine[key]!r}" for key in differ)
            raise DataMismatch(
                f"the loader's state does not fit {self.table.ref}: {sides}",
                hint="stream the version that the run began with, or start a new run",
            )
        position = int(state["next_sequence"])
        if not 0 <= position <= self.num_sequences:
            raise DataMismatch(f"the state stands at sequence {position} of {self.num_sequences}")
        self.next_sequence = position

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if get_worker_info() is not None:
            raise UsageError(
                "a stream reads ahead by itself and cannot run in DataLoader workers",
                hint="iterate it directly, or DataLoader(stream, batch_size=None, num_workers=0)",
            )
        with _ReadAhead(self._chunks(self.next_sequence)) as chunks:
            while True:
                start = time.perf_counter()
                chunk = chunks.next()
                self.wait_seconds += time.perf_counter() - start
                if chunk is None:
                    return
                for first, batch in chunk:
                    self.next_sequence = first + self._batch
                    yield batch

    def _chunks(self, first: int) -> Iterator[list[tuple[int, dict[str, Any]]]]:
        """Steps decoded in groups; the first groups are small, so that the first batch comes at once."""
        most = min(max(CHUNK_TOKENS // (self._rows * self.sequence_length), 1), MAX_CHUNK_STEPS)
        steps = 1
        end = first + len(self) * self._batch
        while first < end:
            steps = min(steps, (end - first) // self._batch)
            firsts = first + np.arange(steps) * self._batch
            rows = (firsts[:, None] + self._offset + np.arange(self._rows)).ravel()
            tokens, spans = self._read(rows)
            yield self._decode(firsts, tokens, spans)
            first += steps * self._batch
            steps = min(steps * 4, most)

    def _decode(
        self, firsts: npt.NDArray[np.int64], tokens: npt.NDArray[Any], spans: pa.ListArray
    ) -> list[tuple[int, dict[str, Any]]]:
        shape = (len(firsts), self._rows, self.sequence_length)
        segments, positions = lay_out(spans, self.sequence_length)
        ids = tokens.astype(np.int64)
        labels = np.where((positions == 0) | (segments < 0), IGNORE, ids)
        arrays = {"input_ids": ids, "labels": labels, "segment_ids": segments, "position_ids": positions}
        tensors = {key: torch.from_numpy(value.reshape(shape)) for key, value in arrays.items()}
        return [
            (
                int(first),
                {
                    **{k: t[step] for k, t in tensors.items()},
                    "first_sequence": int(first),
                    "count": self._batch,
                },
            )
            for step, first in enumerate(firsts)
        ]


def lay_out(spans: pa.ListArray, length: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Segment and position of every token: (rows * length,) each; padding is segment -1, position 0."""
    counts = np.diff(spans.offsets.to_numpy())
    lengths = spans.flatten().field("length").to_numpy().astype(np.int64)
    first_span = np.cumsum(counts) - counts
    segment = np.arange(len(lengths)) - np.repeat(first_span, counts)
    row = np.repeat(np.arange(len(counts)), counts)
    filled = np.bincount(row, weights=lengths, minlength=len(counts)).astype(np.int64)
    # Padding becomes one more span at the end of its row.
    at = np.cumsum(counts)
    lengths = np.insert(lengths, at, length - filled)
    segment = np.insert(segment, at, -1)
    starts = np.cumsum(lengths) - lengths
    segments = np.repeat(segment, lengths).astype(np.int32)
    positions = np.arange(len(segments)) - np.repeat(starts, lengths)
    positions[segments < 0] = 0
    return segments, positions


def _check_ranks(dp_rank: int, dp_world_size: int, global_batch_size: int) -> None:
    if not 0 <= dp_rank < dp_world_size:
        raise UsageError(f"got dp_rank {dp_rank} of {dp_world_size}", hint="ranks count from 0")
    if global_batch_size < 1 or global_batch_size % dp_world_size:
        raise UsageError(
            f"a global batch of {global_batch_size} sequences does not divide among {dp_world_size} ranks",
            hint="choose a multiple of the number of ranks",
        )


class _Materialized:
    """Reads rows by position; the index column proves that positions are sequence indices."""

    columns: tuple[str, ...] = ("sequence_index", "tokens", "spans")

    def __init__(self, table: Table) -> None:
        self._table = table

    def _take(self, rows: npt.NDArray[np.int64]) -> pa.RecordBatch:
        found = self._table.dataset.take(rows, columns=list(self.columns)).combine_chunks().to_batches()[0]
        if not np.array_equal(found["sequence_index"].to_numpy(), rows):
            raise DataMismatch(
                f"{self._table.ref} does not hold its sequences densely and in order",
                hint="pack again: rows were deleted or rewritten by another program",
            )
        return found

    def __call__(self, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[Any], pa.ListArray]:
        found = self._take(rows)
        return found["tokens"].flatten().to_numpy(), found["spans"]


class _Gathered(_Materialized):
    """Reads spans by position and their documents' tokens by id."""

    columns = ("sequence_index", "spans")

    def __init__(self, table: Table, tokens: Table) -> None:
        super().__init__(table)
        self._tokens = tokens
        facts = table.provenance.extra
        self._length = int(facts["sequence_length"])
        self._eos = int(facts["eos_id"])

    def __call__(self, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[Any], pa.ListArray]:
        spans = self._take(rows)["spans"]
        flat = spans.flatten()
        ids = pc.unique(flat.field("doc_id"))
        batches = list(self._tokens.with_text(ids, columns=("tokens",)))
        documents = pa.Table.from_batches(batches)["tokens"].combine_chunks()
        stream, lengths = close_documents(documents, self._eos)
        places = pc.index_in(flat.field("doc_id"), ids).to_numpy()
        begins = (np.cumsum(lengths) - lengths)[places] + flat.field("start").to_numpy()
        counts = flat.field("length").to_numpy().astype(np.int64)
        ends = np.cumsum(counts)
        picked = stream[np.repeat(begins - (ends - counts), counts) + np.arange(ends[-1])]
        segments, _ = lay_out(spans, self._length)
        tokens = np.full(len(segments), self._eos, dtype=picked.dtype)
        tokens[segments >= 0] = picked
        return tokens, spans


def _reader(lake: Lake, table: Table) -> _Materialized:
    if "tokens" in table.schema.names:
        return _Materialized(table)
    ref = table.provenance.extra["tokens_table"]
    tokens = lake.table(ref["table"], version=int(ref["version"]))
    if tokens.digest != ref["digest"]:
        raise DataMismatch(
            f"{table.ref} was packed over {tokens.ref} with digest {ref['digest']}, "
            f"the lake holds {tokens.digest}",
            hint="pack again",
        )
    return _Gathered(table, tokens)


class _ReadAhead:
    """Runs an iterator in a thread, a few items ahead; errors come out where items do."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items
        self._queue: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(READ_AHEAD_CHUNKS)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="stream")

    def __enter__(self) -> _ReadAhead:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def next(self) -> Any:
        """The next item, or ``None`` after the last."""
        item, error = self._queue.get()
        if error is not None:
            raise error
        return item

    def _run(self) -> None:
        try:
            for item in self._items:
                if not self._put(item, None):
                    return
            self._put(None, None)
        except BaseException as error:  # handed to the reader of the queue
            self._put(None, error)

    def _put(self, item: Any, error: BaseException | None) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put((item, error), timeout=0.05)
            except queue.Full:
                continue
            return True
        return False
