"""Bits per byte against a plain calculation document by document, equal on one and two processes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import trainer_runs as tools

from headwater.lake import Lake

pytest.importorskip("torch")
pytest.importorskip("transformers")

pytestmark = [pytest.mark.trainer, pytest.mark.slow]

HEAD = """
import dataclasses, json, math, os, sys
import torch, torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from evaluate import evaluate, generate_samples
from model import build_model, shard
from recipe import find_recipe
from headwater.errors import HeadwaterError
from headwater.lake import Lake
from headwater.tokenizer import load

lake, cpu = Lake("lake"), torch.device("cpu")
table = lake.table("sequences")
encoder = load(lake, table.provenance.extra["tokenizer_id"])
recipe = dataclasses.replace(find_recipe("tiny.py:tiny"), micro_batch_size=3)
model = build_model(recipe, encoder.vocab_size, 64)
with torch.no_grad():  # far from uniform, so that every token has a loss of its own
    for parameter in model.parameters():
        parameter.mul_(6)

def tell(value):
    if int(os.environ.get("RANK", "0")) == 0:
        print("FOUND", json.dumps(value))
"""

SHARDED = """
if "RANK" in os.environ:
    dist.init_process_group("gloo")
    shard(model, init_device_mesh("cpu", (dist.get_world_size(),)), recipe)
model.train()
some = [evaluate(model, lake, ["sequences"], recipe, cpu, n)[0] for n in (60, 7, 1)]
samples = [generate_samples(model, encoder, ["w1 w2", "", "w1 " * 90], 12, seed) for seed in (None, 1, 1, 2)]
assert model.training
seen = [json.dumps([some, samples])]
if dist.is_initialized():
    everywhere = [None] * dist.get_world_size()
    dist.all_gather_object(everywhere, seen)
    assert everywhere == [seen] * len(everywhere), "ranks disagree"
tell([some, samples])
"""

PLAINLY = """
from headwater.token_bytes import bytes_per_token

sizes = bytes_per_token(encoder)
found = []
for count in (60, 7, 1):
    loss = text_loss = tokens = num_bytes = 0
    for row in table.to_arrow(["sequence_index", "tokens", "spans"]).to_pylist()[:count]:
        at = 0
        for span in row["spans"]:
            ids = torch.tensor(row["tokens"][at : at + span["length"]])
            at += span["length"]
            if len(ids) < 2:
                continue
            with torch.no_grad():
                logits = model(input_ids=ids[None]).logits[0, :-1]
            each = torch.nn.functional.cross_entropy(logits.double(), ids[1:], reduction="none")
            loss += each.sum().item()
            text_loss += each[ids[1:] != encoder.eos_id].sum().item()
            tokens += len(each)
            num_bytes += int(sizes[ids[1:]].sum())
    found.append([loss / tokens, text_loss / math.log(2) / num_bytes, tokens, num_bytes])
tell(found)
"""

REFUSALS = """
def refused(*arguments, **options):
    try:
        evaluate(*arguments, **options)
    except HeadwaterError as error:
        return str(error)

small = build_model(recipe, encoder.vocab_size, 32)
told = [
    refused(small, lake, ["sequences"], recipe, cpu),
    refused(model, lake, ["sequence"], recipe, cpu),
    refused(model, lake, ["book"], recipe, cpu),
    refused(model, lake, ["sequences"], recipe, cpu, tokenizer_id="0" * 32),
]
same = evaluate(model, lake, ["sequences"], recipe, cpu, 2, tokenizer_id=encoder.tokenizer_id)
more = encoder.with_special_tokens(["<|good|>"])
lake.write("tokenizers", more.row(), mode="append")
told.append(evaluate(model, lake, ["sequences"], recipe, cpu, 2, tokenizer_id=more.tokenizer_id) == same)
tell(told)
"""

Found = Any


def run(place: Path, script: str, processes: int = 1) -> Found:
    file = place / "script.py"
    file.write_text(HEAD + script + tools.LEAVE)
    line = [*tools.python(processes), str(file)]
    environment = tools.environment(PYTHONPATH=str(tools.TRAINER))
    done = subprocess.run(
        line, cwd=place, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.partition("FOUND ")[2])


@pytest.fixture(scope="module")
def alone(place: Path) -> Found:
    return run(place, SHARDED)


def test_bits_per_byte_are_those_of_each_document_alone(place: Path, alone: Found) -> None:
    plainly = run(place, PLAINLY)
    for row, (loss, bits_per_byte, tokens, num_bytes) in zip(alone[0], plainly, strict=True):
        assert (row["tokens"], row["bytes"]) == (tokens, num_bytes)
        assert row["loss"] == pytest.approx(loss, rel=1e-5)
        assert row["bits_per_byte"] == pytest.approx(bits_per_byte, rel=1e-5)
    table = Lake(place / "lake").table("sequences")
    assert all(row["digest"] == table.digest and row["table"] == "dev.sequences" for row in alone[0])


def test_two_sharded_processes_find_the_same(place: Path, alone: Found) -> None:
    evaluated, samples = run(place, SHARDED, processes=2)
    for row, other in zip(evaluated, alone[0], strict=True):
        numbers = {key: value for key, value in row.items() if not isinstance(value, str)}
        assert numbers == pytest.approx({key: other[key] for key in numbers}, rel=1e-6)
    assert samples == alone[1]


def test_samples_repeat_with_their_seed(alone: Found) -> None:
    greedy, first, again, other = alone[1]
    assert [sample["prompt"] for sample in greedy] == ["w1 w2", "", "w1 " * 90]
    assert first == again != other
    assert all("<|endoftext|>" not in sample["text"] for samples in alone[1] for sample in samples)


def test_what_cannot_be_compared_is_refused(place: Path) -> None:
    too_long, unknown, not_packed, other_tokenizer, control_tokens_do_not_matter = run(place, REFUSALS)
    assert "sequences of 64, the model was made for 32" in too_long
    assert "did you mean dev.sequences" in unknown
    assert "was not made by pack" in not_packed
    assert "expected tokenizer 00000000" in other_tokenizer
    assert control_tokens_do_not_matter
