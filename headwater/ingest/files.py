"""Whole files as documents: reading them into Arrow buffers, a bounded chunk at a time."""

from __future__ import annotations

import fnmatch
import functools
import json
import os
import stat
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headwater.errors import BadInput
from headwater.ingest.rows import BAD, CANDIDATES, Chunk, bad_rows
from headwater.ingest.text import Mask, as_text, decode_declared, stored_name

CHUNK_BYTES = 4 << 20
CHUNK_FILES = 2_048
"""A chunk ends at 4 MiB or 2,048 files: enough to pay for a native call, small beside any limit."""

_SUFFIXES = """
    .adoc .asciidoc .bash .c .cc .cfg .cl .clj .cmake .cpp .cs .css .csv .cu .cxx .dart .el .erl .ex .f
    .f90 .fs .go .gradle .groovy .h .hpp .hs .htm .html .ini .java .jl .js .json .jsx .kt .latex .less
    .lisp .lua .m .markdown .md .ml .mli .mm .nim .org .pas .php .pl .pm .proto .ps1 .py .pyi .pyx .r
    .rb .rs .rst .scala .scm .scss .sh .sql .swift .tcl .tex .toml .ts .tsv .tsx .txt .vb .vim .vue
    .xhtml .xml .yaml .yml .zig
"""
TEXT_SUFFIXES = frozenset(_SUFFIXES.split())
TEXT_NAMES = frozenset(
    {"AUTHORS", "CHANGELOG", "CHANGES", "COPYING", "Dockerfile", "LICENSE", "Makefile", "NEWS", "NOTICE"}
    | {"README", "TODO"}
)
"""What ``folder`` reads when no globs are given; everything else in the folder is passed over."""

Task = Callable[[], Chunk]
"""Work on a piece of input that may run on any thread: its reader has done the reading."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file to read. ``path`` is ours, ``name`` is the key: relative, posix, valid UTF-8."""

    path: str
    name: str
    source: str
    license_declared: str | None = None
    metadata: str | None = None
    problem: str | None = None
    """Set when the file must not be read: the quarantine reason."""


def walk_files(
    root: str, wanted: Callable[[str], bool], prefix: str = ""
) -> Iterator[tuple[str, str, str | None]]:
    """``(path, relative name, problem)`` of the wanted regular files below ``root``, in sorted order.

    Links are not followed, so there is neither a cycle nor a way out: a link to a place inside is
    read at that place, one that leads outside is reported with the problem ``symlink``. Folders that
    begin with a dot are passed over.
    """
    real_root = os.path.realpath(root)
    pending = [(root, prefix)]
    while pending:
        folder, prefix = pending.pop()
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
        except OSError:
            yield folder, prefix.rstrip("/"), "unreadable"
            continue
        below: list[tuple[str, str]] = []
        for entry in entries:
            name = prefix + entry.name
            if entry.is_symlink():
                if (entry.is_dir() or wanted(name)) and not _inside(entry.path, real_root):
                    yield entry.path, name, "symlink"
            elif entry.is_dir():
                if not entry.name.startswith("."):
                    below.append((entry.path, name + "/"))
            elif entry.is_file() and wanted(name):
                yield entry.path, name, None
        pending.extend(reversed(below))


def _inside(path: str, real_root: str) -> bool:
    real = os.path.realpath(path)
    return real == real_root or real.startswith(real_root.rstrip("/") + "/")


def matcher(globs: Sequence[str] | None) -> Callable[[str], bool]:
    """Does a relative posix name match? A glob without a slash is matched against the last part."""
    if not globs:
        return _is_text_like

    def matches(name: str) -> bool:
        last = name.rpartition("/")[2]
        return any(fnmatch.fnmatchcase(name if "/" in glob else last, glob) for glob in globs)

    return matches


def _is_text_like(name: str) -> bool:
    last = name.rpartition("/")[2]
    return os.path.splitext(last)[1].lower() in TEXT_SUFFIXES or last in TEXT_NAMES  # noqa: PTH122 (50 x faster)


class FolderReader:
    """``kind="folder"``: each matching file below a folder is a document, its relative path the key."""

    layout: str | None = None

    def __init__(
        self, location: str | Path, *, source: str | None, globs: Sequence[str] | None, max_bytes: int
    ) -> None:
        root = Path(location)
        if not root.is_dir():
            raise BadInput(
                f"{location} is not a folder", hint="give a folder, or another kind for single files"
            )
        self._root = str(root)
        self.source = source or stored_name(root.resolve().name) or "folder"
        self.sources: frozenset[str] | None = frozenset({self.source})
        self.source_prefix: str | None = None
        self._wanted = matcher(globs)
        self._max_bytes = max_bytes
        if next(self._entries(), None) is None:
            what = f"matching {', '.join(globs)}" if globs else "with a text-like name"
            raise BadInput(f"no file {what} in {location}", hint="name the files with globs, e.g. '*.log'")

    def _entries(self) -> Iterator[Entry]:
        for path, name, problem in walk_files(self._root, self._wanted):
            yield Entry(path, stored_name(name), self.source, problem=problem)

    def total_bytes(self) -> int | None:
        return sum(stored_size(entry.path) for entry in self._entries())

    def tasks(self) -> Iterator[Task]:
        return read_files(self._entries(), self._max_bytes)


def stored_size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 (a path object per file costs more than the call)
    except OSError:
        return 0


def read_files(entries: Iterator[Entry], max_bytes: int) -> Iterator[Task]:
    """Read files one after another into shared buffers; each task turns one buffer into a chunk."""
    chunk = _Open(CHUNK_BYTES)
    for entry in entries:
        if entry.problem is not None:
            chunk.refuse(entry, entry.problem, "not read", 0)
        else:
            chunk = yield from _read_one(chunk, entry, max_bytes)
        if len(chunk.entries) + len(chunk.bad) >= CHUNK_FILES:
            yield chunk.task()
            chunk = _Open(CHUNK_BYTES)
    if chunk.entries or chunk.bad:
        yield chunk.task()


def _read_one(chunk: _Open, entry: Entry, max_bytes: int) -> Generator[Task, None, _Open]:
    """Add one file to the chunk, which is handed on first when the file does not fit."""
    try:
        # O_NONBLOCK: a pipe that took the place of the file since it was listed must not hang us.
        handle = os.open(
            entry.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
        )
    except OSError as error:
        chunk.refuse(entry, "unreadable", error.strerror or str(error), 0)
        return chunk
    with os.fdopen(handle, "rb", buffering=0) as file:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            chunk.refuse(entry, "unreadable", "not a regular file", 0)
        elif facts.st_size > max_bytes:
            chunk.refuse(entry, "too_large", f"limit {max_bytes} bytes", facts.st_size)
        else:
            if facts.st_size > chunk.room and chunk.entries:
                yield chunk.task()
                chunk = _Open(CHUNK_BYTES)
            try:
                chunk.read(entry, file, facts.st_size)
            except OSError as error:
                chunk.refuse(entry, "unreadable", error.strerror or str(error), facts.st_size)
    return chunk


class _Open:
    """A chunk being filled: one buffer, the end of each file in it, and what was refused."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.buffer: bytearray | None = None
        self.ends = [0]
        self.entries: list[Entry] = []
        self.bad: list[pa.RecordBatch] = []
        self.unreadable: str | None = None

    @property
    def room(self) -> int:
        return self.capacity - self.ends[-1]

    def read(self, entry: Entry, file: object, size: int) -> None:
        if self.buffer is None:
            self.capacity = max(self.capacity, size)
            self.buffer = bytearray(self.capacity)
        start, stop = self.ends[-1], self.ends[-1] + size
        with memoryview(self.buffer) as view:
            at = start
            while at < stop and (count := file.readinto(view[at:stop])):  # type: ignore[attr-defined]
                at += count
        self.ends.append(at)
        self.entries.append(entry)

    def refuse(self, entry: Entry, reason: str, detail: str, size: int) -> None:
        if reason == "unreadable":
            self.unreadable = entry.name
        self.bad.append(bad_rows(entry.source, entry.name, "", reason, detail, size))

    def task(self) -> Task:
        return functools.partial(_to_chunk, self)


def _to_chunk(opened: _Open) -> Chunk:
    entries, bad = opened.entries, list(opened.bad)
    seen = len(entries) + len(bad)
    data = pa.py_buffer(opened.buffer or b"")
    offsets = pa.py_buffer(np.array(opened.ends, dtype=np.int64))
    raw = pa.Array.from_buffers(pa.large_binary(), len(entries), [None, offsets, data])
    text, valid = as_text(raw)
    metadata = [entry.metadata for entry in entries]
    if valid is not None:
        text, valid, rescued = _rescue(raw, text, valid, entries)
        for row, coding in rescued.items():
            metadata[row] = json.dumps({**json.loads(metadata[row] or "{}"), "encoding": coding})
        for row in np.flatnonzero(~valid).tolist():
            entry = entries[row]
            size = opened.ends[row + 1] - opened.ends[row]
            bad.append(
                bad_rows(entry.source, entry.name, "", "not_utf8", _first_wrong(raw[row].as_py()), size)
            )
    rows = _candidates(entries, text, metadata)
    return Chunk(
        rows=rows if valid is None else rows.filter(pa.array(valid)),
        bad=pa.concat_batches(bad) if bad else pa.RecordBatch.from_pylist([], schema=BAD),
        num_files=seen,
        num_rows=seen,
        read_bytes=opened.ends[-1],
        unreadable=opened.unreadable,
    )


def _rescue(
    raw: pa.Array, text: pa.Array, valid: Mask, entries: list[Entry]
) -> tuple[pa.Array, Mask, dict[int, str]]:
    """Decode the Python files among the rows that are not UTF-8 by the coding they declare."""
    rescued: dict[int, str] = {}
    texts: list[str] = []
    for row in np.flatnonzero(~valid):
        if entries[row].name.endswith((".py", ".pyw", ".pyi")):
            decoded = decode_declared(raw[row].as_py())
            if decoded is not None:
                texts.append(decoded[0])
                rescued[int(row)] = decoded[1]
    if not rescued:
        return text, valid, rescued
    where = np.zeros(len(valid), dtype=np.bool_)
    where[list(rescued)] = True
    filled = pc.replace_with_mask(text, pa.array(where), pa.array(texts, pa.large_string()))
    return filled, valid | where, rescued


def _first_wrong(data: bytes) -> str:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"byte 0x{data[error.start]:02x} at offset {error.start}: {error.reason}"
    return ""


def _candidates(entries: list[Entry], text: pa.Array, metadata: list[str | None]) -> pa.RecordBatch:
    size = len(entries)
    names = pa.array([entry.name for entry in entries], pa.string())
    columns = {
        "text": text,
        "key": names,
        "path": names,
        "file": names,
        "source": pa.array([entry.source for entry in entries], pa.string()),
        "license_declared": pa.array([entry.license_declared for entry in entries], pa.string()),
        "metadata": pa.array(metadata, pa.string()),
        "position": pa.repeat("", size),
    }
    filled = [columns[f.name] if f.name in columns else pa.nulls(size, f.type) for f in CANDIDATES]
    return pa.record_batch(filled, schema=CANDIDATES)
