"""A takedown follows the synthetic documents that were made from what is asked about."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from trace_lake import LENGTH, doc, log_attempt, make, steps, write_order

from headwater.cli import main
from headwater.lake import Lake
from headwater.synthesis.provenance import synthetic_rows
from headwater.trace import trace_document, trace_documents


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Step 1 sees a, step 2 sees s, which a generator made from a, step 3 sees b."""
    lake = make(tmp_path / "lake", ["a", "b", "s"])
    rows = synthetic_rows(
        ["made from a", "made from that"],
        source="made",
        generator="g",
        generator_version="1",
        prompt_ids=["1", "2"],
        parent_ids=[[doc("a")], [doc("s")]],
        generations=[1, 2],
    )
    ids = pa.array([doc("s"), b"never packed    "], pa.binary(16))
    lake.write("synthetic", rows.set_column(0, "doc_id", ids))
    order = write_order(lake, [[(name, 0, LENGTH, 0, 0)] for name in ("a", "s", "b")])
    log_attempt(lake, order, 1, 0, steps(1, 3), (1, 2, 3))
    return lake


def test_the_answer_tells_of_descendants_and_follows_them_when_asked(lake: Lake) -> None:
    one = trace_document(lake, doc("a").hex())
    assert one.runs[0].steps == (1,) and one.descendants is not None
    assert one.descendants["count"] == 2 and one.descendants["by_table"] == {"dev.synthetic": 2}
    ids = pa.array([doc("a")], pa.binary(16))
    assert trace_documents(lake, ids).runs[0].steps == (1,)
    every = trace_documents(lake, ids, with_descendants=True)
    assert (every.asked, every.packed, every.runs[0].steps) == (3, 2, (1, 2))
    assert json.loads(json.dumps(every.to_json()))["descendants"]["by_depth"] == {"1": 1, "2": 1}
    assert trace_document(lake, doc("b").hex()).descendants is None


def test_the_command_says_so(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    def shown(*arguments: str) -> str:
        code = main(["--lake", lake.uri, "--target", "dev", "trace", *arguments])
        told = capsys.readouterr()
        assert code == 0, told.err
        return told.out

    text = shown("--doc", doc("a").hex())
    assert "2 synthetic documents were made from it: dev.synthetic 2" in text and "--with-descendants" in text
    text = shown("--doc", doc("a").hex(), "--with-descendants")
    assert "3 documents asked about, 2 of them packed" in text
    assert "2 of them synthetic, made from the others" in text
    assert "yes:" in shown("--checkpoint", "r@2", "--doc", doc("a").hex(), "--with-descendants")
    assert "were made from them" in shown("--where", "path = 'a.txt' or path = 'b.txt'")
    assert main(["--lake", lake.uri, "--target", "dev", "trace", "--step", "1", "--with-descendants"]) == 2
