"""``kind="folder"`` and ``"html"``: each file is a document."""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

from headwater.errors import BadInput
from headwater.ingest.html import Mode, looks_like_html
from headwater.ingest.text import stored_name
from headwater.ingest.whole import Entry, Filling, Task

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


def walk_files(
    root: str, wanted: Callable[[str], bool], prefix: str = ""
) -> Iterator[tuple[str, str, str | None]]:
    """``(path, relative name, problem)`` of the wanted regular files below ``root``, in sorted order.

    Links are not followed, so there is neither a cycle nor a way out: a link to a place inside is
    read at that place, one that leads outside is reported with the problem ``symlink``, and a pipe, socket or
    device with ``not_a_file``. Folders that begin with a dot are passed over.
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
            elif wanted(name):
                yield entry.path, name, None if entry.is_file() else "not_a_file"
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
        self,
        location: str | Path,
        *,
        source: str | None,
        globs: Sequence[str] | None,
        max_bytes: int,
        html: Mode | None = None,
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
        self._html = html
        if next(self._entries(), None) is None:
            what = f"matching {', '.join(globs)}" if globs else "with a text-like name"
            raise BadInput(f"no file {what} in {location}", hint="name the files with globs, e.g. '*.log'")

    def _entries(self) -> Iterator[Entry]:
        for path, name, problem in walk_files(self._root, self._wanted):
            page = self._html if self._html and looks_like_html(name) else None
            yield Entry(path, stored_name(name), self.source, problem=problem, html=page)

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
    chunk = Filling(counts_files=True)
    for entry in entries:
        if entry.problem is not None:
            chunk.refuse(entry, entry.problem, "not read", 0)
        else:
            chunk = yield from _read_one(chunk, entry, max_bytes)
        if chunk.is_full:
            yield chunk.task()
            chunk = Filling(counts_files=True)
    if chunk.entries or chunk.bad:
        yield chunk.task()


def _read_one(chunk: Filling, entry: Entry, max_bytes: int) -> Generator[Task, None, Filling]:
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
                chunk = Filling(counts_files=True)
            try:
                chunk.read(entry, file, facts.st_size)
            except OSError as error:
                chunk.refuse(entry, "unreadable", error.strerror or str(error), facts.st_size)
    return chunk
