"""Does a model that was told which texts are good write better ones when it is asked for good ones?

The texts are the samples of a self-training round, right and wrong ones alike, with their verifier's reward as
score: ``<|good|>`` opens the right ones, ``<|bad|>`` the others (Korbak et al. 2023, arXiv 2302.08582). The
base that wrote them is tuned on all of them, and writes solutions of held-out problems after
either token, and after none; with --plain also one that was trained on the same texts without tokens.

    headwater self-train sorting --lake LAKE
    python benchmarks/conditional_training.py --lake LAKE --seeds 0,1,2
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pyarrow as pa

from headwater.ablate.statistics import t_interval
from headwater.estimate.recipes import find_trainer
from headwater.lake import Lake, Provenance, Table
from headwater.synthesis.provenance import synthetic_rows
from headwater.synthesis.self_training.problems import Problem, load_problems
from headwater.synthesis.self_training.recipe import Recipe, find_recipe
from headwater.synthesis.self_training.sampler import LocalSampler
from headwater.synthesis.self_training.tuning import TrainerWorkshop, Tuning
from headwater.synthesis.verifiers import find_verifier
from headwater.training.initial_weights import weights_digest

GOOD, BAD = "<|good|>", "<|bad|>"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--lake", default="lake", help="with the tables of `headwater self-train sorting`")
    add("--recipe", default="sorting")
    add("--round", type=int, default=1, help="whose samples are the texts")
    add("--samples-of", type=int, default=0, metavar="SEED", help="whose samples are the texts")
    add("--seeds", default="0,1,2", help="of the models: first weights, order, samples")
    add("--steps", type=int, default=150)
    add("--base", type=Path, default=Path("runs/self-training/sorting_s0_base/model"), help="begin with it")
    add("--samples", type=int, default=8, help="of each held-out problem")
    add("--plain", action="store_true", help="also train on the same texts without tokens")
    add("--out", type=Path, default=Path("runs/conditional"))
    args = parser.parse_args()
    lake, recipe = Lake(args.lake), find_recipe(args.recipe)
    workshop = TrainerWorkshop(lake, recipe, find_trainer(None, None), args.out.resolve(), Path.cwd())
    found: dict[str, list[float]] = {}
    for seed in map(int, args.seeds.split(",")):
        for arm, rate in _one_seed(lake, recipe, workshop, seed, args).items():
            found.setdefault(arm, []).append(rate)
            print(f"seed {seed}  {arm:<28} {100 * rate:5.1f} %", flush=True)
    print(
        f"\n{'asked for':<28} share right, mean of {len(next(iter(found.values())))} seeds, 95 % t interval"
    )
    for arm, rates in found.items():
        mean = t_interval(rates)
        half = "" if mean.half_width is None else f" ± {100 * mean.half_width:.1f}"
        print(f"{arm:<28} {100 * mean.mean:.1f}{half}   ({', '.join(f'{100 * r:.1f}' for r in rates)})")


def _one_seed(
    lake: Lake, recipe: Recipe, workshop: TrainerWorkshop, seed: int, args: argparse.Namespace
) -> dict[str, float]:
    problems = lake.table(f"{recipe.name}_problems")
    samples = lake.table(f"{recipe.name}_s{args.samples_of}_r{args.round}_samples")
    held_out = load_problems(problems, "held_out")
    models = {}
    for name in ("conditional", "plain") if args.plain else ("conditional",):
        table = _texts(lake, name, problems, samples, marked=name == "conditional")
        tuning = Tuning(
            name=f"{name}_s{seed}", table=table, seed=seed, steps=args.steps,
            learning_rate=recipe.tune_learning_rate, init=args.base, init_version=weights_digest(args.base),
        )  # fmt: skip
        models[name] = workshop.train(tuning)
    asked = {
        f"conditional, {GOOD}": (models["conditional"], GOOD),
        f"conditional, {BAD}": (models["conditional"], BAD),
        "conditional, no token": (models["conditional"], None),
        **({"plain": (models["plain"], None)} if args.plain else {}),
    }
    right = sum(samples.to_arrow(["reward"])["reward"].to_pylist()) / samples.num_rows
    rates = {"(the texts themselves)": right}
    for arm, (model, control) in asked.items():
        rates[arm] = _pass_rate(LocalSampler(model, control=control), held_out, recipe, seed, args.samples)
    return rates


def _texts(lake: Lake, name: str, problems: Table, samples: Table, *, marked: bool) -> Table:
    """Every sample as a document, right or wrong; equal ones once."""
    prompts = {row["problem_id"]: row["prompt"] for row in problems.to_arrow().to_pylist()}
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for row in samples.to_arrow().to_pylist():
        rows.setdefault((row["problem_id"], row["text"]), row)
    kept = [row for row in rows.values() if row["text"].strip()]
    documents = synthetic_rows(
        [prompts[row["problem_id"]] + row["text"] for row in kept],
        source=name, generator=[row["generator"] for row in kept],
        generator_version=[row["generator_version"] for row in kept],
        prompt_ids=[row["problem_id"] for row in kept], parameters=[row["parameters"] for row in kept],
        verifier=[f"{row['verifier']} {row['verifier_version']}" for row in kept],
        rewards=[row["reward"] for row in kept],
    )  # fmt: skip
    if marked:  # what headwater.control_by_score('reward', 1) says in SQL
        tokens = [GOOD if row["reward"] >= 1 else BAD for row in kept]
        documents = documents.append_column("control", pa.array(tokens, pa.string()))
    provenance = Provenance(kind="conditional", inputs=(samples.ref, problems.ref), extra={"marked": marked})
    lake.write(name, documents, provenance=provenance)
    return lake.table(name)


def _pass_rate(
    sampler: LocalSampler, problems: list[Problem], recipe: Recipe, seed: int, samples: int
) -> float:
    """The share of right answers, at the temperature of the recipe."""
    found = sorted(
        sampler.sample(
            [problem.prompt for problem in problems], samples=samples, temperature=recipe.temperature,
            top_k=recipe.top_k, max_tokens=recipe.max_tokens, seed=seed,
        ),
        key=lambda sample: sample.prompt,
    )  # fmt: skip
    verifier = find_verifier("exact_answer")
    pairs = [(problems[sample.prompt].expected, sample.text) for sample in found]
    return sum(verdict.reward for verdict in verifier.verify(pairs)) / len(pairs)


if __name__ == "__main__":
    main()
