"""Prompts composed in SQL, completed by a program, and judged by rules: real dbt, in a repository of one's own."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dbt_documents import documents

import headwater as hw
from headwater.synthesis.generate import open_generator
from headwater.synthesis.generate.run import generate

Dbt = Callable[..., subprocess.CompletedProcess[str]]

WORDS = """
{{ config(materialized="lance") }}
select 'word' || lpad(i::varchar, 2, '0') as word from range(30) t(i)
"""
GRID = """
{{ config(materialized="lance") }}
select * from {{ headwater.prompt_grid(
    recipe="stories",
    template="It's a story for {age} about {topic}; use {words}.",
    axes={'age': ['three', "four's"], 'topic': {'from': "(select unnest(['a {age}', 'b', 'b', null]) as t)", 'column': 't'}},
    words={'from': ref('words'), 'n': 3},
    samples=2,
    parameters={'max_tokens': 9},
    seed=var('prompt_seed', 0),
) }}
"""
SOME = GRID.replace("samples=2", "samples=2, limit=3")
SEEDED = """
{{ config(materialized="lance") }}
select * from {{ headwater.prompt_grid(
    recipe="lessons",
    system="Teach.",
    template="[[seed 1, 60 characters]] for {age}",
    axes={'age': ['three', 'four', 'five']},
    seeds=source('corpus', 'documents'),
) }}
"""
SIGNALS = """
{{ config(materialized="lance", meta={"rows_of": "raw.generated_documents"}) }}
select doc_id, text_hash, w.num_words, num_refusals, num_prompt_leaks
from (
    select doc_id, text_hash, text_stats(text) as w,
        {{ headwater.count_refusals('text') }} as num_refusals, {{ headwater.count_prompt_leaks('text') }} as num_prompt_leaks
    from {{ source('made', 'generated_documents') }}
)
"""
ACCEPTED = """
{{ config(materialized="lance", meta={"candidates": "raw.generated_documents"}) }}
select d.doc_id, d.prompt_id, d.generator, d.parent_ids, d.generation,
    {{ headwater.finished("d.metadata ->> '$.finish_reason'") }},
    {{ headwater.length_between(3, 50, 's.num_words') }},
    {{ headwater.not_empty('s.num_words') }},
    {{ headwater.not_refused() }},
    {{ headwater.no_prompt_leak() }}
from {{ source('made', 'generated_documents') }} d left join {{ ref('made_signals') }} s using (doc_id)
"""
SOURCES = """
version: 2
sources:
  - name: made
    schema: raw
    tables: [{name: generated_documents}]
"""
ANSWERS = [
    "A fine answer of some words.",
    "I'm sorry, but I cannot help with that request.",
    "As an AI language model, I have no opinion on this.",
    "short",
    "Between <seed-abcdef012345> there is nothing to see.",
    "Why models say sorry: a lesson about refusals and how they are made.",
]


def rows(lake: hw.Lake, name: str) -> list[dict[str, Any]]:
    return lake.table(name).to_arrow().to_pylist()


def test_a_grid_of_prompts_is_the_same_each_time(lake: hw.Lake, dbt: Dbt, project: Path) -> None:
    lake.write("raw.documents", documents([("a", "text a", "MIT")]))
    for name, sql in {"words": WORDS, "grid": GRID, "some": SOME}.items():
        (project / "models" / f"{name}.sql").write_text(sql)
    done = dbt("run", "--select", "words", "grid", "some")
    assert done.returncode == 0, done.stdout + done.stderr
    grid = rows(lake, "grid")
    digest = lake.table("grid").digest
    assert len(grid) == 2 * 2 * 2 and len({r["prompt_id"] for r in grid}) == 8
    told = [json.loads(r["metadata"]) for r in grid]
    assert Counter((m["age"], m["topic"]) for m in told) == Counter(
        {(age, topic): 2 for age in ("three", "four's") for topic in ("a {age}", "b")}
    )
    for row, meta in zip(grid, told, strict=True):
        # A value that looks like a placeholder stays a value.
        assert (
            row["prompt"]
            == f"It's a story for {meta['age']} about {meta['topic']}; use {', '.join(meta['words'])}."
        )
        assert len(set(meta["words"])) == 3
        assert json.loads(row["parameters"]) == {"max_tokens": 9, "seed": meta["sample"]}
        assert row["parent_ids"] == [] and row["generation"] == 0 and row["recipe"] == "stories"
    assert len({tuple(m["words"]) for m in told}) == 8
    some = {r["prompt_id"] for r in rows(lake, "some")}
    assert len(some) == 3 and some < {r["prompt_id"] for r in grid}
    done = dbt("run", "--select", "grid", "--vars", "{prompt_seed: 1}")
    assert done.returncode == 0 and lake.table("grid").digest != digest


def test_from_seeds_to_accepted_documents(lake: hw.Lake, dbt: Dbt, project: Path, tmp_path: Path) -> None:
    texts = [(f"{i}.py", f"text number {i}", "MIT") for i in range(len(ANSWERS))]
    lake.write("raw.documents", documents(texts))
    (project / "models" / "seeded.sql").write_text(SEEDED)
    done = dbt("run", "--select", "seeded")
    assert done.returncode == 0, done.stdout + done.stderr
    prompts = rows(lake, "seeded")
    by_id = {
        r["doc_id"]: r["path"] for r in lake.table("raw.documents").to_arrow(["doc_id", "path"]).to_pylist()
    }
    assert {by_id[parent] for r in prompts for parent in r["parent_ids"]} == set(by_id.values())
    assert len({json.loads(r["metadata"])["age"] for r in prompts}) > 1 and all(
        "text" not in r["prompt"] for r in prompts
    )

    code = f"""
ANSWERS = {ANSWERS!r}
def teach(prompts):
    assert all(p.messages[0]["content"] == "Teach." for p in prompts)
    return [next(a for i, a in enumerate(ANSWERS) if f"text number {{i}}" in p.text) for p in prompts]
"""
    (tmp_path / "teacher_of_tests.py").write_text(code)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        report = generate(
            lake, "seeded", open_generator("program:teacher_of_tests:teach"), folder=tmp_path / "runs"
        )
    assert report.answered == len(ANSWERS) and not report.failed

    for name, sql in {"made_signals.sql": SIGNALS, "accepted.sql": ACCEPTED, "made.yml": SOURCES}.items():
        (project / "models" / name).write_text(sql)
    done = dbt("run", "--select", "made_signals", "accepted")
    assert done.returncode == 0, done.stdout + done.stderr
    text_of = {
        r["doc_id"]: r["text"]
        for r in lake.table("raw.generated_documents").to_arrow(["doc_id", "text"]).to_pylist()
    }
    assert sorted(text_of[r["doc_id"]] for r in rows(lake, "accepted")) == sorted([ANSWERS[0], ANSWERS[5]])
    failed = {text_of[r["doc_id"]]: r["failed"] for r in rows(lake, "decisions")}
    assert failed == {
        ANSWERS[1]: ["not_refused"], ANSWERS[2]: ["not_refused"], ANSWERS[3]: ["length"], ANSWERS[4]: ["no_prompt_leak"]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("recipe='r', template='{topc}', axes={'topic': ['a']}", "the template says {topc}; there is topic"),
        (
            "recipe='r', template='[[seed]]', axes={'topic': ['a']}",
            "asks for [[seed]], and there are no seeds",
        ),
    ],
)
def test_a_mistake_is_told_when_it_is_compiled(dbt: Dbt, project: Path, call: str, says: str) -> None:
    (project / "models" / "wrong.sql").write_text("select * from {{ headwater.prompt_grid(" + call + ") }}")
    done = dbt("compile", "--select", "wrong")
    assert done.returncode != 0 and says in done.stdout
