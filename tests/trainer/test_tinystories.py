"""TinyStories end to end at smoke size: words, prompts, stories, rules, packing, and a model under 10 M."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trainer_runs as tools

from headwater.lake import Lake
from headwater.sequences import pack
from headwater.synthesis.generate import open_generator
from headwater.synthesis.generate.run import generate
from headwater.synthesis.recipes import tinystories

pytest.importorskip("torch")
pytest.importorskip("transformers")

pytestmark = [pytest.mark.trainer, pytest.mark.slow]

RECIPE = """
from dataclasses import replace

from recipe import Recipe, find_recipe


def smoke() -> Recipe:
    base = find_recipe("tinystories_10m")
    return replace(base, global_batch_size=4, micro_batch_size=4, max_steps=4, warmup_steps=1)
"""


def test_from_words_to_a_model(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    words = (
        "the dog cat bird girl boy bear ran sat sang slept played jumped happy little big red soft sad to and"
    )
    prompts = tinystories.story_prompts(lake, words.split(), limit=60)
    generator = open_generator("program:tests.unit.test_synthetic_recipes:storyteller")
    generate(lake, prompts.short_name, generator, to="raw.stories", folder=tmp_path / "generate")
    lake.write("raw.spoken", lake.table("raw.stories").to_arrow(["doc_id", "text"]))
    tinystories.vocabulary_words(lake, "raw.spoken", size=21)
    accepted = tinystories.accept_stories(lake, "raw.stories", "story_vocabulary")
    assert 20 < accepted.num_rows < 60
    report = pack(lake, "tinystories", sequence_length=64, vocab_size=400, require_approved=False)
    assert report.num_documents == accepted.num_rows
    (tmp_path / "smoke.py").write_text(RECIPE)
    done = tools.train(tmp_path, "--out", "runs", "--samples", "1", recipe="smoke.py:smoke")
    assert done.returncode == 0, done.stderr
    (millions,) = re.findall(r": ([\d.]+) M parameters", done.stdout)
    assert 1 < float(millions) < 10
    curve = list(tools.losses(tmp_path, "runs").values())
    assert curve[-1] < curve[0] - 0.3
    assert lake.table("generation_samples").to_arrow().to_pylist()[0]["prompt"] == "Once upon a time"
