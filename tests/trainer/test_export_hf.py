"""A checkpoint as a Hugging Face folder: the same logits, the same ids, and a card that says what it saw."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import trainer_runs as tools
import xxhash

from headwater.lake import Lake
from headwater.lake.approvals import APPROVALS_SCHEMA
from headwater.sequences import pack
from headwater.tokenizer import load as load_tokenizer
from headwater.training.model_card import card_facts, model_card
from headwater.training.run_log import SCHEMAS

pytest.importorskip("torch")
pytest.importorskip("transformers")

pytestmark = [pytest.mark.trainer, pytest.mark.slow]

HOSTILE = "a | <script>alert(1)</script> [x](http://x) ![i](http://i) `**@team"


def python(place: Path, *line: str) -> subprocess.CompletedProcess[str]:
    environment = tools.environment(PYTHONPATH=str(tools.TRAINER), HF_HUB_OFFLINE="1")
    return subprocess.run(
        [sys.executable, *line], cwd=place, env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def trained(place: Path) -> Path:
    """The checkpoint of four steps, in the folder of its run."""
    done = python(place, str(tools.TRAINER / "train.py"), "tiny.py:tiny", "--lake", "lake", "--out", "to-export",
                  "--max-steps", "4", "--quiet")  # fmt: skip
    assert done.returncode == 0, done.stderr
    (run,) = (place / "to-export").iterdir()
    return run / "step-00000004"


@pytest.fixture(scope="module")
def folder(place: Path, trained: Path) -> Path:
    done = python(place, str(tools.TRAINER / "export_hf.py"), str(trained), "--out", "hf", "--lake", "lake")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "wrote hf\n"
    return place / "hf"


SAME = """
import os, sys, torch
from pathlib import Path
import torch.distributed as dist
from transformers import AutoModelForCausalLM, AutoTokenizer
from checkpoint import load, read_state
from model import build_model, make_optimizer
from recipe import find_recipe
from headwater.lake import Lake
from headwater.tokenizer import load as load_tokenizer

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
checkpoint, recipe = Path(sys.argv[1]), find_recipe("tiny.py:tiny")
state = read_state(checkpoint)
encoder = load_tokenizer(Lake("lake"), state["loader"]["tokenizer_id"])
trained = build_model(recipe, encoder.vocab_size, 64)
load(checkpoint, trained, make_optimizer(trained, recipe))
exported = AutoModelForCausalLM.from_pretrained("hf")
tokenizer = AutoTokenizer.from_pretrained("hf")
text = "w1 w22 w3  w4\\n naïve 東京 w5"
ids = tokenizer(text, return_tensors="pt").input_ids
import pyarrow as pa
assert ids[0].tolist() == encoder.encode(pa.array([text], pa.large_string())).to_pylist()[0]
assert tokenizer.decode(ids[0]) == text
assert tokenizer.eos_token_id == exported.config.eos_token_id == encoder.eos_id
assert tokenizer.model_max_length == 64
with torch.no_grad():
    torch.testing.assert_close(exported(ids).logits, trained(ids).logits, rtol=0, atol=0)
    fresh = build_model(recipe, encoder.vocab_size, 64)(ids).logits
    assert not torch.allclose(exported(ids).logits, fresh, atol=1e-3), "the weights are those of no training"
    made = exported.generate(ids, max_new_tokens=8, do_sample=False)
    cached = exported.generate(ids, max_new_tokens=8, do_sample=False, use_cache=False)
assert torch.equal(made, cached)
print("same")
"""


def test_it_loads_offline_and_gives_the_same_logits(place: Path, trained: Path, folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    assert {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json",
            "tokenizer_config.json", "README.md"} <= names  # fmt: skip
    done = python(place, "-c", SAME + tools.LEAVE, str(trained))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "same\n"


def test_the_card_names_versions_tokens_and_the_bypass(place: Path, trained: Path, folder: Path) -> None:
    card = (folder / "README.md").read_text()
    sequences = Lake(place / "lake").table("sequences")
    assert f"`dev.sequences@{sequences.version}` | `{sequences.digest}` | 1 to 4 | 1,024 |" in card
    assert "| made | 1,024 | 100.0 % |" in card
    assert "**Trained without an approval:** dev.sequences@" in card.replace("\\", "")
    assert sequences.provenance.extra["tokenizer_id"] in card
    assert f"headwater trace --checkpoint {trained.parent.name}@4" in card
    assert '"hidden_size": 32' in card


def test_what_is_there_is_not_overwritten(place: Path, trained: Path, folder: Path) -> None:
    script = str(tools.TRAINER / "export_hf.py")
    again = python(place, script, str(trained), "--out", "hf", "--lake", "lake")
    assert again.returncode == 2 and "hf is there already" in again.stderr
    nowhere = python(place, script, str(trained.with_name("step-9")), "--out", "other", "--lake", "lake")
    assert nowhere.returncode == 2 and "is not a finished checkpoint" in nowhere.stderr
    assert "Traceback" not in again.stderr + nowhere.stderr
    assert not list(place.glob(".*unfinished"))


def hostile_lake(path: Path) -> Lake:
    """Two sources, licenses, an approval and an evaluation, whose words are an attacker's."""
    lake = Lake(path)
    texts = [f"w{i} " * 40 for i in range(30)]
    ids = pa.array([xxhash.xxh3_128_digest(text.encode()) for text in texts], pa.binary(16))
    sources = [HOSTILE if i % 3 else "plain" for i in range(30)]
    book = pa.table({"doc_id": ids, "text": pa.array(texts, pa.large_string()), "source": sources})
    licenses = {"doc_id": ids, "license_spdx": ["MIT" if i % 2 else HOSTILE for i in range(30)]}
    concluded = lake.write("license_concluded", pa.table(licenses))
    from headwater.lake import Provenance

    book_version = lake.write("book", book, provenance=Provenance(kind="model", inputs=(concluded.ref,)))
    pack(lake, "book", sequence_length=32, vocab_size=300, require_approved=False)
    sequences = lake.table("sequences")
    approval = {
        "approval_id": "1", "action": "approve", "table": "dev.book", "version": book_version.version,
        "content_digest": book_version.digest, "closure": json.dumps([concluded.ref.to_dict()]),
        "suites": "[]", "dbt_tests": None, "revokes": None, "who": HOSTILE, "why": HOSTILE + "\n# no",
        "at": np.datetime64("2026-11-20T12:00:00").astype("datetime64[us]").item(),
    }  # fmt: skip
    lake.write("approvals", pa.Table.from_pylist([approval], APPROVALS_SCHEMA))
    at = {"run_id": "r-1", "attempt": 1, "at": approval["at"]}
    run = {
        **at, **sequences.ref.to_dict(), "start_step": 0, "recipe": HOSTILE, "config": "{}", "world_size": 2,
        "bypass": HOSTILE, "started_at": approval["at"],
    }  # fmt: skip
    steps = [
        {**at, "step": i + 1, "first_sequence": 4 * i, "count": 4, "loss": 5.0 - i, "tokens": 128,
         "use": "skipped" if i == 2 else "trained"}
        for i in range(4)
    ]  # fmt: skip
    told = [{**at, "step": 1, "source": HOSTILE, "tokens": 100, "loss": 1.0},
            {**at, "step": 1, "source": "plain", "tokens": 28, "loss": 1.0}]  # fmt: skip
    evaluated = {**at, "step": 4, "table": "dev.held_out", "version": 1, "digest": "d" * 32, "tokens": 5,
                 "bytes": 9, "loss": 2.5, "bits_per_byte": 1.25}  # fmt: skip
    spike = {**at, "step": 2, "loss": 9.0, "expected": 4.0, "first_sequence": 4, "count": 4, "documents": []}
    written: dict[str, list[dict[str, Any]]] = {
        "training_runs": [run], "training_steps": steps, "training_sources": told,
        "evaluations": [evaluated, {**evaluated, "step": 2, "bits_per_byte": 3.0}], "loss_spikes": [spike],
    }  # fmt: skip
    for name, rows in written.items():
        lake.write(name, pa.Table.from_pylist(rows, SCHEMAS[name]))
    return lake


def test_a_card_counts_what_was_trained_and_draws_nothing(tmp_path: Path) -> None:
    lake = hostile_lake(tmp_path / "lake")
    facts = card_facts(lake, "r-1", 4)
    encoder = load_tokenizer(lake, lake.table("sequences").provenance.extra["tokenizer_id"])
    # The skipped step counts nowhere; the steps whose sources were not logged are counted from their spans.
    spans = lake.table("sequences").dataset.take(list(range(4, 8)) + list(range(12, 16)), columns=["spans"])
    flat = [span for row in spans["spans"].to_pylist() for span in row]
    expected = {HOSTILE: 100, "plain": 28}
    for span in flat:
        expected[span["source"]] += span["length"]
    assert dict(facts.sources) == expected and facts.num_tokens == 3 * 128
    assert (facts.num_skipped, facts.num_spikes) == (1, 1)
    assert [(e["step"], e["bits_per_byte"]) for e in facts.evaluations] == [(4, 1.25)]
    assert {name: n for name, n, _ in facts.licenses} == {HOSTILE: 15, "MIT": 15}
    card = model_card(lake, facts, encoder, num_parameters=10, model="LlamaForCausalLM")
    assert "3 trained, 1 skipped" in card and "1.2500" in card and "2026-11-20" in card
    assert "<script>" not in card and "](http" not in card.replace("\\]", "")
    assert "\n# no" not in card
    for line in card.splitlines():
        cells = line.replace("\\|", "").count("|")
        assert cells in (0, 3, 4, 5, 6, 7), line
    earlier = card_facts(lake, "r-1", 1)
    assert dict(earlier.sources) == {HOSTILE: 100, "plain": 28} and earlier.evaluations == ()
