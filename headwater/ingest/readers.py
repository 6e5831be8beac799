"""The kinds of input: what each reads, which settings it takes, and how it is told from a path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from headwater.errors import UsageError
from headwater.ingest import archives, arrow, jsonl, parquet, warc
from headwater.ingest.archives import ArchiveReader
from headwater.ingest.arrow import ArrowReader
from headwater.ingest.duck import Ducks
from headwater.ingest.files import FolderReader
from headwater.ingest.git import GitReader
from headwater.ingest.html import SUFFIXES as PAGE_SUFFIXES
from headwater.ingest.huggingface import dataset_reader, is_saved
from headwater.ingest.inputs import Location
from headwater.ingest.installed import PythonReader
from headwater.ingest.jsonl import JsonlReader
from headwater.ingest.parquet import ParquetReader
from headwater.ingest.warc import WarcReader
from headwater.ingest.whole import Task

KINDS = (
    "python",
    "folder",
    "html",
    "warc",
    "archive",
    "git",
    "jsonl",
    "parquet",
    "arrow",
    "huggingface",
)
_OF_ROWS = ("jsonl", "parquet", "arrow", "huggingface")
_WITH_GLOBS = ("folder", "html", "archive", "git")
_WITH_HTML = (*_WITH_GLOBS, "warc")

_BY_SUFFIX = {
    "warc": warc.SUFFIXES,
    "archive": archives.SUFFIXES,
    "jsonl": jsonl.SUFFIXES,
    "parquet": parquet.SUFFIXES,
    "arrow": arrow.SUFFIXES,
}


class Reader(Protocol):
    """What the kinds have in common."""

    layout: str | None
    sources: frozenset[str] | None
    """The sources its rows can have, or None when rows name theirs."""
    source_prefix: str | None
    """Instead: what the names of its sources begin with (beside ``stdlib``)."""

    def total_bytes(self) -> int | None: ...

    def tasks(self) -> Iterator[Task]: ...


def guess_kind(path: str) -> str | None:
    """The kind that a path is certainly of, or None: a folder may hold anything."""
    name = path.rstrip("/").lower()
    place = Path(path)
    if place.is_dir():
        return "huggingface" if is_saved(place) else None
    return next((kind for kind, suffixes in _BY_SUFFIX.items() if name.endswith(suffixes)), None)


def make_reader(
    kind: str,
    location: Location | None,
    settings: Mapping[str, object],
    globs: Sequence[str] | None,
    ducks: Ducks,
) -> Reader:
    """The reader of a kind. Raises UsageError for settings that it has no use for, BadInput for no input."""
    source, columns, layout = settings["source"], settings["columns"], settings["layout"]
    max_bytes, html, at = settings["max_document_bytes"], settings.get("html"), settings.get("at")
    if kind not in _OF_ROWS and (columns or layout):
        raise UsageError(
            f"{kind} reads whole files: it has no columns to map", hint="leave columns and layout out"
        )
    if globs and kind not in _WITH_GLOBS:
        raise UsageError("globs choose files for kind 'folder'", hint="put the glob into the location")
    if html is not None and kind not in _WITH_HTML:
        raise UsageError(f"{kind} holds no pages", hint=f"html is for {', '.join(_WITH_HTML)}")
    if at is not None and kind != "git":
        raise UsageError(f"{kind} has no commits", hint="at is for kind 'git'")
    if kind == "python":
        if location is not None or source is not None:
            raise UsageError("python reads the running interpreter: it takes no location and no source")
        return PythonReader(max_bytes=max_bytes)  # type: ignore[arg-type]
    if location is None:
        raise UsageError(f"{kind} needs a location")
    if kind in ("folder", "html", "git"):
        if not isinstance(location, str) and not hasattr(location, "__fspath__"):
            raise UsageError(f"{kind} takes one folder")
        common = {"source": source, "html": html, "max_bytes": max_bytes}
        if kind == "git":
            return GitReader(location, at=at, globs=globs, **common)  # type: ignore[arg-type]
        if kind == "html":
            common |= {"html": html or "main"}
            globs = globs or [f"*{suffix}" for suffix in PAGE_SUFFIXES]
        return FolderReader(location, globs=globs, **common)  # type: ignore[arg-type]
    if kind == "warc":
        return WarcReader(location, source=source, html=html, max_bytes=max_bytes)  # type: ignore[arg-type]
    if kind == "archive":
        return ArchiveReader(location, source=source, globs=globs, html=html, max_bytes=max_bytes)  # type: ignore[arg-type]
    rows = {"source": source, "columns": columns, "layout": layout}
    rows |= {"max_bytes": max_bytes, "ducks": ducks}
    if kind == "jsonl":
        return JsonlReader(location, **rows)  # type: ignore[arg-type]
    if kind == "parquet":
        return ParquetReader(location, **rows)  # type: ignore[arg-type]
    if kind == "arrow":
        return ArrowReader(location, **rows)  # type: ignore[arg-type]
    return dataset_reader(location, **rows)
