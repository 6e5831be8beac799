"""Tracing both ways, through resumed runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash

from headwater.errors import DataMismatch, UnknownName, UsageError
from headwater.lake import Lake
from headwater.sequences import pack
from headwater.trace import trace_document, trace_step
from headwater.training.run_log import RunLog

pytest.importorskip("tokenizers")

BATCH = 4


def make_lake(place: Path) -> Lake:
    words = np.random.default_rng(2).integers(0, 50, (80, 60))
    texts = [" ".join(f"w{w}" for w in row[: 5 + i % 50]) for i, row in enumerate(words)]
    ids = [xxhash.xxh3_128_digest(f"{i}{t}".encode()) for i, t in enumerate(texts)]
    columns = {
        "doc_id": pa.array(ids, pa.binary(16)),
        "text": pa.array(texts, pa.large_string()),
        "source": pa.array(["made"] * len(ids)),
        "path": pa.array([f"{i}.txt" for i in range(len(ids))]),
    }
    lake = Lake(place)
    lake.write("book", pa.table(columns))
    pack(lake, "book", sequence_length=32, vocab_size=300, require_approved=False)
    return lake


def log_attempt(
    lake: Lake, folder: Path, start: int, steps: range, checkpoints: tuple[int, ...] = ()
) -> None:
    log = RunLog(lake, folder, recipe="test")
    log.start(
        lake.table("sequences"),
        bypass=None,
        recipe="test",
        config="{}",
        world_size=1,
        start_step=start,
        resumed_from=None,
    )
    for step in steps:
        first = (step - 1) * BATCH
        log.add(
            "training_steps",
            step=step,
            first_sequence=first,
            count=BATCH,
            loss=float(step),
            tokens=BATCH * 32,
        )
        if step in checkpoints:
            log.add("checkpoints", step=step, path=f"{folder.name}/step-{step}", next_sequence=first + BATCH)
    assert log.flush() and log.num_pending == 0


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return make_lake(tmp_path / "lake")


def spans_of(lake: Lake) -> list[list[dict[str, Any]]]:
    return list(lake.table("sequences").to_arrow(["spans"])["spans"].to_pylist())


def test_a_step_gives_its_documents(lake: Lake, tmp_path: Path) -> None:
    log_attempt(lake, tmp_path / "runs" / "a", 0, range(1, 6))
    found = trace_step(lake, 3)
    want = [span for row in spans_of(lake)[8:12] for span in row]
    assert (found.run_id, found.first_sequence, found.count, found.loss) == ("a", 8, 4, 3.0)
    assert [row["doc_id"] for row in found.rows] == [span["doc_id"].hex() for span in want]
    assert [row["tokens"] for row in found.rows] == [span["length"] for span in want]
    assert sum(row["share"] for row in found.rows) == pytest.approx(1)
    assert all(row["path"].endswith(".txt") and row["source"] == "made" for row in found.rows)
    assert found.to_json()["documents"] == found.rows


def test_a_document_gives_its_steps_and_checkpoints(lake: Lake, tmp_path: Path) -> None:
    log_attempt(lake, tmp_path / "runs" / "a", 0, range(1, 9), checkpoints=(2, 4, 6, 8))
    spans = spans_of(lake)
    for step in (1, 3, 5, 7):
        doc = spans[(step - 1) * BATCH + 3][-1]["doc_id"]
        mine = [i for i, row in enumerate(spans) if doc in [s["doc_id"] for s in row]]
        found = trace_document(lake, doc.hex()[:12])
        assert found.doc_id == doc.hex() and found.sequences == tuple(mine)
        assert found.path is not None
        (run,) = found.runs
        steps = sorted({i // BATCH + 1 for i in mine if i < 32})
        assert run.steps == tuple(steps)
        assert (run.first_exposure, run.last_exposure) == (steps[0], steps[-1])
        saw = [c for c in (2, 4, 6, 8) if c >= steps[0]]
        assert [c for c, _ in run.checkpoints_that_saw_it] == saw
        clean = [c for c in (2, 4, 6, 8) if c < steps[0]]
        assert (run.last_clean_checkpoint or (None,))[0] == (clean[-1] if clean else None)


def test_what_a_resumed_run_went_back_behind_does_not_count(lake: Lake, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "a"
    log_attempt(lake, folder, 0, range(1, 8), checkpoints=(4, 6))
    log_attempt(lake, folder, 4, range(5, 6))  # resumed from step 4 (6 was lost), killed after step 5
    assert [trace_step(lake, s).attempt for s in (4, 5)] == [1, 2]
    for step in (6, 7):
        with pytest.raises(UnknownName, match=f"no step {step}"):
            trace_step(lake, step)
    late = spans_of(lake)[6 * BATCH + 1][0]["doc_id"]
    (run,) = trace_document(lake, late.hex()).runs
    assert run.last_step == 5
    assert [c for c, _ in run.checkpoints_that_saw_it] in ([], [4])


def test_rows_logged_twice_count_once(lake: Lake, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "a"
    log_attempt(lake, folder, 0, range(1, 4))
    steps = lake.table("training_steps").to_arrow()
    lake.write("training_steps", steps, mode="append")
    assert trace_step(lake, 2).attempt == 1
    doc = spans_of(lake)[4][0]["doc_id"].hex()
    assert trace_document(lake, doc).runs[0].last_step == 3


def test_a_run_keeps_its_answers_after_another_pack(lake: Lake, tmp_path: Path) -> None:
    log_attempt(lake, tmp_path / "runs" / "a", 0, range(1, 6), checkpoints=(5,))
    before = trace_step(lake, 2)
    doc = before.rows[0]["doc_id"]
    was = trace_document(lake, doc).runs[0]
    pack(lake, "book", sequence_length=16, vocab_size=300, seed=9, require_approved=False)
    assert trace_step(lake, 2).rows == before.rows
    assert trace_document(lake, doc).runs[0] == was
    assert trace_document(lake, doc).sequences != was.sequences


def test_runs_are_told_apart(lake: Lake, tmp_path: Path) -> None:
    for name, steps in (("a", range(1, 3)), ("b", range(1, 6))):
        log_attempt(lake, tmp_path / "runs" / name, 0, steps)
    assert trace_step(lake, 2).run_id == "b"
    assert trace_step(lake, 2, run_id="a").run_id == "a"
    doc = trace_step(lake, 5).rows[-1]["doc_id"]
    assert [run.run_id for run in trace_document(lake, doc).runs] == ["a", "b"]
    assert [run.run_id for run in trace_document(lake, doc, run_id="a").runs] == ["a"]
    with pytest.raises(UnknownName, match="run 'c'"):
        trace_step(lake, 1, run_id="c")


def test_questions_without_an_answer(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="no training run"):
        trace_step(lake, 1)
    document = spans_of(lake)[0][0]["doc_id"].hex()
    assert trace_document(lake, document).runs == ()
    with pytest.raises(UnknownName, match="no packed document"):
        trace_document(lake, "0" * 32)
    with pytest.raises(UsageError, match="not a document id"):
        trace_document(lake, "README.md")
    digits = "0123456789abcdef"
    crowded = next(
        d for d in digits if sum(s["doc_id"].hex()[0] == d for row in spans_of(lake) for s in row) > 3
    )
    with pytest.raises(UsageError, match=f"documents begin with {crowded}"):
        trace_document(lake, crowded)


def test_a_table_made_anew_is_noticed(lake: Lake, tmp_path: Path) -> None:
    log_attempt(lake, tmp_path / "runs" / "a", 0, range(1, 3))
    lake.drop("sequences")
    pack(lake, "book", sequence_length=16, vocab_size=300, require_approved=False)
    with pytest.raises(DataMismatch, match="the lake holds"):
        trace_step(lake, 1)
    document = spans_of(lake)[0][0]["doc_id"].hex()
    assert trace_document(lake, document).untraceable == ("a",)


def test_a_busy_lake_never_stops_the_log(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from headwater.errors import LeaseHeld

    folder = tmp_path / "runs" / "a"
    log = RunLog(lake, folder, recipe="test")
    with monkeypatch.context() as patch:

        def held(*_: Any, **__: Any) -> Any:
            raise LeaseHeld("schema 'dev' is being written")

        patch.setattr(lake, "lease", held)
        log.start(
            lake.table("sequences"), bypass=None, recipe="test", config="{}", world_size=1, start_step=0
        )
        log.add("training_steps", step=1, first_sequence=0, count=4, loss=1.0)
        assert not log.flush() and log.num_pending == 2
    again = RunLog(lake, folder, recipe="test")  # as after a kill: the file still has both rows
    assert again.num_pending == 2 and again.flush()
    assert trace_step(lake, 1).attempt == 1
