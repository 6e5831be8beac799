"""Selection by meaning in a dbt repository of one's own: the macros' hard cases, and D4 as the page shows it."""

from __future__ import annotations

import re
import shutil
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from dbt_documents import documents

import headwater as hw

Dbt = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).parents[2]
VARIABLES = "{semantic: true, semantic_clusters_k: 3}"

SCORES = """
{{ config(materialized="lance") }}
select s.doc_id, s.score, s.topic, s.grp as semantic_group, s.similarity as centroid_similarity
from {{ source('corpus', 'scores') }} s
"""
JUDGED = """
{{ config(materialized="lance", meta={"candidates": "raw.documents"}) }}
with ruled as (
    select d.doc_id, d.path, s.* exclude (doc_id), d.license_declared = 'MIT' as keep__permissive
    from {{ source('corpus', 'documents') }} d left join {{ ref('scored') }} s using (doc_id)
)
select *, {{ %s }} as keep__chosen from ruled
"""
SOURCES = """
version: 2
sources:
  - name: corpus
    schema: raw
    tables: [{name: documents}, {name: scores}, {name: pairs}]
"""
# name, license, score, topic, group, similarity with the centroid
ROWS: list[tuple[str, str, float | None, int | None, str | None, float | None]] = [
    ("best but GPL", "GPL", 9.0, 1, "g", 0.1),
    ("far", "MIT", 2.0, 1, "g", 0.3),
    ("near", "MIT", 8.0, 1, "g", 0.9),
    ("alone", "MIT", 5.0, 1, "h", 0.8),
    ("tie one", "MIT", 5.0, 2, "i", 0.5),
    ("tie two", "MIT", 5.0, 2, "j", 0.5),
    ("low", "MIT", 1.0, 2, "k", 0.7),
    ("lost", "MIT", None, None, None, None),
    ("not a number", "MIT", float("nan"), 2, "l", float("nan")),
]
FAMILIES = [(f"{kind} {i}", "MIT", None, None, kind, None) for kind in ("chain", "star") for i in (1, 2, 3)]
ROWS += FAMILIES
PAIRS = [
    ("best but GPL", "far", 0.99),
    ("far", "near", 0.96),
    ("chain 1", "chain 2", 0.97),
    ("chain 2", "chain 3", 0.97),
    ("star 1", "star 3", 0.97),
    ("star 2", "star 3", 0.97),
]
UNSCORED = {"lost", *(row[0] for row in FAMILIES)}


def key(name: str) -> bytes:
    return name.encode().ljust(16, b"\0")[:16]


@pytest.fixture
def judge(lake: hw.Lake, dbt: Dbt, project: Path) -> Callable[..., dict[str, dict[str, Any]]]:
    names = [row[0] for row in ROWS]
    docs = documents([(row[0], row[0], row[1]) for row in ROWS])
    ids = pa.array([key(name) for name in names], pa.binary(16))
    lake.write("raw.documents", docs.set_column(0, "doc_id", ids))
    groups = pa.array([key(row[4]) if row[4] else None for row in ROWS], pa.binary(16))
    lake.write("raw.scores", pa.table({
        "doc_id": ids,
        "score": pa.array([row[2] for row in ROWS], pa.float64()),
        "topic": pa.array([row[3] for row in ROWS], pa.int32()),
        "grp": groups,
        "similarity": pa.array([row[5] for row in ROWS], pa.float32()),
    }))  # fmt: skip
    ordered = [(*sorted((key(a), key(b))), s) for a, b, s in PAIRS]
    lake.write("raw.pairs", pa.table({
        "a": pa.array([a for a, _, _ in ordered], pa.binary(16)),
        "b": pa.array([b for _, b, _ in ordered], pa.binary(16)),
        "similarity": pa.array([s for _, _, s in ordered], pa.float32()),
        "kind": pa.array(["pair"] * len(ordered)),
    }))  # fmt: skip
    models = project / "models"
    shutil.rmtree(models)
    models.mkdir()
    (models / "sources.yml").write_text(SOURCES)
    (models / "scored.sql").write_text(SCORES)

    def run(**macros: str) -> dict[str, dict[str, Any]]:
        for name, macro in macros.items():
            (models / f"{name}.sql").write_text(JUDGED % macro)
        done = dbt("run")
        assert done.returncode == 0, done.stdout + done.stderr
        answers = {}
        for name in macros:
            answers[name] = dict.fromkeys(names, True)
            for row in lake.table("decisions").to_arrow().to_pylist():
                if row["table"] == name:
                    failed = "chosen" in row["failed"]
                    unknown = "chosen" in row["unknown"]
                    answers[name][row["doc_id"].rstrip(b"\0").decode()] = (
                        None if unknown else not failed
                    )  # one that only failed another rule is true here
        return answers

    return run


def left(answer: dict[str, Any], value: bool | None) -> set[str]:
    return {name for name, kept in answer.items() if kept is value}


def test_choices_are_made_among_those_that_pass(judge: Callable[..., Any], lake: hw.Lake) -> None:
    names = {row[0][:16] for row in ROWS}
    answers = judge(
        unique="headwater.semantic_unique()",
        by_score="headwater.semantic_unique(order_by='score desc')",
        survivor="headwater.semantic_unique(verify='survivor', pairs=source('corpus', 'pairs'))",
        earlier="headwater.semantic_unique(verify='earlier', pairs=source('corpus', 'pairs'))",
        stricter="headwater.semantic_unique(verify='earlier', pairs=source('corpus', 'pairs'), threshold=0.98)",
        half="headwater.top_share('score', 0.5)",
        few="headwater.top_share('score', 0.01)",
        half_each="headwater.top_share('score', 0.5, within='topic')",
        diverse="headwater.prototypical_share(0.4)",
        diverse_each="headwater.prototypical_share(0.34, within='topic')",
        two_each="headwater.balanced_sample('topic', n=2, order_by='score desc')",
        one_each="headwater.balanced_sample('topic', n=1, seed=7)",
        third_each="headwater.balanced_sample('topic', share=0.3, order_by='score')",
    )
    # The farthest from the centroid has the wrong license: the farthest of the others stays.
    families = {"chain 2", "chain 3", "star 2", "star 3"}
    assert left(answers["unique"], False) == {"near"} | families and left(answers["unique"], None) == {"lost"}
    assert left(answers["by_score"], False) == {"far"} | families
    assert left(answers["survivor"], False) == {"near", "chain 2", "star 3"}
    assert left(answers["earlier"], False) == {"near", "chain 2", "chain 3", "star 3"}
    assert left(answers["stricter"], False) == set()  # the one like "far" has the wrong license
    # Candidates with a score: far, near, alone, tie one, tie two, low: three of six, the tie by id.
    assert left(answers["half"], False) == {"far", "low", "tie two"}
    assert left(answers["half"], None) == {"not a number"} | UNSCORED
    assert left(answers["few"], True) - {"best but GPL"} == {"near"}
    assert left(answers["half_each"], False) == {"far", "low"}
    # 0.4 of six are two: near (0.9) and alone (0.8).
    assert left(answers["diverse"], False) == {"near", "alone"}
    assert left(answers["diverse"], None) == {"not a number"} | UNSCORED
    assert left(answers["diverse_each"], False) == {"near", "low"}
    assert left(answers["two_each"], False) == {"far", "low", "tie two"}
    kept = left(answers["one_each"], True) - {"best but GPL"}
    assert len(kept) == 2 and left(answers["one_each"], None) == UNSCORED
    assert left(answers["third_each"], True) - {"best but GPL"} == {"far", "low", "tie one"}
    assert all(set(answer) == names for answer in answers.values())
    rules = {(r["table"], r["rule"]): r["expression"] for r in lake.table("rules").to_arrow().to_pylist()}
    assert rules["half", "chosen"] == "the first ceil((0.5 * n)) by score DESC, doc_id"
    assert rules["half_each", "chosen"] == "the first ceil((0.5 * n)) of each topic by score DESC, doc_id"
    assert (
        rules["diverse", "chosen"] == "the first (n - floor((0.4 * n))) by centroid_similarity, doc_id DESC"
    )
    assert rules["two_each", "chosen"] == "the first 2 of each topic by score DESC, doc_id"
    assert rules["earlier", "chosen"].startswith("best of semantic_group, if like it, by centroid_similarity")


MISTAKES = {
    "top_share('score', 0)": "top_share: got share 0, expected a number above 0 and at most 1",
    "prototypical_share(1)": "prototypical_share: got share 1, expected a number from 0 to below 1",
    "balanced_sample('topic', n=1, share=0.5)": "balanced_sample: give n or share, one of them",
    "semantic_unique(verify='earlier')": "semantic_unique: verify='earlier' needs pairs=ref('semantic_pairs')",
}


def test_a_mistake_is_told_when_it_is_compiled(dbt: Dbt, project: Path) -> None:
    for macro, says in MISTAKES.items():
        (project / "models" / "wrong.sql").write_text("select {{ headwater." + macro + " }} from x")
        done = dbt("parse")
        assert done.returncode != 0 and says in done.stdout, done.stdout


def test_d4_as_the_page_shows_it(lake: hw.Lake, dbt: Dbt, project: Path) -> None:
    rng = np.random.default_rng(0)
    kinds = np.repeat(np.arange(3), 40)
    rows = [
        (f"kind{k}/{i}.py", f"def apple_{'xyz'[k]}{i}(): pear {'xyz'[k] * 4}", "MIT")
        for i, k in enumerate(kinds)
    ]
    vectors = rng.standard_normal((3, 16))[kinds] + 0.6 * rng.standard_normal((120, 16))
    vectors[1] = vectors[0] + 0.001
    vectors[2] = vectors[0] - 0.001
    docs = documents(rows)
    lake.write("raw.documents", docs)
    lake.index("raw.documents", "doc_id")
    flat = pa.array(vectors.astype(np.float32).ravel())
    embedded = pa.table({
        "doc_id": docs["doc_id"], "text_hash": docs["text_hash"], "model": ["toy@0"] * 120,
        "embedding": pa.FixedSizeListArray.from_arrays(flat, 16),
    })  # fmt: skip
    lake.write("raw.vectors", embedded)
    models = project / "models"
    shutil.rmtree(models)
    models.mkdir()
    for name in ("semantic_clusters", "semantic_pairs", "semantic_duplicates", "topics"):
        for suffix in (".py", ".yml"):
            shutil.copy(ROOT / "pipelines" / f"{name}{suffix}", models)
    page = (ROOT / "docs" / "how-to" / "semantic-selection.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:sql|python)\n(?:--|#) (\S+/d4_\w+\.\w+)\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 3
    for path, code in blocks:
        (models / Path(path).name).write_text(code)
    lance = '{{ config(materialized="lance") }}\n'
    (models / "embeddings.sql").write_text(lance + "select * from {{ source('lake', 'vectors') }}")
    (models / "license_concluded.sql").write_text(
        lance + "select doc_id, case when license_declared = 'MIT' then 'gold' end as license_tier "
        "from {{ source('lake', 'documents') }}"
    )
    (models / "duplicate_clusters.sql").write_text(
        lance + "select doc_id, doc_id as cluster_id from {{ source('lake', 'documents') }}"
    )
    (models / "sources.yml").write_text(
        "version: 2\nsources:\n  - {name: lake, schema: raw, tables: [{name: documents}, {name: vectors}]}\n"
    )
    config = (project / "dbt_project.yml").read_text()
    (project / "dbt_project.yml").write_text(config + "\nmodels:\n  acme_corpus:\n    +materialized: lance\n")
    done = dbt("build", "--vars", VARIABLES)
    assert done.returncode == 0, done.stdout + done.stderr

    assert lake.table("semantic_clusters").num_rows == 120
    named = lake.table("topics").to_arrow().to_pylist()
    assert sorted(row["size"] for row in named) == [40, 40, 40]
    assert {row["name"].partition(":")[0] for row in named} == {"kind0", "kind1", "kind2"}
    assert all(len(row["example_doc_ids"]) == 5 and row["example_paths"][0] for row in named)
    groups = lake.table("semantic_duplicates").to_arrow().to_pylist()
    assert sorted(row["cluster_size"] for row in groups)[-4:] == [1, 3, 3, 3]
    kept = lake.table("d4_survivors").num_rows
    assert kept == 118
    shown = dbt("show", "--inline", "select rule, doc_id, matching_doc_id from dev.rejections where rule = 'semantic_unique'",
                "--output", "json", "--vars", VARIABLES)  # fmt: skip
    assert shown.returncode == 0, shown.stdout + shown.stderr
    family = {str(uuid.UUID(bytes=key)) for key in docs["doc_id"].to_pylist()[:3]}
    assert all(shown.stdout.count(key) in (1, 2) for key in family), (
        "each that went, and the one that stayed twice"
    )
    selection = lake.table("d4_selection")
    assert selection.num_rows == kept - int(0.25 * kept)
    left = selection.to_arrow(["centroid_similarity"])["centroid_similarity"].to_pylist()
    dropped = lake.table("d4_clusters").num_rows - len(left)
    assert dropped == int(0.25 * kept)
    ranked = sorted(lake.table("d4_clusters").to_arrow()["centroid_similarity"].to_pylist())
    assert max(left) == ranked[len(left) - 1], "the most prototypical went"

    before = {
        name: lake.table(name).ref
        for name in ("semantic_clusters", "semantic_pairs", "topics", "d4_selection")
    }
    done = dbt("run", "--vars", VARIABLES)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {name: lake.table(name).ref for name in before} == before, (
        "nothing changed, so nothing is published"
    )
    done = dbt("run", "--vars", "{semantic: true, semantic_clusters_k: 4}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert lake.table("semantic_clusters").ref != before["semantic_clusters"]
