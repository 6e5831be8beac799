"""What a checkpoint saw, and whether the approvals of what it saw still stand."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from trace_lake import BEGAN, LENGTH, append, doc, log_attempt, make, steps, write_order

from headwater.errors import UnknownName, UsageError
from headwater.lake import Lake
from headwater.lake.approvals import APPROVALS_SCHEMA
from headwater.trace import checkpoint as checkpoint_module
from headwater.trace import trace_checkpoint
from headwater.trace.checkpoint import find_checkpoint, saw

HALF = LENGTH // 2


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Two stages of three and two steps; a resumption in the first went back behind step 3."""
    lake = make(tmp_path / "lake", ["a", "b", "c", "w1"])
    first = write_order(
        lake,
        [
            [("a", 0, HALF, 0, 0), ("b", 0, HALF, 0, 0)],
            [("b", HALF, HALF, 0, 0), ("w1", 0, HALF, 0, 1)],
            [("c", 0, LENGTH, 0, 0)],
            [("a", 0, HALF, 1, 0)],
        ],
    )
    log_attempt(lake, first, 1, 0, steps(1, 3), (1, 2, 3))
    log_attempt(lake, first, 2, 2, [(3, 2, 1, "skipped"), (4, 3, 1, "trained")], (4,))
    second = write_order(lake, [[("w1", 0, LENGTH, 0, 0)], [("b", 0, LENGTH, 0, 2)]])
    log_attempt(lake, second, 3, 4, steps(5, 6), (6,))
    return lake


def test_everything_it_saw_is_added_up(lake: Lake) -> None:
    seen = trace_checkpoint(lake, "r@6", with_ids=True)
    assert (seen.steps, seen.skipped_steps, seen.sequences, seen.documents) == (5, 1, 5, 3)
    assert seen.tokens == 2 * LENGTH + HALF + 2 * LENGTH == sum(seen.tokens_by_source.values())
    assert seen.tokens_by_source == {"code": 2 * HALF + HALF + HALF + LENGTH, "web": HALF + LENGTH}
    assert seen.tokens_by_epoch == {0: 4 * HALF + 2 * LENGTH, 1: HALF}
    assert seen.tokens_by_form == {"plain": 4 * HALF + LENGTH, "PSM": HALF, "SPM": LENGTH}
    assert seen.document_ids == tuple(sorted(doc(n).hex() for n in ("a", "b", "w1")))
    first, second = seen.stages
    assert (first.steps, first.first_step, first.last_step, first.tokens) == (3, 1, 4, 2 * LENGTH + HALF)
    assert (second.steps, second.first_sequence, second.last_sequence) == (2, 0, 1)
    assert first.table == "dev.sequences@1" and first.digest != second.digest
    assert first.packed_table == "dev.book@1" and seen.stands
    assert json.loads(json.dumps(seen.to_json()))["documents"] == 3


def test_one_that_a_resumption_left_behind_saw_what_its_attempt_trained(lake: Lake) -> None:
    left = trace_checkpoint(lake, "r@3")
    assert not left.stands and left.attempt == 1
    assert (left.steps, left.documents, left.tokens) == (
        3,
        4,
        3 * LENGTH,
    )  # with the step that was skipped later
    assert saw(lake, "r@3", pa.array([doc("c")], pa.binary(16)))["saw"]
    assert not saw(lake, "r@6", pa.array([doc("c")], pa.binary(16)))["saw"]
    assert trace_checkpoint(lake, "r@2").stands


def test_did_it_see_a_document(lake: Lake) -> None:
    both = pa.array(sorted([doc("b"), doc("w1")]), pa.binary(16))
    early = saw(lake, "r@1", both)
    assert (early["saw"], early["documents"], early["asked"], early["tokens"]) == (True, 1, 2, HALF)
    assert early["steps"] == [1] and early["document_ids"] == [doc("b").hex()]
    late = saw(lake, "r@6", both)
    assert late["steps"] == [1, 2, 5, 6] and late["tokens"] == 3 * HALF + 2 * LENGTH


def test_the_names_of_a_checkpoint(lake: Lake, tmp_path: Path) -> None:
    for name in (
        "r@6",
        "r@last",
        "runs/r/step-00000006",
        str(tmp_path / "r" / "step-6"),
        "runs/r/step-00000006/",
    ):
        assert find_checkpoint(lake, name).step == 6, name
    assert find_checkpoint(lake, "@last", "r").step == 6
    for name in ("r@5", "x@1", "runs/x/step-00000001"):
        with pytest.raises(UnknownName):
            find_checkpoint(lake, name)
    for name in ("r", "", "r@", "r@x", "step-x"):
        with pytest.raises(UsageError, match="does not name a checkpoint"):
            find_checkpoint(lake, name)


def test_a_revoked_approval_is_told(lake: Lake) -> None:
    book = lake.table("book").ref

    def record(action: str, number: str, revokes: str | None, at: int) -> None:
        row = {
            "approval_id": number, "action": action, "table": book.name, "version": book.version,
            "content_digest": book.digest, "closure": "[]", "suites": "[]", "dbt_tests": None, "revokes": revokes,
            "who": "ada", "why": "because", "at": BEGAN.replace(day=at),
        }  # fmt: skip
        append(lake, "approvals", [row], {f.name: f.type for f in APPROVALS_SCHEMA})

    assert trace_checkpoint(lake, "r@6").stages[0].packed_approval == {"standing": None, "revoked": None}
    record("approve", "1", None, 2)
    seen = trace_checkpoint(lake, "r@6")
    assert seen.stages[0].packed_approval["standing"]["who"] == "ada" and seen.revoked == ()
    record("revoke", "2", "1", 3)
    seen = trace_checkpoint(lake, "r@6")
    assert seen.stages[0].packed_approval["revoked"]["why"] == "because" and seen.revoked == ("dev.book@1",)


def test_evaluations_up_to_the_step_are_told(lake: Lake) -> None:
    columns = {
        "run_id": pa.string(), "attempt": pa.int64(), "step": pa.int64(), "table": pa.string(),
        "version": pa.int64(), "bits_per_byte": pa.float64(),
    }  # fmt: skip
    rows = [
        {"run_id": "r", "attempt": a, "step": s, "table": t, "version": 1, "bits_per_byte": b}
        for a, s, t, b in [
            (1, 2, "x", 3.0),
            (1, 3, "x", 9.0),
            (2, 4, "x", 2.0),
            (2, 4, "y", 1.0),
            (3, 6, "x", 0.5),
        ]
    ]
    append(lake, "evaluations", rows, columns)
    told = {name: trace_checkpoint(lake, name).evaluations for name in ("r@1", "r@4", "r@6")}
    assert told["r@1"] == ()
    assert [(e["table"], e["bits_per_byte"]) for e in told["r@4"]] == [("x", 2.0), ("y", 1.0)]
    assert [(e["table"], e["bits_per_byte"], e["step"]) for e in told["r@6"]] == [
        ("x", 0.5, 6),
        ("y", 1.0, 4),
    ]


def test_too_many_documents_are_counted_not_listed(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_module, "MAX_IDS", 2)
    seen = trace_checkpoint(lake, "r@6", with_ids=True)
    assert seen.documents == 3 and seen.document_ids is None
