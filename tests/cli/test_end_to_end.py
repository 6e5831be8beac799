"""The whole way through the command line, in a dbt repository that existed before Headwater.

Ingest JSONL.zst and Parquet with a column map, build, change one rule, read the difference, approve,
pack, train two steps on two processes and two more on one, and trace both ways.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.project import package_dir

pytestmark = [pytest.mark.slow, pytest.mark.trainer, pytest.mark.checks]

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def real_files(count: int) -> list[dict[str, object]]:
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(path for path in stdlib.glob("*/*.py") if path.stat().st_size > 200)[:count]
    return [
        {
            "hexsha": f"id{i}",
            "content": path.read_text(encoding="utf-8", errors="replace"),
            "where": {"name": path.name},
            "license": "MIT" if i % 5 else "GPL-3.0",
        }
        for i, path in enumerate(files)
    ]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("acme") / "repo"
    shutil.copytree(ROOT / "tests" / "dbt" / "existing", root)
    rows = real_files(300)
    lines = [json.dumps(row) for row in rows[:200]]
    lines.insert(17, '{"hexsha": "broken", "content": "no end')
    with pa.CompressedOutputStream(str(root / "dump.jsonl.zst"), "zstd") as out:
        out.write(("\n".join(lines) + "\n").encode())
    pq.write_table(pa.Table.from_pylist(rows[200:]), root / "more.parquet")
    suites = root / "expectations"
    suites.mkdir()
    shutil.copy(ROOT / "expectations" / "great_expectations.yml", suites)
    shutil.copy(ROOT / "expectations" / "sequences.json", suites)
    suite = json.loads((ROOT / "expectations" / "duplicate_clusters.json").read_text())
    suite["name"] = "textbook"
    suite["expectations"] = [
        {
            "type": "expect_column_values_to_be_unique",
            "kwargs": {"column": "doc_id"},
            "meta": {},
            "severity": "critical",
        },
        {
            "type": "expect_table_row_count_to_be_between",
            "kwargs": {"min_value": 100},
            "meta": {},
            "severity": "critical",
        },
    ]
    suite.pop("id", None)
    (suites / "textbook.json").write_text(json.dumps(suite))
    return root


def run(project: Path, *command: str, code: int = 0) -> str:
    environment = {
        **os.environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "HEADWATER_PACKAGE": str(package_dir()),
        "HEADWATER_LAKE": str(project / "lake"),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "160",
    }
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == code, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout + (done.stderr if code else "")


def test_the_whole_way(project: Path) -> None:
    columns = "id=hexsha,text=content,path=where.name,license=license"
    out = run(project, "headwater", "ingest", "jsonl", "dump.jsonl.zst", "--source", "web", "--map", columns)
    assert "200 added" in out and "broken_json 1" in out
    out = run(project, "headwater", "ingest", "parquet", "more.parquet", "--source", "web", "--map", columns)
    assert "100 added" in out
    again = run(
        project, "headwater", "ingest", "jsonl", "dump.jsonl.zst", "--source", "web", "--map", columns
    )
    assert "200 unchanged" in again
    lake = hw.Lake(project / "lake")
    bad = lake.table("raw.quarantine").to_arrow().to_pylist()
    assert [(row["path"].endswith("dump.jsonl.zst"), row["position"]) for row in bad] == [(True, "line 18")]

    run(project, "dbt", "deps")
    run(project, "headwater", "--target", "prod", "build")
    rule = project / "models" / "marts" / "textbook.sql"
    rule.write_text(rule.read_text().replace("min_words', 3", "min_words', 120"))
    built = run(project, "headwater", "build", "--select", "textbook")
    assert "textbook" in built
    markdown = run(project, "headwater", "diff", "prod:textbook", "dev:textbook")
    assert "long_enough" in markdown and "min_words" not in markdown and "120" in markdown

    refused = run(project, "headwater", "pack", "textbook", code=1)
    assert "no standing approval" in refused
    run(project, "headwater", "check", "textbook")
    run(project, "headwater", "approve", "textbook", "--why", "end to end")
    out = run(project, "headwater", "pack", "textbook", "--sequence-length", "128", "--vocab-size", "1024")
    assert "trained now" in out
    run(project, "headwater", "approve", "sequences", "--why", "packed from approved")

    train = str(ROOT / "trainer" / "train.py")
    common = [
        "llama_1m_cpu",
        "--lake",
        str(project / "lake"),
        "--version",
        "approved",
        "--out",
        str(project / "runs"),
    ]
    run(project, "torchrun", "--standalone", "--nproc-per-node", "2", train, *common, "--max-steps", "2")
    out = run(project, sys.executable, train, *common, "--max-steps", "4", "--resume")
    assert "steps 3 to 4" in out

    traced = json.loads(run(project, "headwater", "trace", "--step", "3", "--json"))
    document = traced["documents"][0]["doc_id"]
    back = json.loads(run(project, "headwater", "trace", "--doc", document, "--json"))
    assert any(3 in run_["steps"] for run_ in back["runs"])
    story = run(project, "headwater", "why", document)
    assert "kept" in story and "step" in story
    run(project, "headwater", "report", "textbook", "--output", "report.html")
    assert (project / "report.html").stat().st_size > 20_000

    revoked = run(project, "headwater", "approve", "textbook", "--revoke", "--why", "a source withdrew")
    assert "sequences" in revoked
    refused = run(project, sys.executable, train, *common, "--max-steps", "5", "--resume", code=1)
    assert "approv" in refused
