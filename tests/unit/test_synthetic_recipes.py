"""Each recipe from prompts to accepted rows, with a small program for a generator."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
import xxhash

from headwater.errors import BadInput, UsageError
from headwater.lake import Lake
from headwater.operators import operator
from headwater.synthesis.generate import Prompt, open_generator
from headwater.synthesis.generate.run import generate
from headwater.synthesis.provenance import SYNTHETIC_FIELDS, synthetic_rows
from headwater.synthesis.recipes import cosmopedia, phi1, self_instruct, tinystories
from headwater.synthesis.recipes.prompts import combinations
from headwater.synthesis.verifiers import find_verifier

HERE = "tests.unit.test_synthetic_recipes"

WHO = ("dog", "cat", "bird", "girl", "boy", "bear")
DID = ("ran", "sat", "sang", "slept", "played", "jumped")
HOW = ("happy", "little", "big", "red", "soft", "sad")


def storyteller(prompts: list[Prompt]) -> list[str]:
    """A grammar of four sentences; every third story has a word that no child knows."""
    stories = []
    for prompt in prompts:
        rng = random.Random(prompt.text)
        asked = prompt.text.partition("use the words ")[2].partition(".")[0].replace("'", "").split(", ")
        lines = [
            f"the {rng.choice(HOW)} {rng.choice(WHO)} {rng.choice(DID)} to the {rng.choice(WHO)}"
            for _ in range(4)
        ]
        hard = " epistemology" * (rng.randrange(3) == 0)
        stories.append(f"{'. '.join(lines)} and {' '.join(asked)}{hard}.")
    return stories


ANSWERS = {
    "good": 'def {f}(x):\n    """Twice x.\n\n    >>> {f}(2)\n    4\n    """\n    return 2 * x\n',
    "wrong": 'def {f}(x):\n    """Twice x.\n\n    >>> {f}(2)\n    5\n    """\n    return 2 * x\n',
    "silent": "def {f}(x):\n    return 2 * x\n",
    "broken": "def {f}(x:\n",
    "leaves": 'import os\ndef {f}(x):\n    """>>> {f}(1)\n    1\n    """\nos._exit(0)\n',
}


def coder(prompts: list[Prompt]) -> list[str]:
    kinds = list(ANSWERS)
    found = []
    for prompt in prompts:
        function = prompt.text.partition("a function called ")[2].partition(",")[0]
        kind = kinds[xxhash.xxh32_intdigest(prompt.text.encode()) % len(kinds)]
        found.append(f"```python\n{ANSWERS[kind].replace('{f}', function)}```")
    return found


def task_writer(prompts: list[Prompt]) -> list[str]:
    """New tasks, an old one with a word changed, one about images, a short one and one cut off."""
    verbs, nouns = (
        ("Explain", "Describe", "Compare", "Summarize", "Rewrite"),
        ("rivers", "bread", "chess", "tides"),
    )
    answers = []
    for prompt in prompts:
        rng = random.Random(prompt.text)
        first = prompt.text.partition("1. ")[2].partition("\n")[0]
        new = [
            f"{rng.choice(verbs)} how {rng.choice(nouns)} changed in the year {rng.randrange(1000)}"
            for _ in range(2)
        ]
        answers.append(
            f" {new[0]}\n10. {first} now\n11. Describe the image of a cat\n12. Go on\n13. {new[1]}"
        )
    return answers


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def documents(texts: list[str], **columns: list[object]) -> pa.Table:
    ids = [xxhash.xxh3_128_digest(f"{i}{text}".encode()) for i, text in enumerate(texts)]
    return pa.table(
        {"doc_id": pa.array(ids, pa.binary(16)), "text": pa.array(texts, pa.large_string()),
         "source": ["made"] * len(texts), **columns}
    )  # fmt: skip


def test_combinations_are_all_there_once_and_follow_the_seed() -> None:
    parts = {"a": list(range(6)), "b": list(range(7))}
    found = combinations(parts, 100, 0)
    assert len({(each["a"], each["b"]) for each in found}) == 42
    assert combinations(parts, 5, 0) == found[:5] != combinations(parts, 5, 1)
    wide = combinations({k: list(range(2000)) for k in "abc"}, 50, 0)
    assert len(wide) == len({tuple(each.values()) for each in wide}) == 50
    with pytest.raises(BadInput, match="there is no b"):
        combinations({"a": [1], "b": []}, 1, 0)


def test_tinystories_end_to_end(lake: Lake, tmp_path: Path) -> None:
    rng = random.Random(0)
    spoken = [
        f"The {rng.choice(HOW)} {rng.choice(WHO)} {rng.choice(DID)} to the {rng.choice(WHO)}, and it was soft."
        for _ in range(300)
    ]
    lake.write("raw.spoken", documents([*spoken, "An epistemology of bears"]))
    words = tinystories.vocabulary_words(lake, "raw.spoken", size=25)
    listed = words.to_arrow().sort_by("rank").to_pylist()
    assert listed[0]["word"] == "the" and listed[0]["documents"] == 300 and listed[0]["count"] == 600
    assert len(listed) == 25 and "epistemology" not in {row["word"] for row in listed}
    prompts = tinystories.story_prompts(lake, [row["word"] for row in listed], limit=40)
    asked = [json.loads(row["metadata"])["words"] for row in prompts.to_arrow().to_pylist()]
    assert len(asked) == 40 and all(len(set(three)) == 3 for three in asked)
    assert (
        tinystories.story_prompts(lake, [row["word"] for row in listed], limit=40).version == prompts.version
    )
    report = generate(
        lake,
        "story_prompts",
        open_generator(f"program:{HERE}:storyteller"),
        to="raw.stories",
        folder=tmp_path / "runs",
    )
    assert report.answered == 40
    accepted = tinystories.accept_stories(lake, "raw.stories", "story_vocabulary")
    checks = lake.table("tinystories_checks").to_arrow().to_pylist()
    stories = {row["doc_id"]: row["text"] for row in lake.table("raw.stories").to_arrow().to_pylist()}
    hard = {i for i, text in stories.items() if "epistemology" in text}
    assert 0 < len(hard) < 40 and all(row["keep__asked_words"] for row in checks)
    assert {row["doc_id"] for row in checks if not row["keep__vocabulary"]} == hard
    assert set(accepted.to_arrow()["doc_id"].to_pylist()) == stories.keys() - hard
    file = tmp_path / "words.txt"
    digest = tinystories.write_vocabulary(words, file)
    found = operator("vocabulary")(
        pa.array(["the epistemology"], pa.large_string()), file=str(file), digest=digest
    )
    assert found[0].as_py()["num_outside"] == 1


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
def test_phi1_exercises_do_what_their_docstring_says(lake: Lake, tmp_path: Path) -> None:
    prompts = phi1.exercise_prompts(lake, limit=30)
    row = prompts.to_arrow().to_pylist()[0]
    facts = json.loads(row["metadata"])
    assert f"{facts['verb']}_{facts['noun']}" in row["prompt"] and facts["topic"] in row["prompt"]
    generate(
        lake, "phi1_exercise_prompts", open_generator(f"program:{HERE}:coder"), to="raw.exercises",
        folder=tmp_path / "runs",
    )  # fmt: skip
    checks = phi1.check_exercises(lake, "raw.exercises", find_verifier("unit_tests")).to_arrow().to_pylist()
    texts = {r["doc_id"]: r["text"] for r in lake.table("raw.exercises").to_arrow().to_pylist()}
    seen: Counter[str] = Counter()
    for check in checks:
        text = texts[check["doc_id"]]
        kind = next(k for k, code in ANSWERS.items() if code.replace("{f}", check["function"] or "?") in text) \
            if check["compiles"] else "broken"  # fmt: skip
        seen[kind] += 1
        assert (check["status"], check["reward"]) == {
            "good": ("passed", 1.0), "wrong": ("failed", 0.0), "leaves": ("ended early", 0.0),
            "silent": ("not run", None), "broken": ("not run", None),
        }[kind]  # fmt: skip
    assert set(seen) == set(ANSWERS) and sum(seen.values()) == len(texts)


def test_phi1_textbooks_differ_by_topic_audience_and_constraint(lake: Lake) -> None:
    rows = phi1.textbook_prompts(lake, limit=1_000).to_arrow().to_pylist()
    assert (
        len(rows)
        == len(phi1.TOPICS) * len(phi1.AUDIENCES) * len(phi1.CONSTRAINTS)
        == len({row["prompt"] for row in rows})
    )
    assert phi1.Exercise.of("(" * 10_000).compiles is False
    assert phi1.Exercise.of("x = 1\0").compiles is False


def test_cosmopedia_seeds_come_from_every_cluster(lake: Lake, tmp_path: Path) -> None:
    texts = [f"A text about thing {i}." for i in range(60)]
    table = synthetic_rows(texts, source="made", generator="g", generator_version="1", prompt_ids=texts,
                           generations=[1] * 59 + [3])  # fmt: skip
    lake.write("raw.pages", table)
    clusters = pa.table({"doc_id": table["doc_id"], "cluster_id": ["big"] * 50 + ["small"] * 10})
    lake.write("topics", clusters)
    rows = cosmopedia.seeded_prompts(lake, "raw.pages", clusters="topics", limit=16).to_arrow().to_pylist()
    counts = Counter(json.loads(row["metadata"])["cluster"] for row in rows)
    assert counts == {"big": 8, "small": 8}
    assert {len(row["parent_ids"]) for row in rows} == {1} and "[[seed" in rows[0]["prompt"]
    assert len({json.loads(row["metadata"])["style"] for row in rows}) > 1
    every = cosmopedia.seeded_prompts(lake, "raw.pages", "all_prompts", limit=100).to_arrow().to_pylist()
    assert len(every) == 60 and Counter(row["generation"] for row in every) == {1: 59, 3: 1}
    generate(lake, "cosmopedia_prompts", open_generator(f"program:{HERE}:storyteller"), to="raw.seeded",
             seeds="raw.pages", folder=tmp_path / "runs")  # fmt: skip
    made = lake.table("raw.seeded").to_arrow().to_pylist()
    assert len(made) == 16 and {row["generation"] for row in made} <= {2, 4}
    lake.write("wrong", pa.table({"doc_id": table["doc_id"]}))
    with pytest.raises(UsageError, match="has no doc_id with a cluster_id"):
        cosmopedia.seeded_prompts(lake, "raw.pages", clusters="wrong")


SEEDS = [f"{verb} {what} to a child of {age}" for age, (verb, what) in enumerate(
    [("Explain", "the moon"), ("Tell", "a joke about trains"), ("Describe", "how soup is cooked"),
     ("List", "four kinds of trees"), ("Translate", "a song from French"), ("Teach", "the rules of tennis"),
     ("Argue", "for later school hours"), ("Name", "rivers in Europe")], 6)]  # fmt: skip


def test_self_instruct_accepts_only_what_is_new(lake: Lake) -> None:
    lake.write("raw.tasks", documents(SEEDS))
    generator = open_generator(f"program:{HERE}:task_writer")
    report = self_instruct.self_instruct(lake, "raw.tasks", generator, steps=4)
    rows = lake.table("self_instruct_candidates").to_arrow().sort_by(
        [("step", "ascending"), ("number", "ascending")]
    ).to_pylist()  # fmt: skip
    assert report.candidates == len(rows) == 20 and report.steps == 4
    assert report.reasons == {"keyword": 4, "length": 4, "like an earlier one": 20 - 8 - report.accepted}
    accepted = list(SEEDS)
    for row in rows:
        if row["reason"] not in ("keyword", "length"):
            best = max(
                operator("rouge_l")(
                    pa.array([row["instruction"]] * len(accepted), pa.large_string()),
                    pa.array(accepted, pa.large_string()),
                ).to_pylist()
            )
            assert row["accepted"] == (best < 0.7) and (
                not row["accepted"] or row["rouge_l"] == pytest.approx(best)
            )
        if row["accepted"]:
            accepted.append(row["instruction"])
    written = lake.table("self_instruct").to_arrow().to_pylist()
    assert [row["text"] for row in written] == accepted[8:] and set(SYNTHETIC_FIELDS.names) <= set(written[0])
    assert {len(row["parent_ids"]) for row in written} <= {6, 7, 8}
    assert written[0]["generation"] == 1 and max(row["generation"] for row in written) > 1


def test_self_instruct_goes_on_where_it_was(lake: Lake) -> None:
    lake.write("raw.tasks", documents(SEEDS))
    generator = open_generator(f"program:{HERE}:task_writer")
    for steps in (2, 4):
        self_instruct.self_instruct(lake, "raw.tasks", generator, "halted", steps=steps)
    self_instruct.self_instruct(lake, "raw.tasks", generator, "whole", steps=4)
    columns = ["step", "number", "instruction", "accepted", "reason", "rouge_l"]
    halted, whole = (lake.table(f"{n}_candidates").to_arrow(columns).to_pylist() for n in ("halted", "whole"))
    assert halted == whole
    version = lake.table("whole_candidates").version
    self_instruct.self_instruct(lake, "raw.tasks", generator, "whole", steps=4)
    assert lake.table("whole_candidates").version == version
    with pytest.raises(BadInput, match="has 3 instructions"):
        lake.write("raw.few", documents(SEEDS[:3]))
        self_instruct.self_instruct(lake, "raw.few", generator, steps=1)
