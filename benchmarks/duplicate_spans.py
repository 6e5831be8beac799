"""Speed, memory and linearity of span, line and exact deduplication on real files.

    python benchmarks/duplicate_spans.py [--megabytes 200] [--memory 1024] [ROOT ...]

The corpus is the Python and documentation files under each ROOT (by default the installed packages of this interpreter),
repeated with a new word at the start of every line if there is not enough of it. One thread; seconds are CPU seconds. Each method runs
on a quarter, a half and all of the corpus; kernels are compiled before. ``check`` compares the covered bytes
of the smallest part with those of a Python set of all windows of 50 words, and times it too.
"""

from __future__ import annotations

import argparse
import random
import re
import resource
import sysconfig
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from headwater.dedup.exact import exact_duplicates
from headwater.dedup.lines import duplicate_lines
from headwater.dedup.spans import MIN_TOKENS, duplicate_spans
from headwater.kernels.xxh3 import digest_array


def corpus(roots: list[Path], megabytes: float) -> pa.Table:
    files = sorted(f for root in roots for p in ("*.py", "*.md", "*.rst", "*.txt") for f in root.rglob(p))
    random.Random(0).shuffle(files)
    names: list[str] = []
    texts: list[str] = []
    size = 0
    copy = 0
    while size < megabytes * 1e6 and files:
        for file in files:
            try:
                text = file.read_bytes().decode("utf-8")
            except (OSError, UnicodeDecodeError):
                continue
            if copy:
                text = re.sub(r"^", f"copy{copy} ", text, flags=re.MULTILINE)
            names.append(f"{copy}/{file}")
            texts.append(text)
            size += len(text.encode())
            if size >= megabytes * 1e6:
                break
        copy += 1
    return pa.table({"doc_id": digest_array(pa.array(names)), "text": pa.array(texts, pa.large_string())})


def by_set(docs: pa.Table) -> int:
    """Bytes covered, the plain way: every window of words in a Python set, documents by id."""
    order = pc.sort_indices(docs["doc_id"])
    seen: set[int] = set()
    total = 0
    for text in docs.take(order)["text"].to_pylist():
        found = [(m.start(), m.end()) for m in re.finditer(r"\w+", text)]
        words = [text[a:b].lower() for a, b in found]
        new = [hash(tuple(words[i : i + MIN_TOKENS])) for i in range(len(words) - MIN_TOKENS + 1)]
        until = 0
        for i, key in enumerate(new):
            if key in seen:
                start, end = max(found[i][0], until), found[i + MIN_TOKENS - 1][1]
                total += len(text[start:end].encode())
                until = end
        seen.update(new)
    return total


def covered(spans: pa.Table) -> int:
    total, owner, until = 0, None, 0
    for row in spans.select(["doc_id", "start", "end"]).to_pylist():
        if row["doc_id"] != owner:
            owner, until = row["doc_id"], 0
        total += max(0, row["end"] - max(row["start"], until))
        until = max(until, row["end"])
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("roots", nargs="*", type=Path, metavar="ROOT")
    parser.add_argument("--megabytes", type=float, default=200)
    parser.add_argument("--memory", type=int, default=1024, help="MiB, the memory setting")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    docs = corpus(args.roots or [Path(sysconfig.get_paths()["purelib"])], args.megabytes)
    settings: dict[str, Any] = {"threads": 1, "memory_bytes": args.memory << 20}
    methods: dict[str, Callable[..., pa.RecordBatchReader]] = {
        "exact, normalized": partial(exact_duplicates, form="whitespace"),
        "lines": duplicate_lines,
        "paragraphs": partial(duplicate_lines, unit="paragraph"),
        "spans of 50 words": duplicate_spans,
        "spans of 50 white-space tokens": partial(duplicate_spans, unit="whitespace"),
    }
    print("| one core | documents | MB | CPU seconds | MB/s | rows | peak memory (MiB, process) |")
    print("|---|---|---|---|---|---|---|")
    for name, method in methods.items():
        method(docs.slice(0, 20), **settings).read_all()
        for part in (4, 2, 1):
            some = docs.slice(0, docs.num_rows // part)
            size = pc.sum(pc.binary_length(some["text"])).as_py() / 1e6
            since = time.process_time()
            rows = sum(batch.num_rows for batch in method(some, **settings))
            seconds = time.process_time() - since
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
            print(
                f"| {name} | {some.num_rows:,} | {size:.1f} | {seconds:.2f} | {size / seconds:.1f} "
                f"| {rows:,} | {peak:,} |",
                flush=True,
            )
    if args.check:
        some = docs.slice(0, docs.num_rows // 4)
        ascii_only = pc.equal(pc.binary_length(some["text"]), pc.utf8_length(some["text"]))
        some = some.filter(ascii_only)  # \w+ and our words differ on marks
        since = time.process_time()
        expected = by_set(some)
        seconds = time.process_time() - since
        size = pc.sum(pc.binary_length(some["text"])).as_py() / 1e6
        found = covered(duplicate_spans(some, **settings).read_all())
        print(
            f"\ncheck on {size:.1f} MB: {found:,} bytes covered, {expected:,} by a Python set of windows "
            f"({size / seconds:.1f} MB/s)"
        )


if __name__ == "__main__":
    main()
