"""What-if over ten million rows, against building the changed tables again.

    python benchmarks/what_if.py [--rows 10000000] [--lake FOLDER] [--keep]

The lake is synthetic and narrow: ids, sources, sizes, signals and duplicate pairs as their operators would
store them, but no text (a what-if reads none). Two fifths of the documents have twins. The question changes
a rule *and* the duplicate threshold, so that clusters, survivors and all rules are computed again from
stored signals; the rebuild is ``headwater build`` of the two tables that the change reaches.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from headwater.build import build
from headwater.lake import Provenance
from headwater.project import Project
from headwater.what_if import what_if
from headwater.what_if.compiled import compiled_models

ROOT = Path(__file__).parents[1]
CHUNK = 1 << 20
TIERS = np.array(["gold", "silver", "bronze", "copyleft", "unknown"])
TWINS = 0.4
"""Share of the documents that stand in a pair."""


def ids(start: int, stop: int) -> np.ndarray:
    """16-byte ids of the rows [start, stop)."""
    return ids_of(np.arange(start, stop))


def _mix(x: np.ndarray) -> np.ndarray:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def id_array(words: np.ndarray) -> pa.Array:
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(words), [None, pa.py_buffer(words)])


def chunks(rows: int) -> Iterator[tuple[int, int, np.random.Generator]]:
    for start in range(0, rows, CHUNK):
        yield start, min(start + CHUNK, rows), np.random.default_rng(start)


def documents(rows: int) -> Iterator[pa.RecordBatch]:
    for start, stop, random in chunks(rows):
        size = stop - start
        number = np.arange(start, stop)
        yield pa.record_batch(
            {
                "doc_id": id_array(ids(start, stop)),
                "source": pa.array(np.char.add("source-", (number % 40).astype(str))),
                "path": pa.array(np.char.add("file/", number.astype(str))),
                "text_bytes": pa.array(random.lognormal(8, 1.2, size).astype(np.int64)),
            }
        )


def signals(rows: int) -> Iterator[pa.RecordBatch]:
    for start, stop, random in chunks(rows):
        size = stop - start
        yield pa.record_batch(
            {
                "doc_id": id_array(ids(start, stop)),
                "num_words": random.lognormal(6, 1.4, size).astype(np.int64),
                "num_lines": random.lognormal(4, 1.2, size).astype(np.int64),
                "max_line_length": random.lognormal(4.6, 0.6, size).astype(np.int64),
                "mean_line_length": random.lognormal(3.5, 0.4, size),
                "alphanumeric_share": random.beta(6, 3, size),
                "comment_line_share": random.beta(1.2, 6, size),
                "digit_share": random.beta(1, 20, size),
                "is_generated": random.random(size) < 0.02,
            }
        )


def licenses(rows: int) -> Iterator[pa.RecordBatch]:
    """In the order of doc_id, as set models are stored."""
    words = ids(0, rows)
    order = np.argsort(words[:, 0].astype(np.uint64))
    for start, stop, random in chunks(rows):
        tiers = TIERS[random.choice(len(TIERS), stop - start, p=[0.3, 0.3, 0.2, 0.1, 0.1])]
        mine = np.ascontiguousarray(words[order[start:stop]])
        yield pa.record_batch({"doc_id": id_array(mine), "license_spdx": tiers, "license_tier": tiers})


def pairs(rows: int) -> Iterator[pa.RecordBatch]:
    """Families of two to nine documents, each member linked with the next; similarities from 0.7 to 1."""
    random = np.random.default_rng(rows)
    sizes = random.choice(np.arange(2, 10), int(rows * TWINS / 2), p=_family_shares())
    sizes = sizes[np.cumsum(sizes) <= int(rows * TWINS)]
    last = np.zeros(int(sizes.sum()), dtype=bool)
    last[np.cumsum(sizes) - 1] = True
    # The members of a family lie anywhere in the table.
    step = next(s for s in range(int(rows * 0.618), 2 * rows) if np.gcd(s, rows) == 1)
    left = np.flatnonzero(~last)
    for start in range(0, len(left), CHUNK):
        here = left[start : start + CHUNK]
        words = [ids_of((n * step) % rows) for n in (here, here + 1)]
        a, b = (words[0], words[1])
        swap = (a[:, 0] > b[:, 0]) | ((a[:, 0] == b[:, 0]) & (a[:, 1] > b[:, 1]))
        a[swap], b[swap] = b[swap].copy(), a[swap].copy()
        similar = (0.7 + 0.3 * random.random(len(here))).astype(np.float32)
        yield pa.record_batch({"a": id_array(a), "b": id_array(b), "similarity": similar})


def ids_of(rows: np.ndarray) -> np.ndarray:
    """Big-endian words that look random: the splitmix64 mixer of twice the row, and of one more."""
    rows = rows.astype(np.uint64)
    words = [_mix(rows * np.uint64(2) + np.uint64(side)) for side in (0, 1)]
    return np.ascontiguousarray(np.stack(words, axis=1).astype(">u8"))


def _family_shares() -> np.ndarray:
    weights = 1.0 / np.arange(2, 10) ** 2
    return np.asarray(weights / weights.sum())


def make_lake(uri: Path, rows: int) -> None:
    """The lake as a build would have left it: inputs written here, the two curated tables really built."""
    project = Project.find(ROOT, lake=str(uri), target="dev")
    lake = project.lake()
    models = compiled_models(project, "python_textbook")
    base = lake.write("raw.documents", documents(rows), schema=next(documents(1)).schema)

    def write(name: str, batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> None:
        provenance = Provenance(kind="model", inputs=(base.ref,), fingerprint=models[name].fingerprint())
        lake.write(name, batches, schema=schema, provenance=provenance)

    write("signals", signals(rows), next(signals(1)).schema)
    write("license_concluded", licenses(rows), next(licenses(1)).schema)
    write("near_duplicate_pairs", pairs(rows), next(pairs(100)).schema)


def rebuild(uri: Path, **variables: float) -> float:
    """Seconds of a build, with memory enough that its window over all rows does not spill."""
    memory = os.environ.get("HEADWATER_MEMORY")
    os.environ["HEADWATER_MEMORY"] = "8GB"
    started = time.perf_counter()
    report = build(ROOT, target="dev", lake=str(uri), select="duplicate_clusters python_textbook", command="run",
                   vars=variables or None)  # fmt: skip
    seconds = time.perf_counter() - started
    assert report.success, report.nodes
    os.environ.pop("HEADWATER_MEMORY") if memory is None else os.environ.update(HEADWATER_MEMORY=memory)
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument(
        "--lake", type=Path, help="where the lake is made, or lies from a former run with --keep"
    )
    parser.add_argument("--keep", action="store_true", help="leave the lake there")
    arguments = parser.parse_args()
    folder = arguments.lake or Path(tempfile.mkdtemp(prefix="headwater-what-if-"))
    try:
        if not (folder / "dev" / "python_textbook.lance").exists():
            started = time.perf_counter()
            make_lake(folder, arguments.rows)
            print(f"lake of {arguments.rows:,} rows made in {time.perf_counter() - started:.0f} s")
            print(f"first build of duplicate_clusters and python_textbook: {rebuild(folder):.1f} s")
        return measure(folder)
    finally:
        if not arguments.keep:
            shutil.rmtree(folder)


def measure(folder: Path) -> int:
    project = Project.find(ROOT, lake=str(folder), target="dev")
    load = os.getloadavg()[0]
    print(f"load of the machine {load:.1f} on {os.cpu_count()} cores; the first question also imports dbt")
    for round_ in ("first", "second"):
        started, used = time.perf_counter(), time.process_time()
        found = what_if(
            project,
            "python_textbook",
            rules={"long_enough": "num_words >= 80", "few_digits": "digit_share < 0.2"},
            thresholds={"near_duplicate": 0.85},
        )
        whole = time.perf_counter() - started
        cpu = time.process_time() - used
        print(
            f"{round_} question: {whole:.2f} s (CPU {cpu:.2f} s), of which dbt's compile {found.seconds['compile']:.2f} s"
        )
        print("  " + ", ".join(f"{name} {value:.2f}" for name, value in found.seconds.items()))
        print(f"  {found.candidates:,} candidates, gained {found.gained.rows:,}, lost {found.lost.rows:,}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:,.0f} MiB (resident; of the questions alone where --lake was there already)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
