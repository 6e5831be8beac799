"""The license file nearest to a document: of the same source, by the longest folder they share.

The set operation is SQL over ids and paths (``sql/models/annotated/license_folders.sql``); this is the same
in Polars, for arrays in memory.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import polars as pl
import pyarrow as pa

from headwater.licenses.detect import evidence
from headwater.licenses.expressions import join

LICENSE_FILE = r"(?i)(?:^|/)(?:licen[cs]e|copying|unlicense|copyright)(?:[-_. ][^/]{0,24})?$"
"""Names that GitHub's Licensee and the REUSE and Debian conventions give to license files."""
PLAIN_FILE = r"(?i)(?:^|/)(?:licen[cs]e|copying|unlicense|copyright)(?:\.(?:txt|md|rst|html?))?$"
"""Where one is there, ``LICENSE.python`` and the like beside it are those of parts."""


def nearest(source: pa.Array, path: pa.Array, spdx: pa.Array) -> pa.Array:
    """What the nearest license file at or above each ``path`` says; ``spdx`` is what each file says."""
    rows = pl.DataFrame(
        {"source": pl.from_arrow(source), "path": pl.from_arrow(path), "spdx": pl.from_arrow(spdx)}
    ).with_columns(folder=folder(pl.col("path")))
    named = rows.filter(pl.col("path").str.contains(LICENSE_FILE), pl.col("spdx").is_not_null())
    licenses = (
        named.with_columns(plain=pl.col("path").str.contains(PLAIN_FILE))
        .filter(pl.col("plain") | ~pl.col("plain").any().over("source", "folder"))
        .sort("source", "path")
        .group_by("source", "folder", maintain_order=True)
        .agg(license=pl.col("spdx").unique(maintain_order=True))
        .with_columns(license=pl.col("license").map_elements(join, return_dtype=pl.String))
    )
    folders = rows.select("source", "folder").unique(maintain_order=True)
    steps = folders.with_columns(parts=pl.col("folder").str.split("/"))
    above = (
        steps.with_columns(depth=pl.int_ranges(0, pl.col("parts").list.len() + 1))
        .explode("depth")
        .with_columns(ancestor=pl.col("parts").list.head(pl.col("depth")).list.join("/"))
    )
    best = (
        above.join(licenses, left_on=["source", "ancestor"], right_on=["source", "folder"])
        .sort("source", "folder", "depth", descending=[False, False, True])
        .unique(["source", "folder"], keep="first", maintain_order=True)
    )
    joined = rows.join(
        best.select("source", "folder", "license"), on=["source", "folder"], how="left", maintain_order="left"
    )
    return joined["license"].to_arrow().cast(pa.string())


def license_of_package(names: Sequence[str], texts: Sequence[str]) -> tuple[str, str] | None:
    """(name, SPDX expression) from a package's license files, plain names before others, or None."""
    named = [name for name in names if re.search(LICENSE_FILE, name)]
    plain = [name for name in named if re.search(PLAIN_FILE, name)]
    chosen = sorted(plain or named)
    by_name = dict(zip(names, texts, strict=True))
    found = (
        evidence(pa.array([by_name[name] for name in chosen], pa.large_string())).field("spdx").to_pylist()
    )
    said = [(name, spdx) for name, spdx in zip(chosen, found, strict=True) if spdx]
    spdx = join(list(dict.fromkeys(spdx for _, spdx in said)))
    return (said[0][0], spdx) if spdx else None


def folder(path: pl.Expr) -> pl.Expr:
    """The folder of a posix path; an empty string at the top."""
    return path.str.extract(r"^(.*)/[^/]*$", 1).fill_null("")
