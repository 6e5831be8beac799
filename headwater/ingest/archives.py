"""``kind="archive"``: the text-like members of zip files, wheels and tar files are documents.

Members are streamed: nothing is written to disk, no name is used as a path, no link is followed, and an
archive in an archive is not opened. What an archive may unpack to is bounded
(:mod:`headwater.ingest.unpack`).
"""

from __future__ import annotations

import json
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import IO, Any

from headwater.errors import BadInput
from headwater.ingest.files import matcher
from headwater.ingest.html import Mode, looks_like_html
from headwater.ingest.html import require as require_html
from headwater.ingest.inputs import DataFile, Location, data_files, default_source
from headwater.ingest.tar import Member, read_members
from headwater.ingest.text import stored_name
from headwater.ingest.unpack import Bomb, Broken, Budget, open_unpacked
from headwater.ingest.whole import Entry, Filling, Task

ZIP_SUFFIXES = (".zip", ".whl", ".jar", ".epub")
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
SUFFIXES = (*ZIP_SUFFIXES, *TAR_SUFFIXES)

MAX_MEMBERS = 2_000_000
MAX_DIRECTORY_BYTES = 256 << 20
"""Of a zip file's directory, which Python holds whole."""
_ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError, RuntimeError,
    KeyError, UnicodeError, MemoryError, OverflowError,
)  # fmt: skip
_ENCRYPTED = 0x1  # general purpose bit 0, APPNOTE.TXT section 4.4.4


class ArchiveReader:
    """A member's key is its name in the archive; of several archives, ``archive/member``."""

    layout: str | None = None
    source_prefix: str | None = None

    def __init__(
        self,
        location: Location,
        *,
        source: str | None,
        globs: Sequence[str] | None,
        html: Mode | None,
        max_bytes: int,
    ) -> None:
        if html is not None:
            require_html()
        self._files = data_files(location, lambda name: name.endswith(SUFFIXES))
        self.source = source or default_source(location, needed=True)
        self.sources: frozenset[str] | None = frozenset({self.source})
        self._wanted = matcher(globs)
        self._html = html
        self._max_bytes = max_bytes
        self._is_alone = isinstance(location, str) or hasattr(location, "__fspath__")
        self._is_alone &= len(self._files) == 1 and str(location) == self._files[0].path
        if self._is_alone:
            self._check(self._files[0])

    def total_bytes(self) -> int | None:
        return sum(file.size for file in self._files)

    def tasks(self) -> Iterator[Task]:
        for file in self._files:
            yield from self._read(file)

    def _check(self, file: DataFile) -> None:
        try:
            members = _members(file)
            next(iter(members), None)
        except (Broken, Bomb) as error:
            raise BadInput(f"cannot read {file.path} as an archive: {error}") from error

    def _read(self, file: DataFile) -> Iterator[Task]:
        filling, reported, number = Filling(), 0, 0
        whole = Entry(file.path, file.name, self.source)
        try:
            for number, member in enumerate(_members(file), start=1):
                if number > MAX_MEMBERS:
                    raise Bomb(f"more than {MAX_MEMBERS} members")
                if self._add(filling, file, member) and filling.is_full:
                    filling.read_bytes = max(0, min(member.position, file.size) - reported)
                    reported += filling.read_bytes
                    yield filling.task()
                    filling = Filling()
        except Bomb as error:
            filling.refuse(whole, "bomb", f"after member {number}: {error}", file.size)
            filling.unreadable = file.name
        except Broken as error:
            detail = f"breaks off after member {number}: {error}" if number else str(error)
            filling.refuse(whole, "unreadable", detail, file.size)
        filling.read_bytes, filling.num_files = max(0, file.size - reported), 1
        yield filling.task()

    def _add(self, filling: Filling, file: DataFile, member: Member) -> bool:
        """Add a member that is wanted; was it?"""
        name = stored_name(member.name)
        if member.is_folder or not self._wanted(name):
            return False
        key = name if self._is_alone else f"{file.name}/{name}"
        page = self._html if self._html and looks_like_html(name) else None
        facts = json.dumps({"archive": file.name})
        entry = Entry(
            file.path, key, self.source, metadata=facts, file=file.name, position=f"member {name}", html=page
        )
        reason = _refusal(member, name)
        if reason:
            filling.refuse(entry, reason, "not read", member.size)
        elif member.size > self._max_bytes:
            filling.refuse(entry, "too_large", f"limit {self._max_bytes} bytes", member.size)
        else:
            self._read_member(filling, entry, member)
        return True

    def _read_member(self, filling: Filling, entry: Entry, member: Member) -> None:
        try:
            data = member.read(self._max_bytes + 1)
        except Bomb:
            raise
        except _ZIP_ERRORS as error:
            if isinstance(error, Broken):
                raise
            # One member of a zip file is broken; a tar file is broken from there on.
            detail = f"{type(error).__name__}: {error}"[:200]
            filling.refuse(entry, "broken_member", detail, member.size)
            return
        if len(data) > self._max_bytes:
            # What the directory said of its size was a lie.
            filling.refuse(entry, "too_large", f"limit {self._max_bytes} bytes", len(data))
        else:
            filling.add(entry, data)


def _refusal(member: Member, name: str) -> str:
    if member.is_encrypted:
        return "encrypted"
    if member.is_link:
        return "symlink"
    if member.is_special:
        return "unreadable_member"
    parts = name.replace("\\", "/").split("/")
    if ".." in parts or name.startswith(("/", "\\")) or "\0" in name or parts[0].endswith(":"):
        return "unsafe_path"
    return ""


def _members(file: DataFile) -> Iterator[Member]:
    name = file.name.lower()
    if name.endswith(ZIP_SUFFIXES):
        return _zip_members(file)
    if name.endswith(TAR_SUFFIXES):
        return _tar_members(file)
    with open(file.path, "rb") as opened:  # noqa: PTH123
        is_zip = opened.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    return _zip_members(file) if is_zip else _tar_members(file)


def _tar_members(file: DataFile) -> Iterator[Member]:
    try:
        opened = open(file.path, "rb")  # noqa: PTH123, SIM115
    except OSError as error:
        raise Broken(error.strerror or str(error)) from error
    with opened:
        yield from read_members(open_unpacked(opened, file.size))


def _zip_members(file: DataFile) -> Iterator[Member]:
    try:
        opened = open(file.path, "rb")  # noqa: PTH123, SIM115
    except OSError as error:
        raise Broken(error.strerror or str(error)) from error
    with opened:
        try:
            _check_directory(opened, file.size)
            archive = zipfile.ZipFile(opened)
        except _ZIP_ERRORS as error:
            if isinstance(error, Bomb | Broken):
                raise
            raise Broken(f"{type(error).__name__}: {error}"[:200]) from error
        budget = Budget(file.size)
        for info in archive.infolist():
            yield _zip_member(archive, info, budget)


def _check_directory(file: IO[bytes], size: int) -> None:
    """The directory's size by the end record (APPNOTE.TXT sections 4.3.14 and 4.3.16), before it is read."""
    file.seek(max(0, size - (1 << 16) - 98))
    tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0:
        raise Broken("no end of a zip file: it breaks off, or is none")
    num_bytes = int.from_bytes(tail[end + 12 : end + 16], "little")
    large = tail.rfind(b"PK\x06\x06", 0, end)
    if large >= 0:
        num_bytes = max(num_bytes % 0xFFFFFFFF, int.from_bytes(tail[large + 40 : large + 48], "little"))
    if min(num_bytes, size) > MAX_DIRECTORY_BYTES:
        raise Bomb(f"a directory of {num_bytes} bytes")
    file.seek(0)


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: Budget) -> Member:
    mode = info.external_attr >> 16

    def read(limit: int) -> bytes:
        with archive.open(info) as member:
            return _read_up_to(member, limit, budget)

    return Member(
        name=info.filename,
        size=info.file_size,
        position=info.header_offset,
        is_folder=info.is_dir(),
        is_link=stat.S_ISLNK(mode),
        is_special=bool(stat.S_IFMT(mode)) and not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)),
        is_encrypted=bool(info.flag_bits & _ENCRYPTED),
        read=read,
    )


def _read_up_to(member: Any, limit: int, budget: Budget) -> bytes:
    parts, held = [], 0
    while held < limit and (data := member.read(min(1 << 16, limit - held))):
        held += len(data)
        budget.spend(len(data))
        parts.append(data)
    return b"".join(parts)
