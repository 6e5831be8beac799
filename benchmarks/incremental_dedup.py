"""Adding 1 % new documents to a deduplicated corpus, against building it all again.

    python benchmarks/incremental_dedup.py [--megabytes 1000] [--share 0.01] [--threads 2] [--json FILE]

The corpus is that of ``make_corpus.py``: the installed Python files and the system's documentation, copied with
words renamed until it has the wanted size (``--megabytes 250`` needs no copies on a machine with a few hundred
packages). ``--share`` of the documents, chosen by a fixed seed, are left out, everything is built (signatures,
index, pairs, clusters; also the first build of a fresh process, so kernels are compiled by then), the rest is
added, and the same models run again: once by increment, once with everything built anew. Both must have
equal digests. The models are those of the project, materialized as ``headwater build`` does it, without
dbt's own start-up (some seconds, the same in both).

Processor seconds are shown as well: on a machine that is shared they tell more than the clock.

Bar: the increment takes at most 5 % of the full build's time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import duckdb
import pyarrow as pa
from make_corpus import BATCH_FILES, edit_batch, real_files

from headwater.dedup import IncrementalPairs, total_clusters
from headwater.kernels.xxh3 import digest_array
from headwater.lake import Lake
from headwater.models import ModelSpec, materialize
from headwater.operators import register_all
from headwater.session import Session

SIGNATURES = Path(__file__).parents[1] / "sql/models/duplicates/signatures.sql"
FLOOR, THRESHOLD = 0.7, 0.8
RELATION = '"memory"."raw"."documents"'


def corpus(megabytes: float) -> Iterator[list[tuple[str, str]]]:
    files, done = [str(path) for path in real_files() if path.suffix == ".py"], 0
    random.Random(3).shuffle(files)
    for copy in itertools.count():
        for start in range(0, len(files), BATCH_FILES):
            rows = edit_batch((copy, files[start : start + BATCH_FILES]))
            yield rows
            done += sum(len(text.encode()) for _, text in rows)
            if done >= megabytes * 1e6:
                return


def documents(rows: list[tuple[str, str]]) -> pa.Table:
    texts = pa.array([text for _, text in rows], pa.large_string())
    ids = digest_array(pa.array([name for name, _ in rows]))
    return pa.table({"doc_id": ids, "text": texts, "text_hash": digest_array(texts)})


class Corpus:
    """A lake with the project's three models."""

    def __init__(self, folder: Path, threads: int) -> None:
        self.lake, self.threads = Lake(folder, schema="dev"), threads
        self.sql = re.sub(r"\{\{ config.*\}\}\n", "", SIGNATURES.read_text())
        self.sql = re.sub(r"\{\{ source.*?\}\}", RELATION, self.sql)

    def build(self, *, full: bool) -> dict[str, float]:
        session = Session(self.lake, threads=self.threads, full_refresh=full)
        session.pin_all()
        con = duckdb.connect(config={"threads": self.threads})
        register_all(con)
        session.register_all(con)
        session.create_views(con)
        seconds = {}
        for name, frame in (
            ("signatures", None),
            ("near_duplicate_pairs", self._pairs),
            ("duplicate_clusters", self._clusters),
        ):
            started = time.perf_counter()
            result = materialize(session, con, self._spec(name), frame(session) if frame else None)
            seconds[name] = time.perf_counter() - started
            print(f"    {name:<22} {result.status:<10} {seconds[name]:8.2f} s  {result.message}")
        return seconds

    def _spec(self, name: str) -> ModelSpec:
        inputs = {
            "signatures": ("raw.documents",),
            "near_duplicate_pairs": ("raw.documents", "dev.signatures"),
            "duplicate_clusters": ("raw.documents", "dev.near_duplicate_pairs"),
        }[name]
        sql = self.sql if name == "signatures" else None
        return ModelSpec(
            name=f"dev.{name}", sql=sql, source=sql or name, inputs=inputs, relations={"raw.documents": RELATION},
            rows_of="raw.documents" if sql else None,
        )  # fmt: skip

    def _pairs(self, session: Session) -> Any:
        return IncrementalPairs(
            signatures=session.table("dev.signatures"),
            documents=session.table("raw.documents"),
            threshold=FLOOR,
            threads=self.threads,
        )

    def _clusters(self, session: Session) -> Any:
        pairs = session.table("dev.near_duplicate_pairs")
        return total_clusters(
            session.table("raw.documents").scan(["doc_id"]), pairs.scan(), threshold=THRESHOLD
        )

    def digests(self) -> dict[str, str]:
        names = ("signatures", "near_duplicate_pairs", "near_duplicate_pairs_index", "duplicate_clusters")
        return {name: self.lake.table(f"dev.{name}").digest for name in names}


def timed(action: Callable[[], dict[str, float]]) -> dict[str, float]:
    started = time.process_time()
    seconds = action()
    return {**seconds, "all": sum(seconds.values()), "cpu": time.process_time() - started}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=1000.0)
    parser.add_argument("--share", type=float, default=0.01)
    parser.add_argument(
        "--rounds", type=int, default=1, help="increments measured, each of --share new documents"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="headwater-incremental-"))
    try:
        at = Corpus(folder / "lake", options.threads)
        rng, held, count, size = random.Random(0), [[] for _ in range(options.rounds)], 0, 0

        def first() -> Iterator[pa.RecordBatch]:
            nonlocal count, size
            for rows in corpus(options.megabytes):
                kept = []
                for row in rows:
                    turn = int(rng.random() / options.share)
                    (held[turn] if turn < options.rounds else kept).append(row)
                count += len(rows)
                size += sum(len(text.encode()) for _, text in rows)
                yield from documents(kept).to_batches()

        at.lake.write("raw.documents", pa.RecordBatchReader.from_batches(documents([]).schema, first()))
        at.lake.index("raw.documents", "doc_id")
        print(f"{count:,} documents, {size / 1e6:,.0f} MB of text, {options.threads} threads")
        print("  first build")
        timed(lambda: at.build(full=False))
        increments = []
        for rows in held:
            at.lake.write("raw.documents", documents(rows), mode="append")
            at.lake.index("raw.documents", "doc_id")
            print(f"  {len(rows):,} documents more, by increment")
            increments.append(timed(lambda: at.build(full=False)))
        by_increment = at.digests()
        print("  everything anew")
        full = timed(lambda: at.build(full=True))
        equal = at.digests() == by_increment
        middle = statistics.median(run["all"] for run in increments)
        busy = statistics.median(run["cpu"] for run in increments)
        print(
            f"increment {middle:.2f} s, full {full['all']:.2f} s: {middle / full['all']:.1%} (bar 5 %), digests equal: {equal}"
        )
        print(f"processor: increment {busy:.2f} s, full {full['cpu']:.2f} s: {busy / full['cpu']:.1%}")
        if options.json:
            options.json.write_text(
                json.dumps({"increments": increments, "full": full, "equal": equal}, indent=1)
            )
        return int(not equal or middle > 0.05 * full["all"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
