"""National phone numbers of one country, checked by the package phonenumbers (extra ``pii``).

Nothing says that ``030 1234567`` is a phone number but the numbering plan of its country. Candidates come
from a linear-time scan; only they reach the package.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headwater.errors import MissingExtra, UnknownName
from headwater.kernels.pii import PHONE, Spans, settled

if TYPE_CHECKING:
    from types import ModuleType

# A trunk 0, a parenthesis or a digit, then 6 to 14 more digits with single marks between them.
_CANDIDATE = r"[(]?[0-9](?:[ ./()-]{0,2}[0-9]){6,14}"
_SEARCH = re.compile(rb"(?<![0-9A-Za-z_.,/+-])" + _CANDIDATE.encode() + rb"(?![0-9A-Za-z_]|[.,-][0-9])")


def with_national(text: pa.Array, spans: Spans, region: str) -> Spans:
    """``spans`` and the national numbers of ``region`` (ISO 3166, two letters) in ``text``."""
    numbers = _package(region)
    rows, starts, ends = [], [], []
    for row in np.flatnonzero(pc.match_substring_regex(text, _CANDIDATE).to_numpy(zero_copy_only=False)):
        document = text[int(row)].as_buffer().to_pybytes()
        for match in _SEARCH.finditer(document):
            if _valid(numbers, match.group().decode(), region):
                rows.append(int(row))
                starts.append(match.start())
                ends.append(match.end())
    kinds = np.full(len(rows), PHONE, dtype=np.int64)
    return settled(
        np.concatenate([spans.row, np.array(rows, dtype=np.int64)]),
        np.concatenate([spans.kind.astype(np.int64), kinds]),
        np.concatenate([spans.start, np.array(starts, dtype=np.int64)]),
        np.concatenate([spans.end, np.array(ends, dtype=np.int64)]),
    )


def _valid(numbers: ModuleType, candidate: str, region: str) -> bool:
    digits = "".join(c for c in candidate if c.isdigit())
    grouped = len(digits) != len(candidate)
    if (not grouped and not digits.startswith("0")) or len(digits) > 15:
        return False  # a plain integer
    try:
        parsed = numbers.parse(candidate, region)
    except numbers.NumberParseException:
        return False
    return bool(numbers.is_valid_number_for_region(parsed, region))


@lru_cache
def _package(region: str) -> ModuleType:
    try:
        import phonenumbers
    except ImportError as error:
        raise MissingExtra.of("phonenumbers", "pii") from error
    if region not in phonenumbers.SUPPORTED_REGIONS:
        raise UnknownName.of("region", region, phonenumbers.SUPPORTED_REGIONS, where="pii_spans")
    return phonenumbers
