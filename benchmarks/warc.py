"""Web archives: records read by ours, fastwarc alone and warcio; and a whole ingest.

    python benchmarks/warc.py /usr/share/doc --peer-python PATH

A WARC file (gzip and zstd, a member a record) is made of the real pages below the folder. Three questions: how
fast whole responses are read; how much recovery and offsets cost over fastwarc alone; and how fast ``ingest``
turns the file into documents, from the command a user types, on ``--threads`` threads. Warm-up: each reader reads
the file once before, so that it is in the page cache.
"""

from __future__ import annotations

import argparse
import gzip
import json
import platform
import subprocess
import tempfile
import time
from importlib import metadata
from pathlib import Path

import zstandard

PEER = """
import json, sys, time
from importlib import metadata
from warcio.archiveiterator import ArchiveIterator
def read(path):
    with open(path, "rb") as file:
        return sum(len(record.raw_stream.read()) for record in ArchiveIterator(file, no_record_parse=True))
read(sys.argv[1])
started = time.process_time()
size = read(sys.argv[1])
print(json.dumps([f"warcio {metadata.version('warcio')}", time.process_time() - started, size]))
"""


def make(folder: Path, path: Path, limit: int) -> tuple[int, int]:
    """Write ``path.warc.gz`` and ``path.warc.zst``; records and bytes of their blocks."""
    pages = sorted({p.resolve() for p in folder.rglob("*.html") if p.is_file()})[:limit]
    size = 0
    with (path / "crawl.warc.gz").open("wb") as zipped, (path / "crawl.warc.zst").open("wb") as other:
        for number, page in enumerate(pages):
            body = page.read_bytes()
            block = (
                b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
            head = (
                f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:{number:08d}>\r\n"
                f"WARC-Target-URI: file://{page}\r\nWARC-Date: 2026-01-01T00:00:00Z\r\n"
                f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(block)}\r\n\r\n"
            )
            record = head.encode() + block + b"\r\n\r\n"
            zipped.write(gzip.compress(record, 6))
            other.write(zstandard.compress(record))
            size += len(block)
    return len(pages), size


def ours(path: Path) -> int:
    from headwater.ingest.warc_records import read_records

    return sum(found.num_bytes for found in read_records(str(path), max_bytes=64 << 20))


def alone(path: Path) -> int:
    from fastwarc import ArchiveIterator

    with path.open("rb") as file:
        return sum(
            len(record.reader.read(record.content_length))
            for record in ArchiveIterator(file, parse_http=False)
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pages", type=int, default=2_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peer-python", help="interpreter that has warcio")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        count, size = make(arguments.folder, place, arguments.pages)
        print(
            f"{count} responses, {size / 1e6:.0f} MB; one core, CPU seconds; Python {platform.python_version()}"
        )
        for name in ("crawl.warc.gz", "crawl.warc.zst"):
            path = place / name
            results = []
            for tool, read in (("headwater", ours), (f"fastwarc {metadata.version('fastwarc')}", alone)):
                read(path)
                started = time.process_time()
                found = read(path)
                results.append((tool, time.process_time() - started, found))
            if arguments.peer_python and name.endswith(".gz"):
                command = [arguments.peer_python, "-c", PEER, str(path)]
                results.append(
                    json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
                )
            for tool, seconds, found in results:
                assert found == size, (tool, found, size)
                print(
                    f"{name:16} {tool:18} {size / 1e6 / seconds:7.0f} MB/s {count / seconds:9,.0f} records/s"
                )
        from headwater.ingest import ingest
        from headwater.lake import Lake

        ingest(Lake(place / "warm"), "warc", place / "crawl.warc.zst", threads=1)
        cpu, wall = time.process_time(), time.monotonic()
        report = ingest(Lake(place / "lake"), "warc", place / "crawl.warc.gz", threads=arguments.threads)
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
        print(
            f"ingest, main content, {arguments.threads} threads: {report.documents_added} documents; "
            f"{count / cpu:.0f} pages/s/core, {size / 1e6 / cpu:.1f} MB/s/core, {count / wall:.0f} pages/s"
        )


if __name__ == "__main__":
    main()
