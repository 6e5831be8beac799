"""Stored embeddings as unit vectors, in batches: from a lake table, or an Arrow table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.dedup.ids import Ids, ids_from_arrow, ids_to_arrow
from headwater.errors import DataMismatch, UnknownName, UsageError
from headwater.kernels.cosine import Flags, Matrix, add_fixed, to_unit

BATCH_ROWS = 4096
"""Rows of vectors in memory at a time and thread: 6 MB at 384 dimensions."""

Order: TypeAlias = npt.NDArray[np.int64]


class LakeTable(Protocol):
    """What is used of ``headwater.lake.Table``."""

    def scan(self, columns: Any = None, *, batch_rows: int | None = None) -> pa.RecordBatchReader: ...


Embeddings: TypeAlias = LakeTable | pa.Table
"""One row per document: ``doc_id`` (binary(16)), ``embedding`` (FixedSizeList of floats)."""


def embedded_ids(embeddings: Embeddings) -> Ids:
    """The documents, in stored order.

    Raises DataMismatch for a document that stands twice, or vectors of several models: they do not compare.
    """
    parts, models = [], set()
    named = "model" in _schema(embeddings).names
    for batch in _scan(embeddings, ["doc_id", "model"] if named else ["doc_id"]):
        parts.append(ids_from_arrow(batch.column("doc_id")))
        if named:
            models.update(batch.column("model").unique().to_pylist())
    if len(models) > 1:
        raise DataMismatch(
            f"the embeddings are of {len(models)} models ({', '.join(sorted(map(str, models)))})",
            hint="vectors of one model compare with each other only: build embeddings anew with one model",
        )
    ids = np.concatenate(parts) if parts else np.empty((0, 2), dtype=np.uint64)
    order = order_of(ids)
    twice = (ids[order[1:]] == ids[order[:-1]]).all(axis=1)
    if twice.any():
        document = ids_to_arrow(ids[order[1:]][twice][:1])[0].as_py().hex()
        raise DataMismatch(
            f"document {document} has more than one embedding",
            hint="embeddings hold one row per document: build them anew",
        )
    return ids


def order_of(ids: Ids) -> Order:
    """Places in ascending order of id."""
    return np.lexsort((ids[:, 1], ids[:, 0])).astype(np.int64)


def vector_batches(embeddings: Embeddings) -> Iterator[tuple[Ids, Matrix, Flags]]:
    """(ids, unit vectors, whether each has a direction), in stored order. A vector without one is zero."""
    dimensions = dimensions_of(embeddings)
    for batch in _scan(embeddings, ["doc_id", "embedding"], BATCH_ROWS):
        rows = _matrix(batch.column("embedding"), dimensions)
        usable = np.empty(len(rows), dtype=np.bool_)
        to_unit(rows, usable)
        yield ids_from_arrow(batch.column("doc_id")), rows, usable


class Mean:
    """The mean of unit vectors, the same in whatever order they are added."""

    def __init__(self, dimensions: int) -> None:
        self._sums = np.zeros(dimensions, dtype=np.int64)
        self._count = 0

    def add(self, rows: Matrix) -> None:
        add_fixed(rows, self._sums)
        self._count += len(rows)

    def vector(self) -> Matrix:
        return (self._sums / 2.0**32 / max(1, self._count)).astype(np.float32)


def dimensions_of(embeddings: Embeddings) -> int:
    """Of the vectors; UsageError where the column holds no vectors of one length."""
    schema = _schema(embeddings)
    for column in ("doc_id", "embedding"):
        if column not in schema.names:
            raise UnknownName.of("column", column, schema.names, where="embeddings")
    kind = schema.field("embedding").type
    if not pa.types.is_fixed_size_list(kind) or not pa.types.is_floating(kind.value_type):
        raise UsageError(
            f"embedding must be a FixedSizeList of floats, got {kind}",
            hint="the vectors of one model have one length: cast to FixedSizeList<float32>[length]",
        )
    return int(kind.list_size)


def _matrix(column: pa.FixedSizeListArray, dimensions: int) -> Matrix:
    """A copy as float32; nulls become NaN."""
    values = column.values.slice(column.offset * dimensions, len(column) * dimensions)
    numbers = values.cast(pa.float32()).to_numpy(zero_copy_only=False)
    rows = np.array(numbers, dtype=np.float32, copy=True).reshape(len(column), dimensions)
    if column.null_count:
        rows[column.is_null().to_numpy(zero_copy_only=False)] = np.nan
    return rows


def _schema(embeddings: Any) -> pa.Schema:
    return embeddings.schema


def _scan(embeddings: Any, columns: list[str], rows: int = 65_536) -> Iterator[pa.RecordBatch]:
    if isinstance(embeddings, pa.Table):
        yield from embeddings.select(columns).to_batches(max_chunksize=rows)
    else:
        yield from embeddings.scan(columns, batch_rows=rows)
