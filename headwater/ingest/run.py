"""One ingest: which rows are new, in which order things are published, and what is reported."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import chain
from os import cpu_count
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headwater.errors import BadInput, UnknownName, UsageError
from headwater.ingest.duck import Ducks
from headwater.ingest.html import MODES, Mode
from headwater.ingest.idset import IdSet
from headwater.ingest.inputs import Location
from headwater.ingest.installed import STDLIB
from headwater.ingest.readers import KINDS, Reader, make_reader
from headwater.ingest.report import IngestReport, Progress
from headwater.ingest.rows import DOCUMENTS, ORIGINS, QUARANTINE, Checked, check, quarantine_rows
from headwater.ingest.staging import Staged
from headwater.ingest.synthetic import WIDE_DOCUMENTS, Claims, account, parted, widened
from headwater.ingest.whole import Task
from headwater.kernels.xxh3 import digest_array
from headwater.lake import Provenance
from headwater.lake.synthetic import SYNTHETIC, SYNTHETIC_FIELDS

if TYPE_CHECKING:
    from headwater.lake import Lake

MAX_DOCUMENT_BYTES = 16 << 20
"""Larger documents are quarantined. 16 MiB is some four million tokens, a thousand times a usual
context: what is larger is a data dump, and everything downstream holds a few documents at a time."""

MAX_LIMIT_BYTES = 1 << 30
"""A string column of one batch, escapes included, must stay addressable."""

MAX_THREADS = 4
"""Parsing outruns the writer beyond this (measured: two parsing threads feed one Lance writer)."""


def ingest(
    lake: Lake,
    kind: str,
    location: Location | None = None,
    *,
    source: str | None = None,
    columns: Mapping[str, str] | None = None,
    layout: str | None = None,
    origin: str | None = None,
    generator: str | None = None,
    generator_version: str | None = None,
    globs: Sequence[str] | None = None,
    html: Mode | None = None,
    at: str | None = None,
    sync: bool = False,
    max_document_bytes: int = MAX_DOCUMENT_BYTES,
    schema: str = "raw",
    threads: int | None = None,
    progress: Progress | None = None,
) -> IngestReport:
    """Read files into ``raw.documents``; what is no document goes to ``raw.quarantine``, with the reason.

    Running it again adds nothing and makes no version. Rows are streamed: memory does not depend on
    the size of the input, except for 22 to 45 bytes a document to know the ids.

    Parameters
    ----------
    kind:
        ``python`` (the standard library and every installed distribution), ``folder`` (each text-like
        file is a document), ``html`` (each page of a folder), ``warc`` (web archives, WET too), ``archive``
        (zip, wheel, tar, compressed or not), ``git`` (a repository at a commit), ``jsonl`` (plain, gzip,
        zstd, bzip2), ``parquet``, ``arrow`` (IPC file or stream, Feather), ``huggingface`` (a data set
        folder).
    location:
        A folder or repository; for web archives, archives and rows also a file, a glob, or a list of these.
    source:
        The rows' source. By default the name of the file or folder, or the row's own where the layout
        has one; must be the same on every machine that shall make the same ids.
    columns:
        Canonical name -> their column, e.g. ``{"id": "doc_id", "text": "content"}``. Canonical names are
        ``columns.CANONICAL``; a dot reaches into a nested field. Wins over the layout.
    layout:
        One of ``columns.LAYOUTS`` by name; by default told from the columns.
    origin:
        ``human``, ``synthetic`` or ``unknown``, for rows that do not say. Unknown by default, for files
        of people too: that a file lies in a package does not say who, or what, wrote it. Synthetic by
        default where ``generator`` is given.
    generator, generator_version:
        For synthetic rows that do not say what made them. Their ``prompt_id`` is then their key, unless it is
        mapped; they have no parents, generation 1 and no parameters. A synthetic row of which the generator
        is not known goes to quarantine.
    globs:
        For ``folder``, ``archive`` and ``git``: which files, instead of the text-like ones.
    html:
        What becomes of pages: ``main`` content or ``full`` text. By default ``main`` for ``html`` and
        ``warc``; files of the other kinds stay markup.
    at:
        For ``git``: a commit, tag or branch; by default ``HEAD``.
    sync:
        Also remove, in the same commit, documents of the ingested sources that are no longer there.
    max_document_bytes:
        Longest text, in UTF-8 bytes; a JSONL line may be twice as long, for its escapes.
    threads:
        Parsing and hashing threads (at most 4 by default). Rows and their order do not depend on it.
    progress:
        Called with (bytes read, bytes in all or None, what is being read).

    Raises
    ------
    BadInput
        Nothing to read, a Parquet file without the text column, or ``sync`` with a file that cannot be
        read. Nothing was written.
    UnknownName
        An unknown kind, layout or canonical column.
    MissingExtra
        Pages or web archives, without the ``web`` extra.
    """
    if kind not in KINDS:
        raise UnknownName.of("kind of input", kind, KINDS)
    if html is not None and html not in MODES:
        raise UnknownName.of("way to read pages", html, MODES)
    claims = _claims(origin, generator, generator_version)
    if not 0 < max_document_bytes <= MAX_LIMIT_BYTES:
        raise UsageError(f"got max_document_bytes={max_document_bytes}", hint=f"from 1 to {MAX_LIMIT_BYTES}")
    started = time.monotonic()
    settings: dict[str, object] = {
        "kind": kind,
        "source": source,
        "columns": dict(columns or {}),
        "layout": layout,
        "origin": claims.origin,
    }
    settings |= {"globs": list(globs or ()), "max_document_bytes": max_document_bytes}
    given = {"html": html, "at": at, "generator": generator, "generator_version": generator_version}
    # Only where given: what an earlier release recorded for the same ingest stays the same.
    settings |= {name: value for name, value in given.items() if value is not None}
    with closing(Ducks()) as ducks:
        reader = make_reader(kind, location, settings, globs, ducks)
        with lake.lease(schema, purpose="ingests"):
            run = _Run(lake, reader, schema=schema, settings=settings, claims=claims, progress=progress)
            with run.flaws, run.late:
                version = run.publish(_threads(threads), max_document_bytes, sync=sync)
    return run.report(kind, version, time.monotonic() - started)


def _claims(origin: str | None, generator: str | None, version: str | None) -> Claims:
    if origin is not None and origin not in ORIGINS:
        raise UnknownName.of("origin", origin, ORIGINS)
    if (generator is None) != (version is None):
        raise UsageError(
            "generator and generator_version belong together",
            hint="a model's revision, a release or a date: what tells this generator from the next one",
        )
    if generator is not None and origin not in (None, SYNTHETIC):
        raise UsageError(f"a generator is given, and origin is {origin!r}", hint="leave the origin out")
    return Claims(
        origin=origin or (SYNTHETIC if generator is not None else "unknown"),
        generator=generator,
        generator_version=version,
    )


def _threads(threads: int | None) -> int:
    return max(1, threads) if threads is not None else min(MAX_THREADS, cpu_count() or 1)


class _Run:
    """The state of one ingest, under the lease."""

    def __init__(
        self,
        lake: Lake,
        reader: Reader,
        *,
        schema: str,
        settings: Mapping[str, object],
        claims: Claims,
        progress: Progress | None,
    ) -> None:
        self._lake = lake
        self._reader = reader
        self._claims = claims
        self._progress = progress
        self._documents, self._quarantine = f"{schema}.documents", f"{schema}.quarantine"
        self._ids, self._flaw_ids = IdSet(), IdSet()
        self.flaws = Staged(QUARANTINE)
        self.late = Staged(WIDE_DOCUMENTS)
        """Synthetic documents of a table that has no columns for what made them: it gets them at the end."""
        self._is_wide = claims.origin == SYNTHETIC or self._has_wide_table()
        fingerprint = digest_array(pa.array([repr(sorted(settings.items()))]))[0].as_py().hex()
        self._ingest_id = fingerprint[:16]
        self._provenance = Provenance(
            kind="ingest",
            fingerprint=fingerprint,
            extra={"ingest": {**settings, "ingest_id": self._ingest_id}},
        )
        self._counts: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._sources: set[str] = set()
        self._unreadable: str | None = None

    def publish(self, threads: int, max_document_bytes: int, *, sync: bool) -> int | None:
        """Write what is new. The quarantine is published first, so that a kill between loses no record."""
        is_there = self._lake.exists(self._documents)
        self._remember(self._documents, "doc_id", self._ids, self._scope())
        self._remember(self._quarantine, "quarantine_id", self._flaw_ids, None)
        total = self._reader.total_bytes() if self._progress else None
        stream = self._new_documents(threads, max_document_bytes, total)
        if sync and is_there:
            self._publish_difference(stream)
        else:
            self._append(stream, is_there)
        if self._counts["added"]:
            self._lake.index(self._documents, "doc_id")
        return self._lake.table(self._documents).version

    def _has_wide_table(self) -> bool:
        exists = self._lake.exists(self._documents)
        return exists and "generator" in self._lake.table(self._documents).schema.names

    def _schema(self) -> pa.Schema:
        return WIDE_DOCUMENTS if self._is_wide else DOCUMENTS

    def _widen(self) -> None:
        """Give the table the columns of synthetic rows: a version of its own, with the same documents."""
        if self._lake.exists(self._documents) and not self._has_wide_table():
            self._lake.widen(self._documents, SYNTHETIC_FIELDS, provenance=self._provenance)
        self._is_wide = True

    def _append(self, stream: Iterator[pa.RecordBatch], is_there: bool) -> None:
        first = next(stream, None)
        if first is not None and self._is_wide:
            self._widen()
        if first is None and is_there:
            self._publish_flaws()
            self._append_late()
            return

        def batches() -> Iterator[pa.RecordBatch]:
            if first is not None:
                yield first
            yield from stream
            # The documents are committed after this generator ends: the flaws come first.
            self._publish_flaws()

        self._lake.write(
            self._documents, batches(), mode="append", schema=self._schema(), provenance=self._provenance
        )
        self._append_late()

    def _append_late(self) -> None:
        if self.late.num_rows:
            self._widen()
            self._lake.write(
                self._documents,
                self.late.batches(),
                mode="append",
                schema=WIDE_DOCUMENTS,
                provenance=self._provenance,
            )

    def _publish_difference(self, stream: Iterator[pa.RecordBatch]) -> None:
        """What is gone is known only at the end of the input: until then what is new waits on disk."""
        with Staged(self._schema()) as staged:
            for batch in stream:
                staged.add(batch)
            if self._unreadable is not None:
                raise BadInput(
                    f"cannot sync: {self._unreadable} could not be read, so what is gone is not known",
                    hint="repair or remove the file, or ingest without sync; nothing was written",
                )
            gone = self._gone()
            self._publish_flaws()
            num_new = staged.num_rows + self.late.num_rows
            if num_new or len(gone):
                self._counts["removed"] = len(gone)
                if self.late.num_rows or (staged.num_rows and self._is_wide):
                    self._widen()
                new = chain(staged.batches(), self.late.batches())
                fitted = (widened(batch) if self._is_wide else batch for batch in new)
                add = pa.RecordBatchReader.from_batches(self._schema(), fitted) if num_new else None
                self._lake.update(self._documents, add=add, remove=gone, provenance=self._provenance)

    def _gone(self) -> pa.Array:
        parts = []
        for batch in self._lake.table(self._documents).scan(["doc_id", "source"], filter=self._scope()):
            gone = self._ids.not_seen(batch["doc_id"])
            if self._scope() is None:
                seen = pc.is_in(batch["source"], value_set=pa.array(sorted(self._sources), pa.string()))
                gone &= seen.to_numpy(zero_copy_only=False)
            parts.append(batch["doc_id"].filter(pa.array(gone)))
        return pa.concat_arrays(parts) if parts else pa.array([], pa.binary(16))

    def _scope(self) -> str | None:
        """A filter for the stored documents of the sources that this reader can make; None for all."""
        if self._reader.source_prefix is not None:
            return f"starts_with(source, '{self._reader.source_prefix}') or source = '{STDLIB}'"
        if self._reader.sources is None:
            return None
        names = ", ".join("'" + name.replace("'", "''") + "'" for name in sorted(self._reader.sources))
        return f"source in ({names})"

    def _remember(self, table: str, column: str, ids: IdSet, scope: str | None) -> None:
        if self._lake.exists(table):
            for batch in self._lake.table(table).scan([column], filter=scope):
                ids.add_stored(batch[column])

    def _new_documents(self, threads: int, max_bytes: int, total: int | None) -> Iterator[pa.RecordBatch]:
        started = time.monotonic()
        for checked in _in_order(self._reader.tasks(), threads, max_bytes, self._claims):
            new = self._fitted(self._count(checked))
            if self._progress:
                rows, passed = self._counts["rows"], max(time.monotonic() - started, 1e-3)
                self._progress(
                    self._counts["read_bytes"], total, f"{rows:,} documents, {rows / passed:,.0f}/s"
                )
            if new.num_rows:
                yield new

    def _count(self, checked: Checked) -> pa.RecordBatch:
        """The new documents of a chunk; everything else about it goes into the counts."""
        chunk, documents = checked.chunk, checked.documents
        self._counts["files"] += chunk.num_files
        self._counts["rows"] += chunk.num_rows
        self._counts["read_bytes"] += chunk.read_bytes
        self._unreadable = self._unreadable or chunk.unreadable
        if checked.bad.num_rows:
            self._quarantine_rows(checked.bad)
        if not documents.num_rows:
            return documents
        if self._reader.sources is None and self._reader.source_prefix is None:
            self._sources.update(pc.unique(documents["source"]).to_pylist())
        new, unchanged, repeated = self._ids.add_seen(documents["doc_id"])
        self._counts.update(unchanged=unchanged, repeated=repeated, added=int(np.count_nonzero(new)))
        if not new.all():
            documents = documents.filter(pa.array(new))
        self._counts["text_bytes"] += pc.sum(documents["text_bytes"]).as_py() or 0
        return documents

    def _fitted(self, documents: pa.RecordBatch) -> pa.RecordBatch:
        """The documents in the table's columns; those that do not fit into them wait for the end."""
        if self._is_wide:
            return widened(documents)
        if documents.num_columns == len(DOCUMENTS):
            return documents
        others, synthetic = parted(documents)
        self.late.add(synthetic)
        return others

    def _quarantine_rows(self, bad: pa.RecordBatch) -> None:
        for entry in bad["reason"].value_counts().to_pylist():
            self._reasons[entry["values"]] += entry["counts"]
        rows = quarantine_rows(bad, self._ingest_id)
        new, _, _ = self._flaw_ids.add_seen(rows["quarantine_id"])
        self.flaws.add(rows.filter(pa.array(new)))

    def _publish_flaws(self) -> None:
        if self.flaws.num_rows or not self._lake.exists(self._quarantine):
            self._lake.write(
                self._quarantine,
                self.flaws.batches(),
                mode="append",
                schema=QUARANTINE,
                provenance=self._provenance,
            )

    def report(self, kind: str, version: int | None, seconds: float) -> IngestReport:
        counts = self._counts
        return IngestReport(
            kind=kind,
            files_seen=counts["files"],
            rows_seen=counts["rows"],
            bytes_seen=counts["read_bytes"],
            documents_added=counts["added"],
            documents_unchanged=counts["unchanged"],
            documents_repeated=counts["repeated"],
            documents_removed=counts["removed"],
            quarantined=dict(sorted(self._reasons.items())),
            text_bytes_added=counts["text_bytes"],
            layout=self._reader.layout,
            seconds=seconds,
            version=version,
        )


def _in_order(tasks: Iterator[Task], threads: int, max_bytes: int, claims: Claims) -> Iterator[Checked]:
    """Run tasks on threads, a bounded number ahead, and yield their results in input order."""

    def work(task: Task) -> Checked:
        return account(check(task(), max_document_bytes=max_bytes), claims)

    # Even one thread is a thread of its own: the consumer may be called from any of Lance's.
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ingest")
    pending: deque[Future[Checked]] = deque()
    try:
        for task in tasks:
            pending.append(pool.submit(work, task))
            if len(pending) > threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
