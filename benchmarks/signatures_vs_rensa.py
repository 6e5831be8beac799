"""MinHash signatures per core, with shingling and without: ours against rensa, on the same files.

    python benchmarks/signatures_vs_rensa.py --peer-python PATH [--megabytes 30] [--num-perm 112] [ROOT ...]

``PATH`` is a Python with rensa installed. Word 5-grams, 112 permutations, one core (both are pinned to it),
CPU seconds of the best of three runs after one that is not counted. rensa takes tokens, not texts, so its user makes the
shingles in Python: ``re.findall(r"\\w+", text.lower())`` and ``" ".join``, as its examples do.

* with shingling: text in, signatures out;
* hashing alone: rensa from 64-bit token hashes in one flat buffer (R-MinHash, and its rho sketch, which
  samples tokens); ours as the time of whole signatures less the time of the shingle sets alone.

The algorithms differ: rensa's R-MinHash fills its slots by fast similarity sketching; ours evaluates every
permutation on every shingle, as MinHash is defined.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NGRAM = 5


def best_of(run: Callable[[], Any], times: int = 3) -> float:
    run()
    seconds = []
    for _ in range(times):
        since = time.process_time()
        run()
        seconds.append(time.process_time() - since)
    return min(seconds)


def pin() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def peer(corpus: Path, num_perm: int) -> dict[str, Any]:
    import re
    from array import array
    from importlib.metadata import version

    from rensa import RMinHash

    pin()
    texts = json.loads(corpus.read_text())
    word = re.compile(r"\w+")

    def shingled() -> list[list[str]]:
        out = []
        for text in texts:
            words = word.findall(text.lower())
            grams = zip(*(words[i:] for i in range(NGRAM)), strict=False)
            out.append([" ".join(gram) for gram in grams] or words)
        return out

    shingles = shingled()
    hashed = RMinHash.hash_token_sets(shingles)
    flat, offsets = array("Q"), array("Q", [0])
    for one in hashed:
        flat.extend(one)
        offsets.append(len(flat))
    full = RMinHash.digest_matrix_from_token_sets
    alone, rho = (
        RMinHash.digest_matrix_from_flat_token_hashes,
        RMinHash.digest_matrix_from_flat_token_hashes_rho,
    )
    return {
        "version": version("rensa"),
        "with": best_of(lambda: full(shingled(), num_perm, 1)),
        "with rho": best_of(lambda: RMinHash.digest_matrix_from_token_sets_rho(shingled(), num_perm, 1)),
        "alone": best_of(lambda: alone(flat, offsets, num_perm, 1)),
        "alone rho": best_of(lambda: rho(flat, offsets, num_perm, 1)),
    }


def ours(texts: list[str], num_perm: int) -> dict[str, float]:
    import pyarrow as pa

    from headwater.kernels.shingles import signatures

    pin()
    column = pa.array(texts, pa.large_string())
    whole = best_of(lambda: signatures(column, num_perm=num_perm, ngram=NGRAM, seed=1))
    sets = best_of(lambda: signatures(column, num_perm=0, ngram=NGRAM, seed=1))
    return {"with": whole, "alone": whole - sets}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("roots", nargs="*", type=Path, metavar="ROOT")
    parser.add_argument("--peer-python", type=Path, required=True)
    parser.add_argument("--megabytes", type=float, default=30)
    parser.add_argument("--num-perm", type=int, default=112)
    parser.add_argument("--as-peer", type=Path, metavar="CORPUS", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.as_peer:
        print(json.dumps(peer(args.as_peer, args.num_perm)))
        return
    files = sorted(
        file
        for root in args.roots or [Path(sysconfig.get_paths()["purelib"])]
        for pattern in ("*.py", "*.md", "*.rst", "*.txt")
        for file in root.rglob(pattern)
    )
    random.Random(0).shuffle(files)
    texts: list[str] = []
    size = 0
    for file in files:
        if size >= args.megabytes * 1e6:
            break
        try:
            text = file.read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        texts.append(text)
        size += len(text.encode())
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as corpus:
        json.dump(texts, corpus)
        corpus.flush()
        command = [args.peer_python, __file__, "--peer-python", args.peer_python, "--as-peer", corpus.name]
        command += ["--num-perm", args.num_perm]
        done = subprocess.run(
            list(map(str, command)),
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "RAYON_NUM_THREADS": "1"},
        )
    theirs = json.loads(done.stdout)
    mine = ours(texts, args.num_perm)
    print(
        f"{len(texts):,} documents, {size / 1e6:.1f} MB, word {NGRAM}-grams, {args.num_perm} permutations\n"
    )
    print("| one core | CPU seconds | MB/s | signatures/s | ratio |")
    print("|---|---|---|---|---|")
    name = f"rensa {theirs['version']}"
    for title, seconds, against in (
        (f"{name}, with shingling", theirs["with"], theirs["with"]),
        (f"{name} (rho), with shingling", theirs["with rho"], theirs["with"]),
        ("headwater, with shingling", mine["with"], theirs["with"]),
        (f"{name}, hashing alone", theirs["alone"], theirs["alone"]),
        (f"{name} (rho), hashing alone", theirs["alone rho"], theirs["alone"]),
        ("headwater, hashing alone", mine["alone"], theirs["alone"]),
    ):
        rate = size / 1e6 / seconds
        print(
            f"| {title} | {seconds:.2f} | {rate:.1f} | {len(texts) / seconds:,.0f} | {against / seconds:.1f} x |"
        )


if __name__ == "__main__":
    main()
