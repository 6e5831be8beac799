"""``python -m headwater.demo``: the main job on the embedded corpus, as the commands a user would type.

Each stage is one command in a process of its own, printed before it runs, timed, and measured.
A stage whose inputs did not change says so and does nothing, so that a second run is short.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table as Grid

from headwater.errors import HeadwaterError
from headwater.trace import live_rows

if TYPE_CHECKING:
    from headwater.project import Project

TABLE = "python_textbook"
RECIPE = "llama_1m_cpu"
PROCESSES = 2
SEQUENCE_LENGTH = 512
HOLD_OUT = 0.01
"""Of the duplicate clusters: some 140 documents that the model is measured on and never trained on."""


@dataclass(frozen=True)
class Stage:
    """One command of the demo; ``command`` as a user types it."""

    title: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Measured:
    """What a stage cost: wall seconds, and the largest resident set of any of its processes in bytes."""

    title: str
    seconds: float
    peak_bytes: int


class StageFailed(HeadwaterError):
    """A stage ended with an error, which it has printed itself."""

    def __init__(self, stage: Stage, code: int) -> None:
        super().__init__(f"stage {stage.title!r} ended with exit code {code}: {shlex.join(stage.command)}")
        self.exit_code = code if code in (1, 2) else 1


def stages(project: Project) -> list[Stage]:
    """The commands, in order."""
    recipe = (
        f"torchrun --standalone --nproc-per-node {PROCESSES} trainer/train.py {RECIPE} "
        f"--version approved --lake {shlex.quote(project.lake_uri)} --evaluate held_out"
    )
    packing = f"headwater pack {TABLE} --sequence-length {SEQUENCE_LENGTH} --hold-out {HOLD_OUT}"
    return [
        Stage("ingest", ("headwater", "ingest", "python", "--sync")),
        Stage("build", ("headwater", "build")),
        Stage("check", ("headwater", "check", TABLE)),
        Stage("approve", ("headwater", "approve", TABLE, "--why", "all its checks passed")),
        Stage("pack", tuple(packing.split())),
        Stage(
            "approve order", ("headwater", "approve", "sequences", "--why", "packed from the approved table")
        ),
        Stage("train", tuple(shlex.split(recipe))),
        Stage("trace", ("headwater", "trace", "--step", "10")),
        Stage("report", ("headwater", "report", "--output", "report.html")),
    ]


def run(project: Project, console: Console) -> list[Measured]:
    """Run every stage in the project's folder; raises ``StageFailed`` at the first that fails."""
    measured = []
    for stage in stages(project):
        trained = _trained(project) if stage.title == "train" else None
        if trained:
            console.print(f"\n[bold]$ {shlex.join(stage.command)}[/bold]", highlight=False, soft_wrap=True)
            console.print(f"unchanged: run {trained} trained on exactly these sequences", highlight=False)
            continue
        measured.append(_run_stage(stage, project, console))
    return measured


def _trained(project: Project) -> str | None:
    """The run that finished on the approved sequences, if one did."""
    lake = project.lake()
    if not (lake.exists("training_runs") and lake.exists("checkpoints")):
        return None
    digest = lake.table("sequences", version="approved").digest
    runs = lake.table("training_runs").to_arrow(["run_id", "recipe", "digest", "config"]).to_pylist()
    saved = lake.table("checkpoints").to_arrow(["run_id", "step"]).to_pylist()
    done = [
        run["run_id"]
        for run in runs
        if (run["digest"], run["recipe"]) == (digest, RECIPE)
        # A checkpoint on the way is not the end: a run that was killed is trained again.
        and {"run_id": run["run_id"], "step": json.loads(run["config"])["max_steps"]} in saved
    ]
    return done[-1] if done else None


def _run_stage(stage: Stage, project: Project, console: Console) -> Measured:
    console.print(f"\n[bold]$ {shlex.join(stage.command)}[/bold]", highlight=False, soft_wrap=True)
    sys.stdout.flush()
    bin_dir = Path(sys.executable).parent
    environment = {
        **os.environ,
        **project.environment(),
        "PATH": f"{bin_dir}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",  # one thread for each training process; torchrun warns without it
    }
    started = time.perf_counter()
    process = subprocess.Popen(stage.command, cwd=project.root, env=environment)
    # wait4 and not wait: its usage covers the processes of this stage alone.
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise StageFailed(stage, process.returncode)
    scale = 1 if sys.platform == "darwin" else 1024
    return Measured(stage.title, time.perf_counter() - started, usage.ru_maxrss * scale)


def summarize(project: Project, measured: list[Measured], console: Console) -> None:
    """Print the funnel, the approved versions, the loss curve in brief, the report, and what to try next."""
    from headwater.report import funnel

    lake = project.lake()
    console.rule("what came out")
    console.print(funnel(lake, TABLE).render())
    console.print(_approved(project))
    console.print(_losses(project))
    console.print(_costs(measured))
    console.print(
        f"report: [bold]{project.root / 'report.html'}[/bold] (one file, opens offline)", soft_wrap=True
    )
    console.print("try next:")
    if shutil.which("headwater") is None:  # the commands above found it; the shell that ran this does not
        script = Path(sys.executable).parent / "activate"
        console.print(f"  [bold]. {script}[/bold]\n      puts headwater on your path", soft_wrap=True)
    document = lake.table("decisions").scan(["doc_id"], filter=f"`table` = '{TABLE}'").read_next_batch()
    identifier = document["doc_id"][0].as_py().hex()[:12] if document.num_rows else "<doc id>"
    for command, reason in (
        (f"headwater why {identifier}", "why one document is out"),
        ("headwater trace --step 10", "which documents a training step saw"),
        (
            "headwater trace --text 'import this'",
            "which documents hold a text, and which checkpoints saw them",
        ),
        (
            "headwater trace --where \"source = 'stdlib'\"",
            "a takedown: which checkpoints saw them, the last clean one, what a replay costs",
        ),
        (
            "headwater build --vars '{edu_scores: true, embeddings: true, semantic: true}'",
            "educational value, a vector for every document, topics; scores become a rule",
        ),
        ('headwater search "binary search tree"', "by meaning and by words, after headwater search --index"),
        (
            f"$EDITOR sql/models/curated/{TABLE}.sql && headwater build",
            "change a rule; only what changed runs",
        ),
    ):
        console.print(f"  [bold]{command}[/bold]\n      {reason}", highlight=False, soft_wrap=True)


def _approved(project: Project) -> Grid:
    grid = Grid(title="approved", title_justify="left")
    for heading in ("table", "version", "rows", "digest"):
        grid.add_column(heading, justify="right" if heading in ("version", "rows") else "left")
    lake = project.lake()
    for name in (TABLE, "sequences"):
        table = lake.table(name, version="approved")
        grid.add_row(table.name, str(table.version), f"{table.num_rows:,}", table.digest[:16])
    return grid


def _losses(project: Project) -> Grid:
    grid = Grid(title="training", title_justify="left")
    for heading in ("step", "loss", "tokens/s"):
        grid.add_column(heading, justify="right")
    run_id = _trained(project)
    logged = live_rows(project.lake(), "training_steps", run_id).to_pylist() if run_id else []
    rows = {row["step"]: row for row in logged}
    order = sorted(rows)
    shown = order[:: max(1, len(order) // 8)] + order[-1:]
    for step in dict.fromkeys(shown):
        grid.add_row(str(step), f"{rows[step]['loss']:.3f}", f"{rows[step]['tokens_per_second']:,.0f}")
    for row in live_rows(project.lake(), "evaluations", run_id).to_pylist() if run_id else []:
        grid.add_section()
        grid.add_row(row["table"], f"{row['bits_per_byte']:.3f}", "bits per byte")
    return grid


def _costs(measured: list[Measured]) -> Grid:
    grid = Grid(title="cost of each stage", title_justify="left")
    for heading in ("stage", "seconds", "peak memory"):
        grid.add_column(heading, justify="left" if heading == "stage" else "right")
    for stage in measured:
        grid.add_row(stage.title, f"{stage.seconds:.1f}", f"{stage.peak_bytes / 2**20:,.0f} MiB")
    grid.add_section()
    grid.add_row(
        "all",
        f"{sum(s.seconds for s in measured):.1f}",
        f"{max((s.peak_bytes for s in measured), default=0) / 2**20:,.0f} MiB",
    )
    return grid


def main() -> int:
    """Run the demo in the project of the current folder; the exit code of the first stage that fails."""
    from headwater.project import Project

    console = Console()
    project = Project.find(".")
    console.print(
        "[bold]Headwater[/bold]: the Python code installed on this machine, from files to a training step.",
        soft_wrap=True,
    )
    try:
        measured = run(project, console)
        summarize(project, measured, console)
    except HeadwaterError as error:
        Console(stderr=True).print(f"[red]error:[/red] {error}", highlight=False)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
