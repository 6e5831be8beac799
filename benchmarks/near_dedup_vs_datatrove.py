"""Near-duplicate removal end to end: ours against datatrove's MinHash, on the same files, one worker each.

    python benchmarks/near_dedup_vs_datatrove.py --peer-python PATH [--megabytes 20] [ROOT ...]

``PATH`` is a Python with datatrove, its spaCy tokenizer and orjson installed. The corpus is a sample of the
Python, Markdown, reStructuredText and package metadata files under each ROOT (by default the installed packages of this
interpreter), written as one JSON lines file.

* datatrove: read, signatures (word 5-grams, 14 x 8), buckets, clusters, filter and write, as its own example
  runs it, ``workers=1``; its own settings, spaCy's English words.
* ours: read, signatures, bands, exact verification, clusters, removal and write, ``threads=1``; our default
  settings (threshold 0.8, 20 x 5 of 112). It does more: pairs are verified, similarities are kept.
* ours as datatrove: operator ``datatrove_minhash`` and ``datatrove_clusters`` at its settings, and how many
  of its removals are the same.

Imports and the compilation of our kernels (cached on disk after the first run) are not timed on either side:
both warm up on the first 20 documents. Both are pinned to one core; rates and the ratio are by CPU seconds (user
and system), which other work on the machine changes least.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any


class Clock:
    """Seconds by the wall and of CPU since it was made, this process and the children it waited for."""

    def __init__(self) -> None:
        self.since = self._now()

    def read(self) -> tuple[float, float]:
        wall, cpu = self._now()
        return wall - self.since[0], cpu - self.since[1]

    @staticmethod
    def _now() -> tuple[float, float]:
        used = os.times()
        return time.perf_counter(), used.user + used.system + used.children_user + used.children_system


def pin() -> None:
    """One core for this process."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


PATTERNS = ("*.py", "*.md", "*.rst", "*.txt", "METADATA")


def write_corpus(roots: list[Path], megabytes: float, path: Path) -> tuple[int, int]:
    """Documents and bytes of text."""
    files = sorted({file for root in roots for pattern in PATTERNS for file in root.rglob(pattern)})
    random.Random(0).shuffle(files)
    documents = total = 0
    with path.open("w", encoding="utf-8") as out:
        for file in files:
            if total >= megabytes * 1e6:
                break
            try:
                text = file.read_bytes().decode("utf-8")
            except (OSError, UnicodeDecodeError):
                continue
            if text.strip() and len(text) < 1_000_000:
                json.dump({"id": f"{documents:08d}", "text": text}, out, ensure_ascii=False)
                out.write("\n")
                documents += 1
                total += len(text.encode())
    return documents, total


def peer(corpus: Path, work: Path) -> dict[str, Any]:
    """Runs in the peer's interpreter: datatrove's four stages."""
    from importlib.metadata import version

    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import (
        MinhashConfig,
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
    )
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers.jsonl import JsonlWriter
    from datatrove.utils.logging import logger

    pin()
    logger.remove()
    config = MinhashConfig()

    def stages(source: Path, to: Path) -> dict[str, tuple[float, float]]:
        def reader() -> Any:
            return JsonlReader(str(source.parent), glob_pattern=source.name, compression=None)

        pipelines: dict[str, tuple[list[Any], int]] = {
            "signatures": ([reader(), MinhashDedupSignature(str(to / "signatures"), config=config)], 1),
            "buckets": (
                [MinhashDedupBuckets(str(to / "signatures"), str(to / "buckets"), config=config)],
                config.num_buckets,
            ),
            "clusters": ([MinhashDedupCluster(str(to / "buckets"), str(to / "remove"), config=config)], 1),
            "filter": (
                [
                    reader(),
                    MinhashDedupFilter(str(to / "remove")),
                    JsonlWriter(str(to / "kept"), compression=None),
                ],
                1,
            ),
        }
        seconds = {}
        for name, (pipeline, tasks) in pipelines.items():
            executor = LocalPipelineExecutor(
                pipeline, tasks=tasks, workers=1, logging_dir=str(to / "logs" / name)
            )
            clock = Clock()
            executor.run()
            seconds[name] = clock.read()
        return seconds

    few = work / "warm-up.jsonl"
    with corpus.open(encoding="utf-8") as file:
        few.write_text("".join(line for line, _ in zip(file, range(20), strict=False)), encoding="utf-8")
    stages(few, work / "warm-up")
    seconds = stages(corpus, work / "run")
    kept = []
    for path in sorted((work / "run" / "kept").rglob("*.jsonl")):
        with path.open(encoding="utf-8") as file:
            kept += [json.loads(line)["id"] for line in file]
    return {"seconds": seconds, "kept": kept, "version": version("datatrove")}


def ours(corpus: Path, work: Path) -> dict[str, Any]:
    import duckdb
    import pyarrow as pa
    import pyarrow.json as paj

    from headwater.dedup import duplicate_clusters, near_duplicate_pairs
    from headwater.dedup.datatrove import datatrove_clusters
    from headwater.kernels.xxh3 import digest_array
    from headwater.operators import operator

    pin()
    pa.set_cpu_count(1)
    signature = operator("datatrove_minhash")

    def read() -> pa.Table:
        schema = pa.schema([("id", pa.string()), ("text", pa.large_string())])
        options = paj.ParseOptions(explicit_schema=schema)
        table = paj.read_json(corpus, paj.ReadOptions(use_threads=False, block_size=1 << 23), options)
        return table.append_column("doc_id", digest_array(table["id"]))

    def remove(documents: pa.Table, clusters: pa.Table, to: Path) -> list[str]:
        with duckdb.connect(config={"threads": 1}) as con:
            con.register("documents", documents)
            con.register("clusters", clusters)
            con.execute(
                f"""copy (
                    select d.id, d.text from documents d left join clusters c using (doc_id)
                    where c.cluster_id is null or c.cluster_id = d.doc_id
                ) to '{to}' (format json)"""
            ).fetchall()
        with to.open(encoding="utf-8") as file:
            return [json.loads(line)["id"] for line in file]

    def default(documents: pa.Table) -> pa.Table:
        return duplicate_clusters(near_duplicate_pairs(documents.select(["doc_id", "text"]), threads=1))

    def as_datatrove(documents: pa.Table) -> pa.Table:
        signed = (
            signature.apply(batch)
            for batch in documents.select(["doc_id", "text"]).to_batches(max_chunksize=1024)
        )
        return datatrove_clusters(signed, threads=1)

    found: dict[str, Any] = {}
    for name, clusters in (("default", default), ("as_datatrove", as_datatrove)):
        clusters(read().slice(0, 20))
        clock = Clock()
        documents = read()
        kept = remove(documents, clusters(documents), work / f"{name}.jsonl")
        found[name] = {"seconds": clock.read(), "kept": kept}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("roots", nargs="*", type=Path, metavar="ROOT")
    parser.add_argument("--peer-python", type=Path, required=True)
    parser.add_argument("--megabytes", type=float, default=20)
    parser.add_argument("--as-peer", nargs=2, type=Path, metavar=("CORPUS", "WORK"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.as_peer:
        result = peer(*args.as_peer)
        (args.as_peer[1] / "result.json").write_text(json.dumps(result))
        return
    roots = args.roots or [Path(sysconfig.get_paths()["purelib"])]
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        corpus = work / "corpus.jsonl"
        documents, size = write_corpus(roots, args.megabytes, corpus)
        print(f"{documents:,} documents, {size / 1e6:.1f} MB of text")
        mine = ours(corpus, work)
        command = [args.peer_python, __file__, "--peer-python", args.peer_python, "--as-peer", corpus, work]
        subprocess.run(list(map(str, command)), check=True, stdout=sys.stderr, cwd=work)
        theirs = json.loads((work / "result.json").read_text())
    ids = {f"{i:08d}" for i in range(documents)}
    gone = {"datatrove": ids - set(theirs["kept"])}
    gone |= {name: ids - set(result["kept"]) for name, result in mine.items()}
    seconds = {"datatrove": [sum(stage[i] for stage in theirs["seconds"].values()) for i in range(2)]}
    seconds |= {name: result["seconds"] for name, result in mine.items()}
    titles = {
        "datatrove": f"datatrove {theirs['version']}",
        "default": "headwater, default settings",
        "as_datatrove": "headwater, as datatrove",
    }
    print("\n| end to end, one core | seconds | CPU seconds | MB/s/core | documents/s | ratio | removed |")
    print("|---|---|---|---|---|---|---|")
    for key, title in titles.items():
        wall, cpu = seconds[key]
        print(
            f"| {title} | {wall:.2f} | {cpu:.2f} | {size / 1e6 / cpu:.2f} | {documents / cpu:,.0f} "
            f"| {seconds['datatrove'][1] / cpu:.1f} x | {len(gone[key]):,} |"
        )
    stages = ", ".join(f"{name} {cpu:.1f} s" for name, (_, cpu) in theirs["seconds"].items())
    print(f"\ndatatrove's stages, CPU: {stages}")
    same, either = gone["datatrove"] & gone["as_datatrove"], gone["datatrove"] | gone["as_datatrove"]
    print(
        f"removals at datatrove's settings: {len(same):,} the same of {len(gone['datatrove']):,} "
        f"({len(same) / max(1, len(gone['datatrove'])):.4%}); {len(either) - len(same)} decisions differ"
    )


if __name__ == "__main__":
    main()
