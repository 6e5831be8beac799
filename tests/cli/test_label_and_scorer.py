"""label → fit → calibrate → apply on the command line, and the rule that a build makes of it."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from scoring_lake import make_lake

import headwater as hw
from headwater.build import build
from headwater.cli import VERBS, cli, main

ROOT = Path(__file__).parents[2]

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the reference project over a small lake."""
    root = tmp_path_factory.mktemp("project")
    for name in ("dbt_project.yml", "profiles.yml", "sql", "pipelines"):
        source = ROOT / name
        shutil.copytree(source, root / name) if source.is_dir() else shutil.copy(source, root / name)
    lake, rows = make_lake(root)
    table = lake.table("raw.documents").to_arrow()
    table = table.append_column("license_declared", pa.array(["MIT"] * len(rows)))
    for name, kind in (
        ("url", pa.string()),
        ("origin", pa.string()),
        ("date", pa.timestamp("us")),
        ("metadata", pa.string()),
    ):
        table = table.append_column(name, pa.nulls(len(rows), kind))
    lake.write("raw.documents", table)
    vectors = np.random.default_rng(0).normal(scale=0.2, size=(len(rows), 8)).astype(np.float32)
    vectors[:, 0] += np.array([row["score"] for row in rows], dtype=np.float32)
    lake.write(
        "embeddings",
        pa.table(
            {
                "doc_id": table["doc_id"],
                "text_hash": table["text_hash"],
                "model": ["m@00000001"] * len(rows),
                "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 8),
            }
        ),
    )
    with (root / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text_hash", "score", "reason"])
        writer.writerows([row["text_hash"], row["score"], "as made"] for row in rows)
    return root


@pytest.fixture
def on(project: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(["--project-dir", str(project), "--lake", str(project / "lake"), *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def as_json(result: tuple[int, str, str]) -> dict[str, Any]:
    assert result[0] == 0, result[2]
    found: dict[str, Any] = json.loads(result[1])
    return found


def test_help_says_what_there_is() -> None:
    assert {"label", "scorer"} <= set(VERBS)
    for verb, parts in (("label", ("choose", "ask", "import", "page", "show")),
                        ("scorer", ("fit", "list", "report", "export", "import"))):  # fmt: skip
        shown = CliRunner().invoke(cli, [verb, "--help"])
        assert shown.exit_code == 0 and all(part in shown.output for part in parts)


def test_from_labels_to_a_rule(on: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert on("scorer", "fit", "mine")[0] == 2  # no labels yet
    chosen = as_json(
        on(
            "label",
            "choose",
            "--n",
            "30",
            "--stratify",
            "source",
            "--to",
            str(project / "todo.csv"),
            "--json",
        )
    )
    assert chosen["texts"] == 30 and set(chosen["strata"].values().__iter__().__next__()) == {
        "candidates",
        "chosen",
    }

    # A program annotates: one answer is none.
    (project / "judge.py").write_text(
        "def judge(prompts):\n"
        "    texts = [p.messages[1]['content'] for p in prompts]\n"
        "    return ['none of that' if '_' not in t else ('3\\ngood' if '>>>' in t else '0\\nplain') for t in texts]\n"
    )
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(str(project))
    code, out, _ = on("label", "ask", "program:judge:judge")
    assert code == 0 and "asked 30 texts" in out
    asked = as_json(on("label", "ask", "program:judge:judge", "--json"))
    assert asked["asked"] == 0

    assert (
        "60 labels added" in on("label", "import", "labels.csv", "--annotator", "ada", "--kind", "person")[1]
    )
    again = as_json(on("label", "import", "labels.csv", "--annotator", "ada", "--kind", "person", "--json"))
    assert again["unchanged"] == 60
    bad = project / "bad.csv"
    bad.write_text("text_hash,score\n" + "f" * 32 + ",3\n")
    code, out, _ = on("label", "import", str(bad))
    assert code == 0 and "quarantined 1: the lake holds no such text" in out
    shown = as_json(on("label", "show", "--json"))
    assert {row["annotator"] for row in shown["annotators"]} == {"ada", "program:judge:judge"}
    assert shown["agreement"] and shown["quarantined"]["unknown_text"] == 1
    assert "ada" in on("label", "show")[1]

    scorers = project / "scorers"
    found = as_json(
        on(
            "scorer",
            "fit",
            "mine",
            "--annotator",
            "ada",
            "--bits",
            "10",
            "--repeats",
            "1",
            "--to",
            str(scorers),
            "--json",
        )
    )
    assert found["version"] == 1 and Path(found["file"]).parent == scorers
    code, out, _ = on("scorer", "fit", "head", "--kind", "embedding", "--annotator", "ada", "--repeats", "1")
    assert code == 0 and "rank correlation" in out
    assert "mine@1" in on("scorer", "list")[1]
    exported = as_json(on("scorer", "export", "mine@1", "--to", str(scorers), "--json"))
    assert exported["file"] == found["file"]
    assert "there already" in on("scorer", "import", exported["file"])[1]

    variables = {"edu_scores": True, "edu_scorer": found["file"], "edu_score_min": 2,
                 "embedding_edu_scorer": "head", "embeddings": True}  # fmt: skip

    report = build(
        project, lake=str(project / "lake"), target="dev", vars=variables,
        select="edu_scores embedding_edu_scores +python_textbook,resource_type:model +python_textbook,resource_type:seed",
    )  # fmt: skip
    assert report.success, [node.message for node in report.nodes if node.status == "failed"]
    lake = hw.Lake(project / "lake")
    scores = {r["doc_id"]: r["edu_score"] for r in lake.table("edu_scores").to_arrow().to_pylist()}
    assert len(scores) == 60 and lake.table("embedding_edu_scores").num_rows == 60
    assert {ref.name for ref in lake.table("embedding_edu_scores").provenance.inputs} == {
        "dev.embeddings",
        "raw.scorers",
    }
    failed = lake.table("decisions").to_arrow().to_pylist()
    rule = {row["doc_id"] for row in failed if "educational" in row["failed"]}
    assert rule == {doc for doc, score in scores.items() if score < 2} and 20 <= len(rule) <= 45

    page = project / "scorer.html"
    code, out, _ = on("scorer", "report", "mine", "--to", str(page))
    assert code == 0 and page.read_text().startswith("<!doctype html>")
    code, out, _ = on("scorer", "report", "python", "--to", str(page), "--json")
    assert code == 0 and len(json.loads(out)["highest"]) == 20


def test_estimates(on: Run) -> None:
    found = as_json(on("estimate", "label", "--n", "500", "--price-in", "1", "--price-out", "2", "--json"))
    assert found["num_texts"] == 500 and found["cost"] > 0
    code, out, err = on("estimate", "label", "--n", "500", "--price-in", "1", "--max-cost", "0.01")
    assert code == 1 and "500 texts" in out and "more than 0.01" in err
    assert on("estimate", "label", "--n", "5", "--max-cost", "1")[0] == 1
    code, out, _ = on("estimate", "score", "--model", "/none")
    assert code == 0 and "edu_score" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["label", "choose", "--n", "5", "--with-text"], "--with-text"),
        (["label", "choose", "raw.document", "--n", "5"], "did you mean raw.documents"),
        (["label", "import", "none.csv"], "cannot read the labels"),
        (["label", "ask", "telnet://x"], "unknown generator"),
        (["scorer", "export", "nobody"], "unknown scorer"),
        (["scorer", "import", "none.safetensors"], "cannot read the scorer"),
        (["scorer", "report", "nobody"], "unknown scorer"),
        (["label", "page", "--annotator", "a", "--rubric", "/none"], "cannot read the rubric"),
    ],
)
def test_wrong_use_has_a_message(on: Run, arguments: list[str], message: str) -> None:
    code, _, err = on(*arguments)
    assert code == 2 and message in err
