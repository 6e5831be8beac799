"""License evidence: tags, notices, texts, web pages; real files; precedence; hostile texts."""

import lzma
import sysconfig
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.kernels.licenses import all_words, notice_windows
from headwater.licenses import load_policy, normalize, tier
from headwater.licenses.conclusions import SAID, conclude_said
from headwater.licenses.detect import tag_expression
from headwater.licenses.expressions import join
from headwater.licenses.nearest import license_of_package, nearest
from headwater.licenses.texts import spdx_texts
from headwater.operators import operator, register_all

POLICY = load_policy()
COMMON = Path("/usr/share/common-licenses")

APACHE = """Licensed under the Apache License, Version 2.0 (the "License");
you may not use this file except in compliance with the License."""
GPL = """This program is free software; you can redistribute it and/or modify
it under the terms of the GNU General Public License as published by
the Free Software Foundation; {}

This program is distributed in the hope that it will be useful,
but WITHOUT ANY WARRANTY; without even the implied warranty of
MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
GNU General Public License for more details."""
LGPL = """This library is free software; you can redistribute it and/or
modify it under the terms of the GNU Lesser General Public
License as published by the Free Software Foundation; either
version 2.1 of the License, or (at your option) any later version.

You should have received a copy of the GNU General Public License along with this program."""
BSD = """Redistribution and use in source and binary forms, with or without
modification, are permitted provided that the following conditions
are met:
1. Redistributions of source code must retain the above copyright
   notice, this list of conditions and the following disclaimer.
2. Redistributions in binary form must reproduce the above copyright
   notice, this list of conditions and the following disclaimer in the
   documentation and/or other materials provided with the distribution.
{}
THIS SOFTWARE IS PROVIDED BY THE REGENTS AND CONTRIBUTORS ``AS IS'' AND
ANY EXPRESS OR IMPLIED WARRANTIES ARE DISCLAIMED."""
ENDORSE = """3. Neither the name of Example, Inc. nor the names of its contributors
   may be used to endorse or promote products derived from this software."""
ADVERTISE = """3. All advertising materials mentioning features or use of this software
   must display the following acknowledgement: This product includes ..."""
MIT = """Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND."""
ISC = """Permission to use, copy, modify, and distribute this software for any
purpose with or without fee is hereby granted, provided that the above
copyright notice and this permission notice appear in all copies."""
ZLIB = """This software is provided 'as-is', without any express or implied warranty.
In no event will the authors be held liable for any damages. Permission is granted to anyone
to use this software for any purpose, including commercial applications."""

NOTICES = [
    (APACHE, "Apache-2.0"),
    (GPL.format("either version 2 of the License, or (at your option) any later version."), "GPL-2.0-or-later"),
    (GPL.format("version 2 of the License."), "GPL-2.0-only"),
    (GPL.format("either version 3 of the License, or (at your option)\nany later version."), "GPL-3.0-or-later"),
    (LGPL, "LGPL-2.1-or-later"),
    (LGPL.replace("Lesser", "Library").replace("2.1", "2"), "LGPL-2.0-or-later"),
    (GPL.replace("General", "Affero General").format("version 3 of the License."), "AGPL-3.0-only"),
    (BSD.format(""), "BSD-2-Clause"),
    (BSD.format(ENDORSE), "BSD-3-Clause"),
    (BSD.format(ADVERTISE), "BSD-4-Clause"),
    (MIT, "MIT"),
    (ISC, "ISC"),
    (ZLIB, "Zlib"),
    ("Distributed under the Boost Software License, Version 1.0.", "BSL-1.0"),
    ("This Source Code Form is subject to the terms of the Mozilla Public License, v. 2.0.", "MPL-2.0"),
    ("are made available under the terms of the Eclipse Public License v1.0", "EPL-1.0"),
    ("it under the terms of the Common Development and Distribution License", "CDDL-1.0"),
    (
        "This library is free software; you can redistribute it and/or modify\nit under the same terms as Perl itself.",
        "GPL-1.0-or-later OR Artistic-1.0-Perl",
    ),
    ("This is free software, under the terms of the Artistic License version 2.0.", "Artistic-2.0"),
    ("This is free and unencumbered software released into the public domain.", "Unlicense"),
    ("This file has been put into the public domain.", "LicenseRef-Public-Domain"),
    ("The author disclaims copyright to this source code.", "blessing"),
    ("Licensed to PSF under a Contributor Agreement.", "PSF-2.0"),
    ("Dual licensed under the MIT or GPL Version 2 licenses.", "GPL-2.0-only OR MIT"),
    ("Use of this source code is governed by a BSD-style\nlicense that can be found in the LICENSE file.", "LicenseRef-BSD-unspecified"),
    ("This work is licensed under https://creativecommons.org/licenses/by-sa/4.0/", "CC-BY-SA-4.0"),
    ("released under the CC0 public domain dedication", "CC0-1.0"),
    (BSD.format(ENDORSE) + "\n\nALTERNATIVELY, this product may be distributed under the terms of\nthe GNU General Public License", "BSD-3-Clause OR LicenseRef-GPL-unspecified"),
    ("Proprietary and confidential. Unauthorized copying of this file is prohibited.", "LicenseRef-Proprietary"),
]  # fmt: skip
MARKS = {
    "plain": ("", "", ""),
    "hash": ("", "# ", ""),
    "c": ("/*\n", " * ", "\n */"),
    "dnl": ("", "dnl ", ""),
    "string": ("s = (\n", '    "', '\\n"'),
    "roff": ("", '.\\" ', ""),
}


def found(*texts: str) -> list[dict[str, object]]:
    return operator("license_evidence")(pa.array(texts, pa.large_string())).to_pylist()


def commented(text: str, mark: str) -> str:
    top, each, end = MARKS[mark]
    tail = end if mark == "string" else ""
    body = "\n".join(f"{each}{line}{tail}".rstrip() for line in text.split("\n"))
    return f"{top}{body}{'' if mark == 'string' else end}\n\nint main(void) {{ return 0; }}\n"


@pytest.mark.parametrize("mark", MARKS)
def test_notices_in_any_comment(mark: str) -> None:
    owner = "Copyright (C) 2019, 2021 Jane Example <jane@example.org>. All rights reserved.\n\n"
    got = found(*(commented(owner + text, mark) for text, _ in NOTICES))
    wrong = [(g["spdx"], spdx) for g, (_, spdx) in zip(got, NOTICES, strict=True) if g["spdx"] != spdx]
    assert wrong == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "def permissions(self): return self.license_key",
        "Copyright 2011 Somebody. All rights reserved.",
        "we do not modify the terms of the polynomial; public static void main",
        "This is not in the public domain.",
    ],
)
def test_nothing_is_said(text: str) -> None:
    assert found(text)[0]["spdx"] is None


@pytest.mark.parametrize(
    ("line", "spdx"),
    [
        ("# SPDX-License-Identifier: MIT", "MIT"),
        ("/* SPDX-License-Identifier: GPL-2.0+ */", "GPL-2.0-or-later"),
        ("// SPDX-License-Identifier: (GPL-2.0 OR BSD-3-Clause)", "(GPL-2.0-only OR BSD-3-Clause)"),
        ("<!-- SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception -->", "Apache-2.0 WITH LLVM-exception"),
        ("SPDX-License-Identifier: LicenseRef-Own", "LicenseRef-Own"),
        ("# SPDX-License-Identifier: not a license at all", None),
        ('x = "SPDX-License-Identifier: MIT"', None),
    ],
)  # fmt: skip
def test_spdx_tags(line: str, spdx: str | None) -> None:
    got = found(f"one\n{line}\nthree\n")[0]
    assert got["spdx"] == spdx
    if spdx:
        assert (got["detector"], got["confidence"], got["first_line"]) == ("spdx_tag", 1.0, 2)


def test_a_tag_wins_and_says_that_the_notice_disagrees() -> None:
    got = found(f"# SPDX-License-Identifier: MIT\n\n{commented(APACHE, 'hash')}")[0]
    assert (got["spdx"], got["disagree"]) == ("MIT", True)
    same = found(f"# SPDX-License-Identifier: Apache-2.0\n\n{commented(APACHE, 'hash')}")[0]
    assert (same["spdx"], same["disagree"]) == ("Apache-2.0", False)


def test_where_and_how_many() -> None:
    filler = "x = compute(y)\n" * 399 + "\n"
    got = found(f"{filler}{commented(MIT, 'hash')}{filler}{commented(LGPL, 'c')}")[0]
    assert got["spdx"] == "MIT AND LGPL-2.1-or-later"
    assert (got["num_licenses"], got["disagree"]) == (2, True)
    assert (got["first_line"], got["last_line"]) == (401, 401 + MIT.count("\n"))
    assert found("\n\nSee the file COPYING for details.\n")[0] == {
        "spdx": None,
        "detector": "reference",
        "confidence": 0.3,
        "first_line": 3,
        "last_line": 3,
        "is_part": False,
        "refers": True,
        "num_licenses": 0,
        "disagree": False,
    }


def test_a_mention_counts_only_near_the_ends() -> None:
    filler = "value = table[index] + offset\n" * 1_000
    assert found(f"# BSD license, see LICENSE\n{filler}")[0]["detector"] == "mention"
    assert found(f"{filler}# BSD license, see LICENSE\n{filler}")[0]["spdx"] is None


def test_every_spdx_text_is_found_in_itself() -> None:
    """Each text of the list, owner's name filled in, gives itself or a license it cannot be told from."""
    names, _, origin = spdx_texts()
    assert origin.startswith("SPDX license list 3.")
    raw = lzma.decompress(
        (Path(spdx_texts.__wrapped__.__code__.co_filename).parent / "spdx-texts.xz").read_bytes()
    )
    texts = dict(line.split("\t", 1) for line in raw.decode().split("\n")[1:])
    long = [name for name in names if 150 < texts[name].count(" ") < 3_000][:150]
    got = found(*(texts[name] for name in long))
    assert sum(g["spdx"] is not None for g in got) >= 0.9 * len(long)
    for name in ("Apache-2.0", "EPL-2.0", "MPL-1.1", "EUPL-1.2", "GPL-2.0-only", "Artistic-2.0", "CDDL-1.0"):
        assert found(texts[name])[0]["spdx"] == name


@pytest.mark.skipif(not COMMON.is_dir(), reason="not a Debian system")
@pytest.mark.parametrize(
    ("name", "spdx"),
    [
        ("Apache-2.0", "Apache-2.0"),
        ("BSD", "BSD-3-Clause"),
        ("GPL-2", "GPL-2.0-only"),
        ("GPL-3", "GPL-3.0-only"),
        ("LGPL-2.1", "LGPL-2.1-only"),
        ("LGPL-3", "LGPL-3.0-only"),
        ("MPL-2.0", "MPL-2.0"),
        ("CC0-1.0", "CC0-1.0"),
        ("GFDL-1.3", "GFDL-1.3-only"),
    ],
)
def test_license_texts_of_this_machine(name: str, spdx: str) -> None:
    got = found((COMMON / name).read_text(encoding="utf-8"))[0]
    assert (got["spdx"], got["detector"]) == (spdx, "text")


def test_real_python_files() -> None:
    site = Path(sysconfig.get_path("purelib"))
    files = {
        "packaging/version.py": "Apache-2.0 OR BSD-2-Clause",
        "pytest/__init__.py": None,
    }
    for name, spdx in files.items():
        text = (site / name).read_text(encoding="utf-8")
        got = str(found(text)[0]["spdx"])
        assert got == str(spdx) or {"Apache-2.0", "LicenseRef-BSD-unspecified"} == set(got.split(" OR "))


def test_equal_notices_of_different_owners_are_one_window() -> None:
    owners = ["Jane Example", "The Widget Authors <x@example.org>", "ACME, Inc. and others"]
    texts = [commented(f"Copyright (c) {2000 + i} {o}\n{MIT}", "c") for i, o in enumerate(owners)]
    windows = notice_windows(pa.array(texts, pa.large_string()))
    assert len(windows.text) == 3 and len(windows.text.unique()) == 1


def test_words_drop_marks_and_keep_versions() -> None:
    text = "/* GPLv2+, v2.0 -- \u201cAS IS\u201d <a@b.c>\n * licensor's\n */\ndnl x\n"
    assert all_words(pa.array([text])).to_pylist() == ["gplv2+ v2.0 as is licensors x"]


def test_a_long_file_is_read_at_both_ends() -> None:
    middle = "freely " * 400_000
    got = found(f"# SPDX-License-Identifier: MIT\n{middle}")[0]
    assert got["spdx"] == "MIT"
    assert found(f"{middle}\n\n{'x = 1' * 20_000}\n\n{APACHE}\n")[0]["spdx"] == "Apache-2.0"


# ---------------------------------------------------------------- web pages


@pytest.mark.parametrize(
    ("html", "spdx", "detector"),
    [
        ('<a rel="license" href="http://creativecommons.org/licenses/by-sa/4.0/">x</a>', "CC-BY-SA-4.0", "rel_license"),
        ("<link rel='license' href='//creativecommons.org/licenses/by/4.0/'>", "CC-BY-4.0", "rel_license"),
        ('<a href="https://creativecommons.org/licenses/by-nc-nd/3.0/" rel="nofollow license">', "CC-BY-NC-ND-3.0", "rel_license"),
        ('<a rel="license" href="https://www.gnu.org/licenses/fdl.html">', "GFDL-1.3-or-later", "rel_license"),
        ('<meta name="dcterms.license" content="https://creativecommons.org/licenses/by/2.5/">', "CC-BY-2.5", "metadata"),
        ('{"@type": "Article", "license": "https://creativecommons.org/licenses/by/3.0/us/"}', "CC-BY-3.0-US", "metadata"),
        ("<p>https://creativecommons.org/publicdomain/zero/1.0/</p>", "CC0-1.0", "link"),
        ("https://creativecommons.org/licenses/by/3.0/fr/ text", "CC-BY-3.0", "link"),
        ('<a rel="license" href="/terms">ours</a>', None, None),
        ("<p>no license here</p>", None, None),
    ],
)  # fmt: skip
def test_web_pages(html: str, spdx: str | None, detector: str | None) -> None:
    got = operator("web_license")(pa.array([html])).to_pylist()[0]
    assert (got["spdx"], got["detector"]) == (spdx, detector)


def test_a_stated_license_wins_over_a_link() -> None:
    page = '<a rel="license" href="http://creativecommons.org/licenses/by/4.0/">'
    page += "photo: http://creativecommons.org/licenses/by-nc/2.0/"
    got = operator("web_license")(pa.array([page, page.replace("rel", "class")])).to_pylist()
    assert (got[0]["spdx"], got[0]["disagree"]) == ("CC-BY-4.0", False)
    assert (got[1]["spdx"], got[1]["disagree"]) == ("CC-BY-4.0 AND CC-BY-NC-2.0", True)


# ---------------------------------------------------------------- conclusions


def concluded(**said: object) -> dict[str, object]:
    row = {name: said.get(name) for name in SAID}
    table = pa.Table.from_pylist([row], schema=pa.schema(
        {name: pa.bool_() if name in ("file_disagrees", "file_is_part") else pa.string() for name in SAID}
    ))  # fmt: skip
    return conclude_said(table, POLICY).to_pylist()[0]


def test_precedence() -> None:
    said: dict[str, object] = {"package_spdx": "ISC"}
    assert concluded(**said)["license_detector"] == "package_license_file"
    said["license_declared"] = "Apache 2.0"
    assert concluded(**said)["license_spdx"] == "Apache-2.0"
    said["nearest_spdx"] = "MIT"
    assert (concluded(**said)["license_spdx"], concluded(**said)["license_detector"]) == (
        "MIT",
        "license_file",
    )
    said |= {"file_spdx": "GPL-3.0-only", "file_detector": "name"}
    assert concluded(**said)["license_spdx"] == "MIT"
    said["file_detector"] = "notice"
    got = concluded(**said)
    assert (got["license_spdx"], got["license_tier"], got["license_conflict"]) == (
        "GPL-3.0-only",
        "copyleft",
        True,
    )
    assert got["license_others"] == "license_file: MIT; declared: Apache-2.0; package_license_file: ISC"


def test_a_family_takes_its_version_from_the_next_source() -> None:
    got = concluded(
        file_spdx="LicenseRef-BSD-unspecified", file_detector="mention", license_declared="BSD-3-Clause"
    )
    assert (got["license_spdx"], got["license_conflict"]) == ("BSD-3-Clause", False)
    either = concluded(
        file_spdx="Apache-2.0 OR LicenseRef-BSD-unspecified",
        file_detector="notice",
        license_declared="Apache-2.0 OR BSD-2-Clause",
    )
    assert either["license_spdx"] == "Apache-2.0 OR BSD-2-Clause"
    two = concluded(
        file_spdx="LicenseRef-BSD-unspecified",
        file_detector="mention",
        license_declared="BSD-3-Clause AND BSD-2-Clause",
    )
    assert two["license_spdx"] == "LicenseRef-BSD-unspecified"


def test_what_stands_inside_a_file_is_of_a_part() -> None:
    filler = "value = table[index] + offset\n" * 1_000
    assert found(f"{filler}\n{commented(MIT, 'c')}\n{filler}")[0]["is_part"]
    assert not found(f"{commented(MIT, 'c')}\n{filler}")[0]["is_part"]
    mixed = found(f"# BSD license, see LICENSE\n{filler}\n{commented(MIT, 'c')}\n{filler}")[0]
    assert (mixed["spdx"], mixed["is_part"]) == ("LicenseRef-BSD-unspecified AND MIT", False)
    part = {"file_spdx": "MIT", "file_detector": "text", "file_is_part": True}
    assert concluded(**part)["license_spdx"] == "MIT"
    assert concluded(**part, license_declared="GPL-3.0-only")["license_spdx"] == "GPL-3.0-only AND MIT"


def test_conflicts_need_two_that_are_known() -> None:
    assert not concluded(license_declared="MIT")["license_conflict"]
    assert not concluded(license_declared="MIT", nearest_spdx="LicenseRef-Odd")["license_conflict"]
    assert not concluded(license_declared="MIT", package_spdx="GPL-3.0-only")["license_conflict"]
    assert concluded(license_declared="GPL", file_spdx="MIT", file_detector="text")["license_conflict"]
    torn = concluded(file_spdx="MIT AND GPL-2.0-only", file_detector="notice", file_disagrees=True)
    assert (torn["license_tier"], torn["license_conflict"]) == ("copyleft", True)
    nothing = concluded()
    assert (nothing["license_spdx"], nothing["license_tier"]) == (None, "unknown")


def test_nearest_license_file() -> None:
    rows = {
        "LICENSE": "MIT",
        "LICENSE.vendored": "GPL-2.0-only",
        "src/a.c": None,
        "src/lib/COPYING": "Zlib",
        "src/lib/b.c": None,
        "src/lib/deep/er/c.c": None,
        "src/library.c": None,
        "src/own.c": "ISC",
    }
    paths = pa.array(list(rows))
    got = nearest(pa.array(["s"] * len(rows)), paths, pa.array(list(rows.values()))).to_pylist()
    assert got == ["MIT", "MIT", "MIT", "Zlib", "Zlib", "Zlib", "MIT", "MIT"]
    assert nearest(pa.array(["t"]), pa.array(["x.c"]), pa.array([None], pa.string())).to_pylist() == [None]


def test_nearest_in_sql_is_nearest_in_polars() -> None:
    """The model's SQL, on the rows above."""
    model = Path(__file__).parents[2] / "sql/models/annotated/license_folders.sql"
    sql = model.read_text(encoding="utf-8").replace("{{ source('lake', 'documents') }}", "documents")
    sql = sql.replace("{{ ref('license_evidence') }}", "evidence")
    paths = ["LICENSE", "LICENSE.vendored", "a.c", "src/lib/COPYING", "src/lib/COPYING.txt", "src/lib/x/b.c"]
    paths += ["src/c.c", "p-1.0.dist-info/licenses/LICENSE"]
    said = ["MIT", "GPL-2.0-only", None, "Zlib", "ISC OR X11", None, None, None]
    ids = list(range(len(paths)))
    con = duckdb.connect()
    con.register("documents", pa.table({"doc_id": ids, "source": ["s"] * len(ids), "path": paths}))
    con.register("evidence", pa.table({"doc_id": ids, "file_spdx": pa.array(said, pa.string())}))
    got = {row[1]: row[3] for row in con.sql(sql).fetchall()}
    con.close()
    both = "(ISC OR X11) AND Zlib"
    assert got == {
        "": "MIT", "src": "MIT", "src/lib": both, "src/lib/x": both, "p-1.0.dist-info/licenses": "MIT",
    }  # fmt: skip


def test_a_permissive_file_whose_twin_carries_a_copyleft_notice() -> None:
    model = Path(__file__).parents[2] / "sql/models/annotated/license_conflicts.sql"
    sql = model.read_text(encoding="utf-8").replace("{{ ref('near_duplicate_pairs') }}", "pairs")
    sql = sql.replace("{{ ref('license_concluded') }}", "concluded")
    sql = sql.replace("{{ var('near_duplicate_threshold') }}", "0.8")
    con = duckdb.connect()
    con.execute(
        "create table pairs as select * from (values (1, 2, 0.9), (1, 3, 0.7), (4, 1, 1.0), (5, 2, 0.9)) t(a, b, similarity)"
    ).fetchall()
    con.execute("""create table concluded as select *, 'lines 1-9' as license_where from (values
        (1, 'MIT', 'silver', 'declared'), (2, 'GPL-2.0-only', 'copyleft', 'notice'),
        (3, 'GPL-2.0-only', 'copyleft', 'notice'), (4, 'GPL-3.0-only', 'copyleft', 'declared'),
        (5, NULL, 'unknown', NULL)) t(doc_id, license_spdx, license_tier, license_detector)""").fetchall()
    rows = con.sql(f"select doc_id, twin, twin_license_spdx, similarity from ({sql})").fetchall()
    con.close()
    assert [(*row[:3], float(row[3])) for row in rows] == [(1, 2, "GPL-2.0-only", 0.9)]


def test_license_file_of_a_package() -> None:
    names = ["x-1.dist-info/licenses/LICENSE", "x-1.dist-info/licenses/LICENSE.vendored"]
    assert license_of_package(names, [MIT, LGPL]) == (names[0], "MIT")
    assert license_of_package(names[:1], ["nothing here"]) is None


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("((MIT))", "silver"),
        ("(MIT OR (GPL-3.0-only AND AGPL-3.0-only)) AND (BSD-3-Clause OR Zlib)", "bronze"),
        ("((MIT AND GPL-2.0-only) OR ISC) AND Apache-2.0", "silver"),
        ("GPL-2.0-only WITH Classpath-exception-2.0 OR MIT", "silver"),
        ("(GPL-3.0-or-later WITH GCC-exception-3.1) AND MIT", "weak-copyleft"),
    ],
)
def test_nested_expressions(expression: str, expected: str) -> None:
    assert tier(expression, POLICY) == expected


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("GPL-2.0+", "GPL-2.0-or-later"),
        ("LGPL-2.1", "LGPL-2.1-only"),
        ("GPL-2.0-with-classpath-exception", "GPL-2.0-only WITH Classpath-exception-2.0"),
        ("MIT OR GPL-3.0", "MIT OR GPL-3.0-only"),
    ],
)
def test_deprecated_ids(old: str, new: str) -> None:
    assert normalize(old) == new


def test_joined_expressions_keep_what_is_not_said_already() -> None:
    assert join(["MIT", "MIT OR GPL-2.0-only"]) == "MIT OR GPL-2.0-only"
    assert join(["MIT OR ISC", "Zlib"]) == "(MIT OR ISC) AND Zlib"
    assert join(["LicenseRef-GPL-unspecified", "GPL-2.0-only"]) == "GPL-2.0-only"
    assert join([]) is None
    assert tag_expression("SPDX-License-Identifier: MIT */ int x;") == "MIT"


# ---------------------------------------------------------------- call forms, and bad input

HOSTILE = [
    "",
    " \t\n" * 1_000,
    "\0" * 1_000,
    "\u202elicense MIT\u202c" * 50,
    "😀👩‍👩‍👧‍👦" * 5_000,
    "x" * 2_000_000,
    "license " * 150_000,
    "gnu\n" * 100_000,
    "<a " * 200_000,
    '<a rel="license ' * 50_000,
    '"license": {' * 50_000,
    "# SPDX-License-Identifier: " + "(" * 100_000,
    "e\u0301 licence \ufeff©\u00a0copyright",
    "\r\nLicense\r\n" * 1_000,
]


@pytest.mark.parametrize("name", ["license_evidence", "web_license"])
def test_call_forms_and_hostile_texts(name: str) -> None:
    op = operator(name)
    texts = [*HOSTILE, None, MIT, '<a rel=license href="https://creativecommons.org/licenses/by/4.0/">']
    values = pa.array(texts, pa.large_string())
    expected = op(values)
    assert expected.is_null().to_pylist() == [text is None for text in texts]
    assert op(values.slice(5, 7)).equals(expected.slice(5, 7))
    backwards = pa.array(range(len(texts) - 1, -1, -1))
    assert op(values.take(backwards)).equals(expected.take(backwards))
    frame = pl.DataFrame({"x": pl.from_arrow(values)})
    assert frame.select(op.polars("x"))["x"].to_arrow().cast(expected.type).equals(expected)
    con = duckdb.connect()
    register_all(con)
    con.register("t", pa.table({"n": range(len(texts)), "x": values}))
    got = con.sql(f"select {name}(x) as y from t order by n").to_arrow_table()["y"].combine_chunks()
    con.close()
    assert got.cast(expected.type).equals(expected)


PIECES = [
    "license",
    "gnu",
    "gpl",
    "version 2",
    "\n",
    "# ",
    "/*",
    "<a rel=license ",
    "href=",
    ">",
    "\0",
    "é",
    "😀",
]
PIECES += [
    "\u202e",
    "SPDX-License-Identifier: MIT\n",
    "permission is hereby granted",
    "copyright",
    "(",
    " OR ",
    "\\n",
]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=8)), max_size=30), max_size=6))
def test_any_text_has_evidence_of_its_own(parts: list[list[str]]) -> None:
    texts = ["".join(part) for part in parts]
    values = pa.array(texts, pa.large_string())
    for name in ("license_evidence", "web_license"):
        together = operator(name)(values)
        alone = [operator(name)(values.slice(i, 1)).to_pylist()[0] for i in range(len(texts))]
        assert together.to_pylist() == alone
    for got, text in zip(found(*texts) if texts else [], texts, strict=True):
        lines = text.count("\n") + 1
        assert got["first_line"] is None or 1 <= got["first_line"] <= got["last_line"] <= lines  # type: ignore[operator]
        assert tier(got["spdx"], POLICY)  # type: ignore[arg-type]
