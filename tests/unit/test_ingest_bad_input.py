"""Bad input: counted, placed, and never fatal for the rest; or a clear error before anything is written."""

import gzip
import itertools
import json
import os
import threading
from contextlib import closing

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headwater.errors import BadInput
from headwater.ingest import ingest
from headwater.ingest.duck import Ducks
from headwater.ingest.lines import read_blocks
from headwater.ingest.readers import make_reader
from headwater.ingest.text import as_text, decode_declared, stored_name
from headwater.lake import Lake


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


def flaws(lake):
    rows = lake.table("raw.quarantine").to_arrow().to_pylist()
    return {(row["path"], row["position"]): row for row in rows}


def texts(lake):
    return lake.table("raw.documents").to_arrow(["text"])["text"].to_pylist()


def test_files_that_are_no_documents(lake, tmp_path):
    root = tmp_path / "in"
    root.mkdir()
    (root / "good.txt").write_text("good")
    (root / "latin.txt").write_bytes(b"caf\xe9")
    (root / "empty.txt").write_bytes(b"")
    (root / "blank.txt").write_text(" \n\t\u2003\n")
    with (root / "huge.txt").open("wb") as file:
        file.truncate(200 << 20)
    (root / "bad.py").write_bytes(b"# coding: no-such-coding\nx = '\xe9'\n")
    report = ingest(lake, "folder", root)
    assert texts(lake) == ["good"]
    reasons = {path: row["reason"] for (path, _), row in flaws(lake).items()}
    assert reasons == {
        "latin.txt": "not_utf8",
        "empty.txt": "empty",
        "blank.txt": "empty",
        "huge.txt": "too_large",
        "bad.py": "not_utf8",
    }
    assert flaws(lake)["huge.txt", ""]["bytes"] == 200 << 20
    assert "offset 3" in flaws(lake)["latin.txt", ""]["detail"]
    assert report.rows_seen == report.documents_added + sum(report.quarantined.values())


def test_links_pipes_and_locked_files(lake, tmp_path):
    root = tmp_path / "in"
    (root / "sub").mkdir(parents=True)
    (tmp_path / "outside.txt").write_text("outside")
    (root / "a.txt").write_text("a")
    (root / "inside.txt").symlink_to(root / "a.txt")
    (root / "escape.txt").symlink_to(tmp_path / "outside.txt")
    (root / "sub" / "cycle").symlink_to(root)
    (root / "up").symlink_to(tmp_path)
    os.mkfifo(root / "pipe.txt")
    report = ingest(lake, "folder", root)
    assert texts(lake) == ["a"]
    assert {path for path, _ in flaws(lake)} == {"escape.txt", "up", "pipe.txt"}
    assert report.quarantined == {"not_a_file": 1, "symlink": 2}


def test_hostile_file_names(lake, tmp_path):
    root = tmp_path / "in"
    root.mkdir()
    for name in (b"new\nline.txt", b"\xff\xfe%.txt", b"quote'\".txt", "snö.txt".encode(), b"-rf.txt"):
        (root / os.fsdecode(name)).write_bytes(b"text of " + name.hex().encode())
    ingest(lake, "folder", root)
    paths = set(lake.table("raw.documents").to_arrow(["path"])["path"].to_pylist())
    assert paths == {"new\nline.txt", "%FF%FE%25.txt", "quote'\".txt", "snö.txt", "-rf.txt"}
    (root / os.fsdecode(b"\xff.jsonl")).write_bytes(b'{"text": "a"}\n{"text" "b"}\n')
    pq.write_table(pa.table({"text": ["p"]}), tmp_path / "p.parquet")
    (tmp_path / "p.parquet").rename(root / os.fsdecode(b"\xff.parquet"))
    ingest(lake, "jsonl", tmp_path / "in", source="it's")
    ingest(lake, "parquet", tmp_path / "in", source="it's", sync=True)
    assert ("%FF.jsonl", "line 2") in flaws(lake)


def test_a_broken_line_is_named_and_the_rest_goes_on(lake, tmp_path):
    lines = [
        b'{"id": "1", "text": "one"}',
        b'{"id": "2", "text": "two"',
        b"",
        b"   ",
        b'{"id": "3", "text": "caf\xe9"}',
        b'{"id": "4", "text": null}',
        b'{"id": "5"}',
        b'{"id": "6", "text": 5}',
        b'{"id": "6b", "text": "5"}',
        b'["text"]',
        b'{"id": "7", "text": "\\ud800"}',
        b'{"id": "8", "text": " \\n"}',
        b'{"id": "9", "text": "' + b"x" * 3_000 + b'"}',
        b'{"id": "10", "text": "' + b"x" * 300 + b'"}',
        b'{"id": "11", "text": "last"}',
    ]
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(lines))
    report = ingest(lake, "jsonl", tmp_path / "rows.jsonl", max_document_bytes=250)
    assert texts(lake) == ["one", "5", "last"]
    found = {position: row["reason"] for (_, position), row in flaws(lake).items()}
    assert found == {
        "line 2": "broken_json",
        "line 5": "not_utf8",
        "line 6": "missing_field",
        "line 7": "missing_field",
        "line 8": "missing_field",
        "line 10": "broken_json",
        "line 11": "broken_json",
        "line 12": "empty",
        "line 13": "too_large",
        "line 14": "too_large",
    }
    assert "Expecting ',' delimiter" in flaws(lake)["rows.jsonl", "line 2"]["detail"]
    assert "a list, not an object" in flaws(lake)["rows.jsonl", "line 10"]["detail"]
    assert report.rows_seen == 13 == 3 + sum(report.quarantined.values())


@pytest.mark.parametrize("cut", [1, 9, 1_000, 30_000])
def test_compressed_lines_that_break_off(lake, tmp_path, cut):
    lines = [json.dumps({"id": str(i), "text": os.urandom(300).hex()}) for i in range(3_000)]
    data = gzip.compress(("\n".join(lines) + "\n").encode())
    (tmp_path / "rows.jsonl.gz").write_bytes(data[:-cut])
    report = ingest(lake, "jsonl", tmp_path / "rows.jsonl.gz")
    assert 1_000 < report.documents_added <= 3_000
    assert report.quarantined == {"unreadable": 1}
    (row,) = flaws(lake).values()
    assert row["detail"].startswith(f"breaks off after line {report.documents_added}")
    stored = [json.loads(line)["text"] for line in lines[: report.documents_added]]
    assert texts(lake) == stored


def test_a_file_that_is_not_what_its_name_says(lake, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_bytes(b'{"text": "a"}\n')
    (tmp_path / "in" / "b.jsonl.gz").write_bytes(b"\x1f\x8bgarbage")
    (tmp_path / "in" / "c.jsonl").write_bytes(os.urandom(5_000).replace(b"\n", b"") + b"\n")
    (tmp_path / "in" / "d.jsonl").write_bytes(b"")
    report = ingest(lake, "jsonl", tmp_path / "in")
    assert report.documents_added == 1
    assert report.quarantined == {"not_utf8": 1, "unreadable": 1}
    with pytest.raises(BadInput, match="cannot read"):
        ingest(lake, "jsonl", tmp_path / "in" / "b.jsonl.gz")


def test_a_line_without_an_end_does_not_fill_memory(tmp_path):
    path = tmp_path / "long.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text": "a"}\n')
        file.seek(60 << 20, os.SEEK_CUR)  # a hole: 60 MiB of zero bytes in one line
        file.write(b'\n{"text": "b"}\n{"text": "c"}')
    blocks = list(read_blocks(str(path), max_line_bytes=3 << 20))
    assert max(len(block.data) for block in blocks) <= 8 << 20
    long_lines = [block.long_line for block in blocks if block.long_line]
    assert long_lines == [(2, 60 << 20)]
    lines = [line.as_py() for block in blocks for line in block.lines()]
    assert lines == [b'{"text": "a"}\n', b'{"text": "b"}\n', b'{"text": "c"}']
    assert [block.first_line for block in blocks][-1] == 4


def test_parquet_without_the_column_writes_nothing(lake, tmp_path):
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"texts": ["a"], "id": ["1"]}), tmp_path / "2.parquet")
    with pytest.raises(BadInput) as caught:
        ingest(lake, "parquet", tmp_path)
    message = str(caught.value)
    assert "2.parquet has no column 'text'" in message and "id, texts" in message and "texts?" in message
    assert caught.value.exit_code == 2
    assert not lake.exists("raw.documents") and not lake.exists("raw.quarantine")
    with pytest.raises(BadInput, match="holds int64, not text"):
        pq.write_table(pa.table({"text": [1]}), tmp_path / "2.parquet")
        ingest(lake, "parquet", tmp_path / "2.parquet")


def test_a_broken_parquet_beside_good_ones(lake, tmp_path):
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "1.parquet")
    (tmp_path / "2.parquet").write_bytes(b"PAR1 no")
    report = ingest(lake, "parquet", tmp_path)
    assert (report.documents_added, report.quarantined) == (1, {"unreadable": 1})
    with pytest.raises(BadInput, match="as Parquet"):
        ingest(lake, "parquet", tmp_path / "2.parquet")


def test_a_long_text_in_many_rows_comes_in_pieces(lake, tmp_path):
    """16 GB of text in a file of four megabytes, as a dictionary: once it was read 8,192 rows at a time."""
    texts = [os.urandom(500_000).hex(), os.urandom(500_000).hex(), "short"]
    index = pa.array([0, 1, 2, None] * 8_000, pa.int32())
    encoded = pa.DictionaryArray.from_arrays(index, pa.array(texts))
    table = pa.table({"text": encoded, "id": [str(i) for i in range(32_000)], "note": encoded})
    pq.write_table(
        table.slice(0, 200), tmp_path / "a.parquet", dictionary_pagesize_limit=8 << 20, store_schema=False
    )
    report = ingest(lake, "parquet", tmp_path / "a.parquet", columns={"url": "note"})
    assert report.documents_added == 150 and report.quarantined == {"missing_field": 50}
    pq.write_table(table, tmp_path / "b.parquet", dictionary_pagesize_limit=8 << 20, store_schema=False)
    assert (tmp_path / "b.parquet").stat().st_size < 8 << 20
    settings = {
        "source": "s",
        "columns": {},
        "layout": None,
        "origin": "unknown",
        "max_document_bytes": 1 << 24,
    }
    with closing(Ducks()) as ducks:
        reader = make_reader("parquet", tmp_path / "b.parquet", settings, None, ducks)
        chunks = [task() for task in itertools.islice(reader.tasks(), 20)]
    assert max(chunk.rows.nbytes for chunk in chunks) < 16 << 20


def test_columns_that_are_not_utf8_do_not_stop_the_rows(lake, tmp_path):
    bad = pa.Array.from_buffers(pa.string(), 2, pa.array([b"ok", b"\xff\xfe"], pa.binary()).buffers())
    pq.write_table(pa.table({"text": ["a", "b"], "note": bad}), tmp_path / "1.parquet")
    assert ingest(lake, "parquet", tmp_path).documents_added == 2


def test_an_interrupted_run_publishes_nothing_and_the_next_one_everything(lake, tmp_path):
    lines = "".join(json.dumps({"id": str(i), "text": "x" * 500 + str(i)}) + "\n" for i in range(20_000))
    (tmp_path / "rows.jsonl").write_text(lines + "broken\n")

    class StopError(Exception):
        pass

    def stop(done, total, note):
        if done > 4 << 20:
            raise StopError

    with pytest.raises(StopError):
        ingest(lake, "jsonl", tmp_path / "rows.jsonl", progress=stop)
    assert not lake.exists("raw.documents") and not lake.exists("raw.quarantine")
    assert not [t for t in threading.enumerate() if t.name.startswith("ingest")]
    report = ingest(lake, "jsonl", tmp_path / "rows.jsonl")
    assert (report.documents_added, report.quarantined) == (20_000, {"broken_json": 1})


def test_the_quarantine_is_published_before_the_documents(lake, tmp_path, monkeypatch):
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\nbroken\n')
    commit, order = Lake._commit, []

    def spy(self, target, *rest, **more):
        order.append(target)
        return commit(self, target, *rest, **more)

    monkeypatch.setattr(Lake, "_commit", spy)
    ingest(lake, "jsonl", tmp_path / "rows.jsonl")
    assert order[:2] == ["raw.quarantine", "raw.documents"]


def test_utf8_row_by_row():
    rows = [
        b"",
        b"abc",
        b"\xff",
        "é€😀".encode(),
        b"\xed\xa0\x80",
        b"\xc0\x80",
        b"\xe2\x82",
        b"\xf4\x90\x80\x80",
        None,
    ]
    text, valid = as_text(pa.array(rows, pa.binary()))

    def good(row):
        try:
            row.decode()
        except UnicodeDecodeError:
            return False
        return True

    assert valid.tolist() == [row is None or good(row) for row in rows]
    assert text.to_pylist() == [row.decode() if row is not None and good(row) else None for row in rows]
    assert as_text(pa.array([b"a", None], pa.binary()))[1] is None


def test_declared_codings():
    assert decode_declared(b"# coding: cp1252\n\x80") == ("# coding: cp1252\n€", "cp1252")
    assert decode_declared(b"# coding: unicode_escape\n\xe9") is None
    assert decode_declared(b"\xe9") is None
    assert stored_name("50%.txt") == "50%.txt"
