"""MinHash signatures bit-equal to datatrove's: its text normalization, words, hash and permutations.

After datatrove 0.10.1 (Apache-2.0), ``utils/text.py`` (``simplify_text``) and ``pipeline/dedup/minhash.py``:

    lower case → each number one 0 → punctuation and control characters blank → white space one blank
      → canonical decomposition, nonspacing marks dropped → words → n-grams joined by blanks → xxh64
      → min over the n-grams of ((a * x + b) mod 2**64) mod (2**61 - 1), for each (a, b)

Words are those of spaCy's English tokenizer, datatrove's default (:mod:`headwater.kernels.wordsplit` says
what it leaves out), or runs without white space. What differs: the capital sigma is lower-cased by its
neighbors being letters, not by Unicode's full rule; and what Unicode versions disagree on.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
# numba infers the types of the helpers below; annotating them would only repeat its work.

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.kernels.characters import ALPHA, LOWER, MARK, SPACE, TABLE, decode
from headwater.kernels.flat import Bytes, Offsets, flatten
from headwater.kernels.jit import inline_kernel, kernel
from headwater.kernels.normalize import put
from headwater.kernels.token_classes import FLAGS
from headwater.kernels.wordsplit import SPACED, TOKENS, split_words, word_bound
from headwater.kernels.xxh64 import hash_64

Words = npt.NDArray[np.uint64]

TOKENIZERS = {"spacy": TOKENS, "whitespace": SPACED}

MERSENNE = (1 << 61) - 1
_MERSENNE = np.uint64(MERSENNE)

PUNCTUATION = (
    "!/—”:％１〈&(、━\\【#%「」，】；+^]~“《„';’{|∶´[=-`*．（–？！：$～«〉,><》)?）。…@_.\"}►»"
    + "".join(chr(c) for low, high in ((0, 9), (11, 13), (13, 32), (127, 160)) for c in range(low, high))
)
"""What datatrove replaces by blanks (``utils/text.py``); a full-width 1 among them, as there."""
SEPARATORS = ".,،٫⎖⎗⎘"
"""One of these between digits belongs to the number."""

_LOWER, _SPACE, _LETTER = np.uint32(LOWER), np.uint32(SPACE), np.uint32(ALPHA | MARK)
_DIGIT, _BLANK, _SEPARATOR = 1, 2, 4
_SIGMA, _FINAL_SIGMA = np.uint32(0x3A3), np.uint32(0x3C2)


class Tables(NamedTuple):
    """By code point: class bits, and where its decomposition without nonspacing marks stands in ``parts``."""

    kinds: npt.NDArray[np.uint8]
    firsts: npt.NDArray[np.int32]
    parts: npt.NDArray[np.uint32]


@lru_cache(maxsize=1)
def tables() -> Tables:
    """Built from Python's own Unicode data on first use (0.2 s), as datatrove asks it."""
    kinds = np.zeros(0x110000, dtype=np.uint8)
    lengths = np.ones(0x110000, dtype=np.int32)
    changed: dict[int, list[int]] = {}
    # Beyond the third plane nothing decomposes and nothing is a digit or a mark, but variation selectors.
    for code in (*range(0x32000), *range(0xE0000, 0xE0200)):
        if 0xD800 <= code < 0xE000 or 0x4E00 <= code < 0xA000 or 0x20000 <= code < 0x2F800:
            continue
        character = chr(code)
        if unicodedata.category(character) == "Nd":
            kinds[code] |= _DIGIT
        whole = unicodedata.normalize("NFD", character)
        kept = [ord(c) for c in whole if unicodedata.category(c) != "Mn"]
        if kept != [code]:
            changed[code] = kept
            lengths[code] = len(kept)
    for character in PUNCTUATION:
        kinds[ord(character)] |= _BLANK
    kinds[(TABLE[:0x110000] & _SPACE) != 0] |= _BLANK
    for character in SEPARATORS:
        kinds[ord(character)] |= _SEPARATOR
    firsts = np.zeros(0x110001, dtype=np.int32)
    np.cumsum(lengths, out=firsts[1:])
    parts = np.repeat(np.arange(0x110000, dtype=np.uint32), lengths)
    for code, kept in changed.items():
        parts[firsts[code] : firsts[code] + len(kept)] = kept
    for array in (kinds, firsts, parts):
        array.flags.writeable = False
    return Tables(kinds, firsts, parts)


@lru_cache(maxsize=4)
def permutations(num_hashes: int, seed: int) -> tuple[Words, Words]:
    """datatrove's factors and terms: numpy's legacy generator, whose stream does not change."""
    drawn = np.random.RandomState(seed)
    factors = drawn.randint(1, MERSENNE, dtype=np.uint64, size=num_hashes)
    terms = drawn.randint(0, MERSENNE, dtype=np.uint64, size=num_hashes)
    return factors, terms


def datatrove_signatures(
    array: pa.Array | pa.ChunkedArray, *, num_hashes: int, ngram: int, seed: int, tokenizer: str
) -> tuple[Words, npt.NDArray[np.int64]]:
    """Minima (rows, num_hashes), and how many n-grams each text has; 0 where the minima mean nothing."""
    data, offsets = flatten(array)
    factors, terms = permutations(num_hashes, seed)
    minima = np.empty((len(offsets) - 1, num_hashes), dtype=np.uint64)
    counts = np.zeros(len(offsets) - 1, dtype=np.int64)
    _signatures(
        data, offsets, TABLE, FLAGS, *tables(), TOKENIZERS[tokenizer], ngram,
        factors, terms, minima, counts,
    )  # fmt: skip
    return minima, counts


@inline_kernel
def _code_at(data, at):
    if data[at] < 0x80:
        return np.uint32(data[at]), 1
    return decode(data, at)


@inline_kernel
def _simplify(data, start, end, table, kinds, firsts, parts, cp):
    """Write ``simplify_text`` of ``data[start:end]`` as code points (a blank at the end may stay)."""
    count = 0
    gap = False
    letter = False  # the character before is a letter or a mark of one
    at = start
    while at < end:
        original, size = _code_at(data, at)
        entry = table[original]
        code = entry & _LOWER
        kind = kinds[code]
        at += size
        if kind & _DIGIT:
            # digits, and once a separator with digits after it
            for again in range(2):
                while at < end:
                    following, size = _code_at(data, at)
                    if kinds[following] & _DIGIT == 0:
                        break
                    at += size
                if again == 1 or at >= end:
                    break
                following, size = _code_at(data, at)
                if kinds[following] & _SEPARATOR == 0 or at + size >= end:
                    break
                digit, _ = _code_at(data, at + size)
                if kinds[digit] & _DIGIT == 0:
                    break
                at += size
            code = np.uint32(48)
        elif kind & _BLANK:
            gap = True
            letter = False
            continue
        elif original == _SIGMA and letter:
            follows = False
            if at < end:
                following, _ = _code_at(data, at)
                follows = (table[following] & _LETTER) != 0
            if not follows:
                code = _FINAL_SIGMA
        letter = (entry & _LETTER) != 0
        if gap and count > 0:
            cp[count] = np.uint32(32)
            count += 1
        gap = False
        for i in range(firsts[code], firsts[code + 1]):
            cp[count] = parts[i]
            count += 1
    return count


@kernel
def _signatures(
    data: Bytes,
    offsets: Offsets,
    table: npt.NDArray[np.uint32],
    flags: npt.NDArray[np.uint16],
    kinds: npt.NDArray[np.uint8],
    firsts: npt.NDArray[np.int32],
    parts: npt.NDArray[np.uint32],
    split: int,
    ngram: int,
    factors: Words,
    terms: Words,
    minima: Words,
    counts: npt.NDArray[np.int64],
) -> None:
    longest = 0
    for row in range(len(offsets) - 1):
        longest = max(longest, offsets[row + 1] - offsets[row])
    # A code point of two or three bytes decomposes into at most four, and a blank before it.
    cp = np.empty(2 * longest + 8, dtype=np.uint32)
    joined = np.empty(4 * longest + 64, dtype=np.uint8)
    starts, ends = np.empty(1024, dtype=np.int64), np.empty(1024, dtype=np.int64)
    stack = np.empty(2048, dtype=np.int64)
    for row in range(len(offsets) - 1):
        count = _simplify(data, offsets[row], offsets[row + 1], table, kinds, firsts, parts, cp)
        bound = word_bound(cp, count, table, flags)
        if bound > len(starts):
            starts, ends = np.empty(bound, dtype=np.int64), np.empty(bound, dtype=np.int64)
            stack = np.empty(2 * bound, dtype=np.int64)
        words = split_words(cp, 0, count, split, table, flags, starts, ends, stack)
        # The words as bytes with blanks between them: an n-gram is a stretch of it.
        need = 5 * count + words + 16
        if need > len(joined):
            joined = np.empty(2 * need, dtype=np.uint8)
        size = 0
        for i in range(words):
            first, last = starts[i], ends[i]
            starts[i] = size
            for k in range(first, last):
                size = put(cp[k], joined, size)
            ends[i] = size
            joined[size] = np.uint8(32)
            size += 1
        least = minima[row]
        least[:] = ~np.uint64(0)
        for i in range(words - ngram + 1):
            value = hash_64(joined, starts[i], ends[i + ngram - 1] - starts[i])
            for k in range(len(factors)):
                hashed = value * factors[k] + terms[k]
                hashed = (hashed & _MERSENNE) + (hashed >> np.uint64(61))
                if hashed >= _MERSENNE:
                    hashed -= _MERSENNE
                least[k] = min(least[k], hashed)
        counts[row] = max(0, words - ngram + 1)


@kernel
def join_by_size(
    a: npt.NDArray[np.int64],
    b: npt.NDArray[np.int64],
    parents: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
) -> None:
    """Union by size in the order given; of two equal sets the first one's root stays, as in datatrove."""
    for i in range(len(a)):
        one, two = a[i], b[i]
        while parents[one] != one:
            parents[one] = parents[parents[one]]
            one = parents[one]
        while parents[two] != two:
            parents[two] = parents[parents[two]]
            two = parents[two]
        if one == two:
            continue
        if sizes[one] < sizes[two]:
            one, two = two, one
        parents[two] = one
        sizes[one] += sizes[two]


@kernel
def roots(parents: npt.NDArray[np.int64]) -> None:
    """Make every place name its root."""
    for i in range(len(parents)):
        root = i
        while parents[root] != root:
            root = parents[root]
        at = i
        while parents[at] != root:
            parents[at], at = root, parents[at]
