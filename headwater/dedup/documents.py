"""Where the texts come from: a lake table, an Arrow table, or a stream that can be read once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import pyarrow as pa

from headwater.dedup.ids import Ids, ids_from_arrow, ids_to_arrow
from headwater.errors import UnknownName
from headwater.kernels.pairs import find_ids

SCAN_SHARE = 0.3
"""Above this share of wanted documents one scan beats look-ups by id: a scan runs at 700 MB/s, look-ups
through the index at 214 MB/s (pylance 14, two cores)."""

BATCH_ROWS = 1024


class LakeTable(Protocol):
    """What is used of ``headwater.lake.Table``."""

    num_rows: int
    has_id_index: bool

    def scan(self, columns: Any = None) -> pa.RecordBatchReader: ...
    def with_text(self, ids: pa.Array, columns: Any = ("text",)) -> Iterator[pa.RecordBatch]: ...


Documents: TypeAlias = LakeTable | pa.Table | pa.RecordBatchReader | Iterable[pa.RecordBatch]


class Texts:
    """(doc_id, text) batches that can be read as often as needed; null texts read as empty."""

    def __init__(self, documents: Documents, folder: Path) -> None:
        self._lake: Any = documents if hasattr(documents, "with_text") else None
        self._table: pa.Table | None = None
        if self._lake is None:
            stream: Any = documents
            self._table = stream if isinstance(stream, pa.Table) else _spooled(stream, folder)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        if self._lake is not None:
            for batch in self._lake.scan(["doc_id", "text"]):
                yield _two_columns(batch)
        elif self._table is not None:
            for batch in self._table.to_batches(max_chunksize=BATCH_ROWS):
                yield _two_columns(batch)

    def of(self, ids: Ids) -> Iterator[pa.RecordBatch]:
        """The batches of the documents in ``ids`` (ascending), in any order."""
        lake = self._lake
        if lake is not None and lake.has_id_index and len(ids) < SCAN_SHARE * lake.num_rows:
            yield from map(_two_columns, lake.with_text(ids_to_arrow(ids)))
            return
        for batch in self:
            wanted = find_ids(ids, ids_from_arrow(batch.column("doc_id"))) >= 0
            if wanted.all():
                yield batch
            elif wanted.any():
                yield batch.take(pa.array(np.flatnonzero(wanted)))


def _two_columns(batch: pa.RecordBatch) -> pa.RecordBatch:
    for column in ("doc_id", "text"):
        if column not in batch.schema.names:
            raise UnknownName.of("column", column, batch.schema.names, where="documents")
    return batch.select(["doc_id", "text"])


def _spooled(batches: Iterable[pa.RecordBatch], folder: Path) -> pa.Table | None:
    """A stream is read twice (signatures, then the texts of candidates): kept on disk, memory-mapped."""
    path = folder / "documents.arrow"
    writer: pa.RecordBatchFileWriter | None = None
    try:
        for batch in batches:
            narrow = _two_columns(batch)
            if writer is None:
                writer = pa.ipc.new_file(str(path), narrow.schema)
            writer.write_batch(narrow)
    finally:
        if writer is not None:
            writer.close()
    return None if writer is None else pa.ipc.open_file(pa.memory_map(str(path))).read_all()
