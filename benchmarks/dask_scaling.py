"""Row-wise models on one and on two Dask workers, and on threads: seconds, ratio, digests.

    python benchmarks/dask_scaling.py --gigabytes 1

Makes the corpus from real files (``make_corpus.py``) and builds one row-wise model with the operators
``text_stats``, ``code_stats`` and ``minhash_signature`` in each way. Starting the workers is not counted
(they are up before the clock starts), compiled kernels are warm; the commit is counted.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb

import headwater as hw
from headwater.engine.dask import DaskEngine
from headwater.ingest import ingest
from headwater.models import ModelSpec, materialize
from headwater.operators import register_all
from headwater.session import Session

HERE = Path(__file__).resolve().parent
SQL = """
    select doc_id, text_hash, text_stats(text) as words, code_stats(text) as code,
        minhash_signature(text) as signature
    from "lake"."raw"."documents"
"""
SPEC = ModelSpec(
    name="dev.signals",
    sql=SQL,
    source=SQL,
    inputs=("raw.documents",),
    relations={"raw.documents": '"lake"."raw"."documents"'},
    rows_of="raw.documents",
)


def build(lake: hw.Lake, engine: DaskEngine | None, threads: int) -> tuple[float, str]:
    session = Session(lake, engine=engine, threads=threads, full_refresh=True)
    session.pin_all()
    con = duckdb.connect()
    register_all(con)
    session.register_all(con)
    session.create_views(con)
    started = time.perf_counter()
    materialize(session, con, SPEC)
    seconds = time.perf_counter() - started
    con.close()
    return seconds, lake.table("dev.signals").digest


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--runs", type=int, default=2, help="the best of so many runs counts")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="dask-scaling-"))
    try:
        corpus = folder / "corpus"
        # Half of a made corpus is Parquet, and that half is read here.
        size = ["--gigabytes", str(2 * arguments.gigabytes), "--cluster", "0"]
        subprocess.run([sys.executable, str(HERE / "make_corpus.py"), str(corpus), *size], check=True)
        lake = hw.Lake(folder / "lake")
        columns = {"id": "doc_id", "text": "content"}
        ingest(lake, "parquet", f"{corpus}/**/*.parquet", source="corpus", columns=columns)
        table = lake.table("raw.documents")
        gigabytes = sum(b["text_bytes"].to_numpy().sum() for b in table.scan(["text_bytes"])) / 1e9
        build(lake, None, 1)  # compiles kernels, fills the page cache
        rows = []
        for name, workers, threads in (
            ("threads: 1", None, 1),
            ("threads: 2", None, 2),
            ("Dask workers: 1", 1, 1),
            ("Dask workers: 2", 2, 1),
        ):
            engine = DaskEngine(workers=workers) if workers else None
            if engine is not None:
                list(engine.map(abs, range(workers)))  # start the processes
            best = min(build(lake, engine, threads) for _ in range(arguments.runs))
            rows.append((name, *best))
            if engine is not None:
                engine.close()
        print(f"\n{gigabytes:.2f} GB of text, {table.num_rows:,} documents, best of {arguments.runs}")
        for name, seconds, digest in rows:
            print(f"{name:<18}{seconds:8.1f} s {gigabytes * 1000 / seconds:8.0f} MB/s   {digest}")
        ratio = rows[2][1] / rows[3][1]
        print(f"two workers against one: {ratio:.2f} x (bar 1.7)")
        same = len({digest for _, _, digest in rows}) == 1
        print("digests equal" if same else "DIGESTS DIFFER")
        return 0 if same and ratio >= 1.7 else 1
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
