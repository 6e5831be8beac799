"""The loop of self-training: who may train on what, what is kept, and a kill that repeats nothing finished."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from headwater.errors import BadInput, CheckFailed, UnknownName, UsageError
from headwater.lake import Lake
from headwater.synthesis.sandbox import Limits
from headwater.synthesis.self_training import samples as samples_module
from headwater.synthesis.self_training.loop import self_train, write_problems
from headwater.synthesis.self_training.problems import PROBLEMS, Problem, check_problems, make, problem_rows
from headwater.synthesis.self_training.recipe import Recipe, find_recipe, recipe_names
from headwater.synthesis.self_training.results import outcome, wilson
from headwater.synthesis.self_training.sampler import Sample
from headwater.synthesis.self_training.samples import Draw, cap_ranks, sample_round
from headwater.synthesis.self_training.tuning import Tuning
from headwater.synthesis.verifiers import Verdict, find_verifier
from headwater.synthesis.verifiers.unit_tests import UnitTests

TASKS = "headwater.synthesis.self_training.tasks"
RECIPE = Recipe(
    name="sums", maker=f"{TASKS}:arithmetic", options={"operands": 3}, train=40, held_out=20, demonstrations=15,
    recipe="none", steps=10, tune_steps=5, tune_learning_rate=1e-3, samples=6, temperature=1.0, max_tokens=4,
    cap=2, rounds=2, seeds=(0, 1),
)  # fmt: skip


class Memory:
    """A model that knows the answers of the prompts it was trained on, and guesses the others near by.

    What stands in for sampling in these tests: a program, with a seed.
    """

    def __init__(self, folder: Path) -> None:
        known = json.loads((folder / "config.json").read_text())
        self.name, self.version = f"memory:{folder.name}", str(known["version"])
        self._known, self._size = known["texts"], known["size"]

    def sample(
        self,
        prompts: Sequence[str],
        *,
        samples: int,
        temperature: float,
        top_k: int,
        max_tokens: int,
        seed: int,
    ) -> Iterator[Sample]:
        for number, prompt in enumerate(prompts):
            right = eval(prompt.removesuffix("="))
            for i in range(samples):
                draw = int(hashlib.sha256(f"{prompt}/{i}/{seed}".encode()).hexdigest(), 16)
                near = right + draw % 3 - 1 if temperature else right + (draw % 20 >= self._size // 3)
                text = str(right if prompt in self._known else near)
                yield Sample(prompt=number, sample=i, text=text, num_tokens=len(text))


class Workshop:
    """Trains by memory; counts what it was asked for, and dies where it is told to."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.trained, self.inits = folder, [], {}
        self.dies_at: str | None = None

    def train(self, tuning: Tuning) -> Path:
        if tuning.name == self.dies_at:
            raise KeyboardInterrupt
        model = self.folder / tuning.name
        self.inits[tuning.name] = tuning.init
        if not model.exists():
            self.trained.append(tuning.name)
            texts = tuning.table.to_arrow(["text"])["text"].to_pylist()
            prompts = sorted({text.partition("=")[0] + "=" for text in texts})
            version = hashlib.sha256(json.dumps([tuning.seed, texts]).encode()).hexdigest()[:8]
            model.mkdir(parents=True)
            (model / "config.json").write_text(
                json.dumps({"texts": prompts, "size": len(prompts), "version": version})
            )
        return model

    def sampler(self, model: Path) -> Memory:
        return Memory(model)

    def trained_tokens(self, steps: int) -> int:
        return steps * 100


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path / "models")


@pytest.mark.parametrize("maker", ["arithmetic", "list_programs"])
def test_no_prompt_stands_on_two_sides(maker: str) -> None:
    made = make(
        replace(RECIPE, maker=f"{TASKS}:{maker}", options={}, train=200, held_out=100, demonstrations=50)
    )
    rows = made.problems.to_pylist()
    sides = {side: {r["prompt"] for r in rows if r["split"] == side} for side in ("train", "held_out")}
    shown = {prompt for prompt, _ in made.demonstrations}
    assert [len(sides["train"]), len(sides["held_out"]), len(shown)] == [200, 100, 50]
    assert not (sides["train"] & sides["held_out"] or shown & sides["train"] or shown & sides["held_out"])


def test_held_out_problems_stay_when_more_is_asked_for() -> None:
    few, many = (make(replace(RECIPE, train=n, demonstrations=n)).problems for n in (10, 60))
    held = [t.filter(pc.equal(t["split"], "held_out")) for t in (few, many)]
    assert held[0].equals(held[1])
    other = make(replace(RECIPE, problem_seed=1)).problems
    assert other["prompt"].to_pylist() != make(RECIPE).problems["prompt"].to_pylist()


def test_demonstrations_are_right() -> None:
    made = make(RECIPE)
    assert all(eval(p.removesuffix("=")) == int(s) for p, s in made.demonstrations)
    with pytest.raises(UsageError, match="different problems"):
        make(replace(RECIPE, options={"operands": 2}, train=1000))
    with pytest.raises(UsageError, match="no maker of problems"):
        make(replace(RECIPE, maker="headwater.nowhere:f"))


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
def test_demonstrated_programs_pass_their_own_tests() -> None:
    made = make(
        replace(RECIPE, maker=f"{TASKS}:list_programs", options={}, train=1, held_out=12, demonstrations=1)
    )
    from headwater.synthesis.self_training.tasks import _STEPS

    pairs = []
    for row in made.problems.to_pylist():
        code = "x"
        for name in row["prompt"].removesuffix(": ").split(", "):
            code = _STEPS[name][0].replace("{}", code)
        pairs.append((row["tests"], code))
    found = list(find_verifier("unit_tests").verify([*pairs, (pairs[0][0], "x * 7")]))
    assert [v.status for v in found] == ["passed"] * 13 + ["wrong answer"]


HOSTILE = {
    "ends": "__import__('os')._exit(0)",
    "forks": "[__import__('os').fork() for _ in iter(int, 1)]",
    "writes": "open('/tmp/x', 'w').write('x' * 10**8)",
    "reads": "open('/etc/passwd').read()",
    "calls": "__import__('socket').create_connection(('127.0.0.1', 9))",
    "eats": "bytearray(1 << 32)",
    "never ends": "[0 for _ in iter(int, 1) if False]",
    "shouts": "[print('x' * 10000) for _ in iter(int, 1)]",
    "is no code": "))((",
}


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
def test_hostile_solutions_are_contained_counted_and_nothing_is_lost(lake: Lake) -> None:
    """Through the verifier and into the table: every sample has its row, with how the sandbox saw it end."""
    asked = replace(
        RECIPE, maker=f"{TASKS}:list_programs", options={"steps": 1}, train=1, held_out=1, demonstrations=1
    )
    made = make(asked)
    problems = lake.write("list_problems", made.problems)
    (row,) = [r for r in made.problems.to_pylist() if r["split"] == "train"]
    from headwater.synthesis.self_training.tasks import _STEPS

    right = _STEPS[row["prompt"].removesuffix(": ")][0].replace("{}", "x")
    texts = [right, *HOSTILE.values(), right]

    class Hostile:
        name, version = "program:hostile", "1"

        def sample(self, prompts: Sequence[str], **_: object) -> Iterator[Sample]:
            yield from (Sample(prompt=0, sample=i, text=text, num_tokens=1) for i, text in enumerate(texts))

    limits = Limits(wall_seconds=20.0, cpu_seconds=1, memory_bytes=128 << 20, processes=6)
    verifiers = {"unit_tests": UnitTests(limits)}
    problem = Problem(problem_id="p", prompt=row["prompt"], verifier="unit_tests", expected=row["tests"])
    draw = Draw(samples=len(texts), temperature=1.0, top_k=0, max_tokens=4, seed=0, round_number=1, cap=2)
    rows = (
        sample_round(lake, "hostile", [problem], Hostile(), verifiers, draw, [problems])
        .to_arrow()
        .to_pylist()
    )
    assert [r["text"] for r in rows] == texts
    status = dict(zip(["right", *HOSTILE, "right again"], (r["status"] for r in rows), strict=True))
    assert status["right"] == status["right again"] == "passed"
    assert status["ends"] == "ended early" and status["shouts"] == "too much output"
    assert status["never ends"] in ("timed out", "failed")  # by the clock, or by the processor's
    assert {status[k] for k in ("writes", "reads", "calls", "eats", "is no code")} == {"failed"}
    assert [r["kept"] for r in rows] == [True, *[False] * (len(HOSTILE) + 1)]
    assert sum(r["reward"] for r in rows) == 2.0


GOOD = {"problem_id": "a", "prompt": "1+1=", "answer": "2", "split": "train", "kind": "sum", "seed": 0}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([GOOD, {**GOOD, "prompt": "2+2="}], "id of another"),
        ([{**GOOD, "prompt": " "}], "have no prompt"),
        ([{**GOOD, "answer": None}], "neither an answer nor tests"),
        ([{**GOOD, "tests": "{}"}], "neither an answer nor tests, or both"),
        ([{**GOOD, "split": "test"}], "are in no split"),
        (
            [GOOD, {**GOOD, "problem_id": "b", "prompt": " 1+1= ", "split": "held_out"}],
            "held out and in train",
        ),
    ],
)
def test_a_table_of_problems_that_cannot_be_used(rows: list[dict[str, object]], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        check_problems(problem_rows(rows), "problems@1")


def test_the_cap_counts_different_right_solutions() -> None:
    texts = [("7", 1.0), ("8", 0.0), (" 7\n", 1.0), ("7.0", 1.0), ("07", 1.0)]
    samples = [Sample(prompt=0, sample=i, text=text, num_tokens=1) for i, (text, _) in enumerate(texts)]
    samples.append(Sample(prompt=1, sample=0, text="7", num_tokens=1))
    verdicts = [Verdict(reward=reward, status="") for _, reward in texts] + [Verdict(reward=1.0, status="")]
    assert list(cap_ranks(samples, verdicts)) == [1, None, None, 2, 3, 1]


def test_the_whole_loop(lake: Lake, workshop: Workshop) -> None:
    found = self_train(lake, RECIPE, workshop)
    held = set(lake.table("sums_problems").to_arrow(filter="split = 'held_out'")["prompt"].to_pylist())
    for seed in RECIPE.seeds:
        for number in (1, 2):
            rows = lake.table(f"sums_s{seed}_r{number}_samples").to_arrow().to_pylist()
            assert len(rows) == 40 * 6 and {r["round"] for r in rows} == {number}
            kept = Counter(r["problem_id"] for r in rows if r["kept"])
            assert kept and max(kept.values()) <= 2
            assert all(r["reward"] == 1.0 and r["cap_rank"] <= 2 for r in rows if r["kept"])
            accepted = lake.table(f"sums_s{seed}_r{number}_accepted").to_arrow().to_pylist()
            assert len(accepted) == sum(kept.values())
            assert {(r["origin"], r["generation"], r["verifier"]) for r in accepted} == {
                ("synthetic", number, "exact_answer 1")
            }
            assert not held & {r["text"].partition("=")[0] + "=" for r in accepted}
        # Every round tunes the base, never the round before.
        assert {workshop.inits[f"sums_s{seed}_{arm}"] for arm in ("r1", "r2", "control")} == {
            workshop.folder / f"sums_s{seed}_base"
        }
    assert [line.label for line in found.lines_of] == ["base", "control", "round 1", "round 2"]
    assert found.lines_of[2].gain is not None and found.lines_of[2].gain.mean > 0
    assert len(found.rows) == 8 and "pass@1" in found.lines()[0]


def test_a_kill_repeats_nothing_finished(
    lake: Lake, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop.dies_at = "sums_s0_r2"
    with pytest.raises(KeyboardInterrupt):
        self_train(lake, RECIPE, workshop)
    versions = {name: lake.table(name).version for name in lake.tables() if name != "self_training_results"}
    trained = list(workshop.trained)
    workshop.dies_at = None
    whole = self_train(lake, RECIPE, workshop)
    assert {name: lake.table(name).version for name in versions} == versions
    assert workshop.trained[: len(trained)] == trained and len(set(workshop.trained)) == len(workshop.trained)
    before = lake.table("self_training_results").version
    monkeypatch.setattr(workshop, "trained", [])
    assert self_train(lake, RECIPE, workshop).rows == whole.rows and not workshop.trained
    assert lake.table("self_training_results").version == before
    # More rounds and seeds go on from what there is.
    more = self_train(lake, replace(RECIPE, rounds=3, seeds=(0, 1, 2)), workshop)
    assert more.loop_id == whole.loop_id and len(more.rows) == 15


def test_a_killed_block_is_drawn_again_as_it_would_have_been(
    lake: Lake, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples_module, "BLOCK_PROBLEMS", 10)
    problems, shown = write_problems(lake, RECIPE)
    assert shown is not None
    sampler = Memory(workshop.train(Tuning(name="base", table=shown, seed=0, steps=1)))
    draw = Draw(samples=3, temperature=1.0, top_k=0, max_tokens=4, seed=0, round_number=1, cap=2)
    some = [
        Problem(problem_id=f"p{i:02d}", prompt=f"{i}+1=", verifier="exact_answer", expected=str(i + 1))
        for i in range(30)
    ]
    verifiers = {"exact_answer": find_verifier("exact_answer")}
    whole = sample_round(lake, "whole", some, sampler, verifiers, draw, [problems])
    sample_round(lake, "halted", some[:20], sampler, verifiers, draw, [problems])
    halted = sample_round(lake, "halted", some, sampler, verifiers, draw, [problems])
    assert halted.digest == whole.digest and halted.version == whole.version == 3
    again = sample_round(lake, "halted", some, sampler, verifiers, replace(draw, samples=2), [problems])
    assert again.num_rows == 60 and again.version == 6  # another request: nothing of the old rows stays


def test_a_base_that_knows_nothing_is_told(lake: Lake, workshop: Workshop) -> None:
    never = replace(RECIPE, name="never", seeds=(0,), maker="tests.unit.test_self_training:unsolvable")
    with pytest.raises(CheckFailed, match="none of 240 samples is right"):
        self_train(lake, never, workshop)


def unsolvable(**counts: int) -> object:
    from headwater.synthesis.self_training.tasks import arithmetic

    made = arithmetic(**{**counts, "operands": 3})
    wrong = made.problems.set_column(
        PROBLEMS.get_field_index("answer"), "answer", pa.array(["x"] * made.problems.num_rows)
    )
    return replace(made, problems=wrong)


def test_recipes_by_name_and_path(tmp_path: Path) -> None:
    for name in recipe_names():
        assert find_recipe(name).name == name
    with pytest.raises(UnknownName, match="sorting"):
        find_recipe("sortin")
    path = tmp_path / "own.toml"
    for text, error, message in [
        ("x = ", BadInput, "cannot read"),
        ("recipe = 'r'", BadInput, "does not say tune_steps"),
        ("recipe = 'r'\ntune_steps = 1\ntune_learning_rate = 1\nsteps = '3'", BadInput, "steps is '3'"),
        ("[sample]\nsampels = 3", UnknownName, "sampels"),
        ("recipe = 'r'\ntune_steps = 1\ntune_learning_rate = 1", UsageError, "a maker of problems"),
        ("recipe = 'r'\ntune_steps = 1\ntune_learning_rate = 1\nproblems = 'p'", UsageError, "has no base"),
    ]:
        path.write_text(text)
        with pytest.raises(error, match=message):
            find_recipe(str(path))


def test_a_share_with_its_interval() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = wilson(0, 100)
    assert low == 0 and high == pytest.approx(0.0370, abs=1e-4)
    low, high = wilson(30, 100)  # by hand: centre .30739, half .08850
    assert (low, high) == pytest.approx((0.2189, 0.3959), abs=1e-4)


def test_no_experiment_by_that_name(lake: Lake) -> None:
    with pytest.raises(UnknownName, match="self-training experiment"):
        outcome(lake, "sums")


def test_a_table_of_problems_that_is_there(lake: Lake, workshop: Workshop, tmp_path: Path) -> None:
    """Own problems and a base of one's own: no maker, no demonstrations, no control."""
    made = make(RECIPE)
    lake.write("own_problems", made.problems)
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps({"texts": [], "size": 6, "version": "1"}))
    own = Recipe(
        name="own", problems="own_problems", base=str(base), recipe="none", tune_steps=5, tune_learning_rate=1e-3,
        samples=6, temperature=1.0, max_tokens=4, rounds=1, seeds=(0,),
    )  # fmt: skip
    found = self_train(lake, own, workshop)
    assert [line.label for line in found.lines_of] == ["base", "round 1"]
    lake.write("own_problems", made.problems.filter(pc.equal(made.problems["split"], "train")))
    with pytest.raises(BadInput, match="40 problems in train and 0 held out"):
        self_train(lake, own, workshop)
    lake.write("own_problems", made.problems.drop_columns(["split"]))
    with pytest.raises(BadInput, match="lacks the columns split"):
        self_train(lake, own, workshop)
