"""Training with real processes: the curve is the recipe's and the table's, not the number of ranks'."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from headwater.lake import Lake
from headwater.sequences import pack
from headwater.trace import trace_document, trace_step

pytest.importorskip("torch")
pytest.importorskip("transformers")

pytestmark = [pytest.mark.trainer, pytest.mark.slow]


def _load_conftest() -> ModuleType:
    spec = importlib.util.spec_from_file_location("trainer_tools", Path(__file__).with_name("conftest.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tools: Any = _load_conftest()


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


def test_a_killed_run_goes_on_as_if_nothing_had_happened(place: Path, whole: dict[int, float]) -> None:
    line = tools.command(place, "--out", "killed", processes=2)
    run = subprocess.Popen(
        line, cwd=place, env=tools.environment(), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 90
    while not list((place / "killed").glob("*/step-00000004")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
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
    assert lines < 600


MASK_CHECK = """
import torch
from model import build_model, document_mask
from recipe import find_recipe
import dataclasses

recipe = dataclasses.replace(find_recipe("llama_1m_cpu"), num_layers=2)
model = build_model(recipe, 300, 32).eval()
ids = torch.randint(0, 300, (1, 32))
segments = torch.tensor([[0] * 10 + [1] * 15 + [-1] * 7], dtype=torch.int32)
positions = torch.tensor([[*range(10), *range(15), *([0] * 7)]])
packed = model(input_ids=ids, attention_mask=document_mask(segments), position_ids=positions).logits
alone = model(input_ids=ids[:, 10:25]).logits
torch.testing.assert_close(packed[:, 10:25], alone, rtol=1e-4, atol=1e-5)
assert torch.isfinite(packed).all()
"""


def test_a_packed_document_sees_only_itself() -> None:
    environment = {**tools.environment(), "PYTHONPATH": str(tools.TRAINER)}
    done = subprocess.run(
        [sys.executable, "-c", MASK_CHECK], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
