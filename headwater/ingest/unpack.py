"""Compressed streams with a bound on what they may unpack to."""

from __future__ import annotations

import lzma
from typing import IO, Any, Protocol

import pyarrow as pa

MAX_RATIO = 200
"""Unpacked bytes for each stored one. Text packs far less; deflate ends at 1,032 (zlib's manual)."""
FREE_BYTES = 64 << 20
"""A small archive may unpack to this whatever its ratio."""
MAX_LZMA_MEMORY = 128 << 20
"""What ``xz -9`` needs to unpack is 65 MiB."""
_READ_BYTES = 64 << 10
_CODECS = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bz2"), (b"\xfd7zXZ\0", "xz"))


class Bomb(ValueError):
    """Unpacks to more than the bound."""


class Broken(ValueError):
    """Cannot be read on."""


class Source(Protocol):
    """A stream of unpacked bytes. ``position``: stored bytes read so far."""

    position: int

    def read(self, size: int) -> bytes: ...


class Budget:
    """Unpacked bytes that a file of ``stored`` bytes may have."""

    def __init__(self, stored: int, ratio: int = MAX_RATIO) -> None:
        self._limit = max(FREE_BYTES, ratio * stored)
        self._spent = 0

    def spend(self, num_bytes: int) -> None:
        self._spent += num_bytes
        if self._spent > self._limit:
            raise Bomb(f"unpacks to more than {self._limit} bytes")


def open_unpacked(file: IO[bytes], size: int) -> Source:
    """The unpacked bytes of a plain, gzip, bzip2, xz or zstd file, told by its first bytes."""
    head = file.read(6)
    file.seek(0)
    codec = next((name for magic, name in _CODECS if head.startswith(magic)), None)
    return _Unpacked(file, codec, Budget(size) if codec else None)


class _Unpacked:
    def __init__(self, file: IO[bytes], codec: str | None, budget: Budget | None) -> None:
        self._file = file
        self._budget = budget
        self.position = 0
        self._stream: Any = file
        if codec == "xz":
            self._stream = _Xz(file)
        elif codec is not None:
            self._stream = pa.CompressedInputStream(pa.PythonFile(file, "r"), codec)

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; fewer only at the end."""
        parts, held = [], 0
        try:
            while held < size and (data := self._stream.read(min(_READ_BYTES, size - held))):
                held += len(data)
                parts.append(data)
                if self._budget is not None:
                    self._budget.spend(len(data))
            self.position = self._position()
        except (OSError, EOFError, lzma.LZMAError, MemoryError) as error:
            raise Broken(str(error).splitlines()[0][:200] if str(error) else type(error).__name__) from error
        return b"".join(parts)

    def _position(self) -> int:
        try:
            return self._file.tell()
        except ValueError:  # Arrow closes the file when it has read it
            return 1 << 62


class _Xz:
    """xz streams, one after another, with a bound on memory that ``lzma.LZMAFile`` has no setting for."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._rest = b""
        self._decoder = self._new()

    @staticmethod
    def _new() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=MAX_LZMA_MEMORY)

    def read(self, size: int) -> bytes:
        while True:
            if self._decoder.eof:
                self._rest = self._decoder.unused_data.lstrip(b"\0") or self._file.read(_READ_BYTES).lstrip(
                    b"\0"
                )
                if not self._rest:
                    return b""
                self._decoder = self._new()
            if not self._rest and self._decoder.needs_input:
                self._rest = self._file.read(_READ_BYTES)
                if not self._rest:
                    raise EOFError("xz data breaks off")
            data = self._decoder.decompress(self._rest, max_length=size)
            self._rest = b""
            if data:
                return data
