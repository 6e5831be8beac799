"""The house keeps its shape: public names, import layers, thin models, templates in the wheel."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import headwater

ROOT = Path(__file__).parents[2]
# pandas is not among them: pylance imports it where it is installed.
HEAVY = (
    "torch",
    "transformers",
    "tokenizers",
    "great_expectations",
    "sqlalchemy",
    "dbt",
    "dask",
    "lancedb",
)


def test_public_names_are_listed_and_resolve() -> None:
    assert headwater.__all__ == sorted(headwater.__all__)
    needs_train = {"stream"}
    for name in set(headwater.__all__) - needs_train:
        assert getattr(headwater, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'streams'"):
        _ = headwater.streams


@pytest.mark.parametrize(
    "module",
    ["headwater", "headwater.lake", "headwater.operators", "headwater.dedup", "headwater.models", "headwater.approve",
     "headwater.ingest", "headwater.why", "headwater.diff", "headwater.report", "headwater.sequences", "headwater.trace"],
)  # fmt: skip
def test_curation_imports_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([m for m in {HEAVY} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_dbt_python_models_are_thin() -> None:
    models = sorted((ROOT / "pipelines").glob("*.py"))
    assert models
    for model in models:
        lines = model.read_text().splitlines()
        assert len(lines) <= 25, f"{model.name} has {len(lines)} lines"
        assert model.with_suffix(".yml").exists(), f"{model.name} has no .yml"
    assert not (ROOT / "pipelines" / "__init__.py").exists()


def test_every_model_and_rule_is_described() -> None:
    described = "\n".join(
        path.read_text() for folder in ("sql", "pipelines") for path in (ROOT / folder).rglob("*.yml")
    )
    for model in [*(ROOT / "sql" / "models").rglob("*.sql"), *(ROOT / "pipelines").glob("*.py")]:
        assert f"name: {model.stem}\n" in described
        for rule in re.findall(r"as (keep__\w+)", model.read_text()):
            assert f"name: {rule}\n" in described


def test_nothing_names_a_machine() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode != 0:
        pytest.skip("not a git checkout")
    for name in tracked.stdout.split():
        if name.endswith((".py", ".md", ".yml", ".toml", ".sql", ".json")) and (ROOT / name).exists():
            assert "/" + "home/" not in (ROOT / name).read_text(encoding="utf-8"), name


def test_stdin_and_stderr_stay_clean() -> None:
    """DuckDB prints `nanobind: leaked` when a connection outlives its functions: no command may."""
    code = "import duckdb, headwater.operators as o\nc = duckdb.connect()\no.register_all(c)\nprint(c.execute(\"select text_stats('a b').num_words\").fetchall())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() == "[(2,)]"
    assert done.stderr == ""
