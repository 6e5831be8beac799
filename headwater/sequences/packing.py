"""Concat-and-chunk packing: documents, each closed by an end-of-text token, cut into equal sequences.

Documents are laid end to end in the training order and cut every ``sequence_length`` tokens. Nothing
is lost and nothing is padded but the end of the last sequence, so where every token goes is arithmetic
on the documents' lengths: no search, no state but the sequence that is being filled.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

SPAN = pa.struct({"doc_id": pa.binary(16), "start": pa.int32(), "length": pa.int32(), "source": pa.string()})
"""A piece of a document inside a sequence: ``length`` tokens from token ``start`` of the document,
counting its end-of-text token. The spans of a sequence stand in order and fill it from its first token."""

SPANS = pa.list_(SPAN)

SHUFFLE_TOKENS = 1 << 24
"""Tokens in a window of :func:`shuffle_windows`: 32 MB of uint16, some thousands of documents."""

Integers = npt.NDArray[np.int64]


def sequences_schema(sequence_length: int, dtype: pa.DataType, *, gather: bool) -> pa.Schema:
    """Columns of ``sequences``; gathered ones have no token column."""
    columns = {"sequence_index": pa.int64()}
    if not gather:
        columns["tokens"] = pa.list_(dtype, sequence_length)
    return pa.schema({**columns, "spans": SPANS})


def close_documents(tokens: pa.ListArray, eos_id: int) -> tuple[npt.NDArray[np.generic], Integers]:
    """The documents' tokens end to end, each with its end-of-text token, and their lengths with it."""
    offsets = tokens.offsets.to_numpy()
    values = tokens.values.to_numpy()[offsets[0] : offsets[-1]]
    lengths = np.diff(offsets).astype(np.int64) + 1
    stream = np.empty(len(values) + len(lengths), dtype=values.dtype)
    is_text = np.ones(len(stream), dtype=bool)
    is_text[np.cumsum(lengths) - 1] = False
    stream[is_text] = values
    stream[~is_text] = eos_id
    return stream, lengths


class Packer:
    """Turns documents, a batch at a time, into finished sequences.

    Holds the unfinished sequence (fewer than ``sequence_length`` tokens) and one batch.
    """

    def __init__(
        self, sequence_length: int, dtype: pa.DataType, eos_id: int, *, gather: bool = False
    ) -> None:
        self.schema = sequences_schema(sequence_length, dtype, gather=gather)
        self.num_tokens = 0
        self._length = sequence_length
        self._dtype = dtype
        self._eos = eos_id
        self._gather = gather
        self._index = 0
        self._tail: npt.NDArray[np.generic] = np.empty(0, dtype=dtype.to_pandas_dtype())
        self._tail_length = 0
        self._tail_spans: pa.StructArray = pa.array([], SPAN)

    @property
    def num_sequences(self) -> int:
        """Sequences finished so far."""
        return self._index

    def add(self, documents: pa.RecordBatch) -> pa.RecordBatch | None:
        """Take documents (``doc_id``, ``source``, ``num_tokens``, and ``tokens`` unless gathered) in order.

        Returns the sequences that are now full, or ``None``.
        """
        if documents.num_rows == 0:
            return None
        if self._gather:
            lengths = documents["num_tokens"].to_numpy().astype(np.int64) + 1
        else:
            closed, lengths = close_documents(documents["tokens"], self._eos)
            self._tail = np.concatenate([self._tail, closed])
        spans, sequence = self._cut(documents, lengths)
        self.num_tokens += int(lengths.sum())
        self._tail_length += int(lengths.sum())
        return self._emit(spans, sequence, self._tail_length // self._length)

    def finish(self) -> pa.RecordBatch | None:
        """The last sequence, padded with end-of-text tokens that no span covers, or ``None``."""
        if self._tail_length == 0:
            return None
        padding = self._length - self._tail_length
        if not self._gather:
            pad = np.full(padding, self._eos, dtype=self._tail.dtype)
            self._tail = np.concatenate([self._tail, pad])
        self._tail_length += padding
        sequence = np.zeros(len(self._tail_spans), dtype=np.int64)
        return self._emit(self._tail_spans, sequence, 1)

    def _cut(self, documents: pa.RecordBatch, lengths: Integers) -> tuple[pa.StructArray, Integers]:
        """All spans of the tail and the new documents, and the sequence (from 0) each lies in."""
        ends = self._tail_length + np.cumsum(lengths)
        starts = ends - lengths
        boundaries = np.arange(self._length, ends[-1], self._length)
        cuts = np.union1d(starts, boundaries[boundaries > starts[0]])
        document = np.searchsorted(starts, cuts, side="right") - 1
        span_lengths = np.diff(cuts, append=ends[-1])
        new = pa.StructArray.from_arrays(
            [
                documents["doc_id"].take(pa.array(document)),
                pa.array((cuts - starts[document]).astype(np.int32)),
                pa.array(span_lengths.astype(np.int32)),
                documents["source"].take(pa.array(document)),
            ],
            fields=list(SPAN),
        )
        sequence = np.concatenate([np.zeros(len(self._tail_spans), np.int64), cuts // self._length])
        return pa.concat_arrays([self._tail_spans, new]), sequence

    def _emit(self, spans: pa.StructArray, sequence: Integers, count: int) -> pa.RecordBatch | None:
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
        return pa.record_batch(columns, schema=self.schema) if count else None


def pack_documents(packer: Packer, documents: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Stream documents through ``packer`` and close it."""
    for batch in documents:
        full = packer.add(batch)
        if full is not None:
            yield full
    last = packer.finish()
    if last is not None:
        yield last


def shuffle_windows(
    sequences: Iterable[pa.RecordBatch], sequence_length: int, seed: int
) -> Iterator[pa.RecordBatch]:
    """Reorder the sequences inside windows of ``SHUFFLE_TOKENS`` and number them anew.

    Packing lays the pieces of a long document side by side, so that a batch would be one document.
    Windows have fixed borders and the order in them is a seeded hash of the sequence's number: the
    result does not depend on batches. A padded last sequence stays last.
    """
    window = max(SHUFFLE_TOKENS // sequence_length, 1)
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in sequences:
        while batch.num_rows:
            part = batch.slice(0, window - rows)
            held.append(part)
            rows += part.num_rows
            batch = batch.slice(part.num_rows)
            if rows == window:
                yield _shuffled(held, sequence_length, seed)
                held, rows = [], 0
    if held:
        yield _shuffled(held, sequence_length, seed)


def _shuffled(held: list[pa.RecordBatch], length: int, seed: int) -> pa.RecordBatch:
    from headwater.operators import operator  # readers of sequences need no operators

    batch = pa.Table.from_batches(held).combine_chunks().to_batches()[0]
    index = batch["sequence_index"].to_numpy()
    key = np.zeros((len(index), 2), dtype="<i8")
    key[:, 0] = index
    names = pa.Array.from_buffers(pa.binary(16), len(index), [None, pa.py_buffer(key.tobytes())])
    order = np.argsort(operator("seeded_hash")(names, seed=seed).to_numpy(), kind="stable")
    filled = pc.sum(batch["spans"][len(index) - 1].values.field("length")).as_py()
    if filled < length:
        last = len(index) - 1
        order = np.append(order[order != last], last)
    columns = [batch[name].take(pa.array(order)) for name in batch.schema.names[1:]]
    return pa.record_batch([batch["sequence_index"], *columns], schema=batch.schema)


def exposures_of(sequences: pa.RecordBatch) -> pa.RecordBatch:
    """One row per document and sequence that holds some of it: the way back from a document."""
    spans = sequences["spans"]
    counts = np.diff(spans.offsets.to_numpy())
    index = np.repeat(sequences["sequence_index"].to_numpy(), counts)
    doc_id = spans.flatten().field("doc_id")
    return pa.record_batch([doc_id, pa.array(index)], schema=EXPOSURES)


EXPOSURES = pa.schema({"doc_id": pa.binary(16), "sequence_index": pa.int64()})
"""Columns of ``exposures``. A document's spans lie in different sequences (a span ends where its
document or its sequence ends), so the pairs are unique within one epoch."""
