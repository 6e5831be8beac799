"""Make a corpus of N gigabytes from real files, half Parquet and half JSONL.zst.

    python benchmarks/make_corpus.py OUT --gigabytes 10 [--cluster 100000] [--processes 2]

Real input on one machine is a few hundred megabytes: the ``.py`` files of the installed packages, and text
and HTML below ``/usr/share/doc``. Each file is therefore written many times. So that the copies are not
duplicates of each other, copy k renames its words: a quarter of the distinct words of four letters and more
(those whose CRC-32 together with k is 0 modulo 4) get a suffix that belongs to k, everywhere in the file
alike. About three of four word 5-grams then differ between two copies (1 - 0.75^5 = 0.76 against the
original), which puts their Jaccard similarity near 0.1: lengths, symbols, indentation and the distribution
of words stay real, near-duplicate detection finds about as much per copy as in the original files. Copy 0
is unchanged.

``--cluster M`` adds M documents of some 300 words that differ in three of them each: one near-duplicate
cluster of M members (Jaccard 0.9), the case that breaks algorithms that compare all pairs of a
bucket.

Nothing is random; the same machine makes the same corpus. Memory: a few megabytes for each process. Columns
of the Parquet part: ``doc_id, content, path, license`` (to be mapped); the JSONL part has Dolma's layout. The
licenses are made up.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import multiprocessing
import re
import sys
import sysconfig
import time
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

DOCS = Path("/usr/share/doc")
SUFFIXES = {".txt", ".html", ".htm", ".rst", ".md"}
MAX_FILE_BYTES = 1 << 20
BATCH_FILES = 64
PART_BYTES = 256 << 20
_WORD = re.compile(r"[A-Za-z]{4,}")
_SCHEMA = pa.schema(
    {"doc_id": pa.string(), "content": pa.large_string(), "path": pa.string(), "license": pa.string()}
)
Row = tuple[str, str]


def real_files() -> list[Path]:
    """Installed Python files and system documentation, sorted, up to 1 MiB each."""
    packages = Path(sysconfig.get_path("purelib"))
    found = [*packages.rglob("*.py"), *(p for p in DOCS.rglob("*") if p.suffix in SUFFIXES)]
    return sorted(p for p in found if p.is_file() and 200 <= p.stat().st_size <= MAX_FILE_BYTES)


def edited(text: str, copy: int) -> str:
    """Copy ``copy`` of a text, as the module's docstring describes."""
    if copy == 0:
        return text
    suffix = f"_{copy:x}"
    renamed: dict[str, str] = {}

    def rename(match: re.Match[str]) -> str:
        word = match[0]
        if word not in renamed:
            renamed[word] = word + suffix if zlib.crc32(word.encode(), copy) % 4 == 0 else word
        return renamed[word]

    return _WORD.sub(rename, text)


def edit_batch(task: tuple[int, list[str]]) -> list[Row]:
    """``(id, text)`` of one copy of some files; what is not UTF-8 is left out."""
    copy, paths = task
    rows = []
    for path in paths:
        try:
            rows.append(
                (f"{copy}:{path}", edited(Path(path).read_text(encoding="utf-8", errors="strict"), copy))
            )
        except (UnicodeDecodeError, OSError):
            continue
    return rows


def tasks(files: list[Path]) -> Iterator[tuple[int, list[str]]]:
    for copy in itertools.count():
        for start in range(0, len(files), BATCH_FILES):
            yield copy, [str(p) for p in files[start : start + BATCH_FILES]]


def license_of(key: str) -> str:
    """A made-up license, so that license rules keep most and drop some: one key in four is copyleft."""
    return ("MIT", "Apache-2.0", "BSD-3-Clause", "GPL-3.0-only")[zlib.crc32(key.encode()) % 4]


def cluster_rows(members: int, base: str) -> Iterator[Row]:
    """``members`` near-identical documents: 300 words of ``base`` with three of them replaced."""
    words = base.split()[:300]
    for member in range(members):
        changed = list(words)
        for place in (20, 150, 280):
            changed[place % len(changed)] = f"m{member:x}p{place}"
        yield f"cluster:{member}", " ".join(changed)


class ParquetParts:
    """Writes rows to ``part-0000.parquet`` and so on, small row groups, zstd."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._number, self._bytes = folder, 0, 0
        self._writer: pq.ParquetWriter | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, rows: list[Row]) -> None:
        if self._writer is None:
            path = self._folder / f"part-{self._number:04}.parquet"
            self._writer = pq.ParquetWriter(path, _SCHEMA, compression="zstd")
        ids, texts = [r[0] for r in rows], [r[1] for r in rows]
        names = [i.partition(":")[2] for i in ids]
        columns = [ids, texts, names, [license_of(i) for i in ids]]
        arrays = [pa.array(c, f.type) for c, f in zip(columns, _SCHEMA, strict=True)]
        self._writer.write_batch(pa.record_batch(arrays, schema=_SCHEMA))
        self._bytes += sum(map(len, texts))
        if self._bytes > PART_BYTES:
            self.close()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer, self._bytes, self._number = None, 0, self._number + 1


class JsonlParts:
    """Writes rows to ``part-0000.jsonl.zst`` and so on."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._number, self._bytes = folder, 0, 0
        self._out: io.BufferedIOBase | pa.NativeFile | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, rows: list[Row]) -> None:
        if self._out is None:
            path = self._folder / f"part-{self._number:04}.jsonl.zst"
            self._out = pa.CompressedOutputStream(pa.OSFile(str(path), "wb"), "zstd")
        for key, text in rows:
            line = {
                "id": key,
                "text": text,
                "source": "real-files",
                "metadata": {"path": key.partition(":")[2], "license": license_of(key)},
            }
            data = json.dumps(line, ensure_ascii=False).encode() + b"\n"
            self._out.write(data)
            self._bytes += len(data)
        if self._bytes > PART_BYTES:
            self.close()

    def close(self) -> None:
        if self._out is not None:
            self._out.close()
        self._out, self._bytes, self._number = None, 0, self._number + 1


def batches(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    iterator = iter(rows)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def in_order(pool: Any, work: Iterator[tuple[int, list[str]]], ahead: int) -> Iterator[list[Row]]:
    """Results in order with a bounded number of tasks ahead (``imap`` would queue them without end)."""
    pending = deque(pool.apply_async(edit_batch, (task,)) for task in itertools.islice(work, ahead))
    for task in work:
        yield pending.popleft().get()
        pending.append(pool.apply_async(edit_batch, (task,)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--gigabytes", type=float, default=10.0, help="text in all, 10^9 bytes (default 10)")
    parser.add_argument("--cluster", type=int, default=0, metavar="M", help="add M near-identical documents")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    files = real_files()
    if not files:
        sys.exit("no real files found: install some packages into this environment first")
    writers = [ParquetParts(options.out / "parquet"), JsonlParts(options.out / "jsonl")]
    goal, done, started, documents = options.gigabytes * 1e9, 0, time.monotonic(), 0
    with multiprocessing.Pool(options.processes) as pool:
        turn = itertools.cycle(writers)
        for rows in in_order(pool, tasks(files), ahead=4 * options.processes):
            if rows:
                next(turn).write(rows)
            documents += len(rows)
            done += sum(len(text.encode()) for _, text in rows)
            if done >= goal:
                break
    if options.cluster:
        base = max(files[:200], key=lambda p: p.stat().st_size).read_text(encoding="utf-8", errors="replace")
        for rows in batches(cluster_rows(options.cluster, base), 4_096):
            writers[0].write(rows)
            documents += len(rows)
            done += sum(len(text) for _, text in rows)
    for writer in writers:
        writer.close()
    stored = sum(p.stat().st_size for p in options.out.rglob("part-*"))
    seconds = time.monotonic() - started
    print(
        f"{documents:,} documents, {done / 1e9:.2f} GB of text, {stored / 1e9:.2f} GB stored, {seconds:.0f} s"
    )


if __name__ == "__main__":
    main()
