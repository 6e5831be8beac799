"""Checkpoints: whole or not at all, a copy of their moment, and seen through when damaged."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headwater.errors import DataMismatch, HeadwaterError, UnknownName, UsageError
from headwater.training.checkpoints import (
    damage,
    find_checkpoint,
    finish,
    one_before,
    read_state,
    saved,
    set_aside,
)

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
nn = torch.nn

pytestmark = [pytest.mark.trainer, pytest.mark.slow]

TRAINER = Path(__file__).parents[2] / "trainer"


@pytest.fixture(scope="module")
def trainer() -> Iterator[Any]:
    """``checkpoint.py`` in a process group of one."""
    import torch.distributed as dist

    torch.set_num_threads(1)
    sys.path.insert(0, str(TRAINER))
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield importlib.import_module("checkpoint")
    dist.destroy_process_group()
    sys.path.remove(str(TRAINER))


def made(folder: Path, step: int, keep: int = 9) -> Path:
    """A finished checkpoint of two files."""
    unfinished = folder / f"step-{step:08d}.tmp"
    unfinished.mkdir(parents=True)
    (unfinished / "__0_0.distcp").write_bytes(bytes(range(100)))
    (unfinished / ".metadata").write_bytes(b"metadata")
    return finish(unfinished, {"step": step}, keep=keep)


def test_a_finished_checkpoint_lists_its_files(tmp_path: Path) -> None:
    path = made(tmp_path, 4)
    assert saved(tmp_path) == [path] and not list(tmp_path.glob("*.tmp"))
    files = read_state(path)["files"]
    assert {name: size for name, (size, _) in files.items()} == {"__0_0.distcp": 100, ".metadata": 8}
    assert damage(path) == damage(path, 0, 2) == damage(path, 1, 2) == []


DAMAGE = {
    "truncated": (lambda file: file.write_bytes(bytes(range(60))), "__0_0.distcp has 60 bytes of 100"),
    "gone": (Path.unlink, "__0_0.distcp is gone"),
    "changed": (lambda file: file.write_bytes(bytes(100)), "__0_0.distcp has other content than was written"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named(tmp_path: Path, kind: str) -> None:
    made(tmp_path / "run", 4)
    path = made(tmp_path / "run", 8)
    hurt, says = DAMAGE[kind]
    hurt(path / "__0_0.distcp")
    assert damage(path) == [says]
    assert one_before(path) == "go on from the one before: --resume run@4"
    assert one_before(saved(tmp_path / "run")[0]) == "start a new run"
    (path / "state.json").write_text('{"step": ')
    with pytest.raises(DataMismatch, match=r"step-00000008/state.json"):
        read_state(path)


def test_only_the_newest_are_kept_and_a_new_attempt_sets_the_others_aside(tmp_path: Path) -> None:
    for step in (4, 8, 12, 16):
        made(tmp_path, step, keep=3)
    assert [p.name[-2:] for p in saved(tmp_path)] == ["08", "12", "16"]
    (tmp_path / "step-00000020.tmp").mkdir()
    set_aside(tmp_path, 8)
    assert [p.name for p in saved(tmp_path)] == ["step-00000008"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "step-00000008", "step-00000012.old", "step-00000016.old",
    ]  # fmt: skip


def test_a_checkpoint_is_found_by_run_and_step(tmp_path: Path) -> None:
    for run, recipe in (("a-1", "tiny"), ("b-1", "other")):
        made(tmp_path / run, 4)
        made(tmp_path / run, 8)
        (tmp_path / run / "run.json").write_text(json.dumps({"recipe": recipe}))
    assert find_checkpoint(tmp_path, "a-1", "tiny") == tmp_path / "a-1" / "step-00000008"
    assert find_checkpoint(tmp_path, "a-1@4", "tiny") == tmp_path / "a-1" / "step-00000004"
    assert find_checkpoint(tmp_path, "", "other") == tmp_path / "b-1" / "step-00000008"
    with pytest.raises(UnknownName, match="did you mean a-1"):
        find_checkpoint(tmp_path, "a-2", "tiny")
    with pytest.raises(UnknownName, match="unknown checkpoint '5' in run a-1"):
        find_checkpoint(tmp_path, "a-1@5", "tiny")
    with pytest.raises(UsageError, match="found no checkpoint of any run of third"):
        find_checkpoint(tmp_path, "", "third")


def trained(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = nn.Linear(64, 64)
    optimizer = torch.optim.AdamW(model.parameters())
    step(model, optimizer)
    return model, optimizer


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    model(torch.randn(8, 64)).pow(2).sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def facts(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    moments = [value.clone() for state in optimizer.state.values() for value in state.values()]
    return [p.detach().clone() for p in model.parameters()] + moments


@pytest.mark.parametrize("background", [True, False])
def test_training_goes_on_while_the_copy_is_written(
    trainer: SimpleNamespace, tmp_path: Path, background: bool
) -> None:
    model, optimizer = trained(1)
    before = facts(model, optimizer)
    checkpoints = trainer.Checkpoints(tmp_path, 0, keep=2, background=background)
    checkpoints.save(model, optimizer, {"step": 3, "note": "kept"})
    for _ in range(5):
        step(model, optimizer)
    path, state = checkpoints.wait()
    assert state["note"] == read_state(path)["note"] == "kept"
    assert checkpoints.wait() is None and checkpoints.poll() is None
    other, its_optimizer = trained(2)
    trainer.load(path, other, its_optimizer)
    for found, expected in zip(facts(other, its_optimizer), before, strict=True):
        assert torch.equal(found, expected)


def test_a_save_that_fails_leaves_the_older_ones(trainer: SimpleNamespace, tmp_path: Path) -> None:
    model, optimizer = trained(1)
    checkpoints = trainer.Checkpoints(tmp_path, 0, keep=1, background=True)
    checkpoints.save(model, optimizer, {"step": 1})
    first, _ = checkpoints.wait()
    (tmp_path / "step-00000002.tmp").write_text("a file where the folder should be")
    checkpoints.save(model, optimizer, {"step": 2})
    with pytest.raises(HeadwaterError, match="could not save step-00000002: FileExistsError"):
        checkpoints.wait()
    assert saved(tmp_path) == [first] and damage(first) == []


def test_other_shapes_are_refused(trainer: SimpleNamespace, tmp_path: Path) -> None:
    model, optimizer = trained(1)
    checkpoints = trainer.Checkpoints(tmp_path, 0, keep=1, background=True)
    checkpoints.save(model, optimizer, {"step": 1})
    path, _ = checkpoints.wait()
    wider = nn.Linear(64, 32)
    with pytest.raises(DataMismatch, match="cannot load .*step-00000001.*Size mismatch"):
        trainer.load(path, wider, torch.optim.AdamW(wider.parameters()))
