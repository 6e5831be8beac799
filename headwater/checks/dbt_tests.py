"""Running a project's dbt data tests against exact table versions.

dbt runs in a process of its own: its adapters keep state and connections for as long as theirs lives.
The versions to open travel in ``HEADWATER_PINS``, which the dbt plugin obeys.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypedDict

from headwater.checks.report import redact
from headwater.errors import CheckFailed

PINS_VARIABLE = "HEADWATER_PINS"
"""JSON object: qualified table name to the version that dbt has to open, ``{"dev.signals": 3}``."""

LAKE_VARIABLE = "HEADWATER_LAKE"
"""URI of the lake, for profiles that read it from the environment."""

TARGET_FOLDER = Path("target") / "headwater-checks"
"""Apart from the user's own ``target/``, whose artifacts a test run would replace."""

PASSED = frozenset({"pass", "warn"})
"""dbt's own view of success: a test of severity ``warn`` does not fail a run."""

_DBT = "from dbt.cli.main import cli; cli()"
"""dbt of this interpreter, which need not be on the PATH; ``-m dbt.cli.main`` warns about itself."""

_DONE = 0
_TESTS_FAILED = 1


class DbtTest(TypedDict):
    """One data test: its name, the tables it reads, dbt's status and the number of failing rows."""

    test: str
    table: str
    status: str
    failures: int | None
    message: str


def run_dbt_tests(
    project_dir: Path,
    target: str | None,
    tables: Iterable[str],
    pins: Mapping[str, int],
    *,
    lake_uri: str | None = None,
) -> list[DbtTest]:
    """Run the data tests of those ``tables`` that are models or sources of the dbt project.

    Only tests whose tables are all among ``tables`` run: another one would read a version that nobody
    pinned. Unit tests judge code, not a table's version, and are left out. A folder without
    ``dbt_project.yml`` has no dbt tests.

    Parameters
    ----------
    target:
        dbt's target, ``None`` for the profile's own.
    tables, pins:
        Table names (with or without schema), and the version of each by qualified name.

    Raises
    ------
    CheckFailed
        dbt did not get as far as testing, e.g. because the project does not parse.
    """
    project = Path(project_dir).resolve()
    if not (project / "dbt_project.yml").is_file():
        return []
    results = project / TARGET_FOLDER / "run_results.json"
    # A result of an earlier run must not pass for this one's.
    with contextlib.suppress(FileNotFoundError):
        results.unlink()
    command = _command(project, target, tables)
    environment = {**os.environ, PINS_VARIABLE: json.dumps(dict(sorted(pins.items())))}
    if lake_uri is not None:
        # dbt runs in the project folder, where a relative path would mean another lake.
        environment[LAKE_VARIABLE] = lake_uri if "://" in lake_uri else str(Path(lake_uri).resolve())
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (_DONE, _TESTS_FAILED) or (done.returncode and not results.is_file()):
        raise CheckFailed(
            f"dbt test could not run in {project}:\n{_tail(done.stdout + done.stderr)}",
            hint=f"run it by hand: cd {project} && dbt test",
        )
    if not results.is_file():
        return []
    return _parse(results, project / TARGET_FOLDER / "manifest.json")


def _command(project: Path, target: str | None, tables: Iterable[str]) -> list[str]:
    names = sorted({name.rpartition(".")[2] for name in tables})
    command = [sys.executable, "-c", _DBT, "--no-use-colors", "--quiet", "test"]
    command += ["--project-dir", str(project), "--target-path", str(TARGET_FOLDER)]
    command += ["--log-path", str(TARGET_FOLDER / "logs")]
    command += ["--indirect-selection", "cautious", "--exclude-resource-type", "unit_test"]
    command += ["--target", target] if target else []
    return [*command, "--select", *names, *(f"source:*.{name}" for name in names)]


def _parse(results: Path, manifest: Path) -> list[DbtTest]:
    nodes: dict[str, Any] = {}
    if manifest.is_file():
        nodes = json.loads(manifest.read_text(encoding="utf-8"))["nodes"]
    found = json.loads(results.read_text(encoding="utf-8"))["results"]
    tests = [_test(entry, nodes.get(entry["unique_id"], {})) for entry in found]
    return sorted(tests, key=lambda test: test["test"])


def _test(entry: Mapping[str, Any], node: Mapping[str, Any]) -> DbtTest:
    parents = node.get("depends_on", {}).get("nodes", [])
    attached = node.get("attached_node")
    tables = [attached] if attached else parents
    return DbtTest(
        test=str(node.get("name") or entry["unique_id"].split(".")[2]),
        table=", ".join(sorted(parent.rpartition(".")[2] for parent in tables)),
        status=str(entry["status"]),
        failures=entry.get("failures"),
        message=redact(str(entry.get("message") or "")),
    )


def _tail(output: str, lines: int = 12) -> str:
    kept = [line for line in output.splitlines() if line.strip()]
    return "\n".join(f"  {line}" for line in kept[-lines:])
