"""BERT's tokenizer as a kernel: normalize, split, and the longest piece of the vocabulary first.

Ids are those of Hugging Face ``tokenizers`` (a test compares them): what each code point becomes and how it
splits is asked of that library once, so that no table of Unicode stands here. A text with a code point past
the tables is left to the caller.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc, assignment"
# numba infers the types of the helpers below; annotating them would only repeat its work.

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.kernels.characters import decode
from headwater.kernels.flat import flatten
from headwater.kernels.jit import inline_kernel, kernel

CODE_POINTS = 0x32400
"""Of the tables: the planes that hold letters and ideographs."""
_WORD, _SPACE, _PUNCTUATION = 0, 1, 2
_SEPARATOR = "\u2588"  # a block: no character becomes one, it is no mark, space or punctuation
_NO_PIECE = -1
_SURROGATES = range(0xD800, 0xE000)


class WordPiece(NamedTuple):
    """Tables of one tokenizer."""

    start: npt.NDArray[np.int32]
    """Code point to the first of its outputs in ``pool``; one more than code points."""
    pool: npt.NDArray[np.int32]
    kinds: npt.NDArray[np.uint8]
    """Of an output code point: part of a word, space or punctuation."""
    keys: npt.NDArray[np.int64]
    """Hash table of the trie: (node, byte), or -1."""
    nodes: npt.NDArray[np.int32]
    pieces: npt.NDArray[np.int32]
    """Node to the id of the piece that ends there, or -1. Nodes 0 and 1 begin a word and go on in one."""
    unknown: int
    longest_word: int


def wordpiece(tokenizer: Any) -> WordPiece | None:
    """The tables of a ``tokenizers.Tokenizer``; ``None`` where it does something else than BERT's does."""
    content = json.loads(tokenizer.to_str())
    model, normalizer, splitter = (
        content.get(name) or {} for name in ("model", "normalizer", "pre_tokenizer")
    )
    if (
        model.get("type") != "WordPiece"
        or normalizer.get("type") != "BertNormalizer"
        or splitter.get("type") != "BertPreTokenizer"
        or model.get("unk_token") not in model.get("vocab", {})
        or not all(token["special"] for token in content.get("added_tokens") or ())
    ):
        return None
    start, pool = _outputs(tokenizer.normalizer)
    keys, nodes, pieces = _trie(model["vocab"], model["continuing_subword_prefix"])
    return WordPiece(
        start,
        pool,
        _kinds(tokenizer.pre_tokenizer),
        keys,
        nodes,
        pieces,
        int(model["vocab"][model["unk_token"]]),
        int(model["max_input_chars_per_word"]),
    )


def wordpiece_ids(
    tables: WordPiece, texts: pa.Array, longest: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Ids of all texts one after the other, where each text's begin, and which texts could not be done.

    No more than ``longest + 1`` ids a text: enough to see that there are more than ``longest``.
    """
    data, offsets = flatten(texts)
    sizes = np.minimum(np.diff(offsets), longest + 1)
    ids = np.empty(max(int(sizes.sum()), 1), dtype=np.int32)
    starts = np.zeros(len(offsets), dtype=np.int64)
    failed = np.zeros(len(offsets) - 1, dtype=np.bool_)
    used = _encode(
        data,
        offsets,
        tables.start,
        tables.pool,
        tables.kinds,
        tables.keys,
        tables.nodes,
        tables.pieces,
        tables.unknown,
        tables.longest_word,
        longest + 1,
        ids,
        starts,
        failed,
    )
    return ids[:used], starts, failed


def _outputs(normalizer: Any) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    codes = [c for c in range(CODE_POINTS) if c not in _SURROGATES and chr(c) != _SEPARATOR]
    parts = normalizer.normalize_str(_SEPARATOR.join(map(chr, codes))).split(_SEPARATOR)
    lengths = np.zeros(CODE_POINTS + 1, dtype=np.int64)
    lengths[np.array(codes) + 1] = [len(part) for part in parts]
    lengths[ord(_SEPARATOR) + 1] = 1
    start = np.cumsum(lengths).astype(np.int32)
    at = next(i for i, code in enumerate(codes) if code > ord(_SEPARATOR))
    outputs = "".join([*parts[:at], _SEPARATOR, *parts[at:]])
    return start, np.frombuffer(outputs.encode("utf-32-le"), dtype=np.int32).copy()


def _kinds(splitter: Any) -> npt.NDArray[np.uint8]:
    codes = [c for c in range(CODE_POINTS) if c not in _SURROGATES]
    joined = _SEPARATOR.join(map(chr, codes))
    at_offset = np.full(len(joined), _SPACE, dtype=np.uint8)
    for _, (begin, end) in splitter.pre_tokenize_str(joined):
        at_offset[begin:end] = _PUNCTUATION if end - begin == 1 else _WORD
    kinds = np.zeros(CODE_POINTS, dtype=np.uint8)
    kinds[codes] = at_offset[::2]
    return kinds


def _trie(
    vocab: dict[str, int], prefix: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    children: list[dict[int, int]] = [{}, {}]
    pieces = [_NO_PIECE, _NO_PIECE]
    for token, i in vocab.items():
        goes_on = bool(prefix) and token.startswith(prefix)
        node = int(goes_on)
        for byte in (token[len(prefix) :] if goes_on else token).encode():
            if byte not in children[node]:
                children[node][byte] = len(children)
                children.append({})
                pieces.append(_NO_PIECE)
            node = children[node][byte]
        if node > 1:
            pieces[node] = i
    size = 1 << (2 * len(children)).bit_length()
    keys = np.full(size, -1, dtype=np.int64)
    nodes = np.zeros(size, dtype=np.int32)
    pairs = [(node << 8 | byte, child) for node, each in enumerate(children) for byte, child in each.items()]
    _fill(np.array(pairs, dtype=np.int64).reshape(-1, 2), keys, nodes)
    return keys, nodes, np.array(pieces, dtype=np.int32)


@inline_kernel
def _slot(key, mask):
    return np.int64((np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20)) & mask


@kernel
def _fill(pairs, keys, nodes):
    mask = len(keys) - 1
    for i in range(len(pairs)):
        slot = _slot(pairs[i, 0], mask)
        while keys[slot] >= 0:
            slot = (slot + 1) & mask
        keys[slot] = pairs[i, 0]
        nodes[slot] = pairs[i, 1]


@inline_kernel
def _pieces_of(word, size, chars, keys, nodes, pieces, unknown, longest_word, ids, used, limit):
    """Append the pieces of a word to ``ids``; returns how many ids there are then."""
    if chars > longest_word:
        if used < limit:
            ids[used] = unknown
            used += 1
        return used
    mask = len(keys) - 1
    before = used
    at = 0
    while at < size:
        node = np.int64(0) if at == 0 else np.int64(1)
        found, end = np.int32(-1), at
        place = at
        while place < size:
            key = (node << 8) | np.int64(word[place])
            slot = _slot(key, mask)
            while keys[slot] != key and keys[slot] >= 0:
                slot = (slot + 1) & mask
            if keys[slot] < 0:
                break
            node = np.int64(nodes[slot])
            place += 1
            if pieces[node] >= 0:
                found, end = pieces[node], place
        if found < 0:  # then the whole word is unknown
            if before < limit:
                ids[before] = unknown
                before += 1
            return before
        if used < limit:
            ids[used] = found
            used += 1
        at = end
    return used


@inline_kernel
def _append(code, word, size):
    """UTF-8 of a code point behind the first ``size`` bytes of ``word``."""
    if code < 0x80:
        word[size] = code
        return size + 1
    if code < 0x800:
        word[size] = 0xC0 | (code >> 6)
        word[size + 1] = 0x80 | (code & 0x3F)
        return size + 2
    if code < 0x10000:
        word[size] = 0xE0 | (code >> 12)
        word[size + 1] = 0x80 | ((code >> 6) & 0x3F)
        word[size + 2] = 0x80 | (code & 0x3F)
        return size + 3
    word[size] = 0xF0 | (code >> 18)
    word[size + 1] = 0x80 | ((code >> 12) & 0x3F)
    word[size + 2] = 0x80 | ((code >> 6) & 0x3F)
    word[size + 3] = 0x80 | (code & 0x3F)
    return size + 4


@kernel
def _encode(
    data,
    offsets,
    start,
    pool,
    kinds,
    keys,
    nodes,
    pieces,
    unknown,
    longest_word,
    longest,
    ids,
    starts,
    failed,
):
    word = np.empty(4 * (longest_word + 2), dtype=np.uint8)
    used = np.int64(0)
    for i in range(len(offsets) - 1):
        starts[i] = used
        at, end = offsets[i], offsets[i + 1]
        limit = min(used + longest, len(ids))
        size, chars = np.int64(0), np.int64(0)
        while at < end and used < limit:
            code = np.int64(data[at])
            if code < 0x80:
                at += 1
            else:
                character, width = decode(data, at)
                code = np.int64(character)
                at += width
                if code >= CODE_POINTS:
                    failed[i] = True
                    break
            for place in range(start[code], start[code + 1]):
                out = np.int64(pool[place])
                kind = kinds[out]
                if kind == _WORD:
                    if chars <= longest_word:
                        size = _append(out, word, size)
                    chars += 1
                    continue
                if chars:
                    used = _pieces_of(
                        word, size, chars, keys, nodes, pieces, unknown, longest_word, ids, used, limit
                    )
                    size, chars = 0, 0
                if kind == _PUNCTUATION:
                    size = _append(out, word, 0)
                    used = _pieces_of(
                        word, size, 1, keys, nodes, pieces, unknown, longest_word, ids, used, limit
                    )
                    size = 0
        if chars and not failed[i]:
            used = _pieces_of(word, size, chars, keys, nodes, pieces, unknown, longest_word, ids, used, limit)
        if failed[i]:
            used = starts[i]
    starts[len(offsets) - 1] = used
    return used
