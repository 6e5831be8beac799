"""The recipes' prompts in SQL, built by real dbt."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from dbt_documents import documents

import headwater as hw

Dbt = Callable[..., subprocess.CompletedProcess[str]]

MODELS = {
    "books": "headwater.phi1_textbook_prompts(['lists', 'trees'], limit=20)",
    "tasks": "headwater.phi1_exercise_prompts(['lists'], ['sort', 'find'], ['words', 'pairs'])",
    "stories": "headwater.tinystories_prompts(source('corpus', 'vocabulary'), limit=30)",
    "seeded": "headwater.cosmopedia_prompts(source('corpus', 'documents'))",
}


def test_prompts_of_the_recipes(lake: hw.Lake, dbt: Dbt, project: Path) -> None:
    lake.write("raw.documents", documents([(f"{i:02}", f"text {i}", "MIT") for i in range(12)]))
    words = ["dog", "cat", "to", "bird", "tree", "house", "run", "sing", "a"]
    lake.write("raw.vocabulary", pa.table({"word": words}))
    sources = next(p for p in (project / "models").glob("*.yml") if "corpus" in p.read_text())
    sources.write_text(
        sources.read_text().replace("- name: documents", "- name: vocabulary\n      - name: documents", 1)
    )
    for name, call in MODELS.items():
        sql = f'{{{{ config(materialized="lance") }}}}\nselect * from {{{{ {call} }}}}'
        (project / "models" / f"{name}.sql").write_text(sql)
    done = dbt("run", "--select", *MODELS)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {name: lake.table(name).to_arrow().to_pylist() for name in MODELS}
    assert {name: len(found) for name, found in rows.items()} == {
        "books": 20,
        "tasks": 12,
        "stories": 30,
        "seeded": 12,
    }
    assert all("{" not in row["prompt"] for found in rows.values() for row in found)
    for row in rows["stories"]:
        three = json.loads(row["metadata"])["words"]
        assert len(set(three)) == 3 and not set(three) & {"to", "a"} and ", ".join(three) in row["prompt"]
    assert all(
        "[[seed, 800 characters]]\n\n" in row["prompt"] and len(row["parent_ids"]) == 1
        for row in rows["seeded"]
    )
