"""Web archives: responses and conversions, encodings, broken records with their offsets."""

import datetime
import gzip
import json
import random
import zlib

import pytest
import zstandard

pytest.importorskip("resiliparse")
pytest.importorskip("fastwarc")

from headwater.errors import BadInput, MissingExtra
from headwater.ingest import guess_kind, ingest
from headwater.ingest.http import BrokenMessage, TooLarge, decoded_body, parse_response
from headwater.ingest.warc_records import Broken, Record, read_records
from headwater.lake import Lake

PACKERS = {"": lambda data: data, ".gz": gzip.compress, ".zst": zstandard.compress}


def record(number, block, *, kind="response", fields=""):
    content_type = "application/http; msgtype=response" if kind in ("response", "request") else "text/plain"
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:{number}>\r\n"
        f"WARC-Target-URI: https://example.org/{number}\r\nWARC-Date: 2026-02-03T04:05:06Z\r\n{fields}"
        f"Content-Type: {content_type}\r\nContent-Length: {len(block)}\r\n\r\n"
    )
    return head.encode() + block + b"\r\n\r\n"


def http(body, fields="Content-Type: text/html; charset=utf-8", status="200 OK"):
    return f"HTTP/1.1 {status}\r\n{fields}\r\n\r\n".encode() + body


def page(number):
    words = " ".join(f"word{number}x{i}" for i in range(40))
    return f"<html lang=en><title>Page {number}</title><body><p>{words}.</p></body></html>".encode()


def archive(path, records, packed=""):
    path.write_bytes(b"".join(PACKERS[packed](one) for one in records))
    return path


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


def documents(lake):
    return lake.table("raw.documents").to_arrow().to_pylist()


def flaws(lake):
    rows = lake.table("raw.quarantine").to_arrow().to_pylist()
    return [(row["path"], row["position"], row["reason"]) for row in rows]


@pytest.mark.parametrize("packed", PACKERS)
def test_responses_become_documents(lake, tmp_path, packed):
    digest = "WARC-Payload-Digest: sha1:ABC\r\n"
    records = [
        record("info", b"software: x\r\n", kind="warcinfo"),
        record("r0", http(b""), kind="request"),
        record(1, http(page(1)), fields=digest),
        record(2, http("<p>größe".encode("latin-1"), "Content-Type: text/html; charset=iso-8859-1")),
        record(3, http(b"plain text", "Content-Type: text/plain")),
        record(4, http(b"\x89PNG", "Content-Type: image/png")),
        record(5, http(b"gone", status="404 Not Found")),
        record(6, b"", kind="revisit"),
        record(7, b"text of a resource", kind="resource"),
        record(8, http(b"<!doctype html><p>no type", "X-A: b")),
        record(9, http(b"body {}", "Content-Type: text/css")),
    ]
    path = archive(tmp_path / f"crawl.warc{packed}", records, packed)
    assert guess_kind(str(path)) == "warc"
    report = ingest(lake, "warc", path)
    assert report.documents_added == 5 and report.bytes_seen == path.stat().st_size
    assert report.quarantined == {"http_status": 1, "not_text": 2}
    rows = {row["url"].rpartition("/")[2]: row for row in documents(lake)}
    assert {name: row["text"] for name, row in rows.items() if name != "1"} == {
        "2": "größe", "3": "plain text", "7": "text of a resource", "8": "no type",
    }  # fmt: skip
    first, facts = rows["1"], json.loads(rows["1"]["metadata"])
    assert first["date"] == datetime.datetime(2026, 2, 3, 4, 5, 6) and first["source"] == "crawl"
    assert facts["title"] == "Page 1" and facts["digest"] == "sha1:ABC" and facts["status"] == 200
    assert facts["content_length"] == len(http(page(1))) and facts["record_id"] == "<urn:uuid:1>"
    offset = int(first["path"].rpartition(":")[2])
    stored = path.read_bytes()[offset:]
    start = {"": stored, ".gz": zlib.decompressobj(31).decompress(stored) if packed == ".gz" else b""}
    assert packed == ".zst" or b"urn:uuid:1>" in start[packed][:200]
    again = ingest(lake, "warc", path)
    assert not again.changed and again.documents_unchanged == 5


def test_the_same_records_packed_otherwise_are_the_same_documents(lake, tmp_path):
    records = [record(i, http(page(i))) for i in range(20)]
    for packed in PACKERS:
        report = ingest(lake, "warc", archive(tmp_path / f"a.warc{packed}", records, packed))
    assert report.documents_unchanged == 20 and len(documents(lake)) == 20


def test_conversions_of_wet_files(lake, tmp_path):
    fields = "WARC-Refers-To: <urn:uuid:9>\r\nWARC-Identified-Content-Language: deu\r\n"
    records = [
        record(1, "Größe".encode(), kind="conversion", fields=fields),
        record(2, b"\xff", kind="conversion"),
    ]
    path = archive(tmp_path / "x.warc.wet.gz", records, ".gz")
    assert guess_kind(str(path)) == "warc"
    report = ingest(lake, "warc", path)
    assert report.quarantined == {"not_utf8": 1}
    (row,) = documents(lake)
    facts = json.loads(row["metadata"])
    assert (
        row["text"] == "Größe"
        and facts["refers_to"] == "<urn:uuid:9>"
        and facts["content_languages"] == "deu"
    )


@pytest.mark.parametrize("packed", PACKERS)
def test_a_broken_record_is_placed_and_the_rest_is_read(lake, tmp_path, packed):
    parts = [PACKERS[packed](record(i, http(page(i)))) for i in range(30)]
    start = sum(map(len, parts[:10]))
    broken = bytearray(parts[10])
    broken[: len(broken) // 2] = bytes(len(broken) // 2) if packed == "" else broken[: len(broken) // 2]
    if packed:
        middle = len(broken) // 2
        broken[middle : middle + 20] = bytes(20)
    path = tmp_path / f"a.warc{packed}"
    path.write_bytes(b"".join([*parts[:10], broken, *parts[11:]]))
    report = ingest(lake, "warc", path)
    assert report.documents_added == 29 and sum(report.quarantined.values()) == 1
    ((name, position, reason),) = flaws(lake)
    place = int(position.removeprefix("offset "))
    # Between records of a plain or zstd file the flaw is placed at the last good one.
    assert name == path.name and reason == "broken_record"
    assert start - len(parts[9]) <= place <= start + len(broken)


@pytest.mark.parametrize("packed", PACKERS)
def test_every_cut_of_a_file_is_noticed(tmp_path, packed):
    parts = [PACKERS[packed](record(i, http(page(i)))) for i in range(6)]
    data, ends = b"".join(parts), [sum(map(len, parts[: i + 1])) for i in range(6)]
    path = tmp_path / "a.warc"
    chance = random.Random(1)
    for cut in [*chance.sample(range(1, len(data)), 150), *range(len(data) - 60, len(data) - 12)]:
        if any(0 < cut - (end - len(part)) < 4 for end, part in zip(ends, parts, strict=True)):
            continue  # less of a record than tells that it is one
        path.write_bytes(data[:cut])
        found = list(read_records(str(path), max_bytes=1 << 20))
        whole = sum(isinstance(one, Record) for one in found)
        begun = sum(end - len(part) < cut for end, part in zip(ends, parts, strict=True))
        assert len(found) == begun, cut
        # The end of a record may miss its empty lines, and a member its checksum.
        assert whole in (sum(end <= cut for end in ends), begun), cut


def test_garbage_between_records_does_not_hide_them(tmp_path):
    parts = [record(i, http(page(i))) for i in range(4)]
    for packed, pack in PACKERS.items():
        path = tmp_path / f"a.warc{packed}"
        path.write_bytes(pack(parts[0]) + b"garbage" * 20 + pack(parts[1]) + pack(parts[2]) + bytes(100))
        found = list(read_records(str(path), max_bytes=1 << 20))
        assert sum(isinstance(one, Record) for one in found) == 3
        assert any(isinstance(one, Broken) for one in found)


@pytest.mark.parametrize("packed", PACKERS)
@pytest.mark.parametrize("claimed", [10, 5_000, 99_999_999])
def test_a_length_that_lies_swallows_no_other_record(tmp_path, packed, claimed):
    parts = [record(i, http(page(i))) for i in range(10)]
    honest = f"Content-Length: {len(http(page(4)))}\r\n\r\nHTTP".encode()
    assert honest in parts[4]
    parts[4] = parts[4].replace(honest, f"Content-Length: {claimed}\r\n\r\nHTTP".encode())
    path = archive(tmp_path / "a.warc", parts, packed)
    found = list(read_records(str(path), max_bytes=1 << 20))
    read = [one.fields["warc-record-id"] for one in found if isinstance(one, Record)]
    assert set(read) >= {f"<urn:uuid:{i}>" for i in range(10) if i != 4} and len(read) == len(set(read))
    assert any(isinstance(one, Broken) for one in found)


def test_an_archive_in_an_archive_is_one_record(tmp_path):
    inner = record(2, http(page(2))) * 3
    for size in (1 << 20, 100):
        path = archive(tmp_path / "a.warc", [record(1, http(inner))])
        found = list(read_records(str(path), max_bytes=size))
        assert len(found) == 1


def test_records_that_are_too_large_are_passed_over(lake, tmp_path):
    records = [record(1, http(b"x" * 200_000)), record(2, http(page(2)))]
    records.append(
        record(3, http(gzip.compress(b"y" * 200_000), "Content-Type: text/html\r\nContent-Encoding: gzip"))
    )
    report = ingest(lake, "warc", archive(tmp_path / "a.warc.gz", records, ".gz"), max_document_bytes=100_000)
    assert (report.documents_added, report.quarantined) == (1, {"too_large": 2})


def test_bodies_are_decoded():
    body = b"hello " * 100
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:7], body[7:])) + b"0\r\n\r\n"
    cases = {
        "": body,
        "Content-Encoding: gzip": gzip.compress(body),
        "Content-Encoding: deflate": zlib.compress(body),
        "Content-Encoding: zstd": zstandard.compress(body),
        "Transfer-Encoding: chunked": chunks,
    }
    for fields, stored in cases.items():
        response = parse_response(http(stored, fields or "A: b"))
        assert decoded_body(response, 10_000) == body, fields
        with pytest.raises(TooLarge):
            decoded_body(response, 100)
    # Fields of a transfer that the crawler has undone already.
    for fields in ("Content-Encoding: gzip", "Transfer-Encoding: chunked"):
        assert decoded_body(parse_response(http(b"<p>plain", fields)), 100) == b"<p>plain"
    for fields, stored in (("Content-Encoding: gzip", gzip.compress(random.Random(1).randbytes(500))[:-30]), ("Content-Encoding: rot13", body),
                           ("Transfer-Encoding: chunked", chunks[:-100])):  # fmt: skip
        with pytest.raises(BrokenMessage):
            decoded_body(parse_response(http(stored, fields)), 10_000)


def test_what_is_no_archive_is_refused(lake, tmp_path):
    (tmp_path / "a.warc").write_bytes(b"no archive at all")
    with pytest.raises(BadInput, match="as WARC"):
        ingest(lake, "warc", tmp_path / "a.warc")
    archive(tmp_path / "b.warc", [record(1, http(page(1)))])
    report = ingest(lake, "warc", tmp_path, source="both")
    assert (report.documents_added, report.quarantined) == (1, {"unreadable": 1})


def test_without_the_extra(lake, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "fastwarc", None)
    with pytest.raises(MissingExtra, match=r"headwater\[web\]"):
        ingest(lake, "warc", archive(tmp_path / "a.warc", [record(1, http(page(1)))]))
