"""From what a reader found to rows of ``raw.documents``: rules, ids, and what is wrong with the rest.

Readers yield :class:`Chunk`; nothing after this module knows which reader it was.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from headwater.kernels.xxh3 import digest_array

DOCUMENTS = pa.schema(
    {
        "doc_id": pa.binary(16),
        "text": pa.large_string(),
        "text_hash": pa.binary(16),
        "source": pa.string(),
        "path": pa.string(),
        "url": pa.string(),
        "origin": pa.string(),
        "license_declared": pa.string(),
        "date": pa.timestamp("us"),
        "metadata": pa.string(),
        "text_bytes": pa.int64(),
    }
)
"""Columns of ``raw.documents``. ``text_bytes`` counts UTF-8 bytes; ``date`` is UTC."""

QUARANTINE = pa.schema(
    {
        "source": pa.string(),
        "path": pa.string(),
        "position": pa.string(),
        "reason": pa.string(),
        "detail": pa.string(),
        "bytes": pa.int64(),
        "ingest_id": pa.string(),
        "quarantine_id": pa.binary(16),
    }
)
"""Columns of ``raw.quarantine``. ``position`` is ``line 17``, ``row 3``, or empty for a whole file."""

CANDIDATES = pa.schema(
    {
        "text": pa.large_string(),
        "key": pa.string(),
        "source": pa.string(),
        "path": pa.string(),
        "url": pa.string(),
        "origin": pa.string(),
        "license_declared": pa.string(),
        "date": pa.timestamp("us"),
        "metadata": pa.string(),
        "file": pa.string(),
        "position": pa.string(),
    }
)
"""What a reader yields. ``key`` makes the id; ``file`` and ``position`` say where a row stands.

Columns of ``SYNTHETIC_FIELDS`` that were mapped follow, as text.
"""

PLACE = ("source", "file", "position")

BAD = pa.schema([QUARANTINE.field(name) for name in QUARANTINE.names[:6]])
"""What a reader could not make a row of: quarantine without the columns that the run adds."""

ORIGINS = ("human", "synthetic", "unknown")


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A bounded piece of input, in input order."""

    rows: pa.RecordBatch | None = None
    """Candidates (columns :data:`CANDIDATES`); text is valid UTF-8."""
    bad: pa.RecordBatch | None = None
    """Schema :data:`BAD`."""
    num_files: int = 0
    """Files that ended in this chunk."""
    num_rows: int = 0
    """Rows or lines or files read, good and bad."""
    read_bytes: int = 0
    """Bytes of stored input (compressed as they lie) read since the last chunk."""
    unreadable: str | None = None
    """A file that could not be read to its end."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A chunk after the document rules, before it is known which rows are new."""

    documents: pa.RecordBatch
    bad: pa.RecordBatch
    chunk: Chunk = field(repr=False)
    said: pa.RecordBatch = field(repr=False)
    """What the reader yielded of each document beside its text."""


def bad_rows(
    source: str, path: str, position: str, reason: str, detail: str = "", num_bytes: int = 0
) -> pa.RecordBatch:
    """One quarantine entry (schema :data:`BAD`)."""
    values = (source, path, position, reason, printable(detail), num_bytes)
    return pa.record_batch([pa.array([v], t) for v, t in zip(values, BAD.types, strict=True)], schema=BAD)


def printable(detail: str) -> str:
    """A message that can be stored: surrogates of undecodable file names replaced."""
    return detail.encode("utf-8", "replace").decode("utf-8")


def check(chunk: Chunk, *, max_document_bytes: int) -> Checked:
    """Apply the document rules natively and give ids to the rows that pass.

    A row without text is ``missing_field``, one with nothing but white space ``empty``, one above
    ``max_document_bytes`` UTF-8 bytes ``too_large``. Text that passes is not changed.
    """

    parts = [chunk.bad] if chunk.bad is not None else []
    rows = chunk.rows
    if rows is None or not rows.num_rows:
        return Checked(documents=_no_documents(), bad=_joined(parts), chunk=chunk, said=_NOTHING_SAID)
    text_bytes = pc.binary_length(rows["text"]).cast(pa.int64())
    blank = pc.or_(pc.equal(text_bytes, 0), pc.utf8_is_space(rows["text"]))
    large = pc.greater(text_bytes, max_document_bytes)
    reason = pc.case_when(
        pc.make_struct(pc.is_null(rows["text"]), large.fill_null(False), blank.fill_null(False)),
        pa.scalar("missing_field"),
        pa.scalar("too_large"),
        pa.scalar("empty"),
    )
    wrong = pc.is_valid(reason)
    if pc.any(wrong).as_py():
        parts.append(_wrong(rows, reason, text_bytes, wrong, max_document_bytes))
        rows = rows.filter(pc.invert(wrong))
    said = rows.select([name for name in rows.schema.names if name != "text"])
    return Checked(documents=documents_of(rows), bad=_joined(parts), chunk=chunk, said=said)


def _wrong(
    rows: pa.RecordBatch, reason: pa.Array, text_bytes: pa.Array, wrong: pa.Array, limit: int
) -> pa.RecordBatch:
    found = reason.filter(wrong)
    details = {
        "missing_field": "no text",
        "empty": "nothing but white space",
        "too_large": f"limit {limit} bytes",
    }
    detail = pa.array([details[value] for value in found.to_pylist()], pa.string())
    place = rows.select(list(PLACE)).filter(wrong)
    return pa.record_batch([*place.columns, found, detail, text_bytes.fill_null(0).filter(wrong)], schema=BAD)


def documents_of(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Rows of :data:`DOCUMENTS` from candidates that passed the rules: hashes, sizes, ids."""
    text_bytes = pc.binary_length(rows["text"]).cast(pa.int64())
    text_hash = digest_array(rows["text"])
    doc_id = digest_array(_identity(rows["source"], rows["key"], text_hash))
    made = {"doc_id": doc_id, "text_hash": text_hash, "text_bytes": text_bytes}
    return pa.record_batch([made[n] if n in made else rows[n] for n in DOCUMENTS.names], schema=DOCUMENTS)


def _identity(*parts: pa.Array) -> pa.Array:
    """The bytes that are hashed into an id: the parts joined by a zero byte."""
    return pc.binary_join_element_wise(
        *[p.cast(pa.large_binary()) for p in parts], pa.scalar(b"\0", pa.large_binary())
    )


def quarantine_rows(bad: pa.RecordBatch, ingest_id: str) -> pa.RecordBatch:
    """Rows of ``raw.quarantine``: the same flaw at the same place has the same id in every run."""
    quarantine_id = digest_array(_identity(bad["source"], bad["path"], bad["position"], bad["reason"]))
    ingest = pa.repeat(pa.scalar(ingest_id, pa.string()), bad.num_rows)
    return pa.record_batch([*bad.columns, ingest, quarantine_id], schema=QUARANTINE)


def _joined(parts: list[pa.RecordBatch]) -> pa.RecordBatch:
    parts = [part for part in parts if part.num_rows]
    if len(parts) == 1:
        return parts[0]
    return pa.concat_batches(parts) if parts else pa.RecordBatch.from_pylist([], schema=BAD)


def _no_documents() -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([], schema=DOCUMENTS)


_NOTHING_SAID = pa.RecordBatch.from_pylist(
    [], schema=pa.schema([field for field in CANDIDATES if field.name != "text"])
)
