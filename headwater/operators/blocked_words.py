"""How often the words of a list occur in a text."""

from __future__ import annotations

import csv
import io
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

from headwater.errors import BadInput, DataMismatch, UsageError
from headwater.kernels.flat import flatten
from headwater.kernels.text import text_counts
from headwater.languages.wordlist import MODES, compiled
from headwater.operators.registry import operator, struct_array

BLOCKED = pa.struct(
    [
        pa.field("num_matches", pa.int64()),
        pa.field("num_entries", pa.int64()),
        pa.field("matches_per_word", pa.float64()),
    ]
)


@operator(
    name="blocked_words",
    version=1,
    inputs={"text": pa.large_string()},
    output=BLOCKED,
    parameters={"words": "", "file": "", "language": "", "digest": "", "mode": "auto"},
    source="C4 (arXiv 1910.10683; c4_utils: whole words, substrings in Japanese, Thai and Chinese)",
)
def blocked_words(
    text: pa.Array, *, words: str, file: str, language: str, digest: str, mode: str
) -> pa.Array:
    """Occurrences of the entries of a list, how many different entries occur, and occurrences per word.

    The list is ``words``, one word or phrase on each line, or a UTF-8 ``file`` of such lines, or a ``.csv``
    with a column ``word`` (and ``language``, when one is named). A ``digest`` (xxh3-128 of the file, 32 hex
    digits) is checked, so that a model's fingerprint, which holds the parameters, names the content.

    Letter case does not count, and white space in a phrase stands for any. An entry stands free: no
    letter, digit, mark or ``_`` before or after it. ``mode``: ``word`` asks that of every entry,
    ``substring`` of none, ``auto`` not where the entry begins or ends in a script without spaces (Han,
    kana, Thai, Lao, Burmese, Khmer). An occurrence inside a longer entry counts too. What matched is not
    returned.
    """
    if mode not in MODES:
        raise UsageError(f"operator blocked_words: mode expected {', '.join(MODES)}, got {mode!r}")
    if bool(words) == bool(file):
        raise UsageError("operator blocked_words: expected either words or file")
    data, offsets = flatten(text)
    counts = compiled(words or _read(file, language, digest), mode).occurrences(data, offsets)
    per_word = counts[0] / np.maximum(text_counts(text)["num_words"], 1)
    return struct_array(
        BLOCKED, {"num_matches": counts[0], "num_entries": counts[1], "matches_per_word": per_word}
    )


def _read(file: str, language: str, digest: str) -> str:
    try:
        words, found = _cached(file, language, Path(file).stat().st_mtime_ns)
    except OSError as error:
        raise BadInput(f"cannot read the word list {file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"the word list {file} is not UTF-8: byte {error.start}") from None
    if digest and digest != found:
        raise DataMismatch(
            f"the word list {file} has the digest {found}, expected {digest}",
            hint="it changed since the digest was written down; look at the change, then write the new one",
        )
    return words


@lru_cache(maxsize=8)
def _cached(file: str, language: str, modified: int) -> tuple[str, str]:  # noqa: ARG001 - part of the key
    raw = Path(file).read_bytes()
    text, digest = raw.decode("utf-8-sig"), xxhash.xxh3_128_hexdigest(raw)
    if not file.endswith(".csv"):
        return text, digest
    rows = list(csv.DictReader(io.StringIO(text)))
    missing = {"word", *(["language"] if language else [])} - set(rows[0] if rows else ())
    if missing:
        raise BadInput(f"the word list {file} has no column {', '.join(sorted(missing))}")
    return "\n".join(row["word"] for row in rows if not language or row["language"] == language), digest
