"""From pieces of documents, in the training order, to the rows of ``sequences``.

Documents are closed in their form (``closing``, ``forms``), laid into sequences by one of two methods
(``chunk``, ``best_fit``), and the sequences shuffled in windows. The result depends on the pieces, the
encoder and the settings; not on batches or threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headwater.errors import UsageError
from headwater.sequences.best_fit import BestFit
from headwater.sequences.chunk import Chunks
from headwater.sequences.closing import PackCounts, close_documents, close_pieces
from headwater.sequences.spans import EXPOSURES, SPAN, SPANS, exposures_of, sequences_schema

if TYPE_CHECKING:
    from headwater.tokenizer import Encoder

__all__ = [
    "EXPOSURES",
    "METHODS",
    "SHUFFLE_TOKENS",
    "SPAN",
    "SPANS",
    "PackCounts",
    "Packing",
    "close_documents",
    "exposures_of",
    "pack_pieces",
    "sequences_schema",
    "shuffle_windows",
]

METHODS = ("chunk", "best-fit")

SHUFFLE_TOKENS = 1 << 24
"""Tokens in a window of :func:`shuffle_windows`: 32 MB of uint16, some thousands of documents."""


@dataclass(frozen=True, kw_only=True)
class Packing:
    """How pieces become sequences.

    Attributes
    ----------
    sequence_length: tokens in a sequence.
    method: ``"chunk"`` (concat-and-chunk) or ``"best-fit"`` (best-fit-decreasing).
    seed: of the shuffle in windows, and of the forms that documents take. What goes on after other sequences
        keeps their seed, or the rest of a document would come from another arrangement than its first part.
    gather: spans only, no token column.
    """

    sequence_length: int
    method: str = "chunk"
    seed: int = 0
    gather: bool = False

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(
                f"there is no packing method {self.method!r}", hint=f"one of {', '.join(METHODS)}"
            )
        if self.sequence_length < 2:
            raise UsageError(f"got sequence_length {self.sequence_length}", hint="give 2 tokens or more")

    def schema(self, encoder: Encoder) -> pa.Schema:
        """Columns of the sequences."""
        return sequences_schema(self.sequence_length, encoder.dtype, gather=self.gather)


def pack_pieces(
    packing: Packing,
    encoder: Encoder,
    pieces: Iterable[pa.RecordBatch],
    counts: PackCounts | None = None,
) -> Iterator[pa.RecordBatch]:
    """Sequences of ``packing.schema(encoder)``, numbered from 0, of pieces in their order.

    ``pieces`` are described at :func:`headwater.sequences.closing.close_pieces`; ``counts`` grows as the
    result is read and is complete when it ends.
    """
    counts = PackCounts() if counts is None else counts
    rows = _laid_out(packing, encoder, pieces, counts)
    # Chunks are padded once, at the very end; there a padded row may stay.
    pad_last = packing.method == "chunk"
    for batch in shuffle_windows(rows, packing.sequence_length, packing.seed, pad_last=pad_last):
        counts.num_sequences += batch.num_rows
        counts.num_padding = counts.num_sequences * packing.sequence_length - counts.num_tokens
        yield batch


def _laid_out(
    packing: Packing, encoder: Encoder, pieces: Iterable[pa.RecordBatch], counts: PackCounts
) -> Iterator[pa.RecordBatch]:
    made = BestFit if packing.method == "best-fit" else Chunks
    layout = made(packing.sequence_length, encoder.dtype, encoder.eos_id, gather=packing.gather)
    for batch in pieces:
        if packing.gather and "tokens" in batch.schema.names:
            batch = batch.drop_columns(["tokens"])
        yield from layout.add(close_pieces(batch, encoder, seed=packing.seed, counts=counts))
    yield from layout.finish()


def shuffle_windows(
    sequences: Iterable[pa.RecordBatch], sequence_length: int, seed: int, *, pad_last: bool = True
) -> Iterator[pa.RecordBatch]:
    """Reorder the sequences inside windows of ``SHUFFLE_TOKENS`` and number them anew.

    Packing lays the pieces of a long document side by side, so that a batch would be one document.
    Windows have fixed borders and the order in them is a seeded hash of the sequence's number: the
    result does not depend on batches. With ``pad_last``, a padded last sequence stays last.
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
                yield _shuffled(held, sequence_length, seed, pad_last)
                held, rows = [], 0
    if held:
        yield _shuffled(held, sequence_length, seed, pad_last)


def _shuffled(held: list[pa.RecordBatch], length: int, seed: int, pad_last: bool) -> pa.RecordBatch:
    from headwater.operators import operator  # readers of sequences need no operators

    batch = pa.Table.from_batches(held).combine_chunks().to_batches()[0]
    index = batch["sequence_index"].to_numpy()
    key = np.zeros((len(index), 2), dtype="<i8")
    key[:, 0] = index
    names = pa.Array.from_buffers(pa.binary(16), len(index), [None, pa.py_buffer(key.tobytes())])
    order = np.argsort(operator("seeded_hash")(names, seed=seed).to_numpy(), kind="stable")
    filled = pc.sum(batch["spans"][len(index) - 1].values.field("length")).as_py()
    if pad_last and filled < length:
        last = len(index) - 1
        order = np.append(order[order != last], last)
    columns = [batch[name].take(pa.array(order)) for name in batch.schema.names[1:]]
    return pa.record_batch([batch["sequence_index"], *columns], schema=batch.schema)
