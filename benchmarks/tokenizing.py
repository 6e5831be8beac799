"""Tokenizing on one core: Hugging Face ``tokenizers`` against what ``headwater pack`` encodes with.

    python benchmarks/tokenizing.py

Text: installed Python files and system documentation, from Arrow to Arrow. A byte-level BPE of 32,000 ids is
trained on the first 20 MB. The process is bound to one core before either library starts its threads. The
fast encoder is gigatoken's work; ours is to feed it Arrow buffers and to check its ids.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import time

import pyarrow as pa
from make_corpus import real_files

from headwater.tokenizer import Encoder, train


def main() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before any thread pool asks for the cores
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=int, default=60)
    parser.add_argument("--vocabulary", type=int, default=32_000)
    arguments = parser.parse_args()
    texts, size = [], 0
    for path in real_files()[::7]:
        texts.append(path.read_text(encoding="utf-8", errors="replace"))
        size += len(texts[-1].encode())
        if size > arguments.megabytes * 1e6:
            break
    third = texts[: len(texts) // 3]
    encoder = Encoder(train([third], arguments.vocabulary))
    slow = Encoder(encoder.json, fast=False)
    column = pa.array(texts, pa.large_string())
    rows = {}
    for name, each in (("tokenizers", slow), (encoder.encoder, encoder)):
        started = time.process_time()
        rows[name] = (each.encode(column), time.process_time() - started)
    print(f"{len(texts):,} files, {size / 1e6:.0f} MB, {arguments.vocabulary:,} ids, one core")
    for name, (ids, seconds) in rows.items():
        version = importlib.metadata.version(name)
        print(
            f"{name:<12}{version:<10}{size / 1e6 / seconds:8.1f} MB/s {len(ids.values) / 1e6 / seconds:8.2f} M tokens/s"
        )
    (a, slow_seconds), (b, fast_seconds) = rows.values()
    print(f"ratio {slow_seconds / fast_seconds:.0f} x (bar 20); ids {'equal' if a.equals(b) else 'DIFFER'}")
    if not a.equals(b):
        show_differences(texts, a.to_pylist(), b.to_pylist())


def show_differences(texts: list[str], ours: list[list[int]], theirs: list[list[int]], most: int = 5) -> None:
    """The first texts whose ids differ: where, and the ids there."""
    found = [i for i, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]]
    print(f"{len(found):,} texts differ; first ones:")
    for i in found[:most]:
        shared = next(
            (k for k, pair in enumerate(zip(ours[i], theirs[i], strict=False)) if pair[0] != pair[1]), 0
        )
        near = slice(max(shared - 2, 0), shared + 6)
        print(
            f"  text {i} of {len(texts[i]):,} characters, token {shared:,}: {ours[i][near]} and {theirs[i][near]}"
        )


if __name__ == "__main__":
    main()
