"""The checkpoints of training runs as folders: which there are, and whether they are whole.

``runs/RUN/step-N`` holds the files of a checkpoint and ``state.json``: step, loader state, recipe, and the
size and xxh3-128 of every other file. Writing and loading the weights is the trainer's.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xxhash

from headwater.errors import DataMismatch, UnknownName, UsageError
from headwater.training.run_log import RUN_FILE

STATE_FILE = "state.json"


def saved(folder: Path) -> list[Path]:
    """The finished checkpoints of the run in ``folder``, oldest first."""
    return sorted(p for p in folder.glob("step-*") if not p.suffix and (p / STATE_FILE).is_file())


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


def find_checkpoint(out: Path, wanted: str, recipe: str) -> Path:
    """The checkpoint that ``wanted`` names among the runs in ``out``.

    Parameters
    ----------
    wanted:
        ``RUN@STEP``; ``RUN`` for its newest; nothing for the newest of any run of ``recipe``.

    Raises
    ------
    UnknownName, UsageError
        No such run or step, naming what there is, or no checkpoint at all.
    """
    name, _, step = wanted.partition("@")
    runs = {file.parent.name: file for file in out.glob(f"*/{RUN_FILE}")}
    if name and name not in runs:
        raise UnknownName.of("run", name, runs, where=str(out))
    if not name:
        runs = {k: file for k, file in runs.items() if json.loads(file.read_text())["recipe"] == recipe}
    found = {p for k, file in runs.items() if not name or k == name for p in saved(file.parent)}
    if not found:
        which = name or f"any run of {recipe} in {out}"
        raise UsageError(f"found no checkpoint of {which}", hint="start without --resume")
    if step:
        known = {str(step_of(path)): path for path in found}
        if step not in known:
            raise UnknownName.of("checkpoint", step, known, where=f"run {name}")
        return known[step]
    newest = max(found, key=lambda path: path.stat().st_mtime)
    return saved(newest.parent)[-1]


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Raises ``DataMismatch`` naming the file when it cannot be read."""
    try:
        state: dict[str, Any] = json.loads((checkpoint / STATE_FILE).read_text())
    except (OSError, ValueError) as error:
        hint = one_before(checkpoint)
        raise DataMismatch(f"cannot read {checkpoint / STATE_FILE}: {error}", hint=hint) from None
    return state


def finish(unfinished: Path, state: Mapping[str, Any], *, keep: int) -> Path:
    """Make ``step-N.tmp`` final, with its state and list of files; all but the newest ``keep`` go."""
    files = {p.name: [p.stat().st_size, _digest(p)] for p in sorted(unfinished.iterdir())}
    (unfinished / STATE_FILE).write_text(json.dumps({**state, "files": files}, indent=2))
    final = unfinished.with_suffix("")
    shutil.rmtree(final, ignore_errors=True)  # of an earlier attempt at the same steps
    unfinished.rename(final)
    for old in saved(final.parent)[:-keep]:
        shutil.rmtree(old)
    return final


def set_aside(folder: Path, step: int) -> None:
    """Make way for an attempt from ``step``: checkpoints that it goes back behind become ``step-N.old``."""
    for unfinished in folder.glob("step-*.tmp"):
        shutil.rmtree(unfinished)
    for path in saved(folder):
        if step_of(path) > step:
            shutil.rmtree(path.with_suffix(".old"), ignore_errors=True)
            path.rename(path.with_suffix(".old"))


def damage(checkpoint: Path, part: int = 0, parts: int = 1) -> list[str]:
    """What is wrong with every ``parts``-th file from ``part`` on, against the list made when it was saved.

    A checkpoint of an older version lists no files, and nothing is found.
    """
    listed = sorted(read_state(checkpoint).get("files", {}).items())
    found = [_damage(checkpoint / name, *facts) for name, facts in listed[part::parts]]
    return [text for text in found if text]


def _damage(file: Path, size: int, digest: str) -> str | None:
    if not file.is_file():
        return f"{file.name} is gone"
    if file.stat().st_size != size:
        return f"{file.name} has {file.stat().st_size:,} bytes of {size:,}"
    return None if _digest(file) == digest else f"{file.name} has other content than was written"


def one_before(checkpoint: Path) -> str:
    """A hint: how to go on without ``checkpoint``."""
    earlier = [path for path in saved(checkpoint.parent) if path.name < checkpoint.name]
    if not earlier:
        return "start a new run"
    return f"go on from the one before: --resume {checkpoint.parent.name}@{step_of(earlier[-1])}"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()
