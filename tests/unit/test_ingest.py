"""What ingest makes of good files: rows, ids, idempotence, sync, maps and layouts."""

import datetime
import gzip
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
import zstandard

from headwater.errors import BadInput, UnknownName, UsageError
from headwater.ingest import ingest
from headwater.ingest.rows import DOCUMENTS, QUARANTINE
from headwater.lake import Lake


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


def documents(lake, *columns):
    return lake.table("raw.documents").to_arrow(list(columns) or None).to_pylist()


def quarantine(lake):
    return lake.table("raw.quarantine").to_arrow().to_pylist()


def write_lines(path, rows, pack=lambda data: data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pack("".join(json.dumps(row) + "\n" for row in rows).encode()))
    return path


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "notes"
    (root / "deep" / "er").mkdir(parents=True)
    (root / "a.txt").write_text("alpha\r\nbeta")
    (root / "deep" / "b.md").write_text("# naïve")
    (root / "deep" / "er" / "c.py").write_text("print(1)\n")
    (root / "picture.png").write_bytes(b"\x89PNG")
    return root


def test_a_folder_becomes_documents_with_the_agreed_ids_and_columns(lake, folder):
    report = ingest(lake, "folder", folder)
    table = lake.table("raw.documents")
    assert table.schema == DOCUMENTS
    rows = {row["path"]: row for row in documents(lake)}
    assert list(rows) == ["a.txt", "deep/b.md", "deep/er/c.py"]
    row = rows["a.txt"]
    assert row["text"] == "alpha\r\nbeta"
    text_hash = xxhash.xxh3_128_digest(b"alpha\r\nbeta")
    assert row["text_hash"] == text_hash
    assert row["doc_id"] == xxhash.xxh3_128_digest(b"notes\0a.txt\0" + text_hash)
    assert (row["source"], row["origin"], row["license_declared"]) == ("notes", "unknown", None)
    assert rows["deep/b.md"]["text_bytes"] == 8
    assert (report.documents_added, report.files_seen, report.version) == (3, 3, table.version)
    assert lake.table("raw.quarantine").schema == QUARANTINE
    assert table.has_id_index


def test_a_second_run_adds_nothing_and_makes_no_version(lake, folder):
    first = ingest(lake, "folder", folder)
    (folder / "bad.txt").write_bytes(b"\xff")
    second = ingest(lake, "folder", folder)
    third = ingest(lake, "folder", folder)
    assert (second.documents_added, second.documents_unchanged) == (0, 3)
    assert not second.changed and first.version == second.version == third.version
    assert third.quarantined == {"not_utf8": 1}
    assert lake.table("raw.quarantine").num_rows == 1


def test_a_changed_file_is_a_new_document_and_sync_removes_the_old_one(lake, folder):
    ingest(lake, "folder", folder)
    (folder / "a.txt").write_text("gamma")
    (folder / "deep" / "b.md").unlink()
    assert ingest(lake, "folder", folder).documents_added == 1
    assert lake.table("raw.documents").num_rows == 4
    other = folder.parent / "others"
    other.mkdir()
    (other / "x.txt").write_text("kept")
    ingest(lake, "folder", other)
    (folder / "new.txt").write_text("new")
    before = len(lake.versions("raw.documents"))
    report = ingest(lake, "folder", folder, sync=True)
    assert (report.documents_added, report.documents_removed) == (1, 2)
    assert {r["path"] for r in documents(lake)} == {"a.txt", "deep/er/c.py", "new.txt", "x.txt"}
    kinds = lake.versions("raw.documents").slice(before)["kind"].to_pylist()
    assert kinds.count("ingest") == 2, "one for the change, one repeated after the index"
    again = ingest(lake, "folder", folder, sync=True)
    assert not again.changed and again.version == report.version


def test_sync_refuses_when_a_file_cannot_be_read(lake, tmp_path):
    rows = [{"text": f"line {i} {os.urandom(40).hex()}"} for i in range(20_000)]
    path = write_lines(tmp_path / "rows.jsonl.gz", rows, gzip.compress)
    ingest(lake, "jsonl", path)
    version = lake.table("raw.documents").version
    path.write_bytes(path.read_bytes()[:-5_000])
    with pytest.raises(BadInput, match=r"cannot sync: rows\.jsonl\.gz"):
        ingest(lake, "jsonl", path, sync=True)
    assert lake.table("raw.documents").version == version


def test_sync_of_rows_that_name_their_source_touches_only_the_sources_seen(lake, tmp_path):
    rows = [{"id": str(i), "text": f"text {i}", "source": "ab"[i % 2], "added": "x"} for i in range(6)]
    ingest(lake, "jsonl", write_lines(tmp_path / "rows.jsonl", rows))
    write_lines(tmp_path / "rows.jsonl", [rows[0]])
    report = ingest(lake, "jsonl", tmp_path / "rows.jsonl", sync=True)
    assert report.documents_removed == 2
    assert sorted(r["path"] for r in documents(lake)) == ["0", "1", "3", "5"]


def test_the_same_rows_in_other_files_and_orders_give_the_same_table(tmp_path):
    rows = [{"id": str(i), "text": f"text {i % 50}"} for i in range(300)]
    digests = set()
    for name, order, threads in (("one", rows, 1), ("two", rows[::-1], 3)):
        lake = Lake(tmp_path / f"lake-{name}")
        root = tmp_path / name
        for part in range(3):
            write_lines(root / f"{part}.jsonl", order[part::3])
        files = [root / "2.jsonl", root / "0.jsonl", root / "1.jsonl"]
        ingest(lake, "jsonl", files if name == "two" else root, source="same", threads=threads)
        digests.add(lake.table("raw.documents").digest)
    assert len(digests) == 1


def test_a_document_that_comes_twice_is_stored_once(lake, tmp_path):
    rows = [{"id": "1", "text": "same"}, {"id": "1", "text": "same"}, {"id": "1", "text": "other"}]
    report = ingest(lake, "jsonl", write_lines(tmp_path / "rows.jsonl", rows))
    assert (report.documents_added, report.documents_repeated, report.rows_seen) == (2, 1, 3)


def frames(data):
    half = len(data) // 2
    pack = zstandard.ZstdCompressor().compress
    return pack(data[:half]) + pack(data[half:])


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("r.jsonl", lambda data: data),
        ("r.jsonl", lambda data: b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n")),
        ("r.jsonl.gz", lambda data: gzip.compress(data[:40]) + gzip.compress(data[40:])),
        ("r.jsonl.zst", frames),
        ("misnamed.txt", frames),
        ("r.json.gz", lambda data: gzip.compress(data.rstrip(b"\n"))),
    ],
)
def test_plain_and_compressed_lines(lake, tmp_path, name, pack):
    rows = [{"id": str(i), "text": f"töxt \u0000 {i}"} for i in range(50)]
    path = write_lines(tmp_path / "in" / name, rows, pack)
    report = ingest(lake, "jsonl", path if name == "misnamed.txt" else path.parent, source="s")
    assert [r["text"] for r in documents(lake, "text")] == [row["text"] for row in rows]
    assert report.bytes_seen == path.stat().st_size
    assert not report.quarantined


def test_a_column_map_reaches_into_nested_fields(lake, tmp_path):
    row = {
        "doc_id": 7,
        "content": "x",
        "meta": {"license": "MIT", "n": 1.5},
        "dots.in": "p",
        "when": "2024-01-02",
    }
    columns = {
        "id": "doc_id",
        "text": "content",
        "license": "meta.license",
        "path": "dots.in",
        "date": "when",
    }
    ingest(lake, "jsonl", write_lines(tmp_path / "rows.jsonl", [row]), columns=columns, origin="human")
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "rows.parquet")
    ingest(lake, "parquet", tmp_path / "rows.parquet", columns=columns, origin="human", schema="other")
    for name in ("raw.documents", "other.documents"):
        (found,) = lake.table(name).to_arrow().to_pylist()
        assert (found["license_declared"], found["path"], found["origin"]) == ("MIT", "p", "human")
        assert found["date"] == datetime.datetime(2024, 1, 2)
        text_hash = xxhash.xxh3_128_digest(b"x")
        assert found["doc_id"] == xxhash.xxh3_128_digest(b"rows\x007\0" + text_hash)
        assert json.loads(found["metadata"])["meta"] == {"license": "MIT", "n": 1.5}
        assert "content" not in json.loads(found["metadata"])


@pytest.mark.parametrize(
    ("layout", "row", "expected"),
    [
        (
            "fineweb",
            {
                "text": "t",
                "id": "<urn:1>",
                "dump": "CC",
                "url": "http://x",
                "date": "2020-01-01T02:00:00+02:00",
            },
            {"url": "http://x", "date": datetime.datetime(2020, 1, 1), "path": "<urn:1>"},
        ),
        (
            "dolma",
            {
                "text": "t",
                "id": "9",
                "source": "wiki",
                "created": "2021-05-05",
                "metadata": {"license": "CC0-1.0"},
            },
            {"source": "wiki", "license_declared": "CC0-1.0", "path": "9"},
        ),
        (
            "the_stack",
            {
                "content": "t",
                "hexsha": "ff",
                "max_stars_repo_path": "a.py",
                "max_stars_repo_licenses": ["MIT"],
            },
            {"path": "a.py", "license_declared": "MIT"},
        ),
        (
            "the_stack_v2",
            {"content": "t", "blob_id": "ff", "path": "/b.py", "detected_licenses": ["MIT", "BSD-3-Clause"]},
            {"path": "/b.py", "license_declared": "MIT AND BSD-3-Clause"},
        ),
        (
            "datatrove",
            {"text": "t", "id": "5", "metadata": {"url": "http://y"}},
            {"url": "http://y", "path": "5"},
        ),
        ("huggingface", {"text": "t", "label": 3}, {"metadata": '{"label":3}', "path": "rows:1"}),
        (None, {"content": "t", "license": "MIT"}, {"license_declared": "MIT", "metadata": None}),
    ],
)
def test_known_layouts_are_told_from_their_columns(lake, tmp_path, layout, row, expected):
    report = ingest(lake, "jsonl", write_lines(tmp_path / "rows", [row]))
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "rows.parquet")
    parquet = ingest(lake, "parquet", tmp_path / "rows.parquet", schema="other")
    assert report.layout == parquet.layout == layout
    (found,) = documents(lake)
    (other,) = lake.table("other.documents").to_arrow().to_pylist()
    for name, value in expected.items():
        assert found[name] == value
        if value != "rows:1":
            assert other[name] == value


def test_parquet_types_and_batches(lake, tmp_path):
    text = pa.array([f"text {i}" * 50 for i in range(20_000)])
    table = pa.table({"text": text.dictionary_encode(), "score": pa.array(range(20_000), pa.float32())})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=3_000)
    binary = pa.table(
        {"text": pa.array([b"ok", b"\xff", None, b" "], pa.binary()), "v": [[1], [2], [3], None]}
    )
    pq.write_table(binary, tmp_path / "b.parquet")
    report = ingest(lake, "parquet", tmp_path, source="s", threads=2)
    assert (report.documents_added, report.rows_seen, report.files_seen) == (20_001, 20_004, 2)
    found = {(q["path"], q["position"]): q["reason"] for q in quarantine(lake)}
    assert found == {
        ("b.parquet", "row 2"): "not_utf8",
        ("b.parquet", "row 3"): "missing_field",
        ("b.parquet", "row 4"): "empty",
    }
    rows = documents(lake, "path", "metadata")
    assert rows[3] == {"path": "a.parquet:4", "metadata": '{"score":3.0}'}
    assert rows[-1] == {"path": "b.parquet:1", "metadata": '{"v":[1]}'}


def test_python_reads_installed_distributions_inside_their_folder(lake, tmp_path, monkeypatch):
    site, outside = tmp_path / "site", tmp_path / "outside.py"
    (site / "pkg").mkdir(parents=True)
    outside.write_text("secret = 1\n")
    (site / "pkg" / "__init__.py").write_text("")
    (site / "pkg" / "mod.py").write_bytes(b"# -*- coding: latin-1 -*-\nname = '\xe9'\n")
    (site / "pkg" / "link.py").symlink_to(outside)
    files = ["pkg/__init__.py", "pkg/mod.py", "pkg/link.py", "../outside.py", "pkg/gone.py", str(outside)]

    def install(name, extra="", direct=None):
        info = site / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\n{extra}")
        (info / "RECORD").write_text("".join(f"{f},,\n" for f in files))
        if direct:
            (info / "direct_url.json").write_text(json.dumps(direct))

    install("My_Pkg", "License-Expression: MIT\n")
    install("editable", direct={"url": "file:///x", "dir_info": {"editable": True}})
    install("headwater")
    from importlib import metadata

    monkeypatch.setattr(
        "headwater.ingest.installed.metadata.distributions",
        lambda: metadata.MetadataPathFinder.find_distributions(
            metadata.DistributionFinder.Context(path=[str(site)])
        ),
    )
    monkeypatch.setattr("headwater.ingest.installed._stdlib", lambda: iter(()))
    report = ingest(lake, "python")
    (row,) = documents(lake)
    assert (row["source"], row["path"], row["license_declared"]) == ("pypi:my-pkg", "pkg/mod.py", "MIT")
    assert row["text"].endswith("'é'\n")
    assert json.loads(row["metadata"]) == {"version": "1.0", "encoding": "iso8859-1"}
    assert report.quarantined == {"empty": 1}
    (site / "My_Pkg-1.0.dist-info" / "RECORD").write_text("")
    assert ingest(lake, "python", sync=True).documents_removed == 1


def test_the_standard_library_is_read_with_its_license(lake, monkeypatch):
    monkeypatch.setattr("headwater.ingest.installed._distributions", dict)
    seen = []
    report = ingest(lake, "python", progress=lambda *state: seen.append(state))
    assert report.documents_added > 500
    table = lake.table("raw.documents").to_arrow(["source", "license_declared", "path"])
    assert set(table["source"].to_pylist()) == {"stdlib"}
    assert set(table["license_declared"].to_pylist()) == {"PSF-2.0"}
    assert "json/__init__.py" in table["path"].to_pylist()
    done, total, _ = seen[-1]
    assert 0 < done <= total


def test_wrong_use_is_named(lake, tmp_path, folder):
    rows = write_lines(tmp_path / "rows.jsonl", [{"body_text": "x"}])
    with pytest.raises(UnknownName, match="jsnol"):
        ingest(lake, "jsnol", rows)
    with pytest.raises(UnknownName, match="canonical column 'txt'"):
        ingest(lake, "jsonl", rows, columns={"txt": "body_text"})
    with pytest.raises(UnknownName, match="layout"):
        ingest(lake, "jsonl", rows, layout="dolmar")
    with pytest.raises(BadInput, match="there is no"):
        ingest(lake, "jsonl", tmp_path / "none.jsonl")
    with pytest.raises(BadInput, match="no file matches"):
        ingest(lake, "jsonl", str(tmp_path / "*.nothing"))
    with pytest.raises(BadInput, match="no column 'text'"):
        ingest(lake, "jsonl", rows)
    with pytest.raises(BadInput, match=r"no file matching \*\.zig"):
        ingest(lake, "folder", folder, globs=["*.zig"])
    with pytest.raises(UsageError, match="no columns to map"):
        ingest(lake, "folder", folder, columns={"text": "x"})
    with pytest.raises(UsageError, match="needs a location"):
        ingest(lake, "parquet")
    other = write_lines(tmp_path / "other.jsonl", [{"body_text": "x"}])
    with pytest.raises(UsageError, match="needs a name"):
        ingest(lake, "jsonl", [other, rows], columns={"text": "body_text"})
    assert not lake.exists("raw.documents")


def test_a_glob_and_names_relative_to_its_fixed_part(lake, tmp_path):
    for name in ("x/1.jsonl", "y/1.jsonl"):
        write_lines(tmp_path / "data" / name, [{"text": name}])
    ingest(lake, "jsonl", str(tmp_path / "data" / "*" / "*.jsonl"))
    assert [(r["source"], r["path"]) for r in documents(lake)] == [
        ("data", "x/1.jsonl:1"),
        ("data", "y/1.jsonl:1"),
    ]
    with pytest.raises(BadInput, match="would both be"):
        ingest(lake, "jsonl", [tmp_path / "data/x/1.jsonl", tmp_path / "data/y/1.jsonl"], source="s")
