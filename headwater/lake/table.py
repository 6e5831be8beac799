"""One exact version of one table, for reading."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from headwater.errors import UnknownName
from headwater.lake.provenance import Provenance, TableRef, VersionFacts

if TYPE_CHECKING:
    import lance

BATCH_ROWS = 512
BATCH_BYTES = 8 << 20
IO_BUFFER_BYTES = 64 << 20
"""A whole scan of 2.55 GB of text with these settings took 3.6 s at 0.47 GB resident; Lance's
defaults read ahead as many batches as there are cores, whatever their size."""

LOOKUP_ROWS = 2_048
"""Ids in one indexed filter: 2,000-4,000 ran fastest (214 MB/s); larger lists plan slowly."""

TEXT_COLUMN = "text"


class Table:
    """A table at one version. Cheap to hold: reads happen in ``scan`` and ``with_text``."""

    def __init__(self, name: str, dataset: lance.LanceDataset, facts: VersionFacts) -> None:
        self.name = name
        self.dataset = dataset
        self._facts = facts

    @property
    def version(self) -> int:
        return int(self.dataset.version)

    @property
    def digest(self) -> str:
        """Content digest, 32 hex digits."""
        return self._facts.content_digest

    @property
    def num_rows(self) -> int:
        return self._facts.num_rows

    @property
    def provenance(self) -> Provenance:
        return self._facts.provenance

    @property
    def facts(self) -> VersionFacts:
        return self._facts

    @property
    def ref(self) -> TableRef:
        return TableRef(name=self.name, version=self.version, digest=self.digest)

    @cached_property
    def schema(self) -> pa.Schema:
        return self.dataset.schema

    @property
    def short_name(self) -> str:
        """The name without its schema."""
        return self.name.rpartition(".")[2]

    @property
    def has_text(self) -> bool:
        return TEXT_COLUMN in self.schema.names

    @cached_property
    def has_id_index(self) -> bool:
        """True when ``doc_id`` has a scalar index, so that point look-ups are cheap."""
        return any(index.field_names == ["doc_id"] for index in self.dataset.describe_indices())

    def scan(
        self,
        columns: Sequence[str] | None = None,
        *,
        filter: str | None = None,
        batch_rows: int | None = None,
    ) -> pa.RecordBatchReader:
        """Stream the table in its stored order, within a bounded memory.

        Batches hold at most ``batch_rows`` rows; without it, 512 rows where text is read and as many
        as Lance likes elsewhere.
        """
        self._check_columns(columns)
        wanted = list(columns) if columns is not None else self.schema.names
        if TEXT_COLUMN in wanted or batch_rows is not None:
            scanner = self.dataset.scanner(
                columns=wanted,
                filter=filter,
                batch_size=batch_rows or BATCH_ROWS,
                io_buffer_size=IO_BUFFER_BYTES,
                batch_readahead=2,
                fragment_readahead=1,
                scan_in_order=True,
            )
        else:
            scanner = self.dataset.scanner(columns=wanted, filter=filter, scan_in_order=True)
        return scanner.to_reader()

    def fragments(self) -> list[tuple[int, int]]:
        """``(fragment id, rows)`` in the table's order: how a scan can be divided."""
        return [(f.fragment_id, f.count_rows()) for f in self.dataset.get_fragments()]

    def scan_range(
        self, fragment: int, start: int, count: int, columns: Sequence[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Stream ``count`` rows of one fragment from its row ``start`` on, as :meth:`scan` does."""
        self._check_columns(columns)
        found = self.dataset.get_fragment(fragment)
        if found is None:
            raise UnknownName(f"{self.ref} has no fragment {fragment}")
        yield from found.scanner(
            columns=list(columns) if columns is not None else self.schema.names,
            offset=start,
            limit=count,
            batch_size=BATCH_ROWS,
            io_buffer_size=IO_BUFFER_BYTES,
            batch_readahead=2,
        ).to_reader()

    def to_arrow(self, columns: Sequence[str] | None = None, filter: str | None = None) -> pa.Table:
        """Read into memory: for narrow tables. Text streams through :meth:`scan`."""
        return self.scan(columns, filter=filter).read_all()

    def with_text(
        self, ids: pa.Array | pa.ChunkedArray, columns: Sequence[str] = (TEXT_COLUMN,)
    ) -> Iterator[pa.RecordBatch]:
        """Yield ``doc_id`` and ``columns`` for ``ids``, in their order, some 2,000 rows a batch.

        Look-ups go through the index on ``doc_id``. Ids that the table does not hold are an error
        (``UnknownName``): a silent gap would look like an answer.
        """
        ids = pa.chunked_array([ids]) if isinstance(ids, pa.Array) else ids
        for start in range(0, len(ids), LOOKUP_ROWS):
            part = ids.slice(start, LOOKUP_ROWS).combine_chunks()
            found = self.dataset.scanner(
                columns=["doc_id", *columns], filter=in_list("doc_id", part)
            ).to_table()
            places = pc.index_in(part, found["doc_id"].combine_chunks())
            if places.null_count:
                missing = part.filter(places.is_null())[0].as_py().hex()
                raise UnknownName(
                    f"{self.name}@{self.version} has no document {missing}",
                    hint="the ids come from another version of this table; rebuild what they were read from",
                )
            yield from found.take(places).combine_chunks().to_batches()

    def _check_columns(self, columns: Sequence[str] | None) -> None:
        for column in columns or ():
            if column not in self.schema.names:
                raise UnknownName.of("column", column, self.schema.names, where=str(self.ref))


def in_list(column: str, values: pa.Array) -> str:
    """A Lance filter ``column in (…)`` for binary or integer values (never for text from data)."""
    if pa.types.is_integer(values.type):
        return f"{column} in ({', '.join(str(v) for v in values.to_pylist())})"
    if not (pa.types.is_fixed_size_binary(values.type) or pa.types.is_binary(values.type)):
        raise TypeError(f"ids must be binary or integer, got {values.type}")
    literals = (f"X'{value.hex()}'" for value in values.to_pylist())
    return f"{column} in ({', '.join(literals)})"
