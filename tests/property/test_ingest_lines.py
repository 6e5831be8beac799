"""Whatever lines come in: documents and quarantine account for every line that is not blank."""

import json
import shutil
import tempfile
from pathlib import Path

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.ingest import ingest
from headwater.ingest.lines import read_blocks
from headwater.ingest.text import as_text
from headwater.lake import Lake

texts = st.text(max_size=30)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts, lambda v: st.lists(v) | st.dictionaries(texts, v)
)
good = st.builds(lambda t, i: json.dumps({"id": i, "text": t}).encode(), texts, st.integers(0, 20))
fields = st.dictionaries(st.sampled_from(["text", "id", "license", "date", "a.b"]), values)
objects = fields.map(lambda row: json.dumps(row).encode())
other = values.map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))
noise = st.binary(max_size=40).map(lambda raw: raw.replace(b"\n", b""))
lines = st.lists(good | objects | other | noise, max_size=25)


def is_blank(line):
    try:
        return not line.decode("utf-8").strip()
    except UnicodeDecodeError:
        return False


@settings(max_examples=40, deadline=None)
@given(lines, st.booleans())
def test_every_line_is_accounted_for(found, ends_with_newline):
    folder = Path(tempfile.mkdtemp())
    try:
        # The first line makes "text" a known field; without any, the whole file would be refused.
        found = [b'{"id": "first", "text": "first"}', *found]
        (folder / "rows.jsonl").write_bytes(b"\n".join(found) + b"\n" * ends_with_newline)
        lake = Lake(folder / "lake")
        report = ingest(lake, "jsonl", folder / "rows.jsonl", threads=1)
        bad = lake.table("raw.quarantine").num_rows
        expected = sum(not is_blank(line) for line in found)
        assert (
            report.documents_added + report.documents_repeated + sum(report.quarantined.values()) == expected
        )
        assert report.rows_seen == expected
        assert lake.table("raw.documents").num_rows == report.documents_added
        assert bad == sum(report.quarantined.values())
        again = ingest(lake, "jsonl", folder / "rows.jsonl", threads=2)
        assert not again.changed and lake.table("raw.quarantine").num_rows == bad
    finally:
        shutil.rmtree(folder)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=60)), st.integers(1, 50), st.integers(1, 30))
def test_blocks_are_the_lines_whatever_the_block_size(parts, block, limit):
    data = b"\n".join(part.replace(b"\n", b"") for part in parts)
    data = (
        data.removeprefix(b"\x1f\x8b")
        .removeprefix(b"BZh")
        .removeprefix(b"\xef\xbb\xbf")
        .removeprefix(b"\x28\xb5")
    )
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        import headwater.ingest.lines as module

        before, module.BLOCK_BYTES = module.BLOCK_BYTES, block
        try:
            blocks = list(read_blocks(file.name, max_line_bytes=limit))
        finally:
            module.BLOCK_BYTES = before
    held: dict[int, bytes] = {}
    for one in blocks:
        if one.long_line is not None:
            held[one.long_line[0]] = b"?" * one.long_line[1]
        for number, line in enumerate(one.lines().to_pylist(), start=one.first_line):
            assert number not in held
            held[number] = line.rstrip(b"\n")
    expected = data.split(b"\n")
    expected = expected[:-1] if expected[-1] == b"" else expected
    assert [len(held[n]) for n in sorted(held)] == [len(line) for line in expected]
    assert sorted(held) == list(range(1, len(expected) + 1))
    assert all(held[n] == line or set(held[n]) == {ord("?")} for n, line in enumerate(expected, start=1))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.binary(max_size=12) | st.text(max_size=6).map(lambda t: t.encode("utf-8", "surrogatepass")))
)
def test_utf8_rows_are_told_as_python_tells_them(rows):
    text, valid = as_text(pa.array(rows, pa.binary()))
    decoded = []
    for row in rows:
        try:
            decoded.append(row.decode())
        except UnicodeDecodeError:
            decoded.append(None)
    assert text.to_pylist() == decoded
    assert (valid is None) == all(row is not None for row in decoded)
