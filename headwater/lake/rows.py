"""Streams of rows on their way into a table: typed, counted into the digest, filtered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import lance
import pyarrow as pa
import pyarrow.compute as pc

from headwater.digest import ContentDigest
from headwater.errors import UsageError
from headwater.lake.synthetic import SYNTHETIC_FIELDS
from headwater.lake.table import TEXT_COLUMN, in_list

Batches: TypeAlias = pa.RecordBatchReader | pa.Table | pa.RecordBatch | Iterable[pa.RecordBatch]


def as_reader(batches: Batches, schema: pa.Schema | None) -> pa.RecordBatchReader:
    if isinstance(batches, pa.RecordBatchReader):
        return batches
    if isinstance(batches, pa.Table):
        return batches.to_reader()
    if isinstance(batches, pa.RecordBatch):
        return pa.RecordBatchReader.from_batches(batches.schema, [batches])
    if schema is None:
        raise UsageError("got an iterable of batches without a schema", hint="pass schema=…")
    return pa.RecordBatchReader.from_batches(schema, batches)


class Counted:
    """The same batches, counted into ``digest`` as they pass.

    An exception of the stream comes back out of Lance as text inside an ``OSError``; ``unwrap``
    raises the exception itself again.
    """

    def __init__(self, reader: pa.RecordBatchReader, digest: ContentDigest) -> None:
        self._source = reader
        self._digest = digest
        self._error: Exception | None = None
        self.reader = pa.RecordBatchReader.from_batches(reader.schema, self._batches())

    def _batches(self) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self._source:
                self._digest.add(batch)
                yield batch
        except Exception as error:
            self._error = error
            raise

    @contextmanager
    def unwrap(self) -> Iterator[pa.RecordBatchReader]:
        try:
            yield self.reader
        except Exception as error:
            if self._error is not None and self._error is not error:
                raise self._error from None
            raise


def cast_rows(reader: pa.RecordBatchReader, schema: pa.Schema, target: str) -> pa.RecordBatchReader:
    """The rows in the columns of ``schema``.

    Only what says where a synthetic row comes from may be missing: it is null in a row that is not one.
    """
    if reader.schema.equals(schema):
        return reader
    optional = SYNTHETIC_FIELDS.names if TEXT_COLUMN in schema.names else ()
    missing = [name for name in schema.names if name not in (*reader.schema.names, *optional)]
    extra = [name for name in reader.schema.names if name not in schema.names]
    if missing or extra:
        raise UsageError(
            f"rows for {target} have other columns: missing {missing}, unexpected {extra}",
            hint=f"the table has {schema.names}; replace the table to change its columns",
        )
    batches = (with_nulls(batch, schema) for batch in reader)
    return pa.RecordBatchReader.from_batches(schema, batches)


def with_nulls(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The columns of ``schema``, null where the batch has none of the name."""
    own = set(batch.schema.names)
    columns = [
        batch[field.name].cast(field.type) if field.name in own else pa.nulls(batch.num_rows, field.type)
        for field in schema
    ]
    return pa.record_batch(columns, schema=schema)


def unique_keys(keys: pa.Array | pa.ChunkedArray | None) -> pa.Array:
    if keys is None:
        return pa.array([], pa.binary(16))
    unique = pc.unique(keys)
    return unique.combine_chunks() if isinstance(unique, pa.ChunkedArray) else unique


def without(batches: Iterable[pa.RecordBatch], gone: pa.Array, key: str) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield batch.filter(pc.invert(pc.is_in(batch[key], value_set=gone)))


def delete_rows(
    dataset: lance.LanceDataset, gone: pa.Array, key: str, digest: ContentDigest
) -> tuple[list[Any], list[int]]:
    """Mark rows as deleted (files only, no commit) and take them out of the digest."""
    updated: list[Any] = []
    removed: list[int] = []
    if not len(gone):
        return updated, removed
    predicate = in_list(key, gone)
    hit: set[int] = set()
    for batch in dataset.scanner(filter=predicate, with_row_address=True, batch_size=512).to_batches():
        addresses = batch.column("_rowaddr").to_numpy()
        hit.update((addresses >> 32).tolist())
        digest.subtract(batch.select(dataset.schema.names))
    for fragment in dataset.get_fragments():
        if fragment.fragment_id in hit:
            rest = fragment.delete(predicate)
            removed.append(fragment.fragment_id) if rest is None else updated.append(rest)
    return updated, removed
