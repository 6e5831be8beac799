"""From the facts found in one notice window to an SPDX expression, a detector and a confidence."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple

from headwater.licenses.expressions import family
from headwater.licenses.notices import VERSIONS
from headwater.licenses.rules import RULES, Rule
from headwater.licenses.texts import Text, variants

STRONG, VERSIONLESS, MENTION, NAME, REFERENCE = 0.95, 0.85, 0.6, 0.4, 0.3
TITLE = 0.9
"""Confidence: wording that only a grant has; a GNU license without its version; a license named as the
file's; a license named; only the name of a file that holds the license. Our own scale: an order, not a
probability."""

_RULES = {rule.key: rule for rule in RULES}
_GNU = ("GPL-", "LGPL-", "AGPL-", "GFDL-")
_PERL = _RULES["perl"].spdx
_NO_CHOICE = frozenset({"LicenseRef-Public-Domain", "FSFULLR", "FSFAP", "LicenseRef-Permissive"})
"""Never one side of an OR: they are said of a part of the file, beside its license."""
_MIT_LIKE = frozenset(
    {"MIT", "X11", "MIT-0", "JSON", "BSL-1.0", "ICU", "ISC", "0BSD", "HPND", "NCSA", "curl"}
)
_BSD_LIKE = frozenset(
    {"BSD-1-Clause", "BSD-2-Clause", "BSD-3-Clause", "BSD-4-Clause", "Apache-1.1", "OpenSSL"}
)


class Verdict(NamedTuple):
    """What one window says; ``spdx`` is None where it only points to another file, or says nothing."""

    spdx: str | None
    detector: str | None  # text, notice, mention, name, reference
    confidence: float


class Found(NamedTuple):
    """The facts of one window; equal facts have an equal verdict."""

    facts: frozenset[str]
    versions: tuple[str | None, ...]  # of gpl, lgpl, agpl, gfdl
    cc_version: str | None
    texts: tuple[Text, ...]
    is_list: (
        bool  # so long that it is the licenses of several parts; an "or" in it is not between all of them
    )


NOTHING = Verdict(None, None, 0.0)


@functools.lru_cache(maxsize=65_536)
def judge(found: Found) -> Verdict:
    """The verdict on one window."""
    facts = found.facts
    texts = {name: share for name, share, _ in found.texts}
    whole = any(is_long for _, _, is_long in found.texts)
    if "lgpl_3" in facts:  # its text; the SPDX list has the GPL's, which it amends, in the same text
        texts.pop("GPL-3.0-only", None)
        texts["LGPL-3.0-only"], whole = TITLE, True
    ids: dict[str, float] = {}
    _permissive_texts(facts, ids)
    if not whole:
        _gnu(found, ids)
    for rule in _strong(facts, texts, whole=whole):
        ids.setdefault(_with_version(rule.spdx, found.cc_version), STRONG)
    ids = _tidy(ids)
    detector = "notice"
    if "grant" not in facts:  # "the CDDL lexer"
        detector, ids = "name", dict.fromkeys(ids, NAME)
    for name, share in texts.items():
        detector = "text"
        if _PERL not in ids and not _explained(name, ids):
            ids[name] = share
    if not ids:
        _mentions(found, ids)
        detector = "name" if NAME in ids.values() else "mention"
    elif "choice" in facts and not texts:
        _mentions(found, ids, beside=True)  # "the BSD-style license in LICENSE, or the GPLv2 in COPYING"
    if not ids:
        return Verdict(None, "reference", REFERENCE) if "refers" in facts else NOTHING
    return Verdict(_expression(ids, found, whole=whole), detector, min(ids.values()))


def _strong(facts: frozenset[str], texts: Mapping[str, float], *, whole: bool) -> list[Rule]:
    """The rules whose names stand for a grant. A long text names other licenses, too: beside one, only the
    name of the text itself counts, or that of a variant ("Apache License 2.0" over Pixar's wording).
    """
    named = [rule for key, rule in _RULES.items() if key in facts and rule.strong]
    if not whole:
        return named
    ids = {rule.spdx for rule in named}
    meant: set[str] = set()
    for text in texts:
        meant |= {text} if text in ids else ids & variants().get(text, frozenset())
    return [rule for rule in named if rule.spdx in meant or rule.key == "perl"]


def _expression(ids: dict[str, float], found: Found, *, whole: bool) -> str:
    """The ids as one expression: a choice between licenses, and all that is beside the choice."""
    facts = found.facts
    exception = _exception(facts)
    names = [_with_exception(name, exception) for name in ids]
    beside = [name for name in names if name in _NO_CHOICE]
    offered = [name for name in names if name not in _NO_CHOICE]
    versions = {"GPL-2.0-only", "GPL-3.0-only"} == set(offered)
    choice = "choice" in facts and not whole and not found.is_list
    if len(offered) > 1 and (versions or choice):
        offered = [" OR ".join(offered)]
    parts = [*offered, *beside]
    return " AND ".join(f"({part})" if " OR " in part and len(parts) > 1 else part for part in parts)


def _permissive_texts(facts: frozenset[str], ids: dict[str, float]) -> None:
    """MIT, BSD, ISC and zlib, told by their clauses: owners' names stand within their texts."""
    if "organization" in facts:
        ids["BSL-1.0"] = STRONG
    elif "permission" in facts:
        if "evil" in facts:
            ids["JSON"] = STRONG
        elif "icu" in facts:
            ids["ICU"] = STRONG
        elif "bsd_source" in facts and "bsd" not in facts:
            ids["NCSA"] = STRONG
        elif "deal" in facts and "notice_kept" not in facts:
            ids["MIT-0"] = STRONG
        else:
            ids["X11" if "x11" in facts and "bsd" not in facts else "MIT"] = STRONG
    if "bsd" in facts:
        if "openssl" in facts:
            ids["OpenSSL"] = STRONG
        elif "apache_1" in facts:
            ids["Apache-1.1"] = STRONG
        elif "bsd_advertising" in facts:
            ids["BSD-4-Clause"] = STRONG
        elif "bsd_endorse" in facts:
            ids["BSD-3-Clause"] = STRONG
        elif "bsd_binary" in facts:
            ids["BSD-2-Clause"] = STRONG
        elif "bsd_source" in facts:
            ids["BSD-1-Clause"] = STRONG
        else:
            ids["LicenseRef-BSD-unspecified"] = MENTION
    if "isc" in facts:
        ids["ISC" if "isc_kept" in facts else "0BSD"] = STRONG
    elif "hpnd" in facts and not ids:
        ids["HPND"] = STRONG
    if "zlib" in facts:
        ids["Zlib"] = STRONG
    if "fsfap" in facts:
        ids["FSFAP"] = STRONG
    if "fsf_unlimited" in facts:
        ids["FSFULLR"] = STRONG


def _gnu(found: Found, ids: dict[str, float]) -> None:
    facts = found.facts
    suffix = "or-later" if "later" in facts else "only"
    for kind, version in zip(VERSIONS, found.versions, strict=True):
        named = f"{kind}_terms" in facts or (kind in facts and version is not None)
        if kind == "gfdl":
            named = "gfdl" in facts
        if not named:
            continue
        name = kind.upper()
        if version is None:
            # "under the terms of the GNU LGPL", and the GPL that the LGPL's notice mentions
            if kind != "gpl" or not ({"lgpl_terms", "agpl_terms"} & facts):
                ids[f"LicenseRef-{name}-unspecified"] = VERSIONLESS
            continue
        number = version if "." in version else f"{version}.0"
        if kind == "gfdl":
            number = number if number in ("1.1", "1.2", "1.3") else "1.3"
        elif number not in ("1.0", "2.0", "2.1", "3.0") or (kind != "lgpl" and number == "2.1"):
            number = number[0] + ".0"
        if "two_or_three" in facts and number in ("2.0", "2.1") and suffix == "only":
            ids[f"{name}-{number}-only"] = ids[f"{name}-3.0-only"] = STRONG
        else:
            ids[f"{name}-{number}-{suffix}"] = STRONG


def _with_version(spdx: str, version: str | None) -> str:
    if not spdx.endswith("*"):
        return spdx
    return spdx[:-1] + (version if version in ("1.0", "2.0", "2.5", "3.0", "4.0") else "4.0")


def _tidy(ids: dict[str, float]) -> dict[str, float]:
    """Leave out what another entry already says in other words."""
    if "Unlicense" in ids or "CC0-1.0" in ids or "blessing" in ids:
        ids.pop("LicenseRef-Public-Domain", None)
    if any(" OR " in name for name in ids):  # same terms as Perl, which the notice then spells out
        for name in ("Artistic-1.0-Perl", "LicenseRef-GPL-unspecified", "GPL-1.0-or-later"):
            ids.pop(name, None)
    if "Artistic-2.0" in ids:
        ids.pop("Artistic-1.0-Perl", None)
    if "NCSA" in ids:
        ids.pop("BSD-3-Clause", None)
    if "FTL" in ids:
        ids.pop("HPND", None)
    if "TCL" in ids or "Libpng" in ids:
        ids.pop("HPND", None)
    if "CC-BY" in "".join(ids) and "LicenseRef-Public-Domain" in ids:
        ids.pop("LicenseRef-Public-Domain")
    return ids


def _explained(text: str, ids: dict[str, float]) -> bool:
    """Whether the clauses already told the license whose whole text was found."""
    if text in ids or not variants().get(text, frozenset()).isdisjoint(ids):
        return True
    if text.startswith("BSD-") or text in _BSD_LIKE:
        return bool(_BSD_LIKE & set(ids))
    if text.startswith(("MIT", "X11", "HPND", "ISC", "NTP", "SMLNJ")) or text in _MIT_LIKE:
        return bool(_MIT_LIKE & set(ids))
    if text.lower().startswith(("zlib", "libpng")):
        return bool({"Zlib", "Libpng"} & set(ids))
    family = text.split("-")[0]
    if text.startswith((*_GNU, "CC-")):
        return False
    return any(name.split("-")[0] == family for name in ids)


def _mentions(found: Found, ids: dict[str, float], *, beside: bool = False) -> None:
    """Add licenses that are only named; ``beside``: others of which the notice offers the choice."""
    facts = found.facts
    known = {family(name) for name in ids}
    for key, rule in _RULES.items():
        if key in facts and not rule.strong and family(rule.spdx) not in known:
            ids[rule.spdx] = MENTION
    if "BSD-3-Clause" in ids or "BSD-2-Clause" in ids:
        ids.pop("LicenseRef-BSD-unspecified", None)
    for name in ("LicenseRef-Permissive", "LicenseRef-Public-Domain"):
        if (len(ids) > 1 or beside) and ids.get(name) == MENTION:
            del ids[name]
    if beside:
        return
    for kind in ("agpl", "lgpl", "gpl"):
        if kind in facts and not any("GPL" in name for name in ids):
            ids[f"LicenseRef-{kind.upper()}-unspecified"] = MENTION if "grant" in facts else NAME
    if "non_commercial" in facts:
        ids.clear()
        ids["LicenseRef-Non-Commercial"] = MENTION
    elif "proprietary" in facts and not ids:
        ids["LicenseRef-Proprietary"] = MENTION


def _exception(facts: frozenset[str]) -> tuple[str, ...]:
    if "autoconf" in facts:
        return ("GPL", "Autoconf-exception-generic")
    if "bison" in facts:
        return ("GPL", "Bison-exception-2.2")
    if "libtool" in facts:
        return ("GPL", "Libtool-exception")
    if "gcc" in facts:
        return ("GPL", "GCC-exception-3.1")
    if "llvm" in facts:
        return ("Apache", "LLVM-exception")
    if "classpath" in facts:
        return ("GPL", "Classpath-exception-2.0")
    return ()


def _with_exception(name: str, exception: tuple[str, ...]) -> str:
    if exception and name.startswith((exception[0], "L" + exception[0])) and " " not in name:
        return f"{name} WITH {exception[1]}"
    return name
