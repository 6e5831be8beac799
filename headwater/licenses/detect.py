"""License evidence of files: tags, notices and texts, found in windows of the file and judged once each.

Work is done once per *distinct* window: a corpus has few notices and many files that carry them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from headwater.kernels.licenses import Windows, notice_windows
from headwater.kernels.xxh3 import digest_array
from headwater.licenses.declared import canonical
from headwater.licenses.expressions import count, covered, join
from headwater.licenses.judge import NOTHING, Found, Verdict, judge
from headwater.licenses.notices import CC_VERSION, FACTS, SHORTER, SPDX_TAG, VERSIONS
from headwater.licenses.rules import RULES
from headwater.licenses.schemas import EVIDENCE
from headwater.licenses.texts import texts_in

HEAD_BYTES, TAIL_BYTES = 6_144, 4_096
"""Where a mention counts: further in, "BSD license" is what the code talks about."""
LIST_CHARS = 2_600
"""A window longer than any single notice (pam's "BSD, alternatively GPL" has 1,900): a list of licenses."""
_CHARS_OF_NOTICE = 20_000
"""Only so much of a window is read for notices; a longer window is a license text or a list of many."""

_REMEMBERED = 200_000
_seen: dict[bytes, Verdict] = {}
"""Verdicts by the xxh3-128 of the window's words: batches of a corpus carry the same notices."""


class Evidence(NamedTuple):
    """One file's evidence: the fields of :data:`EVIDENCE`, in their order."""

    spdx: str | None = None
    detector: str | None = None
    confidence: float = 0.0
    first_line: int | None = None
    last_line: int | None = None
    is_part: bool = False
    refers: bool = False
    num_licenses: int = 0
    disagree: bool = False


def evidence(text: pa.Array) -> pa.StructArray:
    """:data:`EVIDENCE` for each file of a text array without nulls."""
    windows = notice_windows(text)
    verdicts = verdicts_of(windows.text)
    tags = _tags(text)
    sizes = pa.compute.binary_length(text).to_numpy(zero_copy_only=False)
    by_row: dict[int, list[int]] = {}
    for place, row in enumerate(windows.row.tolist()):
        if verdicts[place] is not NOTHING:
            by_row.setdefault(row, []).append(place)
    files = [Evidence()] * len(text)
    for row in {*by_row, *tags}:
        files[row] = _file(windows, verdicts, by_row.get(row, []), tags.get(row), int(sizes[row]))
    columns = [pa.array([file[i] for file in files], field.type) for i, field in enumerate(EVIDENCE)]
    return pa.StructArray.from_arrays(columns, fields=list(EVIDENCE))


def _file(
    windows: Windows,
    verdicts: Sequence[Verdict],
    places: list[int],
    tag: tuple[str, int, int] | None,
    size: int,
) -> Evidence:
    """One file's evidence from its windows and tags."""
    near = [p for p in places if windows.start[p] < HEAD_BYTES or windows.end[p] > size - TAIL_BYTES]
    by_kind = {
        kind: [p for p in near if verdicts[p].detector == kind] for kind in ("mention", "name", "reference")
    }
    strong = [p for p in places if verdicts[p].detector in ("notice", "text")]
    refers = bool(by_kind["reference"])
    if tag is not None:
        expression, first, last = tag
        disagree = any(not covered(str(verdicts[p].spdx), expression) for p in strong)
        return Evidence(expression, "spdx_tag", 1.0, first, last, False, refers, count(expression), disagree)
    # The GNU texts end with notices for others to use.
    whole = [p for p in strong if verdicts[p].detector == "text" and "GPL-" in str(verdicts[p].spdx)]
    chosen = whole or strong
    is_part = bool(chosen) and not set(chosen) & set(near)
    if is_part or not chosen:
        chosen = [*by_kind["mention"], *chosen] or by_kind["name"]
        is_part = is_part and not by_kind["mention"]
    if not chosen:
        place = next(iter(by_kind["reference"]), None)
        if place is None:
            return Evidence()
        first, last = int(windows.first_line[place]), int(windows.last_line[place])
        return Evidence(None, "reference", verdicts[place].confidence, first, last, refers=True)
    distinct = list(dict.fromkeys(str(verdicts[p].spdx) for p in chosen))
    said = join(distinct)
    return Evidence(
        said,
        verdicts[chosen[0]].detector,
        min(verdicts[p].confidence for p in chosen),
        int(windows.first_line[chosen[0]]),
        int(windows.last_line[chosen[0]]),
        is_part,
        refers,
        count(said),
        len(distinct) > 1,
    )


# ---------------------------------------------------------------- windows


def verdicts_of(windows: pa.Array) -> list[Verdict]:
    """The verdict on each window; judged once per distinct text, and remembered."""
    encoded = windows.dictionary_encode()
    distinct = pl.from_arrow(encoded.dictionary)
    assert isinstance(distinct, pl.Series)
    keys = digest_array(encoded.dictionary).to_pylist()
    judged = [_seen.get(key) for key in keys]
    new = [place for place, verdict in enumerate(judged) if verdict is None]
    if len(_seen) > _REMEMBERED:
        _seen.clear()
    for place, found in zip(new, facts_of(distinct.gather(new)), strict=True):
        judged[place] = _seen[keys[place]] = judge(found)
    return [judged[place] or NOTHING for place in encoded.indices.to_pylist()]


def facts_of(windows: pl.Series) -> list[Found]:
    """The facts of each distinct window."""
    if not len(windows):
        return []
    texts = texts_in(windows.to_arrow().cast(pa.large_string()))
    frame = pl.DataFrame({"w": windows.str.head(_CHARS_OF_NOTICE)})
    short = pl.col("w")
    for pattern, to in SHORTER:
        short = short.str.replace_all(pattern, to)
    frame = frame.with_columns(w=short)
    patterns = {**FACTS, **{rule.key: rule.patterns for rule in RULES}}
    names = list(patterns)
    flags = frame.select(
        pl.col("w").str.contains("|".join(several)).alias(name) for name, several in patterns.items()
    )
    gnu = frame.select(
        *(
            pl.coalesce(pl.col("w").str.extract(p, 1) for p in both).alias(kind)
            for kind, both in VERSIONS.items()
        ),
        pl.coalesce(pl.col("w").str.extract(p, 1) for p in CC_VERSION).alias("cc"),
    )
    matrix = flags.to_numpy()
    lengths = windows.str.len_bytes().to_list()
    rows = gnu.rows()
    found = []
    for i in range(len(windows)):
        facts = frozenset(names[k] for k in np.flatnonzero(matrix[i]).tolist())
        found.append(Found(facts, rows[i][:4], rows[i][4], texts[i], lengths[i] > LIST_CHARS))
    return found


# ---------------------------------------------------------------- tags


def _tags(text: pa.Array) -> dict[int, tuple[str, int, int]]:
    """File -> (expression, first line, last line) of its SPDX-License-Identifier tags."""
    column = pl.from_arrow(text)
    assert isinstance(column, pl.Series)
    rows = np.flatnonzero(column.str.contains("SPDX-License-Identifier", literal=True).to_numpy()).tolist()
    found: dict[int, tuple[str, int, int]] = {}
    if not rows:
        return found
    some = column.gather(rows)
    values = some.str.extract_all(SPDX_TAG).to_list()
    offsets = some.str.find("SPDX-License-Identifier", literal=True).to_list()
    for row, matches, offset, one in zip(rows, values, offsets, some, strict=True):
        expressions = [e for e in (tag_expression(match) for match in matches) if e]
        if expressions:
            line = one.encode()[:offset].count(b"\n") + 1
            found[row] = (join(list(dict.fromkeys(expressions))) or "", line, line)
    return found


@functools.lru_cache(maxsize=16_384)
def tag_expression(match: str) -> str | None:
    """The SPDX expression of one tag line, without what closes the comment behind it; None if it is none."""
    value = match.split("SPDX-License-Identifier:", 1)[-1].strip()
    for closer in ("*/", "-->", "--%>", "#}", "*)", '"', "'", "`", "\\n", "|#", "}}", ";", "%>"):
        value = value.split(closer, 1)[0]
    value = value.strip().rstrip("#*/-.,")
    return canonical(value.strip())
