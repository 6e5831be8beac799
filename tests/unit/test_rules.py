"""Every published rule, both sides of every threshold, through the real operators and the real macros.

``tests/golden`` holds the documents and what datatrove's and Dolma's own code says of them; for variants
whose code is not to be had here, what is meant is written with the document, and a plain reference agrees.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.operators import operator, register_all

GOLDEN = Path(__file__).parents[1] / "golden"

import reference  # noqa: E402
from macros import CompilerError, headwater  # noqa: E402

DOCUMENTS = json.loads((GOLDEN / "documents.json").read_text(encoding="utf-8"))
DATATROVE = json.loads((GOLDEN / "datatrove_decisions.json").read_text(encoding="utf-8"))
DOLMA = json.loads((GOLDEN / "dolma_decisions.json").read_text(encoding="utf-8"))
TEXTS = {entry["id"]: "".join(part * times for part, times in entry["parts"]) for entry in DOCUMENTS}

# variant: (variant of web_stats, of c4_stats, macro calls by family of documents)
VARIANTS: dict[str, tuple[str, str, dict[str, str]]] = {
    "datatrove": (
        "datatrove",
        "datatrove",
        {
            "gopher_quality": headwater.gopher_quality(signals="w"),
            "gopher_repetition": headwater.gopher_repetition(signals="w"),
            "fineweb": headwater.fineweb(signals="w"),
            "c4": headwater.c4(signals="c"),
        },
    ),
    "dclm": (
        "dclm",
        "dclm",
        {
            "gopher_quality": headwater.gopher_quality("dclm", signals="w"),
            "gopher_repetition": headwater.gopher_repetition("dclm", signals="w"),
            "c4": headwater.c4("dclm", signals="c"),
            "dclm_dolma": headwater.dclm(signals="w"),
        },
    ),
    "dolma": (
        "dolma",
        "dolma",
        {
            "gopher_quality": headwater.gopher_quality("dolma", signals="w"),
            "gopher_repetition": headwater.gopher_repetition("dolma", signals="w"),
            "c4": headwater.c4("dolma", signals="c"),
        },
    ),
    "cccc": ("dolma_v2", "dolma", {"dclm_dolma": headwater.dolma("cccc", signals="a")}),
    "paper": (
        "paper",
        "tfds",
        {
            "gopher_quality": headwater.gopher_quality("paper", signals="w"),
            "gopher_repetition": headwater.gopher_repetition("paper", signals="w"),
            "fineweb": headwater.fineweb("paper", signals="w"),
        },
    ),
    "tfds": ("paper", "tfds", {"c4": headwater.c4("tfds", signals="c")}),
    "fineweb": ("datatrove", "fineweb", {"c4": headwater.c4("fineweb", signals="c")}),
    "mc4": ("datatrove", "datatrove", {"c4": headwater.c4("mc4", signals="c")}),
}


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect(config={"threads": 2})
    register_all(connection)
    connection.register("documents", pa.table({"id": list(TEXTS), "text": list(TEXTS.values())}))
    yield connection
    connection.close()


def decisions(con: duckdb.DuckDBPyConnection, variant: str) -> dict[str, dict[str, dict[str, bool]]]:
    """By document and family: rule (without its prefix) to decision, by the macros' own SQL."""
    web, c4, families = VARIANTS[variant]
    found: dict[str, dict[str, dict[str, bool]]] = defaultdict(dict)
    for family, rules in families.items():
        rows = con.sql(
            f"""with measured as (
                select id, w, c, struct_concat(w, c) as a
                from (select id, web_stats(text, variant := '{web}') as w, c4_stats(text, variant := '{c4}') as c
                      from documents)
            ) select id, {rules} from measured"""
        ).to_arrow_table()
        for row in rows.to_pylist():
            name = row.pop("id")
            found[name][family] = {
                re.sub("^keep__[a-z0-9]+_", "", rule): value for rule, value in row.items()
            }
    return found


@pytest.mark.parametrize("variant", VARIANTS)
def test_both_sides_of_every_threshold(con: duckdb.DuckDBPyConnection, variant: str) -> None:
    found = decisions(con, variant)
    sides: dict[tuple[str, str], set[bool]] = defaultdict(set)
    wrong = []
    for entry in DOCUMENTS:
        meant = entry["meant"].get(variant)
        if meant is None:
            continue
        decided = found[entry["id"]][entry["family"]][entry["rule"]]
        sides[entry["family"], entry["rule"]].add(decided)
        if decided is not (meant == "keep"):
            wrong.append((entry["id"], meant))
    assert not wrong
    families = VARIANTS[variant][2]
    tested = {
        (family, re.sub("^keep__[a-z0-9]+_", "", name))
        for family, rules in families.items()
        for name in re.findall(r"as (keep__\w+)", rules)
    }
    if "dclm_dolma" in families:  # Gopher's rules again, under another prefix
        tested = {key for key in tested if key[0] != "dclm_dolma"} | {
            key for key in sides if key[0] == "dclm_dolma"
        }
    assert set(sides) == tested
    assert {key for key, both in sides.items() if both != {True, False}} == set()


def test_datatrove_decides_the_same(con: duckdb.DuckDBPyConnection) -> None:
    """Every rule of datatrove's four filters on every document, not only on those about it."""
    found = decisions(con, "datatrove")
    extra = {"c4_fineweb": decisions(con, "fineweb"), "c4_mc4": decisions(con, "mc4")}
    compared = 0
    for name, families in DATATROVE["decisions"].items():
        for family, rules in families.items():
            ours = extra[family][name]["c4"] if family in extra else found[name][family]
            for rule, theirs in rules.items():
                if theirs is None:  # it divides by no word or no line
                    continue
                assert ours[rule] is theirs, (name, family, rule, DATATROVE["made_with"])
                compared += 1
    assert compared > 5000


def test_datatrove_cleans_the_same() -> None:
    cleaned = DATATROVE["cleaned"]
    texts = pa.array([TEXTS[name] for name in cleaned], pa.large_string())
    assert operator("c4_clean")(texts).to_pylist() == list(cleaned.values())


@pytest.mark.parametrize("variant", ["dolma", "dolma_v2"])
def test_dolma_measures_the_same(variant: str) -> None:
    """Values, not only decisions: the taggers' own numbers, to the last bit."""
    names = list(DOLMA["values"])
    texts = pa.array([TEXTS[name] for name in names], pa.large_string())
    for name, ours in zip(names, operator("web_stats")(texts, variant=variant).to_pylist(), strict=True):
        for field, theirs in DOLMA["values"][name][variant].items():
            assert ours[field] == theirs, (name, field, DOLMA["made_with"])
    for name, ours in zip(names, operator("c4_stats")(texts, variant="dolma").to_pylist(), strict=True):
        theirs = DOLMA["values"][name]["c4"]
        for phrase in ("curly_bracket", "lorem_ipsum", "javascript"):
            assert (ours[f"c4_{phrase}_lines"] > 0) is theirs[phrase], (name, phrase)
        for field in ("lines", "unterminated_lines", "few_word_lines"):
            assert ours[f"c4_{field}"] == theirs[field], (name, field)


# ---------------------------------------------------------------- against the plain reference

SHORT_WORDS = st.text(alphabet="abxyz", min_size=1, max_size=3)
PIECES = st.one_of(
    SHORT_WORDS,
    st.sampled_from(
        ["the", "The", "of", "#", "...", "…", ". . .", "•", "- ", "* ", "12", "3.5", "a-b", "it's", "é", "漢字",
         "\n", "\n", "\n\n", "\n\n\n", "\t", "\r\n", "\x0b", "\u2028", "\xa0", "end.", '"', "{", "\0"]
    ),
)  # fmt: skip
ODD_TEXT = st.lists(PIECES, max_size=60).map(" ".join) | st.lists(PIECES, max_size=60).map("".join)


def same(ours: dict[str, Any], theirs: dict[str, float]) -> None:
    assert {field: ours[field] for field in theirs} == theirs


@settings(max_examples=150, deadline=None)
@given(text=ODD_TEXT)
def test_measures_equal_the_reference(text: str) -> None:
    array = pa.array([text], pa.large_string())
    dolma = operator("web_stats")(array, variant="dolma").to_pylist()[0]
    same(dolma, reference.dolma(text))
    same(operator("web_stats")(array, variant="dolma_v2").to_pylist()[0], reference.dolma(text, v2=True))
    same(operator("web_stats")(array, variant="paper").to_pylist()[0], reference.paper(text))
    same(dolma, reference.fineweb(text, len(text.split()), TERMINAL))
    # One-word segments: letters and digits only, so that UAX 29 has nothing to say.
    plain = re.sub(r"[^a-zA-Z0-9\n ]", " ", text)
    got = operator("web_stats")(pa.array([plain], pa.large_string()), variant="dclm").to_pylist()[0]
    same(got, reference.dclm(plain, plain.split()))


TERMINAL = set(".!?。")


@settings(max_examples=150, deadline=None)
@given(
    lines=st.lists(st.lists(PIECES, max_size=12).map(" ".join), max_size=8),
    variant=st.sampled_from(["datatrove", "tfds"]),
)
def test_c4_lines_equal_the_reference(lines: list[str], variant: str) -> None:
    text = "\n".join(line + " [1] end." if i % 2 else line for i, line in enumerate(lines))
    tfds = variant == "tfds"
    kept, dropped = reference.c4_lines(
        text, marks='.?!"' if tfds else ".?!\"'", min_words=5 if tfds else 3, recount=tfds
    )
    array = pa.array([text], pa.large_string())
    ours = operator("c4_stats")(array, variant=variant).to_pylist()[0]
    assert ours["c4_kept_lines"] == len(kept)
    assert (
        ours["c4_curly_bracket_lines"] == ("curly_bracket" in dropped) or ours["c4_curly_bracket_lines"] > 1
    )
    assert operator("c4_clean")(array, variant=variant)[0].as_py() == "\n".join(kept).strip()


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=300), repeat=st.integers(1, 50))
def test_any_text_is_measured(text: str, repeat: int) -> None:
    """Hostile text: shares are shares, a repeated document is all repetition, nothing crashes."""
    array = pa.array([text, text * repeat, "\u202e" + text + "\0", ""], pa.large_string())
    for variant in ("datatrove", "dclm", "dolma", "dolma_v2", "paper"):
        for row in operator("web_stats")(array, variant=variant).to_pylist():
            for name, value in row.items():
                if value is None:  # of another variant
                    continue
                assert value >= 0
                if name.endswith("_share") and "top" not in name:
                    assert value <= 1 or "dup_line_char" in name, (variant, name, value)
    for variant in ("datatrove", "fineweb", "tfds", "dclm", "dolma"):
        for came, kept in zip(
            array.to_pylist(), operator("c4_clean")(array, variant=variant).to_pylist(), strict=True
        ):
            assert len(kept.encode()) <= len(came.encode())


@pytest.mark.parametrize(
    "text",
    ["x" * 3_000_000, "ab " * 700_000, "a\n" * 100_000, "(" * 200_000, "." * 500_000, "a@" * 200_000, "a." * 300_000,
     "😀" * 300_000, " " * 500_000, "\n" * 500_000, "[" * 300_000, "l" * 500_000, "'s" * 200_000, "1-" * 200_000],
    ids=["line", "words", "lines", "brackets", "dots", "at", "hosts", "emoji", "spaces", "feeds", "citation", "l", "s", "ones"],
)  # fmt: skip
def test_long_documents_are_linear(text: str) -> None:
    array = pa.array([text], pa.large_string())
    assert len(operator("web_stats")(array)) == len(operator("c4_stats")(array)) == 1


# ---------------------------------------------------------------- the macros' own promises


def test_except_thresholds_and_signals() -> None:
    sql = headwater.gopher_quality(**{"except": ["stop_words"], "min_words": 30, "signals": "w"})
    assert "w.gopher_words >= 30 as keep__gopher_min_words" in sql and "stop_words" not in sql
    assert "gopher_dup_line_char_share <= 0.3 as" in headwater.gopher_repetition("dolma")
    assert "gopher_dup_line_char_share <= 0.2 as" in headwater.gopher_repetition("dclm")
    assert "keep__dolma_max_words" in headwater.dolma() and "javascript" in headwater.dolma("cccc")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: headwater.gopher_quality("deepmind"),
            "no variant 'deepmind'; it has: datatrove, paper, dclm, dolma",
        ),
        (
            lambda: headwater.c4(**{"except": ["stop_words"]}),
            "c4 has no rule 'stop_words'; it has: min_sentences",
        ),
        (lambda: headwater.fineweb(short=1), "fineweb has no rule 'short'"),
        (lambda: headwater.fineweb(short_lines="1 or true"), "must be a number"),
        (lambda: headwater.c4("mc4", **{"except": ["min_paragraphs"]}), "every rule is excepted"),
    ],
)
def test_mistakes_are_refused(call: Any, message: str) -> None:
    with pytest.raises(CompilerError, match=re.escape(message)):
        call()
