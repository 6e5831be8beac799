"""A copy of the dbt project `existing/` with a lake of documents, and dbt as a user's shell runs it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import headwater as hw
from headwater.project import package_dir

Dbt = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "existing"
    shutil.copytree(Path(__file__).parent / "existing", root)
    return root


@pytest.fixture
def lake(project: Path) -> hw.Lake:
    return hw.Lake(project / "lake")


@pytest.fixture
def dbt(project: Path) -> Dbt:
    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "HEADWATER_PACKAGE": str(package_dir()), "NO_COLOR": "1", **environment}
        command = [str(Path(sys.executable).with_name("dbt")), *arguments]
        return subprocess.run(command, cwd=project, env=env, capture_output=True, text=True)

    found = run("deps")
    assert found.returncode == 0, found.stdout + found.stderr
    return run
