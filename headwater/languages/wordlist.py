"""A list of words and phrases as an Aho-Corasick automaton over lower-cased characters."""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from headwater.errors import BadInput
from headwater.kernels.characters import LOWER, SOLO, SPACE, TABLE
from headwater.kernels.flat import Bytes, Offsets
from headwater.kernels.words import OPEN_LEFT, OPEN_RIGHT, scan

MODES = ("auto", "word", "substring")
MAX_CELLS = 1 << 26
"""Of the complete automaton, states times different characters: 256 MB, some 100,000 words."""


class WordList(NamedTuple):
    classes: npt.NDArray[np.uint16]
    goto: npt.NDArray[np.int32]
    link: npt.NDArray[np.int32]
    entry: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int32]
    sides: npt.NDArray[np.int32]

    def occurrences(self, data: Bytes, offsets: Offsets) -> npt.NDArray[np.int64]:
        """(2, texts): occurrences, and how many different entries occur."""
        out = np.zeros((2, len(offsets) - 1), dtype=np.int64)
        longest = int(self.lengths.max(initial=0)) + 1
        scan(data, offsets, TABLE, *self, longest, out)
        return out


def normalized(word: str) -> str:
    """An entry as text is compared: lower-cased by the table, white space runs one space, none around."""
    codes = (int(TABLE[ord(c)]) for c in word)
    return " ".join("".join(" " if code & SPACE else chr(code & LOWER) for code in codes).split())


@lru_cache(maxsize=16)
def compiled(words: str, mode: str) -> WordList:
    """The automaton of a list with an entry on each line; lines that are blank do not count.

    Raises BadInput when the list is empty or too large.
    """
    entries = sorted({normalized(line) for line in words.split("\n")} - {""})
    if not entries:
        raise BadInput("the word list is empty", hint="give one word or phrase on each line")
    alphabet = sorted({ord(c) for word in entries for c in word})
    states = sum(len(word) for word in entries) + 1
    if states * (len(alphabet) + 1) > MAX_CELLS:
        raise BadInput(
            f"a list of {len(entries):,} entries and {len(alphabet):,} different characters is too large",
            hint="split it, by language for example",
        )
    classes = np.zeros(len(TABLE), dtype=np.uint16)  # 0: a character of no entry
    classes[alphabet] = np.arange(1, len(alphabet) + 1)
    children: list[dict[int, int]] = [{}]
    ends = [-1]
    for number, word in enumerate(entries):
        state = 0
        for character in word:
            letter = int(classes[ord(character)])
            if letter not in children[state]:
                children[state][letter] = len(children)
                children.append({})
                ends.append(-1)
            state = children[state][letter]
        ends[state] = number
    goto = np.zeros((len(children), len(alphabet) + 1), dtype=np.int32)
    link = np.zeros(len(children), dtype=np.int32)
    suffix = [0] * len(children)
    queue = deque([0])
    while queue:
        state = queue.popleft()
        if state:
            goto[state] = goto[suffix[state]]
        for letter, child in children[state].items():
            suffix[child] = int(goto[suffix[state], letter]) if state else 0
            link[child] = suffix[child] if ends[suffix[child]] >= 0 else link[suffix[child]]
            queue.append(child)
        for letter, child in children[state].items():
            goto[state, letter] = child
    return WordList(
        classes,
        goto,
        link,
        np.array(ends, dtype=np.int32),
        np.array([len(word) for word in entries], dtype=np.int32),
        np.array([_sides(word, mode) for word in entries], dtype=np.int32),
    )


def _sides(word: str, mode: str) -> int:
    """Where an entry need not stand free: in scripts without spaces, or everywhere."""
    if mode == "substring":
        return OPEN_LEFT | OPEN_RIGHT
    left, right = (int(TABLE[ord(c)]) for c in (word[0], word[-1]))
    if mode == "word":
        return 0
    return (OPEN_LEFT if left & SOLO else 0) | (OPEN_RIGHT if right & SOLO else 0)
