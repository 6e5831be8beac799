"""Blocks of consecutive sequences on a local disk: fetched once for a node, read by all its ranks.

A block is one Arrow stream and, behind it, the xxh3-128 of its bytes; ranks map it into memory. Its folder
is named by what decides its content (the table's digest among it), so another version never finds it. The
disk's bytes stay within the limit: the block that was not opened for longest goes first.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import mmap
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import xxhash

from headwater.errors import UsageError
from headwater.loading.files import Indices, is_range
from headwater.loading.rows import Reader, Rows, frozen

if TYPE_CHECKING:
    from headwater.lake import Table

BLOCK_TOKENS = 1 << 22
"""Tokens in a block: 8 MB of uint16, a size that object stores deliver at full speed."""
CACHE_FORMAT = 1
DIGEST_BYTES = 16
LEAST_BLOCKS = 4
"""A smaller cache would drop blocks that another rank is about to read."""
OPEN_BLOCKS = 4
LOCKS = 64

_log = logging.getLogger(__name__)


class BlockCache:
    """A reader that answers from blocks on disk and fetches missing ones through ``reader``.

    ``hits`` and ``fetches`` count blocks opened in this process.

    Raises
    ------
    UsageError
        ``max_bytes`` holds fewer than four blocks.
    """

    def __init__(
        self, reader: Reader, table: Table, source_names: Sequence[str], folder: str | Path, max_bytes: int
    ) -> None:
        length = int(table.provenance.extra["sequence_length"])
        self._reader = reader
        self._rows = max(BLOCK_TOKENS // length, 1)
        self._num_sequences = table.num_rows
        self._max_bytes = max_bytes
        width = 4 if int(table.provenance.extra["vocab_size"]) > 1 << 16 else 2
        least = LEAST_BLOCKS * self._rows * length * width
        if max_bytes < least:
            raise UsageError(
                f"a cache of {max_bytes:,} bytes holds fewer than {LEAST_BLOCKS} blocks of "
                f"{self._rows:,} sequences",
                hint=f"give at least {least * 5 // 4:,} bytes",
            )
        facts = [CACHE_FORMAT, table.digest, length, self._rows, table.num_rows, list(source_names)]
        key = xxhash.xxh3_128_hexdigest(json.dumps(facts).encode())
        self._root = Path(folder)
        self._folder = self._root / f"{table.short_name}-{key}"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._open: OrderedDict[int, Rows] = OrderedDict()
        self.hits = 0
        self.fetches = 0

    def __call__(self, rows: Indices) -> Rows:
        blocks = rows // self._rows
        cuts = np.flatnonzero(np.diff(blocks)) + 1
        parts = [
            _select(self._block(int(part[0]) // self._rows), part % self._rows)
            for part in np.split(rows, cuts)
        ]
        return parts[0] if len(parts) == 1 else _join(parts)

    def _block(self, block: int) -> Rows:
        found = self._opened(block)
        if found is not None:
            return found
        # Another rank may be fetching the same block: wait for it instead of asking the store twice.
        with self._locked(f"{block % LOCKS:02d}"):
            found = self._opened(block) or self._load(block) or self._fetch(block)
            with self._lock:
                self._open[block] = found
                while len(self._open) > OPEN_BLOCKS:
                    self._open.popitem(last=False)
        return found

    def _opened(self, block: int) -> Rows | None:
        with self._lock:
            if block in self._open:
                self._open.move_to_end(block)
            return self._open.get(block)

    def _path(self, block: int) -> Path:
        return self._folder / f"{block:09d}.block"

    def _load(self, block: int) -> Rows | None:
        """The block from disk; ``None`` when it is not there or not whole."""
        path = self._path(block)
        try:
            with path.open("rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (FileNotFoundError, ValueError):  # ValueError: an empty file cannot be mapped
            return None
        body = memoryview(data)[:-DIGEST_BYTES]
        if xxhash.xxh3_128_digest(body) != data[-DIGEST_BYTES:]:
            _log.warning("cached block %s is damaged, fetching it again", path)
            return None
        with contextlib.suppress(FileNotFoundError):
            os.utime(path)
        with self._lock:
            self.hits += 1
        return _decode(body)

    def _fetch(self, block: int) -> Rows:
        first = block * self._rows
        rows = self._reader(np.arange(first, min(first + self._rows, self._num_sequences)))
        with self._lock:
            self.fetches += 1
        body = _encode(rows)
        try:
            self._store(self._path(block), body, xxhash.xxh3_128_digest(body))
        except OSError as error:
            # A full disk must not stop a training run: read on without the cache.
            _log.warning("cannot keep block %s: %s", self._path(block), error)
        return rows

    def _store(self, path: Path, body: memoryview, digest: bytes) -> None:
        size = len(body) + len(digest)
        with self._locked("room"):
            self._make_room(size)
            scratch = path.with_suffix(".tmp")
            try:
                with scratch.open("wb") as out:
                    out.write(body)
                    out.write(digest)
                scratch.replace(path)
            finally:
                scratch.unlink(missing_ok=True)

    def _make_room(self, size: int) -> None:
        """Remove what was not opened for longest. Readers keep what they have mapped."""
        files = []
        for path in self._root.glob("*/*.*"):
            if path.suffix == ".tmp":
                path.unlink(missing_ok=True)  # its writer was killed: writers hold this lock
            elif path.suffix == ".block":
                facts = path.stat()
                files.append((facts.st_mtime_ns, facts.st_size, path))
        total = sum(bytes_ for _, bytes_, _ in files)
        for _, bytes_, path in sorted(files):
            if total + size <= self._max_bytes:
                return
            path.unlink()
            total -= bytes_

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        # A file lock ends with its process, however that ends.
        with (self._root / f".{name}.lock").open("ab") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def _encode(rows: Rows) -> memoryview:
    length = len(rows.tokens) // rows.num_rows
    batch = pa.record_batch(
        {
            "tokens": pa.FixedSizeListArray.from_arrays(pa.array(rows.tokens), length),
            "lengths": pa.ListArray.from_arrays(pa.array(rows.offsets), pa.array(rows.lengths)),
            "sources": pa.ListArray.from_arrays(pa.array(rows.offsets), pa.array(rows.sources)),
        }
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return memoryview(sink.getvalue())


def _decode(body: memoryview) -> Rows:
    with pa.ipc.open_stream(pa.py_buffer(body)) as stream:
        batch = stream.read_next_batch()
    lengths = batch["lengths"]
    return Rows(
        frozen(batch["tokens"].flatten().to_numpy()),
        frozen(lengths.offsets.to_numpy()),
        frozen(lengths.values.to_numpy()),
        frozen(batch["sources"].values.to_numpy()),
    )


def _select(block: Rows, rows: Indices) -> Rows:
    """Some sequences of a block, by their place in it; a range copies only its offsets."""
    tokens = block.tokens.reshape(block.num_rows, -1)
    begins, ends = block.offsets[rows], block.offsets[rows + 1]
    spans: Any
    if is_range(rows):
        tokens = tokens[rows[0] : rows[-1] + 1]
        spans = slice(begins[0], ends[-1])
    else:
        tokens = tokens[rows]
        counts = ends - begins
        spans = np.repeat(begins - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
    offsets = np.concatenate([[0], np.cumsum(ends - begins)]).astype(np.int32)
    parts = (tokens.reshape(-1), offsets, block.lengths[spans], block.sources[spans])
    return Rows(*(frozen(part) for part in parts))


def _join(parts: Sequence[Rows]) -> Rows:
    shifts = np.cumsum([0, *(len(part.lengths) for part in parts[:-1])])
    offsets = [part.offsets[:-1] + shift for part, shift in zip(parts, shifts, strict=True)]
    end = [shifts[-1] + len(parts[-1].lengths)]
    return Rows(
        frozen(np.concatenate([part.tokens for part in parts])),
        frozen(np.concatenate([*offsets, end]).astype(np.int32)),
        frozen(np.concatenate([part.lengths for part in parts])),
        frozen(np.concatenate([part.sources for part in parts])),
    )
