"""The experiment: hold out, write the arms, pack them alike, train each with each seed, ask, record."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from headwater.ablate.arms import Asked, HeldOut, WrittenArm, ask, hold_out, write_arms
from headwater.ablate.clock import Clock, Tell
from headwater.ablate.measures import measures_of
from headwater.ablate.orders import order_name, pack_arm, work_lake
from headwater.ablate.questions import Questions, key_of, make_questions
from headwater.ablate.results import Outcome, finished, outcome, record, record_results
from headwater.ablate.settings import Settings
from headwater.ablate.training import Run, Trainer, export, score, train, write_recipe
from headwater.errors import UsageError
from headwater.estimate.rates import Rate, measured_rate
from headwater.estimate.recipes import batch_sequences, parameters_of, recipe_settings

if TYPE_CHECKING:
    from headwater.lake import Lake, Table

WARMUP_SHARE = 0.05
QUESTIONS = "questions"


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """What is about to run, as :func:`prepare` found it."""

    ablation_id: str
    settings: Settings
    asked: Asked
    arms: tuple[WrittenArm, ...]
    held_out: HeldOut
    questions: Questions
    tokenizer_id: str
    steps: int
    tokens: int
    """That each run trains on: whole steps."""
    parameters: int
    todo: tuple[tuple[WrittenArm, int], ...]
    """Arms and seeds that are not measured yet."""
    num_done: int
    rate: Rate | None
    """Of one run, where past ones measured it."""

    @property
    def seconds_left(self) -> float | None:
        """Wall time of the training that is left, at the known rate; scoring and starting come on top."""
        if self.rate is None:
            return None
        at_once = max(1, min(self.settings.jobs, len(self.todo)))
        return -(-len(self.todo) // at_once) * self.tokens / self.rate.tokens_per_second


def prepare(
    lake: Lake,
    names: Sequence[str],
    settings: Settings,
    trainer: Path,
    *,
    ladder: bool = False,
    families: Mapping[str, Sequence[str]] | None = None,
    tell: Tell = lambda _: None,
) -> Ablation:
    """Hold out, write the arms, choose the tokenizer, make the questions, and record what is asked.

    Raises
    ------
    UsageError
        Arms that do not compare, or fewer tokens than a step takes.
    """
    config = recipe_settings(trainer, settings.recipe)
    step_tokens = batch_sequences(config) * settings.sequence_length
    steps = settings.tokens // step_tokens
    if steps < 2:
        raise UsageError(
            f"{settings.tokens:,} tokens are {steps} steps of {step_tokens:,}", hint="give --tokens for more"
        )
    work = work_lake(lake)
    asked = ask(lake, names, ladder=ladder, families=families)
    held_out = hold_out(work, asked, share=settings.held_out, sources=settings.held_out_sources)
    arms = tuple(write_arms(work, asked, held_out))
    for arm in arms:
        tell(f"arm {arm.name}: {arm.num_documents:,} documents")
    first = pack_arm(work, arms[0], settings, settings.seeds[0], steps * step_tokens, settings.tokenizer)
    tokenizer_id = first.tokenizer_id
    encoder = _encoder(work, tokenizer_id)
    questions = make_questions(
        held_out,
        _text(lake, asked),
        encoder,
        sequence_length=settings.sequence_length,
        set_bytes=settings.held_out_bytes,
        num_pairs=settings.pairs,
    )
    fixed = {k: v for k, v in config.items() if k not in ("seed", "max_steps", "warmup_steps", "prompts")}
    ablation_id = key_of(
        "1", asked.base.digest, json.dumps(fixed, sort_keys=True), steps * step_tokens,
        settings.sequence_length, tokenizer_id, held_out.table.digest, questions.digest,
    )  # fmt: skip
    done = finished(lake, ablation_id)
    pairs = [(arm, seed) for seed in settings.seeds for arm in arms]
    todo = tuple((arm, seed) for arm, seed in pairs if (arm.table.digest, seed) not in done)
    vocab_size = encoder.vocab_size
    found = Ablation(
        ablation_id=ablation_id,
        settings=settings,
        asked=asked,
        arms=arms,
        held_out=held_out,
        questions=questions,
        tokenizer_id=tokenizer_id,
        steps=steps,
        tokens=steps * step_tokens,
        parameters=parameters_of(config, vocab_size, settings.sequence_length).total,
        todo=todo,
        num_done=len(pairs) - len(todo),
        rate=measured_rate([work], config, settings.sequence_length, world_size=1),
    )
    trained_on = str(arms[0].table.ref) if settings.tokenizer is None else settings.tokenizer
    record(lake, _row(found, config, trained_on))
    return found


def run(ablation: Ablation, lake: Lake, trainer: Path, where: Path, out: Path, tell: Tell) -> Outcome:
    """Train and measure what is missing, ``settings.jobs`` runs at a time; what is measured stays measured.

    Raises the first error of a run, after ending the others.
    """
    work = work_lake(lake)
    folder = out / ablation.ablation_id
    ablation.questions.write(folder / QUESTIONS)
    process = Trainer(folder=trainer, lake_uri=work.uri, schema=work.schema, where=where)
    clock = Clock(len(ablation.todo), ablation.tokens, tell)
    with ThreadPoolExecutor(max(ablation.settings.jobs, 1)) as pool:
        # Seed by seed, so that after the first all arms can be compared.
        jobs = [
            pool.submit(_one, ablation, lake, process, folder, arm, seed, clock)
            for arm, seed in ablation.todo
        ]
        try:
            ended, waiting = wait(jobs, return_when=FIRST_EXCEPTION)
        except BaseException:
            process.running.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        if waiting:
            process.running.stop()
            pool.shutdown(wait=False, cancel_futures=True)
    for job in jobs:
        if job in ended:  # what was stopped since then has an error, too, and no part in it
            job.result()
    return outcome(lake, ablation.ablation_id)


def ablate(
    lake: Lake,
    names: Sequence[str],
    *,
    trainer: Path,
    out: Path,
    where: Path | None = None,
    settings: Settings | None = None,
    ladder: bool = False,
    families: Mapping[str, Sequence[str]] | None = None,
    tell: Tell = lambda _: None,
) -> Outcome:
    """Prepare, run, and summarize: see :func:`prepare` and :func:`run`."""
    prepared = prepare(
        lake, names, settings or Settings(), trainer, ladder=ladder, families=families, tell=tell
    )
    return run(prepared, lake, trainer, where or Path.cwd(), out, tell)


def _one(
    ablation: Ablation,
    lake: Lake,
    trainer: Trainer,
    folder: Path,
    arm: WrittenArm,
    seed: int,
    clock: Clock,
) -> None:
    """Pack, train, export, score and record one arm with one seed."""
    settings = ablation.settings
    work = work_lake(lake)
    order = pack_arm(work, arm, settings, seed, ablation.tokens, ablation.tokenizer_id)
    name = order_name(arm, seed)
    job = Run(
        arm=arm.name,
        seed=seed,
        folder=folder / f"{name}-{key_of(order.digest)}",
        table=name,
        version=order.version,
        name=name,
        max_steps=ablation.steps,
    )
    recipe = write_recipe(job, settings.recipe, warmup_steps=max(1, round(ablation.steps * WARMUP_SHARE)))
    checkpoint = train(trainer, job, recipe, lambda step: clock.advance(job.name, step))
    model = export(trainer, job, checkpoint)
    answers = score(trainer, job, model, folder / QUESTIONS, window=settings.sequence_length)
    measured = measures_of(ablation.questions, answers)
    facts = {
        "ablation_id": ablation.ablation_id,
        "arm": arm.name,
        "arm_digest": arm.table.digest,
        "seed": seed,
        "run_id": checkpoint.parent.name,
        "table": order.name,
        "version": order.version,
        "digest": order.digest,
        "tokens": ablation.tokens,
        "distinct_tokens": order.distinct_tokens,
        "tokens_per_second": _rate(work, checkpoint.parent.name),
    }
    record_results(lake, [{**facts, **row} for row in measured])
    clock.finish(job, {(r["measure"], r["part"]): r["value"] for r in measured})


def _rate(work: Lake, run_id: str) -> float | None:
    if not work.exists(f"{work.schema}.training_steps"):
        return None
    rows = work.table(f"{work.schema}.training_steps").to_arrow(
        ["tokens_per_second"], filter=f"run_id = '{run_id}'"
    )
    rates = [r for r in rows["tokens_per_second"].to_pylist() if r]
    return statistics.median(rates) if rates else None


def _row(ablation: Ablation, config: Mapping[str, Any], trained_on: str) -> dict[str, Any]:
    asked, held_out, questions = ablation.asked, ablation.held_out, ablation.questions
    kinds = questions.pairs["kind"].value_counts().to_pylist()
    text_bytes = pc.sum(questions.texts["text_bytes"]).as_py() or 0
    num_tokens = len(questions.texts["tokens"].combine_chunks().flatten()) - questions.texts.num_rows
    return {
        "ablation_id": ablation.ablation_id,
        "arms": [
            {
                "arm": arm.name, "digest": arm.table.digest, "documents": arm.num_documents,
                "text_bytes": arm.text_bytes, "rules": list(arm.rules or ()),
            }
            for arm in ablation.arms
        ],
        "seeds": list(ablation.settings.seeds),
        "base": _named(asked.base),
        "curated": _named(asked.curated.table) if asked.curated else None,
        "held_out": _named(held_out.table),
        "clusters": _named(held_out.clusters) if held_out.clusters is not None else None,
        "tokenizer_id": ablation.tokenizer_id,
        "tokenizer_from": trained_on,
        "sequence_length": ablation.settings.sequence_length,
        "tokens": ablation.tokens,
        "steps": ablation.steps,
        "recipe": ablation.settings.recipe,
        "config": json.dumps(dict(config), sort_keys=True),
        "parameters": ablation.parameters,
        "chars_per_token": text_bytes / num_tokens if num_tokens else None,
        "set_bytes": json.dumps(questions.set_bytes, sort_keys=True),
        "pairs": json.dumps({k["values"]: k["counts"] for k in kinds}, sort_keys=True),
    }  # fmt: skip


def _named(table: Table) -> str:
    return f"{table.ref} {table.digest}"


def _encoder(work: Lake, tokenizer_id: str) -> Any:
    from headwater.tokenizer import load

    return load(work, tokenizer_id)


def _text(lake: Lake, asked: Asked) -> Table:
    return asked.base if asked.base.has_text else lake.table(asked.base.name)
