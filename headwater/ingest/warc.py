"""``kind="warc"``: web archives. A response is a document, and so is a WET file's conversion.

Compressed or not, record by record; nothing is fetched. A broken record is quarantined with its offset, and
reading goes on at the next one that can be found.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from headwater.errors import BadInput, MissingExtra
from headwater.ingest import html as pages
from headwater.ingest.charsets import decode_page
from headwater.ingest.http import BrokenMessage, TooLarge, charset_of, decoded_body, parse_response
from headwater.ingest.inputs import DataFile, Location, data_files, default_source
from headwater.ingest.warc_records import Broken, Record, read_records
from headwater.ingest.whole import Entry, Filling, Task

_PACKED = ("", ".gz", ".zst")
SUFFIXES = tuple(f".{name}{packed}" for name in ("warc", "wet") for packed in _PACKED)
_NOT_PROSE = frozenset({"text/css", "text/javascript", "text/ecmascript", "text/calendar", "text/vcard"})
_SNIFFED_BYTES = 1_024


class WarcReader:
    """Records of one or more files. The key of a record is its ``WARC-Record-ID``, else ``file:offset``."""

    layout: str | None = None
    source_prefix: str | None = None

    def __init__(
        self, location: Location, *, source: str | None, html: pages.Mode | None, max_bytes: int
    ) -> None:
        try:
            import fastwarc  # noqa: F401
        except ImportError as error:
            raise MissingExtra.of("fastwarc", "web") from error
        pages.require()
        self._files = data_files(location, lambda name: name.endswith(SUFFIXES))
        self.source = source or default_source(location, needed=True)
        self.sources: frozenset[str] | None = frozenset({self.source})
        self._html: pages.Mode = html or "main"
        self._max_bytes = max_bytes
        if len(self._files) == 1:
            self._check(self._files[0])

    def total_bytes(self) -> int | None:
        return sum(file.size for file in self._files)

    def tasks(self) -> Iterator[Task]:
        for file in self._files:
            yield from self._read(file)

    def _check(self, file: DataFile) -> None:
        """A single file without a first record is a mistake of the caller, not a flaw of the data."""
        found = next(read_records(file.path, max_bytes=self._max_bytes), None)
        if found is None or (isinstance(found, Broken) and found.is_fatal):
            detail = found.detail if found is not None else "no record in it"
            raise BadInput(f"cannot read {file.path} as WARC: {detail}")

    def _read(self, file: DataFile) -> Iterator[Task]:
        filling, reported, at = Filling(), 0, 0
        for found in read_records(file.path, max_bytes=self._max_bytes):
            at = max(at, min(found.offset, file.size))
            self._add(filling, file, found)
            if filling.is_full:
                filling.read_bytes, reported = at - reported, at
                yield filling.task()
                filling = Filling()
        filling.read_bytes, filling.num_files = file.size - reported, 1
        yield filling.task()

    def _add(self, filling: Filling, file: DataFile, found: Record | Broken) -> None:
        place = f"{file.name}:{found.offset}"
        entry = Entry(
            file.path, place, self.source, file=file.name, position=f"offset {found.offset}"
        )  # fmt: skip
        if isinstance(found, Broken):
            # "broken_record" leaves the file readable: only one that was given up stops a sync.
            filling.refuse(
                entry, "unreadable" if found.is_fatal else found.reason, found.detail, found.num_bytes
            )
            return
        try:
            document = _document(found, self._max_bytes)
        except TooLarge as error:
            filling.refuse(entry, "too_large", str(error), found.num_bytes)
            return
        except (BrokenMessage, ValueError) as error:
            filling.refuse(entry, "broken_record", str(error), found.num_bytes)
            return
        if document.reason:
            filling.refuse(entry, document.reason, document.detail, found.num_bytes)
            return
        entry = Entry(
            file.path,
            place,
            self.source,
            metadata=json.dumps(document.facts),
            key=found.fields.get("warc-record-id"),
            url=_filled(found.fields.get("warc-target-uri", "").strip("<> ")),
            date=_date(found.fields.get("warc-date", "")),
            file=file.name,
            position=entry.position,
            html=self._html if document.is_page else None,
            charset=document.charset,
        )
        filling.add(entry, document.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    """What a record holds: bytes of a page or UTF-8 text, or the ``reason`` why neither."""

    data: bytes = b""
    is_page: bool = False
    charset: str | None = None
    facts: dict[str, Any]
    reason: str = ""
    detail: str = ""


def _document(record: Record, max_bytes: int) -> _Document:
    facts: dict[str, Any] = {
        ours: record.fields[name] for ours, name in _KEPT.items() if name in record.fields
    }
    facts["content_length"] = record.num_bytes
    if record.kind == "conversion":
        return _Document(data=record.block, facts=facts)
    if record.is_http:
        response = parse_response(record.block)
        content_type, charset = response.content_type, response.charset
        facts |= {"status": response.status, "content_type": content_type}
        if not 200 <= response.status < 300:
            return _Document(facts=facts, reason="http_status", detail=f"status {response.status}")
        body = decoded_body(response, max_bytes)
    else:
        said = record.fields.get("content-type", "")
        content_type, charset, body = said.partition(";")[0].strip().lower(), charset_of(said), record.block
        facts["content_type"] = content_type
    if not content_type:
        content_type = "text/html" if _starts_like_a_page(body) else "unknown"
    if content_type in pages.CONTENT_TYPES:
        return _Document(data=body, is_page=True, charset=charset, facts=facts)
    if content_type.startswith("text/") and content_type not in _NOT_PROSE:
        decoded = decode_page(body, charset)
        facts |= {"encoding": decoded.encoding}
        facts |= {"num_replaced": decoded.replaced} if decoded.replaced else {}
        return _Document(data=decoded.text.encode("utf-8", "replace"), facts=facts)
    return _Document(facts=facts, reason="not_text", detail=content_type)


_KEPT = {
    "record_id": "warc-record-id",
    "digest": "warc-payload-digest",
    "block_digest": "warc-block-digest",
    "truncated": "warc-truncated",
    "refers_to": "warc-refers-to",
    "content_languages": "warc-identified-content-language",
}


def _starts_like_a_page(body: bytes) -> bool:
    start = body[:_SNIFFED_BYTES].lstrip().lower()
    return start.startswith((b"<!doctype html", b"<html")) or b"<head" in start or b"<body" in start


def _filled(value: str) -> str | None:
    return value or None


def _date(value: str) -> datetime | None:
    """A WARC date (ISO 8601, UTC) without its zone; None where it is no date."""
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    try:
        return found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found
    except (OverflowError, ValueError):
        return None
