"""Kill a writer at any instant, fill its disk: the lake stays as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import headwater as hw
from headwater.digest import ContentDigest

WRITER = """
import os, signal, sys
import pyarrow as pa
import headwater as hw
import headwater.lake.lake as inside

moment, uri = sys.argv[1:3]
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
ids = lambda a, b: [i.to_bytes(16, "big") for i in range(a, b)]

def batches():
    for start in range(0, 4000, 1000):
        if moment == "stream" and start == 2000:
            die()
        yield pa.record_batch({"doc_id": pa.array(ids(start, start + 1000), pa.binary(16)), "text": ["x" * 500] * 1000})

commit = inside.lance.LanceDataset.commit
def killed(*args, **kwargs):
    if moment == "before commit":
        die()
    result = commit(*args, **kwargs)
    if moment == "after commit":
        die()
    return result
inside.lance.LanceDataset.commit = staticmethod(killed)
schema = pa.schema({"doc_id": pa.binary(16), "text": pa.string()})
hw.Lake(uri).write("documents", batches(), schema=schema)
"""


def run_writer(moment: str, uri: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WRITER), moment, str(uri)], capture_output=True, text=True
    )


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("moment", ["stream", "before commit", "after commit"])
def test_a_killed_write_is_all_or_nothing(tmp_path: Path, moment: str, existing: bool) -> None:
    lake = hw.Lake(tmp_path / "lake")
    if existing:
        assert run_writer("never", tmp_path / "lake").returncode == 0
    before = lake.table("documents").version if existing else 0
    died = run_writer(moment, tmp_path / "lake")
    assert died.returncode == -signal.SIGKILL, died.stderr
    if moment == "after commit":
        assert lake.table("documents").version == before + 1
    elif existing:
        assert lake.table("documents").version == before
    else:
        assert not lake.exists("documents")
    # The next writer takes over the dead one's lease at once and finds nothing in its way.
    assert run_writer("never", tmp_path / "lake").returncode == 0
    table = lake.table("documents")
    assert table.num_rows == 4000 and table.digest == ContentDigest.of(table.scan()).hex()
    lake.maintain("documents")


FULL = """
import resource, sys
import numpy as np, pyarrow as pa
import headwater as hw
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))  # no file may pass 1 MiB
noise = np.random.default_rng(0).bytes(1 << 23)
table = pa.table({"doc_id": pa.array([b"0" * 16], pa.binary(16)), "text": pa.array([noise], pa.large_binary())})
try:
    hw.Lake(sys.argv[1]).write("documents", table)
except hw.errors.LakeError as error:
    print(error)
    sys.exit(error.exit_code)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX file size limits")
def test_a_full_disk_is_said_and_publishes_nothing(tmp_path: Path) -> None:
    code = "import headwater.errors\n" + textwrap.dedent(FULL)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "lake")], capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    assert "no space to write dev.documents" in done.stdout and "nothing was published" in done.stdout
    assert not hw.Lake(tmp_path / "lake").exists("documents")
