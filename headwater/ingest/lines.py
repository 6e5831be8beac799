"""Lines of a plain or compressed file, as Arrow arrays over the blocks they were read in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

BLOCK_BYTES = 2 << 20
"""Uncompressed bytes a block grows by: a native call's overhead is lost in it."""
_READ_BYTES = 64 << 10
"""What one read asks for. When compressed input breaks off, at most this much before the break is lost."""

_MAGIC = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bz2"))
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"  # after 0x50..0x5f, RFC 8878 section 3.1.2: pzstd begins files with one
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, kw_only=True)
class Block:
    """Whole lines, one after another."""

    data: npt.NDArray[np.uint8]
    ends: npt.NDArray[np.int64]
    """Position after each line's newline; the first line begins at 0."""
    first_line: int
    """Number in the file of the first line, from 1."""
    read_bytes: int = 0
    """Stored bytes read since the last block."""
    long_line: tuple[int, int] | None = None
    """A line too long to be held, just before the lines of this block: its number and its bytes."""
    broken: str | None = None
    """Why the file could not be read on: the last block of such a file."""
    is_last: bool = False

    def lines(self) -> pa.Array:
        """Large binary, newlines included."""
        offsets = np.concatenate([np.zeros(1, np.int64), self.ends])
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(self.data)]
        return pa.Array.from_buffers(pa.large_binary(), len(self.ends), buffers)


def read_blocks(path: str, *, max_line_bytes: int) -> Iterator[Block]:
    """Yield the lines of a file in blocks; memory is bounded by ``max_line_bytes`` plus one block.

    gzip, zstd and bzip2 are told by their first bytes, not by the name; files of several members or
    frames are read to their end. A file that breaks off yields the lines before the break, without
    the partial one, and says so in its last block.
    """
    splitter = _Splitter(max_line_bytes)
    reported, broken = 0, None
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            size = os.fstat(file.fileno()).st_size
            for data in _decompressed(file):
                block = splitter.push(data)
                if block is not None:
                    at = file.tell()
                    yield _with(block, read_bytes=at - reported)
                    reported = at
            rest = max(0, size - reported)  # Arrow has closed a compressed file by now
    except OSError as error:
        broken, rest = error.strerror or str(error), 0
    yield _with(splitter.finish(broken), read_bytes=rest)


def _with(block: Block, **changes: Any) -> Block:
    return Block(**{**block.__dict__, **changes})


def _decompressed(file: IO[bytes]) -> Iterator[npt.NDArray[np.uint8]]:
    """Arrays of up to :data:`BLOCK_BYTES`; what was read before an error is yielded before it is raised."""
    head = file.read(4)
    file.seek(0)
    codec = next((name for magic, name in _MAGIC if head.startswith(magic)), None)
    if codec is None and head[1:] == _ZSTD_SKIPPABLE and head[0] & 0xF0 == 0x50:
        codec = "zstd"
    stream: Any = pa.CompressedInputStream(pa.PythonFile(file, "r"), codec) if codec else file
    at_start = True
    while True:
        buffer = np.empty(BLOCK_BYTES, dtype=np.uint8)
        view, at = memoryview(buffer.data), 0
        error: OSError | None = None
        try:
            while at < BLOCK_BYTES and (count := stream.readinto(view[at : at + _READ_BYTES])):
                at += count
        except OSError as caught:
            error = caught
        data = buffer[:at]
        if at_start and data[:3].tobytes() == _BOM:
            data = data[3:]
        at_start = False
        if len(data):
            yield data
        if error is not None:
            raise error
        if at < BLOCK_BYTES:
            return


class _Splitter:
    """Cuts pushed data into blocks of whole lines."""

    def __init__(self, max_line_bytes: int) -> None:
        self._limit = max_line_bytes
        self._parts: list[npt.NDArray[np.uint8]] = []
        self._held = 0
        self._line = 1
        self._skipped = 0
        """Bytes of the too long line that is being passed over."""

    def push(self, data: npt.NDArray[np.uint8]) -> Block | None:
        """The next block, or None while a line goes on."""
        newlines = np.flatnonzero(data == 10)
        if not len(newlines):
            self._hold(data)
            return None
        if self._skipped:
            return self._end_long_line(data, int(newlines[0]))
        end = int(newlines[-1]) + 1
        whole = np.concatenate([*self._parts, data[:end]]) if self._parts else data[:end]
        block = Block(data=whole, ends=(newlines + 1 + self._held).astype(np.int64), first_line=self._line)
        self._line += len(newlines)
        self._keep(data[end:])
        return block

    def finish(self, broken: str | None) -> Block:
        """The last block: a last line without a newline, unless the file broke off inside it."""
        long_line = (self._line, self._skipped) if self._skipped and broken is None else None
        data, ends = np.empty(0, np.uint8), np.empty(0, np.int64)
        if self._held and broken is None:
            data = np.concatenate(self._parts)
            ends = np.array([len(data)], dtype=np.int64)
        return Block(
            data=data, ends=ends, first_line=self._line, long_line=long_line, broken=broken, is_last=True
        )

    def _hold(self, data: npt.NDArray[np.uint8]) -> None:
        if self._skipped or self._held + len(data) > self._limit:
            self._skipped += self._held + len(data)
            self._parts, self._held = [], 0
        else:
            # Copied: the rest of a block would keep the whole block alive.
            self._parts.append(data.copy())
            self._held += len(data)

    def _keep(self, rest: npt.NDArray[np.uint8]) -> None:
        self._parts, self._held = ([rest.copy()], len(rest)) if len(rest) else ([], 0)

    def _end_long_line(self, data: npt.NDArray[np.uint8], newline: int) -> Block:
        """The block after a line that was passed over."""
        number, num_bytes = self._line, self._skipped + newline
        self._line += 1
        self._skipped = 0
        newlines = np.flatnonzero(data[newline + 1 :] == 10)
        end = newline + 1 + (int(newlines[-1]) + 1 if len(newlines) else 0)
        whole = data[newline + 1 : end]
        first = self._line
        self._line += len(newlines)
        self._keep(data[end:])
        return Block(
            data=whole,
            ends=(newlines + 1).astype(np.int64),
            first_line=first,
            long_line=(number, num_bytes),
        )
