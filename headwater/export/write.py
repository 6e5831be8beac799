"""Writing an export: into a folder of its own beside the target, which takes its place when it is whole."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from headwater import __version__
from headwater.engine import ordered_map
from headwater.errors import UnknownName, UsageError
from headwater.export.documents import Documents
from headwater.export.folder import (
    MANIFEST_KIND,
    ExportedFile,
    described,
    target_folder,
    whole_folder,
    write_manifest,
)
from headwater.export.lines import (
    ID,
    datatrove_line,
    dolma_attributes_line,
    dolma_line,
    flat_line,
    is_attribute,
    lines,
)
from headwater.ingest.duck import Ducks
from headwater.lake.approvals import approval_of_content
from headwater.lake.table import TEXT_COLUMN
from headwater.lineage import open_ref

if TYPE_CHECKING:
    import pyarrow.parquet as pq

    from headwater.lake import Lake

FORMATS = ("parquet", "jsonl", "dolma", "datatrove")
SHARD_BYTES = 1 << 30
"""Text in one file before it is compressed. Files of this size are a few hundred megabytes."""
PARQUET_LEVEL = 3
"""zstd's own default. Arrow's compressed streams, which JSON lines go through, know level 1 only."""


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What was written; the same facts stand in the export's ``manifest.json``."""

    kind: str
    headwater: str
    format: str
    table: str
    version: int
    digest: str
    approval: dict[str, Any] | None
    """The standing approval of exactly this content, or ``None``."""
    text_table: dict[str, Any]
    """Where the text was read: table, version, digest."""
    columns: tuple[dict[str, str], ...]
    rows: int
    text_bytes: int
    files: tuple[ExportedFile, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def export(
    lake: Lake,
    table: str,
    *,
    format: str,
    to: str | Path,
    version: int | str | None = None,
    shard_bytes: int = SHARD_BYTES,
    overwrite: bool = False,
    threads: int | None = None,
    progress: Callable[[int, int | None, str], None] | None = None,
) -> ExportReport:
    """Write one version of ``table`` with its text as files that other tools read.

    Parameters
    ----------
    table: ``table``, ``schema.table`` or ``table@version``; or give ``version``: number, tag or ``approved``.
    format: ``parquet`` (zstd), ``jsonl`` (one flat object a line), ``dolma`` (documents and attributes) or
        ``datatrove`` (text, id, metadata); the last three as .jsonl.zst.
    to: a folder that is not there yet. It appears when everything is written, or not at all.
    shard_bytes: text in one file, before compression.
    overwrite: replace an earlier export at ``to``; any other folder stays as it is.
    progress: called with documents written, documents in all, and the file's name.

    Raises
    ------
    UsageError
        An unknown format, a folder that is in the way, or a table without documents.
    UnknownName, NotApproved, DataMismatch
        The version is not there, not approved, or its texts are gone.
    """
    if format == "megatron":
        raise UsageError("megatron is a format of tokens, not of documents", hint="call export_megatron")
    if format not in FORMATS:
        raise UnknownName.of("format", format, FORMATS)
    if shard_bytes < 1:
        raise UsageError(f"got a shard size of {shard_bytes}", hint="a positive number of bytes")
    if version is not None and "@" in table:
        raise UsageError(f"{table} and version {version} both name a version")
    target = target_folder(to, overwrite)
    opened = open_ref(lake, table if version is None else f"{table}@{version}")
    documents = Documents.of(lake, opened)
    approval = approval_of_content(lake, opened.ref)
    with whole_folder(target, overwrite) as folder:
        files, rows, text_bytes = _write(documents, format, folder, shard_bytes, threads, progress)
        report = ExportReport(
            kind=MANIFEST_KIND,
            headwater=__version__,
            format=format,
            table=opened.name,
            version=opened.version,
            digest=opened.digest,
            approval=approval.to_dict() if approval else None,
            text_table=documents.text.ref.to_dict(),
            columns=tuple({"name": f.name, "type": str(f.type)} for f in documents.schema),
            rows=rows,
            text_bytes=text_bytes,
            files=tuple(files),
        )
        write_manifest(folder, report.to_json())
    return report


class _Shard(Protocol):
    """The file or files of one shard."""

    paths: tuple[Path, ...]

    def add(self, made: Any) -> None: ...

    def close(self) -> None: ...


def _write(
    documents: Documents,
    format: str,
    folder: Path,
    shard_bytes: int,
    threads: int | None,
    progress: Callable[[int, int | None, str], None] | None,
) -> tuple[list[ExportedFile], int, int]:
    ducks = Ducks()
    layout = _Parquet(documents) if format == "parquet" else _Lines(documents, format, ducks)
    files: list[ExportedFile] = []
    total = documents.table.num_rows
    done = text_bytes = number = 0
    shard, rows, size = layout.shard(folder, number), 0, 0
    try:
        for made, count, length in ordered_map(layout.made, documents.chunks(shard_bytes), threads=threads):
            if rows and size + length > shard_bytes:
                shard.close()
                files += _described(folder, shard, rows)
                number += 1
                shard, rows, size = layout.shard(folder, number), 0, 0
            shard.add(made)
            rows, size = rows + count, size + length
            done, text_bytes = done + count, text_bytes + length
            if progress:
                progress(done, total, shard.paths[0].name)
        shard.close()
        files += _described(folder, shard, rows)
    finally:
        with contextlib.suppress(OSError, ValueError):
            shard.close()
        ducks.close()
    return sorted(files, key=lambda file: file.path), done, text_bytes


def _described(folder: Path, shard: _Shard, rows: int) -> Iterator[ExportedFile]:
    for path in shard.paths:
        yield described(folder, path, rows)


def _text_length(batch: pa.RecordBatch) -> int:
    return int(pc.sum(pc.binary_length(batch.column(TEXT_COLUMN))).as_py() or 0)


class _Parquet:
    """``part-00000.parquet``: ``id`` as hex, ``text``, then every other column in its own type."""

    def __init__(self, documents: Documents) -> None:
        fields = [pa.field(ID, pa.string()), *list(documents.schema)[1:]]
        self._schema = pa.schema([pa.field(f.name, _readable(f.type)) for f in fields])

    def made(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, int, int]:
        columns = [
            _hex(column) if _readable(column.type) != column.type else column for column in batch.columns
        ]
        columns = [c.cast(f.type) for c, f in zip(columns, self._schema, strict=True)]
        return pa.record_batch(columns, schema=self._schema), batch.num_rows, _text_length(batch)

    def shard(self, folder: Path, number: int) -> _Shard:
        return _ParquetShard(folder / f"part-{number:05d}.parquet", self._schema)


class _ParquetShard:
    def __init__(self, path: Path, schema: pa.Schema) -> None:
        import pyarrow.parquet as pq

        self.paths: tuple[Path, ...] = (path,)
        # Ids and text hardly repeat: a dictionary of them would only cost memory.
        plain = [f.name for f in schema if f.name not in (ID, TEXT_COLUMN)]
        self._writer: pq.ParquetWriter = pq.ParquetWriter(
            path, schema, compression="zstd", compression_level=PARQUET_LEVEL, use_dictionary=plain
        )

    def add(self, made: pa.RecordBatch) -> None:
        self._writer.write_batch(made, row_group_size=made.num_rows)

    def close(self) -> None:
        self._writer.close()


class _Lines:
    """``.jsonl.zst`` files; Dolma's documents and attributes lie side by side under equal names."""

    def __init__(self, documents: Documents, format: str, ducks: Ducks) -> None:
        self._ducks = ducks
        schema = documents.schema
        name = documents.table.short_name
        if format == "jsonl":
            self._queries = {"": flat_line(schema)}
        elif format == "datatrove":
            self._queries = {"": datatrove_line(schema)}
        else:
            self._queries = {"documents": dolma_line(schema, documents.table.digest)}
            if any(is_attribute(field) for field in schema):
                self._queries[f"attributes/{name}"] = dolma_attributes_line(schema, name)

    def made(self, batch: pa.RecordBatch) -> tuple[list[pa.Buffer], int, int]:
        text = [lines(self._ducks, batch, query) for query in self._queries.values()]
        return text, batch.num_rows, _text_length(batch)

    def shard(self, folder: Path, number: int) -> _Shard:
        return _LinesShard(folder / sub / f"part-{number:05d}.jsonl.zst" for sub in self._queries)


class _LinesShard:
    """One zstd frame in a file: python-zstandard, which most readers use, stops after the first one."""

    def __init__(self, paths: Iterator[Path]) -> None:
        self.paths = tuple(paths)
        self._files = []
        for path in self.paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._files.append(pa.CompressedOutputStream(pa.OSFile(str(path), "wb"), "zstd"))

    def add(self, made: list[pa.Buffer]) -> None:
        for file, part in zip(self._files, made, strict=True):
            file.write(part)

    def close(self) -> None:
        for file in self._files:
            file.close()


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    )


def _readable(kind: pa.DataType) -> pa.DataType:
    """Ids become hex strings, which every reader understands."""
    if pa.types.is_list(kind) and _is_bytes(kind.value_type):
        return pa.list_(pa.string())
    return pa.string() if _is_bytes(kind) else kind


def _hex(column: pa.Array) -> pa.Array:
    if pa.types.is_list(column.type):
        rows = [None if row is None else [one.hex() for one in row] for row in column.to_pylist()]
        return pa.array(rows, pa.list_(pa.string()))
    values = column.cast(pa.binary())
    return pa.array([None if v is None else v.hex() for v in values.to_pylist()], pa.string())


__all__ = ["FORMATS", "ExportReport", "export"]
