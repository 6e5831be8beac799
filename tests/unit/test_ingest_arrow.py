"""Arrow files and streams, Feather, and Hugging Face data set folders."""

import io
import itertools
import json
import os
from contextlib import closing

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import BadInput, HeadwaterError
from headwater.ingest import guess_kind, ingest
from headwater.ingest.duck import Ducks
from headwater.ingest.readers import make_reader
from headwater.lake import Lake

TABLE = pa.table(
    {
        "text": ["one", "zwei", "trois", None, " "],
        "id": ["a", "b", "c", "d", "e"],
        "url": ["https://example.org/1", None, None, None, None],
        "facts": [{"n": 1}, {"n": 2}, None, {"n": 4}, None],
    }
)


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


def documents(lake):
    return {row["text"]: row for row in lake.table("raw.documents").to_arrow().to_pylist()}


def stream_of(table, *, rows=1_000):
    out = io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)
    return out.getvalue()


def file_of(table, *, rows=1_000, compression=None):
    out = io.BytesIO()
    with pa.ipc.new_file(
        out, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)
    ) as writer:
        writer.write_table(table, max_chunksize=rows)
    return out.getvalue()


def test_files_streams_and_feather_are_the_same_rows(lake, tmp_path):
    (tmp_path / "t.arrow").write_bytes(file_of(TABLE))
    first = ingest(lake, "arrow", tmp_path / "t.arrow")
    assert (first.documents_added, first.quarantined) == (3, {"empty": 1, "missing_field": 1})
    row = documents(lake)["one"]
    assert row["url"] == "https://example.org/1" and json.loads(row["metadata"]) == {
        "id": "a",
        "facts": {"n": 1},
    }
    (tmp_path / "t.feather").write_bytes(file_of(TABLE, rows=2, compression="zstd"))
    (tmp_path / "t.ipc").write_bytes(file_of(TABLE, rows=1, compression="lz4"))
    (tmp_path / "t.arrows").write_bytes(stream_of(TABLE, rows=2))
    pyarrow.feather.write_feather(TABLE, str(tmp_path / "pandas.feather"))
    for name in ("t.feather", "t.ipc", "t.arrows", "pandas.feather"):
        assert guess_kind(str(tmp_path / name)) == "arrow"
        report = ingest(lake, "arrow", tmp_path / name, source="t")
        assert (report.documents_added, report.documents_unchanged) == (0, 3), name
        assert report.rows_seen == 5 and report.bytes_seen == (tmp_path / name).stat().st_size


def test_columns_are_mapped(lake, tmp_path):
    table = pa.table({"body": ["text"], "meta": [{"link": "https://example.org"}], "k": ["key"]})
    (tmp_path / "t.arrow").write_bytes(file_of(table))
    ingest(lake, "arrow", tmp_path / "t.arrow", columns={"text": "body", "url": "meta.link", "id": "k"})
    assert documents(lake)["text"]["url"] == "https://example.org"
    with pytest.raises(BadInput, match="has no column 'text'"):
        ingest(lake, "arrow", _written(tmp_path / "u.arrow", file_of(table.rename_columns(["x", "y", "z"]))))


def _written(path, data):
    path.write_bytes(data)
    return path


def test_large_batches_come_in_pieces_and_types_are_read(lake, tmp_path):
    texts = [f"{i} " + "word " * 2_000 for i in range(2_000)]
    columns = {"text": pa.array(texts, pa.large_string()), "id": pa.array([str(i) for i in range(2_000)])}
    (tmp_path / "t.arrow").write_bytes(file_of(pa.table(columns), rows=2_000))
    assert ingest(lake, "arrow", tmp_path / "t.arrow").documents_added == 2_000
    for kind in (pa.string_view(), pa.binary(), pa.dictionary(pa.int32(), pa.string())):
        table = pa.table({"text": pa.array(["a", "b"]).cast(kind)})
        report = ingest(lake, "arrow", _written(tmp_path / "k.arrow", stream_of(table)), source=str(kind))
        assert report.documents_added == 2


def test_rows_that_share_a_long_value_come_in_pieces(lake, tmp_path):
    long = "word " * 200_000
    index = pa.array([0, None, 1] * 1_000, pa.int32())
    shared = pa.DictionaryArray.from_arrays(index, pa.array([long, "short"]))
    views = pa.array([long[: i % 2 * 999_999 + 1] for i in range(60)], pa.string_view())
    for name, column in (("d.arrow", shared), ("v.arrow", views)):
        path = _written(tmp_path / name, file_of(pa.table({"text": column}), rows=len(column)))
        settings = {
            "source": "s",
            "columns": {},
            "layout": None,
            "origin": "unknown",
            "max_document_bytes": 1 << 24,
        }
        with closing(Ducks()) as ducks:
            reader = make_reader("arrow", path, settings, None, ducks)
            chunks = [task() for task in itertools.islice(reader.tasks(), 20)]
        assert max(chunk.rows.nbytes for chunk in chunks) < 6 << 20
        assert all(chunk.rows["text"].type == pa.large_string() for chunk in chunks)


def test_text_that_is_not_utf8_and_files_that_break_off(lake, tmp_path):
    raw = pa.Array.from_buffers(pa.string(), 2, pa.array([b"ok", b"\xff\xfe"], pa.binary()).buffers())
    table = pa.table({"text": raw, "note": raw})
    report = ingest(lake, "arrow", _written(tmp_path / "t.arrow", file_of(table)))
    assert (report.documents_added, report.quarantined) == (1, {"not_utf8": 1})
    rows = pa.table({"text": [os.urandom(50).hex() for _ in range(1_000)]})
    report = ingest(lake, "arrow", _written(tmp_path / "c.arrow", stream_of(rows, rows=100)[:-40_000]))
    assert 0 < report.documents_added < 1_000 and report.quarantined == {"unreadable": 1}
    for data in (b"", b"ARROW1", b"noise" * 100, file_of(TABLE)[:-100]):
        with pytest.raises(BadInput, match="as Arrow"):
            ingest(lake, "arrow", _written(tmp_path / "b.arrow", data))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2_000), st.binary(min_size=1, max_size=12), st.booleans())
def test_patched_files_are_read_or_refused(tmp_path_factory, at, patch, as_stream):
    folder = tmp_path_factory.mktemp("patched")
    data = bytearray(stream_of(TABLE) if as_stream else file_of(TABLE))
    data[at % len(data) : at % len(data) + len(patch)] = patch
    (folder / "t.arrow").write_bytes(data)
    try:
        report = ingest(Lake(folder / "lake"), "arrow", folder / "t.arrow", threads=1)
    except HeadwaterError:
        return
    assert report.rows_seen == report.documents_added + report.documents_repeated + sum(
        report.quarantined.values()
    )


def test_names_of_columns_that_are_not_utf8_are_refused(lake, tmp_path):
    data = stream_of(pa.table({"text": ["a"], "other": [{"inner": 1}]}))
    for name in (b"other", b"inner"):
        path = _written(tmp_path / "t.arrow", data.replace(name, name[:-1] + b"\xff"))
        with pytest.raises(BadInput, match="as Arrow"):
            ingest(lake, "arrow", path)


def saved(folder, split, tables, *, license_text=""):
    """What ``Dataset.save_to_disk`` leaves (datasets 4): Arrow streams, a state, and facts of the data set."""
    folder.mkdir(parents=True)
    names = [f"data-{i:05}-of-{len(tables):05}.arrow" for i in range(len(tables))]
    for name, table in zip(names, tables, strict=True):
        (folder / name).write_bytes(stream_of(table))
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "f", "_split": split}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps({"license": license_text, "features": {}}))
    return folder


def test_a_saved_data_set(lake, tmp_path):
    folder = saved(tmp_path / "set", "train", [TABLE.slice(0, 2), TABLE.slice(2, 1)], license_text="MIT")
    (folder / "cache-123.arrow").write_bytes(stream_of(pa.table({"text": ["a cache"]})))
    assert guess_kind(str(folder)) == "huggingface"
    report = ingest(lake, "huggingface", folder)
    assert report.documents_added == 3 and report.files_seen == 2
    facts = json.loads(documents(lake)["trois"]["metadata"])
    assert facts["split"] == "train" and facts["dataset_license"] == "MIT"
    assert documents(lake)["trois"]["license_declared"] is None
    again = ingest(lake, "huggingface", folder)
    assert not again.changed and again.documents_unchanged == 3


def test_a_saved_data_set_with_splits(lake, tmp_path):
    plain = pa.table({"text": ["same text"]})
    saved(tmp_path / "set" / "train", "train", [plain])
    saved(tmp_path / "set" / "test", "test", [plain])
    (tmp_path / "set" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    report = ingest(lake, "huggingface", tmp_path / "set")
    assert report.documents_added == 2
    rows = lake.table("raw.documents").to_arrow().to_pylist()
    assert {row["path"]: json.loads(row["metadata"])["split"] for row in rows} == {
        "test/data-00000-of-00001.arrow:1": "test", "train/data-00000-of-00001.arrow:1": "train",
    }  # fmt: skip


def test_a_folder_from_the_hub(lake, tmp_path):
    folder = tmp_path / "hub"
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text("---\nlanguage:\n- en\nlicense: cc-by-4.0\n---\n# Card\n")
    pq.write_table(TABLE.slice(0, 1), folder / "data" / "train-00000-of-00002-0a1b.parquet")
    pq.write_table(TABLE.slice(1, 1), folder / "data" / "train-00001-of-00002-0a1b.parquet")
    pq.write_table(TABLE.slice(2, 1), folder / "data" / "validation.parquet")
    assert guess_kind(str(folder)) is None
    assert ingest(lake, "huggingface", folder).documents_added == 3
    facts = {text: json.loads(row["metadata"]) for text, row in documents(lake).items()}
    assert {text: fact["split"] for text, fact in facts.items()} == {
        "one": "train",
        "zwei": "train",
        "trois": "validation",
    }
    assert all(fact["dataset_license"] == "cc-by-4.0" for fact in facts.values())


@pytest.mark.parametrize(
    ("name", "data", "match"),
    [
        ("state.json", '{"_data_files": [{"filename": "../../secret.arrow"}]}', "no file of its own"),
        ("state.json", '{"_data_files": [{"filename": "missing.arrow"}]}', "which is not there"),
        ("state.json", '{"_data_files": "x"}', "not a list"),
        ("state.json", "[" * 100_000, "cannot read"),
        ("state.json", "{", "cannot read"),
        ("dataset_dict.json", '{"splits": ["../other"]}', "no file of its own"),
        ("dataset_dict.json", '{"splits": ["nowhere"]}', "cannot read"),
        ("dataset_info.json", "[]", "no JSON object"),
    ],
)
def test_data_sets_that_are_not_what_they_say(lake, tmp_path, name, data, match):
    folder = saved(tmp_path / "set", "train", [TABLE])
    (folder / name).write_text(data)
    with pytest.raises(BadInput, match=match):
        ingest(lake, "huggingface", folder)
    assert not lake.exists("raw.documents")
