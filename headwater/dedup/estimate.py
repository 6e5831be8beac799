"""What near-duplicate detection will take, before it starts: memory, disk and time.

    peak memory = PROCESS_BYTES + 40 bytes for each document + the working memory that is needed or allowed
    temporary disk = signatures, band keys and ids of all documents, shingle sets of the candidates
    lake = the index and the pairs
    time = text / rate, for the signatures and for the rest

The bytes follow from what is stored; the shares and rates are measured (each says where) and a corpus may
differ from them by a factor of two: it is a prediction, not a limit. The limit is ``memory_bytes``.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from headwater.dedup.bands import THRESHOLD, bands_for
from headwater.engine.local import num_threads
from headwater.errors import UsageError
from headwater.operators.minhash import NUM_PERM
from headwater.progress import rough_time

SIGNATURES_RATE = 133e6
"""Bytes of text a second and core, reading and writing included: 10.2 GB in 38.3 s on two cores
(``benchmarks/bounded_memory.py``)."""
PAIRS_RATE = 126e6
"""Bytes of text a second and core for bands, candidates, verification and writing: 10.2 GB in 40.4 s on two
cores (the same run)."""
CANDIDATE_SHARE = 0.25
"""Share of the text whose shingle sets are compared, in installed packages with their vendored copies."""
PAIRS_PER_DOCUMENT = 7.5
"""Pairs from 0.7 on: 436,587 of 57,770 installed Python files (``benchmarks/incremental_dedup.py``)."""
PROCESS_BYTES = 350 << 20
"""Python, Arrow, DuckDB, Lance and compiled kernels before any document."""
SET_BYTES = 40
"""In memory for each distinct shingle set while its buckets are searched."""
DOCUMENT_TABLE_BYTES = 120
"""Temporary tables of ids, hashes and numbers, for each document."""
BAND_BYTES = 16
"""A band key and its member in a temporary table."""
SHINGLE_SHARE = 0.7
"""Bytes of shingle set (8 a distinct shingle) for each byte of its text, of installed Python files."""
PAIR_BYTES = 44
"""A pair in the lake."""

MEMORY_VARIABLE = "HEADWATER_MEMORY"
"""What a build's DuckDB may use, as DuckDB writes sizes (``768MB``, ``2GiB``); blocks of work obey it too."""
MEMORY_BYTES = 1 << 30
_UNITS = {"k": 1, "m": 2, "g": 3, "t": 4}


def memory_setting() -> int:
    """``HEADWATER_MEMORY`` in bytes, 1 GiB without it. Raises UsageError for what is no size."""
    text = os.environ.get(MEMORY_VARIABLE, "").strip()
    if not text:
        return MEMORY_BYTES
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", text, re.IGNORECASE)
    if found is None:
        raise UsageError(f"{MEMORY_VARIABLE} is {text!r}", hint="write a size such as 768MB or 2GiB")
    power = _UNITS[found[2].lower()] if found[2] else 0
    return int(float(found[1]) * (1024 if found[3] else 1000) ** power)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Predicted cost of a full build. Bytes and seconds of wall time."""

    num_documents: int
    text_bytes: int
    peak_memory_bytes: int
    temporary_bytes: int
    lake_bytes: int
    signature_seconds: float
    pair_seconds: float

    @property
    def seconds(self) -> float:
        return self.signature_seconds + self.pair_seconds

    def __str__(self) -> str:
        return (
            f"{self.num_documents:,} documents, {_size(self.text_bytes)} of text: "
            f"about {_size(self.peak_memory_bytes)} of memory, "
            f"{_size(self.temporary_bytes)} of temporary disk, "
            f"{_size(self.lake_bytes)} in the lake, {rough_time(max(1, self.pair_seconds))} "
            f"(signatures {rough_time(max(1, self.signature_seconds))})"
        )


def estimate_near_duplicates(
    num_documents: int,
    text_bytes: int,
    *,
    threshold: float = THRESHOLD,
    num_perm: int = NUM_PERM,
    memory_bytes: int = 1 << 30,
    threads: int | None = None,
) -> Prediction:
    """Predict a full build over this many documents and bytes of UTF-8 text.

    ``memory_bytes`` and ``threads`` are those of ``near_duplicate_pairs``; what does not fit is spilled.
    """
    cores = num_threads(threads)
    bands = bands_for(threshold, num_perm).bands
    tables = num_documents * (DOCUMENT_TABLE_BYTES + bands * BAND_BYTES)
    signatures = num_documents * num_perm * 4
    shingles = int(text_bytes * CANDIDATE_SHARE * SHINGLE_SHARE)
    working = min(memory_bytes, tables + signatures + shingles)
    return Prediction(
        num_documents=num_documents,
        text_bytes=text_bytes,
        peak_memory_bytes=PROCESS_BYTES + num_documents * SET_BYTES + working,
        temporary_bytes=tables + signatures + shingles,
        lake_bytes=int(num_documents * (32 + 4 * bands + PAIRS_PER_DOCUMENT * PAIR_BYTES)),
        signature_seconds=text_bytes / (SIGNATURES_RATE * cores),
        pair_seconds=text_bytes / (PAIRS_RATE * cores),
    )


def _size(num_bytes: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:,.0f} {unit}" if unit in ("bytes", "kB", "MB") else f"{num_bytes:,.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:,.1f} TB"
