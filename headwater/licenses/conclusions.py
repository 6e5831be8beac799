"""One license for each document from all that is said of it: by the file, the files around it, its package.

Precedence, best first: the file's SPDX tag; its notice, text or mention; the nearest license file above it;
the declaration; the license file of its package; a license that the file only names. Whatever names a
family without a version ("BSD license, see LICENSE") takes the member of that family that the next source
names. What stands only inside a long file is of a part of it: the license of the rest joins it by AND.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from headwater.licenses.declared import normalize
from headwater.licenses.expressions import join
from headwater.licenses.policy import UNKNOWN, tier

PERMISSIVE = frozenset({"model", "gold", "silver", "bronze", "lead"})

SAID = (
    "license_declared",
    "file_spdx",
    "file_detector",
    "file_is_part",
    "file_disagrees",
    "nearest_spdx",
    "package_spdx",
)
"""What :func:`conclude_said` reads."""

CONCLUDED = pa.schema(
    {
        "license_spdx": pa.string(),
        "license_tier": pa.string(),
        "license_detector": pa.string(),
        "license_conflict": pa.bool_(),
        "license_others": pa.string(),
    }
)
_WEAK = frozenset({"name", "package_license_file"})
"""Sources that contradict nobody: a name may be what the file talks about, and the license file of a package
(NumPy's, say) holds the licenses of all that its wheel bundles."""
_UNSPECIFIED = re.compile(r"LicenseRef-(\w+)-unspecified")


def conclude_said(said: pa.Table, policy: Mapping[str, str]) -> pa.Table:
    """``said`` (distinct rows of :data:`SAID`) with the columns of :data:`CONCLUDED`.

    ``license_others`` names what other sources say, where it differs. ``license_conflict``: two sources
    that the policy knows differ in whether they are permissive, or the file contradicts itself so.
    """
    rows = [_conclude(row, policy) for row in zip(*(said[name].to_pylist() for name in SAID), strict=True)]
    columns = [[row[i] for row in rows] for i in range(len(CONCLUDED))]
    for field, values in zip(CONCLUDED, columns, strict=True):
        said = said.append_column(field, pa.array(values, field.type))
    return said


def _conclude(
    row: tuple[Any, ...], policy: Mapping[str, str]
) -> tuple[str | None, str, str | None, bool, str | None]:
    declared, file, detector, is_part, disagrees, nearest, package = row
    named = detector == "name"  # of what the file talks about, maybe
    sources = [
        (str(detector), None if named else file),
        ("license_file", nearest),
        ("declared", normalize(declared)),
        ("package_license_file", package),
        ("name", file if named else None),
    ]
    said = [(name, spdx) for name, spdx in sources if spdx]
    if not said:
        return None, UNKNOWN, None, False, None
    name, spdx = said[0]
    for _, other in said[1:]:
        spdx = _specified(str(spdx), str(other))
    if is_part and name == detector and len(said) > 1:
        spdx = join([str(said[1][1]), spdx]) or spdx
    tiers = [found for source, one in said if source not in _WEAK and (found := tier(one, policy)) != UNKNOWN]
    conflict = len({found in PERMISSIVE for found in tiers}) > 1
    conflict = conflict or bool(disagrees and not named and _mixed(str(file), policy))
    others = "; ".join(f"{other}: {one}" for other, one in said[1:] if one != spdx)
    return spdx, tier(spdx, policy), name, conflict, others or None


def _specified(spdx: str, other: str) -> str:
    """``spdx`` with families that lack a version replaced by the one member that ``other`` names."""

    def replaced(match: re.Match[str]) -> str:
        members = re.findall(rf"(?<![\w.-]){match[1]}-[\w.-]+", other)
        return members[0] if len(set(members)) == 1 else match[0]

    return _UNSPECIFIED.sub(replaced, spdx)


def _mixed(expression: str, policy: Mapping[str, str]) -> bool:
    names = [word.strip("()") for word in expression.split() if word not in ("AND", "OR")]
    return len({tier(name, policy) in PERMISSIVE for name in names}) > 1
