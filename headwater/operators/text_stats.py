"""The counts and shares that Gopher, C4 and FineWeb rules ask for, in one pass."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headwater.kernels.text import text_counts
from headwater.operators.registry import operator, struct_array

Counts = npt.NDArray[np.int64]

_COUNTS = (
    "text_bytes",
    "num_chars",
    "num_words",
    "num_lines",
    "max_line_length",
    "stop_word_count",
)
_SHARES = (
    "mean_word_length",
    "mean_line_length",
    "alphanumeric_share",
    "alphabetic_share",
    "digit_share",
    "whitespace_share",
    "alpha_word_share",
    "hash_word_ratio",
    "ellipsis_word_ratio",
    "symbol_word_ratio",
    "newline_word_ratio",
    "blank_line_share",
    "bullet_line_share",
    "ellipsis_line_share",
    "terminal_punctuation_line_share",
    "short_line_share",
    "duplicate_line_share",
    "duplicate_line_char_share",
)
STATS = pa.struct(
    [pa.field(name, pa.int64()) for name in _COUNTS] + [pa.field(name, pa.float64()) for name in _SHARES]
)


@operator(
    name="text_stats",
    version=1,
    inputs={"text": pa.large_string()},
    output=STATS,
    source="Gopher (arXiv 2112.11446, A1.1); C4 (arXiv 1910.10683); FineWeb (arXiv 2406.17557, 3.6)",
)
def text_stats(text: pa.Array) -> pa.Array:
    """Counts and shares of a text; shares of nothing are 0.

    Characters are code points; words are split at white space; lines at line feeds. Line shares (bullet,
    ellipsis, terminal_punctuation, short, duplicate) are of the lines that are not blank:

    * ``bullet``: the first character is one of ``•‣◦⁃▪●○-*``; ``ellipsis``: it ends in ``...`` or ``…``;
    * ``terminal_punctuation``: it ends in one of ``. ! ? " ' ” ’ … 。 ！ ？``;
    * ``short``: at most 30 characters;
    * ``duplicate``: equal to an earlier line; ``duplicate_line_char_share`` is of all but line feeds.

    ``hash_word_ratio`` and ``ellipsis_word_ratio``: ``#`` and ellipses for each word; ``symbol_word_ratio``
    is the larger. ``stop_word_count``: how many of Gopher's eight (the, be, to, of, and, that, have, with)
    occur. ``blank_line_share`` and ``mean_line_length`` are over all lines.
    """
    n = text_counts(text)
    words, chars, lines = n["num_words"], n["num_chars"], n["num_lines"]
    written = lines - n["blank_lines"]
    hashes, ellipses = _share(n["hashes"], words), _share(n["ellipses"], words)
    return struct_array(
        STATS,
        {
            "text_bytes": pc.binary_length(text),
            "num_chars": chars,
            "num_words": words,
            "num_lines": lines,
            "max_line_length": n["max_line_length"],
            "stop_word_count": n["stop_words"],
            "mean_word_length": _share(n["word_chars"], words),
            "mean_line_length": _share(n["line_chars"], lines),
            "alphanumeric_share": _share(n["alnum_chars"], chars),
            "alphabetic_share": _share(n["alpha_chars"], chars),
            "digit_share": _share(n["digit_chars"], chars),
            "whitespace_share": _share(n["space_chars"], chars),
            "alpha_word_share": _share(n["alpha_words"], words),
            "hash_word_ratio": hashes,
            "ellipsis_word_ratio": ellipses,
            "symbol_word_ratio": np.maximum(hashes, ellipses),
            "newline_word_ratio": _share(n["newlines"], words),
            "blank_line_share": _share(n["blank_lines"], lines),
            "bullet_line_share": _share(n["bullet_lines"], written),
            "ellipsis_line_share": _share(n["ellipsis_lines"], written),
            "terminal_punctuation_line_share": _share(n["terminal_lines"], written),
            "short_line_share": _share(n["short_lines"], written),
            "duplicate_line_share": _share(n["duplicate_lines"], written),
            "duplicate_line_char_share": _share(n["duplicate_line_chars"], chars - n["newlines"]),
        },
    )


def _share(part: Counts, of: Counts) -> npt.NDArray[np.float64]:
    # One division of two integers: the same double on every machine.
    return np.divide(part, of, out=np.zeros(len(part)), where=of > 0)
