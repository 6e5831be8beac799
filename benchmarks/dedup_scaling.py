"""Near-duplicates at growing sizes: time for each gigabyte, peak memory under a limit, and what was predicted.

    python benchmarks/dedup_scaling.py [--gigabytes 0.3 1 3] [--limit-mib 2048] [--cluster 0] [--threads 2]

Text is that of ``incremental_dedup.py`` (installed Python files, copied with words renamed until the size is
reached), put into a lake; then signatures, pairs with their index, and clusters are built in a process of
their own, whose private resident memory is sampled every 0.1 s (file-backed pages are not counted).
``--cluster M`` adds M documents that are near-duplicates of each other. Kernels are compiled before (a build
of a small lake). Bars: peak within the limit; seconds for each gigabyte within 1.1 x of the smallest size's.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import pyarrow as pa
from bounded_memory import measure
from incremental_dedup import FLOOR, Corpus, corpus, documents
from make_corpus import batches, cluster_rows, real_files

from headwater.dedup import estimate_near_duplicates

STAGES = ("signatures", "near_duplicate_pairs", "duplicate_clusters")


def fill(at: Corpus, gigabytes: float, cluster: int) -> tuple[int, int]:
    """Write the documents; returns (documents, bytes of text)."""
    count = size = 0

    def rows() -> Iterator[pa.RecordBatch]:
        nonlocal count, size
        base = max(real_files()[:200], key=lambda path: path.stat().st_size).read_text("utf-8", "replace")
        for part in (*batches(cluster_rows(cluster, base), 4096), *corpus(gigabytes * 1000)):
            count += len(part)
            size += sum(len(text.encode()) for _, text in part)
            yield from documents(part).to_batches()

    at.lake.write("raw.documents", pa.RecordBatchReader.from_batches(documents([]).schema, rows()))
    at.lake.index("raw.documents", "doc_id")
    return count, size


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[0.3, 1.0, 3.0])
    parser.add_argument("--limit-mib", type=int, default=2048)
    parser.add_argument("--cluster", type=int, default=0, metavar="M")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--folder", type=Path, help="where lakes and spilled files go (default: a temporary folder)"
    )
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.build:
        seconds = Corpus(options.build, options.threads).build(full=True)
        (options.build.parent / "seconds.json").write_text(json.dumps(seconds))
        return 0
    folder = Path(tempfile.mkdtemp(prefix="headwater-scaling-", dir=options.folder))
    passed, first = True, 0.0
    try:
        warm = Corpus(folder / "warm/lake", options.threads)
        fill(warm, 0.002, 0)
        warm.build(full=True)
        print(
            f"{'GB':>5} {'documents':>10} {'seconds':>8} {'s/GB':>6} {'of first':>8} {'peak MiB':>9} {'spilled MiB':>12}   by stage"
        )
        for gigabytes in options.gigabytes:
            place = folder / f"{gigabytes:g}"
            spill = place / "spill"
            spill.mkdir(parents=True)
            count, size = fill(Corpus(place / "lake", options.threads), gigabytes, options.cluster)
            command = [
                sys.executable,
                __file__,
                "--build",
                str(place / "lake"),
                "--threads",
                str(options.threads),
            ]
            row = measure("near-duplicates", command, spill, {**os.environ, "TMPDIR": str(spill)})
            seconds = json.loads((place / "seconds.json").read_text())
            per_gb = sum(seconds.values()) / size * 1e9
            first = first or per_gb
            stages = ", ".join(f"{name} {seconds[name]:.1f}" for name in STAGES)
            print(
                f"{size / 1e9:5.2f} {count:10,} {sum(seconds.values()):8.1f} {per_gb:6.1f} {per_gb / first:8.2f} "
                f"{row.peak_mib:9.0f} {row.spill_mib:12.0f}   {stages}",
                flush=True,
            )
            print(
                f"      predicted: {estimate_near_duplicates(count, size, threshold=FLOOR, threads=options.threads)}"
            )
            passed &= row.peak_mib <= options.limit_mib and per_gb <= 1.1 * first
            shutil.rmtree(place)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return int(not passed)


if __name__ == "__main__":
    sys.exit(main())
