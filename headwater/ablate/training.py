"""Training one arm with one seed: the trainer as a process of its own, and a model folder at its end."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headwater.errors import HeadwaterError

RUN_FILE = "run.json"
MODEL = "model"
ANSWERS = "answers.json"

_STEP = re.compile(r"^\s*(\d+)\s+\d+\.\d+\s")
_LAST_LINES = 12

Advance = Callable[[int], None]
"""Called with the step that a run has reached."""


class TrainingFailed(HeadwaterError):
    """The trainer, the export or the scoring ended with an error, which is in its log."""


class Processes:
    """Processes at work, so that an interrupted command leaves none behind."""

    def __init__(self) -> None:
        self._running: list[subprocess.Popen[str]] = []
        self._lock = threading.Lock()
        self._stopped = False

    def add(self, process: subprocess.Popen[str]) -> None:
        with self._lock:
            self._running.append(process)
            if self._stopped:
                process.terminate()

    def remove(self, process: subprocess.Popen[str]) -> None:
        with self._lock:
            self._running.remove(process)

    def stop(self) -> None:
        """End them all; those that start from here on end at once."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.terminate()


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """How the trainer is started: its folder, the lake it reads, the folder its processes stand in.

    ``running`` are those of one experiment: stopping it leaves another's alone, and a later one may start.
    """

    folder: Path
    lake_uri: str
    schema: str
    where: Path
    running: Processes = field(default_factory=Processes, compare=False, repr=False)

    def environment(self) -> dict[str, str]:
        """One thread a process: two runs side by side go further on two cores than one on both."""
        return {
            "OMP_NUM_THREADS": "1",
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }


@dataclass(frozen=True, kw_only=True)
class Run:
    """One arm with one seed: ``folder`` holds its recipe, its run, its model and its answers."""

    arm: str
    seed: int
    folder: Path
    table: str
    version: int
    name: str
    max_steps: int

    @property
    def answers(self) -> Path:
        return self.folder / ANSWERS

    @property
    def model(self) -> Path:
        return self.folder / MODEL

    @property
    def run_folder(self) -> Path | None:
        """The newest run in the folder, if there is one."""
        found = sorted(self.folder.glob(f"runs/*/{RUN_FILE}"), key=lambda p: p.stat().st_mtime)
        return found[-1].parent if found else None


def write_recipe(run: Run, base: str, *, warmup_steps: int) -> str:
    """A recipe file that takes ``base`` with this seed and length, and nothing else; returns its name."""
    run.folder.mkdir(parents=True, exist_ok=True)
    path = run.folder / f"{run.name}.py"
    path.write_text(
        f'"""{base} for one arm of an ablation; made by headwater ablate."""\n\n'
        "from dataclasses import replace\n\n"
        "from recipe import Recipe, find_recipe\n\n\n"
        f"def {run.name}() -> Recipe:\n"
        f"    base = find_recipe({base!r})\n"
        f"    changed = {{'seed': {run.seed}, 'max_steps': {run.max_steps}, 'warmup_steps': {warmup_steps},\n"
        f"               'checkpoint_every': {max(run.max_steps, 1)}, 'keep_checkpoints': 1}}\n"
        "    return replace(base, **changed)\n"
    )
    return f"{path}:{run.name}"


def train(trainer: Trainer, run: Run, recipe: str, advance: Advance, *, options: Sequence[str] = ()) -> Path:
    """Train to ``max_steps`` unless that is done, and return the checkpoint. ``options`` are train.py's.

    Raises ``TrainingFailed`` with the end of its log.
    """
    done = _finished(run)
    if done is not None:
        return done
    command = [
        sys.executable, str(trainer.folder / "train.py"), recipe, "--lake", trainer.lake_uri,
        "--target", trainer.schema, "--table", run.table, "--version", str(run.version),
        "--out", str(run.folder / "runs"), "--export", str(run.model), *options,
    ]  # fmt: skip
    begun = run.run_folder
    if begun is not None and any(begun.glob("step-*/state.json")):
        command += ["--resume", begun.name]
    shutil.rmtree(run.model, ignore_errors=True)
    _call(trainer, run, "train", command, advance)
    done = _finished(run)
    if done is None:
        raise TrainingFailed(
            f"{run.name} ended before step {run.max_steps}",
            hint=f"see {run.folder / 'train.log'}; the table may hold fewer sequences than the steps need",
        )
    return done


def export(trainer: Trainer, run: Run, checkpoint: Path) -> Path:
    """The checkpoint as a Hugging Face folder: as the trainer wrote it at its end, or written now."""
    if (run.model / "config.json").is_file():
        return run.model
    shutil.rmtree(run.model, ignore_errors=True)
    command = [
        sys.executable, str(trainer.folder / "export_hf.py"), str(checkpoint), "--out", str(run.model),
        "--lake", trainer.lake_uri, "--target", trainer.schema,
    ]  # fmt: skip
    _call(trainer, run, "export", command)
    return run.model


def score(trainer: Trainer, run: Run, model: Path, questions: Path, *, window: int) -> dict[str, Any]:
    """Answers of the model to every question (:mod:`headwater.ablate.score`), in a process with torch."""
    if not run.answers.is_file():
        command = [
            sys.executable, "-m", "headwater.ablate.score", str(model), str(questions), str(run.answers),
            "--window", str(window),
        ]  # fmt: skip
        _call(trainer, run, "score", command)
    answers: dict[str, Any] = json.loads(run.answers.read_text())
    return answers


def _finished(run: Run) -> Path | None:
    folder = run.run_folder
    found = folder / f"step-{run.max_steps:08d}" if folder else None
    return found if found is not None and (found / "state.json").is_file() else None


def _call(trainer: Trainer, run: Run, stage: str, command: list[str], advance: Advance | None = None) -> None:
    """Run one process with its output in ``<stage>.log``; steps that it prints go to ``advance``."""
    last: deque[str] = deque(maxlen=_LAST_LINES)
    with (run.folder / f"{stage}.log").open("w", buffering=1) as log:
        process = subprocess.Popen(
            command, cwd=trainer.where, env=trainer.environment(), text=True, errors="replace",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        trainer.running.add(process)
        try:
            assert process.stdout is not None
            for line in process.stdout:
                log.write(line)
                last.append(line)
                step = _STEP.match(line)
                if advance and step:
                    advance(int(step.group(1)))
            code = process.wait()
        finally:
            trainer.running.remove(process)
    if code:
        raise TrainingFailed(
            f"{stage} of {run.name} ended with exit code {code}:\n{''.join(last).rstrip()}",
            hint=f"the whole log is {run.folder / f'{stage}.log'}; the same command goes on from here",
        )
