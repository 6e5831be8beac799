"""Faults, with real processes: what a run leaves when it dies, and that it goes on as if it had not."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
from pathlib import Path

import faults as tools
import pyarrow as pa
import pytest
import xxhash

from headwater.lake import Lake
from headwater.sequences import pack

pytest.importorskip("torch")
pytest.importorskip("transformers")

pytestmark = [pytest.mark.trainer, pytest.mark.slow]


KILLS = int(os.environ.get("HEADWATER_KILLS", "3"))
"""Kills in the battery: three on every run of the suite, twenty for the record."""
WORLDS = (4, 2, 1, 4)


@pytest.fixture(scope="module")
def here(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tools.make_place(place, tmp_path_factory.mktemp("faults") / "here")


@pytest.fixture(scope="module")
def whole(here: Path) -> dict[int, float]:
    """The losses of a run that nothing befell, on one process."""
    done = tools.train(here, "--out", "whole")
    assert done.returncode == 0, done.stderr
    assert tools.stream_of(here, "whole") == {s: (4 * s - 4, 4) for s in range(1, tools.STEPS + 1)}
    return dict(tools.losses_of(here, "whole"))


def as_if_nothing_had_happened(here: Path, out: str, whole: dict[int, float], rel: float = 1e-4) -> None:
    steps = sorted(whole)
    assert tools.stream_of(here, out) == tools.stream_of(here, "whole")
    assert tools.documents_of(here, out, steps) == tools.documents_of(here, "whole", steps)
    assert tools.losses_of(here, out) == pytest.approx(whole, rel=rel)


@pytest.mark.timeout(3_600)
def test_kill_9_at_random_steps_on_4_2_1_4_processes(here: Path, whole: dict[int, float]) -> None:
    """Each kill at a step drawn at random, each resume on another number of processes, to the end."""
    draw = random.Random(7)
    out, resumed_from = "killed", []
    for number in range(KILLS):
        found = tools.checkpoints(here, out) if (here / out).exists() else []
        kept = [name for name in found if not name.endswith(".tmp")]  # a save that the kill cut short
        if kept:
            resumed_from.append(max(kept))
            options, least = ["--out", out, "--resume"], int(max(kept).removeprefix("step-")) + 1
        else:  # nothing to resume: killed before its first checkpoint was whole
            out, resumed_from = f"killed-{number}", []
            options, least = ["--out", out], 4
        tools.kill_at(here, draw.randint(least, tools.STEPS), *options, processes=WORLDS[number % 4])
    done = tools.train(here, "--out", out, "--resume", processes=WORLDS[KILLS % 4])
    assert done.returncode == 0, done.stderr
    as_if_nothing_had_happened(here, out, whole)
    runs = Lake(here / "lake").table("training_runs").to_arrow().to_pylist()
    attempts = [r for r in runs if r["run_id"] == tools.only_run(here, out).name]
    assert len(attempts) == len(resumed_from) + 2 or KILLS == 1
    assert len({r["world_size"] for r in attempts}) > 1


def test_the_second_resume_is_as_exact_as_the_first(here: Path, whole: dict[int, float]) -> None:
    """Killed after its first checkpoint, and after one that the first resume made."""
    tools.kill_at(here, 5, "--out", "twice", processes=2)
    assert tools.checkpoints(here, "twice")[0] == "step-00000003"
    tools.kill_at(here, 8, "--out", "twice", "--resume", processes=1)
    done = tools.train(here, "--out", "twice", "--resume")
    assert done.returncode == 0, done.stderr
    as_if_nothing_had_happened(here, "twice", whole)


def test_the_table_gains_and_loses_documents_meanwhile(
    place: Path, tmp_path: Path, here: Path, whole: dict[int, float]
) -> None:
    mine = tools.make_place(place, tmp_path / "mine")
    begun = tools.train(mine, "--out", "moved", "--max-steps", "6")
    assert begun.returncode == 0, begun.stderr
    lake = Lake(mine / "lake")
    was = lake.table("sequences")
    book = lake.table("book").to_arrow()
    texts = [f"new text number {i} " * 20 for i in range(30)]
    gained = pa.table(
        {
            "doc_id": pa.array([xxhash.xxh3_128_digest(t.encode()) for t in texts], pa.binary(16)),
            "text": pa.array(texts, pa.large_string()),
            "source": pa.array(["new"] * len(texts)),
        }
    )
    lake.write("book", pa.concat_tables([book.slice(20), gained.cast(book.schema)]))
    pack(lake, "book", sequence_length=64, vocab_size=300, require_approved=False)
    now = lake.table("sequences")
    assert now.digest != was.digest
    refused = tools.train(mine, "--out", "moved", "--resume")
    assert refused.returncode == 1 and "Traceback" not in refused.stderr
    assert f"digest: state '{was.digest}', table '{now.digest}'" in refused.stderr
    assert f"--version {was.version}" in refused.stderr
    done = tools.train(mine, "--out", "moved", "--resume", "--version", str(was.version))
    assert done.returncode == 0, done.stderr
    assert tools.stream_of(mine, "moved") == tools.stream_of(here, "whole")
    assert tools.losses_of(mine, "moved") == pytest.approx(whole, rel=1e-6)


CUT = [
    ("a file of weights is cut", lambda p: p.suffix == ".distcp", lambda b: b[: len(b) // 2]),
    ("a byte of it differs", lambda p: p.suffix == ".distcp", lambda b: b[:-9] + bytes([b[-9] ^ 1]) + b[-8:]),
    ("its index is cut", lambda p: p.name == ".metadata", lambda b: b[:100]),
    ("its state is cut", lambda p: p.name == "state.json", lambda b: b[:100]),
]


def test_a_damaged_checkpoint_is_named_and_the_one_before_goes_on(
    here: Path, whole: dict[int, float]
) -> None:
    begun = tools.train(here, "--out", "cut", "--max-steps", "6")
    assert begun.returncode == 0, begun.stderr
    assert tools.checkpoints(here, "cut") == ["step-00000003", "step-00000006"]
    run = tools.only_run(here, "cut")
    good = {p: p.read_bytes() for p in (run / "step-00000006").iterdir()}
    for number, (_, choose, change) in enumerate(CUT):
        (here / f"cut-{number}").mkdir()
        shutil.copytree(run, here / f"cut-{number}" / run.name)
        tools.damage(here / f"cut-{number}" / run.name / "step-00000006", choose, change)
    told = tools.refusals(here, [["--out", f"cut-{n}", "--resume"] for n in range(len(CUT))])
    for (what, choose, _), (code, message) in zip(CUT, told, strict=True):
        name = next(p.name for p in sorted(good) if choose(p))
        assert code == 1 and "Traceback" not in message, (what, message)
        assert name in message and "step-00000006" in message, (what, message)
        assert f"--resume {run.name}@3" in message, (what, message)
    tools.damage(run / "step-00000006", CUT[0][1], CUT[0][2])
    done = tools.train(here, "--out", "cut", "--resume", f"{run.name}@3")
    assert done.returncode == 0, done.stderr
    as_if_nothing_had_happened(here, "cut", whole, rel=1e-6)


@pytest.mark.parametrize(("recipe", "processes"), [("steady", 2), ("careful", 1)])
def test_a_full_disk_during_a_save(here: Path, whole: dict[int, float], recipe: str, processes: int) -> None:
    """A limit on the size of files stands for the disk: the weights do not fit, the log does."""
    out = f"full-{recipe}"
    begun = tools.train(here, "--out", out, "--max-steps", "3", recipe=recipe, processes=processes)
    assert begun.returncode == 0, begun.stderr
    run = tools.only_run(here, out)
    size = max(p.stat().st_size for p in (run / "step-00000003").iterdir())
    before = {p.name: p.read_bytes() for p in (run / "step-00000003").iterdir()}
    how = {"recipe": recipe, "processes": processes, "most_bytes": size // 2}
    full = tools.train(here, "--out", out, "--resume", **how)
    assert full.returncode == 1, full.stderr
    assert re.search(r"could not save step-0000000[69]", full.stderr), full.stderr
    assert "make room" in full.stderr  # torch names the file's position more often than the disk
    assert tools.checkpoints(here, out) == ["step-00000003"]
    assert {p.name: p.read_bytes() for p in (run / "step-00000003").iterdir()} == before
    done = tools.train(here, "--out", out, "--resume", recipe=recipe)
    assert done.returncode == 0, done.stderr
    as_if_nothing_had_happened(here, out, whole, rel=1e-6)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_its_documents(here: Path) -> None:
    """The learning rate is absurd: after one step the weights are of no use."""
    done = tools.train(here, "--out", "nan", recipe="absurd")
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    found = re.search(r"step (\d+)\D+sequences (\d+) to (\d+): loss \S+ gradient norm \S+", done.stderr)
    assert found, done.stderr
    step, first, last = (int(n) for n in found.groups()[:3])
    assert (first, last) == (4 * step - 4, 4 * step - 1) and step > 1
    named = re.findall(r"([0-9a-f]{32}) of made: loss", done.stderr)
    sequences = (
        Lake(here / "lake").table("sequences").to_arrow(filter=f"sequence_index between {first} and {last}")
    )
    there = {span["doc_id"].hex() for row in sequences["spans"].to_pylist() for span in row}
    assert named and set(named) <= there
    kept = tools.checkpoints(here, "nan")
    assert kept and max(kept) < f"step-{step:08d}"
    assert f"{max(kept)}" in done.stderr
    # Only what was trained is live: the refused batch left no weights.
    assert f"--skip {first}:{last}" in done.stderr


@pytest.mark.parametrize(("dies", "how"), [(1, "killed"), (0, "killed"), (1, "frozen")])
def test_a_rank_that_dies_or_hangs_ends_the_others(
    here: Path, whole: dict[int, float], dies: int, how: str
) -> None:
    """Within the timeout, with the reason; a checkpoint goes on with the ranks that are left."""
    out = f"rank-{dies}-{how}"
    ranks = tools.by_hand(here, "--out", out, "--timeout", "8", hold_at=5)
    assert ranks[0].until_held()
    ranks[dies].signal(signal.SIGKILL if how == "killed" else signal.SIGSTOP)
    ranks[0].go_on()
    left = ranks[1 - dies].end()
    ranks[dies].signal(signal.SIGKILL)
    ranks[dies].end()
    assert left.returncode == 1, left.stderr
    assert "another process of this run ended or hangs" in left.stderr, left.stderr
    assert "--resume" in left.stderr
    if dies == 0:  # once is enough
        return
    done = tools.train(here, "--out", out, "--resume")
    assert done.returncode == 0, done.stderr
    as_if_nothing_had_happened(here, out, whole)


@pytest.mark.parametrize("processes", [1, 2])
def test_sigterm_saves_and_exits(here: Path, whole: dict[int, float], processes: int) -> None:
    out = f"term-{processes}"
    run = tools.Watched(here, tools.command("--out", out, processes=processes), hold_at=4, until_signal=True)
    assert run.until_held()
    run.signal(signal.SIGTERM, every=False)  # torchrun passes it on
    done = run.end()
    last = int(max(tools.checkpoints(here, out)).removeprefix("step-"))
    assert last == max(tools.stream_of(here, out)), done.stderr
    assert 4 < last < tools.STEPS, done.stderr  # after the step that was under way
    if processes == 1:  # torchrun itself reports a signal as a failure
        assert done.returncode == 0, done.stderr
    resumed = tools.train(here, "--out", out, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    as_if_nothing_had_happened(here, out, whole)
