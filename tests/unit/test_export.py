"""Exports: every document once with its text, read back by other readers, whole or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import headwater as hw
from headwater.errors import DataMismatch, HeadwaterError, NotApproved, UnknownName, UsageError
from headwater.export import FORMATS, documents, export
from headwater.ingest import ingest
from headwater.lake import Provenance

zstandard = pytest.importorskip("zstandard")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> hw.Lake:
    """Real files and a curated table of some of them, which holds signals and no text."""
    lake = hw.Lake(tmp_path_factory.mktemp("export") / "lake")
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    for folder in ("json", "email", "asyncio"):
        ingest(lake, "folder", stdlib / folder, source=folder)
    base = lake.table("raw.documents")
    rows = sorted(base.to_arrow(["doc_id", "source", "path"]).to_pylist(), key=lambda row: row["doc_id"])[::2]
    n = len(rows)
    curated = {
        "doc_id": pa.array([row["doc_id"] for row in rows], pa.binary(16)),
        "source": pa.array([row["source"] for row in rows]),
        "path": pa.array([row["path"] for row in rows]),
        "license_tier": pa.array(["gold", None] * (n // 2) + ["silver"] * (n % 2)),
        "num_words": pa.array(range(n), pa.int64()),
        "comment_share": pa.array([math.nan if i == 3 else i / n for i in range(n)]),
        "is_generated": pa.array([None if i == 5 else i % 2 == 0 for i in range(n)]),
        "cluster_id": pa.array([row["doc_id"] for row in rows], pa.binary(16)),
        "tags": pa.array([["a", "b"], None] * (n // 2) + [[]] * (n % 2), pa.list_(pa.string())),
    }
    provenance = Provenance(kind="model", inputs=(base.ref,), extra={"candidates": "raw.documents"})
    lake.write("book", pa.table(curated), provenance=provenance)
    return lake


def texts(lake: hw.Lake, name: str) -> dict[str, str]:
    wanted = {d.hex() for d in lake.table(name).to_arrow(["doc_id"])["doc_id"].to_pylist()}
    rows = lake.table("raw.documents").to_arrow(["doc_id", "text"]).to_pylist()
    return {row["doc_id"].hex(): row["text"] for row in rows if row["doc_id"].hex() in wanted}


def lines(folder: Path) -> list[dict[str, Any]]:
    """Every line as python-zstandard reads it, which stops after the first frame of a file."""
    found = []
    for file in sorted(folder.glob("*.jsonl.zst")):
        with zstandard.open(file, "rb") as stream:
            for line in io.TextIOWrapper(stream, encoding="utf-8", newline="\n"):
                found.append(json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON")))
    return found


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("table", ["book", "raw.documents"])
def test_every_document_once_with_its_text(lake: hw.Lake, tmp_path: Path, format: str, table: str) -> None:
    report = export(lake, table, format=format, to=tmp_path / "out", shard_bytes=200_000)
    expected = texts(lake, table)
    if format == "parquet":
        rows = [
            row
            for file in sorted((tmp_path / "out").glob("*.parquet"))
            for row in pq.read_table(file).to_pylist()
        ]
    else:
        rows = lines(tmp_path / "out" / ("documents" if format == "dolma" else ""))
    assert {row["id"]: row["text"] for row in rows} == expected and len(rows) == len(expected) == report.rows
    assert report.text_bytes == sum(len(text.encode()) for text in expected.values())
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest == json.loads(json.dumps(report.to_json())) and manifest["approval"] is None
    assert (manifest["table"], manifest["digest"]) == (lake.table(table).name, lake.table(table).digest)
    stored = {
        p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file()
    }
    assert stored == {file["path"] for file in manifest["files"]} | {"manifest.json"}
    for file in manifest["files"]:
        data = (tmp_path / "out" / file["path"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file["bytes"], file["sha256"])
    assert len(stored) > 3  # several shards
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o755
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_parquet_keeps_types(lake: hw.Lake, tmp_path: Path) -> None:
    export(lake, "book", format="parquet", to=tmp_path / "out")
    (file,) = (tmp_path / "out").glob("*.parquet")
    stored = pq.read_table(file)
    assert pq.ParquetFile(file).metadata.row_group(0).column(1).compression == "ZSTD"
    own = {row["doc_id"].hex(): row for row in lake.table("book").to_arrow().to_pylist()}
    base = {row["doc_id"].hex(): row for row in lake.table("raw.documents").to_arrow().to_pylist()}
    assert (
        stored.schema.field("tags").type == pa.list_(pa.string())
        and stored.schema.field("num_words").type == pa.int64()
    )
    for row in stored.to_pylist():
        mine = own[row["id"]]
        assert row["cluster_id"] == mine["cluster_id"].hex() and row["tags"] == mine["tags"]
        assert (
            row["origin"] == base[row["id"]]["origin"] and row["text_bytes"] == base[row["id"]]["text_bytes"]
        )
        assert row["comment_share"] == mine["comment_share"] or math.isnan(row["comment_share"])


def test_json_lines_say_what_is_stored(lake: hw.Lake, tmp_path: Path) -> None:
    export(lake, "book", format="jsonl", to=tmp_path / "flat")
    own = {row["doc_id"].hex(): row for row in lake.table("book").to_arrow().to_pylist()}
    for row in lines(tmp_path / "flat"):
        mine = own[row["id"]]
        share = None if math.isnan(mine["comment_share"]) else mine["comment_share"]
        assert (row["comment_share"], row["num_words"], row["tags"]) == (
            share,
            mine["num_words"],
            mine["tags"],
        )
        assert row["is_generated"] is mine["is_generated"] and row["license_tier"] == mine["license_tier"]


def test_dolma_attributes_lie_beside_the_documents(lake: hw.Lake, tmp_path: Path) -> None:
    export(lake, "book", format="dolma", to=tmp_path / "out", shard_bytes=300_000)
    own = {row["doc_id"].hex(): row for row in lake.table("book").to_arrow().to_pylist()}
    files = {p.name for p in (tmp_path / "out" / "documents").iterdir()}
    assert files == {p.name for p in (tmp_path / "out" / "attributes" / "book").iterdir()} and len(files) == 2
    pairs = zip(
        lines(tmp_path / "out" / "documents"), lines(tmp_path / "out" / "attributes" / "book"), strict=True
    )
    for document, attributes in pairs:
        mine = own[document["id"]]
        assert attributes["id"] == document["id"] and attributes["source"] == document["source"]
        whole = len(document["text"])
        assert attributes["attributes"]["book__num_words"] == [[0, whole, float(mine["num_words"])]]
        flag = mine["is_generated"]
        assert attributes["attributes"]["book__is_generated"] == (
            [] if flag is None else [[0, whole, float(flag)]]
        )
        assert (attributes["attributes"]["book__comment_share"] == []) is math.isnan(mine["comment_share"])
        assert all(isinstance(document[key], str) for key in ("source", "created", "added", "version"))
        assert (
            document["metadata"].get("license_tier") == mine["license_tier"]
            and "num_words" not in document["metadata"]
        )


@pytest.mark.parametrize("format", ["dolma", "datatrove"])
def test_our_own_readers_take_it_back(lake: hw.Lake, tmp_path: Path, format: str) -> None:
    """The layout is recognized; text, source or metadata come back, and the id of the export as the key."""
    export(lake, "raw.documents", format=format, to=tmp_path / "out")
    back = hw.Lake(tmp_path / "back")
    folder = tmp_path / "out" / ("documents" if format == "dolma" else "")
    report = ingest(back, "jsonl", folder, source="back")
    before = lake.table("raw.documents").to_arrow().to_pylist()
    after = back.table("raw.documents").to_arrow().to_pylist()
    assert report.documents_added == len(before) and not report.quarantined
    assert sorted((row["text_hash"], row["text"]) for row in after) == sorted(
        (r["text_hash"], r["text"]) for r in before
    )
    ids = {
        row["text_hash"]: {r["doc_id"].hex() for r in before if r["text_hash"] == row["text_hash"]}
        for row in after
    }
    for row in after:
        assert row["path"] in ids[row["text_hash"]]
        metadata = json.loads(row["metadata"])
        assert metadata.get("metadata", metadata)["path"]


def test_parquet_comes_back_equal(lake: hw.Lake, tmp_path: Path) -> None:
    export(lake, "raw.documents", format="parquet", to=tmp_path / "out")
    back = hw.Lake(tmp_path / "back")
    columns = {
        "id": "path",
        "text": "text",
        "path": "path",
        "source": "source",
        "license": "license_declared",
    }
    ingest(back, "parquet", tmp_path / "out", columns=columns)
    names = ["doc_id", "text", "text_hash", "source", "path", "license_declared", "text_bytes"]
    rows = [
        sorted(one.table("raw.documents").to_arrow(names).to_pylist(), key=lambda r: r["doc_id"])
        for one in (lake, back)
    ]
    assert rows[0] == rows[1]


HOSTILE = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=60),
    st.sampled_from(
        [
            "\0",
            "\u202ertl\u2066",
            "😀" * 50,
            "\n" * 300,
            " ",
            "a\u2028b\x85c\r\n",
            '"\\/',
            "</script>",
            "x" * 100_000,
        ]
    ),
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(HOSTILE, HOSTILE, st.one_of(st.none(), HOSTILE, st.just('{"a": {"b": null}}'))),
        min_size=1,
        max_size=12,
    )
)
def test_hostile_text_comes_out_as_it_went_in(tmp_path_factory: pytest.TempPathFactory, rows: Any) -> None:
    folder = tmp_path_factory.mktemp("hostile")
    lake = hw.Lake(folder / "lake")
    ids = [i.to_bytes(16, "big") for i in range(len(rows))]
    table = {
        "doc_id": pa.array(ids, pa.binary(16)),
        "text": pa.array([t for t, _, _ in rows], pa.large_string()),
        "path": pa.array([p for _, p, _ in rows], pa.string()),
        "metadata": pa.array([m for _, _, m in rows], pa.string()),
        "score": pa.array([math.inf if i % 3 else 0.5 for i in range(len(rows))]),
    }
    lake.write("raw.documents", pa.table(table))
    for format in ("jsonl", "dolma", "datatrove"):
        export(lake, "raw.documents", format=format, to=folder / format)
        found = lines(folder / format / ("documents" if format == "dolma" else ""))
        assert [row["text"] for row in found] == [t for t, _, _ in rows]
        if format == "jsonl":
            assert [row["path"] for row in found] == [p for _, p, _ in rows]
        else:
            assert all(isinstance(row["metadata"], dict) for row in found)
            assert [row["metadata"]["path"] for row in found] == [p for _, p, _ in rows]


def test_a_long_document_and_many_short_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "CHUNK_ROWS", 100)
    lake = hw.Lake(tmp_path / "lake")
    made = ["x" * 5_000_000, *(f"line {i}\n" * (i % 7) for i in range(1_000)), "ü" * 2_000_000]
    ids = pa.array([i.to_bytes(16, "big") for i in range(len(made))], pa.binary(16))
    lake.write("raw.documents", pa.table({"doc_id": ids, "text": pa.array(made, pa.large_string())}))
    report = export(
        lake, "raw.documents", format="jsonl", to=tmp_path / "out", shard_bytes=1_000_000, threads=2
    )
    assert [row["text"] for row in lines(tmp_path / "out")] == made
    assert len(report.files) >= 3 and sum(file.rows for file in report.files) == len(made)


def test_look_ups_and_scans_export_the_same(
    lake: hw.Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(lake, "book", format="jsonl", to=tmp_path / "scanned")
    monkeypatch.setattr(documents, "LOOKUP_SHARE", 2.0)
    monkeypatch.setattr(hw.Table, "has_id_index", True)
    export(lake, "book", format="jsonl", to=tmp_path / "looked_up")
    scanned, looked_up = (
        sorted(lines(tmp_path / name), key=lambda row: row["id"]) for name in ("scanned", "looked_up")
    )
    assert scanned == looked_up


def test_empty_tables_are_exported(lake: hw.Lake, tmp_path: Path) -> None:
    empty = lake.table("book").to_arrow().slice(0, 0)
    other = hw.Lake(tmp_path / "lake")
    base = other.write("raw.documents", lake.table("raw.documents").scan())
    other.write(
        "book", empty, provenance=Provenance(inputs=(base.ref,), extra={"candidates": "raw.documents"})
    )
    for format in FORMATS:
        assert export(other, "book", format=format, to=tmp_path / format).rows == 0
    assert pq.read_table(tmp_path / "parquet" / "part-00000.parquet").num_rows == 0
    assert lines(tmp_path / "jsonl") == []


def test_nothing_is_overwritten_by_accident(lake: hw.Lake, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match=r"is not (empty|an export)"):
            export(lake, "book", format="jsonl", to=tmp_path / "mine", overwrite=overwrite)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    (tmp_path / "empty").mkdir()
    export(lake, "book", format="jsonl", to=tmp_path / "empty")
    with pytest.raises(UsageError, match="is not empty"):
        export(lake, "book", format="jsonl", to=tmp_path / "empty")
    export(lake, "raw.documents", format="parquet", to=tmp_path / "empty", overwrite=True)
    assert {p.name for p in (tmp_path / "empty").iterdir()} == {"part-00000.parquet", "manifest.json"}
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="in the way"):
        export(lake, "book", format="jsonl", to=tmp_path / "file")


def test_a_failure_leaves_nothing(lake: hw.Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("headwater.export.write._described", broken)
    with pytest.raises(HeadwaterError, match="No space left"):
        export(lake, "book", format="jsonl", to=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_versions_approval_and_missing_text(lake: hw.Lake, tmp_path: Path) -> None:
    with pytest.raises(NotApproved):
        export(lake, "book", format="jsonl", to=tmp_path / "a", version="approved")
    with pytest.raises(UnknownName, match="unknown table 'boook'"):
        export(lake, "boook", format="jsonl", to=tmp_path / "a")
    with pytest.raises(UnknownName, match="version"):
        export(lake, "book", format="jsonl", to=tmp_path / "a", version=99)
    with pytest.raises(UnknownName, match="format"):
        export(lake, "book", format="csv", to=tmp_path / "a")
    with pytest.raises(UsageError, match="not a folder"):
        export(lake, "book", format="jsonl", to="s3://bucket/x")
    other = hw.Lake(tmp_path / "lake")
    base = other.write("raw.documents", lake.table("raw.documents").to_arrow().slice(0, 5))
    provenance = Provenance(inputs=(base.ref,), extra={"candidates": "raw.documents"})
    other.write("book", lake.table("book").to_arrow(), provenance=provenance)
    with pytest.raises(DataMismatch, match="holds"):
        export(other, "book", format="jsonl", to=tmp_path / "a")
    assert not (tmp_path / "a").exists()


PEER = """
import hashlib, json, sys
from datatrove.pipeline.readers import JsonlReader, ParquetReader
reader = {"jsonl": JsonlReader, "parquet": ParquetReader}[sys.argv[1]]
for d in reader(sys.argv[2], glob_pattern="*.parquet" if sys.argv[1] == "parquet" else "*.jsonl.zst").run():
    print(json.dumps([d.id, hashlib.sha256(d.text.encode()).hexdigest(), d.metadata["path"], d.metadata["num_words"]]))
"""


@pytest.mark.skipif(
    "HEADWATER_PEER_DATATROVE" not in os.environ, reason="HEADWATER_PEER_DATATROVE names no Python"
)
@pytest.mark.parametrize(
    ("format", "kind"), [("datatrove", "jsonl"), ("parquet", "parquet"), ("jsonl", "jsonl")]
)
def test_datatrove_reads_it(lake: hw.Lake, tmp_path: Path, format: str, kind: str) -> None:
    export(lake, "book", format=format, to=tmp_path / "out", shard_bytes=200_000)
    command = [os.environ["HEADWATER_PEER_DATATROVE"], "-c", PEER, kind, str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = sorted(json.loads(line) for line in done.stdout.splitlines())
    own = {row["doc_id"].hex(): row for row in lake.table("book").to_arrow().to_pylist()}
    written = {i: t for i, t in texts(lake, "book").items() if t}  # datatrove skips documents without text
    assert found == sorted(
        [i, hashlib.sha256(t.encode()).hexdigest(), own[i]["path"], own[i]["num_words"]]
        for i, t in written.items()
    )


DOLMA = """
import glob, json, os, sys
import msgspec, smart_open
import dolma.core.utils
from dolma import mixer
from dolma.core.data_types import InputSpecWithMetadata, OutputSpec
dolma.core.utils.add_compression()
out, work = sys.argv[1:]
documents, attributes = msgspec.json.Decoder(InputSpecWithMetadata), msgspec.json.Decoder(OutputSpec)
read = []
for file in sorted(glob.glob(out + "/documents/*")):
    beside = file.replace("/documents/", "/attributes/book/")
    with smart_open.open(file, "rb") as one, smart_open.open(beside, "rb") as two:
        for line, other in zip(one, two, strict=True):
            d, a = documents.decode(line), attributes.decode(other)
            assert d.id == a.id and all(s == 0 and e == len(d.text) for v in a.attributes.values() for s, e, _ in v)
            read.append([d.id, d.text])
stream = {"name": "x", "documents": [out + "/documents/*.jsonl.zst"], "attributes": ["book"],
          "output": {"path": work + "/mixed", "max_size_in_bytes": 10**9}, "compression": {"input": "zst", "output": "zst"},
          "filter": {"include": ["$.attributes[?(@.book__num_words[0][2] >= 9.5)]"], "exclude": [], "syntax": "jsonpath"}}
for folder in ("in", "out"): os.makedirs(work + "/" + folder)
mixer({"streams": [stream], "processes": 1, "work_dir": {"input": work + "/in", "output": work + "/out"}, "shuffle": False})
mixed = []
for file in glob.glob(work + "/mixed/**/*.zst", recursive=True):
    with smart_open.open(file, "rb") as lines:
        mixed += [documents.decode(line).id for line in lines]
print("RESULT" + json.dumps({"read": read, "mixed": mixed}))
"""


@pytest.mark.skipif("HEADWATER_PEER_DOLMA" not in os.environ, reason="HEADWATER_PEER_DOLMA names no Python")
def test_dolma_reads_and_mixes_it(lake: hw.Lake, tmp_path: Path) -> None:
    export(lake, "book", format="dolma", to=tmp_path / "out", shard_bytes=300_000)
    command = [os.environ["HEADWATER_PEER_DOLMA"], "-c", DOLMA, str(tmp_path / "out"), str(tmp_path / "work")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(
        next(line for line in done.stdout.splitlines() if line.startswith("RESULT")).removeprefix("RESULT")
    )
    assert dict(result["read"]) == texts(lake, "book")
    own = lake.table("book").to_arrow().to_pylist()
    assert sorted(result["mixed"]) == sorted(row["doc_id"].hex() for row in own if row["num_words"] >= 10)
