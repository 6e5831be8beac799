"""Estimates: the papers' own figures, the trainer's own counts, and a pack that then happens."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
import xxhash

from headwater.cli.amounts import AMOUNT
from headwater.errors import UnknownName, UsageError
from headwater.estimate.packing import estimate_pack
from headwater.estimate.rates import measured_rate
from headwater.estimate.recipes import (
    batch_sequences,
    find_trainer,
    flops_per_token,
    parameters_of,
    recipe_settings,
)
from headwater.estimate.scaling import BESIROGLU, HOFFMANN, effective_tokens, optima
from headwater.estimate.training import Data, estimate_training, given_speed
from headwater.lake import Lake

TRAINER = Path(__file__).parents[2] / "trainer"


@pytest.mark.parametrize(
    ("parameters", "tokens", "flops"),
    [(400e6, 8.0e9, 1.92e19), (1e9, 20.2e9, 1.21e20), (10e9, 205.1e9, 1.23e22)],
)
def test_the_rule_gives_the_table_of_the_paper(parameters, tokens, flops):
    """Hoffmann et al. 2022, table 3."""
    rule = optima(parameters=parameters)[0]
    assert rule.tokens == pytest.approx(tokens, rel=0.03)
    assert rule.flops == pytest.approx(flops, rel=0.03)


@pytest.mark.parametrize("fit", [HOFFMANN, BESIROGLU])
@pytest.mark.parametrize("flops", [1e15, 1e19, 5.76e23])
def test_an_optimum_has_the_least_loss_of_its_budget(fit, flops):
    def loss(parameters: float) -> float:
        tokens = flops / 6 / parameters
        return fit.e + fit.a / parameters**fit.alpha + fit.b / tokens**fit.beta

    best = fit.optimum(flops)
    assert 6 * best.parameters * best.tokens == pytest.approx(flops)
    assert all(loss(best.parameters) < loss(best.parameters * factor) for factor in (0.5, 0.95, 1.05, 2))


@pytest.mark.parametrize("fit", [HOFFMANN, BESIROGLU])
def test_the_inverse_questions_agree(fit):
    best = fit.optimum(3e20)
    for same in (fit.for_parameters(best.parameters), fit.for_tokens(best.tokens)):
        assert same.flops == pytest.approx(3e20)
        assert same.tokens == pytest.approx(best.tokens)


def test_the_refit_agrees_with_the_rule_at_the_budget_of_chinchilla():
    """Besiroglu et al. 2024: about 20 tokens for each parameter, where the published fit asks for many more."""
    ratio = {
        fit.name: (lambda o: o.tokens / o.parameters)(fit.optimum(5.76e23)) for fit in (HOFFMANN, BESIROGLU)
    }
    assert 15 < ratio[BESIROGLU.name] < 25 < 60 < ratio[HOFFMANN.name]


def test_repeated_tokens_are_worth_less():
    assert effective_tokens(100.0, 50.0) == 50.0 and effective_tokens(100.0, 100.0) == 100.0
    four = effective_tokens(100.0, 400.0)
    assert 0.9 * 400 < four < 400
    assert effective_tokens(100.0, 1e9) == pytest.approx(100 * (1 + 15.387756))


@pytest.mark.parametrize("recipe", ["llama_1m_cpu", "llama_124m_gpu", "ablation_1m"])
def test_parameters_and_operations_are_those_of_the_trainer(recipe):
    """Against transformers' own model on the meta device, and the trainer's count of operations."""
    settings = recipe_settings(TRAINER, recipe)
    counted = parameters_of(settings, 8192, 512)
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1])\n"
        "import torch\nfrom model import build_model\nfrom metrics import flops_per_token\n"
        "from recipe import find_recipe\n"
        "with torch.device('meta'):\n    model = build_model(find_recipe(sys.argv[2]), 8192, 512, torch.device('meta'))\n"
        "print(json.dumps([sum(p.numel() for p in model.parameters()), flops_per_token(model.config, 512)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(TRAINER), recipe], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    total, flops = json.loads(done.stdout.splitlines()[-1])
    assert counted.total == total
    assert flops_per_token(settings, counted, 512) == pytest.approx(flops, rel=1e-3)  # norms count here


def test_gpt2_has_its_known_size():
    settings = {
        "architecture": "GPT2LMHeadModel",
        "hidden_size": 768,
        "num_layers": 12,
        "num_heads": 12,
        "config": {},
    }
    assert parameters_of(settings, 50_257, 1024).total == 124_439_808


def test_recipes_that_are_not_there_say_so():
    with pytest.raises(UsageError, match="no_such"):
        recipe_settings(TRAINER, "no_such")
    with pytest.raises(UsageError, match=r"no train\.py"):
        find_trainer("/nowhere", None)
    assert find_trainer(None, None) == TRAINER.resolve()


def test_a_training_estimate_counts_time_cost_and_epochs():
    settings = recipe_settings(TRAINER, "llama_1m_cpu")
    found = estimate_training(
        recipe="llama_1m_cpu", settings=settings, tokens=5e6, data=Data(table="t@1", tokens=1_000_000, approved=True),
        tokens_per_second=1e4, devices=2, price_per_gpu_hour=3.0,
    )  # fmt: skip
    assert found.seconds == 500 and found.gpu_hours == pytest.approx(1000 / 3600)
    assert found.cost == pytest.approx(3 * 1000 / 3600)
    assert found.epochs == 5 and found.effective_tokens < 5e6
    assert any("5.0 epochs" in w for w in found.warnings)
    assert batch_sequences(settings) == 8 and estimate_training(settings=settings).tokens == 64 * 8 * 512


def test_a_growing_batch_is_summed():
    settings = {
        **recipe_settings(TRAINER, "llama_1m_cpu"),
        "global_batch_size": [[0, 4], [8, 8]],
        "max_steps": 4,
    }
    assert estimate_training(settings=settings, sequence_length=10).tokens == (4 + 4 + 8 + 8) * 10


def test_a_speed_by_share_of_a_peak():
    speed = given_speed(None, 0.5, "H200", 8, 1e9)
    assert speed.tokens_per_second == pytest.approx(0.5 * 989e12 * 8 / 1e9)
    with pytest.raises(UnknownName, match="h2000"):
        given_speed(None, 0.5, "h2000", 1, 1e9)
    with pytest.raises(UsageError, match="peak"):
        given_speed(None, 0.5, None, 1, 1e9)
    with pytest.raises(UsageError, match="MFU"):
        given_speed(None, 40.0, "h200", 1, 1e9)


def test_nothing_to_estimate_is_wrong_use():
    with pytest.raises(UsageError, match="nothing to estimate"):
        estimate_training()


def test_the_rate_of_past_runs_is_found_by_the_models_shape(tmp_path):
    lake = Lake(tmp_path / "lake")
    settings = recipe_settings(TRAINER, "llama_1m_cpu")
    older = {
        k: v for k, v in settings.items() if k not in ("architecture", "config", "activation_checkpointing")
    }
    older["num_kv_heads"] = older["num_heads"]  # what recipes said before heads were the default
    run = {
        "run_id": "r1", "attempt": 1, "config": json.dumps(older), "sequence_length": 512, "world_size": 2,
        "start_step": 0, "started_at": 1,
    }  # fmt: skip
    lake.write("training_runs", pa.Table.from_pylist([run]))
    steps = [
        {"run_id": "r1", "attempt": 1, "step": i, "tokens_per_second": 10.0 if i < 4 else 100.0 + i}
        for i in range(1, 9)
    ]
    lake.write("training_steps", pa.Table.from_pylist(steps))
    rate = measured_rate([lake], settings, 512)
    assert rate.tokens_per_second == 106.0 and rate.num_steps == 5 and rate.world_size == 2
    assert "r1" in rate.source
    assert measured_rate([lake], settings, 256) is None
    assert measured_rate([lake], {**settings, "hidden_size": 128}, 512) is None
    assert measured_rate([lake], settings, 512, world_size=1) is None
    assert measured_rate([Lake(tmp_path / "lake", schema="other")], settings, 512) is None


@pytest.fixture
def book(tmp_path):
    """1,500 documents of 10 to 300 words."""
    texts = [
        " ".join(f"word{(i * 7 + j * j) % 97}" for j in range(10 + (i * 37) % 290)) for i in range(1_500)
    ]
    ids = [xxhash.xxh3_128_digest(f"{i}".encode()) for i in range(len(texts))]
    lake = Lake(tmp_path / "lake")
    lake.write("book", pa.table({
        "doc_id": pa.array(ids, pa.binary(16)), "text": pa.array(texts, pa.large_string()),
        "text_bytes": pa.array([len(t) for t in texts]),
    }))  # fmt: skip
    return lake


def test_a_pack_estimate_is_what_the_pack_then_does(book, tmp_path, monkeypatch):
    from headwater.estimate import packing
    from headwater.sequences import pack

    with pytest.raises(UsageError, match="no tokenizer"):
        estimate_pack(book, "book")
    made = pack(book, "book", sequence_length=64, vocab_size=400, require_approved=False)
    known = estimate_pack(book, "book", sequence_length=64)
    assert known.tokens_exact and known.tokens == made.num_tokens and known.tokens_half_width == 0
    assert known.num_sequences == made.num_sequences and known.bytes_to_encode == 0
    assert abs(known.exposures_rows - book.table("exposures").num_rows) <= made.num_documents
    book.drop("tokens")
    monkeypatch.setattr(packing, "SAMPLE_DOCUMENTS", 300)
    guessed = estimate_pack(book, "book", sequence_length=64)
    assert not guessed.tokens_exact and guessed.tokens_half_width > 0
    assert guessed.tokens == pytest.approx(made.num_tokens, rel=0.03)
    assert guessed.text_bytes == guessed.bytes_to_encode == made.encoded_bytes
    twice = estimate_pack(book, "book", sequence_length=64, epochs=2)
    assert twice.num_sequences == pytest.approx(2 * guessed.num_sequences, abs=1)
    assert twice.tokens_bytes == guessed.tokens_bytes


def test_only_what_is_not_known_is_sampled(book):
    """Documents that came after the pack may be unlike the others."""
    from headwater.sequences import pack

    made = pack(book, "book", sequence_length=64, vocab_size=400, require_approved=False)
    digits = ["".join(str((i * j) % 10) for j in range(400)) for i in range(50)]
    ids = [xxhash.xxh3_128_digest(f"new {i}".encode()) for i in range(50)]
    more = {
        "doc_id": pa.array(ids, pa.binary(16)),
        "text": pa.array(digits, pa.large_string()),
        "text_bytes": [400] * 50,
    }
    book.write("book", pa.table(more), mode="append")
    found = estimate_pack(book, "book", sequence_length=64)
    then = pack(book, "book", sequence_length=64, vocab_size=400, require_approved=False)
    assert found.sample_documents == 50 and found.tokens == then.num_tokens > made.num_tokens
    assert not found.tokens_exact


@pytest.mark.parametrize(
    ("text", "value"), [("2M", 2e6), ("400k", 4e5), ("1.5B", 1.5e9), ("1e9", 1e9), ("1_000", 1e3)]
)
def test_amounts(text, value):
    assert math.isclose(AMOUNT.convert(text, None, None), value)


@pytest.mark.parametrize("text", ["", "M", "-1", "0", "nan", "inf", "2X"])
def test_wrong_amounts(text):
    import click

    with pytest.raises(click.BadParameter):
        AMOUNT.convert(text, None, None)
