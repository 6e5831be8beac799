"""Marks of generated text: what counts, what does not, and that a score is a signal with its evidence."""

from __future__ import annotations

import inspect
import random
import textwrap

import duckdb
import pyarrow as pa
import pytest

from headwater.kernels.word_sequence import first_ngrams, ngrams, repeated_share, word_sequence
from headwater.operators import get, register_all

machine_text = get("machine_text")


def score(text: str) -> float:
    value: float = machine_text(pa.array([text]))[0].as_py()["score"]
    return value


def evidence(text: str) -> list[str]:
    found: list[str] = machine_text(pa.array([text]))[0].as_py()["evidence"]
    return found


MACHINE = {
    "assistant_phrase": "The list is sorted in place. I hope this helps! Let me know if you have any questions.\n",
    "answer_opening": "Sure, here is a function that adds two numbers.\ndef add(a, b): return a + b\n",
    "chat_template": "def f(): pass\n<|im_end|>\n<|im_start|>assistant\n",
    "fenced_whole": "```python\ndef add(a, b):\n    return a + b\n```\n",
    "repetition": "the cat sat on the mat and then " * 40 + "\n",
}


@pytest.mark.parametrize("mark", MACHINE)
def test_a_strong_mark_is_enough_and_is_named(mark: str) -> None:
    assert score(MACHINE[mark]) >= 0.5
    assert evidence(MACHINE[mark])[0] == mark


@pytest.mark.parametrize("module", [textwrap, inspect, pytest, duckdb])
def test_files_of_people_score_low(module: object) -> None:
    assert score(inspect.getsource(module)) < 0.3  # type: ignore[arg-type]


def test_a_single_weak_mark_is_not_enough() -> None:
    prose = (
        "In conclusion, the harvest was good and the barn was full before the first snow fell that year.\n"
    )
    assert 0 < score(prose) < 0.5
    assert score("It breaks off in the middle of") == pytest.approx(0.15)


def test_marks_count_by_length_where_people_use_them_too() -> None:
    draw = random.Random(0)
    filler = " ".join("".join(draw.choices("abcdefgh", k=6)) for _ in range(3_000))
    once = "We delve into the matter. "
    assert score(once) > 2 * score(f"{once}{filler}.\n") > 0


def test_a_quotation_inside_code_is_not_a_template() -> None:
    code = 'TEMPLATE = "<|im_start|>user"  # what a chat begins with\n'
    assert "chat_template" not in evidence(code)


@pytest.mark.parametrize(
    "text", ["", " ", "\0", "\u202e\u2028", "a" * 100_000, "🙂" * 5_000, "```", "<|im_start|>"]
)
def test_hostile_texts_have_a_score(text: str) -> None:
    assert 0 <= score(text) <= 1


def test_nulls_stay_and_slices_and_batches_do_not_matter() -> None:
    texts = pa.array([None, *MACHINE.values(), ""])
    whole = machine_text(texts)
    assert whole[0].as_py() is None
    assert whole.slice(2, 3).equals(machine_text(texts.slice(2, 3)))
    assert len(machine_text(texts.slice(0, 0))) == 0


def test_it_is_a_function_in_sql() -> None:
    con = duckdb.connect()
    register_all(con)
    (found,) = con.execute("select machine_text('I hope this helps!').evidence").fetchall()
    assert found[0] == ["assistant_phrase"]
    con.close()


# -- the words behind it ---------------------------------------------------------------------------


def test_words_are_those_of_shingles_in_their_order() -> None:
    words = word_sequence(pa.array(["The cat, the CAT!", None, "", "über-Maß 東京"]))
    assert words.counts.tolist() == [4, 0, 0, 4]
    assert words.hashes[0] == words.hashes[2] and words.hashes[1] == words.hashes[3]
    hashes, owners = ngrams(words, 2)
    assert len(hashes) == 6 and hashes[0] == hashes[2] and owners.tolist() == [0, 0, 0, 3, 3, 3]
    first, enough = first_ngrams(words, 3)
    assert len(first) == 2 and enough.tolist() == [True, False, False, True]


def test_repeated_share_counts_what_occurred_before_in_the_same_row() -> None:
    words = word_sequence(pa.array(["a b c a b c a b c", "a b c", "", "x y"]))
    assert repeated_share(words, 2).tolist() == [5 / 8, 0, 0, 0]
    assert repeated_share(words, 5).tolist() == [2 / 5, 0, 0, 0]
