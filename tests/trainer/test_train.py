"""Training with real processes: the curve is the recipe's and the table's, not the number of ranks'."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import trainer_runs as tools

from headwater.lake import Lake
from headwater.sequences import pack
from headwater.trace import trace_document, trace_step

pytest.importorskip("torch")
pytest.importorskip("transformers")

pytestmark = [pytest.mark.trainer, pytest.mark.slow]


@pytest.fixture(scope="module")
def whole(place: Path) -> dict[int, float]:
    """The curve of an uninterrupted run on two processes."""
    done = tools.train(place, "--out", "whole", processes=2)
    assert done.returncode == 0, done.stderr
    return dict(tools.losses(place, "whole"))


def test_the_loss_falls_and_every_step_is_logged(place: Path, whole: dict[int, float]) -> None:
    assert list(whole) == list(range(1, 13))
    assert whole[12] < whole[1] - 1
    lake = Lake(place / "lake")
    (run_id,) = (run.name for run in (place / "whole").iterdir())
    run = lake.table("training_runs").to_arrow(filter=f"run_id = '{run_id}'").to_pylist()[0]
    sequences = lake.table(run["table"], version=run["version"])
    assert run["table"] == "dev.sequences" and run["digest"] == sequences.digest
    assert (run["approved"], run["world_size"], run["start_step"]) == (False, 2, 0)
    assert "not approved" in run["bypass"]
    steps = lake.table("training_steps").to_arrow(filter=f"run_id = '{run_id}'").to_pylist()
    assert [s["first_sequence"] for s in steps] == [4 * i for i in range(12)]
    assert all(s["tokens"] == 256 and s["count"] == 4 and s["grad_norm"] > 0 for s in steps)
    saved = sorted(p.name for p in (place / "whole" / run_id).glob("step-*"))
    assert saved == ["step-00000008", "step-00000012"]
    seen = trace_step(lake, 5, run_id)
    assert sum(row["tokens"] for row in seen.rows) == seen.tokens
    (exposure,) = trace_document(lake, seen.rows[0]["doc_id"], run_id).runs
    assert 5 in exposure.steps


def test_two_processes_then_one_give_the_same_curve(place: Path, whole: dict[int, float]) -> None:
    first = tools.train(place, "--out", "split", "--max-steps", "6", processes=2)
    assert first.returncode == 0, first.stderr
    second = tools.train(place, "--out", "split", "--resume", processes=1)
    assert second.returncode == 0, second.stderr
    assert "resumed from step-00000006 at sequence 24" in second.stdout
    assert tools.losses(place, "split") == pytest.approx(whole, rel=1e-4)


def _trainers(place: Path) -> list[str]:
    """Processes that train in ``place``: other tests, in processes beside this one, train elsewhere."""
    lines = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended just now
            line = (process / "cmdline").read_bytes().split(b"\0")
            if (process / "cwd").samefile(place) and any(part.endswith(b"train.py") for part in line):
                lines.append(str(line))
    return lines


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG and /proc are Linux's")
def test_a_killed_run_goes_on_as_if_nothing_had_happened(place: Path, whole: dict[int, float]) -> None:
    line = tools.command(place, "--out", "killed", processes=2)
    run = subprocess.Popen(
        line, cwd=place, env=tools.environment(), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while not list((place / "killed").glob("*/step-00000004")) and time.monotonic() < deadline:
        time.sleep(0.02)
    run.kill()  # torchrun alone: its ranks have sessions of their own
    run.wait()
    while (left := _trainers(place)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left, "a rank outlived torchrun, and could write into the run that is resumed"
    assert list((place / "killed").glob("*/step-*")), "killed before its first checkpoint"
    resumed = tools.train(place, "--out", "killed", "--resume", processes=2)
    assert resumed.returncode == 0, resumed.stderr
    assert tools.losses(place, "killed") == pytest.approx(whole, rel=1e-6)


def test_resuming_over_other_data_is_refused_with_both_sides(place: Path, whole: dict[int, float]) -> None:
    lake = Lake(place / "lake")
    version = lake.table("sequences").version
    try:
        pack(lake, "book", sequence_length=32, vocab_size=300, require_approved=False)
        refused = tools.train(place, "--out", "whole", "--resume")
    finally:
        pack(lake, "book", sequence_length=64, vocab_size=300, require_approved=False)
    assert refused.returncode == 1
    assert "sequence_length: state 64, table 32" in refused.stderr
    assert f"--version {version}" in refused.stderr
    assert "Traceback" not in refused.stderr
    again = tools.train(place, "--out", "whole", "--resume", "--version", str(version))
    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stdout


ERRORS = [
    (
        ["tiny.py:tiny", "--resume", "--out", "none"],
        2,
        "found no checkpoint of any run of tiny.py:tiny in none",
    ),
    (["llama_1m_cpo"], 2, "did you mean llama_1m_cpu"),
    (["gone.py:tiny"], 2, "no recipe file gone.py"),
    (["tiny.py:tiny", "--table", "sequence"], 2, "did you mean dev.sequences"),
    (["tiny.py:tiny", "--version", "approved"], 1, "has no standing approval"),
    (["tiny.py:tiny", "--version", "999"], 2, "unknown version or tag"),
    (["tiny.py:tiny", "--target", "prod", "--table", "dev.sequences"], 1, "has no standing approval"),
]

ALL_ERRORS = """
import json, sys
import torch.distributed as dist
import train

for arguments in json.loads(sys.argv[1]):
    print("code", train.main(arguments), file=sys.stderr)
    if dist.is_initialized():
        dist.destroy_process_group()
"""


def test_errors_are_readable(place: Path) -> None:
    lines = json.dumps([[*arguments, "--lake", "lake"] for arguments, *_ in ERRORS])
    environment = {**tools.environment(), "PYTHONPATH": str(tools.TRAINER)}
    done = subprocess.run(
        [sys.executable, "-c", ALL_ERRORS, lines], cwd=place, env=environment, capture_output=True, text=True
    )
    told = re.split(r"code (\d)\n", done.stderr)
    assert "Traceback" not in done.stderr
    for (arguments, code, says), message, got in zip(ERRORS, told[0::2], told[1::2], strict=False):
        assert says in message and int(got) == code, (arguments, message, got)
    assert len(told[1::2]) == len(ERRORS)


def test_a_changed_recipe_does_not_resume(place: Path, whole: dict[int, float]) -> None:
    changed = tools.RECIPE.replace("hidden_size=32", "hidden_size=48")
    original = (place / "tiny.py").read_text()
    try:
        (place / "tiny.py").write_text(changed)
        refused = tools.train(place, "--out", "whole", "--resume")
    finally:
        (place / "tiny.py").write_text(original)
    assert refused.returncode == 1
    assert "hidden_size: checkpoint 32, recipe 48" in refused.stderr


def test_the_trainer_stays_thin() -> None:
    lines = sum(len(f.read_text().splitlines()) for f in tools.TRAINER.rglob("*.py"))
    assert lines < 1_200


def steps_of(place: Path, out: str) -> list[dict[str, Any]]:
    (run,) = (place / out).iterdir()
    rows = Lake(place / "lake").table("training_steps").to_arrow(filter=f"run_id = '{run.name}'").to_pylist()
    return sorted(rows, key=lambda r: (r["attempt"], r["step"]))


def test_skipped_sequences_are_on_record_and_train_nothing(place: Path, whole: dict[int, float]) -> None:
    """The batches around 13 and 17 are stepped over; all others keep their step, rate and sequences."""
    done = tools.train(place, "--out", "skipped", "--skip", "13:17", processes=2)
    assert done.returncode == 0, done.stderr
    assert "skipped: sequences 12 to 15" in done.stdout and "skipped: sequences 16 to 19" in done.stdout
    steps = steps_of(place, "skipped")
    assert [s["step"] for s in steps if s["use"] == "skipped"] == [4, 5]
    assert all(s["loss"] is None and s["tokens"] == 0 for s in steps if s["use"] == "skipped")
    assert [s["first_sequence"] for s in steps] == [4 * i for i in range(12)]
    losses = {s["step"]: s["loss"] for s in steps}
    assert [losses[i] for i in (1, 2, 3)] == pytest.approx([whole[i] for i in (1, 2, 3)], rel=1e-6)
    assert losses[6] != pytest.approx(whole[6], rel=1e-6)
    lake = Lake(place / "lake")
    (run_id,) = (run.name for run in (place / "skipped").iterdir())
    assert trace_step(lake, 4, run_id).use == "skipped"
    # The checkpoint remembers: a resume from before the gap skips it again, without being told.
    state = json.loads((place / "skipped" / run_id / "step-00000008" / "state.json").read_text())
    assert state["skip"] == [[13, 17]]


def test_an_attempt_from_an_earlier_checkpoint_sets_the_later_ones_aside(
    place: Path, whole: dict[int, float]
) -> None:
    first = tools.train(place, "--out", "back", "--seed", "1")
    assert first.returncode == 0, first.stderr
    curve = tools.losses(place, "back")
    assert curve[1] != pytest.approx(whole[1], rel=1e-6)  # another seed, other weights
    (run,) = (place / "back").iterdir()
    refused = tools.train(place, "--out", "back", "--resume", f"{run.name}@8")
    assert refused.returncode == 1 and "seed: checkpoint 1, recipe 0" in refused.stderr
    again = ["--resume", f"{run.name}@8", "--seed", "1"]
    shorter = tools.train(place, "--out", "back", *again, "--max-steps", "9")
    assert shorter.returncode == 0, shorter.stderr
    assert sorted(p.name for p in run.glob("step-*")) == [
        "step-00000008", "step-00000009", "step-00000012.old",
    ]  # fmt: skip
    rest = tools.train(place, "--out", "back", "--resume", "--seed", "1")
    assert "resumed from step-00000009" in rest.stdout
    assert tools.losses(place, "back") == pytest.approx(curve, rel=1e-6)


GROWING = """
from recipe import Recipe


def growing() -> Recipe:
    return Recipe(
        hidden_size=32, num_layers=2, num_heads=2, architecture="GPT2LMHeadModel",
        config={"n_inner": 64, "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0},
        global_batch_size=((0, 2), (8, 4)), micro_batch_size=2, max_steps=8, learning_rate=1e-2,
        min_learning_rate=1e-3, warmup_steps=2, schedule="wsd", decay_steps=3,
        activation_checkpointing="selective", async_checkpoint=False, checkpoint_every=4,
    )
"""


def test_another_architecture_a_growing_batch_and_every_metric(place: Path) -> None:
    """GPT-2 on two processes, resumed on one; sources, evaluation, samples, TensorBoard and export."""
    (place / "growing.py").write_text(GROWING)
    how: dict[str, Any] = {"recipe": "growing.py:growing"}
    extras = ["--evaluate", "sequences", "--evaluate-every", "4", "--evaluate-sequences", "6"]
    extras += ["--samples", "2", "--tensorboard", "board", "--export", "exported"]
    first = tools.train(place, "--out", "growing", "--max-steps", "6", processes=2, **how)
    assert first.returncode == 0, first.stderr
    second = tools.train(place, "--out", "growing", "--resume", *extras, **how)
    assert second.returncode == 0, second.stderr
    steps = steps_of(place, "growing")
    assert [(s["first_sequence"], s["count"]) for s in steps] == [
        (0, 2), (2, 2), (4, 2), (6, 2), (8, 4), (12, 4), (16, 4), (20, 4),
    ]  # fmt: skip
    assert steps[-1]["learning_rate"] == pytest.approx(1e-3)
    lake = Lake(place / "lake")
    (run_id,) = (run.name for run in (place / "growing").iterdir())

    def logged(table: str) -> list[dict[str, Any]]:
        return list(lake.table(table).to_arrow(filter=f"run_id = '{run_id}'").to_pylist())

    sources = logged("training_sources")
    assert {row["source"] for row in sources} == {"made"}
    tokens = {row["step"]: row["tokens"] for row in sources}
    assert tokens == {s["step"]: s["tokens"] for s in steps}
    of_sources = {row["step"]: row["loss"] for row in sources}
    assert of_sources == pytest.approx({s["step"]: s["loss"] for s in steps}, rel=1e-5)
    (scores,) = logged("evaluations")
    assert scores["step"] == 8 and scores["bits_per_byte"] > 0 and scores["table"] == "dev.sequences"
    assert [row["step"] for row in logged("generation_samples")] == [8, 8]
    assert "bits per byte" in second.stdout
    assert list((place / "board").iterdir()) and (place / "exported" / "model.safetensors").is_file()


def test_a_new_stage_goes_on_with_the_rest_at_another_length(tmp_path: Path, place: Path) -> None:
    import shutil

    shutil.copytree(place / "lake", tmp_path / "lake")
    (tmp_path / "tiny.py").write_text(tools.RECIPE)
    first = tools.train(tmp_path, "--out", "staged", "--max-steps", "6")
    assert first.returncode == 0, first.stderr
    (run,) = (tmp_path / "staged").iterdir()
    lake = Lake(tmp_path / "lake")
    stage = pack(
        lake, "book", sequence_length=32, vocab_size=300, require_approved=False, after=f"{run.name}@6"
    )
    assert stage is not None
    second = tools.train(tmp_path, "--out", "staged", "--resume")
    assert second.returncode == 0, second.stderr
    steps = steps_of(tmp_path, "staged")
    assert [s["first_sequence"] for s in steps[:6]] == [4 * i for i in range(6)]
    assert [s["first_sequence"] for s in steps[6:]] == [4 * i for i in range(len(steps) - 6)]
    lengths = lake.table("training_runs").to_arrow(["attempt", "sequence_length"]).to_pylist()
    of_run = {r["attempt"]: r["sequence_length"] for r in lengths[-2:]}
    assert of_run == {1: 64, 2: 32}
    wrong = tools.train(tmp_path, "--out", "other", "--max-steps", "4")
    assert wrong.returncode == 0, wrong.stderr
    lake_now = lake.table("sequences").provenance.extra["continues"]
    assert lake_now["run_id"] == run.name
