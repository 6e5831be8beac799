"""Quality and speed of near-duplicate detection on real code, against every pair found exactly.

    python benchmarks/near_dedup_quality.py [--files 20000] [--glob '*.py'] [--mutated 0] [ROOT ...]

The corpus is the files of that name under each ROOT (by default the Python files of the standard library and
the installed packages of this interpreter: versions, vendored copies and generated families make
near-duplicates of every kind; give unpacked releases of packages, or HTML documentation, to judge on another).
``--mutated N`` adds N copies of files with a share of their words replaced, reported apart. The truth is an
exact set-similarity join (prefix filter: two sets of Jaccard >= t share a shingle among the rarest
``n - ceil(t n) + 1`` of each; every candidate is then counted in full), not an approximation.

Pairs of *distinct* shingle sets are compared; documents with equal sets are collapsed first in both, and
counted. Everything runs on one thread. Bar: F1 >= 0.9995 at 0.8, >= 0.999 at 0.7.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import sys
import sysconfig
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from headwater.dedup import bands_for, duplicate_clusters, near_duplicate_pairs
from headwater.dedup.candidates import Candidates
from headwater.dedup.documents import Texts
from headwater.dedup.ids import ids_from_arrow
from headwater.dedup.verify import verify
from headwater.ingest.html import extract
from headwater.kernels.pairs import find_ids, jaccard
from headwater.kernels.shingles import shingle_sets
from headwater.kernels.xxh3 import digest_array
from headwater.operators import operator

FLOOR = 0.65
BINS = [0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0]
NGRAM = 5


def read(path: Path) -> str | None:
    """The text of a file; of a page, its main content, as ingest takes it."""
    try:
        content = path.read_bytes()
        if path.suffix != ".html":
            return content.decode("utf-8")
        return extract(content, mode="main").text
    except (OSError, UnicodeDecodeError):
        return None


def corpus(roots: list[Path], files: int, mutated: int, glob: str = "*.py") -> pa.Table:
    names, texts = [], []
    for root in roots:
        for path in sorted(p for p in root.rglob(glob) if p.is_file()):
            text = read(path)
            if text:
                texts.append(text)
                names.append(str(path.relative_to(root)) + f"@{root.name}")
    if len(names) > files:
        keep = sorted(random.Random(0).sample(range(len(names)), files))
        names, texts = [names[i] for i in keep], [texts[i] for i in keep]
    rng = random.Random(1)
    for i in range(mutated):
        source = rng.randrange(len(texts))
        share = rng.uniform(0, 0.1)
        texts.append(
            re.sub(
                r"\w+",
                lambda m, s=share: f"m{rng.randrange(10**6)}" if rng.random() < s else m[0],
                texts[source],
            )
        )
        names.append(f"mutated-{i}")
    ids = digest_array(pa.array(names))
    return pa.table({"doc_id": ids, "text": pa.array(texts, pa.large_string())})


class Truth:
    """Every pair of distinct shingle sets with Jaccard >= FLOOR, by the row of each set's smallest doc_id."""

    def __init__(self, docs: pa.Table) -> None:
        values, counts = shingle_sets(docs["text"], ngram=NGRAM)
        starts = np.cumsum(counts) - counts
        ids = ids_from_arrow(docs["doc_id"])
        order = np.lexsort((ids[:, 1], ids[:, 0]))
        first: dict[bytes, int] = {}
        self.copies = 0
        for i in order.tolist():  # byte for byte: no trust in the set hash under test
            if counts[i] == 0:
                continue
            key = values[starts[i] : starts[i] + counts[i]].tobytes()
            self.copies += key in first
            first.setdefault(key, i)
        kept = np.array(sorted(first.values()), dtype=np.int64)
        self.num_sets = len(kept)
        _, inverse, frequency = np.unique(values, return_inverse=True, return_counts=True)
        sets, shingles = [], []
        for i in kept.tolist():
            own = inverse[starts[i] : starts[i] + counts[i]]
            length = len(own) - math.ceil(FLOOR * len(own)) + 1
            rare = own[np.lexsort((own, frequency[own]))[:length]]
            shared = rare[frequency[rare] > 1]
            shingles.append(shared)
            sets.append(np.full(len(shared), i, dtype=np.int64))
        con = duckdb.connect()
        prefixes = pa.table({"shingle": np.concatenate(shingles), "member": np.concatenate(sets)})
        sizes = pa.table({"member": kept, "n": counts[kept]})
        con.register("prefixes", prefixes)
        con.register("sizes", sizes)
        candidates = con.sql(
            f"""with p as (select shingle, member, n from prefixes join sizes using (member))
            select distinct x.member as a, y.member as b from p x join p y using (shingle)
            where x.member < y.member and least(x.n, y.n) >= {FLOOR} * greatest(x.n, y.n)"""
        ).to_arrow_table()
        con.close()
        a, b = (np.ascontiguousarray(candidates[c].to_numpy()) for c in ("a", "b"))
        similarity = np.empty(len(a))
        jaccard(values, starts, counts, a, b, similarity)
        good = similarity >= FLOOR
        self.num_candidates = len(a)
        self.pairs = {
            (min(x, y), max(x, y)): s
            for x, y, s in zip(a[good].tolist(), b[good].tolist(), similarity[good].tolist(), strict=True)
        }
        self.representatives = kept
        for x, y in random.Random(2).sample(sorted(self.pairs), min(200, len(self.pairs))):
            one = set(values[starts[x] : starts[x] + counts[x]].tolist())
            two = set(values[starts[y] : starts[y] + counts[y]].tolist())
            assert self.pairs[x, y] == len(one & two) / len(one | two)


def quality(docs: pa.Table, truth: Truth, threshold: float, mutated_from: int) -> dict[str, object]:
    pairs = near_duplicate_pairs(docs, threshold=threshold, threads=1)
    ids = ids_from_arrow(docs["doc_id"])
    order = np.lexsort((ids[:, 1], ids[:, 0]))
    ascending = np.ascontiguousarray(ids[order])
    a = order[find_ids(ascending, ids_from_arrow(pairs["a"]))]
    b = order[find_ids(ascending, ids_from_arrow(pairs["b"]))]
    kept = np.zeros(len(ids), dtype=bool)
    kept[truth.representatives] = True
    both = kept[a] & kept[b]
    got = {(min(x, y), max(x, y)) for x, y in zip(a[both].tolist(), b[both].tolist(), strict=True)}
    wanted = {pair for pair, s in truth.pairs.items() if s >= threshold}
    hit, false = len(got & wanted), len(got - wanted)
    recall, precision = hit / max(1, len(wanted)), hit / max(1, len(got))
    bins = {}
    for low, high in pairwise(BINS):
        inside = {pair for pair in wanted if low <= truth.pairs[pair] < high}
        if inside:
            bins[f"{low:.2f}-{high:.2f}"] = {"pairs": len(inside), "recall": len(inside & got) / len(inside)}
    exact_clusters, our_clusters = components(len(ids), wanted), components(len(ids), got)
    merged = {(our_clusters[i], exact_clusters[i]) for i in range(len(ids))}
    real = {pair for pair in wanted if pair[1] < mutated_from}
    return {
        "threshold": threshold,
        "bands x rows": "{} x {}".format(*bands_for(threshold)),
        "exact pairs": len(wanted),
        "of them without mutated copies": len(real),
        "recall": recall,
        "recall without mutated copies": len(real & got) / max(1, len(real)),
        "precision": precision,
        "f1": 2 * recall * precision / max(1e-12, recall + precision),
        "missed": len(wanted) - hit,
        "false pairs": false,
        "false merges of clusters": len(merged) - len({ours for ours, _ in merged}),
        "clusters that fell apart": len(merged) - len({exact for _, exact in merged}),
        "documents in clusters": duplicate_clusters(pairs).num_rows,
        "recall by Jaccard": bins,
    }


def components(size: int, pairs: set[tuple[int, int]]) -> list[int]:
    label = list(range(size))

    def root(i: int) -> int:
        while label[i] != i:
            label[i] = label[label[i]]
            i = label[i]
        return i

    for x, y in pairs:
        one, two = root(x), root(y)
        label[max(one, two)] = min(one, two)
    return [root(i) for i in range(size)]


def speed(docs: pa.Table) -> dict[str, float]:
    """MB of text per second of one thread, by stage and over all."""
    megabytes = docs["text"].nbytes / 1e6
    batches = docs.to_batches(max_chunksize=1024)
    seconds: dict[str, float] = {}

    def clock(stage: str, start: float) -> None:
        seconds[stage] = time.perf_counter() - start

    with tempfile.TemporaryDirectory() as name:
        start = time.perf_counter()
        signed = []
        for batch in batches:
            fields = operator("minhash_signature")(batch["text"]).flatten()
            names = ["doc_id", "num_shingles", "shingle_set_hash", "minhash"]
            signed.append(pa.record_batch([batch["doc_id"], *fields], names=names))
        clock("signatures", start)
        with Candidates(Path(name), threshold=0.8, memory_bytes=1 << 30, threads=1) as candidates:
            start = time.perf_counter()
            candidates.load(signed)
            clock("store and collapse", start)
            start = time.perf_counter()
            candidates.find()
            clock("bands and candidates", start)
            start = time.perf_counter()
            verify(
                candidates, Texts(docs, Path(name)), Path(name), ngram=NGRAM, memory_bytes=1 << 30, threads=1
            )
            clock("verify", start)
            start = time.perf_counter()
            list(candidates.pairs())
            clock("list pairs", start)
    start = time.perf_counter()
    near_duplicate_pairs(docs, threads=1)
    clock("near_duplicate_pairs", start)
    return {stage: round(megabytes / took, 1) for stage, took in seconds.items()}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("roots", nargs="*", type=Path)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--glob", default="*.py", help="which files; *.html are read as web pages")
    parser.add_argument("--mutated", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    roots = arguments.roots or [Path(sysconfig.get_paths()["purelib"]), Path(sysconfig.get_paths()["stdlib"])]
    docs = corpus(roots, arguments.files, arguments.mutated, arguments.glob)
    near_duplicate_pairs(docs.slice(0, 200))  # compiled, or loaded from the cache
    truth = Truth(docs)
    report = {
        "documents": docs.num_rows,
        "MB": round(docs["text"].nbytes / 1e6, 1),
        "distinct shingle sets": truth.num_sets,
        "documents with another's set": truth.copies,
        "candidates of the exact join": truth.num_candidates,
        "MB/s per core": speed(docs),
        "quality": [quality(docs, truth, t, docs.num_rows - arguments.mutated) for t in (0.8, 0.7)],
    }
    print(json.dumps(report, indent=None if arguments.json else 2))
    bars = {0.8: 0.9995, 0.7: 0.999}
    return 0 if all(q["f1"] >= bars[q["threshold"]] for q in report["quality"]) else 1


if __name__ == "__main__":
    sys.exit(main())
