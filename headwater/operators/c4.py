"""C4: what its cleaning finds on a page, and the page without it."""

from __future__ import annotations

import pyarrow as pa

from headwater.errors import UnknownName, UsageError
from headwater.kernels.c4 import COUNTS, VARIANTS, Variant, c4_counts
from headwater.operators.registry import operator, struct_array

STATS = pa.struct([pa.field(f"c4_{name}", pa.int64()) for name in COUNTS])
_SOURCE = (
    "C4 (JMLR 21/140, 2.2); tensorflow_datasets' c4_utils.py; datatrove 0.10.1, dolma 1.2.1, DCLM (code)"
)


@operator(
    name="c4_stats",
    version=1,
    inputs={"text": pa.large_string()},
    output=STATS,
    parameters={"variant": "datatrove", "min_words": 0},
    source=_SOURCE,
)
def c4_stats(text: pa.Array, *, variant: str, min_words: int) -> pa.Array:
    """What C4's cleaning drops and keeps of each page, counted in lines.

    A line is dropped for the first reason that holds, in this order: ``long_word`` (over 1,000 characters),
    ``unterminated`` (no ``. ! ? "`` at its end, or an ellipsis), ``few_word`` (fewer than the variant's 3 or
    5 words; ``min_words`` overrides), ``lorem_ipsum``, ``javascript``, ``curly_bracket``, ``policy``. Lorem
    ipsum and a curly bracket drop the page. ``sentences`` and ``kept_chars`` are of what remains.
    ``paragraphs``: lines of at least 200 characters (mC4). ``variant``: ``datatrove`` (an apostrophe ends a
    line too), ``tfds`` (the original code), ``dclm``, ``dolma`` (a line may have several reasons, and curly
    brackets and lorem ipsum count wherever they stand). Sentences are spaCy's sentencizer's.
    """
    counts, _ = c4_counts(text, _variant(variant), _words(variant, min_words), clean=False)
    return struct_array(STATS, {f"c4_{name}": count for name, count in counts.items()})


@operator(
    name="c4_clean",
    version=1,
    inputs={"text": pa.large_string()},
    output=pa.large_string(),
    parameters={"variant": "datatrove", "min_words": 0},
    source=_SOURCE,
)
def c4_clean(text: pa.Array, *, variant: str, min_words: int) -> pa.Array:
    """The page without the lines that ``c4_stats`` counts as dropped, without ``[1]`` and ``[edit]``.

    A new text: write it to a text table of its own with ``parent_ids``, and measure it there. Lines of a
    page that C4 would drop as a whole (see ``c4_stats``) are left out like the others; a page that keeps
    no line becomes ``''``. The ``dolma`` variant drops nothing but lines with a reason.
    """
    how = _variant(variant)
    _, cleaned = c4_counts(text, how, _words(variant, min_words))
    return cleaned


def _variant(name: str) -> Variant:
    if name not in VARIANTS:
        raise UnknownName.of("variant", name, VARIANTS, where="operator c4_stats")
    return VARIANTS[name]


def _words(variant: str, given: int) -> int:
    if given < 0:
        raise UsageError(f"min_words must be at least 0, got {given}")
    return given or VARIANTS[variant].min_words
