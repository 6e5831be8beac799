"""Runs of words that documents share with a fixed, small set of texts (evaluation items).

A word is defined in :mod:`headwater.kernels.characters` (letters lower-cased; punctuation and white space
only separate). Two passes over a document: the first rolls a hash over its words and asks a bitmap, which
most documents never pass; the second, for those that hold an indexed n-gram, compares words and finds the
*maximal* runs. Every word of a run is compared, as a 64-bit hash: a false match of n words needs n collisions
at once.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
# numba infers the types of the helpers below; annotating them would only repeat its work.

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.kernels.characters import ALPHA, LOWER, MARK, SOLO, TABLE, WORD, decode
from headwater.kernels.flat import Bytes, Offsets, flatten
from headwater.kernels.jit import inline_kernel, kernel
from headwater.kernels.shingles import mix

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

_U = np.uint64
_FNV_OFFSET, _FNV_PRIME = _U(0xCBF29CE484222325), _U(0x100000001B3)  # FNV-1a, 64 bit
_ROLL = _U(0x9E3779B97F4A7C15)  # odd; 2**64 / golden ratio
_MIX = _U(0xFF51AFD7ED558CCD)
_LOWER, _WORD, _SOLO, _MARK = np.uint32(LOWER), np.uint32(WORD), np.uint32(SOLO), np.uint32(MARK)
_ALPHA = np.uint32(ALPHA)

MAX_OCCURRENCES = 64
"""An n-gram that occurs more often than this in the indexed texts is their boilerplate: it starts no match
(it is still part of one). It also bounds the work per word of a document."""

BITS_PER_GRAM = 32  # of the bitmap: about 3 % of the words of unrelated text pass it


class Index(NamedTuple):
    """The n-grams of a set of texts. Arrays are read-only."""

    words: Hashes  # word hashes of all texts, end to end
    starts: Ints  # where each text begins in ``words``; one more than texts
    lengths: Ints  # lengths of indexed runs, ascending: that of whole short texts, and the n of the others
    bitmap: npt.NDArray[np.uint8]
    slots: Hashes  # open addressing: gram hash, 0 is empty
    first: Ints  # postings of a slot: places[first[slot]:first[slot] + many[slot]]
    many: Ints
    places: Ints  # places in ``words``
    owner: Ints  # text of each place in ``words``
    seeds: npt.NDArray[np.uint8]  # 1 where an indexed run begins


class Matches(NamedTuple):
    """One entry for each document and text with a shared run, in the order of rows and texts."""

    row: Ints
    text: Ints
    longest: Ints  # words of the longest shared run
    start: Ints  # its first byte in the document
    end: Ints  # after its last
    lettered: Ints  # its words that hold a letter: rows of numbers are alike without being copied
    run_hash: Hashes  # of its words
    hits: Ints  # (entries, len(ngrams)): the text's n-grams that the document holds
    covered: Ints  # (entries, len(ngrams)): the text's words in shared runs of at least n


class Words(NamedTuple):
    """Word hashes of texts, end to end."""

    hashes: Hashes
    counts: Ints


def words_of(array: pa.Array | pa.ChunkedArray) -> Words:
    """Hashes of every word of a text array without nulls."""
    data, offsets = flatten(array)
    counts = np.zeros(len(offsets) - 1, dtype=np.int64)
    return Words(_all_words(data, offsets, TABLE, counts), counts)


def build_index(texts: pa.Array | pa.ChunkedArray, *, ngram: int, min_words: int) -> Index:
    """Index every run of ``ngram`` words of every text; a shorter text of at least ``min_words`` whole."""
    words, counts = words_of(texts)
    starts = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=starts[1:])
    owner = np.repeat(np.arange(len(counts)), counts)
    position = np.arange(len(words)) - starts[owner]
    size = counts[owner]
    run = np.where(size >= ngram, ngram, size)  # length of the run that would begin here
    begins = np.where(size >= ngram, position <= size - ngram, (position == 0) & (size >= min_words))
    places = np.flatnonzero(begins)
    grams = _gram_hashes(words, places, run[places])
    # Equal grams side by side; too common ones start nothing.
    order = np.lexsort((places, grams))
    grams, places = grams[order], places[order]
    distinct, first, count = np.unique(grams, return_index=True, return_counts=True)
    rare = count <= MAX_OCCURRENCES
    seeds = np.zeros(len(words), dtype=np.uint8)
    seeds[places[np.repeat(rare, count)]] = 1
    distinct, first, count = distinct[rare], first[rare], count[rare]
    capacity = 16
    while capacity < 2 * len(distinct):
        capacity *= 2
    slots = np.zeros(capacity, dtype=np.uint64)
    slot_first = np.zeros(capacity, dtype=np.int64)
    slot_count = np.zeros(capacity, dtype=np.int64)
    _fill(distinct, first, count, slots, slot_first, slot_count)
    num_bits = 1 << 16
    while num_bits < BITS_PER_GRAM * len(distinct):
        num_bits *= 2
    bitmap = np.zeros(num_bits // 8, dtype=np.uint8)
    _set_bits(distinct, bitmap)
    lengths = np.unique(run[seeds == 1]).astype(np.int64)
    places, owner = places.astype(np.int64), owner.astype(np.int64)
    index = Index(words, starts, lengths, bitmap, slots, slot_first, slot_count, places, owner, seeds)
    for part in index:
        part.flags.writeable = False
    return index


def find_matches(array: pa.Array | pa.ChunkedArray, index: Index, *, ngrams: tuple[int, ...]) -> Matches:
    """The runs that each document of a text array without nulls shares with the index's texts.

    ``ngrams``: lengths to count n-grams by, none below the index's own; a text shorter than n counts as
    one n-gram.
    """
    data, offsets = flatten(array)
    found, run_hash, counted = _find(data, offsets, TABLE, *index, np.array(ngrams, dtype=np.int64))
    order = np.lexsort((found[:, 1], found[:, 0]))
    found, run_hash, counted = found[order], run_hash[order], counted[order]
    k = len(ngrams)
    row, text, longest, start, end, lettered = found.T
    return Matches(row, text, longest, start, end, lettered, run_hash, counted[:, :k], counted[:, k:])


@inline_kernel
def _next_word(data, at, end, table):
    """(hash, first byte, byte after) of the next word from ``at``; the first is ``end`` where none is."""
    word = _FNV_OFFSET
    while at < end:  # to its first character
        byte = data[at]
        size = 1
        if byte < 0x80:
            entry = table[byte]
        else:
            code, size = decode(data, at)
            entry = table[code]
        if entry & (_WORD | _SOLO) != 0:
            break
        at += size
    else:
        return word, end, end
    first = at
    solo = entry & _SOLO != 0
    word = (word ^ _U(entry & _LOWER)) * _FNV_PRIME
    at += size
    while at < end:
        byte = data[at]
        size = 1
        if byte < 0x80:
            entry = table[byte]
        else:
            code, size = decode(data, at)
            entry = table[code]
        if entry & (_WORD | _SOLO) != _WORD or (solo and entry & _MARK == 0):
            break
        word = (word ^ _U(entry & _LOWER)) * _FNV_PRIME
        at += size
    word ^= word >> _U(32)
    return word * _MIX, first, at


@inline_kernel
def _has_letter(data, at, end, table):
    while at < end:
        code, size = np.uint32(data[at]), 1
        if data[at] >= 0x80:
            code, size = decode(data, at)
        if table[code] & _ALPHA != 0:
            return 1
        at += size
    return 0


@kernel
def _all_words(data: Bytes, offsets: Offsets, table: npt.NDArray[np.uint32], counts: Ints) -> Hashes:
    out = np.empty(1024, dtype=np.uint64)
    used = 0
    for row in range(len(offsets) - 1):
        at, end = offsets[row], offsets[row + 1]
        before = used
        while True:
            word, first, at = _next_word(data, at, end, table)
            if first == end:
                break
            if used == len(out):
                larger = np.empty(2 * used, dtype=np.uint64)
                larger[:used] = out
                out = larger
            out[used] = word
            used += 1
        counts[row] = used - before
    return out[:used].copy()


@inline_kernel
def _sealed(rolling, length):
    """The hash of a run of ``length`` words: never 0, and different for the same words of another length."""
    value = mix(rolling + _U(length) * _MIX)
    return value if value != 0 else _U(1)


@kernel
def _gram_hashes(words: Hashes, places: Ints, lengths: Ints) -> Hashes:
    out = np.empty(len(places), dtype=np.uint64)
    for i in range(len(places)):
        rolling = _U(0)
        for j in range(places[i], places[i] + lengths[i]):
            rolling = rolling * _ROLL + words[j]
        out[i] = _sealed(rolling, lengths[i])
    return out


@kernel
def _fill(grams: Hashes, first: Ints, count: Ints, slots: Hashes, to_first: Ints, to_count: Ints) -> None:
    mask = len(slots) - 1
    for i in range(len(grams)):
        at = np.int64(grams[i]) & mask
        while slots[at] != 0:
            at = (at + 1) & mask
        slots[at] = grams[i]
        to_first[at] = first[i]
        to_count[at] = count[i]


@inline_kernel
def _bit(place):
    return np.uint8(1) << np.uint8(place & _U(7))


@kernel
def _set_bits(grams: Hashes, bitmap: npt.NDArray[np.uint8]) -> None:
    mask = _U(8 * len(bitmap) - 1)
    for gram in grams:
        bit = (gram >> _U(20)) & mask
        bitmap[bit >> _U(3)] |= _bit(bit)


@inline_kernel
def _slot(gram, slots):
    """The slot of ``gram``, or -1."""
    mask = len(slots) - 1
    at = np.int64(gram) & mask
    while slots[at] != 0:
        if slots[at] == gram:
            return at
        at = (at + 1) & mask
    return -1


@inline_kernel
def _looked_up(gram, bitmap, slots):
    """The slot of ``gram``, or -1: the bitmap first, which is small."""
    bit = (gram >> _U(20)) & _U(8 * len(bitmap) - 1)
    if bitmap[bit >> _U(3)] & _bit(bit):
        return _slot(gram, slots)
    return -1


@inline_kernel
def _holds_gram(data, at, end, table, lengths, tops, bitmap, slots, ring, rolling):
    """Whether any run of the document is indexed: the first pass, without memory of its own."""
    longest = lengths[-1]
    count = 0
    slot = 0
    rolling[:] = _U(0)
    while True:
        word, first, at = _next_word(data, at, end, table)
        if first == end:
            return False
        count += 1
        for k in range(len(lengths)):
            length = lengths[k]
            value = rolling[k]
            if count > length:
                back = slot - length
                if back < 0:
                    back += longest
                value -= ring[back] * tops[k]
            value = value * _ROLL + word
            rolling[k] = value
            if count >= length and _looked_up(_sealed(value, length), bitmap, slots) >= 0:
                return True
        ring[slot] = word
        slot += 1
        if slot == longest:
            slot = 0


@inline_kernel
def _larger(array, used):
    more = np.empty((2 * used, *array.shape[1:]), dtype=array.dtype)
    more[:used] = array
    return more


@kernel
def _find(
    data: Bytes,
    offsets: Offsets,
    table: npt.NDArray[np.uint32],
    words: Hashes,
    starts: Ints,
    lengths: Ints,
    bitmap: npt.NDArray[np.uint8],
    slots: Hashes,
    first: Ints,
    count: Ints,
    places: Ints,
    owner: Ints,
    seeds: npt.NDArray[np.uint8],
    sizes: Ints,
) -> tuple[Ints, Hashes, Ints]:
    out = np.empty((256, 6), dtype=np.int64)
    out_hash = np.empty(256, dtype=np.uint64)
    out_counts = np.empty((256, 2 * len(sizes)), dtype=np.int64)
    used = 0
    if len(lengths) == 0:
        return out[:0].copy(), out_hash[:0].copy(), out_counts[:0].copy()
    tops = np.empty(len(lengths), dtype=np.uint64)  # the weight of the word that leaves the window
    for k in range(len(lengths)):
        tops[k] = _U(1)
        for _ in range(lengths[k] - 1):
            tops[k] *= _ROLL
    ring = np.empty(lengths[-1], dtype=np.uint64)
    rolling = np.empty(len(lengths), dtype=np.uint64)
    num_texts = len(starts) - 1
    stamp = np.full(len(words), -1, dtype=np.int64)  # row that ``reach`` is of
    reach = np.zeros(len(words), dtype=np.int64)  # longest shared run from each indexed word on
    longest = np.zeros(num_texts, dtype=np.int64)
    run_at = np.zeros(num_texts, dtype=np.int64)  # first word of the longest run in the document
    seen_in = np.full(num_texts, -1, dtype=np.int64)
    touched = np.empty(num_texts, dtype=np.int64)
    doc = np.empty(1024, dtype=np.uint64)
    begin = np.empty(1024, dtype=np.int64)
    after = np.empty(1024, dtype=np.int64)
    for row in range(len(offsets) - 1):
        start, end = offsets[row], offsets[row + 1]
        if not _holds_gram(data, start, end, table, lengths, tops, bitmap, slots, ring, rolling):
            continue
        size = 0
        at = start
        while True:  # the document's words
            word, head, at = _next_word(data, at, end, table)
            if head == end:
                break
            if size == len(doc):
                doc, begin, after = _larger(doc, size), _larger(begin, size), _larger(after, size)
            doc[size], begin[size], after[size] = word, head, at
            size += 1
        num_touched = 0
        for k in range(len(lengths)):
            length = lengths[k]
            value = _U(0)
            for p in range(size):
                if p >= length:
                    value -= doc[p - length] * tops[k]
                value = value * _ROLL + doc[p]
                head = p - length + 1
                if head < 0:
                    continue
                slot = _looked_up(_sealed(value, length), bitmap, slots)
                if slot < 0:
                    continue
                for posting in range(first[slot], first[slot] + count[slot]):
                    place = places[posting]
                    text = owner[place]
                    low, high = starts[text], starts[text + 1]
                    left = 0
                    if head > 0 and place > low and doc[head - 1] == words[place - 1]:
                        if seeds[place - 1] == 1:
                            continue  # part of the run that began one word before
                        while (
                            head > left
                            and place - left > low
                            and doc[head - left - 1] == words[place - left - 1]
                        ):
                            left += 1
                    right = 0
                    while (
                        head + right < size
                        and place + right < high
                        and doc[head + right] == words[place + right]
                    ):
                        right += 1
                    if right < length:  # equal hashes of different words
                        continue
                    run = left + right
                    if seen_in[text] != row:
                        seen_in[text] = row
                        touched[num_touched] = text
                        num_touched += 1
                        longest[text] = 0
                    if run > longest[text]:
                        longest[text] = run
                        run_at[text] = head - left
                    for i in range(run):
                        w = place - left + i
                        if stamp[w] == row and reach[w] >= run - i:
                            break  # a longer run reaches as far from here on
                        stamp[w] = row
                        reach[w] = run - i
        for i in range(num_touched):
            text = touched[i]
            if used == len(out):
                out, out_hash, out_counts = (
                    _larger(out, used),
                    _larger(out_hash, used),
                    _larger(out_counts, used),
                )
            low, high = starts[text], starts[text + 1]
            run, head = longest[text], run_at[text]
            value = _U(0)
            lettered = 0
            for p in range(head, head + run):
                value = value * _ROLL + doc[p]
                lettered += _has_letter(data, begin[p], after[p], table)
            out[used, 0], out[used, 1], out[used, 2] = row, text, run
            out[used, 3], out[used, 4] = begin[head] - start, after[head + run - 1] - start
            out[used, 5] = lettered
            out_hash[used] = _sealed(value, run)
            for k in range(len(sizes)):
                n = min(sizes[k], high - low)
                hits = 0
                covered = 0
                until = low
                for w in range(low, high - n + 1):
                    if stamp[w] == row and reach[w] >= n:
                        hits += 1
                        covered += w + n - max(w, until)
                        until = w + n
                out_counts[used, k] = hits
                out_counts[used, len(sizes) + k] = covered
            used += 1
    return out[:used].copy(), out_hash[:used].copy(), out_counts[:used].copy()
