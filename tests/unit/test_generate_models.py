"""Generators with a model in them: a tiny one on this machine, and a real server with a real one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ports import free_port

from headwater.synthesis.generate import Budget, Completion, Prompt, open_generator

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("httpx")

TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<|go|>{% endif %}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers that knows bytes, with random weights, as save_pretrained writes it."""
    from tokenizers import Tokenizer

    from headwater.tokenizer import train

    path = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(train([["a"]], 260)), eos_token="<|endoftext|>"
    )
    tokenizer.chat_template = TEMPLATE
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
        initializer_range=0.3,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def complete(folder: Path, prompts: list[Prompt], **options: Any) -> dict[str, Completion]:
    parameters = {"max_tokens": 12, **options.pop("parameters", {})}
    with open_generator(f"local:{folder}", device="cpu", parameters=parameters, **options) as generator:
        return {c.prompt_id: c for c in generator.complete(prompts)}


PROMPTS = [
    Prompt.chat("a", "hello"),
    Prompt.chat("b", "a longer question, with more words in it than the others have", "be brief"),
    Prompt.raw("c", "once upon a time"),
    Prompt.raw("d", "x", max_tokens=3),
    Prompt.raw("e", "y", temperature=0),
]


def test_every_prompt_is_completed_with_its_counts(folder: Path) -> None:
    found = complete(folder, PROMPTS, batch_size=3)
    assert set(found) == set("abcde")
    for completion in found.values():
        assert completion.error is None and completion.text
        assert completion.finish_reason in ("stop", "length")
        assert completion.completion_tokens is not None and 0 < completion.completion_tokens <= 12
    assert found["c"].prompt_tokens == len("once upon a time") and found["d"].completion_tokens == 3


def test_the_same_seed_gives_the_same_texts_in_any_batch(folder: Path) -> None:
    together = complete(folder, PROMPTS, batch_size=16)
    alone = complete(folder, PROMPTS[::-1], batch_size=1)
    assert {k: c.text for k, c in together.items()} == {k: c.text for k, c in alone.items()}
    other = complete(folder, PROMPTS, parameters={"seed": 1})
    assert sum(other[k].text != together[k].text for k in "abcd") >= 3
    assert other["e"].text == together["e"].text  # the likeliest tokens have no luck in them
    twice = complete(
        folder, [Prompt.raw("1", "same"), Prompt.raw("2", "same"), Prompt.raw("3", "same", seed=9)]
    )
    assert twice["1"].text == twice["2"].text != twice["3"].text


def test_greedy_equals_the_plain_loop(folder: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = ["def f(x):", "import os, sys, re", "a"]
    found = complete(folder, [Prompt.raw(t, t) for t in texts], parameters={"temperature": 0}, batch_size=3)
    for text in texts:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)
        assert found[text].text == tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)


def test_sampling_follows_the_distribution(folder: Path) -> None:
    from headwater.synthesis.generate.local import _choose

    scores = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))
    draws = [(i + 0.5) / 1_000 for i in range(1_000)]

    def shares(**settings: Any) -> list[float]:
        chosen = [int(_choose(scores, {"temperature": 1.0, **settings}, draw)) for draw in draws]
        return [chosen.count(token) / 1_000 for token in range(4)]

    assert shares() == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.002)
    assert shares(top_k=2) == pytest.approx([0.625, 0.375, 0, 0], abs=0.002)
    assert shares(top_p=0.6) == pytest.approx([0.625, 0.375, 0, 0], abs=0.002)
    assert shares(top_p=0.0) == [1, 0, 0, 0]
    assert shares(temperature=0.5) == pytest.approx([0.685, 0.247, 0.062, 0.007], abs=0.002)
    assert shares(top_k=3, top_p=0.8) == pytest.approx([0.625, 0.375, 0, 0], abs=0.002)
    flat = torch.zeros(5_000)  # no thousand tokens hold half of this
    chosen = {int(_choose(flat, {"temperature": 1.0, "top_p": 0.5}, draw)) for draw in draws}
    assert len(chosen) == 1_000
    assert int(_choose(scores, {"temperature": 0}, 0.99)) == 0
    assert int(_choose(scores, {"temperature": 1.0}, 1 - 1e-16)) == 3


def test_an_answer_ends_before_a_stop_text(folder: Path) -> None:
    whole = complete(folder, [Prompt.raw("a", "text")], parameters={"max_tokens": 40})["a"]
    assert whole.text is not None and len(whole.text) > 8
    stop = whole.text[4:6]
    cut = complete(
        folder, [Prompt.raw("a", "text")], parameters={"max_tokens": 40, "stop": [stop, "no such"]}
    )["a"]
    # Another request by its parameters, but the same random numbers.
    assert cut.text == whole.text[: whole.text.index(stop)] and cut.finish_reason == "stop"
    assert cut.completion_tokens is not None and whole.completion_tokens is not None
    assert cut.completion_tokens < whole.completion_tokens


def test_prompts_that_cannot_be_completed_are_values(folder: Path, tmp_path: Path) -> None:
    import json
    import shutil

    prompts = [
        Prompt.raw("long", "x" * 250),
        Prompt.raw("odd", "x", logit_bias={}),
        Prompt.raw("empty", ""),
        Prompt.raw("ok", "x"),
    ]
    found = complete(folder, prompts)
    assert (
        found["long"].error == "a prompt of 250 tokens and an answer of 12 pass the 256 that the model takes"
    )
    assert "no parameter logit_bias" in str(found["odd"].error) and "empty prompt" in str(
        found["empty"].error
    )
    assert found["ok"].text
    bare = tmp_path / "bare"
    shutil.copytree(folder, bare)
    (bare / "chat_template.jinja").unlink(missing_ok=True)
    settings = json.loads((bare / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (bare / "tokenizer_config.json").write_text(json.dumps(settings))
    found = complete(bare, [Prompt.chat("a", "x"), Prompt.raw("b", "x")])
    assert "no chat template" in str(found["a"].error) and found["b"].text


def test_a_budget_holds_to_the_token(folder: Path) -> None:
    budget = Budget(max_tokens=100)
    prompts = [Prompt.raw(str(i), "0123456789") for i in range(20)]
    with open_generator(
        f"local:{folder}", device="cpu", parameters={"max_tokens": 10}, budget=budget, batch_size=4
    ) as generator:
        found = list(generator.complete(prompts))
        assert generator.stopped and "the budget is spent" in generator.stopped
    sent = [c for c in found if c.was_sent]
    assert len(found) == 20 and len(sent) >= 5 and budget.spent_tokens <= 100
    assert budget.spent_tokens == sum(c.charged[0] + c.charged[1] for c in sent)


def test_the_version_is_that_of_the_weights(folder: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    versions = {open_generator(f"local:{each}", device="cpu").version for each in (folder, copy)}
    assert len(versions) == 1
    config = copy / "config.json"
    config.write_text(config.read_text() + "\n")
    assert open_generator(f"local:{copy}", device="cpu").version not in versions
    assert open_generator(f"local:{copy}", device="cpu").name == "copy"


# -- the model of the wheel, behind a real server ---------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`transformers serve` on loopback, without the hub; the model unfolded from its wheel as on a new machine."""
    pytest.importorskip("uvicorn")
    pytest.importorskip("fastapi")
    import urllib.request

    from headwater.errors import MissingExtra
    from headwater.synthesis.generate.smollm2 import CACHE_VARIABLE, smollm2_folder

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(tmp_path_factory.mktemp("cache")))
        try:
            model = smollm2_folder()
        except MissingExtra as error:
            pytest.skip(str(error))
    port = free_port()
    command = [
        str(Path(sys.executable).with_name("transformers")),
        "serve",
        str(model),
        "--host",
        "127.0.0.1",
    ]
    process = subprocess.Popen(
        [*command, "--port", str(port), "--device", "cpu"],
        env={**os.environ, "HF_HUB_OFFLINE": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until = time.monotonic() + 240
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            except OSError:
                assert process.poll() is None, "the server ended"
                assert time.monotonic() < until, "the server is not ready"
                time.sleep(0.25)
        yield f"http://127.0.0.1:{port}/v1#{model}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
def test_a_real_server_with_a_real_model(server: str) -> None:
    prompts = [
        Prompt.chat("a", "What is 2 + 2? Answer with one number."),
        Prompt.chat("b", "Name a color.", "Be brief."),
    ]
    options: dict[str, Any] = {
        "parameters": {"max_tokens": 8, "temperature": 0.0},
        "concurrency": 2,
        "name": "smollm2",
    }
    with open_generator(server, **options) as generator:
        found = {c.prompt_id: c for c in generator.complete(prompts)}
    assert all(c.error is None for c in found.values()), found
    assert "4" in str(found["a"].text) and found["b"].text
    assert all(0 < (c.completion_tokens or 8) <= 9 for c in found.values())
    with open_generator(server, stream=True, **options) as generator:
        (streamed,) = generator.complete(prompts[:1])
    assert streamed.text == found["a"].text, streamed
    base, _, _ = server.partition("#")
    with open_generator(f"{base}#no/such-model", max_attempts=1, **options) as generator:
        (missing,) = generator.complete(prompts[:1])
    assert missing.error and missing.error.startswith("HTTP ")
