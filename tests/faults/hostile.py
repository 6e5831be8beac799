"""Mutated files through every reader, in a process of bounded memory: ``python hostile.py CASES SEED``.

Prints one JSON line: cases by reader, how they ended, the slowest, and what must never happen: an exception that
is no HeadwaterError. The case that is running is kept in a file named by ``HOSTILE_CASE``, so that a crash of the
process can be repeated.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import random
import resource
import shutil
import sys
import tarfile
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from headwater.errors import HeadwaterError
from headwater.ingest.duck import Ducks
from headwater.ingest.readers import make_reader
from headwater.ingest.rows import check

MEMORY_BYTES = 2 << 30
"""Address space that the mutated files may take beyond what the process has after the unmutated ones."""
MAX_DOCUMENT_BYTES = 1 << 20


def pages() -> list[bytes]:
    """Real pages of this machine, else one that is made up."""
    found = [p for p in sorted(Path("/usr/share/doc").glob("*/*.html")) if p.is_file()][:200]
    small = [p.read_bytes() for p in found if p.stat().st_size < 30_000]
    return small[:6] or [
        b"<html lang=en><title>t</title><p>text <a href=x rel=license>l</a><ul><li>a<li>b</ul>"
    ]


def sources() -> dict[str, bytes]:
    """Real text files: the standard library's."""
    return {path.name: path.read_bytes() for path in sorted(Path(os.__file__).parent.glob("a*.py"))[:6]}


def response(number: int, body: bytes, fields: str = "Content-Type: text/html") -> bytes:
    http = f"HTTP/1.1 200 OK\r\n{fields}\r\n\r\n".encode() + body
    head = (
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:{number:08d}>\r\n"
        f"WARC-Target-URI: http://example.org/{number}\r\nWARC-Date: 2026-01-01T00:00:00Z\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(http)}\r\n\r\n"
    )
    return head.encode() + http + b"\r\n\r\n"


def seeds() -> list[tuple[str, str, bytes]]:
    """``(kind, file name, bytes)`` of well-formed files."""
    records = [response(i, page) for i, page in enumerate(pages())]
    chunked = b"5\r\n<p>he\r\n4\r\nllo!\r\n0\r\n\r\n"
    records.append(response(90, chunked, "Content-Type: text/html\r\nTransfer-Encoding: chunked"))
    for name, packed in (
        ("gzip", gzip.compress(b"<p>" + b"packed " * 500)),
        ("br", b"\x0b\x02\x80hello\x03"),
    ):
        records.append(response(91, packed, f"Content-Type: text/html\r\nContent-Encoding: {name}"))
    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sources().items():
            archive.writestr(name, data)
    with tarfile.open(fileobj=tarred, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in sources().items():
            info = tarfile.TarInfo(f"folder/{'long' * 40}/{name}" if name < "ast" else name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("link.py")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    tar = tarred.getvalue()
    rows = [
        {"id": str(i), "text": f"row {i} naïve " * 20, "url": "http://x", "n": {"a": [i]}} for i in range(200)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    table = pa.Table.from_pylist(rows)
    parquet, arrow, stream = io.BytesIO(), io.BytesIO(), io.BytesIO()
    pq.write_table(table, parquet)
    with pa.ipc.new_file(arrow, table.schema) as writer:
        writer.write_table(table)
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    return [
        ("warc", "a.warc", b"".join(records)),
        ("warc", "a.warc.gz", b"".join(gzip.compress(record) for record in records)),
        ("warc", "a.warc.zst", b"".join(zstandard.compress(record) for record in records)),
        ("html", "a.html", pages()[0]),
        ("html", "b.html", pages()[-1]),
        ("archive", "a.zip", zipped.getvalue()),
        ("archive", "a.tar", tar),
        ("archive", "a.tar.gz", gzip.compress(tar)),
        ("archive", "a.tar.bz2", bz2.compress(tar)),
        ("archive", "a.tar.xz", lzma.compress(tar)),
        ("archive", "a.tar.zst", zstandard.compress(tar)),
        ("folder", "a.py", next(iter(sources().values()))),
        ("jsonl", "a.jsonl", lines),
        ("jsonl", "a.jsonl.gz", gzip.compress(lines)),
        ("parquet", "a.parquet", parquet.getvalue()),
        ("arrow", "a.arrow", arrow.getvalue()),
        ("arrow", "b.arrow", stream.getvalue()),
    ]


SPECIAL = (
    b"\0" * 16, b"\xff" * 8, b"\n" * 50, b"\xed\xa0\x80", "\u202e\u200f".encode(), "😀".encode() * 9, b"<div>" * 600,
    b"<!--", b"PK\x01\x02", b"\x1f\x8b\x08", b"WARC/1.0\r\n", b"Content-Length: 99999999999\r\n", b"../../", b'"', b"{" * 99,
    b"\x7f\xff\xff\xff", b"\x80\0\0\0",
)  # fmt: skip


def mutate(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """One to three changes: flips, cuts, splices, repeats, holes, and bytes that formats give a meaning to."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        size = max(1, len(changed))
        at = chance.randrange(size)
        length = min(chance.choice((1, 4, 64, 1_000, size // 3)), size)
        kind = chance.randrange(8)
        if kind <= 1:
            for _ in range(chance.choice((1, 1, 2, 8, 64))):
                if changed:
                    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        elif kind == 2:
            del changed[at:]
        elif kind == 3:
            start = chance.randrange(max(1, len(other)))
            changed[at : at + chance.choice((0, length))] = other[start : start + length]
        elif kind == 4:
            changed[at:at] = changed[at : at + length] * chance.choice((1, 2, 5))
        elif kind == 5:
            del changed[at : at + length]
        elif kind == 6:
            changed[at : at + length] = bytes(length)
        else:
            special = chance.choice(SPECIAL)
            changed[at : at + chance.choice((0, len(special)))] = special
        del changed[4 << 20 :]
    return bytes(changed)


def read(kind: str, path: Path) -> tuple[int, int]:
    """Documents and flaws that a reader makes of a file, through the document rules."""
    by_folder = kind in ("folder", "html")
    settings = {"source": "s", "columns": {}, "layout": None, "origin": "unknown"}
    settings |= {"max_document_bytes": MAX_DOCUMENT_BYTES} | ({"html": "main"} if kind == "archive" else {})
    documents = flaws = 0
    with closing(Ducks()) as ducks:
        reader = make_reader(kind, str(path.parent if by_folder else path), settings, None, ducks)
        for task in reader.tasks():
            checked = check(task(), max_document_bytes=MAX_DOCUMENT_BYTES)
            checked.documents.validate(full=True)
            documents += checked.documents.num_rows
            flaws += checked.bad.num_rows
    return documents, flaws


def run(cases: int, seed: int) -> dict[str, object]:
    known = seeds()
    folder = Path(tempfile.mkdtemp())
    counts: Counter[str] = Counter()
    failures: list[str] = []
    slowest: list[tuple[float, str]] = []
    note = os.environ.get("HOSTILE_CASE")
    try:
        for kind, name, data in known:
            (folder / name).write_bytes(data)
            documents, _ = read(kind, folder / name)
            assert documents, f"the unmutated {name} has no documents"
            (folder / name).unlink()
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(
            resource.RLIMIT_AS, (used + MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1])
        )
        for case in range(cases):
            chance = random.Random(f"{seed}:{case}")
            kind, name, data = known[case % len(known)]
            changed = mutate(data, chance.choice(known)[2], chance)
            (folder / name).write_bytes(changed)
            if note:
                Path(note).write_bytes(name.encode() + b"\n" + changed)
            started = time.monotonic()
            try:
                documents, flaws = read(kind, folder / name)
                counts[
                    f"{kind}: "
                    + ("read whole" if not flaws else "read with flaws" if documents else "only flaws")
                ] += 1
            except HeadwaterError:
                counts[f"{kind}: refused"] += 1
            except BaseException:
                failures.append(f"case {case} of seed {seed}, {name}: {traceback.format_exc()[-1500:]}")
                counts[f"{kind}: FAILED"] += 1
            slowest = sorted([*slowest, (round(time.monotonic() - started, 3), f"{name} case {case}")])[-3:]
            (folder / name).unlink()
    finally:
        shutil.rmtree(folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    return {
        "cases": cases,
        "counts": dict(sorted(counts.items())),
        "failures": failures[:5],
        "slowest": slowest,
        "peak_bytes": peak,
    }


if __name__ == "__main__":
    print(json.dumps(run(int(sys.argv[1]), int(sys.argv[2]))))
