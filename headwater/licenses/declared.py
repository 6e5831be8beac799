"""What a declared license means: an SPDX expression.

The declaration (``license_declared``) is whatever the source says: a PEP 639 expression, a trove
classifier, a word such as ``BSD``, a whole license text. :func:`normalize` turns it into an SPDX
expression only where that is certain. Words that name a family but no version become a
``LicenseRef-…-unspecified``, whose tier is that of the *worst* license the words may mean.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from headwater.licenses.policy import load_policy, tier

MAX_DECLARED_CHARS = 2_000
"""Longest declaration that ingest stores: the full MIT and BSD texts fit (1.1 and 1.5 thousand
characters); a 47,000-character file repeated on each of a package's thousand rows would not be worth it."""

_CONCLUDED = pa.struct({"spdx": pa.string(), "tier": pa.string()})

# Words that carry no meaning once a license is named.
_NOISE = re.compile(
    r"\b(the|licen[sc]es?|licen[sc]ed|version|ver|software|under|terms|of|v(?=\.?\s*\d))\b\.?"
)

_PHRASES = {
    "MIT": "mit|expat|mit expat|expat mit",
    "MIT-0": "mit no attribution mit 0|mit no attribution|mit 0",
    "Apache-2.0": "apache 2.0|apache 2|apache2|apache2.0|apache 2.0 apache 2.0|asl 2.0|asl2|al2",
    "Apache-1.1": "apache 1.1",
    "LicenseRef-Apache-unspecified": "apache|asl",
    "BSD-3-Clause": "bsd 3 clause|3 clause bsd|bsd 3|bsd3|new bsd|modified bsd|revised bsd|bsd new|"
    "new bsd 3 clause|bsd 3 clause new or revised|3 clause new bsd|bsd three clause|three clause bsd",
    "BSD-2-Clause": "bsd 2 clause|2 clause bsd|bsd 2|bsd2|simplified bsd|bsd simplified|two clause bsd",
    "BSD-4-Clause": "bsd 4 clause|4 clause bsd|original bsd",
    "0BSD": "0bsd|bsd zero clause|zero clause bsd 0bsd",
    "LicenseRef-BSD-unspecified": "bsd|bsd style|bsd like|bsd derived",
    "ISC": "isc|isc iscl|iscl",
    "PSF-2.0": "psf 2.0|psf 2|psfl 2.0|python foundation 2",
    "LicenseRef-PSF-unspecified": "psf|psfl|python foundation|python|python psf",
    "MPL-2.0": "mpl 2.0|mpl2.0|mpl 2|mpl2|mozilla public 2.0|mozilla public 2.0 mpl 2.0",
    "MPL-1.1": "mpl 1.1|mozilla public 1.1 mpl 1.1|mozilla public 1.1",
    "LicenseRef-MPL-unspecified": "mpl|mozilla public",
    "EPL-1.0": "epl 1.0|eclipse public 1.0|eclipse public 1.0 epl 1.0",
    "EPL-2.0": "epl 2.0|eclipse public 2.0|eclipse public 2.0 epl 2.0",
    "LicenseRef-EPL-unspecified": "epl|eclipse public",
    "Unlicense": "unlicense|unlicense unlicense",
    "CC0-1.0": "cc0|cc0 1.0|cc0 1.0 universal|cc0 1.0 universal cc0 1.0 public domain dedication",
    "LicenseRef-Public-Domain": "public domain",
    "Zlib": "zlib|zlib libpng",
    "BSL-1.0": "boost 1.0|boost 1.0 bsl 1.0|bsl 1.0",
    "WTFPL": "wtfpl|do what the fuck you want to public",
    "HPND": "hpnd|historical permission notice and disclaimer hpnd",
    "UPL-1.0": "upl|universal permissive upl|universal permissive",
    "PostgreSQL": "postgresql",
    "NCSA": "ncsa|university illinois ncsa open source|university of illinois ncsa open source",
    "Artistic-2.0": "artistic 2.0|artistic 2",
    "LicenseRef-Artistic-unspecified": "artistic",
    "LicenseRef-AFL-unspecified": "afl|academic free afl|academic free",
    "AFL-3.0": "afl 3.0|academic free 3.0",
    "ZPL-2.1": "zpl 2.1|zope public 2.1",
    "LicenseRef-ZPL-unspecified": "zpl|zope public",
    "EUPL-1.2": "eupl 1.2|european union public licence 1.2 eupl 1.2|european union public 1.2 eupl 1.2",
    "LicenseRef-Proprietary": "proprietary|other proprietary|all rights reserved",
    "LicenseRef-Non-Commercial": "free for non commercial use|non commercial",
}
_BY_PHRASE = {phrase: spdx for spdx, phrases in _PHRASES.items() for phrase in phrases.split("|")}

_GNU = re.compile(
    r"(?:gnu )?(?P<kind>lesser general public|library or lesser general public|library general public|"
    r"affero general public|general public|lgpl|agpl|gpl)"
    r"(?: ?v?\.? ?(?P<number>[123](?:\.[01])?))?(?P<later> ?\+| or later| or newer| or above| or any later)?"
    r"(?P<only> only)?(?: (?P<short>[al]?gpl)(?: ?v?(?P<again>[123](?:\.[01])?)(?P<plus>\+| or later)?)?)?"
)
_GNU_NAMES = {"l": "LGPL", "a": "AGPL", "g": "GPL"}

# Texts that one title names for sure: first words, SPDX id, characters of the text itself.
_TITLES = (
    (re.compile(r"apache license version 2\.0, january 2004"), "Apache-2.0", 11_358),
    (re.compile(r"mozilla public license version 2\.0"), "MPL-2.0", 16_725),
    (re.compile(r"gnu general public license version 3, 29 june 2007"), "GPL-3.0-only", 35_149),
    (re.compile(r"gnu general public license version 2, june 1991"), "GPL-2.0-only", 18_092),
    (re.compile(r"gnu lesser general public license version 3, 29 june 2007"), "LGPL-3.0-only", 7_651),
    (re.compile(r"gnu lesser general public license version 2\.1, february 1999"), "LGPL-2.1-only", 26_530),
    (re.compile(r"gnu affero general public license version 3, 19 november 2007"), "AGPL-3.0-only", 34_523),
)
_TEXT_SLACK = 1.15
"""A text this much longer than the license it begins with holds something else too."""
_CUT = re.compile(r" \[… (\d+) characters in all\]$")


def shorten(declared: str) -> str:
    """``declared`` cut to :data:`MAX_DECLARED_CHARS`, with its full length noted at the end."""
    if len(declared) <= MAX_DECLARED_CHARS:
        return declared
    return f"{declared[:MAX_DECLARED_CHARS]} [… {len(declared)} characters in all]"


@functools.lru_cache(maxsize=4_096)
def normalize(license_declared: str | None) -> str | None:
    """The SPDX expression that a declaration certainly means, or None.

    Several classifiers (joined by ``;``), a list or a comma mean *and*: the declaration does not say
    that one may choose, so none is dropped.
    """
    text = (license_declared or "").strip()
    if not text or text.upper() in {"UNKNOWN", "NONE", "N/A", "NOASSERTION", "OTHER"}:
        return None
    if len(text) > 200 or "\n" in text:
        return _from_text(text)
    expression = canonical(text)
    if expression is not None:
        return expression
    if "License ::" in text:
        return _from_classifiers(text)
    return _from_phrase(text) or _from_parts(text)


_OLD_GNU = re.compile(r"\b([AL]?GPL|GFDL)-(\d\.\d)(\+|-with-[\w.-]+)?(?![\w.+-])")
_OLD_EXCEPTIONS = {
    "-with-autoconf-exception": "Autoconf-exception-2.0",
    "-with-bison-exception": "Bison-exception-2.2",
    "-with-classpath-exception": "Classpath-exception-2.0",
    "-with-font-exception": "Font-exception-2.0",
    "-with-GCC-exception": "GCC-exception-2.0",
}


def canonical(text: str) -> str | None:
    """A valid SPDX expression in its usual spelling, or None; ``GPL-2.0+`` as ``GPL-2.0-or-later``."""
    try:
        return _OLD_GNU.sub(_renamed, str(canonicalize_license_expression(text)))
    except (InvalidLicenseExpression, IndexError):  # packaging 26 indexes past the end on some words
        return None


def _renamed(match: re.Match[str]) -> str:
    """The GNU ids that SPDX deprecated in list 3.0 and 2.0rc2."""
    name, rest = f"{match[1]}-{match[2]}", match[3] or ""
    if rest.startswith("-with"):
        exception = _OLD_EXCEPTIONS.get(rest) or _OLD_EXCEPTIONS.get(re.sub(r"-[\d.]+$", "", rest))
        return f"{name}-only WITH {exception}" if exception else match[0]
    return f"{name}-or-later" if rest == "+" else f"{name}-only"


def _key(text: str) -> str:
    text = _NOISE.sub(" ", text.lower())
    text = re.sub(r"[^a-z0-9.+]+", " ", text)
    text = re.sub(r"(?<![0-9])\.|\.(?![0-9])", " ", text)
    return " ".join(text.split())


def _from_phrase(text: str) -> str | None:
    key = _key(text)
    return _BY_PHRASE.get(key) or _from_gnu(key)


def _from_gnu(key: str) -> str | None:
    match = _GNU.fullmatch(key)
    if match is None:
        return None
    kind = match["kind"]
    first = "l" if kind.startswith(("l", "library")) else "a" if kind.startswith("a") else "g"
    number = match["number"] or match["again"]
    if number is None:
        return f"LicenseRef-{_GNU_NAMES[first]}-unspecified"
    number = number if "." in number else f"{number}.0"
    if (first == "l" and number == "2.1") or number in ("1.0", "2.0", "3.0"):
        suffix = "or-later" if match["later"] or match["plus"] else "only"
        return canonical(f"{_GNU_NAMES[first]}-{number}-{suffix}")
    return None


def _from_classifiers(text: str) -> str | None:
    """AND of every classifier that names a license; unknown as soon as one of them is not understood."""
    found: list[str] = []
    for classifier in re.split(r"[;\n]", text):
        name = classifier.split("::")[-1].strip()
        if not name or name in {"OSI Approved", "DFSG approved", "License"}:
            continue
        spdx = _from_phrase(name)
        if spdx is None:
            return None
        found.append(spdx)
    families = {_family(spdx) for spdx in found if not spdx.endswith("-unspecified")}
    exact = [s for s in found if not (s.endswith("-unspecified") and _family(s) in families)]
    return " AND ".join(dict.fromkeys(exact)) or None


def _family(spdx: str) -> str:
    return re.split(r"-", spdx.removeprefix("LicenseRef-"))[0]


def _from_parts(text: str) -> str | None:
    """``Apache 2.0 or MIT``, ``BSD, MIT``: each part must be understood, and the joints all alike."""
    plain = re.sub(r"[()]", " ", text) if "(" not in re.sub(r"\([^()]*\)", "", text) else text
    for joint, operator in ((r"\s+or\s+", " OR "), (r"\s+and\s+|\s*[,&]\s*", " AND ")):
        parts = re.split(joint, plain, flags=re.IGNORECASE)
        if len(parts) > 1:
            spdx = [canonical(part.strip()) or _from_phrase(part) for part in parts]
            if all(spdx) and not any(" OR " in s or " AND " in s for s in spdx if s):
                return operator.join(dict.fromkeys(s for s in spdx if s))
    return None


def _from_text(text: str) -> str | None:
    """A whole license text, when its length leaves no room for another one beside it."""
    cut = _CUT.search(text)
    length = int(cut[1]) if cut else len(text)
    words = re.sub(r"\s+", " ", text).strip()
    start = re.sub(r"[^a-z0-9., ]", "", words[:300].lower())
    for title, spdx, chars in _TITLES:
        if title.match(re.sub(r"\s+", " ", start).strip()) and length <= chars * _TEXT_SLACK:
            return spdx
    if cut or length > 2_500:
        return None
    if "Permission is hereby granted, free of charge, to any person obtaining a copy" in words:
        kept = "The above copyright notice and this permission notice" in words
        return (
            "MIT" if kept and "AS IS" in words and length <= 1_900 and "Redistribution" not in words else None
        )
    if "Redistribution and use in source and binary forms" in words and "AS IS" in words:
        if "Permission is hereby granted" in words or "patent" in words.lower():
            return None
        if "advertising materials" in words:
            return "BSD-4-Clause"
        return "BSD-3-Clause" if re.search(r"[Nn]either the names?", words) else "BSD-2-Clause"
    return None


def conclude(declared: pa.Array | pa.ChunkedArray, policy: Mapping[str, str] | None = None) -> pa.StructArray:
    """``struct(spdx, tier)`` for each declaration; work is done once per distinct value.

    ``spdx`` is null where the declaration is missing or not understood, and ``tier`` is then ``unknown``.
    """
    rules = load_policy() if policy is None else policy
    column = declared.combine_chunks() if isinstance(declared, pa.ChunkedArray) else declared
    if isinstance(column, pa.ChunkedArray):  # combine_chunks of no chunks
        column = pa.array([], pa.string())
    encoded = pc.dictionary_encode(column.cast(pa.string()), null_encoding="encode")
    spdx = [normalize(value) for value in encoded.dictionary.to_pylist()]
    tiers = [tier(value, rules) for value in spdx]
    indices = encoded.indices
    return pa.StructArray.from_arrays(
        [pa.array(spdx, pa.string()).take(indices), pa.array(tiers, pa.string()).take(indices)],
        fields=list(_CONCLUDED),
    )
