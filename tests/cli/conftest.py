"""Fixtures: the sample lake, made once, and a way to run the command in this process."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def _sample_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sample_lake", Path(__file__).parent / "sample_lake.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["sample_lake"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def sample():
    """The module that makes sample lakes."""
    return _sample_module()


@pytest.fixture(scope="session")
def documents(sample):
    return sample.make_documents()


@pytest.fixture(scope="session")
def lake(sample, documents, tmp_path_factory):
    """The sample lake. Read it only; a test that writes makes its own."""
    return sample.build_sample(tmp_path_factory.mktemp("sample") / "lake", documents)


@pytest.fixture
def run(lake, capsys):
    """Run ``headwater ARGS`` over the sample lake; gives exit code, stdout, stderr."""
    from headwater.cli import main

    def call(*arguments: str, on_lake: bool = True) -> tuple[int, str, str]:
        where = ["--lake", lake.uri, "--target", "dev"] if on_lake else []
        code = main([*where, *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call
