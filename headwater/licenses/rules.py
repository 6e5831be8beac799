"""Licenses that a name or a sentence tells: patterns as in :mod:`headwater.licenses.notices`."""

from __future__ import annotations

from typing import NamedTuple


class Rule(NamedTuple):
    """Any of ``patterns`` in a window means ``spdx``; a ``*`` at its end stands for a Creative Commons
    version.

    ``strong``: the name of one license, or wording that only its grant has. Else a looser name, which
    counts where nothing strong is found, and near the beginning or end of a file only.
    """

    key: str
    spdx: str
    patterns: tuple[str, ...]
    strong: bool = True


_PERL = "GPL-1.0-or-later OR Artistic-1.0-Perl"

RULES = (
    Rule(
        "apache_2",
        "Apache-2.0",
        (
            r"apache (?:software )?license(?:s)?(?: the license)?(?: version| v)? ?2",
            r"apache org licenses license 2",
            r"apache 2\.?0?\b",
            r"apache2",
            r"apache version 2",
            r"\basl ?2",
            r"licensed to the apache software foundation asf under",
        ),
    ),
    Rule(
        "apache_words",
        "LicenseRef-Apache-unspecified",
        (
            r"apache (?:software )?license",
            r"apache licensed",
            r"under the apache",
        ),
        strong=False,
    ),
    Rule(
        "mpl_2",
        "MPL-2.0",
        (
            r"(?:mozilla public license|\bmpl\b)(?: mpl)?(?: version| v)? ?2",
            r"mozilla org mpl 2",
        ),
    ),
    Rule(
        "mpl_1_1",
        "MPL-1.1",
        (
            r"(?:mozilla public license|\bmpl\b)(?: mpl)?(?: version| v)? ?1\.1",
            r"mozilla org mpl mpl 1\.1",
            r"\bmpl1\.1",
        ),
    ),
    Rule(
        "mpl_1_0",
        "MPL-1.0",
        (r"(?:mozilla public license|\bmpl\b)(?: mpl)?(?: version| v)? ?1\.0",),
    ),
    Rule(
        "mpl_words",
        "LicenseRef-MPL-unspecified",
        (r"mozilla public license",),
        strong=False,
    ),
    Rule(
        "epl_1",
        "EPL-1.0",
        (
            r"(?:eclipse public license|\bepl\b)(?: epl)?(?: version| v)? ?1",
            r"legal epl v10",
        ),
    ),
    Rule(
        "epl_2",
        "EPL-2.0",
        (
            r"(?:eclipse public license|\bepl\b)(?: epl)?(?: version| v)? ?2",
            r"legal epl 2",
        ),
    ),
    Rule(
        "epl_words",
        "LicenseRef-EPL-unspecified",
        (r"eclipse public license",),
        strong=False,
    ),
    Rule(
        "edl",
        "BSD-3-Clause",
        (r"eclipse distribution license",),
    ),
    Rule(
        "cddl_11",
        "CDDL-1.1",
        (
            (
                r"(?:common development and distribution license|cddl)(?: the license| cddl)?(?: version| "
                r"v)? ?1\.1"
            ),
        ),
    ),
    Rule(
        "cddl",
        "CDDL-1.0",
        (
            r"common development and distribution license",
            r"\bcddl (?:v|version|1|license)",
            r"under (?:the )?(?:terms of )?(?:the )?cddl",
        ),
    ),
    Rule(
        "cpl",
        "CPL-1.0",
        (r"common public license",),
    ),
    Rule(
        "artistic_2",
        "Artistic-2.0",
        (
            r"artistic license(?: version)? ?v?2",
            r"artistic 2\.0",
            r"artistic license 2",
        ),
    ),
    Rule(
        "artistic",
        "Artistic-1.0-Perl",
        (
            r"artistic license",
            r"clarified artistic",
        ),
    ),
    Rule(
        "perl",
        _PERL,
        (
            (
                r"same (?:terms|license|licensing terms|terms and conditions|conditions)(?: and "
                r"conditions)? as (?:the )?perl"
            ),
            r"terms as perl",
            r"(?:terms|license) of perl itself",
            r"as perl itself",
            r"perl 5 programming language system",
            r"the terms of the perl",
            r"license perl(?: 5)?\b",
        ),
    ),
    Rule(
        "ruby",
        "Ruby",
        (
            r"same (?:terms|license) as ruby",
            r"ruby s license",
            r"rubys license",
            r"ruby license",
            r"terms as ruby",
        ),
    ),
    Rule(
        "psf",
        "PSF-2.0",
        (
            r"psf license",
            r"python software foundation license",
            r"licensed to psf under",
            r"under (?:the )?psf",
            r"python license",
            r"license to python",
        ),
    ),
    Rule(
        "boost",
        "BSL-1.0",
        (
            r"boost software license",
            r"boost org license 1",
            r"license 1 0 txt",
        ),
    ),
    Rule(
        "unlicense",
        "Unlicense",
        (
            r"free and unencumbered software released into the public domain",
            r"\bunlicense\b",
            r"unlicense org",
        ),
    ),
    Rule(
        "cc0",
        "CC0-1.0",
        (
            r"\bcc0",
            r"creativecommons org publicdomain zero",
            r"creative commons zero",
            r"creative commons public domain dedication",
        ),
    ),
    Rule(
        "blessing",
        "blessing",
        (r"disclaims copyright to this source",),
    ),
    Rule(
        "public_domain",
        "LicenseRef-Public-Domain",
        (
            (
                r"(?:placed|put|released|contributed|dedicated|donated|given|place|release|dedicate|is|are|"
                r"been|code|file|this|considered)(?: \w+){0,6}? (?:in|into|to|under|as)?(?: the)? ?public "
                r"domain"
            ),
            r"^public domain",
            (
                r"public domain (?:software|code|implementation|by|no copyright|work|file|and|version|c|as|"
                r"under|dedication)"
            ),
            r"license public domain",
            r"in the public domain",
            r"no copyright is claimed",
            r"uncopyrighted",
            r"not copyrighted",
            r"disclaims? (?:all |any )?copyright",
        ),
    ),
    Rule(
        "wtfpl",
        "WTFPL",
        (
            r"wtfpl",
            r"do what the fuck you want to",
        ),
    ),
    Rule(
        "beerware",
        "Beerware",
        (r"beer ?ware",),
    ),
    Rule(
        "ofl",
        "OFL-1.1",
        (
            r"sil open font license",
            r"open font license",
        ),
    ),
    Rule(
        "ftl",
        "FTL",
        (
            r"terms of the freetype(?: project)? license",
            r"freetype project license",
            r"freetype license",
        ),
    ),
    Rule(
        "libpng",
        "Libpng",
        (
            r"released under the libpng license",
            r"libpng license",
            r"png h for (?:disclaimer|copyright|conditions)",
        ),
    ),
    Rule(
        "curl",
        "curl",
        (r"licensed as described in the file copying which you should have received",),
    ),
    Rule(
        "vim",
        "Vim",
        (
            r"vim license",
            r"help uganda",
            r"vim is charityware",
        ),
    ),
    Rule(
        "tcl",
        "TCL",
        (r"the authors hereby grant permission to use copy modify distribute and license this software",),
    ),
    Rule(
        "php",
        "PHP-3.01",
        (
            r"php license",
            r"php net license 3",
        ),
    ),
    Rule(
        "zpl",
        "ZPL-2.1",
        (r"zope public license",),
    ),
    Rule(
        "afl",
        "AFL-2.1",
        (r"academic free license",),
    ),
    Rule(
        "osl",
        "OSL-3.0",
        (r"open software license",),
    ),
    Rule(
        "upl",
        "UPL-1.0",
        (r"universal permissive license",),
    ),
    Rule(
        "eupl",
        "EUPL-1.2",
        (
            r"european union public license",
            r"\beupl\b",
        ),
    ),
    Rule(
        "mulan",
        "MulanPSL-2.0",
        (
            r"mulan psl",
            r"mulan permissive",
        ),
    ),
    Rule(
        "ms_pl",
        "MS-PL",
        (
            r"microsoft public license",
            r"\bms pl\b",
        ),
    ),
    Rule(
        "ncsa",
        "NCSA",
        (
            r"university of illinois(?: ncsa)? open source",
            r"illinois open source license",
            r"uiuc license",
        ),
    ),
    Rule(
        "postgresql",
        "PostgreSQL",
        (
            r"postgresql license",
            r"bsd licen[cs]e postgresql",
        ),
    ),
    Rule(
        "cecill",
        "CECILL-2.1",
        (r"\bcecill\b",),
    ),
    Rule(
        "npl",
        "NPL-1.1",
        (r"netscape public license",),
    ),
    Rule(
        "qpl",
        "QPL-1.0",
        (
            r"q public license",
            r"\bqpl\b",
        ),
    ),
    Rule(
        "lppl",
        "LPPL-1.3c",
        (
            r"latex project public license",
            r"\blppl\b",
        ),
    ),
    Rule(
        "apsl",
        "APSL-2.0",
        (r"apple public source license",),
    ),
    Rule(
        "sissl",
        "SISSL",
        (r"sun industry standards source license",),
    ),
    Rule(
        "unicode",
        "Unicode-3.0",
        (
            r"unicode(?: inc)? license",
            r"unicode org (?:copyright|license)",
            r"unicode data files",
        ),
    ),
    Rule(
        "bsd_3_words",
        "BSD-3-Clause",
        (
            r"\bbsd ?(?:license )?3",
            r"3 clause bsd",
            r"three clause bsd",
            r"bsd three clause",
            r"new bsd",
            r"modified bsd",
            r"revised bsd",
            r"3 clause (?:\w+ )?license",
            r"bsd license 3",
            r"licenses bsd 3 clause",
        ),
        strong=False,
    ),
    Rule(
        "bsd_2_words",
        "BSD-2-Clause",
        (
            r"\bbsd ?(?:license )?2",
            r"2 clause (?:free)?bsd",
            r"two clause bsd",
            r"simplified bsd",
            r"bsd two clause",
            r"freebsd license",
            r"freebsd copyright",
            r"2 clause (?:\w+ )?license",
        ),
        strong=False,
    ),
    Rule(
        "bsd_words",
        "LicenseRef-BSD-unspecified",
        (
            (
                r"bsd(?: style| like| type| compatible)? (?:source )?(?:code )?(?:software )?(?:open source "
                r")?licen"
            ),
            r"bsd style",
            r"under (?:the |a )?(?:terms of )?(?:the )?(?:bsd|berkeley)",
            r"license (?:is )?bsd",
            r"bsd copyright",
            r"licensed bsd",
            r"license bsd",
            r"berkeley software license",
            r"berkeley copyright",
            r"bsd terms",
        ),
        strong=False,
    ),
    Rule(
        "mit_words",
        "MIT",
        (
            r"\bmit(?: x11| x| expat| style| like| open source| software)? licen",
            r"under (?:the )?(?:terms of )?(?:the )?(?:mit|x11|expat)\b",
            r"licensed (?:as )?mit",
            r"license mit",
            r"lua license",
            r"mit x11",
            r"licenses mit",
            r"expat license",
            r"x11 license",
            r"terms of (?:the )?mit\b",
            r"\bmit gpl\b",
            r"mit or ",
            r"opensource org licenses mit",
        ),
        strong=False,
    ),
    Rule(
        "isc_words",
        "ISC",
        (
            r"\bisc license",
            r"under (?:the )?isc",
            r"license isc",
            r"licenses isc",
        ),
        strong=False,
    ),
    Rule(
        "zlib_words",
        "Zlib",
        (
            r"zlib license",
            r"zlib libpng license",
            r"zlib style",
            r"under (?:the )?(?:terms of )?(?:the )?zlib",
            r"zlib (?:\w+ )?license",
            r"see copyright notice in zlib",
            r"conditions of distribution and use see copyright notice in zlib",
        ),
        strong=False,
    ),
    Rule(
        "cc_by_sa",
        "CC-BY-SA-*",
        (
            r"creativecommons org licenses by sa",
            r"creative commons attribution share ?alike",
            r"cc by sa",
            r"creative commons by sa",
        ),
    ),
    Rule(
        "cc_by_nc",
        "CC-BY-NC-*",
        (
            r"creativecommons org licenses by nc",
            r"creative commons attribution non ?commercial",
            r"cc by nc",
            r"attribution noncommercial",
        ),
    ),
    Rule(
        "cc_by_nd",
        "CC-BY-ND-*",
        (
            r"creativecommons org licenses by nd",
            r"creative commons attribution no ?deriv",
            r"cc by nd",
        ),
    ),
    Rule(
        "cc_by",
        "CC-BY-*",
        (
            r"creativecommons org licenses by [1-4]",
            r"creative commons attribution (?:[1-4]|license|international|unported|generic)",
            r"cc by [1-4]",
            r"creative commons by [1-4]",
        ),
    ),
    Rule(
        "public_domain_words",
        "LicenseRef-Public-Domain",
        (r"\bpublic domain\b",),
        strong=False,
    ),
    Rule(
        "permissive_words",
        "LicenseRef-Permissive",
        (
            (
                r"you (?:may|can) (?:freely )?(?:use|do) (?:this|it|the|anything|whatever)(?: \w+){0,6} "
                r"(?:you (?:want|like|wish)|for any purpose|freely)"
            ),
            (
                r"(?:freely|free to) (?:use|copy|distribute|used|copied|distributed|modify|be used|"
                r"redistributed)(?: \w+){0,8}"
            ),
            r"free for any (?:use|purpose)",
            (
                r"may be (?:freely )?(?:used|copied|distributed|redistributed|reproduced)(?: \w+){0,6}? "
                r"(?:freely|without restriction|for any purpose)"
            ),
            r"permission to (?:freely )?(?:use|copy|distribute|reproduce)",
            r"permission is (?:hereby )?(?:granted|given)",
            r"no restrictions? on (?:use|the use)",
            r"use (?:it |this )?(?:\w+ )?(?:freely|without restriction)",
        ),
        strong=False,
    ),
)
