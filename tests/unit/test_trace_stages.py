"""Stages, skipped and repeated batches, passes and forms; replay costs; takedowns; orders by name."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trace_lake import LENGTH, doc, log_attempt, make, steps, write_order

from headwater.errors import BadInput, DataMismatch, UsageError
from headwater.lake import Lake, Provenance
from headwater.trace import step_documents, trace_checkpoint, trace_document, trace_documents, trace_step
from headwater.trace.checkpoint import intervals
from headwater.trace.orders import exposures_of_order, flat_spans
from headwater.trace.selection import ids_where, read_ids

NAMES = ["a", "b", "c", "w1", "w2"]


def whole(name: str, epoch: int = 0, form: int = 0) -> list[tuple]:
    return [(name, 0, LENGTH, epoch, form)]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return make(tmp_path / "lake", NAMES)


def test_each_stage_is_read_from_its_own_table(lake: Lake) -> None:
    first = write_order(lake, [whole(n) for n in ["a", "b", "a", "b"]])
    log_attempt(lake, first, 1, 0, steps(1, 3), (2, 3))
    second = write_order(lake, [whole(n) for n in ["w1", "a", "w2"]])
    log_attempt(lake, second, 2, 3, steps(4, 6), (5, 6))
    assert (first.version, second.version) != (second.version, first.version)
    assert [trace_step(lake, s).documents["doc_id"][0].as_py() for s in range(1, 7)] == [
        doc(n).hex() for n in ["a", "b", "a", "w1", "a", "w2"]
    ]
    assert [trace_step(lake, s).table for s in (3, 4)] == [str(first.ref), str(second.ref)]
    (run,) = trace_document(lake, doc("a").hex()).runs
    assert run.steps == (1, 3, 5) and run.tables == (str(first.ref), str(second.ref))
    assert (run.epochs, run.tokens, run.last_clean_checkpoint) == (2, 3 * LENGTH, None)
    (run,) = trace_document(lake, doc("w2").hex()).runs
    assert run.steps == (6,) and run.last_clean_checkpoint == (5, "r/step-00000005")
    assert run.checkpoints_that_saw_it == ((6, "r/step-00000006"),)


def test_a_packed_mixture_with_a_later_stage_adds_up(tmp_path: Path) -> None:
    """The real packer: passes, fill-in-the-middle and a stage over what the first had not consumed."""
    pytest.importorskip("tokenizers")
    from headwater.sequences import pack

    names = [f"d{i}" for i in range(40)]
    words = np.random.default_rng(3).integers(0, 50, (40, 50))
    texts = {
        n: " ".join(f"w{w}" for w in row[: 20 + i % 30])
        for i, (n, row) in enumerate(zip(names, words, strict=True))
    }
    lake = make(tmp_path / "lake", names, texts)
    half = len(names) // 2
    columns = {
        "doc_id": pa.array([doc(n) for n in names], pa.binary(16)),
        "part": pa.array(["x"] * half + ["y"] * half),
        "share": pa.array([0.6] * half + [0.4] * half),
        "max_epochs": pa.array([3.0] * half + [1.0] * half),
        "fim_rate": pa.array([0.8] * half + [0.0] * half, pa.float32()),
    }
    lake.write(
        "mix", pa.table(columns), provenance=Provenance(kind="model", inputs=(lake.table("book").ref,))
    )
    asked = {"vocab_size": 300, "require_approved": False, "name": "mixed"}
    pack(lake, "mix", sequence_length=32, **asked)
    log_attempt(lake, lake.table("mixed"), 1, 0, steps(1, 6, size=4), (3, 6))
    pack(lake, "mix", sequence_length=64, after="r@3", **asked)
    later = lake.table("mixed")
    log_attempt(lake, later, 2, 3, steps(4, 3 + later.num_rows // 2, size=2), (3 + later.num_rows // 2,))
    seen = trace_checkpoint(lake, "r@last", with_ids=True)
    assert len(seen.stages) == 2 and seen.documents == len(names)
    assert set(seen.tokens_by_source) == {"x", "y"} and set(seen.tokens_by_form) == {"plain", "PSM", "SPM"}
    assert max(seen.tokens_by_epoch) >= 1
    exposed = [trace_document(lake, each).runs[0] for each in seen.document_ids]
    assert sum(run.tokens for run in exposed) == seen.tokens
    # Part y passes at most once; a document that both stages share is still on its first pass.
    last_y = {doc(n).hex() for n in names[half:]}
    by_id = dict(zip(seen.document_ids, exposed, strict=True))
    assert all(by_id[each].epochs == 1 for each in last_y)
    assert any(run.epochs > 1 for run in exposed)
    assert any(run.steps[0] <= 3 < run.steps[-1] for each, run in by_id.items() if each in last_y)


def test_a_stage_that_is_gone_makes_its_run_untraceable(lake: Lake) -> None:
    log_attempt(lake, write_order(lake, [whole("a")] * 3), 1, 0, steps(1, 2))
    lake.drop("sequences")
    log_attempt(lake, write_order(lake, [whole("b")] * 3), 2, 2, steps(3, 4))
    assert trace_document(lake, doc("b").hex()).untraceable == ("r",)
    with pytest.raises(DataMismatch, match="the lake holds"):
        trace_document(lake, doc("b").hex(), "r")


def test_a_skipped_step_exposes_nothing(lake: Lake) -> None:
    order = write_order(lake, [whole(n) for n in ["a", "b", "c"]])
    log_attempt(lake, order, 1, 0, [(1, 0, 1, None), (2, 1, 1, "skipped"), (3, 2, 1, "trained")], (3,))
    (run,) = trace_document(lake, doc("b").hex()).runs
    assert run.steps == () and run.replay is None and run.last_step == 3
    assert run.last_clean_checkpoint == (3, "r/step-00000003") and run.epochs == 0
    assert (trace_step(lake, 2).use, trace_step(lake, 3).use) == ("skipped", "trained")
    assert trace_step(lake, 2).rows[0]["doc_id"] == doc("b").hex()


def test_a_repeated_batch_counts_each_time(lake: Lake) -> None:
    order = write_order(lake, [whole(n) for n in ["a", "b", "c", "a"]])
    log_attempt(lake, order, 1, 0, [(1, 0, 2, "trained"), (2, 1, 2, "trained"), (3, 1, 3, "trained")])
    (run,) = trace_document(lake, doc("b").hex()).runs
    assert run.steps == (1, 2, 3) and run.tokens == 3 * LENGTH and run.epochs == 1
    assert trace_document(lake, doc("a").hex()).runs[0].steps == (1, 3)


def test_passes_and_forms_are_told(lake: Lake) -> None:
    half = LENGTH // 2
    order = write_order(
        lake, [[("a", 0, half, 0, 0), ("b", 0, half, 0, 1)], [("a", 0, half, 1, 2), ("a", half, half, 1, 2)]]
    )
    log_attempt(lake, order, 1, 0, steps(1, 2))
    (run,) = trace_document(lake, doc("a").hex()).runs
    assert (run.epochs, run.forms, run.tokens) == (2, ("plain", "SPM"), half + LENGTH)
    assert [(r["epoch"], r["form"]) for r in trace_step(lake, 1).rows] == [(0, "plain"), (0, "PSM")]
    assert {(r["epoch"], r["form"]) for r in step_documents(lake, "r", 2)} == {(1, "SPM")}


def test_spans_of_an_older_packing_are_read(lake: Lake) -> None:
    order = write_order(lake, [whole("a"), whole("b")], old=True)
    log_attempt(lake, order, 1, 0, steps(1, 2))
    assert [(r["epoch"], r["form"]) for r in trace_step(lake, 1).rows] == [(0, "plain")]
    assert trace_document(lake, doc("b").hex()).runs[0].epochs == 1


def test_an_order_of_another_name_has_its_own_exposures(lake: Lake) -> None:
    write_order(lake, [whole("a")] * 2)
    other = write_order(lake, [whole("c"), whole("b")], name="long")
    assert exposures_of_order(lake, other).name == "dev.long_exposures"
    log_attempt(lake, other, 1, 0, steps(1, 2))
    assert trace_document(lake, doc("c").hex()).runs[0].steps == (1,)
    lake.drop("long_exposures")  # then the spans themselves are searched
    assert trace_document(lake, doc("c").hex()).runs[0].steps == (1,)


def test_the_cost_of_a_replay(lake: Lake, tmp_path: Path) -> None:
    order = write_order(lake, [whole(n) for n in ["a", "b", "c", "w1", "w2", "a"]])
    log_attempt(lake, order, 1, 0, steps(1, 3), (2,), world_size=2, speed=16.0)
    log_attempt(lake, order, 2, 3, steps(4, 6, skip=3), (4, 6), world_size=4, speed=8.0)
    (run,) = trace_document(lake, doc("c").hex(), runs_folder=tmp_path / "runs").runs
    cost = run.replay
    assert cost is not None and (cost.from_step, cost.to_step, cost.steps, cost.tokens) == (
        2,
        6,
        4,
        4 * LENGTH,
    )
    # One second of step 3 on 2 processes; two seconds each of steps 4 to 6 on 4.
    assert cost.seconds == pytest.approx(7) and cost.device_hours == pytest.approx((2 + 24) / 3600)
    assert cost.checkpoint == "r/step-00000002" and cost.checkpoint_exists is None
    (tmp_path / "runs" / "r").mkdir(parents=True)
    (run,) = trace_document(lake, doc("c").hex(), runs_folder=tmp_path / "runs").runs
    assert run.replay is not None and run.replay.checkpoint_exists is False
    (run,) = trace_document(lake, doc("a").hex()).runs
    assert run.replay is not None and (run.replay.from_step, run.replay.steps) == (0, 6)


def test_a_replay_without_a_logged_speed_has_no_time(lake: Lake) -> None:
    log_attempt(lake, write_order(lake, [whole("a")]), 1, 0, steps(1, 1), speed=None)
    cost = trace_document(lake, doc("a").hex()).runs[0].replay
    assert cost is not None and (cost.steps, cost.seconds, cost.device_hours) == (1, None, None)


def test_a_takedown_names_checkpoints_for_the_whole_set(lake: Lake) -> None:
    order = write_order(lake, [whole(n) for n in ["a", "b", "w1", "c", "w2", "w1"]])
    log_attempt(lake, order, 1, 0, steps(1, 6), (2, 4, 6))
    ids = ids_where(lake, order, "source = 'web'")
    assert sorted(ids.to_pylist()) == sorted([doc("w1"), doc("w2")])
    found = trace_documents(lake, pa.array(sorted([*ids.to_pylist(), doc("nowhere")]), pa.binary(16)))
    assert (found.asked, found.packed, found.not_packed) == (3, 2, (doc("nowhere").hex(),))
    (run,) = found.runs
    assert run.steps == (3, 5, 6) and (run.documents, run.tokens) == (2, 3 * LENGTH)
    assert [(s, n) for s, _, n in run.checkpoints] == [(2, 0), (4, 1), (6, 2)]
    assert run.last_clean_checkpoint == (2, "r/step-00000002")
    assert [s for s, _ in run.checkpoints_that_saw_any] == [4, 6]
    assert run.replay is not None and run.replay.steps == 4
    assert [(e["path"], e["first_step"], e["last_step"], e["num_steps"]) for e in run.exposures] == [
        ("w1.txt", 3, 6, 2),
        ("w2.txt", 5, 5, 1),
    ]
    json.dumps(found.to_json())


def test_where_sees_columns_of_the_text_table_but_not_files(lake: Lake, tmp_path: Path) -> None:
    order = write_order(lake, [whole("a")])
    assert ids_where(lake, order, "path = 'b.txt' -- and a comment").to_pylist() == [doc("b")]
    assert len(ids_where(lake, order, "words > 0")) == len(NAMES)
    for bad in ("text like '%a%'", "nope", "1 = ", f"path in (select * from read_text('{tmp_path}/x'))"):
        with pytest.raises(UsageError, match="--where cannot be run"):
            ids_where(lake, order, bad)


def test_a_file_of_ids(tmp_path: Path) -> None:
    file = tmp_path / "ids"
    file.write_text(f"# takedown 7\n{doc('a').hex()}\n\n  {doc('b').hex().upper()} \n{doc('a').hex()}\n")
    assert read_ids(file).to_pylist() == sorted([doc("a"), doc("b")])
    for text, match in (
        ("abc\n", ":1: 'abc' is not"),
        ("# no\n", "holds no document"),
        (f"{'0' * 33}\n", "not a"),
    ):
        file.write_text(text)
        with pytest.raises(BadInput, match=match):
            read_ids(file)
    file.write_bytes(b"\xff\xfe\n")
    with pytest.raises(BadInput, match="UTF-8"):
        read_ids(file)
    with pytest.raises(BadInput, match="cannot read"):
        read_ids(tmp_path / "none")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 8)), max_size=12))
def test_intervals_count_every_place_as_often_as_it_was_read(parts: list[tuple[int, int]]) -> None:
    firsts = np.array([a for a, _ in parts], np.int64)
    stops = firsts + np.array([n for _, n in parts], np.int64)
    want = [int(((firsts <= i) & (i < stops)).sum()) for i in range(40)]
    got = [0] * 40
    found = list(intervals(firsts, stops))
    for first, stop, times in found:
        assert first < stop and times > 0
        for i in range(first, stop):
            got[i] += times
    assert got == want
    assert all(a[1] <= b[0] and (a[1] < b[0] or a[2] != b[2]) for a, b in itertools.pairwise(found))


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_the_join_agrees_with_counting_by_hand(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = data.draw(
        st.lists(
            st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True), min_size=1, max_size=10
        )
    )
    ranges = data.draw(
        st.lists(st.tuples(st.integers(0, len(rows) - 1), st.integers(1, 3)), min_size=1, max_size=6)
    )
    uses = data.draw(st.lists(st.sampled_from(["trained", "skipped", None]), min_size=6, max_size=6))
    lake = make(tmp_path_factory.mktemp("join") / "lake", NAMES)
    order = write_order(lake, [[(n, 0, 5, 0, 0) for n in row] for row in rows])
    logged = [(i + 1, f, min(n, len(rows) - f), uses[i]) for i, (f, n) in enumerate(ranges)]
    log_attempt(lake, order, 1, 0, logged)
    for name in {n for row in rows for n in row}:
        want = tuple(
            s for s, f, n, use in logged if use != "skipped" and any(name in row for row in rows[f : f + n])
        )
        tokens = sum(
            5
            for s, f, n, use in logged
            if use != "skipped"
            for row in rows[f : f + n]
            for each in row
            if each == name
        )
        (run,) = trace_document(lake, doc(name).hex()).runs
        assert (run.steps, run.tokens) == (want, tokens)
    assert sum(batch.num_rows for batch in flat_spans(order)) == sum(map(len, rows))
