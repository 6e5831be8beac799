"""Model FLOPs against torch's own counter, losses by source and document against loops, spikes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trainer_runs as tools

from headwater.lake import Lake
from headwater.training.flops import flops_per_token, mfu, peak_flops_of
from headwater.training.spikes import RECENT, SpikeDetector, worst_documents

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = [pytest.mark.trainer, pytest.mark.slow]

SHAPE = {
    "vocab_size": 300, "hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip


@pytest.mark.parametrize(
    "config",
    [
        transformers.LlamaConfig(**SHAPE, tie_word_embeddings=True),
        transformers.LlamaConfig(**SHAPE, tie_word_embeddings=False, head_dim=16),
        transformers.Qwen2Config(**SHAPE, tie_word_embeddings=True),
        transformers.GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4, n_positions=64),
    ],
    ids=["llama tied", "llama untied", "qwen2", "gpt2"],
)
def test_model_flops_are_those_torch_counts_without_masks(config: Any) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    ids = torch.randint(0, 300, (2, 48))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, use_cache=False).logits.sum().backward()
    assert flops_per_token(config, 48) * ids.numel() == counter.get_total_flops()


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H200", 989e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200 NVL", 835.5e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA GeForce RTX 4090", 165.2e12),
        ("NVIDIA H200 MIG 1g.18gb", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA L40", None),
        ("NVIDIA RTX A4000", None),
        ("Tesla V100-SXM2-32GB", None),
    ],
)
def test_the_peak_of_a_device_is_its_own_or_none(name: str, peak: float | None) -> None:
    assert peak_flops_of(name) == peak


def test_mfu_counts_every_device() -> None:
    assert mfu(110_000, 7.2e9, 989e12, 2) == pytest.approx(110_000 * 7.2e9 / (2 * 989e12))
    assert mfu(110_000, 7.2e9, None, 2) is None


SUMS = """
import json, os, sys
import torch, torch.distributed as dist
from metrics import SourceLosses, segment_losses

if "RANK" in os.environ:
    dist.init_process_group("gloo")
rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
given = json.loads(open("batch.json").read())
count = len(given["labels"])
own = slice(rank * count // world, (rank + 1) * count // world)
losses = torch.tensor(given.pop("losses"))[own]
batch = {key: torch.tensor(value)[own] for key, value in given.items()}
sums = SourceLosses(["a", "b", "never", "c"], torch.device("cpu"))
for row in range(len(losses)):  # in micro-batches
    sums.add(losses[row : row + 1], {key: value[row : row + 1] for key, value in batch.items()})
by_source = sums.totals()
empty = sums.totals()
by_segment = [part.tolist() for part in segment_losses(losses, batch, rank, count)]
if rank == 0:
    print("FOUND", json.dumps([by_source, empty, by_segment]))
"""


def make_batch() -> dict[str, Any]:
    """Four rows of 12 tokens: documents of sources a, b and c (2), a padded end, one of a single token."""
    lengths = [[5, 7], [1, 4, 4], [12], [3, 3, 6]]
    sources = [[0, 1], [3, 0, 0], [1], [3, 1, 0]]
    rng = np.random.default_rng(3)
    segments = np.full((4, 12), -1)
    labels = np.full((4, 12), -100)
    for row, counts in enumerate(lengths):
        at = 0
        for segment, count in enumerate(counts):
            segments[row, at : at + count] = segment
            labels[row, at + 1 : at + count] = 7
            at += count
    losses = np.where(labels[:, 1:] >= 0, rng.uniform(1, 9, (4, 11)), 0.0)
    padded = [row + [-1] * (3 - len(row)) for row in sources]
    return {
        "segment_ids": segments.tolist(), "labels": labels.tolist(), "losses": losses.tolist(),
        "segment_sources": padded,
    }  # fmt: skip


@pytest.mark.parametrize("processes", [1, 2])
def test_losses_by_source_and_by_document(tmp_path: Path, processes: int) -> None:
    batch = make_batch()
    (tmp_path / "batch.json").write_text(json.dumps(batch))
    (tmp_path / "script.py").write_text(SUMS + tools.LEAVE)
    line = [*tools.python(processes), "script.py"]
    environment = tools.environment(PYTHONPATH=str(tools.TRAINER))
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    by_source, empty, (sums, predicted) = json.loads(done.stdout.partition("FOUND ")[2])
    tokens: dict[str, int] = {}
    losses: dict[str, list[float]] = {}
    for row in range(4):
        for at in range(12):
            segment = batch["segment_ids"][row][at]
            if segment < 0:
                continue
            source = ["a", "b", "never", "c"][batch["segment_sources"][row][segment]]
            tokens[source] = tokens.get(source, 0) + 1
            if batch["labels"][row][at] >= 0:
                loss = batch["losses"][row][at - 1]
                losses.setdefault(source, []).append(loss)
                sums[row][segment] -= loss
                predicted[row][segment] -= 1
    expected = {name: [tokens[name], pytest.approx(np.mean(losses[name]))] for name in tokens}
    assert by_source == expected and empty == {}
    assert np.allclose(sums, 0, atol=1e-5) and not np.any(predicted)


def test_the_worst_documents_are_those_that_raised_the_loss(place: Path) -> None:
    table = Lake(place / "lake").table("sequences")
    spans = table.dataset.take([8, 9, 10], columns=["spans"])["spans"].to_pylist()
    most = max(map(len, spans))
    predicted = np.zeros((3, most))
    for row, found in enumerate(spans):
        predicted[row, : len(found)] = [max(span["length"] - 1, 0) for span in found]
    sums = 2.0 * predicted
    row = int(np.argmax(predicted.max(1)))
    segment = int(np.argmax(predicted[row]))
    sums[row, segment] *= 4
    documents = worst_documents(table, 8, sums, predicted, most=3)
    assert documents[0] == {
        "doc_id": spans[row][segment]["doc_id"].hex(), "source": "made", "sequence_index": 8 + row,
        "start": spans[row][segment]["start"], "tokens": spans[row][segment]["length"],
        "loss": pytest.approx(8.0),
    }  # fmt: skip
    assert len(documents) == 3
    other = (row + 1) % 3
    sums[other, 0] = float("nan")
    worst = worst_documents(table, 8, sums, predicted, most=2)
    assert np.isnan(worst[0]["loss"]) and worst[0]["sequence_index"] == 8 + other
    assert worst[1]["doc_id"] == documents[0]["doc_id"]


DEMO = [
    9.018, 8.946, 8.802, 8.612, 8.410, 8.233, 7.785, 7.523, 7.278, 7.170, 7.208, 6.908, 7.019, 7.025,
    7.062, 6.905, 7.046, 6.919, 6.896, 7.054, 6.983, 6.643, 6.867, 6.460, 6.860, 6.935, 6.654, 6.682,
    6.969, 6.583, 7.196, 6.693, 6.679, 6.841, 6.508, 6.683, 6.957, 6.534, 6.510, 6.332, 6.482, 6.372,
    6.571, 6.675, 6.341, 6.342, 6.113, 6.473, 6.438, 6.318, 6.509, 6.587, 6.495, 6.593, 6.770, 6.451,
    6.713, 6.489, 6.584, 6.424, 6.928, 6.369, 6.476, 6.590,
]  # fmt: skip
"""The losses of the demo's run, llama_1m_cpu on real code: its batches of 4,096 tokens are noisy."""


def told(losses: Any) -> list[int]:
    detector = SpikeDetector()
    return [step for step, loss in enumerate(losses) if detector(float(loss))]


def falling(steps: int, noise: float, seed: int) -> Any:
    """A loss curve as they are: a power law down to a floor, with the noise of its batches."""
    at = np.arange(1, steps + 1)
    return 2.0 + 9.0 * at**-0.3 + np.random.default_rng(seed).normal(0, noise, steps)


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.05, 0.2])
def test_a_falling_curve_has_no_spike(noise: float) -> None:
    assert [told(falling(5_000, noise, seed)) for seed in range(3)] == [[], [], []]


def test_a_real_curve_has_no_spike() -> None:
    assert told(DEMO) == []


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.05])
def test_a_jump_is_told_where_it_begins(noise: float) -> None:
    losses = falling(2_000, noise, 5)
    losses[300:303] += 1.5
    losses[1_500] += 0.8
    assert told(losses) == [300, 1_500]


def test_a_jump_in_a_steep_fall_is_told() -> None:
    losses = falling(100, 0.02, 1)
    losses[40] += 1.0
    assert told(losses) == [40]


def test_a_loss_that_stays_high_is_told_once() -> None:
    losses = falling(1_000, 0.01, 2)
    losses[500:] += 1.0  # other data from here on
    assert told(losses) == [500]


def test_a_loss_that_is_no_number_is_a_spike() -> None:
    losses = falling(100, 0.01, 2)
    losses[60] = np.nan
    losses[80] = np.inf
    assert told(losses) == [60, 80]


def test_the_first_steps_tell_nothing() -> None:
    assert told([5.0] * (RECENT - 1) + [50.0]) == []
    detector = SpikeDetector()
    assert [detector(5.0) for _ in range(RECENT)] == [False] * RECENT
    assert detector(50.0) and detector.expected == 5.0


def test_tensorboard_gets_what_the_lake_gets(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from headwater.training.tensorboard import TensorBoardLog

    board = TensorBoardLog(tmp_path)
    row = {"step": 3, "loss": 2.5, "grad_norm": 1.0, "learning_rate": 1e-3, "tokens_per_second": 10.0}
    board.step({**row, "mfu": None, "data_wait_seconds": 0.1}, {"stdlib": (100, 2.25), "one": (1, None)})
    board.evaluations(3, [{"table": "dev.held_out", "loss": 2.0, "bits_per_byte": 0.75}])
    board.close()
    found = EventAccumulator(str(tmp_path))
    found.Reload()
    values = {tag: found.Scalars(tag)[0].value for tag in found.Tags()["scalars"]}
    assert values == pytest.approx(
        {
            "train/loss": 2.5, "train/grad_norm": 1.0, "train/learning_rate": 1e-3,
            "train/tokens_per_second": 10.0, "train/data_wait_seconds": 0.1, "source_tokens/stdlib": 100,
            "source_tokens/one": 1, "source_loss/stdlib": 2.25, "loss/dev.held_out": 2.0,
            "bits_per_byte/dev.held_out": 0.75,
        }
    )  # fmt: skip
    assert found.Scalars("train/loss")[0].step == 3
