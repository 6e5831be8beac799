"""The natural language of a text, as a whole and by paragraph."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from headwater.errors import UsageError
from headwater.kernels.flat import flatten
from headwater.kernels.language import paragraphs
from headwater.languages.natural import MAX_BYTES, identify
from headwater.operators.registry import operator, struct_array

LANGUAGE = pa.struct([pa.field("language", pa.string()), pa.field("score", pa.float64())])
SHARES = pa.list_(
    pa.struct(
        [
            pa.field("language", pa.string()),
            pa.field("share", pa.float64()),
            pa.field("num_paragraphs", pa.int64()),
        ]
    )
)
_SOURCE = (
    "lid.176.ftz (fastText, arXiv 1607.01759; CC-BY-SA 3.0); langid (ACL 2012; py3langid 0.4, BSD-3-Clause)"
)


@operator(
    name="language",
    version=1,
    inputs={"text": pa.large_string()},
    output=LANGUAGE,
    parameters={"model": "both", "max_bytes": MAX_BYTES},
    source=_SOURCE,
)
def language(text: pa.Array, *, model: str, max_bytes: int) -> pa.Array:
    """The language (ISO 639-1, else 639-3) and the model's probability for it; null and 0 when unknown.

    ``model``: ``both`` decides by fastText's lid.176 and langid together, and ``score`` is the share of the
    best among all labels; ``lid.176`` is fastText alone and its probability, which published thresholds are
    about; or the path of another fastText model. Unknown are texts of fewer than two letters. Line breaks are
    white space; letters are lower-cased for fastText. Of a text longer than ``max_bytes``, eight pieces of an
    eighth of that are read, evenly spaced from start to end.
    """
    _checked(max_bytes)
    data, offsets = flatten(text)
    found = identify(data, offsets[:-1].copy(), offsets[1:].copy(), model=model, max_bytes=max_bytes)
    return struct_array(LANGUAGE, {"language": pa.array(found.languages, pa.string()), "score": found.scores})


@operator(
    name="paragraph_languages",
    version=1,
    inputs={"text": pa.large_string()},
    output=SHARES,
    parameters={"by": "blank_line", "min_letters": 12, "model": "both", "max_bytes": MAX_BYTES},
    source=_SOURCE,
)
def paragraph_languages(text: pa.Array, *, by: str, min_letters: int, model: str, max_bytes: int) -> pa.Array:
    """Each language's share of a text's letters, by paragraph; the largest share first.

    Paragraphs are separated by blank lines (``by := 'blank_line'``) or are single lines (``'line'``). Those
    of fewer than ``min_letters`` letters count as language null; those of none do not count. A text
    without letters gives an empty list. Each paragraph is read as :func:`language` reads a text.
    """
    _checked(max_bytes)
    if by not in ("blank_line", "line"):
        raise UsageError(f"operator paragraph_languages: by expected blank_line or line, got {by!r}")
    data, offsets = flatten(text)
    rows = len(offsets) - 1
    size = 4 * rows + 1024
    while True:
        owners, starts, ends = (np.empty(size, dtype=np.int64) for _ in range(3))
        count = paragraphs(data, offsets, by == "line", owners, starts, ends)
        if count <= size:
            break
        size = count
    owners, starts, ends = owners[:count], starts[:count], ends[:count]
    found = identify(data, starts, ends, model=model, max_bytes=max_bytes, min_letters=min_letters)
    return _shares(rows, owners, found.languages, found.letters)


def _shares(rows: int, owners: np.ndarray, languages: list[str | None], letters: np.ndarray) -> pa.Array:
    written = letters > 0
    table = pa.table(
        {"row": owners, "language": pa.array(languages, pa.string()), "letters": letters}
    ).filter(pa.array(written))
    groups = table.group_by(["row", "language"]).aggregate([("letters", "sum"), ("letters", "count")])
    groups = groups.sort_by([("row", "ascending"), ("letters_sum", "descending"), ("language", "ascending")])
    row = groups["row"].to_numpy()
    part = groups["letters_sum"].to_numpy()
    whole = np.bincount(row, weights=part, minlength=rows)
    values = struct_array(
        SHARES.value_type,
        {
            "language": groups["language"].combine_chunks(),
            "share": part / whole[row],
            "num_paragraphs": groups["letters_count"].combine_chunks(),
        },
    )
    offsets = np.zeros(rows + 1, dtype=np.int32)
    np.cumsum(np.bincount(row, minlength=rows), out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), values, type=SHARES)


def _checked(max_bytes: int) -> None:
    if max_bytes < 256:
        raise UsageError(f"max_bytes expected at least 256, got {max_bytes}")
