"""Rows that must wait on disk until the whole input was seen."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import IO, Any

import pyarrow as pa


class Staged:
    """Record batches in an unnamed temporary file (``TMPDIR``), written once and read back in order.

    The file has no name, so a killed process leaves nothing behind.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self.num_rows = 0
        self._file: IO[bytes] | None = None
        self._writer: Any = None

    def __enter__(self) -> Staged:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, batch: pa.RecordBatch) -> None:
        if not batch.num_rows:
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="headwater-")  # noqa: SIM115 (closed in __exit__)
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            self._writer = pa.ipc.new_stream(self._file, self.schema, options=options)
        self._writer.write_batch(batch)
        self.num_rows += batch.num_rows

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Everything that was added; nothing can be added any more."""
        if self._file is None:
            return
        self._writer.close()
        self._file.seek(0)
        yield from pa.ipc.open_stream(self._file)
