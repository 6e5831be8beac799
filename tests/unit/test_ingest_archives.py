"""Archives: members as documents, the same however they are packed, and what is refused of them."""

import bz2
import gzip
import io
import json
import lzma
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import BadInput
from headwater.ingest import guess_kind, ingest
from headwater.ingest.tar import read_members
from headwater.ingest.unpack import Bomb, Broken, Budget
from headwater.lake import Lake

SOURCES = sorted(Path(os.__file__).parent.glob("j*/*.py")) + sorted(Path(os.__file__).parent.glob("b*.py"))
PACKERS = {
    ".tar": lambda data: data, ".tar.gz": gzip.compress, ".tar.bz2": bz2.compress, ".tar.xz": lzma.compress,
    ".tar.zst": zstandard.compress,
}  # fmt: skip


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


def tar_of(files, form=tarfile.PAX_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zip_to(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def documents(lake):
    return {row["path"]: row for row in lake.table("raw.documents").to_arrow().to_pylist()}


def reasons(lake):
    return {row["position"]: row["reason"] for row in lake.table("raw.quarantine").to_arrow().to_pylist()}


def real_files():
    return {f"lib/{path.name}": path.read_bytes() for path in SOURCES}


def test_an_archive_is_its_folder_however_it_is_packed(lake, tmp_path):
    files = {**real_files(), "picture.png": b"\x89PNG", "folder/": b""}
    zip_to(tmp_path / "a.zip", files)
    del files["folder/"]
    for suffix, pack in PACKERS.items():
        (tmp_path / f"a{suffix}").write_bytes(pack(tar_of(files)))
    (tmp_path / "in" / "lib").mkdir(parents=True)
    for name, data in real_files().items():
        (tmp_path / "in" / name).write_bytes(data)
    first = ingest(lake, "folder", tmp_path / "in", source="a")
    assert first.documents_added == len(real_files())
    for suffix in (".zip", *PACKERS):
        path = tmp_path / f"a{suffix}"
        assert guess_kind(str(path)) == "archive"
        report = ingest(lake, "archive", path)
        assert (report.documents_added, report.documents_unchanged) == (0, len(real_files())), suffix
        assert report.bytes_seen == path.stat().st_size and not report.quarantined and report.files_seen == 1


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names(lake, tmp_path, form):
    name = "folder/" * 12 + "ü" * 20 + ".txt" if form != tarfile.USTAR_FORMAT else "folder/" * 20 + "f.txt"
    (tmp_path / "a.tar").write_bytes(tar_of({name: b"text", "after.txt": b"after"}, form))
    ingest(lake, "archive", tmp_path / "a.tar")
    assert set(documents(lake)) == {name, "after.txt"}


def test_a_wheel_and_several_archives(lake, tmp_path):
    zip_to(tmp_path / "x-1.0-py3-none-any.whl", {"x/__init__.py": b"version = 1\n"})
    zip_to(tmp_path / "y.zip", {"y.py": b"y = 1\n"})
    report = ingest(lake, "archive", tmp_path, source="both")
    assert report.files_seen == 2
    assert set(documents(lake)) == {"x-1.0-py3-none-any.whl/x/__init__.py", "y.zip/y.py"}
    assert json.loads(documents(lake)["y.zip/y.py"]["metadata"]) == {"archive": "y.zip"}


def test_globs_and_pages(lake, tmp_path):
    pytest.importorskip("resiliparse")
    zip_to(tmp_path / "a.zip", {"a.log": b"log", "b.html": b"<p>page <b>text</b></p>", "c.txt": b"text"})
    ingest(lake, "archive", tmp_path / "a.zip", globs=["*.log", "*.html"], html="full")
    assert {path: row["text"] for path, row in documents(lake).items()} == {
        "a.log": "log",
        "b.html": "page text",
    }


def test_members_that_cannot_be_documents(lake, tmp_path):
    path = zip_to(tmp_path / "a.zip", {"ok.txt": b"ok", "latin.txt": b"caf\xe9", "large.txt": b"x" * 2_000,
                                       "inner.zip": b"PK", "broken.txt": b"some text " * 50, "secret.txt": b"s"})  # fmt: skip
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("link.txt")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        broken, secret = archive.getinfo("broken.txt"), archive.getinfo("secret.txt")
    data[broken.header_offset + 30 + len("broken.txt") + 3] ^= 0xFF
    directory = data.rfind(b"secret.txt") - 46
    data[directory + 8] |= 1
    data[secret.header_offset + 6] |= 1
    path.write_bytes(data)
    report = ingest(lake, "archive", path, max_document_bytes=1_000)
    assert set(documents(lake)) == {"ok.txt"}
    assert reasons(lake) == {
        "member latin.txt": "not_utf8",
        "member large.txt": "too_large",
        "member broken.txt": "broken_member",
        "member secret.txt": "encrypted",
        "member link.txt": "symlink",
    }
    assert report.rows_seen == 6


def test_a_directory_that_lies_about_sizes(lake, tmp_path):
    path = zip_to(tmp_path / "a.zip", {"large.txt": b"x" * 100_000, "ok.txt": b"ok"})
    data = bytearray(path.read_bytes())
    entry = data.find(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = (10).to_bytes(4, "little")
    path.write_bytes(data)
    ingest(lake, "archive", path, max_document_bytes=1_000)
    assert set(documents(lake)) <= {"ok.txt", "large.txt"} and "ok.txt" in documents(lake)
    assert all(row["text_bytes"] <= 1_000 for row in documents(lake).values())


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_tar_that_breaks_off_yields_what_came_before(lake, tmp_path, suffix):
    # bzip2 packs blocks of 900 kB: of one that breaks off nothing is known.
    size = 40_000 if suffix == ".tar.bz2" else 3_000
    data = PACKERS[suffix](tar_of({f"{i}.txt": os.urandom(size).hex().encode() for i in range(50)}))
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data[: len(data) * 3 // 5])
    report = ingest(lake, "archive", path)
    assert report.quarantined == {"unreadable": 1}
    assert report.documents_added >= 10
    with pytest.raises(BadInput, match="cannot sync"):
        ingest(lake, "archive", path, sync=True)


def test_what_is_no_archive_is_refused(lake, tmp_path):
    for name in ("a.zip", "a.tar", "a.tar.gz", "a.tar.xz"):
        (tmp_path / name).write_bytes(b"no archive " * 100)
        with pytest.raises(BadInput, match="as an archive"):
            ingest(lake, "archive", tmp_path / name)
    assert not lake.exists("raw.documents")


def test_the_bound_on_what_an_archive_unpacks_to():
    budget = Budget(1_000_000)
    budget.spend(200_000_000)
    with pytest.raises(Bomb):
        budget.spend(1)


class Stream:
    def __init__(self, data):
        self._file = io.BytesIO(data)
        self.position = 0

    def read(self, size):
        assert size <= 2 << 20, "no header may make this ask for more"
        return self._file.read(size)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.from_regex(r"[a-zäß][a-zäß/]{0,150}[a-zäß]", fullmatch=True), st.binary(max_size=1_500), max_size=5
    ),
    st.booleans(),
)
def test_members_are_those_that_python_reads(files, is_pax):
    data = tar_of(files, tarfile.PAX_FORMAT if is_pax else tarfile.GNU_FORMAT)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        expected = [
            (member.name, archive.extractfile(member).read()) for member in archive if member.isfile()
        ]
    found = (
        [(m.name, m.read(1 << 20)) for m in read_members(Stream(data)) if not m.is_folder] if files else []
    )
    assert found == expected


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=600), st.integers(0, 3_000), st.binary(max_size=40))
def test_any_bytes_are_members_or_broken(noise, at, patch):
    data = bytearray(tar_of({"a" * 120: b"text", "b.txt": b"more"}))
    data[at : at + len(patch)] = patch
    for stream in (noise, bytes(data)):
        try:
            for member in read_members(Stream(stream)):
                member.read(1 << 10)
        except Broken:
            pass
