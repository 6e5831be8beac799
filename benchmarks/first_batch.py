"""First batch, resume anywhere, and memory of the loader over 2.5 billion sequences.

    python benchmarks/first_batch.py [--sequences 2.5e9] [--peer-python /path/to/venv/bin/python]

The rows are simulated: one data file of ``--file-rows`` real sequences is written, and a table version is
committed whose manifest lists that file as often as the number of sequences asks for. So the manifest, its
transaction and everything that depends on the number of rows and files is as large as in the real table; the
bytes read for a batch are those of the one file, and in the page cache. Its sequence indices repeat, so the
loader's check of them is taken modulo the file's rows here; nothing else is changed.

lancedb's ``StreamingDataset`` plans a permutation of all rows before its first batch: beside ours over
``--peer-rows`` rows of a table of its own. Each is asked ``--repeat`` times, in processes of their own; the
shortest times are shown, because whatever else the machine does makes them longer, beside the longest.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

BATCH = 8


def resident() -> float:
    """Resident memory of this process in MiB."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmRSS")).split()[1]) / 1024


def make(folder: Path, sequences: int, file_rows: int, length: int) -> None:
    import lance
    import numpy as np
    import pyarrow as pa
    from lance.fragment import FragmentMetadata

    import headwater as hw
    from headwater.lake.provenance import VersionFacts
    from headwater.sequences.packing import SPANS

    random = np.random.default_rng(0)
    tokens = random.integers(0, 50_000, file_rows * length, dtype=np.uint16)
    spans = pa.array(
        [
            {"doc_id": random.bytes(16), "start": 0, "length": length, "source": "web"}
            for _ in range(file_rows)
        ],
        SPANS.value_type,
    )
    table = pa.table(
        {
            "sequence_index": pa.array(np.arange(file_rows)),
            "tokens": pa.FixedSizeListArray.from_arrays(pa.array(tokens), length),
            "spans": pa.ListArray.from_arrays(
                pa.array(np.arange(file_rows + 1, dtype=np.int32)), spans, type=SPANS
            ),
        }
    )
    facts = {"sequence_length": length, "tokenizer_id": "0" * 32, "vocab_size": 50_000, "sources": {"web": 1}}
    lake = hw.Lake(folder)
    written = lake.write("sequences", table, provenance=hw.Provenance(kind="pack", extra=facts))
    one = written.dataset.get_fragments()[0].metadata.to_json()
    count = sequences // file_rows
    fragments = [FragmentMetadata.from_json(json.dumps({**one, "id": i})) for i in range(count)]
    record = VersionFacts(
        provenance=written.provenance, content_digest=written.digest, num_rows=count * file_rows
    )
    operation = lance.LanceOperation.Overwrite(written.dataset.schema, fragments)
    transaction = lance.Transaction(
        read_version=written.version, operation=operation, transaction_properties=record.to_properties()
    )
    lance.LanceDataset.commit(written.dataset.uri, transaction)


def read(folder: Path, file_rows: int) -> list[tuple[str, float]]:
    import numpy as np

    import headwater as hw
    import headwater.streaming
    from headwater.loading.rows import Materialized

    fetch = Materialized._fetch

    def checked(self: Materialized, rows: Any) -> Any:
        assert self._files is not None
        found = self._files.read(rows)
        assert found is not None
        assert np.array_equal(found["sequence_index"].to_numpy(), rows % file_rows)
        return found.combine_chunks().to_batches()[0]

    Materialized._fetch = checked  # type: ignore[method-assign]
    warnings.simplefilter("ignore")
    before = resident()
    began, busy = time.perf_counter(), time.process_time()
    data = hw.stream(hw.Lake(folder), global_batch_size=BATCH)
    batches = iter(data)
    next(batches)
    times = [("first batch", time.perf_counter() - began)]
    times.append(("  CPU time of it", time.process_time() - busy))
    batches.close()
    random = np.random.default_rng(1)
    for _ in range(3):
        at = int(random.integers(0, data.num_sequences // BATCH)) * BATCH
        state = {**data.state_dict(), "next_sequence": at}
        began, busy = time.perf_counter(), time.process_time()
        resumed = hw.stream(hw.Lake(folder), global_batch_size=BATCH, state=state)
        batch = next(iter(resumed))
        assert batch["first_sequence"] == at
        times.append((f"resume at {at:,}", time.perf_counter() - began))
        times.append(("  CPU time of it", time.process_time() - busy))
    reading = iter(resumed)
    for _ in range(200):
        next(reading)
    times.append(("memory of the loader after 200 steps more, MiB", resident() - before))
    times.append(("memory of the process, MiB", resident()))
    times.append(("sequences", float(data.num_sequences)))
    times.append(("state, bytes", float(len(json.dumps(data.state_dict())))))
    Materialized._fetch = fetch  # type: ignore[method-assign]
    return times


def peer(folder: Path, rows: int) -> list[tuple[str, float]]:
    import lancedb
    import numpy as np
    import pyarrow as pa
    from lancedb.streaming import StreamingDataset

    tokens = np.zeros(rows * 16, np.uint16)
    column = pa.FixedSizeListArray.from_arrays(pa.array(tokens), 16)
    rows_of = pa.table({"tokens": column})
    table = lancedb.connect(folder / "lancedb").create_table("sequences", rows_of, mode="overwrite")
    times = []
    for shuffle in (True, False):
        before, began = resident(), time.perf_counter()
        data = StreamingDataset(table, columns=["tokens"], shuffle=shuffle, shuffle_seed=0, num_splits=1)
        next(iter(data))
        times.append((f"first row, {'shuffled' if shuffle else 'in order'}", time.perf_counter() - began))
        times.append(("memory of the loader, MiB", resident() - before))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sequences", type=float, default=2.5e9)
    parser.add_argument("--file-rows", type=int, default=1 << 18, help="262,144 rows of 2,048 fill 1 GiB")
    parser.add_argument("--length", type=int, default=128, help="tokens in a simulated sequence")
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--peer-rows", type=int, default=2_000_000)
    parser.add_argument("--repeat", type=int, default=3, help="processes of each")
    parser.add_argument("--child", choices=["read", "peer"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        found = (
            read(arguments.folder, arguments.file_rows)
            if arguments.child == "read"
            else peer(arguments.folder, arguments.peer_rows)
        )
        print(json.dumps(found))
        os._exit(0)  # lancedb's threads need not be waited for
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "lake"
        make(folder, int(arguments.sequences), arguments.file_rows, arguments.length)
        _show("headwater", sys.executable, "read", folder, arguments)
        _show("lancedb", arguments.peer_python, "peer", Path(scratch), arguments)


def _show(package: str, python: str, child: str, folder: Path, arguments: argparse.Namespace) -> None:
    command = [python, __file__, "--child", child, "--folder", str(folder)]
    command += ["--file-rows", str(arguments.file_rows), "--peer-rows", str(arguments.peer_rows)]
    every: list[list[tuple[str, float]]] = []
    for _ in range(arguments.repeat):
        answer = subprocess.run(command, capture_output=True, text=True)
        if answer.returncode or not answer.stdout.strip():
            reason = (answer.stderr.strip().splitlines() or ["no message"])[-1]
            print(f"{package}: left out: {reason[:160]}")
            return
        every.append(json.loads(answer.stdout.strip().splitlines()[-1]))
    rows = "" if child == "read" else f", {arguments.peer_rows:,} rows"
    print(f"{package} {importlib.metadata.version(package)}{rows}; load average {os.getloadavg()[0]:.1f}")
    for found in zip(*every, strict=True):
        what, values = found[0][0], [value for _, value in found]
        if "MiB" in what or "bytes" in what or what == "sequences":
            print(f"  {what:<52}{max(values):>16,.0f}")
        else:
            print(f"  {what:<52}{min(values):>16,.3f} s   longest {max(values):,.3f} s")


if __name__ == "__main__":
    main()
