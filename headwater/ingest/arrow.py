"""``kind="arrow"``: Arrow IPC files and streams, and Feather, which is the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from headwater.ingest.inputs import DataFile
from headwater.ingest.tables import BATCH_BYTES, MAX_BATCH_ROWS, Batches, TableFiles, expanded

SUFFIXES = (".arrow", ".feather", ".ipc", ".arrows")
_FILE_MAGIC = b"ARROW1"
_AS_BYTES = {
    pa.string(): pa.binary(),
    pa.large_string(): pa.large_binary(),
    pa.string_view(): pa.binary_view(),
}


class ArrowReader(TableFiles):
    """Record batches in order, memory-mapped: of an uncompressed batch only what is looked at is read."""

    suffixes = SUFFIXES
    format = "Arrow"

    def _schema(self, file: DataFile) -> pa.Schema:
        with _mapped(file) as opened:
            return _open(opened).schema

    def _batches(self, file: DataFile) -> Batches:
        with _mapped(file) as opened:
            held: pa.RecordBatch | None = None
            reported = 0
            for batch, at in _positions(_open(opened), opened, file.size):
                for piece in _pieces(_checked(batch)):
                    if held is not None:
                        yield held, at - reported, False
                        reported = at
                    held = piece
            if held is not None:
                yield held, max(0, file.size - reported), True


def _mapped(file: DataFile) -> Any:
    # Arrow takes a path only as UTF-8; of a file that is open already it maps nothing, which is slower.
    return pa.memory_map(file.path) if _is_utf8(file.path) else pa.OSFile(file.path)


def _is_utf8(path: str) -> bool:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _open(opened: Any) -> Any:
    magic = opened.read(len(_FILE_MAGIC))
    opened.seek(0)
    if magic == b"":
        raise pa.ArrowInvalid("an empty file")
    return pa.ipc.open_file(opened) if magic == _FILE_MAGIC else pa.ipc.open_stream(opened)


def _positions(reader: Any, opened: Any, size: int) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Batches, each with how much of the file was read after it."""
    if isinstance(reader, pa.RecordBatchFileReader):
        count = reader.num_record_batches
        for i in range(count):
            yield reader.get_batch(i), size * (i + 1) // count
        return
    for batch in reader:
        yield batch, min(size, int(opened.tell()))


def _checked(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch when its buffers are what its types say, strings that are not UTF-8 as bytes."""
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid:
        columns = [_bytes_of(column) for column in batch.columns]
        batch = pa.record_batch(columns, names=batch.schema.names)
        batch.validate(full=True)
    return batch


def _bytes_of(column: pa.Array) -> pa.Array:
    if column.type not in _AS_BYTES:
        return column
    column.validate()
    return column.view(_AS_BYTES[column.type])


def _pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    rows = int(max(1, min(MAX_BATCH_ROWS, BATCH_BYTES * batch.num_rows // max(batch.nbytes, 1))))
    for start in range(0, batch.num_rows, rows):
        yield from expanded(batch.slice(start, rows))
