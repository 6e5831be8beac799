"""Training orders and tokens as Megatron's indexed data set: ``.bin``, ``.idx``, and a sidecar that traces.

A ``sequences`` table gives one Megatron document per training sequence, so document *i* is sequence *i*
and the sidecar says which spans of which documents it holds. A ``tokens`` table gives one per document.

The layout is that of ``megatron.core.datasets.indexed_dataset`` (0.16): 9 bytes of magic, a version, a code
for the token type, the numbers of sequences and of document borders; then the lengths (int32), the byte
offsets (int64) and the document borders (int64). Little-endian, as numpy writes it on every machine that
trains.
"""

from __future__ import annotations

import binascii
import struct
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from headwater import __version__
from headwater.errors import DataMismatch, UsageError
from headwater.export.folder import (
    MANIFEST_KIND,
    ExportedFile,
    described,
    target_folder,
    whole_folder,
    write_manifest,
)
from headwater.lake.approvals import approval_of_content
from headwater.lineage import open_ref
from headwater.loading.rows import open_rows
from headwater.sequences.packing import close_documents
from headwater.tokenizer import token_type

if TYPE_CHECKING:
    from headwater.lake import Lake, Table

MAGIC = b"MMIDIDX\x00\x00"
FORMAT_VERSION = 1
TYPE_CODES = {np.dtype("<u2"): 8, np.dtype("<i4"): 4}
"""Megatron knows no uint32: vocabularies above 65,535 ids are written as int32."""
HEADER_BYTES = 34
CHUNK_TOKENS = 1 << 21
"""Tokens read at once: 4 MB of uint16."""


@dataclass(frozen=True, kw_only=True)
class MegatronReport:
    """What was written; the same facts stand in the export's ``manifest.json``.

    ``unit`` is what a Megatron document is: a training ``sequence``, or a ``document`` with its
    end-of-text token. ``prefix`` is what Megatron's ``--data-path`` wants, relative to the folder.
    """

    kind: str
    headwater: str
    format: str
    table: str
    version: int
    digest: str
    approval: dict[str, Any] | None
    """The standing approval of what was packed (or of the tokens' first input), or ``None``."""
    unit: str
    prefix: str
    token_type: str
    tokenizer_id: str
    vocab_size: int
    eos_id: int
    sequence_length: int | None
    rows: int
    tokens: int
    """Tokens in the ``.bin``, padding among them."""
    padding: int
    """Tokens that no document has: end-of-text ids at the end of a sequence."""
    packed: dict[str, Any]
    """How the table was packed: its recorded settings."""
    files: tuple[ExportedFile, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def export_megatron(
    lake: Lake,
    table: str = "sequences",
    *,
    to: str | Path,
    version: int | str | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int | None, str], None] | None = None,
) -> MegatronReport:
    """Write one version of a ``sequences`` or ``tokens`` table as ``NAME.bin`` and ``NAME.idx``.

    Beside them lie ``NAME.spans.parquet`` (or ``NAME.documents.parquet``), ``tokenizer.json`` and
    ``manifest.json``. Everything streams; the memory does not grow with the table.

    Parameters
    ----------
    to: a folder that is not there yet. It appears when everything is written, or not at all.
    overwrite: replace an earlier export at ``to``; any other folder stays as it is.
    progress: called with rows written, rows in all, and the file's name.

    Raises
    ------
    UsageError
        The table holds no tokens, or a folder is in the way.
    DataMismatch
        The sequences are not dense and in order, or the tokenizer is not in the lake.
    """
    if version is not None and "@" in table:
        raise UsageError(f"{table} and version {version} both name a version")
    target = target_folder(to, overwrite)
    opened = open_ref(lake, table if version is None else f"{table}@{version}")
    rows = _rows(lake, opened)
    name = opened.short_name
    with whole_folder(target, overwrite) as folder:
        data, index = folder / f"{name}.bin", folder / f"{name}.idx"
        spans = folder / f"{name}.{rows.sidecar}.parquet"
        written, traced = _write(rows, data, index, spans, progress)
        tokenizer = folder / "tokenizer.json"
        tokenizer.write_text(rows.tokenizer, encoding="utf-8")
        sizes = {data: written.rows, index: written.rows, spans: traced, tokenizer: 0}
        facts = opened.provenance.extra
        approval = _approval(lake, opened)
        report = MegatronReport(
            kind=MANIFEST_KIND,
            headwater=__version__,
            format="megatron",
            table=opened.name,
            version=opened.version,
            digest=opened.digest,
            approval=approval,
            unit=rows.unit,
            prefix=name,
            token_type=rows.dtype.name,
            tokenizer_id=facts["tokenizer_id"],
            vocab_size=int(facts["vocab_size"]),
            eos_id=rows.eos_id,
            sequence_length=rows.length,
            rows=written.rows,
            tokens=written.tokens,
            padding=rows.padding,
            packed=dict(facts),
            files=tuple(described(folder, path, count) for path, count in sizes.items()),
        )
        write_manifest(folder, report.to_json())
    return report


class IndexedFiles:
    """Writes ``.bin`` and ``.idx`` as rows come in; every row is one Megatron document of one sequence.

    Parameters
    ----------
    rows: how many will come. The three arrays of the index lie one behind the other, so their places
        are known when their number is.
    """

    def __init__(self, data: Path, index: Path, dtype: np.dtype[Any], rows: int) -> None:
        self.rows = self.tokens = 0
        self._total = rows
        self._dtype = dtype
        self._data = data.open("wb")
        self._index = index.open("wb")
        self._index.write(MAGIC + struct.pack("<QBQQ", FORMAT_VERSION, TYPE_CODES[dtype], rows, rows + 1))
        self._at(2, 0, np.zeros(1, dtype="<i8"))

    def add(self, tokens: npt.NDArray[Any], lengths: npt.NDArray[np.int64]) -> None:
        """Append rows: ``lengths`` (n,) of them, and all their tokens end to end."""
        ends = self.tokens + np.cumsum(lengths)
        self._data.write(tokens.astype(self._dtype, copy=False).tobytes())
        self._at(0, self.rows, lengths.astype("<i4"))
        self._at(1, self.rows, ((ends - lengths) * self._dtype.itemsize).astype("<i8"))
        self._at(2, self.rows + 1, np.arange(self.rows + 1, self.rows + 1 + len(lengths), dtype="<i8"))
        self.rows += len(lengths)
        self.tokens += len(tokens)

    def _at(self, array: int, row: int, values: npt.NDArray[Any]) -> None:
        start = HEADER_BYTES + (0, 4, 12)[array] * self._total
        self._index.seek(start + row * values.itemsize)
        self._index.write(values.tobytes())

    def __enter__(self) -> IndexedFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (self._data, self._index):
            file.close()
        if error is None and self.rows != self._total:
            raise DataMismatch(f"{self._total:,} rows were announced and {self.rows:,} came")


def _write(
    rows: _Sequences | _Documents,
    data: Path,
    index: Path,
    sidecar: Path,
    progress: Callable[[int, int | None, str], None] | None,
) -> tuple[IndexedFiles, int]:
    import pyarrow.parquet as pq

    total = rows.table.num_rows
    traced = 0
    plain = [name for name in rows.schema.names if name not in ("doc_id", "sequence_index")]
    with (
        IndexedFiles(data, index, rows.dtype, total) as files,
        pq.ParquetWriter(sidecar, rows.schema, compression="zstd", use_dictionary=plain) as writer,
    ):
        for tokens, lengths, trace in rows.batches():
            files.add(tokens, lengths)
            writer.write_batch(trace, row_group_size=max(trace.num_rows, 1))
            traced += trace.num_rows
            if progress:
                progress(files.rows, total, data.name)
    return files, traced


def _rows(lake: Lake, table: Table) -> _Sequences | _Documents:
    names, facts = table.schema.names, table.provenance.extra
    if "tokenizer_id" in facts and "sequence_index" in names:
        return _Sequences(lake, table)
    if "tokenizer_id" in facts and {"doc_id", "tokens"} <= set(names):
        return _Documents(lake, table)
    raise UsageError(
        f"{table.ref} holds no tokens", hint="name a packed table: sequences, held_out, or tokens"
    )


class _Rows:
    """What both kinds of table need: the tokenizer, the token type."""

    def __init__(self, lake: Lake, table: Table) -> None:
        self.table = table
        self.padding = 0
        tokenizer_id = table.provenance.extra["tokenizer_id"]
        self.tokenizer, self.eos_id = _tokenizer(lake, tokenizer_id)
        narrow = token_type(int(table.provenance.extra["vocab_size"])) == pa.uint16()
        self.dtype = np.dtype("<u2") if narrow else np.dtype("<i4")


class _Sequences(_Rows):
    """Rows of ``sequences``: all of one length."""

    unit, sidecar = "sequence", "spans"

    def __init__(self, lake: Lake, table: Table) -> None:
        super().__init__(lake, table)
        self.length: int | None = int(table.provenance.extra["sequence_length"])
        self._span = table.schema.field("spans").type.value_type
        self._gathered = None if "tokens" in table.schema.names else open_rows(lake, table, ())
        self.schema = pa.schema(
            {
                "sequence_index": pa.int64(),
                "doc_id": pa.string(),
                "start": pa.int32(),
                "length": pa.int32(),
                "source": pa.string(),
                "epoch": pa.int32(),
                "form": pa.int8(),
            }
        )

    def batches(self) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[np.int64], pa.RecordBatch]]:
        length = int(self.length or 1)
        first = 0
        columns = ["sequence_index", "spans", *([] if self._gathered else ["tokens"])]
        for batch in self.table.scan(columns, batch_rows=max(CHUNK_TOKENS // length, 1)):
            index = batch["sequence_index"].to_numpy()
            if not np.array_equal(index, np.arange(first, first + len(index))):
                raise DataMismatch(
                    f"{self.table.ref} does not hold its sequences densely and in order",
                    hint="pack again: rows were deleted or rewritten by another program",
                )
            first += len(index)
            tokens = self._gathered(index).tokens if self._gathered else batch["tokens"].flatten().to_numpy()
            spans = batch["spans"]
            flat = spans.flatten()
            self.padding += len(tokens) - int(flat.field("length").to_numpy().sum(dtype=np.int64))
            counts = np.diff(spans.offsets.to_numpy())
            trace = {"sequence_index": pa.array(np.repeat(index, counts))}
            trace |= {name: self._column(flat, name) for name in self.schema.names[1:]}
            yield (
                tokens,
                np.full(len(index), length, np.int64),
                pa.record_batch(list(trace.values()), schema=self.schema),
            )

    def _column(self, spans: pa.StructArray, name: str) -> pa.Array:
        kind = self.schema.field(name).type
        if name == "doc_id":
            return hex_of(spans.field(name))
        if self._span.get_field_index(name) < 0:  # spans written before epochs and forms were recorded
            return pa.array(np.zeros(len(spans), kind.to_pandas_dtype()))
        return spans.field(name).cast(kind)


class _Documents(_Rows):
    """Rows of ``tokens``: documents, each closed by its end-of-text token, in stored order."""

    unit, sidecar = "document", "documents"
    length: int | None = None
    schema = pa.schema({"document_index": pa.int64(), "doc_id": pa.string(), "num_tokens": pa.int32()})

    def batches(self) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[np.int64], pa.RecordBatch]]:
        first = 0
        for batch in self.table.scan(["doc_id", "tokens"], batch_rows=1_024):
            tokens, lengths = close_documents(batch["tokens"], self.eos_id)
            index = np.arange(first, first + batch.num_rows)
            first += batch.num_rows
            columns = [pa.array(index), hex_of(batch["doc_id"]), pa.array(lengths.astype(np.int32))]
            yield tokens, lengths, pa.record_batch(columns, schema=self.schema)


def hex_of(ids: pa.Array) -> pa.Array:
    """Binary(16) ids as strings of 32 hex digits, without a Python object for each."""
    data = ids.buffers()[1]
    raw = b"" if data is None else memoryview(data)[16 * ids.offset : 16 * (ids.offset + len(ids))]
    digits = pa.Array.from_buffers(pa.binary(32), len(ids), [None, pa.py_buffer(binascii.hexlify(raw))])
    return digits.cast(pa.binary()).cast(pa.string())


def _tokenizer(lake: Lake, tokenizer_id: str) -> tuple[str, int]:
    """The tokenizer's JSON and the id of its end-of-text token, without the library that runs it."""
    table = lake.table("tokenizers")
    for row in table.to_arrow(["tokenizer_id", "json", "eos_id"]).to_pylist():
        if row["tokenizer_id"] == tokenizer_id == xxhash.xxh3_128_hexdigest(row["json"].encode()):
            return row["json"], int(row["eos_id"])
    raise DataMismatch(
        f"expected tokenizer {tokenizer_id}, {table.ref} has none of that id",
        hint="pack again, with the tokenizer.json that was used",
    )


def _approval(lake: Lake, table: Table) -> dict[str, Any] | None:
    """The standing approval of the table that was packed."""
    for ref in table.provenance.inputs[:1]:
        found = approval_of_content(lake, ref)
        return found.to_dict() if found else None
    return None
