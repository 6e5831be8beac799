"""How a run is spread and computed changes nothing that it learns: ranks, micro-batches, recomputation."""

from __future__ import annotations

from pathlib import Path

import pytest
import trainer_runs as tools

pytest.importorskip("torch")
pytest.importorskip("transformers")

pytestmark = [pytest.mark.trainer, pytest.mark.slow]


LOW = """
from recipe import Recipe


def plain() -> Recipe:
    return Recipe(
        hidden_size=32, intermediate_size=64, num_layers=2, num_heads=2, architecture="Qwen3ForCausalLM",
        config={"head_dim": 16}, global_batch_size=8, micro_batch_size=8, max_steps=5, learning_rate=1e-2,
        min_learning_rate=1e-2, warmup_steps=1, schedule="constant", param_dtype="bfloat16",
    )


def spread() -> Recipe:
    import dataclasses

    return dataclasses.replace(
        plain(), micro_batch_size=2, activation_checkpointing="full", reshard_after_forward=False
    )
"""


def test_low_precision_on_two_ranks_in_micro_batches_equals_one_rank_at_once(place: Path) -> None:
    """bfloat16 with float32 sums of gradients: equal to what bfloat16 can tell."""
    (place / "low.py").write_text(LOW)
    for recipe, processes in (("plain", 1), ("spread", 2)):
        done = tools.train(place, "--out", recipe, recipe=f"low.py:{recipe}", processes=processes)
        assert done.returncode == 0, done.stderr
    plain, spread = tools.losses(place, "plain"), tools.losses(place, "spread")
    assert plain[5] < plain[1] - 0.5
    assert spread == pytest.approx(plain, rel=5e-3)


def test_more_ranks_than_the_batch_divides_among_is_refused(place: Path) -> None:
    refused = tools.train(place, "--out", "three", processes=3)
    assert refused.returncode == 1
    assert "a global batch of 4 sequences does not divide among 3 ranks" in refused.stderr
