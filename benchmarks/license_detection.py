"""License evidence against Debian's own record: how often right, and how fast on one core.

    python benchmarks/debian_licenses.py FOLDER truth.parquet --download
    python benchmarks/license_detection.py truth.parquet [--split test]

Rows: files that carry a notice, and whose name in debian/copyright the policy knows (names that are a package's
own, such as ``OpenSSH``, are left out). *Permissive*: the expression's tier is one of Blue Oak's five. A file
without an answer counts as wrong, except in "among answered". ``concluded`` is what the table
``license_concluded`` says: a file without a notice of its own, or whose notice points to a file, takes the license
of the nearest LICENSE or COPYING file. *Exact*: the same set of SPDX ids, where X11 is MIT, and Libpng Zlib.

Debian's record is not free of errors: a paragraph ``Files: *`` names the package's license also for files that
carry another one. So both are shown: all rows, and rows whose paragraph is not the catch-all.

Speed: processor time of this process over all sampled files (with or without a notice), after one call on 50 of
them (numba compiles or loads its cache, the license texts are indexed); one thread.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("POLARS_MAX_THREADS", "1")

import polars as pl
import pyarrow as pa

from headwater.licenses import load_policy, tier
from headwater.licenses.conclusions import conclude_said
from headwater.licenses.nearest import nearest
from headwater.operators import operator

PERMISSIVE = {"model", "gold", "silver", "bronze", "lead"}
_SAME = {"X11": "MIT", "Libpng": "Zlib", "libpng-2.0": "Zlib", "Unlicense": "LicenseRef-Public-Domain"}


def ids(expression: str | None) -> frozenset[str]:
    words = (expression or "").replace("(", " ").replace(")", " ").split()
    return frozenset(
        _SAME.get(word, word)
        for before, word in zip(["", *words], words, strict=False)
        if word not in ("AND", "OR", "WITH") and before != "WITH"
    )


def kind(found: str | None) -> str:
    if found in PERMISSIVE:
        return "permissive"
    return "copyleft" if found in ("copyleft", "network-copyleft") else str(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--split", default="test", choices=["dev", "test", "both"])
    parser.add_argument("--errors", type=Path, help="write the rows that were wrong to this Parquet file")
    args = parser.parse_args()
    policy = load_policy()
    files = pl.read_parquet(args.truth)
    if args.split != "both":
        files = files.filter(pl.col("split") == args.split)
    op = operator("license_evidence")
    text = files["text"].to_arrow().cast(pa.large_string())
    op(text.slice(0, 50))
    started, clock = time.process_time(), time.perf_counter()
    evidence = op(text)
    seconds, wall = time.process_time() - started, time.perf_counter() - clock

    files = files.with_columns(pl.from_arrow(evidence).alias("e")).rename({"spdx": "truth"}).unnest("e")
    beside = nearest(*(files[name].to_arrow() for name in ("package", "path", "spdx")))
    said = {
        "license_declared": pa.nulls(len(text), pa.string()),
        "file_spdx": evidence.field("spdx"),
        "file_detector": evidence.field("detector"),
        "file_is_part": evidence.field("is_part"),
        "file_disagrees": evidence.field("disagree"),
        "nearest_spdx": beside,
        "package_spdx": pa.nulls(len(text), pa.string()),
    }
    concluded = conclude_said(pa.table(said), policy)["license_spdx"]
    files = files.with_columns(pl.Series("concluded", concluded))

    def tiers(column: str) -> pl.Series:
        known = {e: tier(e, policy) for e in files[column].unique()}
        return pl.Series([kind(known[e]) for e in files[column]])

    files = files.with_columns(
        truth_class=tiers("truth"), spdx_class=tiers("spdx"), concluded_class=tiers("concluded")
    )
    rows = files.filter("carries_notice", "sampled", pl.col("truth_class") != "unknown")
    out = sys.stdout.write
    out(f"{args.split}: {files['package'].n_unique()} packages, {len(rows):,} files that carry a notice\n\n")
    out("| rows | detector | files | answered | permissive-or-not | among answered | class | exact |\n")
    out("|---|---|---|---|---|---|---|---|\n")
    specific = rows.filter(~pl.col("files").str.starts_with("*"))
    for name, part in (("all", rows), ("not the catch-all", specific)):
        for column in ("spdx", "concluded"):
            out(_line(name, "file" if column == "spdx" else "concluded", part, column))
    for (name,), part in sorted(rows.group_by("detector"), key=lambda g: -len(g[1])):
        out(_line("all", str(name or "none"), part, "spdx"))
    count, size = len(text), files["text"].str.len_bytes().sum() / 1e6
    out(
        f"\n{count / seconds:,.0f} files/s and {size / seconds:.0f} MB/s per core ({count:,} files, {size:.0f} MB, "
    )
    out(f"{seconds:.2f} s of processor time, {wall:.2f} s on the clock)\n")
    if args.errors:
        wrong = rows.filter((pl.col("spdx_class") == "permissive") != (pl.col("truth_class") == "permissive"))
        wrong.drop("text").write_parquet(args.errors)


def _line(name: str, detector: str, rows: pl.DataFrame, column: str) -> str:
    answered = rows[column].is_not_null()
    found, truth = rows[f"{column}_class"], rows["truth_class"]
    right = ((found == "permissive") == (truth == "permissive")) & answered
    same = pl.Series(
        [ids(a) == ids(b) for a, b in zip(rows["truth"], rows[column], strict=True)], dtype=pl.Boolean
    )
    shares = [
        answered.mean(),
        right.mean(),
        right.filter(answered).mean(),
        (found == truth).mean(),
        same.mean(),
    ]
    cells = " | ".join("" if s is None else f"{s:.1%}" for s in shares)
    return f"| {name} | {detector} | {len(rows):,} | {cells} |\n"


if __name__ == "__main__":
    main()
