"""Members of a tar stream, read forward once, each part bounded.

Python's ``tarfile`` reads a header's claimed gigabytes of extended names into memory and wants to seek; its
parser of the 512-byte header itself is used here.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from headwater.ingest.unpack import Broken, Source

_BLOCK = 512
MAX_EXTENDED_BYTES = 1 << 20
"""A long name or a pax header (POSIX names end at 4 KiB)."""
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_SKIP_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member of an archive, with ``read(limit)`` for at most so many of its bytes, once."""

    name: str
    size: int
    position: int
    """Stored bytes before it, about."""
    read: Callable[[int], bytes]
    is_folder: bool = False
    is_link: bool = False
    is_special: bool = False
    is_encrypted: bool = False


def read_members(source: Source) -> Iterator[Member]:
    """Members in order. Raises Broken where the stream is no tar file or breaks off, and the source's
    Bomb.
    """
    extended: dict[str, str] = {}
    is_first = True
    while True:
        header = source.read(_BLOCK)
        if not header or (len(header) == _BLOCK and not header.strip(b"\0")):
            if not header and is_first:
                raise Broken("an empty file")
            return
        if len(header) < _BLOCK:
            raise Broken("a header breaks off")
        try:
            info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError, OverflowError) as error:
            raise Broken(f"not a tar header: {error}") from error
        is_first = False
        if info.size < 0:
            raise Broken("a negative size")
        if info.type in (
            tarfile.GNUTYPE_LONGNAME,
            tarfile.GNUTYPE_LONGLINK,
            tarfile.XHDTYPE,
            tarfile.SOLARIS_XHDTYPE,
        ):
            data = _extended(source, info.size)
            if info.type == tarfile.GNUTYPE_LONGNAME:
                extended["path"] = data.rstrip(b"\0").decode("utf-8", "surrogateescape")
            elif info.type != tarfile.GNUTYPE_LONGLINK:
                extended |= _pax(data)
            continue
        if info.type == tarfile.XGLTYPE:
            _skip(source, _padded(info.size))
            continue
        size = _size(info, extended)
        body = _Body(source, size)
        is_sparse = info.type == tarfile.GNUTYPE_SPARSE or any(k.startswith("GNU.sparse.") for k in extended)
        is_file = info.type in _FILES or info.type not in tarfile.SUPPORTED_TYPES
        yield Member(
            name=extended.get("path", info.name),
            size=size,
            position=source.position,
            is_folder=info.type == tarfile.DIRTYPE,
            is_link=info.type in (tarfile.SYMTYPE, tarfile.LNKTYPE),
            is_special=is_sparse or not (is_file or info.type == tarfile.DIRTYPE),
            read=body.read,
        )
        body.skip()
        extended = {}


def _size(info: tarfile.TarInfo, extended: dict[str, str]) -> int:
    """Links and devices have no data whatever their header says (POSIX.1-2017, pax)."""
    if (
        info.type not in _FILES
        and info.type in tarfile.SUPPORTED_TYPES
        and info.type != tarfile.GNUTYPE_SPARSE
    ):
        return 0
    said = extended.get("size", "")
    return int(said) if said.isascii() and said.isdigit() and len(said) < 19 else info.size


def _extended(source: Source, size: int) -> bytes:
    if size > MAX_EXTENDED_BYTES:
        raise Broken(f"an extended header of {size} bytes")
    data = source.read(_padded(size))
    if len(data) < size:
        raise Broken("an extended header breaks off")
    return data[:size]


def _pax(data: bytes) -> dict[str, str]:
    """``length key=value`` records. What is no record ends them."""
    found: dict[str, str] = {}
    at = 0
    while at < len(data):
        length, space, _ = data[at : at + 20].partition(b" ")
        if not space or not length.isdigit() or int(length) <= len(length) + 1:
            break
        record = data[at + len(length) + 1 : at + int(length)].rstrip(b"\n")
        key, _, value = record.partition(b"=")
        found[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        at += int(length)
    return found


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _skip(source: Source, size: int) -> None:
    while size > 0:
        data = source.read(min(_SKIP_BYTES, size))
        if not data:
            raise Broken("a member breaks off")
        size -= len(data)


class _Body:
    """The data of the member that the stream stands at."""

    def __init__(self, source: Source, size: int) -> None:
        self._source = source
        self._size = size
        self._left = _padded(size)

    def read(self, limit: int) -> bytes:
        wanted = min(limit, self._size)
        data = self._source.read(wanted)
        self._left -= len(data)
        if len(data) < wanted:
            raise Broken("a member breaks off")
        return data

    def skip(self) -> None:
        # The padding of the last member may be missing.
        if self._left:
            missing = self._left < _BLOCK
            try:
                _skip(self._source, self._left)
            except Broken:
                if not missing:
                    raise
