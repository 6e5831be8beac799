"""The lake: the one module that writes tables (contract C1)."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

os.environ.setdefault("LANCE_LOG", "error")  # Lance warns on stderr about every table it creates

import lance
import pyarrow as pa
from lance.fragment import write_fragments
from lance.schema import LanceSchema

from headwater.digest import ContentDigest
from headwater.errors import CommitConflict, FormatMismatch, LakeError, UnknownName, UsageError
from headwater.lake.files import open_files
from headwater.lake.lease import JOIN_VARIABLE, Lease, lease_of
from headwater.lake.names import RAW_SCHEMA, check_name, qualified
from headwater.lake.pieces import Piece, Pieces
from headwater.lake.provenance import Provenance, TableRef, VersionFacts
from headwater.lake.records import facts_of, recorded
from headwater.lake.rows import (
    Batches,
    Counted,
    as_reader,
    cast_rows,
    delete_rows,
    unique_keys,
    with_nulls,
    without,
)
from headwater.lake.synthetic import accounted
from headwater.lake.table import Table

FORMAT_VERSION = 1
"""Version of this layout: where tables lie, what their properties hold, how digests are made."""
FORMAT_FILE = "_headwater.json"

MAX_FILE_BYTES = 1 << 30
MAX_FILE_ROWS = 1 << 20
"""A fragment ends at 1 GiB or a million rows: large enough for scans, small enough to be a task."""

DELETE_BY_FILTER_ROWS = 20_000
"""Up to this many rows a delete marks rows in place; beyond it the table is rewritten, which is
cheaper than a filter of megabytes and leaves no holes."""

WAIT_SECONDS = 60.0

_DISK_FULL = ("No space left", "os error 28", "File too large", "os error 27", "Disk quota")


class TableVersion(Table):
    """The version that a write made; ``changed`` is False when there was nothing to publish."""

    changed: bool = True

    @property
    def bytes(self) -> int:
        """Bytes of the data files of this version, on disk."""
        return sum(
            file.file_size_bytes or 0
            for fragment in self.dataset.get_fragments()
            for file in fragment.metadata.files
        )


class Lake:
    """A directory or an object-store prefix that holds tables, ``<uri>/<schema>/<table>.lance``.

    Parameters
    ----------
    uri:
        A path, or a URI that Lance reads (``s3://bucket/lake``).
    schema:
        Where bare table names live: dbt's ``target.schema``.
    defer:
        A schema that bare names fall back to for reading (``dev`` defers to ``prod``).
    storage_options:
        Credentials and endpoint of an object store, as Lance names them.
    """

    def __init__(
        self,
        uri: str | Path,
        *,
        schema: str = "dev",
        defer: str | None = None,
        storage_options: Mapping[str, str] | None = None,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        self.uri = str(uri).rstrip("/")
        self.schema = check_name("schema", schema)
        self.defer = check_name("schema", defer) if defer else None
        self.wait_seconds = wait_seconds
        self._storage = dict(storage_options or {})
        self._files = open_files(self.uri, self._storage)
        self._check_format()

    def __repr__(self) -> str:
        return f"Lake({self.uri!r}, schema={self.schema!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # A lake travels to a worker as its address; leases, locks and clients stay here.
        return _reopened, (self._absolute(), self.schema, self.defer, self._storage, self.wait_seconds)

    # -- what is there ---------------------------------------------------------------------------

    def schemas(self) -> list[str]:
        return [name for name in self._files.folders("") if not name.startswith(("_", "."))]

    def tables(self, schema: str | None = None) -> list[str]:
        """Names of the tables of one schema, without the schema, sorted."""
        folders = self._files.folders(schema or self.schema)
        return sorted(name.removesuffix(".lance") for name in folders if name.endswith(".lance"))

    def exists(self, name: str) -> bool:
        return self._find(name) is not None

    def table(self, name: str, version: int | str | None = None) -> Table:
        """Open one exact version: the latest, a number, a tag, or ``"approved"``.

        Raises
        ------
        UnknownName
            No such table, version or tag.
        NotApproved
            ``version="approved"`` and no approval stands.
        """
        found = self._find(name)
        if found is None:
            raise UnknownName.of("table", name, self._known_tables(), where=f"lake {self.uri}")
        if version == "approved":
            from headwater.lake.approvals import approved_ref

            version = approved_ref(self, found).version
        dataset = self._open(found, version)
        return Table(found, dataset, facts_of(dataset, found))

    def resolve(self, name: str) -> str:
        """Return the qualified name a read of ``name`` would open; its own schema when nothing is there."""
        return self._find(name) or qualified(name, self.schema)

    def versions(self, name: str | None = None) -> pa.Table:
        """Every version that carries a record, read from the tables themselves: never a second truth."""
        names = [self.resolve(name)] if name else [f"{s}.{t}" for s in self.schemas() for t in self.tables(s)]
        rows = [row for each in names for row in self._version_rows(each)]
        return pa.Table.from_pylist(rows, schema=_VERSIONS)

    def _version_rows(self, name: str) -> Iterator[dict[str, Any]]:
        dataset = self._open(name)
        for entry in dataset.versions():
            facts = recorded(dataset, int(entry["version"]))
            if facts is not None:
                yield {
                    "table": name,
                    "version": int(entry["version"]),
                    "digest": facts.content_digest,
                    "num_rows": facts.num_rows,
                    "kind": facts.provenance.kind,
                    "build_id": facts.provenance.build_id,
                    "git_commit": facts.provenance.git_commit,
                    "fingerprint": facts.provenance.fingerprint,
                    "inputs": json.dumps([ref.to_dict() for ref in facts.provenance.inputs]),
                    "extra": json.dumps(dict(facts.provenance.extra), sort_keys=True),
                    "created_at": entry["timestamp"],
                }

    # -- writing ---------------------------------------------------------------------------------

    def lease(
        self, schema: str | None = None, *, purpose: str = "write", wait_seconds: float | None = None
    ) -> contextlib.AbstractContextManager[None]:
        """Hold the one-writer lease of a schema for a block; every write takes it by itself."""
        wait = self.wait_seconds if wait_seconds is None else wait_seconds
        return self._lease(schema or self.schema).hold(purpose=purpose, wait_seconds=wait)

    def lease_environment(self, schema: str | None = None) -> dict[str, str]:
        """Environment that lets a child process share the lease this process holds."""
        value = self._lease(schema or self.schema).join_value
        return {JOIN_VARIABLE: value} if value else {}

    def write(
        self,
        name: str,
        batches: Batches | Pieces,
        *,
        mode: str = "replace",
        provenance: Provenance | None = None,
        schema: pa.Schema | None = None,
    ) -> TableVersion:
        """Publish the streamed batches as exactly one new version, or nothing.

        :class:`Pieces` in place of batches are files that other processes have written
        (:meth:`write_piece`); they become visible here, together.

        Parameters
        ----------
        mode:
            ``replace`` makes the batches the table; ``append`` adds them (and creates a missing table).
        schema:
            Needed when ``batches`` is a bare iterable, which may be empty.

        Raises
        ------
        LeaseHeld, CommitConflict
            Another writer is at work, or moved the table in spite of the lease. Nothing was published.
        """
        if mode not in ("replace", "append"):
            raise UsageError(f"got mode {mode!r}", hint="expected 'replace' or 'append'")
        target = qualified(name, self.schema)
        with self._writing(target) as lease:
            current = self._open_or_none(target)
            digest = ContentDigest()
            appending = mode == "append" and current is not None
            if appending and current is not None:
                facts = facts_of(current, target)
                digest = ContentDigest.from_hex(facts.content_digest, facts.num_rows)
            if isinstance(batches, Pieces):
                fragments = batches.collect(digest)
                operation = (
                    lance.LanceOperation.Append(fragments)
                    if appending
                    else lance.LanceOperation.Overwrite(batches.schema, fragments)
                )
                return self._commit(target, operation, current, provenance, digest, lease)
            reader = accounted(as_reader(batches, schema), target)
            if appending and current is not None:
                reader = cast_rows(reader, current.schema, target)
            operation = self._write_files(target, Counted(reader, digest), current, appending)
            return self._commit(target, operation, current, provenance, digest, lease)

    def update(
        self,
        name: str,
        *,
        add: Batches | Pieces | None = None,
        remove: pa.Array | pa.ChunkedArray | None = None,
        key: str = "doc_id",
        provenance: Provenance | None = None,
    ) -> TableVersion:
        """Delete the rows whose ``key`` is in ``remove`` and append ``add``, in one commit.

        The digest follows without reading the rest of the table. With nothing to do, nothing is
        published and the current version comes back with ``changed=False``.
        """
        target = qualified(name, self.schema)
        with self._writing(target) as lease:
            current = self._open(target)
            facts = facts_of(current, target)
            digest = ContentDigest.from_hex(facts.content_digest, facts.num_rows)
            gone = unique_keys(remove)
            if len(gone) > DELETE_BY_FILTER_ROWS:
                digest = ContentDigest()
                kept = without(Table(target, current, facts).scan(), gone, key)
                rest = pa.RecordBatchReader.from_batches(current.schema, kept)
                fragments = self._write_rows(target, Counted(rest, digest), current)
                fragments += self._new_files(target, add, current, digest)
                operation = lance.LanceOperation.Overwrite(current.lance_schema, fragments)
                return self._commit(target, operation, current, provenance, digest, lease)
            new = self._new_files(target, add, current, digest)
            updated, removed = delete_rows(current, gone, key, digest)
            if not (new or updated or removed):
                same = TableVersion(target, current, facts)
                same.changed = False
                return same
            operation = lance.LanceOperation.Update(
                removed_fragment_ids=removed, updated_fragments=updated, new_fragments=new, fields_modified=[]
            )
            return self._commit(target, operation, current, provenance, digest, lease)

    def write_piece(self, name: str, batches: Batches, *, adding: bool, schema: pa.Schema) -> Piece:
        """Write rows to files that no version names: the part of a write that any process can do.

        The process that is to publish them holds the lease meanwhile (maintenance deletes files that no
        version names). Files of pieces that are never published go with the next :meth:`maintain`.

        Parameters
        ----------
        adding: the rows are to join the table's present rows, not to replace them.
        schema: the columns of the table that they are for.
        """
        target = qualified(name, self.schema)
        digest = ContentDigest()
        current = self._open_or_none(target)
        mode = "create" if current is None else "append" if adding else "overwrite"
        rows = Counted(cast_rows(accounted(as_reader(batches, schema), target), schema, target), digest)
        return Piece.of(self._write_fragments(target, rows, mode, schema=schema), digest)

    def rerecord(self, name: str, provenance: Provenance) -> TableVersion:
        """Publish the same rows under a new record (an empty commit): inputs moved, rows did not."""
        target = qualified(name, self.schema)
        with self._writing(target) as lease:
            current = self._open(target)
            facts = facts_of(current, target)
            digest = ContentDigest.from_hex(facts.content_digest, facts.num_rows)
            return self._commit(target, lance.LanceOperation.Append([]), current, provenance, digest, lease)

    def widen(self, name: str, fields: pa.Schema, *, provenance: Provenance | None = None) -> TableVersion:
        """Add columns that are null in every row, in one commit that writes no data.

        The digest of a row covers its columns, so the rows are read once.
        """
        target = qualified(name, self.schema)
        with self._writing(target) as lease:
            current = self._open(target)
            taken = [field for field in fields.names if field in current.schema.names]
            if taken:
                raise UsageError(f"{target} has {', '.join(taken)} already")
            schema = pa.schema([*current.schema, *fields])
            wide = LanceSchema.from_pyarrow(schema)
            before = _field_ids(current.lance_schema.fields())
            if _field_ids(wide.fields())[: len(before)] != before:
                raise LakeError(f"{target} numbers its columns in another way", hint="replace the table")
            digest = ContentDigest()
            for batch in Table(target, current, facts_of(current, target)).scan():
                digest.add(with_nulls(batch, schema))
            fragments = [fragment.metadata for fragment in current.get_fragments()]
            operation = lance.LanceOperation.Merge(fragments, wide)
            return self._commit(target, operation, current, provenance, digest, lease)

    def drop(self, name: str) -> None:
        """Remove a table with all its versions; what was approved or recorded of it stays on record."""
        target = qualified(name, self.schema)
        with self._writing(target):
            self._open(target)
            lance.LanceDataset.drop(self._path(target), storage_options=self._storage or None)

    # -- maintenance -----------------------------------------------------------------------------

    def index(self, name: str, column: str, kind: str = "BTREE", **settings: Any) -> TableVersion:
        """Build or refresh an index on ``column``; the version's record is repeated after it.

        ``kind`` is Lance's: ``BTREE``, ``INVERTED`` (full text), or ``IVF_…`` for a column of vectors. An
        index that is there takes in the rows that came since, whatever its kind and ``settings``.
        """
        target = qualified(name, self.schema)
        with self._writing(target) as lease:
            dataset = self._open(target)
            facts = facts_of(dataset, target)
            there = [index.name for index in dataset.describe_indices() if index.field_names == [column]]
            if there:
                dataset.optimize.optimize_indices(index_names=there)
            elif kind.startswith("IVF"):
                dataset.create_index(column, kind, **settings)
            else:
                dataset.create_scalar_index(column, kind, **settings)
            self._repeat_record(target, facts, lease)
            return TableVersion(target, self._open(target), facts)

    def maintain(self, name: str, *, keep: timedelta = timedelta(days=7)) -> None:
        """Compact small fragments, refresh indices, repeat the record, then clean up old versions.

        The record is repeated *before* the clean-up, which would otherwise take the last version
        that carries it. Tagged (approved) versions stay.
        """
        target = qualified(name, self.schema)
        with self._writing(target) as lease:
            dataset = self._open(target)
            facts = facts_of(dataset, target)
            dataset.optimize.compact_files(materialize_deletions_threshold=0.0)
            dataset = self._open(target)
            if dataset.describe_indices():
                dataset.optimize.optimize_indices()
            self._repeat_record(target, facts, lease)
            # Orphans of killed writers are safe to delete only because the lease is held.
            self._open(target).cleanup_old_versions(
                keep, delete_unverified=True, error_if_tagged_old_versions=False
            )

    def tag(self, name: str, tag: str, version: int) -> None:
        """Name a version; a tagged version is safe from clean-up. An existing tag moves."""
        target = qualified(name, self.schema)
        with self._writing(target):
            tags = self._open(target).tags
            tags.update(tag, version) if tag in tags.list() else tags.create(tag, version)

    def untag(self, name: str, tag: str) -> None:
        target = qualified(name, self.schema)
        with self._writing(target):
            tags = self._open(target).tags
            if tag in tags.list():
                tags.delete(tag)

    # -- inside ----------------------------------------------------------------------------------

    def _check_format(self) -> None:
        content = self._files.read(FORMAT_FILE)
        if content is None:
            return
        try:
            found = json.loads(content).get("format")
        except ValueError as error:
            raise FormatMismatch(f"{self.uri}/{FORMAT_FILE} is not readable: {error}") from error
        if found != FORMAT_VERSION:
            raise FormatMismatch(
                f"lake {self.uri} has format {found}; this Headwater reads format {FORMAT_VERSION}",
                hint="use the Headwater version that made it, or build into another lake",
            )

    def _lease(self, schema: str) -> Lease:
        return lease_of(self._files, schema, place=self._absolute())

    def _absolute(self) -> str:
        return self.uri if "://" in self.uri else str(Path(self.uri).resolve())

    @contextlib.contextmanager
    def _writing(self, target: str) -> Iterator[Lease]:
        schema, _, table = target.partition(".")
        if self._files.read(FORMAT_FILE) is None:
            marker = json.dumps({"format": FORMAT_VERSION}).encode()
            self._files.put_new(FORMAT_FILE, marker)
        lease = self._lease(schema)
        # Threads share the lease, so they also queue for the table: two models of one build may both
        # append to `decisions`.
        with (
            lease.hold(purpose=f"writes {table}", wait_seconds=self.wait_seconds),
            _table_lock(self._absolute(), target),
        ):
            try:
                yield lease
            except OSError as error:
                if not any(sign in str(error) for sign in _DISK_FULL):
                    raise
                raise LakeError(
                    f"no space to write {target} in lake {self.uri}; nothing was published",
                    hint="free space (the failed write's files go with the next `maintain`) and run again",
                ) from error

    def _path(self, target: str) -> str:
        schema, _, table = target.partition(".")
        return f"{self.uri}/{schema}/{table}.lance"

    def _find(self, name: str) -> str | None:
        """The qualified name of an existing table: own schema, the one deferred to, then raw."""
        if "." in name:
            candidates = [qualified(name, self.schema)]
        else:
            schemas = dict.fromkeys(s for s in (self.schema, self.defer, RAW_SCHEMA) if s)
            candidates = [qualified(name, schema) for schema in schemas]
        return next((c for c in candidates if self._open_or_none(c) is not None), None)

    def _known_tables(self) -> list[str]:
        return [f"{schema}.{table}" for schema in self.schemas() for table in self.tables(schema)]

    def _open(self, target: str, version: int | str | None = None) -> lance.LanceDataset:
        path = self._path(target)
        try:
            return lance.dataset(path, version=version, storage_options=self._storage or None)
        except (ValueError, OSError) as error:
            current = self._open_or_none(target)
            if version is None or current is None:
                raise LakeError(f"cannot open {target} in lake {self.uri}: {_first_line(error)}") from error
            known = [*current.tags.list(), *(str(v["version"]) for v in current.versions())]
            raise UnknownName.of("version or tag", version, known, where=target) from error

    def _open_or_none(self, target: str) -> lance.LanceDataset | None:
        schema, _, table = target.partition(".")
        if table not in self.tables(schema):
            return None
        try:
            return lance.dataset(self._path(target), storage_options=self._storage or None)
        except ValueError as error:
            # A writer that was killed before its first commit leaves files but no table.
            if "not found" in str(error).lower():
                return None
            raise LakeError(f"cannot open {target} in lake {self.uri}: {_first_line(error)}") from error

    def _write_files(
        self, target: str, rows: Counted, current: lance.LanceDataset | None, appending: bool
    ) -> Any:
        mode = "append" if appending else ("overwrite" if current is not None else "create")
        return self._write_fragments(target, rows, mode, return_transaction=True).operation

    def _write_rows(self, target: str, rows: Counted, current: lance.LanceDataset) -> list[Any]:
        return list(self._write_fragments(target, rows, "append", schema=current.schema))

    def _new_files(
        self,
        target: str,
        add: Batches | Pieces | None,
        current: lance.LanceDataset,
        digest: ContentDigest,
    ) -> list[Any]:
        """Fragments of the rows to add, counted into ``digest``."""
        if add is None:
            return []
        if isinstance(add, Pieces):
            return add.collect(digest)
        rows = cast_rows(accounted(as_reader(add, current.schema), target), current.schema, target)
        return self._write_rows(target, Counted(rows, digest), current)

    def _write_fragments(self, target: str, rows: Counted, mode: str, **options: Any) -> Any:
        with rows.unwrap() as reader:
            return write_fragments(
                reader,
                self._path(target),
                **{"schema": reader.schema, **options},
                mode=mode,
                max_rows_per_file=MAX_FILE_ROWS,
                max_bytes_per_file=MAX_FILE_BYTES,
                storage_options=self._storage or None,
            )

    def _commit(
        self,
        target: str,
        operation: Any,
        current: lance.LanceDataset | None,
        provenance: Provenance | None,
        digest: ContentDigest,
        lease: Lease,
    ) -> TableVersion:
        facts = VersionFacts(
            provenance=provenance or Provenance(), content_digest=digest.hex(), num_rows=digest.num_rows
        )
        read_version = int(current.version) if current is not None else 0
        transaction = lance.Transaction(
            read_version=read_version, operation=operation, transaction_properties=facts.to_properties()
        )
        lease.assert_held()
        if current is None and self._open_or_none(target) is not None:
            raise CommitConflict(f"{target} was created by another writer meanwhile", hint="run again")
        try:
            # No retries: a retried replacement would silently drop what was appended in between.
            dataset = lance.LanceDataset.commit(
                self._path(target),
                transaction,
                max_retries=0,
                storage_options=self._storage or None,
            )
        except OSError as error:
            if "conflict" in str(error).lower():
                raise CommitConflict(
                    f"{target} moved past version {read_version} while it was written",
                    hint="nothing was published; run the command again",
                ) from error
            raise
        if dataset.version != read_version + 1:
            raise CommitConflict(
                f"{target}: expected to publish version {read_version + 1}, got {dataset.version}",
                hint="another program wrote to the table without the lease; inspect it with `versions`",
            )
        return TableVersion(target, dataset, facts)

    def _repeat_record(self, target: str, facts: VersionFacts, lease: Lease) -> None:
        lease.assert_held()
        dataset = self._open(target)
        if recorded(dataset, int(dataset.version)) is not None:
            return
        transaction = lance.Transaction(
            read_version=int(dataset.version),
            operation=lance.LanceOperation.Append([]),
            transaction_properties=facts.to_properties(),
        )
        lance.LanceDataset.commit(
            self._path(target), transaction, max_retries=0, storage_options=self._storage or None
        )


_VERSIONS = pa.schema(
    {
        "table": pa.string(),
        "version": pa.int64(),
        "digest": pa.string(),
        "num_rows": pa.int64(),
        "kind": pa.string(),
        "build_id": pa.string(),
        "git_commit": pa.string(),
        "fingerprint": pa.string(),
        "inputs": pa.string(),
        "extra": pa.string(),
        "created_at": pa.timestamp("us"),
    }
)


_locks: dict[tuple[str, str], threading.RLock] = {}
_locks_lock = threading.Lock()


def _table_lock(place: str, target: str) -> threading.RLock:
    with _locks_lock:
        return _locks.setdefault((place, target), threading.RLock())


def _reopened(uri: str, schema: str, defer: str | None, storage: dict[str, str], wait: float) -> Lake:
    return Lake(uri, schema=schema, defer=defer, storage_options=storage, wait_seconds=wait)


def _field_ids(fields: Iterable[Any]) -> list[tuple[str, int]]:
    """Names and ids in order, nested fields after their parent: data files name columns by these ids."""
    found: list[tuple[str, int]] = []
    for each in fields:
        found += [(each.name(), each.id()), *_field_ids(each.children())]
    return found


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


__all__ = ["Lake", "TableRef", "TableVersion"]
