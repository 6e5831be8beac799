"""The license a web page states: ``rel=license``, metadata, and Creative Commons links."""

from __future__ import annotations

import functools
import re

import numpy as np
import polars as pl
import pyarrow as pa

from headwater.licenses.expressions import join
from headwater.licenses.schemas import WEB_EVIDENCE
from headwater.licenses.texts import spdx_texts

MAX_LINKS = 64
"""Links looked at in a page and form: a gallery has one for each picture."""

# What states a license, surest first: elements or links, whose URLs are then read.
_ELEMENT = r"(?i)<(?:a|link|area)(?-u:\b)[^>]*(?-u:\b)rel\s*=\s*[\"']?[^\"'>=]*(?-u:\b)license(?-u:\b)[^>]*>"
_META = (
    r"(?i)<meta(?-u:\b)[^>]*(?:dc\.rights|dcterms\.license|dcterms\.rights|[\"']license[\"'])[^>]*>",
    r"(?i)\"license\"\s*:\s*(?:\[\s*)?(?:\{[^{}]{0,400}\}|\"[^\"]{0,400}\")",
)
_LINK = r"(?i)https?://(?:www\.)?creativecommons\.org/(?:licenses|publicdomain)/[^\s\"'<>]{1,80}"
_FORMS = (("rel_license", (_ELEMENT,), 0.95), ("metadata", _META, 0.9), ("link", (_LINK,), 0.6))

_CC = re.compile(
    r"creativecommons\.org/(?:licenses|publicdomain)/([a-z+-]+)/(\d\.\d)(?:/([a-z]{2,3})(?![a-z]))?",
    re.IGNORECASE,
)
_OTHERS = (
    (r"apache\.org/licenses/license-2\.0", "Apache-2.0"),
    (r"opensource\.org/licenses?/mit", "MIT"),
    (r"opensource\.org/licenses?/bsd-3-clause", "BSD-3-Clause"),
    (r"opensource\.org/licenses?/bsd-2-clause", "BSD-2-Clause"),
    (r"opensource\.org/licenses?/apache-2\.0", "Apache-2.0"),
    (r"mozilla\.org/(?:[a-z-]+/)?mpl/2\.0", "MPL-2.0"),
    (r"gnu\.org/(?:licenses|copyleft)/(?:old-licenses/)?fdl(?:-1\.3)?", "GFDL-1.3-or-later"),
    (r"gnu\.org/(?:licenses|copyleft)/(?:old-licenses/)?agpl(?:-3\.0)?", "AGPL-3.0-only"),
    (r"gnu\.org/(?:licenses|copyleft)/(?:old-licenses/)?lgpl-2\.1", "LGPL-2.1-only"),
    (r"gnu\.org/(?:licenses|copyleft)/(?:old-licenses/)?lgpl(?:-3\.0)?", "LGPL-3.0-only"),
    (r"gnu\.org/(?:licenses|copyleft)/(?:old-licenses/)?gpl-2\.0", "GPL-2.0-only"),
    (r"gnu\.org/(?:licenses|copyleft)/(?:old-licenses/)?gpl(?:-3\.0)?", "GPL-3.0-only"),
    (r"opendatacommons\.org/licenses/by\b", "ODC-By-1.0"),
    (r"opendatacommons\.org/licenses/odbl", "ODbL-1.0"),
    (r"opendatacommons\.org/licenses/pddl", "PDDL-1.0"),
    (r"unlicense\.org", "Unlicense"),
)
_OTHER = tuple((re.compile(pattern, re.IGNORECASE), spdx) for pattern, spdx in _OTHERS)


def evidence(html: pa.Array) -> pa.StructArray:
    """:data:`WEB_EVIDENCE` for each page of a text array without nulls."""
    rows = len(html)
    column = pl.from_arrow(html)
    assert isinstance(column, pl.Series)
    out: dict[str, list[object]] = {
        "spdx": [None] * rows,
        "detector": [None] * rows,
        "confidence": [0.0] * rows,
        "url": [None] * rows,
        "disagree": [False] * rows,
    }
    left = np.flatnonzero(column.str.contains("(?i)licen[cs]e|creativecommons").to_numpy())
    for name, patterns, confidence in _FORMS:
        if not len(left):
            break
        some = column.gather(left)
        lists = [some.str.extract_all(pattern).list.head(MAX_LINKS).to_list() for pattern in patterns]
        done = np.zeros(len(left), dtype=np.bool_)
        for i, places in enumerate(zip(*lists, strict=True)):
            found = [named for place in places for text in place if (named := license_of(text))]
            if not found:
                continue
            names = list(dict.fromkeys(spdx for spdx, _ in found))
            values = (join(names), name, confidence, found[0][1], len(names) > 1)
            for key, value in zip(out, values, strict=True):
                out[key][left[i]] = value
            done[i] = True
        left = left[~done]
    return pa.StructArray.from_arrays(
        [pa.array(out[field.name], field.type) for field in WEB_EVIDENCE], fields=list(WEB_EVIDENCE)
    )


@functools.lru_cache(maxsize=16_384)
def license_of(text: str) -> tuple[str, str] | None:
    """(SPDX id, URL) of the first license URL in an element or link; None when it names none that we know."""
    match = _CC.search(text)
    if match:
        spdx = creative_commons(match[1].lower(), match[2], (match[3] or "").upper())
        return (spdx, f"https://{match[0].lower()}") if spdx else None
    for pattern, spdx in _OTHER:
        found = pattern.search(text)
        if found:
            return spdx, f"https://{found[0].lower()}"
    return None


def creative_commons(kind: str, version: str, place: str = "") -> str | None:
    """SPDX id of ``licenses/by-nc/3.0/us``; a port without an id of its own has the unported one."""
    known = _known()
    if kind in ("zero", "mark"):
        return "CC0-1.0" if kind == "zero" else "CC-PDM-1.0"
    parts = kind.split("-")
    if parts == ["publicdomain"]:
        return "CC-PDDC"
    order = [part for part in ("by", "nc", "nd", "sa") if part in parts]
    if not order or set(parts) - {"by", "nc", "nd", "sa"}:
        return None
    name = f"CC-{'-'.join(order).upper()}-{version}"
    candidates = (f"{name}-{place}", name)
    return next((one for one in candidates if one in known), None)


@functools.cache
def _known() -> frozenset[str]:
    return frozenset(spdx_texts()[0])
