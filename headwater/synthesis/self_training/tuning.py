"""The M-step and the base: a table of texts becomes a model folder, by this project's trainer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from headwater.ablate.training import Run, Trainer, export, train
from headwater.estimate.recipes import batch_sequences, recipe_settings
from headwater.lake import Lake, Provenance
from headwater.synthesis.self_training.recipe import Recipe, key_of

if TYPE_CHECKING:
    from headwater.lake import Table
    from headwater.synthesis.self_training.sampler import Sampler

SCHEMA = "self_training"
"""Schema of what is packed and logged for self-training: ``tokens``, orders and training logs of their own.
Problems, samples, accepted solutions and results lie in the target's."""

STAGE_FILE = "stage.json"
WARMUP_SHARE = 0.05


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """One training: ``init`` is the folder whose weights it begins with (none: fresh ones)."""

    name: str
    table: Table
    seed: int
    steps: int
    learning_rate: float | None = None
    init: Path | None = None
    init_version: str = ""


class Workshop(Protocol):
    """Trains models and opens them. The loop asks for nothing else, so a test can do without a trainer."""

    def train(self, tuning: Tuning) -> Path:
        """The model's folder; one that was trained with the very same settings comes back as it is."""
        ...

    def sampler(self, model: Path) -> Sampler: ...

    def trained_tokens(self, steps: int) -> int: ...


class TrainerWorkshop:
    """The trainer of the project, a process of its own for each training, and :class:`LocalSampler`."""

    def __init__(self, lake: Lake, recipe: Recipe, trainer: Path, out: Path, where: Path) -> None:
        self._lake = lake
        self._recipe = recipe
        self._out = out
        self._work = _work_lake(lake)
        self._trainer = Trainer(
            folder=trainer, lake_uri=self._work.uri, schema=self._work.schema, where=where
        )

    @cached_property
    def _settings(self) -> dict[str, Any]:
        return recipe_settings(self._trainer.folder, self._recipe.recipe)

    def trained_tokens(self, steps: int) -> int:
        return steps * batch_sequences(self._settings) * self._recipe.sequence_length

    def sampler(self, model: Path) -> Sampler:
        from headwater.synthesis.self_training.sampler import LocalSampler

        return LocalSampler(model)

    def train(self, tuning: Tuning) -> Path:
        folder = self._out / tuning.name
        key = key_of(
            self._settings, tuning.table.digest, tuning.seed, tuning.steps, tuning.learning_rate,
            tuning.init_version, self._recipe.sequence_length, self._recipe.vocab_size,
        )  # fmt: skip
        stage = folder / STAGE_FILE
        model = folder / "model"
        known = json.loads(stage.read_text())["key"] if stage.is_file() else None
        if known == key and (model / "config.json").is_file():
            return model
        if known != key:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            stage.write_text(json.dumps({"key": key}))
        order, version = self._pack(tuning)
        run = Run(
            arm=tuning.name, seed=tuning.seed, folder=folder, table=order, version=version,
            name=tuning.name, max_steps=tuning.steps,
        )  # fmt: skip
        begin: Sequence[str] = ["--init", str(tuning.init)] if tuning.init else []
        recipe = _write_recipe(run, self._recipe.recipe, tuning)
        checkpoint = train(self._trainer, run, recipe, lambda _: None, options=[*begin, "--quiet"])
        return export(self._trainer, run, checkpoint)

    def _pack(self, tuning: Tuning) -> tuple[str, int]:
        """The order that a training reads: all texts once before any of them twice, shuffled by the seed."""
        from headwater.sequences import pack

        tokens = self.trained_tokens(tuning.steps)
        tokenizer = tuning.init / "tokenizer.json" if tuning.init else None
        with self._work.lease(purpose="self-training packs"):
            mixture = _repeated(self._work, tuning.table, tokens)
            made = pack(
                self._work, mixture, name=tuning.name, sequence_length=self._recipe.sequence_length,
                method="best-fit", vocab_size=self._recipe.vocab_size, seed=tuning.seed, tokenizer=tokenizer,
                tokens_total=tokens, require_approved=False,
            )  # fmt: skip
        name, _, version = made.sequences.rpartition("@")
        return name, int(version)


def _work_lake(lake: Lake) -> Lake:
    """The same lake with a schema for self-training as its own, reading from the target's."""
    reopen, (uri, schema, _, storage, wait_seconds) = lake.__reduce__()
    other: Lake = reopen(uri, SCHEMA, schema, storage, wait_seconds)
    return other


def _repeated(work: Lake, table: Table, tokens: int) -> str:
    """The table as a mixture of one part that is read as often as ``tokens`` need; returns its name.

    A column ``control`` goes along: the control token that opens each text (conditional training).
    """
    own = ["control"] if "control" in table.schema.names else []
    ids = table.to_arrow(["doc_id", *own])
    epochs = float(tokens // max(ids.num_rows, 1) + 1)  # a text has one token at least
    columns = {
        "doc_id": ids["doc_id"],
        "part": pa.array(["all"] * ids.num_rows, pa.string()),
        "share": pa.array([1.0] * ids.num_rows),
        "max_epochs": pa.array([epochs] * ids.num_rows),
        **{name: ids[name] for name in own},
    }
    name = f"{work.schema}.{table.short_name}_repeated"
    fingerprint = key_of("repeated/1", epochs, table.digest)
    if not (work.exists(name) and work.table(name).provenance.fingerprint == fingerprint):
        provenance = Provenance(kind="self-training", fingerprint=fingerprint, inputs=(table.ref,))
        work.write(name, pa.table(columns), provenance=provenance)
    return name


def _write_recipe(run: Run, base: str, tuning: Tuning) -> str:
    """A recipe file that takes ``base`` with this training's length, seed and rate; returns its name."""
    path = run.folder / f"{run.name}.py"
    warmup = max(1, round(WARMUP_SHARE * run.max_steps))
    rates = "" if tuning.learning_rate is None else (
        f", learning_rate={tuning.learning_rate!r}, min_learning_rate={tuning.learning_rate / 10!r}"
    )  # fmt: skip
    path.write_text(
        f'"""{base} for one stage of self-training; made by headwater self-train."""\n\n'
        "from dataclasses import replace\n\n"
        "from recipe import Recipe, find_recipe\n\n\n"
        f"def {run.name}() -> Recipe:\n"
        f"    base = find_recipe({base!r})\n"
        f"    return replace(base, seed={tuning.seed}, max_steps={run.max_steps}, warmup_steps={warmup},\n"
        f"                   checkpoint_every={run.max_steps}, keep_checkpoints=1{rates})\n"
    )
    return f"{path}:{run.name}"
