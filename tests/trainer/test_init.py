"""A run that begins with given weights: a folder's or a checkpoint's, recorded, and refused where unfit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import trainer_runs as tools

from headwater.errors import BadInput, DataMismatch
from headwater.lake import Lake
from headwater.tokenizer import Encoder
from headwater.tokenizer import train as tokenizer

pytest.importorskip("torch")
pytest.importorskip("transformers")

from headwater.training.initial_weights import start_from

pytestmark = [pytest.mark.trainer, pytest.mark.slow]


train, losses = tools.train, tools.losses


@pytest.fixture(scope="module")
def base(place: Path) -> Path:
    """A model folder of eight steps; its run is in ``base-runs``."""
    done = train(place, "--out", "base-runs", "--max-steps", "8", "--export", "base", "--quiet")
    assert done.returncode == 0, done.stderr
    return place / "base"


def test_a_run_begins_with_the_weights_of_a_folder_and_says_so(place: Path, base: Path) -> None:
    done = train(place, "--out", "tuned", "--max-steps", "4", "--init", "base", "--quiet")
    assert done.returncode == 0, done.stderr
    fresh, tuned = losses(place, "base-runs"), losses(place, "tuned")
    assert tuned[1] < fresh[1] - 0.3 and tuned[1] < fresh[8] + 0.3
    # What a resumed run began with stays on record.
    (run,) = (place / "tuned").iterdir()
    done = train(place, "--out", "tuned", "--max-steps", "6", "--resume", run.name, "--quiet")
    assert done.returncode == 0, done.stderr
    rows = Lake(place / "lake").table("training_runs").to_arrow(filter=f"run_id = '{run.name}'").to_pylist()
    configs = [json.loads(row["config"]) for row in rows]
    assert [c["init"] for c in configs] == ["base", "base"] and len(configs[0]["init_digest"]) == 16
    assert configs[0]["init_digest"] == configs[1]["init_digest"]


def test_a_checkpoint_gives_the_same_weights_as_its_export(place: Path, base: Path) -> None:
    (checkpoint,) = (place / "base-runs").glob("*/step-00000008")
    done = train(place, "--out", "from-checkpoint", "--max-steps", "1", "--init", str(checkpoint), "--quiet")
    assert done.returncode == 0, done.stderr
    model, encoder = fresh(), encoder_of(base)
    start_from(base, model, encoder, Lake(place / "lake"))
    from_folder = {name: value.clone() for name, value in model.state_dict().items()}
    start_from(checkpoint, model, encoder, Lake(place / "lake"))
    assert all(value.equal(from_folder[name]) for name, value in model.state_dict().items())
    done = train(place, "--out", "refused", "--max-steps", "1", "--init", "nowhere", "--quiet")
    assert done.returncode == 2 and "is no checkpoint, and holds no model.safetensors" in done.stderr
    assert "Traceback" not in done.stderr


def fresh(**changed: int) -> Any:
    """A model of the shape that tiny.py trains."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "vocab_size": 300, "max_position_embeddings": 64,
    }  # fmt: skip
    return LlamaForCausalLM(LlamaConfig(**{**shape, **changed}, tie_word_embeddings=True))


def encoder_of(folder: Path) -> Encoder:
    return Encoder((folder / "tokenizer.json").read_text(), fast=False)


def test_control_tokens_may_join_a_model(place: Path, base: Path) -> None:
    """A table with control tokens has a larger vocabulary: the rest of the weights is the model's."""
    lake = Lake(place / "lake")
    encoder = encoder_of(base).with_special_tokens(["<|good|>", "<|bad|>"])
    model, same = fresh(vocab_size=302), fresh()
    before = model.get_input_embeddings().weight.detach().clone()
    start_from(base, model, encoder, lake)
    start_from(base, same, encoder_of(base), lake)
    after = model.get_input_embeddings().weight.detach()
    assert after[:300].equal(same.get_input_embeddings().weight) and after[300:].equal(before[300:])


def test_weights_that_do_not_fit_are_refused(place: Path, base: Path, tmp_path: Path) -> None:
    lake = Lake(place / "lake")
    own = encoder_of(base)
    other = Encoder(tokenizer([["abc abd"]], 280))
    torn = tmp_path / "torn"
    shutil.copytree(base, torn)
    (torn / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes()[:1000])
    (checkpoint,) = (place / "base-runs").glob("*/step-00000008")
    for folder, model, encoder, said in [
        (base, fresh(hidden_size=64), own, "another shape than the recipe's"),
        (checkpoint, fresh(hidden_size=64), own, "another shape than the recipe's"),
        (base, fresh(vocab_size=301), own, "another shape than the recipe's"),
        (base, fresh(), other, "was trained with tokenizer"),
        (torn, fresh(), own, "cannot read the model"),
    ]:
        with pytest.raises((BadInput, DataMismatch), match=said):
            start_from(folder, model, encoder, lake)
