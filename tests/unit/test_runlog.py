"""The run log: rows survive a kill, a busy lake and a full disk, and an older log keeps its rows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from headwater.errors import LakeError
from headwater.lake import Lake, Provenance
from headwater.trace import live_rows
from headwater.training.run_log import SCHEMAS, RunLog

OLDER_STEPS = pa.schema(
    [field for field in SCHEMAS["training_steps"] if field.name not in ("use", "mfu")]
)  # as logs had it before steps could be skipped


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def rows(lake: Lake, table: str) -> list[dict[str, Any]]:
    return list(lake.table(table).to_arrow().to_pylist())


def test_every_table_takes_its_rows(lake: Lake, tmp_path: Path) -> None:
    log = RunLog(lake, tmp_path / "runs" / "a", recipe="test")
    log.add("training_steps", step=1, first_sequence=0, count=4, loss=2.5, use="trained", mfu=None)
    log.add("training_sources", step=1, source="b", tokens=100, loss=2.0)
    log.add("training_sources", step=1, source="a", tokens=28, loss=None)
    log.add("checkpoints", step=1, path="a/step-00000001", next_sequence=4)
    log.add("evaluations", step=1, table="dev.held_out", version=3, digest="d", tokens=9, bytes=40,
            loss=2.0, bits_per_byte=0.65)  # fmt: skip
    log.add("generation_samples", step=1, prompt="def ", text="f(x):\n\x00\ufffd")
    document = {"doc_id": "ab" * 16, "source": "b", "sequence_index": 2, "start": 0, "tokens": 7, "loss": 9.5}
    log.add("loss_spikes", step=1, loss=9.0, expected=2.4, first_sequence=0, count=4, documents=[document])
    assert log.num_pending == 7 and log.flush() and log.num_pending == 0
    assert {t for t in SCHEMAS if lake.exists(t)} == set(SCHEMAS) - {"training_runs"}
    assert all(row["run_id"] == "a" and row["attempt"] == 1 and row["at"] is not None
               for table in SCHEMAS if lake.exists(table) for row in rows(lake, table))  # fmt: skip
    assert [(r["source"], r["tokens"], r["loss"]) for r in rows(lake, "training_sources")] == [
        ("b", 100, 2.0),
        ("a", 28, None),
    ]
    assert rows(lake, "loss_spikes")[0]["documents"] == [document]


def test_an_older_log_is_completed_once_and_keeps_its_rows(lake: Lake, tmp_path: Path) -> None:
    old = {"run_id": "old", "attempt": 1, "step": 7, "loss": 3.5, "tokens": 12, "count": 2}
    lake.write("training_steps", pa.Table.from_pylist([old], OLDER_STEPS), provenance=Provenance(kind="log"))
    log = RunLog(lake, tmp_path / "runs" / "new", recipe="test")
    log.add("training_steps", step=1, loss=2.0, use="trained", mfu=0.5)
    assert log.flush()
    widened = lake.table("training_steps")
    assert set(widened.schema.names) == set(SCHEMAS["training_steps"].names)
    found = {row["run_id"]: row for row in rows(lake, "training_steps")}
    assert {**old, "use": None, "mfu": None}.items() <= found["old"].items()
    assert (found["new"]["use"], found["new"]["mfu"]) == ("trained", 0.5)
    log.add("training_steps", step=2, loss=1.0)
    assert log.flush()
    assert lake.table("training_steps").version == widened.version + 1  # appended: no second rewrite


def test_columns_of_a_newer_log_stay_and_are_null(lake: Lake, tmp_path: Path) -> None:
    schema = SCHEMAS["checkpoints"].append(pa.field("size", pa.int64()))
    lake.write("checkpoints", pa.Table.from_pylist([{"run_id": "n", "step": 1, "size": 5}], schema))
    log = RunLog(lake, tmp_path / "runs" / "a", recipe="test")
    log.add("checkpoints", step=2, path="a/step-2", next_sequence=8)
    assert log.flush()
    assert [row["size"] for row in rows(lake, "checkpoints")] == [5, None]


KILLED = """
import os, signal, sys
from pathlib import Path
from headwater.lake import Lake
from headwater.training.run_log import RunLog

log = RunLog(Lake(sys.argv[1]), Path(sys.argv[2]), recipe="test")
for step in range(1, 51):
    log.add("training_steps", step=step, loss=1.0 / step)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_loses_no_row(lake: Lake, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "a"
    done = subprocess.run([sys.executable, "-c", KILLED, lake.uri, str(folder)], check=False)
    assert done.returncode == -signal.SIGKILL
    with (folder / "pending.jsonl").open("a") as file:
        file.write('{"into": "training_steps", "row": {"step": 51, "lo')  # a line that the kill cut short
    log = RunLog(lake, folder, recipe="test")
    assert log.num_pending == 50
    log.add("training_steps", step=51, loss=0.0)
    again = RunLog(lake, folder, recipe="test")
    assert again.num_pending == 51  # the cut line did not take the next one with it
    assert again.flush()
    assert sorted(row["step"] for row in rows(lake, "training_steps")) == list(range(1, 52))


def test_rows_in_the_lake_and_in_the_file_count_once(lake: Lake, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "a"
    log = RunLog(lake, folder, recipe="test")
    log.add("training_sources", step=1, source="x", tokens=5, loss=1.0)
    log.add("training_sources", step=1, source="y", tokens=6, loss=1.0)
    kept = (folder / "pending.jsonl").read_bytes()
    assert log.flush()
    (folder / "pending.jsonl").write_bytes(kept)  # as after a kill between the commit and the file
    again = RunLog(lake, folder, recipe="test")
    run = {"run_id": "a", "attempt": 1, "start_step": 0, "table": "t", "version": 1, "digest": "d"}
    lake.write("training_runs", pa.Table.from_pylist([run], SCHEMAS["training_runs"]))
    assert again.flush() and lake.table("training_sources").num_rows == 4
    assert sorted(r["source"] for r in live_rows(lake, "training_sources", "a").to_pylist()) == ["x", "y"]


def test_a_full_disk_does_not_stop_the_log(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = RunLog(lake, tmp_path / "runs" / "a", recipe="test")
    log.add("training_steps", step=1, loss=1.0)
    with monkeypatch.context() as patch:

        def full(*_: Any, **__: Any) -> Any:
            raise OSError(28, "No space left on device")

        def full_lake(*_: Any, **__: Any) -> Any:
            raise LakeError("no space to write dev.training_steps")

        patch.setattr(os, "write", full)
        patch.setattr(lake, "write", full_lake)
        log.add("training_steps", step=2, loss=1.0)
        assert not log.flush()
        assert log.num_pending == 2 and "no space" in log.why_pending
    assert log.flush()
    assert [row["step"] for row in rows(lake, "training_steps")] == [1, 2]


def test_losses_that_are_no_numbers_are_kept(lake: Lake, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "a"
    RunLog(lake, folder, recipe="test").add(
        "training_steps", step=1, loss=float("nan"), grad_norm=float("inf")
    )
    log = RunLog(lake, folder, recipe="test")
    assert log.flush()
    row = rows(lake, "training_steps")[0]
    assert np.isnan(row["loss"]) and np.isinf(row["grad_norm"]) and row["attempt"] == 1


def test_attempts_count_up(lake: Lake, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "a"
    for _ in range(3):
        RunLog(lake, folder, recipe="test")
    assert json.loads((folder / "run.json").read_text()) == {"recipe": "test", "attempt": 3}
