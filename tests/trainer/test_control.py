"""A control token in training, and generation that asks for it: the sampler, `local:` and the trainer's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import trainer_runs as tools
import xxhash

from headwater.errors import BadInput
from headwater.lake import Lake
from headwater.sequences import pack
from headwater.synthesis.generate import Prompt, open_generator
from headwater.synthesis.self_training.sampler import LocalSampler

pytest.importorskip("torch")
pytest.importorskip("transformers")

pytestmark = [pytest.mark.trainer, pytest.mark.slow]


HOW: dict[str, Any] = {"samples": 3, "top_k": 0, "max_tokens": 6, "seed": 5}


@pytest.fixture(scope="module")
def model(place: Path) -> Path:
    """Trained on `xyxy` after <|good|> and `zwzw` after <|bad|>."""
    texts = [("xy" if i % 2 else "zw") * (4 + i % 5) for i in range(600)]
    ids = [xxhash.xxh3_128_digest(f"{i}{text}".encode()) for i, text in enumerate(texts)]
    lake = Lake(place / "lake")
    lake.write("marked", pa.table({
        "doc_id": pa.array(ids, pa.binary(16)), "text": pa.array(texts, pa.large_string()),
        "quality": ["<|good|>" if i % 2 else "<|bad|>" for i in range(600)],
    }))  # fmt: skip
    pack(lake, "marked", name="marked_order", sequence_length=32, vocab_size=260, method="best-fit",
         control="quality", require_approved=False)  # fmt: skip
    recipe = (
        (place / "tiny.py")
        .read_text()
        .replace("max_steps=12", 'max_steps=60, control="<|good|>"')
        .replace("checkpoint_every=4", "checkpoint_every=60")
    )
    (place / "good.py").write_text(recipe)
    done = tools.train(place, "--table", "marked_order", "--out", "marked-runs", "--export", "marked-model",
                       "--samples", "1", "--quiet", recipe="good.py:tiny")  # fmt: skip
    assert done.returncode == 0, done.stderr
    return place / "marked-model"


def test_what_is_asked_for_is_written(place: Path, model: Path) -> None:
    for control, wanted in (("<|good|>", set("xy")), ("<|bad|>", set("zw"))):
        sampler = LocalSampler(model, control=control)
        found = sorted(sampler.sample([""], temperature=0.3, **HOW), key=lambda s: s.sample)
        assert [s.sample for s in found] == [0, 1, 2] and all(s.text and set(s.text) <= wanted for s in found)
        again = sorted(sampler.sample([""], temperature=0.3, **HOW), key=lambda s: s.sample)
        assert again == found
        generator = open_generator(
            f"local:{model}", parameters={"temperature": 0, "max_tokens": 6, "prefix": control}
        )
        (completion,) = generator.complete([Prompt.raw("p", min(wanted, key="xyzw".index))])
        assert completion.text and set(completion.text) <= wanted
        assert completion.prompt_tokens == 2
    samples = Lake(place / "lake").table("generation_samples").to_arrow().to_pylist()
    assert samples[-1]["text"] and set(samples[-1]["text"]) <= set("xy")


def test_batches_and_ends(model: Path) -> None:
    """Prompts of all lengths at once are what each of them is alone, and greedy text is the model's own."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    prompts = ["x", "xy", "zw", "z", "xyxyxyxyxy", "zwz"]
    greedy = {**HOW, "samples": 1, "max_tokens": 12}
    together = {s.prompt: s.text for s in LocalSampler(model).sample(prompts, temperature=0.0, **greedy)}
    own, tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    for i, prompt in enumerate(prompts):
        ids = torch.tensor([tokenizer(prompt)["input_ids"]])
        new = own.generate(ids, do_sample=False, max_new_tokens=12)[0, ids.shape[1] :].tolist()
        end = new.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in new else len(new)
        assert together[i] == tokenizer.decode(new[:end])


def test_a_token_that_the_model_does_not_have(model: Path) -> None:
    with pytest.raises(BadInput, match="no special token '<|fair|>'".replace("|", r"\|")):
        LocalSampler(model, control="<|fair|>")
    generator = open_generator(f"local:{model}", parameters={"max_tokens": 2, "prefix": "<|fair|>"})
    (refused,) = generator.complete([Prompt.raw("p", "x")])
    assert refused.error is not None and "no special token" in refused.error
