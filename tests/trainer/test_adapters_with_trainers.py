"""Other trainers, the real packages: after a resume the same data and the same losses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trainer_runs as tools

from headwater.lake import Lake
from headwater.trace import trace_document, trace_step

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")

pytestmark = [pytest.mark.trainer, pytest.mark.slow]

HUGGING_FACE = """
import json, os, sys, warnings
warnings.simplefilter("ignore")
import torch, transformers
from headwater.adapters.hugging_face import StreamTrainer, stream_for
from headwater.lake import Lake

out, options = sys.argv[1], json.loads(sys.argv[2])
resume = options.pop("resume", None)
table = options.pop("table", "sequences")
config = transformers.LlamaConfig(vocab_size=300, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
    num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=64, attention_dropout=0.1)
torch.manual_seed(3)
args = transformers.TrainingArguments(output_dir=out, per_device_train_batch_size=1, logging_steps=1,
    save_steps=3, learning_rate=1e-2, lr_scheduler_type="cosine", warmup_steps=2, report_to=[], use_cpu=True,
    disable_tqdm=True, **options)
seen = []

class Seeing(StreamTrainer):
    def compute_loss(self, model, inputs, *rest, **more):
        seen.append([self.state.global_step + 1, inputs["input_ids"].tolist()])
        return super().compute_loss(model, inputs, *rest, **more)

lake = Lake("lake")
trainer = Seeing(model=transformers.LlamaForCausalLM(config), args=args, data=stream_for(args, lake, table), log_to=lake)
trainer.train(resume_from_checkpoint=resume)
losses = {row["step"]: row["loss"] for row in trainer.state.log_history if "loss" in row}
with open(f"{out}/seen-{args.process_index}.json", "w") as file:
    json.dump({"seen": seen, "losses": losses, "steps": trainer.state.global_step}, file)
trainer.accelerator.end_training()
"""


def hugging_face(place: Path, out: str, processes: int = 1, **options: Any) -> list[dict[str, Any]]:
    """Train and return, for each process, what it saw and the losses it logged."""
    (place / "hugging_face.py").write_text(HUGGING_FACE + tools.LEAVE)
    line = [*tools.python(processes), "hugging_face.py", out, json.dumps(options)]
    for old in (place / out).glob("seen-*"):
        old.unlink()
    done = subprocess.run(
        line, cwd=place, env=tools.environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(file.read_text()) for file in sorted((place / out).glob("seen-*"))]


def rows_of(runs: list[dict[str, Any]]) -> dict[int, list[list[int]]]:
    """The sequences of each step over all processes, in order."""
    found: dict[int, list[list[int]]] = {}
    for run in runs:
        for step, rows in run["seen"]:
            found.setdefault(step, []).extend(rows)
    return {step: sorted(rows) for step, rows in found.items()}


@pytest.fixture(scope="module")
def whole(place: Path) -> list[dict[str, Any]]:
    return hugging_face(place, "hf-whole", max_steps=6, gradient_accumulation_steps=4)


def test_hugging_face_trains_on_the_order(place: Path, whole: list[dict[str, Any]]) -> None:
    table = Lake(place / "lake").table("sequences").to_arrow().to_pylist()
    seen = [rows[0] for _, rows in whole[0]["seen"]]
    assert seen == [row["tokens"] for row in table[:24]]
    losses = whole[0]["losses"]
    assert len(losses) == 6 and losses["6"] < losses["1"]


def test_hugging_face_resumes_exactly(place: Path, whole: list[dict[str, Any]]) -> None:
    """Resumed at step 3: data, dropout and schedule as in the run that was never stopped."""
    options = {"max_steps": 6, "gradient_accumulation_steps": 4}
    for name in ("checkpoint-3", "checkpoint-6"):
        assert (place / "hf-whole" / name).is_dir()
    resumed = hugging_face(place, "hf-whole", resume="hf-whole/checkpoint-3", **options)
    assert rows_of(resumed) == {s: rows for s, rows in rows_of(whole).items() if s > 3}
    assert resumed[0]["losses"] == whole[0]["losses"]  # steps 1 to 3 come from the checkpoint's own history
    lake = Lake(place / "lake")
    runs = [r for r in lake.table("training_runs").to_arrow().to_pylist() if r["recipe"] == "transformers"]
    run_id = runs[0]["run_id"]
    assert [(r["attempt"], r["start_step"], r["resumed_from"]) for r in runs if r["run_id"] == run_id] == [
        (1, 0, None),
        (2, 3, "hf-whole/checkpoint-3"),
    ]
    steps = lake.table("training_steps").to_arrow(filter=f"run_id = '{run_id}'").to_pylist()
    assert sorted((s["step"], s["first_sequence"], s["count"]) for s in steps) == sorted(
        (s, 4 * s - 4, 4) for s in [1, 2, 3, 4, 5, 6, 4, 5, 6]
    )
    assert {s["step"]: s["loss"] for s in steps} == {int(k): v for k, v in whole[0]["losses"].items()}
    traced = trace_step(lake, 5, run_id)
    assert sum(row["tokens"] for row in traced.rows) == traced.tokens
    (exposure,) = trace_document(lake, traced.rows[0]["doc_id"], run_id).runs
    assert 5 in exposure.steps
    assert (6, "hf-whole/checkpoint-6") in exposure.checkpoints_that_saw_it


def test_hugging_face_resumes_on_two_processes(place: Path, whole: list[dict[str, Any]]) -> None:
    """The same sequences in each step; losses differ by dropout, which is drawn per process."""
    one = hugging_face(place, "hf-two", max_steps=3, gradient_accumulation_steps=4)
    two = hugging_face(
        place, "hf-two", 2, max_steps=6, gradient_accumulation_steps=2, resume="hf-two/checkpoint-3"
    )
    assert rows_of([*one, *two]) == rows_of(whole)


def test_hugging_face_refuses_other_data(place: Path, whole: list[dict[str, Any]]) -> None:
    lake = Lake(place / "lake")
    table = lake.table("sequences")
    facts = table.provenance
    lake.write("reversed", table.to_arrow(), provenance=type(facts)(extra={**facts.extra, "seed": 1}))
    (place / "hugging_face.py").write_text(HUGGING_FACE)
    options = {"max_steps": 6, "gradient_accumulation_steps": 4, "table": "reversed"}
    line = [sys.executable, "hugging_face.py", "hf-whole"]
    done = subprocess.run(
        [*line, json.dumps({**options, "resume": "hf-whole/checkpoint-3"})],
        cwd=place, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "table: state 'dev.sequences', table 'dev.reversed'" in done.stderr


TORCHTITAN = """
import json, os, sys, warnings
warnings.simplefilter("ignore")
import torch
import torch.distributed.checkpoint as dcp
from headwater.adapters.torchtitan import StreamDataLoader
from torchtitan.components.dataloader import BaseDataLoader, DataloaderExhaustedError

torch.distributed.init_process_group("gloo")
rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
action, steps, accumulate = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
config = StreamDataLoader.Config(lake="lake")
loader = config.build(dp_world_size=world, dp_rank=rank, tokenizer=None, seq_len=64,
    local_batch_size=8 // world // accumulate, snapshot_every_n_steps=1)
assert isinstance(loader, BaseDataLoader)
if action == "resume":
    dcp.load({"dataloader": loader}, checkpoint_id="titan")
batches = iter(loader)
seen = []
for step in range(steps):
    for _ in range(accumulate):
        inputs, labels = next(batches)
        seen.append([step, inputs["input"].tolist(), inputs["positions"].tolist(), labels.tolist()])
if action == "save":
    dcp.save({"dataloader": loader}, checkpoint_id="titan")
every = [None] * world
torch.distributed.all_gather_object(every, seen)
if rank == 0:
    print("RESULT" + json.dumps([every, loader.state_dict()]))
"""


def titan(place: Path, action: str, steps: int, processes: int = 1, accumulate: int = 1) -> Any:
    (place / "titan.py").write_text(TORCHTITAN + tools.LEAVE)
    python = os.environ["HEADWATER_PEER_TORCHTITAN"]
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [python, *launch, "titan.py", action, str(steps), str(accumulate)],
        cwd=place, capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    every, state = json.loads(line.removeprefix("RESULT"))
    found: dict[int, list[Any]] = {}
    for seen in every:
        for step, *tensors in seen:
            found.setdefault(step, []).extend(zip(*tensors, strict=True))
    return [sorted(found[step]) for step in sorted(found)], state


needs_torchtitan = pytest.mark.skipif(
    "HEADWATER_PEER_TORCHTITAN" not in os.environ, reason="HEADWATER_PEER_TORCHTITAN names no Python"
)


@needs_torchtitan
def test_torchtitan_gets_shifted_labels_and_positions(place: Path) -> None:
    """The real base class and configuration, and what its own text loader promises of every batch."""
    (rows, *_), state = titan(place, "whole", 3)
    table = {tuple(r["tokens"]): r for r in Lake(place / "lake").table("sequences").to_arrow().to_pylist()}
    assert len(rows) == 8
    for tokens, positions, labels in rows:
        spans = table[tuple(tokens)]["spans"]
        assert positions == [i for span in spans for i in range(span["length"])]
        starts = [i for i, p in enumerate(positions) if p == 0]
        expected = [*tokens[1:], -100]
        for start in starts[1:]:
            expected[start - 1] = -100
        assert labels == expected
    assert list(state) == ["headwater"] and json.loads(state["headwater"])["next_sequence"] == 24


@needs_torchtitan
def test_torchtitan_resumes_on_other_ranks_and_accumulation(place: Path) -> None:
    """Saved by two processes through DCP, resumed on four and on one: its own loaders refuse that."""
    whole, _ = titan(place, "whole", 6)
    first, _ = titan(place, "save", 3, processes=2)
    assert first == whole[:3]
    for processes, accumulate in ((4, 1), (1, 4)):
        rest, _ = titan(place, "resume", 3, processes, accumulate)
        assert rest == whole[3:]


TORCHDATA = """
import json, sys, warnings
warnings.simplefilter("ignore")
from torchdata.stateful_dataloader import StatefulDataLoader
from headwater.lake import Lake
from headwater.streaming import stream
lake = Lake("lake")
make = lambda: StatefulDataLoader(stream(lake, global_batch_size=4), batch_size=None, num_workers=0)
whole = [b["first_sequence"] for b in make()]
loader = make()
batches = iter(loader)
for _ in range(3):
    next(batches)
again = make()
again.load_state_dict(loader.state_dict())
rest = iter(again)
second = [next(rest)["first_sequence"] for _ in range(2)]
third = make()
third.load_state_dict(again.state_dict())  # the second resume
print(json.dumps([whole, second + [b["first_sequence"] for b in third]]))
"""


@needs_torchtitan
def test_torchdata_resumes_twice(place: Path) -> None:
    """torchtitan brings torchdata: its loader asks the stream for its state and does not read again."""
    done = subprocess.run(
        [os.environ["HEADWATER_PEER_TORCHTITAN"], "-c", TORCHDATA],
        cwd=place, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    whole, resumed = json.loads(done.stdout)
    assert resumed == whole[3:]
