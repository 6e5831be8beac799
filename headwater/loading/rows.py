"""Reading sequences of a packed table: tokens and spans as flat arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headwater.errors import DataMismatch
from headwater.loading.files import Indices, TableFiles, is_range
from headwater.sequences.packing import close_documents

if TYPE_CHECKING:
    from headwater.lake import Lake, Table

NO_SOURCE = -1
"""Index of a source that the table does not name."""


class Rows(NamedTuple):
    """``n`` sequences of ``L`` tokens; read-only arrays.

    ``tokens`` (n * L,) uint16 or uint32, ``offsets`` (n + 1,) int32 into the spans from 0 on, ``lengths``
    (spans,) int32 in tokens, ``sources`` (spans,) int32 index into the table's source names, -1 for none.
    """

    tokens: npt.NDArray[Any]
    offsets: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int32]
    sources: npt.NDArray[np.int32]

    @property
    def num_rows(self) -> int:
        """Sequences."""
        return len(self.offsets) - 1

    @property
    def most_segments(self) -> int:
        """Spans of the sequence that has most of them."""
        return int(np.diff(self.offsets).max(initial=0))


class Reader(Protocol):
    """Gives the sequences with the given ascending indices."""

    def __call__(self, rows: Indices) -> Rows: ...


def frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A read-only view: kernels are compiled once, for read-only input."""
    view = array.view()
    view.flags.writeable = False
    return view


class Materialized:
    """Reads rows by position; the index column proves that positions are sequence indices."""

    columns: tuple[str, ...] = ("sequence_index", "tokens", "spans")

    def __init__(self, table: Table, source_names: Sequence[str]) -> None:
        self._table = table
        self._names = pa.array(source_names, pa.string())
        self._files = TableFiles.of(table, self._file_columns())

    def __call__(self, rows: Indices) -> Rows:
        found = self._fetch(rows)
        return self._rows(found["tokens"].flatten().to_numpy(), found["spans"])

    def _file_columns(self) -> list[str]:
        """Of the spans only what a batch needs: their ids are most of the bytes."""
        item = self._table.schema.field("spans").type.value_field.name
        wanted = ("length", "source") if len(self._names) else ("length",)
        return ["sequence_index", "tokens", *(f"spans.{item}.{name}" for name in wanted)]

    def _fetch(self, rows: Indices) -> pa.RecordBatch:
        dataset = self._table.dataset
        found = self._files.read(rows) if self._files is not None else None
        if found is not None:
            pass
        elif is_range(rows):
            scanner = dataset.scanner(
                columns=list(self.columns),
                offset=int(rows[0]),
                limit=len(rows),
                batch_size=len(rows),
                scan_in_order=True,
            )
            found = scanner.to_table()
        else:
            found = dataset.take(rows, columns=list(self.columns))
        if found.num_rows != len(rows) or not np.array_equal(found["sequence_index"].to_numpy(), rows):
            raise DataMismatch(
                f"{self._table.ref} does not hold its sequences densely and in order",
                hint="pack again: rows were deleted or rewritten by another program",
            )
        return found.combine_chunks().to_batches()[0]

    def _rows(self, tokens: npt.NDArray[Any], spans: pa.ListArray) -> Rows:
        offsets = spans.offsets.to_numpy()
        flat = spans.flatten()
        return Rows(
            frozen(tokens),
            frozen(offsets - offsets[0]),
            frozen(flat.field("length").to_numpy()),
            frozen(self._sources(flat)),
        )

    def _sources(self, spans: pa.StructArray) -> npt.NDArray[np.int32]:
        if len(self._names) == 0:
            return np.full(len(spans), NO_SOURCE, np.int32)
        sources = spans.field("source")
        index = pc.index_in(sources, self._names)
        if index.null_count > sources.null_count:
            unknown = pc.unique(sources.filter(pc.and_(index.is_null(), sources.is_valid())))[0]
            raise DataMismatch(
                f"{self._table.ref} holds a span of source {unknown.as_py()!r}, its record names "
                f"{self._names.to_pylist()}",
                hint="pack again",
            )
        return np.asarray(index.fill_null(NO_SOURCE).to_numpy(), np.int32)


class Gathered(Materialized):
    """Reads spans by position and their documents' tokens by id."""

    columns = ("sequence_index", "spans")

    def _file_columns(self) -> list[str]:
        return list(self.columns)

    def __init__(self, table: Table, source_names: Sequence[str], tokens: Table) -> None:
        super().__init__(table, source_names)
        self._tokens = tokens
        facts = table.provenance.extra
        self._length = int(facts["sequence_length"])
        self._eos = int(facts["eos_id"])

    def __call__(self, rows: Indices) -> Rows:
        spans = self._fetch(rows)["spans"]
        flat = spans.flatten()
        ids = pc.unique(flat.field("doc_id"))
        batches = list(self._tokens.with_text(ids, columns=("tokens",)))
        documents = pa.Table.from_batches(batches)["tokens"].combine_chunks()
        stream, lengths = close_documents(documents, self._eos)
        places = pc.index_in(flat.field("doc_id"), ids).to_numpy()
        begins = (np.cumsum(lengths) - lengths)[places] + flat.field("start").to_numpy()
        counts = flat.field("length").to_numpy().astype(np.int64)
        ends = np.cumsum(counts)
        picked = stream[np.repeat(begins - (ends - counts), counts) + np.arange(ends[-1])]
        tokens = np.full(len(rows) * self._length, self._eos, dtype=picked.dtype)
        # Spans fill a row from its first token: token i of row r stands at r * L + i.
        per_row = np.diff(spans.offsets.to_numpy())
        row = np.repeat(np.arange(len(rows)), per_row)
        before = np.cumsum(np.bincount(row, weights=counts, minlength=len(rows))).astype(np.int64)
        row_begin = np.concatenate([[0], before[:-1]])
        shift = np.arange(len(rows)) * self._length - row_begin
        tokens[np.arange(ends[-1]) + np.repeat(shift[row], counts)] = picked
        return self._rows(tokens, spans)


def open_rows(lake: Lake, table: Table, source_names: Sequence[str]) -> Materialized:
    """The reader of one version of a packed table.

    Raises ``DataMismatch`` when the token table it was packed over is another one by now.
    """
    if "tokens" in table.schema.names:
        return Materialized(table, source_names)
    ref = table.provenance.extra["tokens_table"]
    tokens = lake.table(ref["table"], version=int(ref["version"]))
    if tokens.digest != ref["digest"]:
        raise DataMismatch(
            f"{table.ref} was packed over {tokens.ref} with digest {ref['digest']}, "
            f"the lake holds {tokens.digest}",
            hint="pack again",
        )
    return Gathered(table, source_names, tokens)
