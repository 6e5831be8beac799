"""What all tests share."""

from __future__ import annotations

import os
import sys

import pytest

_status = pytest.StashKey[int]()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[_status] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave without tearing the interpreter down.

    DuckDB's binding lists everything that is still referenced at interpreter exit on stderr
    ("nanobind: leaked …"), which Hypothesis and pytest cause between them in one long process.
    That a *command* leaves stderr clean is tested in processes of their own (test_house, tests/dbt).
    """
    if _status in config.stash and "COVERAGE_RUN" not in os.environ:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash[_status])
