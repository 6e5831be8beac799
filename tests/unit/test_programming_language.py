"""Programming languages by name and content, on unit cases and on the files of this machine."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.kernels.code import SYNTAX
from headwater.languages.programming import HOW, detect, languages
from headwater.languages.rules import CONTENT, SHARED
from headwater.operators import operator, register_all

ROOT = Path(__file__).parents[2]


def found(*files: tuple[str, str]) -> list[tuple[str | None, str | None, float | None]]:
    paths, texts = zip(*files, strict=True)
    rows = operator("programming_language")(pa.array(paths), pa.array(texts)).to_pylist()
    return [(row["language"], row["how"], row["confidence"]) for row in rows]


def test_tables_agree() -> None:
    names = {language.name for language in languages()}
    assert len(names) == len(languages()) >= 200
    assert {language for language, _, _ in CONTENT} <= names
    for extension, (rules, default) in SHARED.items():
        assert extension == extension.lower() and {language for language, _ in rules} <= names
        assert default is None or default in names
    assert {language.syntax for language in languages()} - {None} == {"python", "shell", "c"} <= set(SYNTAX)
    assert {language.type for language in languages()} == {"programming", "markup", "data", "prose"}


@pytest.mark.parametrize(
    ("path", "text", "language", "how"),
    [
        ("a/b/x.py", "", "Python", "extension"),
        ("C:\\src\\X.PY", "", "Python", "extension"),
        ("Makefile", "", "Makefile", "name"),
        ("src/Makefile.in", "", "Makefile", "name"),
        ("CMakeLists.txt", "", "CMake", "name"),
        ("x.html.erb", "", "HTML+ERB", "extension"),
        ("x.py.orig", "", "Python", "extension"),
        ("run", "#!/usr/bin/env -S python3.11 -u\n", "Python", "shebang"),
        ("run", "#! /usr/bin/perl -w\n", "Perl", "shebang"),
        ("run", "#!/usr/bin/env FOO=1 node\n", "JavaScript", "shebang"),
        ("run", '#!/bin/sh\n# \\\nexec tclsh "$0" ${1+"$@"}\n', "Tcl", "shebang"),
        ("run.ts", "#!/usr/bin/env node\n", "TypeScript", "extension"),
        ("x.h", "// -*- C++ -*-\n", "C++", "modeline"),
        ("notes", "# -*- mode: org; coding: utf-8 -*-\n", "Org", "modeline"),
        ("x", "\n\n# vim: set sw=2 ft=ruby :\n", "Ruby", "modeline"),
        ("x", "text\n" * 500 + "# vim: filetype=python\n", "Python", "modeline"),
        ("x.py", "# -*- coding: utf-8 -*-\n", "Python", "extension"),
        ("x.h", "#include <stdio.h>\nint f(void);\n", "C", "extension"),
        ("x.h", "#pragma once\nnamespace a {\nclass B {\npublic:\n};\n}\n", "C++", "extension"),
        ("x.h", "#import <Foundation/Foundation.h>\n@interface A : B\n@end\n", "Objective-C", "extension"),
        ("x.m", "function y = f(x)\n% doc\ny = x;\nend\n", "MATLAB", "extension"),
        ("x.m", "#import <A.h>\n@implementation A\n@end\n", "Objective-C", "extension"),
        ("x.pl", ":- use_module(library(lists)).\nlikes(a, b).\n", "Prolog", "extension"),
        ("x.pl", "use strict;\nmy $x = 1;\n", "Perl", "extension"),
        ("x.t", "use Test::More;\n", "Perl", "extension"),
        ("qt_de.ts", '<?xml version="1.0"?>\n<!DOCTYPE TS>\n<TS/>\n', "XML", "extension"),
        ("x.ts", "export const a: number = 1;\n", "TypeScript", "extension"),
        ("x.md", "# Title\n", "Markdown", "extension"),
        ("x.rst", "Title\n=====\n", "reStructuredText", "extension"),
        ("x.v", "module top(input a);\nendmodule\n", "Verilog", "extension"),
        ("x.v", "Require Import Arith.\nLemma a : b.\nProof. Qed.\n", "Rocq", "extension"),
        ("x.cls", "\\NeedsTeXFormat{LaTeX2e}\n", "TeX", "extension"),
        ("x.inc", "<?php\n", "PHP", "extension"),
        ("x.pro", "QT += core\nSOURCES += a.cpp\n", "QMake", "extension"),
        ("x.d", "main.o: main.c a.h \\\n b.h\n", "Makefile", "extension"),
        ("x.d", "module a.b;\nimport std.stdio;\n", "D", "extension"),
        ("ls.1", ".TH LS 1\n.SH NAME\n", "Roff", "extension"),
        ("libz.so.1", "abc", None, None),
        ("", "<?php echo 1;", "PHP", "content"),
        ("", '{"a": 1, "b": [2]}', "JSON", "content"),
        ("", "package main\n\nimport (\n\t\"fmt\"\n)\n\nfunc main() {\n}\n", "Go", "content"),
        ("", "use std::io;\n\nfn main() {\n    let mut x = 1;\n}\n", "Rust", "content"),
        ("", "import os\n\ndef f(x):\n    return os.path.join(x)\n", "Python", "content"),
        ("", "It was a dark night. Import the goods from there, for example wine: red.\n", None, None),
        ("", "", None, None),
    ],
)  # fmt: skip
def test_one_file(path: str, text: str, language: str | None, how: str | None) -> None:
    assert found((path, text))[0][:2] == (language, how)


def test_confidence_says_by_what() -> None:
    assert [c for _, _, c in found(("x.py", ""), ("x.h", "namespace a {\n"), ("x.h", ""), ("", ""))] == [
        1.0, 0.8, 0.5, None,
    ]  # fmt: skip
    [(_, how, confidence)] = found(("", "<?php"))
    assert how == "content" and 0 < confidence <= 0.8


def sources(limit: int) -> list[tuple[str, str]]:
    """(path, text) of files with an extension of one language, some of each, from installed packages."""
    site = Path(pytest.__file__).parents[1]
    roots = [site, Path("/usr/share/perl"), Path("/usr/share/perl5"), Path("/usr/include"), Path("/usr/share/doc"),
             Path("/usr/share/vim"), Path("/usr/share/cmake-3.25"), Path("/usr/share/nodejs")]  # fmt: skip
    out: list[tuple[str, str]] = []
    counts: dict[str, int] = {}
    for root in roots:
        for path in root.rglob("*") if root.exists() else ():
            suffix = path.suffix.lower()
            if suffix in (".py", ".c", ".cpp", ".js", ".css", ".html", ".json", ".md", ".rst", ".cmake", ".vim",
                          ".sh", ".f90", ".go", ".rb", ".lua") and counts.get(suffix, 0) < limit:  # fmt: skip
                try:
                    text = path.read_text("utf-8")
                except (OSError, UnicodeDecodeError):
                    continue
                if len(text) >= 500:
                    counts[suffix] = counts.get(suffix, 0) + 1
                    out.append((str(path), text))
        if len(out) > 16 * limit:
            break
    return out


def test_content_alone_on_installed_files() -> None:
    """Without their names, files are mostly known, and seldom taken for another language."""
    files = sources(30)
    paths, texts = (pa.array(column, pa.large_string()) for column in zip(*files, strict=True))
    named = detect(paths, texts)
    alone = detect(pa.array([""] * len(files)), texts)
    by_content = [HOW[how] == "content" for how in alone.how if how >= 0]
    assert sum(by_content) > 0.5 * len(files)
    known = languages()
    wrong = [
        (path, known[a].name)
        for (path, _), a, b in zip(files, alone.language, named.language, strict=True)
        if a >= 0 and known[a].name != known[b].name and known[a].type == "programming"
    ]
    right = int((alone.language == named.language).sum())
    assert right >= 0.75 * len(files), (right, len(files))
    assert len(wrong) <= 0.06 * len(files), wrong


def test_prose_is_no_program() -> None:
    texts = [
        path.read_text("utf-8", "replace")
        for path in sorted(Path("/usr/share/doc").glob("*/copyright"))[:300]
    ]
    if not texts:
        pytest.skip("no Debian documentation on this machine")
    result = detect(pa.array([""] * len(texts)), pa.array(texts))
    known = languages()
    programs = [i for i in result.language if i >= 0 and known[i].type == "programming"]
    assert len(programs) <= 0.02 * len(texts)


def test_every_call_form_and_the_model() -> None:
    files = [("x.py", "a = 1"), ("", "<?php"), ("x", ""), (None, "x"), ("x", None)]
    paths, texts = (pa.array(column, pa.large_string()) for column in zip(*files, strict=True))
    op = operator("programming_language")
    expected = op(paths, texts).to_pylist()
    assert expected[3] is expected[4] is None and expected[2]["language"] is None
    con = duckdb.connect()
    register_all(con)
    ids = pa.array(range(5))
    con.register("t", pa.table({"doc_id": ids, "text_hash": ids, "path": paths, "text": texts}))
    sql = "select programming_language(path, text) from t order by doc_id"
    assert [r[0] for r in con.execute(sql).fetchall()] == expected
    frame = pl.DataFrame({"path": [p for p, _ in files], "text": [t for _, t in files]})
    assert frame.select(op.polars("path", "text"))["path"].to_list() == expected
    assert op.apply(pa.record_batch({"path": paths, "text": texts})).column(0).to_pylist() == expected

    source = (ROOT / "sql/models/annotated/languages.sql").read_text("utf-8")
    source = re.sub(r"\{\{ config.*?\}\}", "", source).replace("{{ source('lake', 'documents') }}", "t")
    rows = con.sql(source + " order by doc_id").to_arrow_table().to_pylist()
    assert [r["programming_language"] for r in rows] == ["Python", "PHP", None, None, None]
    described = (ROOT / "sql/models/annotated/languages.yml").read_text("utf-8")
    assert all(f"- name: {column}\n" in described for column in rows[0])
    con.close()


HOSTILE = st.one_of(
    st.text(max_size=120),
    st.text(alphabet="#!/-*: \n.vimft=\0\u202e😀\\", max_size=120),
    st.binary(max_size=120).map(lambda b: b.decode("utf-8", "replace")),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(HOSTILE, HOSTILE), min_size=1, max_size=4))
def test_hostile_files(files: list[tuple[str, str]]) -> None:
    together = found(*files)
    assert together == [found(file)[0] for file in files]
    assert all((language is None) == (how is None) == (c is None) for language, how, c in together)


@pytest.mark.parametrize(
    "text", ["x" * 3_000_000, "\n" * 100_000, "#!" * 500_000, "-*-" * 500_000, "{" * 1_000_000]
)
def test_huge_files(text: str) -> None:
    found(("x", text), (text[:1_000_000], ""))
