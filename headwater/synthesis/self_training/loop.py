"""The loop: problems, a base, then rounds of sampling, verifying and tuning; each stage a table version."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from headwater.errors import BadInput, CheckFailed
from headwater.lake import Lake, Provenance
from headwater.synthesis.provenance import synthetic_rows
from headwater.synthesis.self_training.problems import Problem, load_problems, make, open_problems
from headwater.synthesis.self_training.recipe import Recipe, key_of
from headwater.synthesis.self_training.results import BASE, CONTROL, ROUND, Outcome, outcome, record, wilson
from headwater.synthesis.self_training.samples import Draw, Verifiers, sample_round
from headwater.synthesis.self_training.tuning import Tuning, Workshop
from headwater.synthesis.verifiers import find_verifier

if TYPE_CHECKING:
    from headwater.lake import Table

MAKER_VERSION = 1
"""Rises when the library's own makers give other problems for the same seed."""

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all seeds share."""

    lake: Lake
    recipe: Recipe
    workshop: Workshop
    problems: Table
    demonstrations: Table | None
    train: list[Problem]
    held_out: list[Problem]
    verifiers: Verifiers
    loop_id: str
    tell: Tell


def self_train(lake: Lake, recipe: Recipe, workshop: Workshop, tell: Tell = lambda _: None) -> Outcome:
    """Run what is missing of the experiment, and return all of it.

    Whatever is finished stays: problems, blocks of samples, accepted solutions and results are versions of
    tables, models are folders that name what they were made from. A stage whose inputs changed is done again.

    Raises
    ------
    BadInput
        Problems that cannot be used.
    CheckFailed
        A round kept nothing: the base solves none of the problems.
    """
    problems, demonstrations = write_problems(lake, recipe, tell)
    train, held_out = load_problems(problems, "train"), load_problems(problems, "held_out")
    if not train or not held_out:
        raise BadInput(
            f"{problems.ref} has {len(train):,} problems in train and {len(held_out):,} held out",
            hint="some of each: what is learned from, and what shows that it was",
        )
    names = sorted({problem.verifier for problem in (*train, *held_out)})
    setting = Setting(
        lake=lake,
        recipe=recipe,
        workshop=workshop,
        problems=problems,
        demonstrations=demonstrations,
        train=train,
        held_out=held_out,
        verifiers={name: find_verifier(name) for name in names},
        loop_id=recipe.loop_id(problems.digest),
        tell=tell,
    )
    for seed in recipe.seeds:
        _one_seed(setting, seed)
    return outcome(lake, setting.loop_id)


def write_problems(lake: Lake, recipe: Recipe, tell: Tell = lambda _: None) -> tuple[Table, Table | None]:
    """The table of problems and that of the demonstrations, made once."""
    if not recipe.maker:
        return open_problems(lake, recipe.problems), None
    name, shown = f"{recipe.name}_problems", f"{recipe.name}_demonstrations"
    asked = key_of(
        MAKER_VERSION, recipe.maker, dict(recipe.options), recipe.train, recipe.held_out,
        recipe.demonstrations, recipe.problem_seed,
    )  # fmt: skip
    provenance = Provenance(kind="self-training", fingerprint=asked, extra={"maker": recipe.maker})
    tables = [name, shown] if recipe.demonstrations else [name]
    if not all(lake.exists(each) and lake.table(each).provenance.fingerprint == asked for each in tables):
        made = make(recipe)
        if recipe.demonstrations:
            texts = [prompt + solution for prompt, solution in made.demonstrations]
            ids = [f"demonstration-{i:06d}" for i in range(len(texts))]
            rows = synthetic_rows(
                texts, source=f"{recipe.name}_demonstrations", generator=f"program:{recipe.maker}",
                generator_version=str(MAKER_VERSION), prompt_ids=ids,
                parameters=json.dumps({"seed": recipe.problem_seed, **recipe.options}, sort_keys=True),
            )  # fmt: skip
            lake.write(shown, rows, provenance=provenance)
        lake.write(name, made.problems, provenance=provenance)
        tell(f"{name}: {made.problems.num_rows:,} problems, {len(made.demonstrations):,} demonstrations")
    return lake.table(name), lake.table(shown) if recipe.demonstrations else None


def _one_seed(setting: Setting, seed: int) -> None:
    recipe, workshop = setting.recipe, setting.workshop
    prefix = f"{recipe.name}_s{seed}"
    if recipe.base:
        base = Path(recipe.base)
    else:
        assert setting.demonstrations is not None
        base = workshop.train(
            Tuning(name=f"{prefix}_base", table=setting.demonstrations, seed=seed, steps=recipe.steps)
        )
    base_version = _evaluate(setting, seed, BASE, 0, base, recipe.steps)

    def tune(name: str, table: Table) -> Path:
        return workshop.train(
            Tuning(
                name=name, table=table, seed=seed, steps=recipe.tune_steps,
                learning_rate=recipe.tune_learning_rate, init=base, init_version=base_version,
            )
        )  # fmt: skip

    model = base
    for number in range(1, recipe.rounds + 1):
        samples, accepted = _round(setting, seed, number, model)
        model = tune(f"{prefix}_r{number}", accepted)
        _evaluate(setting, seed, ROUND, number, model, recipe.tune_steps, samples)
    if recipe.control and setting.demonstrations is not None:
        same = tune(f"{prefix}_control", setting.demonstrations)
        _evaluate(setting, seed, CONTROL, 0, same, recipe.tune_steps)


def _round(setting: Setting, seed: int, number: int, model: Path) -> tuple[Table, Table]:
    """The E-step: the round's samples, and what is kept of them as documents."""
    recipe = setting.recipe
    name = f"{recipe.name}_s{seed}_r{number}"
    draw = Draw(
        samples=recipe.samples, temperature=recipe.temperature, top_k=recipe.top_k,
        max_tokens=recipe.max_tokens, seed=seed, round_number=number, cap=recipe.cap,
    )  # fmt: skip
    samples = sample_round(
        setting.lake, f"{name}_samples", setting.train, setting.workshop.sampler(model), setting.verifiers,
        draw, [setting.problems], setting.tell,
    )  # fmt: skip
    return samples, _accept(setting, f"{name}_accepted", samples)


def _accept(setting: Setting, name: str, samples: Table) -> Table:
    """Kept solutions with their problems, as documents with their provenance.

    ``generation`` is the round: what wrote a text was tuned on texts of the round before.
    """
    lake = setting.lake
    asked = key_of("accepted/1", samples.digest)
    if lake.exists(name) and lake.table(name).provenance.fingerprint == asked:
        return lake.table(name)
    rows = samples.to_arrow(filter="kept").to_pylist()
    if not rows:
        raise CheckFailed(
            f"{samples.ref}: none of {samples.num_rows:,} samples is right, so there is nothing to train on",
            hint="a base that solves some problems, more samples for each, or easier problems",
        )
    prompts = {problem.problem_id: problem.prompt for problem in setting.train}
    facts = [{**json.loads(row["parameters"]), "sample_id": row["sample_id"]} for row in rows]
    documents = synthetic_rows(
        [prompts[row["problem_id"]] + row["text"] for row in rows],
        source=f"{setting.recipe.name}_self_training",
        generator=[row["generator"] for row in rows],
        generator_version=[row["generator_version"] for row in rows],
        prompt_ids=[row["problem_id"] for row in rows],
        generations=[row["round"] for row in rows],
        parameters=[json.dumps(each, sort_keys=True) for each in facts],
        verifier=[f"{row['verifier']} {row['verifier_version']}" for row in rows],
        rewards=[row["reward"] for row in rows],
    )
    provenance = Provenance(
        kind="self-training", fingerprint=asked, inputs=(samples.ref, setting.problems.ref)
    )
    lake.write(name, documents, provenance=provenance)
    return lake.table(name)


def _evaluate(
    setting: Setting, seed: int, arm: str, number: int, model: Path, steps: int, samples: Table | None = None
) -> str:
    """Record pass@1 on the held-out problems; returns the model's version."""
    recipe, lake = setting.recipe, setting.lake
    sampler = setting.workshop.sampler(model)
    stage = f"r{number}" if arm == ROUND else arm
    draw = Draw(
        samples=1, temperature=0.0, top_k=0, max_tokens=recipe.max_tokens, seed=seed, round_number=number,
        cap=1,
    )  # fmt: skip
    answers = sample_round(
        lake, f"{recipe.name}_s{seed}_{stage}_held_out", setting.held_out, sampler, setting.verifiers, draw,
        [setting.problems],
    )  # fmt: skip
    found = answers.to_arrow(["reward", "status"])
    passed, count = int(sum(found["reward"].to_pylist())), found.num_rows
    low, high = wilson(passed, count)
    row: dict[str, Any] = {
        "loop_id": setting.loop_id,
        "recipe": recipe.name,
        "seed": seed,
        "arm": arm,
        "round": number,
        "model": sampler.name,
        "model_version": sampler.version,
        "problems": count,
        "passed": passed,
        "pass_at_1": passed / count,
        "low": low,
        "high": high,
        "statuses": json.dumps(dict(sorted(Counter(found["status"].to_pylist()).items()))),
        "trained_tokens": setting.workshop.trained_tokens(steps),
        "settings": json.dumps(recipe.to_json(), sort_keys=True),
        **(_of_samples(samples) if samples is not None else {}),
    }
    record(lake, row)
    setting.tell(
        f"seed {seed}, {stage}: {100 * passed / count:.1f} % of {count:,} held-out problems "
        f"[{100 * low:.1f}, {100 * high:.1f}]"
    )
    return sampler.version


def _of_samples(samples: Table) -> dict[str, int]:
    rows = samples.to_arrow(["problem_id", "reward", "kept", "num_tokens"])
    right = rows.filter(pc.greater(rows["reward"], 0))
    kept = rows.filter(rows["kept"])
    return {
        "sampled": rows.num_rows,
        "right": right.num_rows,
        "solved_problems": len(set(right["problem_id"].to_pylist())),
        "kept_rows": kept.num_rows,
        "kept_tokens": int(sum(kept["num_tokens"].to_pylist())),
    }
