"""Hostile files through every reader: quarantined, or refused with a HeadwaterError; never a crash or a hang.

``HEADWATER_FUZZ=10000`` runs as many mutated files instead of a thousand.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
import textwrap
import zipfile
from pathlib import Path

import pytest

from headwater.errors import HeadwaterError
from headwater.ingest import ingest
from headwater.lake import Lake

pytest.importorskip("resiliparse")
pytest.importorskip("fastwarc")

CASES = int(os.environ.get("HEADWATER_FUZZ", "1000"))
HOSTILE = Path(__file__).with_name("hostile.py")


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


def reasons(lake):
    return {row["position"] or row["path"]: row["reason"] for row in flaws(lake)}


def flaws(lake):
    return lake.table("raw.quarantine").to_arrow().to_pylist()


@pytest.mark.slow
@pytest.mark.timeout(max(600, CASES))
def test_mutated_files_are_documents_flaws_or_refused(tmp_path):
    note = tmp_path / "case"
    done = subprocess.run(
        [sys.executable, HOSTILE, str(CASES), "1"],
        capture_output=True, text=True, env={**os.environ, "HOSTILE_CASE": str(note)},
    )  # fmt: skip
    last = note.read_bytes()[:100] if note.exists() else b""
    assert done.returncode == 0, f"died at {last!r}: {done.stderr[-2000:]}"
    found = json.loads(done.stdout)
    assert found["failures"] == []
    assert sum(found["counts"].values()) == CASES


def bounded(code: str, *arguments: object, megabytes: int = 1_500) -> str:
    """Run code with a bound on memory beyond what the imports take."""
    limit = f"""
        import resource, sys
        from pathlib import Path
        from headwater.ingest import ingest
        from headwater.ingest.html import extract
        from headwater.lake import Lake
        extract(b"<p>x", mode="main")
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + ({megabytes} << 20),) * 2)
    """
    program = textwrap.dedent(limit) + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_html_nested_100_000_deep_and_other_pages_made_to_hurt():
    code = """
        cases = {
            "div": b"<div>" * 100_000,
            "table": b"<table><tr><td>" * 100_000,
            "font": b"".join(b"<font a%d>" % i for i in range(400)) + b"<p>x" * 100_000,
            "attributes": b"<p " + b" ".join(b"a%d=1" % i for i in range(100_000)) + b">x",
            "unmatched": b"<div></x>" * 100_000,
            "barrier": b"<div><table><td></div>" * 100_000,
            "foreign": b"<svg><title>" + b"<td>" * 100_000,
            "comment": b"<!--><div>" * 100_000,
        }
        for name, page in cases.items():
            found = extract(page, mode="main")
            assert found.text is None and found.reason == "too_complex", name
        plain = {"p": b"<p>x" * 100_000, "li": b"<ul>" + b"<li><b>x" * 20_000, "nul": b"\\0" * 1_000_000,
                 "less": b"<" * 1_000_000, "line": b"<p>" + b"word " * 1_000_000, "entity": b"&amp;" * 200_000,
                 "script": b"<script>" + b"<div>" * 100_000, "bytes": bytes(range(256)) * 1_000}
        for name, page in plain.items():
            assert extract(page, mode="main").text is not None, name
    """
    bounded(code)


def tar_with(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def test_bombs_are_bounded(tmp_path):
    zeros = bytes(1 << 20)
    with zipfile.ZipFile(tmp_path / "members.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("first.txt", "a document before the bomb")
        for number in range(100):
            archive.writestr(f"{number}.txt", zeros)
    with zipfile.ZipFile(tmp_path / "nested.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "members.zip", "inner.zip")
        archive.writestr("only.txt", "what is not an archive")
    with gzip.open(tmp_path / "one.tar.gz", "wb") as file:
        info = tarfile.TarInfo("huge.txt")
        info.size = 1 << 30
        file.write(info.tobuf())
        for _ in range(100):
            file.write(zeros)
    with gzip.open(tmp_path / "line.jsonl.gz", "wb") as file:
        file.write(b'{"text": "first"}\n')
        for _ in range(60):
            file.write(b"x" * (1 << 20))
        file.write(b'\n{"text": "last"}\n')
    body = gzip.compress(bytes(60 << 20))
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\n\r\n" + body
    head = b"WARC/1.0\r\nWARC-Type: response\r\nContent-Type: application/http\r\nContent-Length: %d\r\n\r\n"
    (tmp_path / "body.warc").write_bytes(head % len(http) + http + b"\r\n\r\n")
    code = """
        import json
        lake = Lake(sys.argv[1] + "/lake")
        for name in ("members.zip", "nested.zip", "one.tar.gz", "line.jsonl.gz", "body.warc"):
            kind = {"zip": "archive", "gz": "archive"}.get(name.split(".")[-1], "warc")
            kind = "jsonl" if "jsonl" in name else kind
            ingest(lake, kind, sys.argv[1] + "/" + name)
        rows = lake.table("raw.quarantine").to_arrow().to_pylist()
        print(json.dumps([[row["path"], row["reason"]] for row in rows]))
        texts = lake.table("raw.documents").to_arrow(["text"])["text"]
        print(json.dumps([text.as_py()[:40] for text in texts]))
    """
    found, texts = map(json.loads, bounded(code, tmp_path).splitlines()[-2:])
    assert ["members.zip", "bomb"] in found
    assert ["one.tar.gz", "bomb"] in found or ["one.tar.gz", "too_large"] in found
    assert ["line.jsonl.gz", "too_large"] in found
    assert ["body.warc", "too_large"] in found
    kept = [text for text in texts if text.strip("\0")]
    assert sorted(kept) == ["a document before the bomb", "first", "last", "what is not an archive"]


def test_a_long_line_and_a_million_short_ones(lake, tmp_path):
    with (tmp_path / "long.jsonl").open("wb") as file:
        file.write(b'{"text": "a"}\n{"text": "' + b"x" * 50_000_000 + b'"}\n{"text": "b"}\n')
    report = ingest(lake, "jsonl", tmp_path / "long.jsonl")
    assert (report.documents_added, dict(report.quarantined)) == (2, {"too_large": 1})
    (tmp_path / "short.jsonl").write_bytes(b"{}\n" * 300_000 + b"\n" * 400_000 + b"x\n" * 300_000)
    report = ingest(lake, "jsonl", tmp_path / "short.jsonl", columns=None)
    assert report.documents_added == 0
    assert report.quarantined == {"missing_field": 300_000, "broken_json": 300_000}


def test_members_that_want_out(lake, tmp_path):
    def link(name, target, kind=tarfile.SYMTYPE):
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        return info, b""

    names = ("../up.txt", "/root.txt", "a/../../b.txt", "ok.txt")
    members = [(tarfile.TarInfo(name), b"text of " + name.encode()) for name in names]
    pipe = tarfile.TarInfo("pipe.txt")
    pipe.type = tarfile.FIFOTYPE
    data = tar_with(
        *members, link("l.txt", "/etc/passwd"), link("h.txt", "ok.txt", tarfile.LNKTYPE), (pipe, b"")
    )
    (tmp_path / "a.tar").write_bytes(data)
    report = ingest(lake, "archive", tmp_path / "a.tar")
    assert report.documents_added == 1
    assert reasons(lake) == {
        "member ../up.txt": "unsafe_path",
        "member /root.txt": "unsafe_path",
        "member a/../../b.txt": "unsafe_path",
        "member l.txt": "symlink",
        "member h.txt": "symlink",
        "member pipe.txt": "unreadable_member",
    }
    assert not (tmp_path / "up.txt").exists() and not Path("/root.txt").exists()


HOSTILE_NAMES = (
    b"new\nline",
    b"\xff\xfe",
    "\u202egnp.exe".encode(),
    "😀".encode(),
    b" ",
    b"-rf",
    b"a" * 200,
    b"tab\t",
)


def test_hostile_names_in_folders_and_archives(lake, tmp_path):
    root = tmp_path / "in"
    root.mkdir()
    members = []
    for number, raw in enumerate(HOSTILE_NAMES):
        text = f"text {number}".encode()
        (root / os.fsdecode(raw + b".txt")).write_bytes(text)
        members.append((tarfile.TarInfo(os.fsdecode(raw + b".txt")), text))
    (tmp_path / "a.tar").write_bytes(tar_with(*members))
    by_folder = ingest(lake, "folder", root, source="same")
    by_archive = ingest(lake, "archive", tmp_path / "a.tar", source="same")
    assert by_folder.documents_added == len(HOSTILE_NAMES) == by_archive.documents_unchanged
    assert by_archive.documents_added == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_may_not_be_read_is_quarantined(lake, tmp_path):
    root = tmp_path / "in"
    (root / "locked").mkdir(parents=True)
    (root / "a.txt").write_text("a")
    (root / "b.txt").write_text("b")
    (root / "b.txt").chmod(0)
    (root / "locked").chmod(0)
    try:
        report = ingest(lake, "folder", root)
    finally:
        (root / "locked").chmod(0o700)
    assert (report.documents_added, report.quarantined) == (1, {"unreadable": 2})


@pytest.mark.parametrize(
    "kind", ["warc", "archive", "git", "jsonl", "parquet", "arrow", "huggingface", "html"]
)
def test_nothing_and_noise_are_refused_before_anything_is_written(lake, tmp_path, kind):
    for name, data in (
        ("empty", b""),
        ("noise", os.urandom(5_000).replace(b"\n", b"")),
        ("zeros", bytes(2_000)),
    ):
        place = tmp_path / name
        place.write_bytes(data)
        if kind == "jsonl" or (kind == "archive" and name == "zeros"):
            ingest(lake, kind, place)  # no line, or one that is no JSON: nothing but flaws; an empty tar file
            assert lake.table("raw.documents").num_rows == 0
            continue
        with pytest.raises(HeadwaterError):
            ingest(lake, kind, place)
        assert not lake.exists("raw.documents")


def test_records_whose_lengths_overlap_are_read_in_linear_time():
    code = """
        import gzip, tempfile
        from headwater.ingest.warc_records import Record, read_records

        def head(size, kind=b"response"):
            return b"WARC/1.0\\r\\nWARC-Type: %s\\r\\nContent-Length: %d\\r\\n\\r\\n" % (kind, size)

        bomb = gzip.compress(bytes(15 << 20))
        cases = [
            b"".join(gzip.compress(head(15 << 20)) for _ in range(1000)) + bomb,
            b"".join(gzip.compress(head(15 << 20, b"request")) for _ in range(1000)) + bomb,
            b"".join(gzip.compress(head(10**12)) for _ in range(2000)) + bomb * 20,
            head(10**12) * 2000 + bytes(50 << 20),
            head(15 << 20) * 2000 + bytes(50 << 20),
            head(0) * 50_000,
            b"WARC/1.0\\r\\n" * 50_000,
            b"\\x1f\\x8b\\x08" * 100_000,
            b"\\x28\\xb5\\x2f\\xfd" * 100_000,
        ]
        for case in cases:
            with tempfile.NamedTemporaryFile() as file:
                file.write(case)
                file.flush()
                found = list(read_records(file.name, max_bytes=16 << 20))
                assert len(found) <= 50_001 and sum(one.num_bytes for one in found if isinstance(one, Record)) <= 3 * 10**8
    """
    bounded(code)
