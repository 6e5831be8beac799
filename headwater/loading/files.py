"""Reading rows of a local table straight from its data files.

A scan or a take plans a query each time, which costs as much as reading half a million tokens and grows
with the number of files. The files hold the rows in order, so where a row lies is arithmetic.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

if TYPE_CHECKING:
    from headwater.lake import Table

Indices = npt.NDArray[np.int64]

IDLE_READERS = 8


def is_range(rows: Indices) -> bool:
    """True for consecutive indices."""
    return len(rows) > 0 and int(rows[-1]) - int(rows[0]) + 1 == len(rows)


class TableFiles:
    """The data files of one version, in the table's order, with the columns to read."""

    def __init__(self, folder: Path, fragments: Sequence[Any], ends: Indices, columns: Sequence[str]) -> None:
        self._folder = folder
        self._fragments = fragments
        self._ends = ends
        self._columns = list(columns)
        self._lock = threading.Lock()
        self._idle: list[tuple[int, Any]] = []

    @classmethod
    def of(cls, table: Table, columns: Sequence[str]) -> TableFiles | None:
        """The files of ``table``; ``None`` where only a query reads it rightly.

        That is a table in an object store, with deleted rows, with columns that were added later, or
        with files outside its folder.
        """
        folder = Path(table.dataset.uri.removeprefix("file://"), "data")
        if not folder.is_dir():
            return None
        # Ten thousand files hold some 10^9 sequences: nothing slow here for each of them.
        fragments = table.dataset.get_fragments()
        ends = np.cumsum(np.array([fragment.physical_rows for fragment in fragments], np.int64))
        if not fragments or int(ends[-1]) != table.num_rows:  # rows were deleted
            return None
        found = cls(folder, fragments, ends, columns)
        path = found._path(0)
        return found if path is not None and path.is_file() else None

    def _path(self, file: int) -> Path | None:
        files = self._fragments[file].data_files()
        return self._folder / files[0].path if len(files) == 1 else None

    def read(self, rows: Indices) -> pa.Table | None:
        """The rows with the given ascending positions; ``None`` where a file holds not all columns."""
        files = np.searchsorted(self._ends, rows, side="right")
        cuts = np.flatnonzero(np.diff(files)) + 1
        parts = []
        for part in np.split(rows, cuts):
            file = int(np.searchsorted(self._ends, part[0], side="right"))
            places = part - (self._ends[file - 1] if file else 0)
            path = self._path(file)
            if path is None:
                return None
            with self._reader(file, path) as reader:
                size = len(places)
                found = (
                    reader.read_range(int(places[0]), size, batch_size=size)
                    if is_range(places)
                    else reader.take_rows(places.tolist(), batch_size=size)
                )
                parts.append(found.to_table())
        return parts[0] if len(parts) == 1 else pa.concat_tables(parts)

    @contextlib.contextmanager
    def _reader(self, file: int, path: Path) -> Iterator[Any]:
        """A reader of the file that no other thread uses meanwhile: Lance refuses that."""
        from lance.file import LanceFileReader

        with self._lock:
            place = next((i for i, (number, _) in enumerate(self._idle) if number == file), None)
            reader = None if place is None else self._idle.pop(place)[1]
        if reader is None:
            reader = LanceFileReader(str(path), columns=self._columns)
        yield reader
        with self._lock:
            self._idle.append((file, reader))
            del self._idle[:-IDLE_READERS]
