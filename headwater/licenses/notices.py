"""What notices say, as patterns over the words of a window (see :mod:`headwater.kernels.licenses`).

Patterns are Rust regular expressions, run by Polars over a column of distinct windows. Words are in lower
case with single spaces; ``license`` is spelled so, and the names of the GNU licenses are shortened first
(``SHORTER``): "under the terms of the gpl as published by the free software foundation version 2 ...".

The wording is that of the licenses themselves (SPDX license list 3.29.0) and of the notices that their
stewards recommend; looser forms were found in the DEV packages of ``benchmarks/debian_licenses.py``.
"""

from __future__ import annotations

SHORTER = (
    (
        r"licence",
        "license",
    ),
    (
        r"~",
        "",
    ),
    (
        (
            r"can be used in projects which are not available under .{0,90}public licenses? .{0,500}?not in "
            r"the public domain"
        ),
        " ",
    ),
    (
        r"not in the public domain",
        " ",
    ),
    (
        r"gives unlimited permission to copy distribute and modify the configure script",
        " ",
    ),
    (
        r"  +",
        " ",
    ),
    (
        (
            r"\b(?:gnu )?(?:lesser|library)(?: or lesser| or library)? (?:gnu )?(?:general )?public "
            r"licen[cs]es?\b"
        ),
        "lgpl",
    ),
    (
        r"\b(?:gnu )?affero (?:gnu )?(?:general )?public licenses?\b",
        "agpl",
    ),
    (
        r"\bgnu (?:general )?public licenses?\b|\bgeneral public licenses?\b|\bgnu (?:copyleft )?license\b",
        "gpl",
    ),
    (
        r"\b(?:gnu )?free documentation license\b",
        "gfdl",
    ),
    (
        r"\bgnu ([al]?gpl|gfdl)",
        "$1",
    ),
    (
        r"\b(lgpl|agpl|gpl)(?: (?:lgpl|agpl|gpl)\b)+",
        "$1",
    ),
    (
        r"\b([al]?gpl)(?: license)? ?(?:version|ver|vers|v)? ?\.?([123])",
        "$1 version $2",
    ),
    (
        r"\b(?:received?|obtain) a copy of the [al]?gpl\b|\bsee the [al]?gpl for more\b",
        " ",
    ),
    (
        (
            r"\bor(?: if you (?:like|wish|prefer))? at your (?:option|choice|discretion) (?:of )?(?:any|a|"
            r"some) (?:later|newer)\b"
        ),
        "or any later",
    ),
)
"""Replacements, one after the other."""

FACTS: dict[str, tuple[str, ...]] = {
    "permission": (
        (
            r"permission is hereby granted,? (?:free of charge )?(?:and without \w+ )?(?:to|for) any person "
            r"obtaining"
        ),
    ),
    "deal": (
        r"deal in (?:the|this) \w+ without restriction",
        r"rights to use copy modify merge publish",
    ),
    "notice_kept": (
        r"copyright notices?(?: s)? and this (?:permission|license) notice",
        r"notice and this permission notice",
        r"shall be included in all copies",
    ),
    "x11": (
        r"except as contained in this notice the names?",
        r"shall not be used in advertising or otherwise to promote",
    ),
    "evil": (r"used for good not evil",),
    "organization": (
        r"any person or organization obtaining a copy of the software and accompanying documentation",
    ),
    "icu": (
        (
            r"provided that the above copyright notices?(?: s)? and this permission notice appear in all "
            r"copies of the software and that both"
        ),
    ),
    "bsd": (
        r"redistribution (?:and|or) use in (?:source|any form|source and binary|source or binary)",
        r"redistribution(?:s)? (?:and use )?(?:of this software )?in source and binary forms",
    ),
    "bsd_source": (
        r"redistributions? (?:of|in) source(?: code| forms?)? must",
        r"source code must retain",
        r"redistributions? of source code (?:or|and) ",
        r"must retain the above copyright",
        r"of source code must reproduce",
    ),
    "bsd_binary": (
        r"binary forms? must reproduce",
        r"reproduce the above copyright",
        r"binary form must",
    ),
    "bsd_endorse": (
        r"neither the names?",
        r"may not be used to endorse",
        r"used to endorse or promote",
        r"not be used to endorse",
        r"endorse or promote products",
    ),
    "bsd_advertising": (
        r"all advertising materials? mentioning",
        r"advertising materials mentioning features",
    ),
    "apache_1": (
        r"redistributions of any form whatsoever must retain",
        r"end user documentation included with the redistribution",
    ),
    "openssl": (
        r"software developed by the openssl project",
        r"openssl and ssleay",
    ),
    "isc": (
        (
            r"permission to use copy modify and(?: or)? distribute this (?:software|code|file|documentation|"
            r"program|\w+)(?: and its documentation)? for any purpose with or without fee is hereby granted"
        ),
    ),
    "isc_kept": (
        r"provided that the above copyright notices?(?: s)? (?:and this permission notice )?appears?",
        r"provided that",
    ),
    "hpnd": (
        (
            r"permission (?:to|is) (?:hereby granted to )?use copy modify (?:and )?(?:or )?(?:sell "
            r")?distribute(?: and sell)?(?: this| the| it)"
        ),
        r"permission to use copy modify distribute and sell",
        r"permission to copy modify use and distribute",
        r"permission to use copy modify and(?: or)? distribute (?:this|the|any)",
        (
            r"permission to (?:freely )?(?:use|copy) (?:copy |use )?(?:and )?(?:modify |distribute )?(?:and "
            r")?(?:distribute |modify )?.{0,60}(?:is|are) (?:hereby |freely )?granted"
        ),
    ),
    "zlib": (
        (
            r"permission is granted to anyone to use this software for any purpose including commercial "
            r"applications"
        ),
        r"altered source versions must be plainly marked",
        (
            r"provided as is without any express or implied warranty in no event (?:will|shall) the "
            r"authors? be held"
        ),
    ),
    "fsf_unlimited": (r"gives unlimited permission to (?:copy|distribute|use)",),
    "fsfap": (r"copying and distribution of this file with or without modification are permitted",),
    "choice": (
        r"dual licen[cs]",
        r"licensed under both ",
        r"multi licen",
        r"tri licen",
        r"triple licen",
        r"disjunctive",
        r"\balternatively\b",
        r"at your (?:option|choice|discretion)",
        r"your choice",
        r"under (?:the )?(?:terms of )?either",
        r"either (?:the |of the |under )?(?:\w+ ){0,6}(?:license|lgpl|gpl|bsd|mit)(?: version [\d.]+)? or",
        (
            r"(?:license|gpl|lgpl|bsd|mit|artistic|mpl|epl|apache|expat)s?(?: version)?(?: v?[\d.]+\+?)? or "
            r"(?:any later (?:version )?or )?(?:at your option |under )?(?:the )?(?:terms of )?(?:the "
            r")?(?:\w+ ){0,2}(?:license|gpl|lgpl|bsd|mit|artistic|mpl|apache|epl)\b"
        ),
        r"one of the following licenses",
        r"any of the following licenses",
        r"one of (?:the|two|three) licenses",
        r"choose (?:which|one|either|to)",
    ),
    "later": (
        r"\bany later",
        r"\bor (?:any )?(?:later|newer|above|greater|higher)\b",
        r"and later",
        r"later version",
        r"version [123](?:\.[01])?\+",
        r"\b[23]\+",
    ),
    "two_or_three": (
        (
            r"version 2(?:\.[01])? (?:or|and)(?: at your option)?(?: under)? (?:the )?(?:gpl )?(?:version |"
            r"v )?3"
        ),
        r"at your option version 3",
        r"version 2 of the license or at your option (?:version )?3",
        r"version 2 or (?:version )?3",
        r"version 2\.1 (?:or|and) version 3",
    ),
    "autoconf": (
        r"configure script generated by autoconf",
        r"configuration script generated by autoconf",
    ),
    "bison": (
        r"bison parser skeleton",
        r"part or all of the bison",
    ),
    "libtool": (r"built using (?:gnu )?libtool",),
    "classpath": (
        r"linking this library statically or dynamically",
        r"independent modules to produce an executable",
        r"as a special exception .{0,200}link(?:ing)? ",
    ),
    "gcc": (r"gcc runtime library exception",),
    "llvm": (r"llvm exception",),
    "refers": (
        (
            r"see (?:the )?(?:accompanying |included |enclosed )?(?:files? )?(?:named )?(?:copying|license|"
            r"copyright)"
        ),
        r"(?:license|copying|copyright|license terms|license txt|copying lib)(?: txt| md| rst| html)? file",
        r"(?:in|the) files? (?:named |called )?(?:license|copying|copyright|notice)",
        r"see license",
        r"found in the license",
        r"see copyright notice in",
        (
            r"same (?:license|licensing terms|terms) as (?:the )?(?:\w+ ){1,3}?(?:package|project|software|"
            r"distribution|program|library)"
        ),
        r"license terms for information",
        r"in the root (?:of|directory)",
        r"(?:terms|license) in (?:the )?(?:license|copying|readme|copyright)",
    ),
    "proprietary": (
        r"proprietary and confidential",
        r"confidential and proprietary",
        r"unauthorized (?:copying|reproduction|use|distribution)",
        (
            r"may not be (?:copied|reproduced|distributed|used)(?: \w+){0,8} without (?:the )?(?:express |"
            r"prior )?(?:written )?(?:consent|permission|authorization)"
        ),
        r"trade secrets?",
    ),
    "non_commercial": (
        r"non ?commercial (?:use|purposes?) only",
        r"(?:for|solely) (?:\w+ )?non ?commercial",
        r"not (?:be used )?for commercial",
        r"commercial use (?:is )?(?:prohibited|not)",
    ),
    "lgpl_3": (r"\blgpl version 3 29 june 2007",),
    "grant": (
        r"licensed (?:under|to|as|with|according)",
        r"under (?:the )?(?:same )?terms",
        r"terms of",
        r"(?:distributed|released|available|provided|published|use) under",
        r"under (?:the|a|an|either) ",
        r"free software",
        r"redistribut",
        r"subject to",
        r"governed by",
        r"covered by",
        r"hereby",
        r"may (?:be )?(?:use|copy|distribute)",
        r"permission",
        r"same terms",
        r"placed in",
        r"into the public",
        r"in the public",
        r"disclaims?",
        r"license (?:is )?(?:mit|gpl|bsd|apache|perl|lgpl)",
        r"not copyrighted",
    ),
    "gpl_terms": (
        r"terms of (?:the )?gpl",
        r"under (?:the )?(?:terms of )?(?:the )?gpl",
        r"gpl version",
        r"version [123][.\d]* (?:\w+ ){0,6}of the gpl",
        r"(?:covered|governed|licensed|protected|distributed|released|license) (?:\w+ ){0,3}gpl",
        r"gpl (?:license|as published|or |ed )",
        r"gpl d",
    ),
    "lgpl_terms": (
        r"terms of (?:the )?lgpl",
        r"under (?:the )?(?:terms of )?(?:the )?lgpl",
        r"lgpl version",
        r"version [123][.\d]* (?:\w+ ){0,6}of the lgpl",
        r"(?:covered|governed|licensed|protected|distributed|released|license) (?:\w+ ){0,3}lgpl",
        r"lgpl (?:license|as published|or |ed )",
    ),
    "agpl_terms": (
        r"terms of (?:the )?agpl",
        r"under (?:the )?(?:terms of )?(?:the )?agpl",
        r"agpl version",
        r"licensed (?:\w+ ){0,3}agpl",
    ),
    "gpl": (r"\bgpl\b",),
    "lgpl": (r"\blgpl\b",),
    "agpl": (r"\bagpl\b",),
    "gfdl": (r"\bgfdl\b",),
}
"""Fact -> what says so, any of these. ``headwater/licenses/judge.py`` combines the facts of a window."""

_AFTER = (
    r"(?: as)?(?: published by)?(?: the)?(?: free software foundation| fsf)?(?: inc)?(?: [a-z]+){0,6}? "
    r"(?:versions? |v ?)([123](?:\.[0-3])?)(?:\.0)?\b"
)
_BEFORE = (
    r"\bversion ([123](?:\.[0-3])?)(?:\.0)?\+?(?: (?:only|alone|exclusively))?"
    r"(?: or(?: \w+){0,4} later(?: versions?)?)? of (?:the )?(?:terms of )?(?:the )?"
)
VERSIONS = {kind: (rf"\b{kind}\b{_AFTER}", rf"{_BEFORE}{kind}\b") for kind in ("gpl", "lgpl", "agpl", "gfdl")}
"""GNU licenses: the version after the name, and before it; the first number found counts."""

CC_VERSION = (
    r"(?:creativecommons org licenses [a-z ]+|creative commons [a-z ]+|cc by[a-z ]* )([1-4]\.\d)",
    r"creative ?commons.{0,120}?([1-4]\.\d)",
)

SPDX_TAG = (
    r"(?m)^[^A-Za-z0-9\n\"'`]{0,24}(?:dnl |rem |REM )?[^A-Za-z0-9\n\"'`]{0,8}"
    r"SPDX-License-Identifier:[ \t]*[^\n\r]{1,300}"
)
"""A tag that begins a line, comment marks aside; not one within a string."""
