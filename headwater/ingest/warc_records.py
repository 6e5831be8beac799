"""Records of a WARC file with their offsets, and how reading goes on after a broken one. By fastwarc."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import IO, Any

from headwater.ingest.unpack import MAX_RATIO, Bomb, Budget

MAX_BROKEN = 1_000
"""Broken records of one file; then it is given up. Each costs a search for the next."""
MAX_PROBES = 20_000
"""Places in one file that may be tried as the beginning of a record: up to 50 µs each."""
_HEADER_BYTES = 32 << 10
_WINDOW_BYTES = 1 << 20
_PROBE_BYTES = 160 << 10
"""A zstd block is at most 128 KiB (RFC 8878, section 3.1.1.2.3): its text begins within."""
_START = b"WARC/"
_GZIP, _ZSTD = b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"

_ERRORS = (OSError, ValueError, RuntimeError, EOFError, OverflowError)


def _is_flaw(error: BaseException) -> bool:
    """An error that hostile bytes can cause. fastwarc's own slips surface as Rust panics, which derive from
    BaseException."""
    return isinstance(error, _ERRORS) or type(error).__name__ == "PanicException"


@dataclass(frozen=True, slots=True)
class Record:
    """A whole record. ``offset``: where it begins in the stored file (its gzip member or zstd frame, if it
    has one of its own). ``fields``: its header by lower-case name."""

    offset: int
    kind: str
    fields: dict[str, str]
    block: bytes
    is_http: bool

    @property
    def num_bytes(self) -> int:
        return len(self.block)


@dataclass(frozen=True, slots=True)
class Broken:
    """What is no record. ``is_fatal``: nothing after it can be read."""

    offset: int
    detail: str
    reason: str = "broken_record"
    num_bytes: int = 0
    is_fatal: bool = False


def read_records(path: str, *, max_bytes: int) -> Iterator[Record | Broken]:
    """Responses, resources and conversions in the order of the file; others are passed over.

    A record above ``max_bytes`` is not held: it comes as :class:`Broken` with the reason ``too_large``.
    """
    try:
        file = open(path, "rb")  # noqa: PTH123, SIM115
    except OSError as error:
        yield Broken(0, error.strerror or str(error), is_fatal=True)
        return
    with file:
        yield from _Walk(file, max_bytes).records()


class _Walk:
    """Reading from one offset after another: each time from a place where a record begins."""

    def __init__(self, file: IO[bytes], max_bytes: int) -> None:
        self._file = file
        self._max_bytes = max_bytes
        head = file.read(4)
        self._magic = next((m for m in (_GZIP, _ZSTD) if head.startswith(m)), _START)
        self._last = 0
        """Where the record read last begins."""
        self._num_read = 0
        """Records since the last start."""
        self._end = 1
        """From where another record may begin if the file is said to have ended."""
        self._probes = 0
        self._is_one_member = False
        self._size = file.seek(0, io.SEEK_END)
        self._budget = Budget(self._size, ratio=2 if self._magic == _START else MAX_RATIO)
        """Of bytes held, some of them more than once: lengths that lie may make records overlap."""

    def records(self) -> Iterator[Record | Broken]:
        start: int | None = 0
        between: Broken | None = None
        for _ in range(MAX_BROKEN):
            assert start is not None
            self._last, self._num_read, self._end = start, 0, start + 1
            flaw: Broken | None = None
            try:
                for found in self._from(start):
                    if between is not None:
                        yield between
                        between = None
                    yield found
                start = self._next(self._end)
                if self._num_read == 0 and self._size > self._last:
                    # fastwarc takes a header that breaks off for the end of the file.
                    flaw = Broken(self._last, "the record breaks off in its header")
            except Bomb as error:
                yield Broken(self._last, str(error), is_fatal=True)
                return
            except BaseException as error:
                if not _is_flaw(error):
                    raise
                # The last record may say that it is longer than it is: what it swallowed is read again.
                start = self._next(self._last + 1)
                flaw = Broken(self._last, str(error)[:200] or type(error).__name__)
            if flaw is not None and self._num_read:
                # What is broken comes after the last record, and may be found to begin like one.
                between, flaw = Broken(flaw.offset, f"after the record here: {flaw.detail}"), None
            if flaw is not None:
                between = None
                yield replace(flaw, is_fatal=start is None and self._last == 0)
            if start is None:
                if between is not None:
                    yield between
                return
        yield Broken(self._last, f"given up after {MAX_BROKEN} broken records", is_fatal=True)

    def _from(self, start: int) -> Iterator[Record | Broken]:
        from fastwarc import ArchiveIterator, WarcRecordType

        self._file.seek(start)
        wanted = WarcRecordType.response | WarcRecordType.resource | WarcRecordType.conversion
        for record in ArchiveIterator(_Rest(self._file), parse_http=False, max_header_len=_HEADER_BYTES):
            offset = self._last = start + int(record.stream_pos)
            self._end = offset + 1
            size = int(record.content_length)
            is_wanted = bool(record.record_type & wanted)
            found: Record | Broken | None = None
            if self._magic == _START and offset + size <= self._size:
                self._end = offset + max(size, 1)  # a web archive may hold another
            if not (record.headers.get("Content-Length") or "").strip().isdigit():
                found = Broken(offset, "a record without a content length")
            elif size > self._max_bytes:
                if is_wanted:
                    found = Broken(offset, f"limit {self._max_bytes} bytes", "too_large", size)
            else:
                self._budget.spend(size)
                found = self._one(record, offset, size) if is_wanted else None
            self._num_read += 1
            if found is not None:
                yield found
            if size > self._max_bytes and self._must_jump(offset, size):
                return

    def _must_jump(self, offset: int, size: int) -> bool:
        """Search for the next record instead of reading over one that is too large, or says so?"""
        if self._magic == _START:
            return offset + size > self._size
        self._is_one_member = self._is_one_member or self._next(offset + 1) is None
        return not self._is_one_member

    def _one(self, record: Any, offset: int, size: int) -> Record | Broken:
        try:
            parts, held = [], 0
            while held < size and (data := record.reader.read(size - held)):
                parts.append(data)
                held += len(data)
        except _ERRORS as error:
            # Told apart from an error between records: this one is known to be broken.
            self._num_read = 0
            raise OSError(f"the record breaks off: {error}") from error
        if held < size:
            return Broken(offset, f"{held} of {size} bytes: the record breaks off", num_bytes=held)
        fields = {str(k).lower(): str(v) for k, v in reversed(record.headers.to_tuples())}
        kind = str(record.record_type).lower()
        is_http = fields.get("content-type", "").lower().startswith("application/http")
        return Record(offset, kind, fields, b"".join(parts), is_http)

    def _next(self, start: int) -> int | None:
        """The next offset from ``start`` where a record begins, or None."""
        at, overlap = start, len(self._magic) - 1
        while True:
            self._file.seek(at)
            window = self._file.read(_WINDOW_BYTES)
            if len(window) <= overlap:
                return None
            found = window.find(self._magic)
            while found >= 0:
                self._probes += 1
                if self._begins(at + found):
                    return at + found
                if self._probes >= MAX_PROBES:
                    return None
                found = window.find(self._magic, found + 1)
            at += len(window) - overlap

    def _begins(self, offset: int) -> bool:
        self._file.seek(offset)
        try:
            if self._magic == _GZIP:
                text = zlib.decompressobj(31).decompress(self._file.read(512), len(_START))
            elif self._magic == _ZSTD:
                from fastwarc import ZstdReader

                text = ZstdReader(io.BytesIO(self._file.read(_PROBE_BYTES))).read(len(_START))
            else:
                text = self._file.read(len(_START))
        except (zlib.error, *_ERRORS):
            return False
        at_end = self._file.read(1) == b""
        return text[: len(_START)] == _START or (at_end and _START.startswith(text))


class _Rest:
    """A file from where it stands, for fastwarc, which asks for positions and never seeks back."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._start = file.tell()

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def tell(self) -> int:
        return self._file.tell() - self._start

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return (
            self._file.seek(offset + self._start if whence == io.SEEK_SET else offset, whence) - self._start
        )

    def close(self) -> None:
        """The file is closed by the one who opened it."""
