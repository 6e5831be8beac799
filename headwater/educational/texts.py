"""The texts of the labels, found among installed packages and the standard library of this interpreter."""

from __future__ import annotations

import csv
import sysconfig
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pyarrow as pa
from packaging.utils import canonicalize_name

from headwater.educational import LABELS
from headwater.ingest.installed import SOURCE_PREFIX, STDLIB
from headwater.kernels.xxh3 import digest_array


@dataclass(frozen=True)
class LabeledFile:
    """One row of ``labels.csv``, and its text where the very same text is on this machine."""

    text_hash: str
    source: str
    path: str
    score: int
    reason: str
    text: str | None


def labeled_files() -> list[LabeledFile]:
    """Every label in the order of the file; ``text`` is None where this machine has no or another text.

    The labels were given to files of Python 3.11 and of the versions in ``constraints.txt``.
    """
    with LABELS.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    roots: dict[str, Path | None] = {STDLIB: Path(sysconfig.get_path("stdlib"))}
    for distribution in metadata.distributions():
        if distribution.metadata and (name := distribution.metadata["Name"]):
            roots.setdefault(
                f"{SOURCE_PREFIX}{canonicalize_name(name)}", Path(str(distribution.locate_file("")))
            )
    texts = [_text(roots.get(row["source"]), row["path"]) for row in rows]
    digests = digest_array(pa.array([text or "" for text in texts], pa.large_string())).to_pylist()
    return [
        LabeledFile(
            row["text_hash"],
            row["source"],
            row["path"],
            int(row["score"]),
            row["reason"],
            text if digest.hex() == row["text_hash"] else None,
        )
        for row, text, digest in zip(rows, texts, digests, strict=True)
    ]


def _text(root: Path | None, path: str) -> str | None:
    try:
        return (root / path).read_bytes().decode("utf-8") if root else None
    except (OSError, UnicodeDecodeError):
        return None
