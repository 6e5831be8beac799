"""Every registered operator through every call form, and the registry's refusals."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

from headwater.errors import BadInput, UnknownName, UsageError
from headwater.operators import Operator, get, operator, register_all, registered
from headwater.operators import registry as registry_module

NASTY = [
    "",
    None,
    "\0",
    "a\0b c d e f",
    "😀 smile 👩‍👩‍👧‍👦",
    "one\r\ntwo\r\n\r\n",
    "\n\n\n",
    "e\u0301te\u0301 E\u0301",
    "word " * 200_000,
    "x" * 1_000_000,
    "漢字かな交じり文。テスト",
    None,
]


def real_texts() -> list[str]:
    root = Path(pytest.__file__).parent.parent / "_pytest"
    return [path.read_text(encoding="utf-8") for path in sorted(root.rglob("*.py"))[:40]]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.ByteLevelBPETokenizer()
    made.train_from_iterator(
        ["def f(x): return x\n" * 20], vocab_size=300, min_frequency=1, show_progress=False
    )
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    made.save(str(path))
    return str(path)


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect(config={"threads": 2})
    yield connection
    connection.close()


ELSEWHERE = {
    "blocked_words", "fasttext_classifier", "programming_language", "rouge_l", "text_classifier", "vocabulary",
}  # fmt: skip
"""They take a list, a model or two columns; their own tests run them through every call form."""

BUILT_IN = sorted(set(registered()) - ELSEWHERE)


def test_built_in_operators_are_registered() -> None:
    assert set(registered()) > ELSEWHERE
    for declared in registered().values():
        assert declared.source and declared.__doc__ and declared.version >= 1
        assert get(declared.name) is operator(declared.name) is declared


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_call_form_agrees(
    name: str, con: duckdb.DuckDBPyConnection, tokenizer: str, tmp_path: Path
) -> None:
    op = operator(name)
    texts = [*NASTY, *real_texts()]
    if name == "tokens":  # quadratic on one endless word
        texts = [t if t is None or len(t) < 900_000 else t[:5_000] for t in texts]
    settings = {"tokenizer": tokenizer} if name == "tokens" else {}
    column = next(iter(op.inputs))
    if pa.types.is_large_binary(op.inputs[column]):
        values = pa.array(
            [None if t is None else xxhash.xxh3_128_digest(t.encode()) for t in texts], pa.binary(16)
        )
    else:
        values = pa.array(texts, pa.large_string())
    expected = op(values, **settings)
    assert expected.type == op.output and len(expected) == len(texts)
    assert expected.is_null().to_pylist() == [t is None for t in texts]

    # Arrow in any layout
    chunked = pa.chunked_array([values.slice(0, 3), values.slice(3, 0), values.slice(3)])
    assert op(chunked, **settings).equals(expected)
    assert op(values.slice(5, 20), **settings).equals(expected.slice(5, 20))
    if pa.types.is_large_string(values.type):
        assert op(values.cast(pa.string()), **settings).equals(expected)
        assert op(values.dictionary_encode(), **settings).equals(expected)
    assert len(op(values.slice(0, 0), **settings)) == 0

    # record batches
    numbers = pa.array(range(len(texts)))
    batch = pa.record_batch([numbers, values], names=["doc_id" if column != "doc_id" else "n", column])
    applied = op.apply(batch, keep=("doc_id",), **settings)
    assert applied.column(op.name).equals(expected)
    pieces = list(op.batches([batch.slice(0, 7), batch.slice(7)], **settings))
    assert pa.concat_arrays([piece.column(op.name) for piece in pieces]).equals(expected)

    # Polars
    frame = pl.DataFrame({"x": pl.from_arrow(values)})
    for got in (
        frame.select(op.polars("x", **settings))["x"],
        frame.lazy().select(op.polars(pl.col("x"), **settings).alias("y")).collect(engine="streaming")["y"],
    ):
        assert got.to_arrow().cast(expected.type).equals(expected)

    # SQL, on two threads: many row groups, so that both are used
    path = tmp_path / "in.parquet"
    copies = 3
    table = pa.table({"n": pa.array(range(len(texts) * copies)), column: pa.chunked_array([values] * copies)})
    pq.write_table(table, path, row_group_size=8)
    register_all(con)
    register_all(con)  # again is fine
    arguments = "".join(f", {k} := '{v}'" for k, v in settings.items())
    sql = f"select {name}({column}{arguments}) as y from '{path}' order by n"
    result = con.sql(sql).to_arrow_table()["y"].combine_chunks()
    assert result.cast(expected.type).equals(pa.concat_arrays([expected] * copies))


def test_known_values() -> None:
    assert operator("text_hash")(pa.array(["é"])).to_pylist() == [xxhash.xxh3_128_digest("é".encode())]
    assert operator("seeded_hash")(pa.array([b"0" * 16]), seed=9)[0].as_py() == xxhash.xxh3_64_intdigest(
        b"0" * 16, 9
    )
    assert len(operator("minhash")(pa.array(["a b"]), num_perm=16)[0]) == 16
    assert operator("minhash")(pa.array(["", "?!"])).to_pylist() == [[], []]
    stats = operator("text_stats")(pa.array(["The cat.\n- of hats...\n\nThe cat.\n", ""])).to_pylist()
    assert stats[0]["num_words"] == 7 and stats[0]["num_lines"] == 4 and stats[0]["stop_word_count"] == 2
    assert stats[0]["duplicate_line_share"] == pytest.approx(1 / 3)
    assert stats[0]["bullet_line_share"] == stats[0]["ellipsis_line_share"] == pytest.approx(1 / 3)
    assert stats[0]["blank_line_share"] == 0.25 and stats[0]["terminal_punctuation_line_share"] == 1
    assert all(value == 0 for value in stats[1].values())


def test_sql_parameters_defaults_and_uuid(con: duckdb.DuckDBPyConnection) -> None:
    register_all(con)
    row = con.sql(
        """select seeded_hash(id::uuid, seed := 5) = seeded_hash(id, seed := 5), len(minhash(t)),
        len(minhash(t, num_perm := 8)), minhash(t, 8) = minhash(t, num_perm := 8),
        minhash_signature(t).num_shingles, seeded_hash(id::uuid) = seeded_hash(id, seed := 5)
        from (select '0123456789abcdef'::blob as id, 'a b c d e f' as t)"""
    ).fetchall()[0]
    assert row == (True, 112, 8, True, 2, False)
    with pytest.raises(duckdb.Error, match="one constant"):
        con.sql("select minhash(t, num_perm := n) from (values ('a', 1), ('b', 2)) v(t, n)").fetchall()


CODE = '''#!/usr/bin/env python
"""Documentation
over lines."""

import os
from x import (
    y,
)

TEXT = """not
# a comment
documentation"""


async def f(a,
            b=")"):
    r"""Doc."""
    call(
        """argument"""
    )
    return "it's"  # trailing


class C:
    pass


if __name__ == "__main__":
    f("# no")
'''


def test_code_stats_python() -> None:
    stats = operator("code_stats")(pa.array([CODE])).to_pylist()[0]
    lines = CODE.split("\n")[:-1]
    assert stats["num_lines"] == len(lines)
    assert stats["blank_line_share"] == sum(not line for line in lines) / len(lines)
    written = sum(bool(line) for line in lines)
    assert stats["comment_line_share"] == 4 / written  # shebang, two lines of documentation, r"""Doc."""
    assert stats["num_code_lines"] == written - 4
    assert (stats["num_functions"], stats["num_classes"], stats["num_definitions"]) == (1, 1, 2)
    assert stats["num_imports"] == 2 and stats["has_main"] and not stats["is_generated"]
    commented = (
        len('#!/usr/bin/env python"""Documentationover lines."""r"""Doc."""# trailing') + 1
    )  # its line feed
    assert stats["comment_char_share"] == pytest.approx(commented / len(CODE), abs=2 / len(CODE))


def test_code_stats_other_syntax() -> None:
    c = '/* top\n\n * more */\n#include <x>\nint main(void) { // go\n  s = "/* no */";\n}\n'
    c += "pub async fn f() {}\n"
    stats = operator("code_stats")(pa.array([c]), language="c").to_pylist()[0]
    assert stats["comment_line_share"] == 2 / 7 and stats["num_imports"] == 1
    assert stats["has_main"] and stats["num_functions"] == 1
    with pytest.raises(UnknownName, match="cobol"):
        operator("code_stats")(pa.array([c]), language="cobol")


@pytest.mark.parametrize(
    ("top", "expected"),
    [
        ("# Generated by Django 4.2 on 2023-01-01", True),
        ("# -*- coding: utf-8 -*-\n# Generated by the protocol buffer compiler.  DO NOT EDIT!", True),
        ("// Code generated by protoc-gen-go. DO NOT EDIT.", True),
        ('"""This file was automatically generated by x."""', True),
        ("# @generated SignedSource", True),
        ("# this file is auto-generated from schema.json", True),
        ("# file generated by setuptools_scm", True),
        ("# keys generated by the server are opaque", False),
        ("header = '# Generated by my_tool'", False),
        ("print('do not edit')", False),
        ("# we do not modify the list here", False),
        ("# automatically generated keys are fine", False),
        ("x = 1\n" * 2000 + "# Generated by late", False),
    ],
)
def test_is_generated(top: str, expected: bool) -> None:
    assert operator("code_stats")(pa.array([top + "\nx = 1\n"]))[0].as_py()["is_generated"] is expected


# ---------------------------------------------------------------- the registry


@pytest.fixture
def own() -> Iterator[Operator]:
    @operator(
        name="test_scaled",
        version=1,
        inputs={"x": pa.int64(), "y": pa.float64()},
        output=pa.float64(),
        parameters={"by": 2.0},
        source="this test",
    )
    def scaled(x: pa.Array, y: pa.Array, *, by: float) -> pa.Array:
        """x + by * y"""
        assert x.null_count == y.null_count == 0
        return pa.array(x.to_numpy() + by * y.to_numpy())

    yield scaled
    registry_module._REGISTRY.pop("test_scaled")


def test_own_operator_in_every_form(own: Operator, con: duckdb.DuckDBPyConnection) -> None:
    x, y = pa.array([1, None, 3, 4], pa.int32()), pa.array([1.0, 2.0, None, 0.5], pa.float32())
    assert own(x, y, by=10).to_pylist() == [11.0, None, None, 9.0]
    frame = pl.DataFrame({"x": [1, 2], "y": [0.5, 0.25]})
    assert frame.select(own.polars("x", "y"))["x"].to_list() == [2.0, 2.5]
    own.register(con)
    assert con.sql('select test_scaled(1, 2), test_scaled(1, 2, "by" := 3)').fetchall() == [(5.0, 7.0)]


def test_refusals(own: Operator) -> None:
    with pytest.raises(UnknownName, match=r"did you mean minhash"):
        operator("minhas")
    with pytest.raises(UsageError, match=r"operator text_hash: text expected large_string, got int64"):
        operator("text_hash")(pa.array([1]))
    with pytest.raises(UsageError, match=r"expected an Arrow array .* got list"):
        operator("text_hash")(["a"])  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="takes 2 array"):
        own(pa.array([1]))
    with pytest.raises(UsageError, match="rows"):
        own(pa.array([1]), pa.array([1.0, 2.0]))
    with pytest.raises(UnknownName, match="parameter 'num_perms'"):
        operator("minhash")(pa.array(["a"]), num_perms=3)
    with pytest.raises(UsageError, match="num_perm expected int, got '3'"):
        operator("minhash")(pa.array(["a"]), num_perm="3")
    with pytest.raises(UsageError, match="needs the parameter tokenizer"):
        operator("tokens")(pa.array(["a"]))
    with pytest.raises(BadInput, match="cannot read the tokenizer"):
        operator("tokens")(pa.array(["a"]), tokenizer="/nowhere/tokenizer.json")
    with pytest.raises(UnknownName, match="column 'text'"):
        operator("text_hash").apply(pa.record_batch({"x": ["a"]}))
    with pytest.raises(UsageError, match="already registered"):
        operator(name="minhash", version=2, inputs={"x": pa.int64()}, output=pa.int64())(lambda x: x)


def test_wrong_result_is_refused() -> None:
    bad = Operator(
        lambda x: pa.array([1]), name="bad", version=1, inputs={"x": pa.int64()}, output=pa.int64()
    )
    with pytest.raises(UsageError, match="bad must return int64 of 2 rows"):
        bad(pa.array([1, 2]))


def test_redeclared_by_a_reload_is_fine(own: Operator) -> None:
    again = Operator(
        own.function,
        name=own.name,
        version=1,
        inputs=own.inputs,
        output=own.output,
        parameters=own.parameters,
    )
    assert registry_module._same(own, again)


def test_missing_extra() -> None:
    from headwater.errors import MissingExtra

    absent = Operator(
        lambda x: x, name="absent", version=1, inputs={"x": pa.int64()}, output=pa.int64(), extra="train",
        requires=("not_a_module_anywhere",),
    )  # fmt: skip
    assert not absent.available
    with pytest.raises(MissingExtra, match=r"headwater\[train\]"):
        absent(pa.array([1]))


def test_nothing_on_stderr_with_an_open_connection() -> None:
    """duckdb prints "nanobind: leaked" when a function can reach its open connection."""
    code = (
        "import duckdb; from headwater.operators import register_all\n"
        "con = duckdb.connect(); register_all(con)\n"
        "assert con.sql(\"select text_stats('a b').num_words\").fetchall() == [(2,)]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_import_is_light() -> None:
    code = (
        "import sys, headwater.operators\n"
        "heavy = {'torch', 'tokenizers', 'pandas', 'great_expectations', 'dbt'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
