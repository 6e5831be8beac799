"""What a row of ``sequences`` says of the documents in it, and the way back from a document."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from headwater.sequences.closing import Closed

SPAN = pa.struct(
    {
        "doc_id": pa.binary(16),
        "start": pa.int32(),
        "length": pa.int32(),
        "source": pa.string(),
        "epoch": pa.int32(),
        "form": pa.int8(),
    }
)
"""A piece of a document inside a sequence: ``length`` tokens from token ``start`` of the closed document
(its control token, its tokens as ``form`` arranges them, its end-of-text token). The spans of a sequence
stand in order and fill it from its first token; what they leave at the end is padding.

``source`` is the part of the mixture, or the document's source; ``epoch`` counts a document's repetitions
from 0; ``form`` is an index into ``headwater.sequences.forms.FORMS``. Sequences of older versions lack
``epoch`` and ``form``."""

SPANS = pa.list_(SPAN)

EXPOSURES = pa.schema({"doc_id": pa.binary(16), "sequence_index": pa.int64()})
"""Columns of ``exposures``: the pairs are unique, also where two epochs of a document meet in a sequence."""

Integers = npt.NDArray[np.int64]


def sequences_schema(sequence_length: int, dtype: pa.DataType, *, gather: bool) -> pa.Schema:
    """Columns of ``sequences``; gathered ones have no token column."""
    columns = {"sequence_index": pa.int64()}
    if not gather:
        columns["tokens"] = pa.list_(dtype, sequence_length)
    return pa.schema({**columns, "spans": SPANS})


def spans_of(closed: Closed, piece: Integers, offset: Integers, length: Integers) -> pa.StructArray:
    """Spans of ``length`` tokens from ``offset`` inside the given pieces (by number), each (spans,)."""
    at = pa.array(piece)
    columns = [
        closed.doc_id.take(at),
        pa.array((closed.start[piece] + offset).astype(np.int32)),
        pa.array(length.astype(np.int32)),
        closed.source.take(at),
        closed.epoch.take(at),
        pa.array(closed.form[piece]),
    ]
    return pa.StructArray.from_arrays(columns, fields=list(SPAN))


def exposures_of(sequences: pa.RecordBatch) -> pa.RecordBatch:
    """One row per document and sequence that holds some of it."""
    spans = sequences["spans"]
    counts = np.diff(spans.offsets.to_numpy())
    index = np.repeat(sequences["sequence_index"].to_numpy(), counts)
    flat = spans.flatten()
    pairs = pa.record_batch([flat.field("doc_id"), pa.array(index)], schema=EXPOSURES)
    repeated = "epoch" in [field.name for field in flat.type] and pc.max(flat.field("epoch")).as_py()
    if not repeated:  # a document's spans of one epoch lie in different sequences
        return pairs
    unique = pa.Table.from_batches([pairs]).group_by(EXPOSURES.names, use_threads=False).aggregate([])
    return unique.cast(EXPOSURES).combine_chunks().to_batches()[0]
