"""Tools for the fault tests: runs that are killed, stopped or frozen at a step, and what they leave.

A run prints a row for each of its few steps. The recipe file, which is the test's own, holds rank 0 at the
row of a chosen step until it is told to go on: so a run is killed exactly there, however fast the machine,
while saves in the background and the other ranks do what they do.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ports import free_port
from trainer_runs import TRAINER, environment, python

from headwater.lake import Lake
from headwater.trace import trace_step
from headwater.trace.runs import live_rows

LIMIT_SECONDS = 300.0
"""A run that has not ended by then is stuck: the test fails."""

RECIPES = """
import os
import pathlib
import re
import signal
import sys
import time

from recipe import Recipe


class Held:
    # Standard output that stays in flush() after the row of a step.
    def __init__(self, out, step, go):
        self.out, self.step, self.go, self.reached = out, step, go, False
        if go.name == "signal":  # a pipe gets a byte when a signal has arrived
            self.read, written = os.pipe()
            os.set_blocking(written, False)
            signal.set_wakeup_fd(written)

    def write(self, text):
        found = re.match(r"\\s*(\\d+)  ", text)
        self.reached = self.reached or bool(found and int(found[1]) == self.step)
        return self.out.write(text)

    def flush(self):
        self.out.flush()
        if self.reached and self.go.name == "signal":
            os.read(self.read, 1)
        while self.reached and self.go.name != "signal" and not self.go.exists():
            time.sleep(0.01)
        self.reached = False

    def __getattr__(self, name):
        return getattr(self.out, name)


if "HOLD_AT" in os.environ and os.environ.get("RANK", "0") == "0":
    sys.stdout = Held(sys.stdout, int(os.environ["HOLD_AT"]), pathlib.Path(os.environ["GO"]))


def steady(**other) -> Recipe:
    settings = dict(
        hidden_size=32, intermediate_size=64, num_layers=2, num_heads=2, num_kv_heads=1,
        global_batch_size=4, micro_batch_size=1, max_steps=12, learning_rate=1e-2,
        min_learning_rate=1e-3, warmup_steps=2, checkpoint_every=3,
    )
    return Recipe(**{**settings, **other})


def absurd() -> Recipe:
    return steady(learning_rate=1e30, min_learning_rate=1e30, warmup_steps=1, checkpoint_every=1)


def careful() -> Recipe:
    return steady(async_checkpoint=False)
"""
STEPS = 12

ROW = re.compile(r"\s*(\d+)  ")
"""A row of the trainer's table of steps."""


def make_place(packed: Path, where: Path) -> Path:
    """A folder of its own with a copy of the packed lake, and the recipes."""
    where.mkdir()
    shutil.copytree(packed / "lake", where / "lake")
    (where / "faulty.py").write_text(RECIPES)
    return where


def command(*options: str, processes: int = 1, recipe: str = "steady") -> list[str]:
    return [*python(processes), str(TRAINER / "train.py"), f"faulty.py:{recipe}", "--lake", "lake", *options]


def train(place: Path, *options: str, **how: Any) -> subprocess.CompletedProcess[str]:
    """Run to its end, whatever that is. ``most_bytes`` limits the size of a file, as a full disk would."""
    most_bytes = how.pop("most_bytes", None)
    line = command(*options, **how)
    if most_bytes:
        line = [sys.executable, "-c", LIMITED, str(most_bytes), *line]
    return subprocess.run(
        line, cwd=place, env=environment(), capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
    )


LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
os.execv(sys.argv[2], sys.argv[2:])
"""


class Watched:
    """A run that is followed by its output, and held at the row of a step where one is given.

    It goes on after :meth:`go_on`, or, with ``until_signal``, when a signal has arrived in rank 0.
    """

    def __init__(
        self,
        place: Path,
        line: Sequence[str],
        *,
        hold_at: int | None = None,
        until_signal: bool = False,
        **variables: str,
    ) -> None:
        self._hold_at = hold_at
        self._go = place / ("signal" if until_signal else f"go-{secrets.token_hex(4)}")
        if hold_at is not None:
            variables |= {"HOLD_AT": str(hold_at), "GO": str(self._go)}
        self.process = subprocess.Popen(
            line, cwd=place, env=environment(**variables), start_new_session=True, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.shown = ""

    def until_held(self) -> bool:
        """Read until the row at which it is held; False when the run ended before."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.shown += line
            found = ROW.match(line)
            if found and int(found[1]) == self._hold_at:
                return True
        return False

    def go_on(self) -> None:
        self._go.touch()

    def signal(self, kind: int, *, every: bool = True) -> None:
        """To all processes of the run, or to the one that was started.

        torchrun puts each rank into a session of its own, which the death of torchrun does not end: they
        are found by their parents.
        """
        for pid in _family(self.process.pid) if every else [self.process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, kind)

    def end(self) -> subprocess.CompletedProcess[str]:
        """Wait for its end and return what it said."""
        try:
            out, error = self.process.communicate(timeout=LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            raise
        return subprocess.CompletedProcess(
            self.process.args, self.process.returncode, self.shown + out, error
        )


def _family(pid: int) -> list[int]:
    """A process and all that came of it, the eldest first so that none can start another."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            child, parent = int(stat.parent.name), int(stat.read_text().rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(child)
    found = [pid]
    for each in found:
        found += parents.get(each, [])
    return found


def kill_at(place: Path, step: int, *options: str, processes: int) -> None:
    """Start or resume a run, and kill all its processes at once when it shows ``step``."""
    run = Watched(place, command(*options, processes=processes), hold_at=step)
    reached = run.until_held()
    if reached:
        run.signal(signal.SIGKILL)
    done = run.end()
    assert reached, done.stdout + done.stderr


def by_hand(place: Path, *options: str, hold_at: int, ranks: int = 2) -> list[Watched]:
    """The ranks as processes of their own, without torchrun, whose agent would end them all."""
    world = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [
        Watched(place, command(*options), hold_at=hold_at, RANK=str(rank), LOCAL_RANK=str(rank), **world)
        for rank in range(ranks)
    ]


REFUSALS = """
import json, sys
import torch.distributed as dist
import train

for arguments in json.loads(sys.argv[1]):
    print("code", train.main(arguments), file=sys.stderr)
    if dist.is_initialized():
        dist.destroy_process_group()
"""


def refusals(place: Path, every: Sequence[Sequence[str]]) -> list[tuple[int, str]]:
    """Exit code and message of each of several attempts, made one behind the other in one process."""
    lines = json.dumps([["faulty.py:steady", "--lake", "lake", *options] for options in every])
    done = subprocess.run(
        [sys.executable, "-c", REFUSALS, lines], cwd=place, env=environment(PYTHONPATH=_with(TRAINER)),
        capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False,
    )  # fmt: skip
    told = re.split(r"code (\d)\n", done.stderr)
    return [(int(code), message) for message, code in zip(told[0::2], told[1::2], strict=False)]


def _with(folder: Path) -> str:
    before = os.environ.get("PYTHONPATH")
    return f"{folder}{os.pathsep}{before}" if before else str(folder)


def only_run(place: Path, out: str) -> Path:
    (run,) = (place / out).iterdir()
    return run


def checkpoints(place: Path, out: str) -> list[str]:
    return sorted(p.name for p in only_run(place, out).glob("step-*"))


def stream_of(place: Path, out: str) -> dict[int, tuple[int, int]]:
    """``first_sequence, count`` of each step that still stands."""
    rows = live_rows(Lake(place / "lake"), "training_steps", only_run(place, out).name).to_pylist()
    return {r["step"]: (r["first_sequence"], r["count"]) for r in rows}


def losses_of(place: Path, out: str) -> dict[int, float]:
    rows = live_rows(Lake(place / "lake"), "training_steps", only_run(place, out).name).to_pylist()
    return {r["step"]: r["loss"] for r in rows}


def documents_of(place: Path, out: str, steps: Sequence[int]) -> list[list[tuple[Any, ...]]]:
    """What the trace says each step trained on."""
    lake, run_id = Lake(place / "lake"), only_run(place, out).name
    keys = ("sequence_index", "doc_id", "start", "tokens")
    return [[tuple(r[k] for k in keys) for r in trace_step(lake, s, run_id).rows] for s in steps]


def damage(folder: Path, choose: Callable[[Path], bool], change: Callable[[bytes], bytes]) -> Path:
    """Change the first file of a checkpoint that ``choose`` takes; returns it."""
    file = next(p for p in sorted(folder.iterdir()) if choose(p))
    file.write_bytes(change(file.read_bytes()))
    return file
