"""what-if, export and sample on the reference project: what is foretold is what a build then does."""

from __future__ import annotations

import json
import shutil
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner

import headwater as hw
from headwater.build import build
from headwater.cli import VERBS, cli, main
from headwater.ingest import ingest

ROOT = Path(__file__).parents[2]
MODELS = "+python_textbook,resource_type:model +python_textbook,resource_type:seed"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the reference project with a built lake of real files and near-copies of some."""
    root = tmp_path_factory.mktemp("project")
    for name in ("dbt_project.yml", "profiles.yml", "sql", "pipelines"):
        source = ROOT / name
        shutil.copytree(source, root / name) if source.is_dir() else shutil.copy(source, root / name)
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    lines = []
    for i, path in enumerate(
        sorted(p for p in stdlib.glob("*.py") if 2_000 < p.stat().st_size < 40_000)[:120]
    ):
        text = path.read_text(encoding="utf-8", errors="replace")
        row = {
            "id": path.name,
            "text": text,
            "source": "ab"[i % 2],
            "metadata": {"license": "MIT" if i % 4 else "GPL-3.0-only"},
        }
        lines.append(json.dumps(row))
        if i % 5 == 0:  # a near-copy: some lines at the end are gone
            kept = text.splitlines(keepends=True)
            shorter = "".join(kept[: int(len(kept) * (0.97 - 0.03 * (i % 4)))])
            lines.append(
                json.dumps({**row, "id": f"copy of {path.name}", "text": shorter, "source": "copies"})
            )
    (root / "files.jsonl").write_text("\n".join(lines) + "\n")
    lake = hw.Lake(root / "lake")
    ingest(lake, "jsonl", root / "files.jsonl", layout="dolma")
    report = build(root, lake=str(root / "lake"), target="dev", select=MODELS)
    assert report.success, [node.message for node in report.nodes if node.status == "failed"]
    return root


@pytest.fixture
def on(project: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str, str]:
        where = ["--project-dir", str(project), "--lake", str(project / "lake"), "--target", "dev"]
        code = main([*where, *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def kept(project: Path) -> set[bytes]:
    ids = hw.Lake(project / "lake").table("python_textbook").to_arrow(["doc_id"])["doc_id"]
    return set(ids.to_pylist())


def test_verbs_with_a_dash_are_modules_with_an_underscore() -> None:
    assert {"what-if", "export", "sample"} <= set(VERBS)
    for verb in ("what-if", "export", "sample"):
        shown = CliRunner().invoke(cli, [verb, "--help"])
        assert shown.exit_code == 0 and f"headwater {verb} " in shown.output and "--json" in shown.output


def test_what_if_names_what_is_wrong(on: Run) -> None:
    for arguments, message in (
        (["textbook", "--drop-rule", "unique"], "did you mean dev.python_textbook"),
        (["python_textbook", "--rule", "long_enough"], "is not NAME="),
        (["python_textbook", "--threshold", "near_duplicate=high"], "is not a number"),
        (["python_textbook", "--threshold", "near_dup=0.9"], "near_duplicate_threshold"),
        (["python_textbook", "--threshold", "near_duplicate=0.5"], "from a similarity of 0.7 to 1"),
        (["python_textbook", "--vars", "[1]"], "not a mapping"),
        (["signals", "--drop-rule", "x"], "was not made by rules"),
    ):
        code, out, err = on("what-if", *arguments)
        assert (code, out) == (2, "") and message in err, (arguments, err)


def test_what_is_foretold_is_what_a_build_does(on: Run, project: Path) -> None:
    asked = ["--rule", "long_enough=num_words >= 700", "--rule", "few_digits=digit_share < 0.02", "--drop-rule", "commented",
             "--threshold", "near_duplicate=0.93", "--samples", "1000"]  # fmt: skip
    code, out, _ = on("what-if", "python_textbook", *asked, "--json")
    found = json.loads(out)
    assert code == 0 and found["recomputed"] == ["dev.duplicate_clusters at threshold 0.93"]
    before = kept(project)
    assert found["before"]["rows"] == len(before)
    code, shown, _ = on("what-if", "python_textbook", *asked)
    assert code == 0 and f"kept {len(before)} → {found['after']['rows']}" in shown and "few_digits" in shown
    file = project / "sql" / "models" / "curated" / "python_textbook.sql"
    model = file.read_text()
    edited = []
    for line in model.replace("s.num_words,", "s.num_words, s.digit_share as digits,").splitlines():
        if "as keep__long_enough" in line:
            line = "num_words >= 700 as keep__long_enough, digits < 0.02 as keep__few_digits,"
        edited += [] if "as keep__commented" in line else [line]
    try:
        file.write_text("\n".join(edited))
        report = build(project, lake=str(project / "lake"), target="dev", command="run",
                       select="duplicate_clusters python_textbook", vars={"near_duplicate_threshold": 0.93})  # fmt: skip
        assert report.success, [node.message for node in report.nodes if node.status == "failed"]
        after = kept(project)
    finally:
        file.write_text(model)
    gained, lost = (
        {bytes.fromhex(s["doc_id"]) for s in found[f"{side}_samples"]} for side in ("gained", "lost")
    )
    assert (gained, lost) == (after - before, before - after) and gained and lost
    assert found["after"]["rows"] == len(after)


def test_export_and_sample(on: Run, project: Path, tmp_path: Path) -> None:
    code, out, err = on("export", "python_textbook", "--format", "dolma", "--to", str(tmp_path / "out"))
    assert code == 0 and "documents of dev.python_textbook@" in out and "no standing approval" in err
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["rows"] == len(kept(project)) and manifest["text_table"]["table"] == "raw.documents"
    data = pa.input_stream(
        str(tmp_path / "out" / "documents" / "part-00000.jsonl.zst"), compression="zstd"
    ).read()
    first = json.loads(data.split(b"\n")[0])
    assert first["metadata"]["license_tier"] in ("model", "gold", "silver", "bronze") and first["text"]
    assert on("export", "python_textbook", "--format", "dolma", "--to", str(tmp_path / "out"))[0] == 2
    assert on("export", "textbook", "--format", "jsonl", "--to", str(tmp_path / "x"))[0] == 2
    code, out, _ = on(
        "export", "python_textbook", "--format", "parquet", "--to", str(tmp_path / "p"), "--json"
    )
    assert code == 0 and json.loads(out)["format"] == "parquet"
    digests = []
    for place in ("one", "two"):
        code, out, _ = on("sample", "--share", "0.3", "--to", str(tmp_path / place), "--json")
        digests.append(json.loads(out)["digest"])
        assert code == 0 and json.loads(out)["closed_over"].startswith("dev.duplicate_clusters@")
    assert digests[0] == digests[1]
    small = hw.Lake(tmp_path / "one").table("raw.documents")
    assert 0 < small.num_rows < hw.Lake(project / "lake").table("raw.documents").num_rows and small.has_text
    code, _, err = on("sample", "--to", str(tmp_path / "three"))
    assert code == 2 and "--share 0.01 or --documents 1000" in err
