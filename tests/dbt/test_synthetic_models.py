"""Real and synthetic documents through dbt to an approval that is refused for its share, and then given."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import headwater as hw
from headwater.approve import approve
from headwater.checks import create_project
from headwater.errors import CheckFailed
from headwater.ingest import ingest

REFERENCE = Path(__file__).parents[2]
Dbt = Callable[..., subprocess.CompletedProcess[str]]

MODEL = """
-- depends_on: {{ ref('synthetic_limits') }}
{{ config(materialized="lance", meta={"candidates": "raw.documents"}) }}
select
    d.doc_id, o.origin, o.generation, o.domain, d.text_bytes,
    m.machine_score < 0.5 or o.origin <> 'synthetic' as keep__no_assistant_talk
from {{ source('lake', 'documents') }} d
left join {{ ref('document_domains') }} o using (doc_id)
left join {{ ref('machine_text_signals') }} m using (doc_id)
"""
DESCRIBED = """
version: 2
models:
  - name: mixed
    columns:
      - name: keep__no_assistant_talk
        description: No talk.
"""
QUERIES = {
    "too much synthetic text": (
        "select * from synthetic_over_cap('mixed')",
        "{domain}: {share:.1%}, {max_share:.1%}",
    ),
    "too deep": ("select * from synthetic_too_deep('mixed')", "{domain}: {deepest}"),
    "inconsistent": ("select * from inconsistent_generations('mixed')", None),
    "unaccounted": ("select * from unaccounted_documents('mixed')", None),
    "replaced": ("select * from lost_real_documents('mixed')", None),
}


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The reference project with the models about synthetic text only, and one curated table over them."""
    root = tmp_path / "project"
    for name in ("sql/macros", "sql/seeds", "sql/models/sources", "sql/models/synthetic"):
        shutil.copytree(REFERENCE / name, root / name)
    (root / "pipelines").mkdir()
    for name in ("dbt_project.yml", "profiles.yml", "pipelines/diversity.py", "pipelines/diversity.yml"):
        shutil.copy(REFERENCE / name, root / name)
    for suffix in ("sql", "yml"):
        (root / "sql" / "models" / "synthetic" / f"mixed_textbook.{suffix}").unlink()
    settings = root / "dbt_project.yml"
    settings.write_text(settings.read_text().replace("synthetic: false", "synthetic: true "))
    (root / "sql" / "models" / "mixed.sql").write_text(MODEL)
    (root / "sql" / "models" / "mixed.yml").write_text(DESCRIBED)
    return root


@pytest.fixture
def dbt(project: Path) -> Dbt:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("dbt")), *arguments]
        return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)

    return run


@pytest.mark.checks
def test_a_share_over_the_cap_is_refused_and_more_real_text_helps(dbt: Dbt, project: Path) -> None:
    lake = hw.Lake(project / "lake")
    expectations = [
        {
            "type": "unexpected_rows_expectation",
            "kwargs": {"unexpected_rows_query": query},
            "meta": {"why": why, **({"say": say} if say else {})},
        }
        for why, (query, say) in QUERIES.items()
    ]
    suite = create_project(project) / "mixed.json"
    suite.write_text(json.dumps({"name": "mixed", "expectations": expectations}))
    real = [{"id": f"r{i}", "text": f"Number {i} of the true stories. ".ljust(100, "x")} for i in range(40)]
    made = [{"id": f"s{i}", "text": f"Story {i} of a machine, no more. ".ljust(100, "y")} for i in range(20)]
    made.append({"id": "talk", "text": "Sure, here is a story. I hope this helps!"})
    ingest(lake, "jsonl", write(project / "real.jsonl", real), origin="human")
    ingest(lake, "jsonl", write(project / "made.jsonl", made), generator="g", generator_version="1")

    build = ("build", "--select", "+mixed", "+origin_evidence", "+diversity")
    done = dbt(*build)
    assert done.returncode == 0, done.stdout + done.stderr
    assert lake.table("mixed").num_rows == 60
    found = lake.table("origin_evidence").to_arrow(["finding"])["finding"].value_counts().to_pylist()
    assert {row["values"]: row["counts"] for row in found} == {"documented": 21, "unmarked": 40}
    parts = lake.table("diversity").to_arrow(["part", "num_documents"]).to_pylist()
    assert parts == [
        {"part": "prose/real", "num_documents": 40},
        {"part": "prose/synthetic", "num_documents": 21},
    ]

    with pytest.raises(CheckFailed, match="too much synthetic text:\n      prose: 33.3%, 30.0%"):
        approve(lake, "mixed", who="ada", why="first", project_dir=project)
    assert not lake.exists("approvals")

    more = [{"id": f"m{i}", "text": f"Number {i} of more true stories. ".ljust(100, "z")} for i in range(20)]
    ingest(lake, "jsonl", write(project / "more.jsonl", more), origin="human")
    assert dbt("build", "--select", "+mixed").returncode == 0
    approval = approve(lake, "mixed", who="ada", why="more real text", project_dir=project)
    assert approval.table.version == lake.table("mixed").version
    assert approval.dbt_tests is not None and approval.dbt_tests
