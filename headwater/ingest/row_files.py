"""What readers of rows have in common: files, a column map, and where a row's source comes from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

from headwater.ingest.canonical import Defaults
from headwater.ingest.columns import ColumnMap, check_map
from headwater.ingest.duck import Ducks
from headwater.ingest.inputs import DataFile, Location, data_files, default_source
from headwater.ingest.whole import Task


class RowFiles(ABC):
    """Rows of one or more files. ``source``: a name for all rows, or None."""

    suffixes: tuple[str, ...]
    """What counts as such a file in a folder."""
    source_prefix: str | None = None

    def __init__(
        self,
        location: Location,
        *,
        source: str | None,
        columns: Mapping[str, str] | None,
        layout: str | None,
        max_bytes: int,
        ducks: Ducks,
    ) -> None:
        check_map(columns, layout)
        self._files = self._find(location)
        self._max_bytes = max_bytes
        self._ducks = ducks
        self.map = self._choose(columns, layout)
        self.layout = self.map.layout
        from_rows = "source" in self.map.columns and (source is None or "source" in self.map.given)
        self.source = source or default_source(location, needed=not from_rows)
        self.sources = None if from_rows else frozenset({self.source})
        self._defaults = Defaults(source=self.source, from_rows=from_rows)

    def total_bytes(self) -> int | None:
        return sum(file.size for file in self._files)

    def _find(self, location: Location) -> list[DataFile]:
        return data_files(location, lambda name: name.endswith(self.suffixes))

    @abstractmethod
    def _choose(self, columns: Mapping[str, str] | None, layout: str | None) -> ColumnMap:
        """The map for these files. Raises BadInput where it does not fit, before anything is written."""

    @abstractmethod
    def tasks(self) -> Iterator[Task]: ...
