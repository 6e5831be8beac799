"""Word lists by the automaton, URL and domain lists by the macros, the shipped seeds."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import duckdb
import jinja2
import polars as pl
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import BadInput, DataMismatch, UsageError
from headwater.kernels.characters import LOWER, SOLO, SPACE, TABLE, WORD
from headwater.languages.wordlist import MODES, compiled, normalized
from headwater.operators import operator, register_all

ROOT = Path(__file__).parents[2]


def counted(texts: list[str | None], words: list[str], mode: str = "auto") -> list[tuple[int, int] | None]:
    rows = operator("blocked_words")(pa.array(texts, pa.large_string()), words="\n".join(words), mode=mode)
    return [row and (row["num_matches"], row["num_entries"]) for row in rows.to_pylist()]


def by_definition(text: str, words: list[str], mode: str) -> tuple[int, int]:
    """The same, slowly, from the words of the docstring."""
    codes = [int(TABLE[ord(c)]) for c in text]
    kept, word = [], []
    for i, code in enumerate(codes):
        if code & SPACE and i and codes[i - 1] & SPACE:
            continue
        kept.append(" " if code & SPACE else chr(code & LOWER))
        word.append(bool(code & WORD))
    line = "".join(kept)
    total = entries = 0
    for entry in {normalized(w) for w in words} - {""}:
        first, last = int(TABLE[ord(entry[0])]), int(TABLE[ord(entry[-1])])
        hits = 0
        for at in range(len(line) - len(entry) + 1):
            if line[at : at + len(entry)] != entry:
                continue
            end = at + len(entry)
            left = at == 0 or not word[at - 1] or mode == "substring" or (mode == "auto" and first & SOLO)
            right = (
                end == len(line) or not word[end] or mode == "substring" or (mode == "auto" and last & SOLO)
            )
            hits += bool(left and right)
        total += hits
        entries += hits > 0
    return total, entries


def test_whole_words_phrases_and_scripts_without_spaces() -> None:
    words = ["bad", "Bad Word", "カタ", "ÄRGER", "a$$"]
    assert counted(["A BAD, bad\n\n word. baddy xbad bad_ bäd"], words) == [(3, 2)]
    assert counted(["文字カタカナ", "ärger", "Ärgerlich", "a$$!", "a$$x", "", None], words) == [
        (1, 1), (1, 1), (0, 0), (1, 1), (0, 0), (0, 0), None,
    ]  # fmt: skip
    assert counted(["xbadx カタカ"], words, "substring") == [(2, 2)]
    assert counted(["カタカナ"], words, "word") == [(0, 0)]
    [row] = operator("blocked_words")(pa.array(["bad day so bad"]), words="bad").to_pylist()
    assert row["matches_per_word"] == 0.5


@settings(max_examples=300, deadline=None)
@given(
    st.text(alphabet="abAB ._\n\té漢字\0", max_size=60),
    st.lists(st.text(alphabet="abA é漢_.", max_size=4), min_size=1, max_size=6),
    st.sampled_from(MODES),
)
def test_automaton_matches_the_definition(text: str, words: list[str], mode: str) -> None:
    if not any(normalized(w) for w in words):
        with pytest.raises(BadInput, match="empty"):
            compiled("\n".join(words), mode)
        return
    assert counted([text], words, mode) == [by_definition(text, words, mode)]


def test_the_shipped_list_on_real_text_equals_regular_expressions() -> None:
    """Texts with an occurrence of the English list are those that C4's expression finds."""
    with (ROOT / "sql/seeds/blocked_words.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["source"] for row in rows} == {"LDNOOBW 1.2.0 (CC-BY-4.0)"}
    english = [row["word"] for row in rows if row["language"] == "en"]
    assert len(english) == 403 and len({row["language"] for row in rows}) >= 25
    texts = [
        path.read_text("utf-8", "replace")
        for path in sorted(Path("/usr/share").glob("doc/*/copyright"))[:200]
        + sorted(Path(pytest.__file__).parent.parent.glob("_pytest/*.py"))
    ]
    texts += [f"it said: {word.upper()}!" for word in english] + [f"x{word}x" for word in english]
    expression = re.compile(rf"(?:\W|^)({'|'.join(re.escape(w) for w in english)})(?:\W|$)")
    expected = [expression.search(" ".join(t.lower().split())) is not None for t in texts]
    assert [found[0] > 0 for found in counted(texts, english) if found] == expected


def test_list_from_a_file_and_refusals(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("bad\n\n worse \n", encoding="utf-8")
    op = operator("blocked_words")
    assert op(pa.array(["Worse than bad"]), file=str(path))[0]["num_entries"].as_py() == 2
    seed = str(ROOT / "sql/seeds/blocked_words.csv")
    digest = xxhash.xxh3_128_hexdigest(Path(seed).read_bytes())
    got = op(pa.array(["What a Bastard."]), file=seed, language="en", digest=digest).to_pylist()
    assert got[0]["num_matches"] == 1
    assert op(pa.array(["What a Bastard."]), file=seed, language="ja")[0]["num_matches"].as_py() == 0
    with pytest.raises(DataMismatch, match="expected 00"):
        op(pa.array(["a"]), file=seed, digest="00")
    (tmp_path / "x.csv").write_text("entry\nbad\n", encoding="utf-8")
    with pytest.raises(BadInput, match="no column word"):
        op(pa.array(["a"]), file=str(tmp_path / "x.csv"))
    for given_, match in (({}, "either"), ({"words": "a", "file": "b"}, "either"), ({"words": " \n"}, "empty"),
                          ({"words": "a", "mode": "x"}, "mode expected"), ({"file": "/none"}, "cannot read")):  # fmt: skip
        with pytest.raises(UsageError, match=match):
            op(pa.array(["a"]), **given_)
    path.write_bytes(b"\xff")
    with pytest.raises(BadInput, match="not UTF-8"):
        op(pa.array(["a"]), file=str(path))
    with pytest.raises(BadInput, match="too large"):
        compiled("\n".join(chr(0x4E00 + i) * 40 for i in range(6000)), "auto")


HOSTILE = st.one_of(
    st.text(max_size=200),
    st.text(alphabet="\u200f\u202e\0😀👩\u200d\ufeff\U0010ffff bad\n", max_size=200),
    st.binary(max_size=200).map(lambda b: b.decode("utf-8", "replace")),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(HOSTILE, max_size=6), st.lists(HOSTILE, max_size=4))
def test_hostile_text_and_lists(texts: list[str], words: list[str]) -> None:
    words = [*words, "bad"]
    together = counted(texts, words)
    assert together == [counted([text], words)[0] for text in texts]


@pytest.mark.parametrize("text", ["bad " * 1_000_000, "a" * 5_000_000, "\n" * 100_000, "aaaab" * 500_000])
def test_huge_text(text: str) -> None:
    counted([text], ["bad", *("a" * n for n in range(1, 60))])


# The macros


@pytest.fixture(scope="module")
def macros() -> jinja2.environment.TemplateModule:
    source = (ROOT / "sql/macros/blocklists.sql").read_text("utf-8")
    environment = jinja2.Environment()
    environment.globals["headwater"] = environment.from_string(source).module
    return environment.from_string(source).module


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect()
    register_all(connection)
    yield connection
    connection.close()


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://User:pw@A.Example.COM:8080/p?q=@x#y", "a.example.com"),
        ("http://example.com.", "example.com"),
        ("//cdn.example.com/x", "cdn.example.com"),
        ("example.com/path", "example.com"),
        ("http://[2001:db8::1]:80/", "[2001:db8::1]"),
        ("http://192.0.2.1/x", "192.0.2.1"),
        ("mailto:me@example.com", "example.com"),
        ("", ""),
        ("/local/path", ""),
        ("http://münchen.example/ü", "münchen.example"),
    ],
)
def test_url_host(url: str, host: str, macros: jinja2.environment.TemplateModule) -> None:
    assert duckdb.execute(f"select {macros.url_host('u')} from (select ? as u)", [url]).fetchall() == [
        (host,)
    ]


def test_a_listed_domain_blocks_its_subdomains(
    con: duckdb.DuckDBPyConnection, macros: jinja2.environment.TemplateModule
) -> None:
    con.execute("create table docs(doc_id int, url varchar)").fetchall()
    con.execute(
        """insert into docs values (1, 'http://a.b.adult.example/x'), (2, 'http://adult.example'),
        (3, 'http://notadult.example/adult.example'), (4, 'http://example.net'), (5, 'x.malware.example.net'),
        (6, null), (7, ''), (8, 'http://example/')"""
    ).fetchall()
    seed = ROOT / "sql/seeds/blocked_domains.csv"
    listed = f"(select * from read_csv('{seed}') union all select 'a.b.adult.example', 'worse', '')"
    got = con.execute(macros.listed_domains("docs", listed) + " order by all").fetchall()
    assert got == [(1, ["adult", "worse"]), (2, ["adult"]), (5, ["malware"])]
    domains = con.execute(f"select {macros.domains_of('h')} from (values ('a.b.c.d'), ('b.c'), ('c')) t(h)")
    assert domains.fetchall() == [(["a.b.c.d", "b.c.d", "c.d"],), (["b.c"],), (["c"],)]


def test_url_words_and_a_list_from_a_table(
    con: duckdb.DuckDBPyConnection, macros: jinja2.environment.TemplateModule
) -> None:
    con.execute(
        "create table words as select * from (values ('en', 'Bet'), ('en', 'win'), ('de', 'x')) t(language, word)"
    ).fetchall()
    strict = macros.word_list("words", "en")
    sql = f"""select blocked_words({macros.url_words("u")}, words := {strict}).num_entries,
        blocked_words({macros.url_letters("u")}, words := {strict}, mode := 'substring').num_entries
        from (values ('http://a.com/bet-and_win/2'), ('http://alphabet.com'), ('http://b.e/t')) v(u)"""
    assert con.execute(sql).fetchall() == [(2, 2), (0, 1), (0, 1)]


def test_every_call_form(con: duckdb.DuckDBPyConnection) -> None:
    texts = ["a bad thing", "", None, "BAD bad"]
    op = operator("blocked_words")
    expected = op(pa.array(texts, pa.large_string()), words="bad").to_pylist()
    table = pa.table({"n": range(4), "text": pa.array(texts, pa.large_string())})
    con.register("t", table)
    assert [
        r[0] for r in con.execute("select blocked_words(text, words := 'bad') from t order by n").fetchall()
    ] == expected
    assert pl.DataFrame({"text": texts}).select(op.polars("text", words="bad"))["text"].to_list() == expected
