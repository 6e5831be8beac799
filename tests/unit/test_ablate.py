"""Ablations without training: families, arms, what is held out, orders, questions, measures, words, plots."""

from __future__ import annotations

import json
import math
import statistics
import time
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from headwater.ablate import arms as arms_module
from headwater.ablate import experiment, orders
from headwater.ablate.arms import ask, hold_out, write_arms
from headwater.ablate.clock import Clock
from headwater.ablate.families import families_of
from headwater.ablate.measures import measures_of
from headwater.ablate.orders import pack_arm, work_lake
from headwater.ablate.page import interval_chart, render, write_page
from headwater.ablate.questions import make_questions
from headwater.ablate.results import finished, outcome, record, record_results
from headwater.ablate.score import windows
from headwater.ablate.settings import Settings
from headwater.ablate.statistics import _t, paired, t_interval
from headwater.ablate.training import Run, Trainer, TrainingFailed, train, write_recipe
from headwater.ablate.words import same_and_different
from headwater.errors import DataMismatch, UnknownName, UsageError
from headwater.lake import Lake, Provenance

RULES = {
    "permissive_license": ["license_tier"],
    "long_enough": ["num_words"],
    "no_secrets": ["num_secrets"],
    "unique": ["cluster_id", "num_words"],
}
NUM = 400
CLUSTER = 4
"""Documents 0 to 3, 4 to 7, … are near-duplicates."""


def _ids() -> list[bytes]:
    return [xxhash.xxh3_128_digest(f"document {i}".encode()) for i in range(NUM)]


def _verdict(i: int) -> dict[str, bool | None]:
    """Each rule's answer on document i; the survivor of a cluster is its first document that passes the rest."""
    plain: dict[str, bool | None] = {
        "permissive_license": i % 10 != 3,
        "long_enough": None if i % 50 == 7 else i % 7 != 2,
        "no_secrets": i % 23 != 5,
    }
    if not all(plain.values()):
        return {**plain, "unique": True}
    start = i - i % CLUSTER
    first = next(j for j in range(start, start + CLUSTER) if all(list(_verdict_plain(j).values())))
    return {**plain, "unique": i == first}


def _verdict_plain(i: int) -> dict[str, bool | None]:
    return {
        "permissive_license": i % 10 != 3,
        "long_enough": None if i % 50 == 7 else i % 7 != 2,
        "no_secrets": i % 23 != 5,
    }


def _text(i: int) -> str:
    body = "\n".join(f"    value_{j} = argument + {(i * j) % 91}" for j in range(3 + i % 9))
    return f'"""Module {i}."""\n\n\ndef function_{i}(argument):\n{body}\n    return value_0\n'


@pytest.fixture
def lake(tmp_path):
    """Documents, clusters, and a curated table with its rules and decisions, as a build leaves them."""
    lake = Lake(tmp_path / "lake")
    ids = _ids()
    texts = [_text(i) for i in range(NUM)]
    raw = lake.write("raw.documents", pa.table({
        "doc_id": pa.array(ids, pa.binary(16)), "text": pa.array(texts, pa.large_string()),
        "source": ["stdlib" if i % 5 == 0 else "pypi:made" for i in range(NUM)],
        "text_bytes": pa.array([len(t) for t in texts], pa.int64()),
    })).ref  # fmt: skip
    lake.index("raw.documents", "doc_id")
    raw = lake.table("raw.documents").ref
    clusters = lake.write("duplicate_clusters", pa.table({
        "doc_id": pa.array(ids, pa.binary(16)), "cluster_id": pa.array([ids[i - i % CLUSTER] for i in range(NUM)], pa.binary(16)),
    })).ref  # fmt: skip
    verdicts = [_verdict(i) for i in range(NUM)]
    kept = [i for i in range(NUM) if all(verdicts[i].values())]
    dropped = [i for i in range(NUM) if i not in set(kept)]
    rules = [
        {"build_id": "b", "table": "book", "rule": rule, "expression": rule, "description": "", "on_null": "",
         "max_unknown": None, "columns": columns, "num_failed": 0, "num_unknown": 0}
        for rule, columns in RULES.items()
    ]  # fmt: skip
    lake.write("rules", pa.Table.from_pylist(rules, pa.schema({
        "build_id": pa.string(), "table": pa.string(), "rule": pa.string(), "expression": pa.string(),
        "description": pa.string(), "on_null": pa.string(), "max_unknown": pa.float64(),
        "columns": pa.list_(pa.string()), "num_failed": pa.int64(), "num_unknown": pa.int64(),
    })))  # fmt: skip
    lists = pa.list_(pa.string())
    lake.write("decisions", pa.table({
        "build_id": ["b"] * len(dropped), "table": ["book"] * len(dropped),
        "doc_id": pa.array([ids[i] for i in dropped], pa.binary(16)),
        "failed": pa.array([[r for r in RULES if verdicts[i][r] is False] for i in dropped], lists),
        "unknown": pa.array([[r for r in RULES if verdicts[i][r] is None] for i in dropped], lists),
    }))  # fmt: skip
    extra = {
        "candidates": "raw.documents",
        "decisions": {"build_id": "b", "count": len(dropped), "digest": ""},
    }
    lake.write(
        "book",
        pa.table({"doc_id": pa.array([ids[i] for i in kept], pa.binary(16))}),
        provenance=Provenance(kind="model", build_id="b", inputs=(raw, clusters), extra=extra),
    )
    return lake


def _members(table) -> set[bytes]:
    return set(table.to_arrow(["doc_id"])["doc_id"].to_pylist())


def _made(lake, *names, ladder=False, share=0.1, sources=()):
    asked = ask(lake, names, ladder=ladder)
    held_out = hold_out(work_lake(lake), asked, share=share, sources=sources)
    return asked, held_out, write_arms(work_lake(lake), asked, held_out)


def test_families_go_by_the_columns_of_their_rules():
    found = families_of(RULES)
    assert [(f.name, f.rules) for f in found] == [
        ("licenses", ("permissive_license",)), ("quality", ("long_enough",)), ("personal_data", ("no_secrets",)),
        ("duplicates", ("unique",)),
    ]  # fmt: skip


def test_duplicates_come_last_whatever_is_asked():
    found = families_of(RULES, {"copies": ["unique"], "size": ["long_enough"]})
    assert [f.name for f in found] == ["size", "licenses", "personal_data", "copies"]
    with pytest.raises(UnknownName, match="no_such"):
        families_of(RULES, {"size": ["no_such"]})
    with pytest.raises(UsageError, match="two families"):
        families_of(RULES, {"a": ["unique"], "b": ["unique"]})


def test_the_ladder_adds_one_family_after_the_other(lake):
    asked, held_out, arms = _made(lake, "raw", "book", ladder=True)
    held = _members(held_out.table)
    ids = _ids()
    assert [arm.name for arm in arms] == ["raw", "+licenses", "+quality", "+personal_data", "+duplicates"]
    assert [arm.added for arm in arms][1:] == [(r,) for r in RULES]
    so_far: list[str] = []
    for arm in arms:
        so_far += arm.added
        passing = {ids[i] for i in range(NUM) if all(_verdict(i)[rule] for rule in so_far)}
        assert _members(arm.table) == passing - held
        assert arm.num_documents == len(passing - held)
    assert _members(arms[-1].table) == _members(lake.table("book")) - held
    assert asked.base.name == "raw.documents" and arms[0].text_bytes > arms[-1].text_bytes


def test_arms_share_no_cluster_with_what_is_held_out(lake):
    _, held_out, arms = _made(lake, "raw", "book", ladder=True, sources=("stdlib",))
    clusters = dict(
        zip(
            *(lake.table("duplicate_clusters").to_arrow()[c].to_pylist() for c in ("doc_id", "cluster_id")),
            strict=True,
        )
    )
    held = {clusters[d] for d in _members(held_out.table)}
    assert held and all(held.isdisjoint(clusters[d] for d in _members(arm.table)) for arm in arms)
    rows = {r["doc_id"]: r["sets"] for r in held_out.table.to_arrow().to_pylist()}
    kept = _members(lake.table("book"))
    for doc_id, sets in rows.items():
        assert "raw" in sets and ("book" in sets) == (doc_id in kept) == ("dropped" not in sets)
        assert ("stdlib" in sets) == (_ids().index(doc_id) % 5 == 0)
    assert held_out.counts["raw"] == len(rows) == held_out.counts["book"] + held_out.counts["dropped"]


def test_the_same_question_writes_nothing_anew(lake):
    _, first, arms = _made(lake, "raw", "book")
    _, again, same = _made(lake, "raw", "book")
    assert again.table.ref == first.table.ref
    assert [arm.table.ref for arm in same] == [arm.table.ref for arm in arms]


def test_two_tables_without_rules_compare_over_their_common_base(lake):
    ids = _ids()
    base = lake.table("raw.documents").ref
    for name, part in (("odd", ids[1::2]), ("even", ids[::2])):
        made = Provenance(kind="model", inputs=(base,), extra={"candidates": "raw.documents"})
        lake.write(name, pa.table({"doc_id": pa.array(part, pa.binary(16))}), provenance=made)
    asked, held_out, arms = _made(lake, "odd", "even")
    assert asked.curated is None and [arm.name for arm in arms] == ["odd", "even"]
    assert set(held_out.counts) == {"raw", "odd", "even"}


def test_what_does_not_compare_is_refused(lake):
    for names, ladder in (
        (("raw",), False),
        (("book",), False),
        (("book", "book"), False),
        (("raw", "documents"), True),
    ):
        with pytest.raises(UsageError):
            ask(lake, names, ladder=ladder)
    with pytest.raises(UnknownName):
        ask(lake, ("raw", "no_such"))
    asked = ask(lake, ("raw", "book"))
    with pytest.raises(UsageError, match="held-out share"):
        hold_out(work_lake(lake), asked, share=0.9, sources=())
    with pytest.raises(UsageError, match="no_such"):
        hold_out(work_lake(lake), asked, share=0.1, sources=("no_such",))


def test_decisions_that_do_not_make_the_table_are_refused(lake):
    table = lake.table("book")
    fewer = table.to_arrow().slice(0, table.num_rows - 30)
    lake.write("book", fewer, provenance=table.provenance)
    with pytest.raises(DataMismatch, match="does not hold"):
        _made(lake, "raw", "book", ladder=True)


def test_orders_have_the_same_tokens_and_a_small_arm_is_repeated(lake, monkeypatch):
    monkeypatch.setattr(orders, "WINDOW_TOKENS", 4_000)
    _, _, arms = _made(lake, "raw", "book")
    work = work_lake(lake)
    settings = Settings(sequence_length=32, vocab_size=300)
    first = pack_arm(work, arms[0], settings, 0, 2_048, None)
    other = pack_arm(work, arms[1], settings, 0, 2_048, first.tokenizer_id)
    seed = pack_arm(work, arms[1], settings, 1, 2_048, first.tokenizer_id)
    for order in (first, other, seed):
        assert order.tokenizer_id == first.tokenizer_id and order.distinct_tokens is None
        assert work.table(order.name).num_rows * 32 >= 2_048
    assert seed.digest != other.digest
    assert pack_arm(work, arms[1], settings, 0, 2_048, first.tokenizer_id) == other
    assert not lake.exists("dev.tokens")
    few = lake.table("ablation.ablate_book").to_arrow(["doc_id"]).slice(0, 5)
    work.write("ablate_few", few, provenance=arms[1].table.provenance)
    small = replace(arms[1], table=work.table("ablate_few"))
    order = pack_arm(work, small, settings, 0, 4_096, first.tokenizer_id)
    packed = work.table(order.name)
    assert 0 < order.distinct_tokens < 2_000
    assert packed.provenance.extra["num_tokens"] == 4_096 == packed.num_rows * 32
    counts = {}
    for spans in packed.to_arrow(["spans"])["spans"].to_pylist():
        for span in spans:
            counts[span["doc_id"]] = counts.get(span["doc_id"], 0) + span["length"]
    assert len(counts) == 5 and sum(counts.values()) == 4_096


def test_questions_are_asked_of_held_out_documents_only(lake, monkeypatch):
    monkeypatch.setattr(orders, "WINDOW_TOKENS", 4_000)
    asked, held_out, arms = _made(lake, "raw", "book", share=0.2)
    work = work_lake(lake)
    order = pack_arm(work, arms[0], Settings(sequence_length=64, vocab_size=300), 0, 2_048, None)
    from headwater.tokenizer import load

    encoder = load(work, order.tokenizer_id)
    made = [
        make_questions(held_out, asked.base, encoder, sequence_length=512, set_bytes=3_000, num_pairs=24)
        for _ in range(2)
    ]
    first = made[0]
    assert first.digest == made[1].digest
    held = _members(held_out.table)
    assert set(first.texts["doc_id"].to_pylist()) | set(first.pairs["doc_id"].to_pylist()) <= held
    assert all(3_000 <= n < 3_000 + 8_192 for n in first.set_bytes.values()), first.set_bytes
    texts = dict(zip(_ids(), [_text(i) for i in range(NUM)], strict=True))
    for row in first.texts.to_pylist():
        whole = encoder.decode(row["tokens"])
        assert whole == texts[row["doc_id"]]
        assert row["text_bytes"] == len(encoder.decode(row["tokens"][1:]).encode())
    for row in first.pairs.to_pylist():
        shared = row["shared"]
        assert row["real"][:shared] == row["mutant"][:shared] and row["real"][shared] != row["mutant"][shared]
    shorter = make_questions(
        held_out, asked.base, encoder, sequence_length=512, set_bytes=1_000, num_pairs=24
    )
    assert shorter.digest != first.digest


@given(st.integers(0, 500), st.integers(2, 64))
def test_windows_predict_every_token_but_the_first_once(length, window):
    seen = [position for a, b in windows(length, window) for position in range(a + 1, b)]
    assert seen == list(range(1, length))
    assert all(b - a <= window for a, b in windows(length, window))


def test_measures_weigh_by_bytes_and_halve_ties():
    texts = pa.table({"sets": [["raw"], ["raw", "book"]], "text_bytes": [10, 30]})
    pairs = pa.table({"kind": ["colon", "colon", "name"]})
    questions = types.SimpleNamespace(texts=texts, pairs=pairs)
    rows = measures_of(questions, {"nats": [10.0, 15.0], "real": [1.0, 2.0, 3.0], "mutant": [2.0, 2.0, 1.0]})
    found = {(r["measure"], r["part"]): (r["value"], r["count"]) for r in rows}
    assert found["bits_per_byte", "raw"] == (pytest.approx(25 / math.log(2) / 40), 40)
    assert found["bits_per_byte", "book"] == (pytest.approx(15 / math.log(2) / 30), 30)
    assert found["accuracy", "colon"] == (0.75, 2) and found["accuracy", "name"] == (0.0, 1)
    assert found["accuracy", "minimal pairs"] == (0.5, 3)


def test_intervals_are_students():
    """NIST's example values, and the mean of three."""
    assert t_interval([2.0]).half_width is None
    three = t_interval([1.0, 2.0, 3.0])
    assert three.mean == 2 and three.half_width == pytest.approx(4.303 / math.sqrt(3))
    assert _t(31) == pytest.approx(2.0395, abs=1e-3) and _t(100) == pytest.approx(1.984, abs=1e-3)
    with pytest.raises(ValueError, match="no values"):
        t_interval([])


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=8))
def test_a_paired_difference_forgets_what_the_seeds_share(shared):
    first = dict(enumerate(shared))
    second = {i: value + 0.5 for i, value in enumerate(shared)}
    found = paired(first, second)
    assert found.n == len(shared) and found.mean == pytest.approx(0.5)
    assert found.half_width == pytest.approx(0, abs=1e-6)
    assert paired(first, {99: 1.0}) is None


def test_ninety_five_percent_intervals_hold_the_truth_that_often():
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(2_000):
        found = t_interval(list(rng.normal(1.0, 2.0, 3)))
        hits += abs(found.mean - 1.0) <= found.half_width
    assert 0.93 < hits / 2_000 < 0.97


ROW = {
    "ablation_id": "abc123", "seeds": [0, 1], "base": "raw.documents@1 d", "curated": "dev.book@1 d",
    "held_out": "ablation.ablate_held_out@1 d", "clusters": None, "tokenizer_id": "f" * 32,
    "tokenizer_from": "ablation.ablate_raw@1", "sequence_length": 64, "tokens": 1_000, "steps": 10,
    "recipe": "tiny", "config": "{}", "parameters": 5_000, "chars_per_token": 2.0,
    "set_bytes": json.dumps({"raw": 100}), "pairs": json.dumps({"colon": 4}),
    "arms": [
        {"arm": "raw", "digest": "r", "documents": 20, "text_bytes": 4_000, "rules": []},
        {"arm": "+<b>", "digest": "c", "documents": 10, "text_bytes": 1_000, "rules": ["long_enough"]},
    ],
}  # fmt: skip


def _results(arm: str, digest: str, seed: int, value: float, distinct: int | None = None) -> list[dict]:
    return [
        {"ablation_id": "abc123", "arm": arm, "arm_digest": digest, "seed": seed, "run_id": "x", "table": "t",
         "version": 1, "digest": "d", "tokens": 1_000, "distinct_tokens": distinct, "tokens_per_second": 5.0,
         "measure": measure, "part": part, "value": value, "count": 4}
        for measure, part in (("bits_per_byte", "raw"), ("accuracy", "minimal pairs"), ("accuracy", "colon"))
    ]  # fmt: skip


def test_results_are_kept_and_summarized(tmp_path):
    lake = Lake(tmp_path / "lake")
    with pytest.raises(UsageError, match="no ablation"):
        outcome(lake)
    record(lake, ROW)
    record(lake, ROW)
    assert lake.table("ablations").num_rows == 1
    assert outcome(lake).missing == 4 and finished(lake, "abc123") == set()
    for seed, low in ((0, 0.5), (1, 0.6)):
        record_results(lake, _results("raw", "r", seed, low))
    record_results(lake, _results("+<b>", "c", 0, 0.7, distinct=400))
    assert finished(lake, "abc123") == {("r", 0), ("r", 1), ("c", 0)}
    assert outcome(lake).missing == 1
    record_results(lake, _results("+<b>", "c", 1, 0.8, distinct=400))
    record_results(lake, _results("+<b>", "c", 1, 0.9, distinct=400))  # measured twice: the last one counts
    found = outcome(lake, "abc")
    assert found.missing == 0 and [m.part for m in found.measures] == ["raw", "minimal pairs", "colon"]
    raw, curated = found.measures[0].arms
    assert raw.value.mean == pytest.approx(0.55) and raw.difference is None
    assert (
        curated.difference.mean == pytest.approx(statistics.fmean([0.2, 0.3])) and curated.difference.n == 2
    )
    assert [arm.repeated for arm in found.arms] == [False, True]
    assert found.arms[0].epochs == pytest.approx(1_000 / 2_000) and found.arms[1].epochs == 2.5
    json.dumps(found.to_json(), default=str)
    with pytest.raises(UnknownName):
        outcome(lake, "zzz")


def test_words_and_plots_say_what_was_repeated_and_escape_names(tmp_path):
    lake = Lake(tmp_path / "lake")
    record(lake, ROW)
    for seed in (0, 1):
        record_results(lake, _results("raw", "r", seed, 0.5 + seed / 10))
        record_results(lake, _results("+<b>", "c", seed, 0.7, distinct=400))
    found = outcome(lake)
    said = " ".join(same_and_different(found))
    assert "2.5 times" in said and "5,000 parameters" in said and "Single documents" in said
    page = render(found)
    assert "+&lt;b&gt;" in page and "+<b>" not in page and page.count("<svg") == 3
    assert "<script" not in page and "default-src" in page
    assert write_page(found, tmp_path / "plots" / "page.html").read_text() == page
    assert "aria-label" in interval_chart(found.measures[0])
    assert " *)" not in page


def test_the_page_stars_a_difference_whose_interval_excludes_zero(tmp_path):
    lake = Lake(tmp_path / "lake")
    record(lake, ROW)
    for seed in (0, 1):
        record_results(lake, _results("raw", "r", seed, 0.5 + seed / 10))
        record_results(lake, _results("+licenses", "c", seed, 0.7 + seed / 10))
    assert "(+0.2000 ± 0.0000 *)" in interval_chart(outcome(lake).measures[0])


def test_the_clock_says_how_long_it_will_take(tmp_path):
    lines: list[str] = []
    clock = Clock(2, 1_000, lines.append)
    job = Run(arm="raw", seed=0, folder=tmp_path, table="t", version=1, name="a", max_steps=10)
    clock.advance("a", 5)
    clock.finish(
        job, {("bits_per_byte", "raw"): 1.5, ("accuracy", "minimal pairs"): 0.6, ("accuracy", "colon"): 0.1}
    )
    assert (
        lines[0].startswith("1 of 2: raw seed 0: raw 1.5000, minimal pairs 60.0 %;")
        and "min left" in lines[0]
    )


def test_a_recipe_differs_from_its_base_in_seed_and_steps_only(tmp_path):
    import subprocess
    import sys
    from pathlib import Path

    trainer = Path(__file__).parents[2] / "trainer"
    job = Run(arm="raw", seed=7, folder=tmp_path, table="t", version=1, name="ablate_raw_s7", max_steps=123)
    name = write_recipe(job, "ablation_1m", warmup_steps=6)
    code = (
        "import sys, json; sys.path.insert(0, sys.argv[1]); from recipe import find_recipe\n"
        "a, b = (find_recipe(n).to_json() for n in sys.argv[2:]); print(json.dumps({k: b[k] for k in b if a[k] != b[k]}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(trainer), "ablation_1m", name],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == {
        "seed": 7, "max_steps": 123, "warmup_steps": 6, "checkpoint_every": 123, "keep_checkpoints": 1,
    }  # fmt: skip


def test_the_held_out_hash_is_its_own():
    assert arms_module.HELD_OUT_SEED not in range(1_000)


# -- processes ------------------------------------------------------------------------------------


def _trainer(folder: Path, program: str) -> Trainer:
    folder.mkdir()
    (folder / "train.py").write_text(program)
    return Trainer(folder=folder, lake_uri="lake", schema="dev", where=folder)


def test_what_was_stopped_stays_so_and_the_next_experiment_starts(tmp_path: Path) -> None:
    run = Run(arm="a", seed=0, folder=tmp_path / "run", table="t", version=1, name="a_s0", max_steps=1)
    run.folder.mkdir()
    stopped, later = (
        _trainer(tmp_path / "1", "import time; time.sleep(600)"),
        _trainer(tmp_path / "2", "exit(5)"),
    )
    stopped.running.stop()
    with pytest.raises(TrainingFailed, match="exit code -15"):
        train(stopped, run, "r", lambda step: None)
    with pytest.raises(TrainingFailed, match="exit code 5"):
        train(later, run, "r", lambda step: None)


def test_a_run_that_fails_ends_the_others_and_is_the_one_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one(ablation, lake, trainer, folder, arm, seed, clock):
        if arm == "bad":
            while not trainer.running._running:
                time.sleep(0.01)
            raise TrainingFailed("the cause")
        run = Run(arm=arm, seed=0, folder=tmp_path, table="t", version=1, name=arm, max_steps=1)
        train(trainer, run, "r", lambda step: None)

    monkeypatch.setattr(experiment, "_one", one)
    where = _trainer(tmp_path / "trainer", "import time; time.sleep(600)").folder
    ablation = types.SimpleNamespace(
        ablation_id="x", questions=types.SimpleNamespace(write=lambda folder: None), tokens=1,
        todo=[("good", 0), ("bad", 0)], settings=types.SimpleNamespace(jobs=2),
    )  # fmt: skip
    with pytest.raises(TrainingFailed, match="the cause"):
        experiment.run(ablation, Lake(tmp_path / "lake"), where, tmp_path, tmp_path, lambda *_: None)
    assert (tmp_path / "train.log").is_file()  # it had begun
