"""Minimal pairs: the real line parses, the mutant does not, and lengths give nothing away."""

from __future__ import annotations

import ast
import sysconfig
from collections import Counter
from pathlib import Path

import pytest
import xxhash

from headwater.ablate.minimal_pairs import KINDS, MAX_LINE_CHARACTERS, Pair, balanced, pairs_of, parses

TEXT = '''"""A module."""

import os

LIMIT = 3


def first(values):
    total = 0
    for value in values:
        total += value
    return total


def second(names):
    seen = names[:]
    joined = os.sep.join(seen)
    return joined
'''


def _library(count: int) -> list[tuple[bytes, str]]:
    root = Path(sysconfig.get_paths()["stdlib"])
    found = [path.read_text(errors="replace") for path in sorted(root.glob("*.py"))[:count]]
    return [(xxhash.xxh3_128_digest(text.encode()), text) for text in found]


@pytest.fixture(scope="module")
def pairs() -> list[tuple[str, Pair]]:
    return [(text, pair) for doc_id, text in _library(40) for pair in pairs_of(doc_id, text)]


def test_every_kind_is_made_from_real_files(pairs):
    counts = Counter((pair.kind, pair.length) for _, pair in pairs)
    assert {kind for kind, _ in counts} == set(KINDS)
    assert all(counts[kind, -1] and counts[kind, 1] for kind in KINDS if kind != "bracket")
    assert {length for kind, length in counts if kind == "bracket"} == {0}


def test_the_document_parses_and_the_mutant_does_not(pairs):
    for text, pair in pairs:
        lines = text.splitlines(keepends=True)
        assert lines[pair.line - 1].rstrip("\n") == pair.real.rstrip("\n")
        lines[pair.line - 1] = pair.mutant
        ast.parse(text)
        assert parses("".join(lines)) == (pair.kind == "name")


def test_a_pair_shows_whole_lines_before_its_own(pairs):
    for text, pair in pairs:
        assert pair.context and pair.context.endswith("\n")
        assert f"{pair.context}{pair.real}" in f"{text}\n"
        assert pair.real.endswith("\n") and pair.mutant.endswith("\n") and pair.real != pair.mutant
        assert max(len(pair.real), len(pair.mutant)) <= MAX_LINE_CHARACTERS


def test_a_swapped_name_fails_where_it_runs():
    """The mutant's name is not defined: running its function raises NameError, running the real one does not."""
    found = [p for i in range(40) for p in pairs_of(i.to_bytes(16, "big"), TEXT) if p.kind == "name"]
    assert len({p.line for p in found}) > 2
    for pair in found:
        lines = TEXT.splitlines(keepends=True)
        for line, raises in ((pair.real, False), (pair.mutant, True)):
            lines[pair.line - 1] = line
            scope: dict = {}
            exec(compile("".join(lines), "document", "exec"), scope)
            call = (
                (lambda s=scope: s["first"]([1, 2]))
                if pair.line < 14
                else (lambda s=scope: s["second"](["a"]))
            )
            if raises:
                with pytest.raises(NameError):
                    call()
            else:
                assert call() in (3, "a")


def test_pairs_are_the_same_every_time():
    doc_id, text = _library(3)[2]
    assert pairs_of(doc_id, text) == pairs_of(doc_id, text)


def test_what_is_not_python_makes_no_pairs():
    for text in ("", "def f(:\n", "print 1\n", "x = 1\r\ny = 2\r\n", "a\0b", "x = 1\n" * 20_000):
        assert pairs_of(bytes(16), text) == []


def test_balanced_takes_as_many_shorter_as_longer(pairs):
    chosen = balanced((pair for _, pair in pairs), 80)
    assert len(chosen) <= 80
    for kind in KINDS:
        lengths = Counter(pair.length for pair in chosen if pair.kind == kind)
        assert lengths[-1] == lengths[1]
        assert sum(lengths.values()) in (19, 20)


def test_knowing_only_lengths_is_right_half_of_the_time(pairs):
    """A model that gives every character the same probability prefers the shorter text."""
    chosen = balanced((pair for _, pair in pairs), 80)
    points = [(pair.length > 0) + 0.5 * (pair.length == 0) for pair in chosen]
    assert sum(points) / len(points) == 0.5
