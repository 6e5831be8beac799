"""Stages: what a run consumed and what the next order holds are together everything, to the token."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import DataMismatch, UnknownName, UsageError
from headwater.lake import Lake

pytest.importorskip("tokenizers")

from pack_lake import LENGTH, curate, doc_id, log_run, mix, positions, small_pack, spans, write_base

LENGTHS = {f"{'ab'[i % 2]}{i}": 3 + (i * 37) % 90 for i in range(40)}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(tmp_path / "lake")
    write_base(lake, LENGTHS)
    curate(lake, LENGTHS)
    return lake


def whole(lengths: dict[str, int]) -> Counter[tuple[bytes, int, int]]:
    return Counter((doc_id(n), 0, at) for n, length in lengths.items() for at in range(length + 1))


def taken(found: list[dict[str, Any]], ranges: list[tuple[int, int]]) -> list[dict[str, Any]]:
    return [s for s in found if any(a <= s["sequence_index"] < a + n for a, n in ranges)]


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_consumed_and_remaining_are_everything(data: st.DataObject) -> None:
    """Two stages in a row, other lengths, seeds and methods; documents deleted and added in between."""
    draw = data.draw
    lengths = {f"a{i}": n for i, n in enumerate(draw(st.lists(st.integers(0, 120), min_size=1, max_size=12)))}
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Path(folder) / "lake")
        write_base(lake, lengths)
        curate(lake, lengths)
        small_pack(
            lake,
            sequence_length=draw(st.integers(2, 40)),
            method=draw(st.sampled_from(["chunk", "best-fit"])),
        )
        attempts, step, consumed = [], 0, Counter()
        for stage in (1, 2):
            order = lake.table("sequences")
            count = draw(st.integers(1, 3))
            batch = max(order.num_rows // draw(st.integers(3, 8)), 1)
            steps = [
                (i * batch, batch, draw(st.sampled_from([None, "trained", "skipped"]))) for i in range(count)
            ]
            attempts.append((order, step, steps))
            step += count
            consumed |= positions(taken(spans(lake), [(a, n) for a, n, use in steps if use != "skipped"]))
            log_run(lake, "run", attempts)
            gone = (
                set(draw(st.lists(st.sampled_from(sorted(lengths)), max_size=2)))
                if len(lengths) > 2
                else set()
            )
            new = {f"b{stage}{i}": n for i, n in enumerate(draw(st.lists(st.integers(0, 60), max_size=2)))}
            lengths = {n: v for n, v in lengths.items() if n not in gone} | new
            write_base(lake, lengths)
            curate(lake, lengths)
            report = small_pack(
                lake, after="run", seed=draw(st.integers(0, 5)), sequence_length=draw(st.integers(2, 40)),
                method=draw(st.sampled_from(["chunk", "best-fit"])),
            )  # fmt: skip
            left = positions(spans(lake))
            standing = {doc_id(n) for n in lengths}
            mine = Counter({key: n for key, n in consumed.items() if key[0] in standing})
            assert max(left.values(), default=1) == 1
            assert left + mine == whole(lengths)
            assert report.stage == stage and report.continues["digest"] == order.digest
            assert sum(row.consumed_tokens for row in report.account) == sum(consumed.values())
            assert sum(row.order_tokens for row in report.account) == report.num_tokens == sum(left.values())
            rest = positions(spans(lake, order)) - consumed
            assert sum(r.left_tokens + r.gone_tokens + r.not_drawn_tokens for r in report.account) == sum(
                rest.values()
            )
            assert sum(r.gone_tokens for r in report.account) == sum(
                n for k, n in rest.items() if k[0] not in standing
            )
            assert sum(r.left_tokens for r in report.account) == sum((rest & left).values())


def test_the_account_by_source(lake: Lake) -> None:
    small_pack(lake)
    order = lake.table("sequences")
    log_run(
        lake,
        "run",
        [(order, 0, [(0, 8, None), (8, 8, "skipped"), (16, 8, None), (16, 8, None)])],
        checkpoints=[4],
    )
    before = positions(spans(lake))
    keep = {n: v for n, v in LENGTHS.items() if n not in ("a0", "b1", "a2")} | {"c1": 30, "c2": 20}
    write_base(lake, keep)
    curate(lake, keep)
    report = small_pack(lake, after="run@4")
    assert report.warning is None and report.tokens_changed and report.num_encoded == 2
    rows = {row.source: row for row in report.account}
    consumed = positions(taken(spans(lake, order), [(0, 8), (16, 8)]))
    skipped = positions(taken(spans(lake, order), [(8, 8)]))
    source = {doc_id(n): n[0] for n in {**LENGTHS, **keep}}
    after = positions(spans(lake))
    for name in "abc":

        def of(counts: Counter[Any], name: str = name) -> int:
            return sum(n for key, n in counts.items() if source[key[0]] == name)

        row = rows[name]
        assert row.consumed_tokens == of(consumed) and row.skipped_tokens == of(skipped)
        assert row.consumed_documents == len({k[0] for k in consumed if source[k[0]] == name})
        assert row.repeated_tokens == of(positions(taken(spans(lake, order), [(16, 8)])))
        assert row.left_tokens == of(after & (before - consumed)) and row.order_tokens == of(after)
        assert row.new_tokens == of(after - before) and row.not_drawn_tokens == 0
        assert row.gone_tokens == of(before - consumed - after)
    assert (rows["c"].new_documents, rows["c"].new_tokens) == (2, 52)
    stored = lake.table("stage_accounts").to_arrow().to_pylist()
    assert {r["source"]: r["consumed_tokens"] for r in stored} == {
        s: r.consumed_tokens for s, r in rows.items()
    }
    assert {r["digest"] for r in stored} == {report.sequences_digest} and {r["stage"] for r in stored} == {1}
    assert any("tokens of" in line and "consumed" in line for line in report.lines())
    again = small_pack(lake, after="run@4")
    assert not again.changed and again.account == report.account
    assert lake.table("stage_accounts").num_rows == len(stored)


def test_the_record_of_a_stage(lake: Lake) -> None:
    small_pack(lake, seed=3, hold_out=0.2)
    first = lake.table("sequences")
    held = lake.table("held_out")
    log_run(lake, "run", [(first, 0, [(0, 4, None)] * 3)], checkpoints=[2])
    report = small_pack(lake, after="run", seed=4, sequence_length=24)
    facts = lake.table("sequences").provenance.extra
    assert facts["continues"] == {"run_id": "run", **first.ref.to_dict(), "next_sequence": 4, "step": 2}
    assert (
        facts["stage"] == 1 and facts["hold_out"] == 0.2 and facts["packing_seed"] == 3 and facts["seed"] == 4
    )
    assert first.ref in lake.table("sequences").provenance.inputs
    assert not report.num_encoded and not report.tokens_changed, "nothing is tokenized again"
    assert {s["doc_id"] for s in spans(lake, "held_out")} == {s["doc_id"] for s in spans(lake, held)}
    assert "no checkpoint at step 3 (nearest: 2)" in str(small_pack(lake, after="run@3").warning)


def test_what_a_stage_refuses(lake: Lake, tmp_path: Path) -> None:
    small_pack(lake, hold_out=0.1)
    log_run(lake, "run", [(lake.table("sequences"), 0, [(0, 4, None)])])
    with pytest.raises(UnknownName, match="other"):
        small_pack(lake, after="other")
    with pytest.raises(UnknownName, match="no step 9"):
        small_pack(lake, after="run@9")
    with pytest.raises(UsageError, match="RUN@STEP"):
        small_pack(lake, after="run@x")
    with pytest.raises(UsageError, match=r"held out 0.1"):
        small_pack(lake, after="run", hold_out=0.05)
    curate(lake, LENGTHS, grade=["<|good|>"] * len(LENGTHS))
    with pytest.raises(DataMismatch, match="was trained with tokenizer"):
        small_pack(lake, after="run", control="grade")
    lake.drop("sequences")
    with pytest.raises((UnknownName, DataMismatch)):
        small_pack(lake, after="run")


def test_new_weights_and_caps_count_what_was_consumed(lake: Lake) -> None:
    a, b = ([n for n in LENGTHS if n[0] == s] for s in "ab")
    one = {s: sum(LENGTHS[n] + 1 for n in names) for s, names in (("a", a), ("b", b))}
    mix(lake, {"a": (0.5, 1.5, a), "b": (0.5, 3, b)})
    small_pack(lake, "mix", tokens_total=2 * min(one.values()))
    first = lake.table("sequences")
    rows = first.num_rows
    log_run(lake, "run", [(first, 0, [(0, rows // 2, None)])])
    consumed = positions(taken(spans(lake), [(0, rows // 2)]))
    eaten = Counter(
        s
        for s in "ab"
        for key, n in consumed.items()
        if key[0] in {doc_id(x) for x in LENGTHS if x[0] == s}
        for _ in range(n)
    )
    mix(lake, {"a": (0.25, 1.5, a), "b": (0.75, 3, b)})
    report = small_pack(lake, "mix", after="run")
    left = positions(spans(lake))
    assert not left & consumed and max(left.values()) == 1
    got = report.mixture
    cap = {"a": one["a"] + int(0.5 * one["a"]) - eaten["a"], "b": 3 * one["b"] - eaten["b"]}
    total = min(4 * cap["a"], int(cap["b"] / 0.75))
    assert sum(p["tokens"] for p in got.values()) == total == report.num_tokens
    assert abs(got["a"]["tokens"] - total / 4) < 1 and got["a"]["past_tokens"] == eaten["a"]
    with pytest.raises(UsageError, match=r"part '.' cannot fill its share.*consumed"):
        small_pack(lake, "mix", after="run", tokens_total=total + 8)


def test_forms_and_control_tokens_go_on_as_they_began(lake: Lake) -> None:
    from headwater.tokenizer import load

    grades = ["<|good|>" if i % 2 else None for i in range(len(LENGTHS))]
    curate(lake, LENGTHS, grade=grades)
    first = small_pack(lake, fim_rate=0.6, control="grade", seed=5)
    assert first.num_fim > 5 and first.num_control == 20
    one = lake.table("sequences")
    everything = pieces_of(one)
    log_run(lake, "run", [(one, 0, [(0, one.num_rows // 2, None)])])
    curate(lake, LENGTHS, grade=[None if g else "<|good|>" for g in grades])
    small_pack(lake, after="run", fim_rate=0.6, control="grade", seed=6, sequence_length=10)
    two = lake.table("sequences")
    consumed = {
        key: t
        for key, t in everything.items()
        if key in set(positions(taken(spans(lake, one), [(0, one.num_rows // 2)])))
    }
    begun = {key[0] for key in consumed}
    rest = pieces_of(two)
    for key, token in everything.items():
        if key[0] in begun:
            assert (key in consumed) != (key in rest), "one of both"
            assert consumed.get(key, rest.get(key)) == token
    good = load(lake, first.tokenizer_id).special_id("<|good|>")
    fresh = {key[0]: token for key, token in rest.items() if key[2] == 0 and key[0] not in begun}
    assert {i for i, token in fresh.items() if token == good} == {
        doc_id(n) for n, g in zip(LENGTHS, grades, strict=True) if not g
    } & set(fresh)


def pieces_of(table: Any) -> dict[tuple[bytes, int, int], int]:
    """The token at every position of every closed document in an order."""
    found = {}
    for row in table.to_arrow().to_pylist():
        at = 0
        for s in row["spans"]:
            for i in range(s["length"]):
                found[s["doc_id"], s["epoch"], s["start"] + i] = row["tokens"][at + i]
            at += s["length"]
    return found


def test_a_stage_over_nothing_left_is_empty(lake: Lake) -> None:
    small_pack(lake)
    order = lake.table("sequences")
    log_run(lake, "run", [(order, 0, [(0, order.num_rows, None)])])
    report = small_pack(lake, after="run")
    assert (report.num_sequences, report.num_tokens) == (0, 0) and LENGTH == 16
    assert sum(row.consumed_tokens for row in report.account) == sum(n + 1 for n in LENGTHS.values())
