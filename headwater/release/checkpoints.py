"""Checkpoints of a release: copied, or listed with the digests of their files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.errors import UsageError
from headwater.release.files import copy_folder, described
from headwater.trace.runs import checkpoints_of

if TYPE_CHECKING:
    from headwater.lake import Lake

CHECKPOINTS = ("all", "last", "none")
CHECKPOINTS_FILE = "checkpoints.json"


def write_checkpoints(
    folder: Path, lake: Lake, run_id: str, runs: Path, wanted: str, progress: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Write ``checkpoints.json`` into ``folder``, and beside it what is wanted of the checkpoints.

    Every checkpoint that the log has and that stands is listed; those that are still below ``runs`` with
    the digests of their files.

    Raises
    ------
    UsageError
        Checkpoints are wanted, and the last is not in ``runs``.
    """
    known = checkpoints_of(lake, run_id)
    last = known[-1][0] if known else None
    listed = []
    folder.mkdir(parents=True)
    for step, path in known:
        place = runs / run_id / Path(path).name
        row: dict[str, Any] = {"step": step, "path": path, "present": place.is_dir(), "copied": False}
        if wanted != "none" and step == last and not row["present"]:
            raise UsageError(
                f"checkpoint {path} is not in {runs}",
                hint="name the folder of runs with --runs, or list the checkpoints only: --checkpoints none",
            )
        if row["present"]:
            progress(f"checkpoint {place.name}")
            if wanted == "all" or (wanted == "last" and step == last):
                copy_folder(place, folder / place.name)
                row["copied"] = True
            row["files"] = described(folder / place.name if row["copied"] else place)
        listed.append(row)
    text = json.dumps(listed, indent=2, sort_keys=True) + "\n"
    (folder / CHECKPOINTS_FILE).write_text(text, encoding="utf-8")
    return listed
