"""The signals that Gopher's, FineWeb's, Dolma's and DCLM's rules for web text ask for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.errors import UnknownName
from headwater.kernels.repetition import DOLMA
from headwater.kernels.web import VARIANTS, web_counts
from headwater.operators.registry import operator, struct_array

Counts = npt.NDArray[np.int64]

_COUNTS = ("gopher_words", "gopher_stop_words", "gopher_distinct_stop_words", "max_repeats")
_SHARES = (
    "gopher_word_length",
    "gopher_hash_ratio",
    "gopher_ellipsis_ratio",
    "gopher_symbol_ratio",
    "gopher_alpha_word_share",
    "gopher_bullet_line_share",
    "gopher_ellipsis_line_share",
    "gopher_dup_line_share",
    "gopher_dup_line_char_share",
    "gopher_dup_paragraph_share",
    "gopher_dup_paragraph_char_share",
    *(f"gopher_top_{n}_gram_share" for n in (2, 3, 4)),
    *(f"gopher_dup_{n}_gram_share" for n in range(5, 11)),
    "fineweb_terminal_line_share",
    "fineweb_short_line_share",
    "fineweb_dup_line_char_share",
    "fineweb_newline_ratio",
    "removed_word_share",
)
STATS = pa.struct(
    [pa.field(name, pa.int64()) for name in _COUNTS] + [pa.field(name, pa.float64()) for name in _SHARES]
)


@operator(
    name="web_stats",
    version=1,
    inputs={"text": pa.large_string()},
    output=STATS,
    parameters={"variant": "datatrove"},
    source="Gopher (arXiv 2112.11446, A1.1); datatrove 0.10.1, dolma 1.2.1, DCLM (code)",
)
def web_stats(text: pa.Array, *, variant: str) -> pa.Array:
    """What Gopher's quality and repetition rules and FineWeb's look at; shares of nothing are 0.

    ``variant`` names an implementation, and each field is measured as that one does (words, lines, what
    counts as a copy, what a share is of; docs/reference/rules.md): ``datatrove`` (words are spaCy's tokens),
    ``dclm``, ``dolma`` (its gopher_v1; ``dolma_v2``), ``paper`` (words between white space). The FineWeb
    fields differ between variants only in what a word is. ``max_repeats``: how often a phrase of at most 13
    words follows itself (Dolma's tagger asks this of a tokenizer's tokens; null elsewhere).
    ``removed_word_share``: words in lines that RefinedWeb's line filters take out (DCLM; null elsewhere).
    """
    if variant not in VARIANTS:
        raise UnknownName.of("variant", variant, VARIANTS, where="operator web_stats")
    how = VARIANTS[variant]
    n = web_counts(text, how)
    tokens, chars = n["tokens"], n["chars"]
    hashes, ellipses = _share(n["hashes"], tokens), _share(n["ellipses"], tokens)
    dolma = how.counting == DOLMA
    symbols = np.maximum(hashes, ellipses)
    length = _share(n["word_chars"], n["length_words"])
    line_of = paragraph_of = grams_of = chars
    if dolma:
        symbols, length = _share(n["symbols"], tokens), n["median_twice"] / 2
        line_of = grams_of = n["ngram_of"]
    elif variant != "datatrove":
        line_of, grams_of = n["dup_line_of"], n["ngram_of"]
        if variant == "dclm":
            symbols = _share(n["hashes"] + n["ellipses"], tokens)
    if variant != "datatrove":
        paragraph_of = n["dup_paragraph_of"]
    return struct_array(
        STATS,
        {
            "gopher_words": n["words"],
            "gopher_stop_words": n["stop_words"],
            "gopher_distinct_stop_words": n["distinct_stop_words"],
            "gopher_word_length": length,
            "gopher_hash_ratio": hashes,
            "gopher_ellipsis_ratio": ellipses,
            "gopher_symbol_ratio": symbols,
            "gopher_alpha_word_share": _share(n["alpha_words"], tokens),
            "gopher_bullet_line_share": _share(n["bullet_lines"], n["quality_lines"]),
            "gopher_ellipsis_line_share": _share(n["ellipsis_lines"], n["quality_lines"]),
            "gopher_dup_line_share": _share(n["dup_lines"], n["lines"]),
            "gopher_dup_line_char_share": _share(n["dup_line_chars"], line_of),
            "gopher_dup_paragraph_share": _share(n["dup_paragraphs"], n["paragraphs"]),
            "gopher_dup_paragraph_char_share": _share(n["dup_paragraph_chars"], paragraph_of),
            **{f"gopher_top_{k}_gram_share": _share(n[f"top_{k}"], grams_of) for k in (2, 3, 4)},
            **{
                f"gopher_dup_{k}_gram_share": _share(n[f"dup_{k}"], n[f"of_{k}"] if dolma else grams_of)
                for k in range(5, 11)
            },
            "fineweb_terminal_line_share": _share(n["terminal_lines"], n["written_lines"]),
            "fineweb_short_line_share": _share(n["short_lines"], n["written_lines"]),
            "fineweb_dup_line_char_share": _share(n["fineweb_dup_chars"], chars - n["newlines"]),
            "fineweb_newline_ratio": _share(n["newlines"], tokens),
            "max_repeats": n["max_repeats"] if dolma else pa.nulls(len(text), pa.int64()),
            "removed_word_share": _share(n["removed_words"], n["words"])
            if variant == "dclm"
            else pa.nulls(len(text), pa.float64()),
        },
    )


def _share(part: Counts, of: Counts) -> npt.NDArray[np.float64]:
    # One division of two integers: the same double as Python's, on every machine.
    return np.divide(part, of, out=np.zeros(len(part)), where=of > 0)
