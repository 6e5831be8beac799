"""fastText inference over flat text: the rows of the input matrix, their mean, the scores of the labels.

The same arithmetic as fastText 0.9.2 (``dictionary.cc``, ``loss.cc``): equal features in equal order, float32
sums. A text is one line: a line feed in it counts as the white space it is, and ends no sentence.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
# numba infers the types of the helpers below; annotating them would only repeat its work.

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from headwater.kernels.jit import inline_kernel, kernel

_U32, _U64 = np.uint32, np.uint64
_FNV_OFFSET, _FNV_PRIME = np.uint32(2166136261), np.uint32(16777619)
_NGRAM_FACTOR = np.uint64(116049371)
_LT, _GT = np.uint8(ord("<")), np.uint8(ord(">"))
_FLOOR = 1e-5  # std_log(x) is log(x + 1e-5) in loss.cc

_CHUNK = 1024  # characters of a word whose n-grams are held at once

HIERARCHICAL, NEGATIVE, SOFTMAX, ONE_VS_ALL = 1, 2, 3, 4

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Float32s = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


@inline_kernel
def _step(value, byte):
    # Bytes are signed in fastText's hash: those of 0x80 and above are extended by ones.
    extended = _U32(byte) if byte < 0x80 else _U32(byte) | _U32(0xFFFFFF00)
    return _U32((value ^ extended) * _FNV_PRIME)


@inline_kernel
def _hash(data, start, end):
    value = _FNV_OFFSET
    for i in range(start, end):
        value = _step(value, data[i])
    return value


@inline_kernel
def _same(data, start, end, words, at, until):
    if end - start != until - at:
        return False
    for i in range(end - start):  # noqa: SIM110 - numba has no all()
        if data[start + i] != words[at + i]:
            return False
    return True


@inline_kernel
def _word_id(data, start, end, value, words, word_offsets, slots):
    mask = len(slots) - 1
    at = np.int64(value) & mask
    while slots[at] >= 0:
        word = slots[at]
        if _same(data, start, end, words, word_offsets[word], word_offsets[word + 1]):
            return word
        at = (at + 1) & mask
    return np.int64(-1)


@inline_kernel
def _is_space(byte):
    # istream words end at space, \t \n \v \f \r, and fastText's own NUL.
    return byte == 32 or (9 <= byte <= 13) or byte == 0


@inline_kernel
def _signed(value):
    return _U64(value) if value < _U32(0x80000000) else _U64(value) | _U64(0xFFFFFFFF00000000)


@inline_kernel
def _ones(bits):
    bits = bits - ((bits >> _U64(1)) & _U64(0x5555555555555555))
    bits = (bits & _U64(0x3333333333333333)) + ((bits >> _U64(2)) & _U64(0x3333333333333333))
    bits = (bits + (bits >> _U64(4))) & _U64(0x0F0F0F0F0F0F0F0F)
    return np.int64((bits * _U64(0x0101010101010101)) >> _U64(56))


@inline_kernel
def _flush(features, pending, matrix, out, text):
    for f in range(pending):
        row = features[f]
        for i in range(matrix.shape[1]):
            out[text, i] += matrix[row, i]
    return pending


@kernel
def hidden(
    data: Bytes,
    starts: Int64s,
    ends: Int64s,
    words: Bytes,
    word_offsets: Int64s,
    slots: Int32s,
    sizes: Int64s,
    kept: npt.NDArray[np.uint64],
    matrix: Float32s,
    out: Float32s,
    counts: Int64s,
) -> None:
    """``out[i]``: the mean of the features' rows of ``data[starts[i]:ends[i]]``; ``counts[i]`` how many.

    ``sizes``: words, minn, maxn, buckets, word n-grams, pruned (-1 not, 0 all, or how many kept), the row of
    the end of sentence (-1: none), the length of the label prefix within ``words`` after the last word.
    ``kept``, of a pruned model: 64 buckets a row, a bit for each that it has, and how many it has up to the
    last of them; their rows in ``matrix`` are in the order of the buckets.
    """
    num_words, minn, maxn, buckets = sizes[0], sizes[1], sizes[2], sizes[3]
    word_ngrams, pruned, end_of_sentence, prefix = sizes[4], sizes[5], sizes[6], sizes[7]
    inverse = 1.0 / buckets
    prefix_at = word_offsets[num_words]
    dim = matrix.shape[1]
    recent = np.zeros(max(word_ngrams, 1), dtype=np.uint32)  # the hashes of the last words
    framed = np.empty(64, dtype=np.uint8)  # a word between "<" and ">"
    hashes = np.empty(_CHUNK * max(maxn, 1), dtype=np.uint32)
    features = np.empty(len(hashes) + word_ngrams + 2, dtype=np.int64)
    for text in range(len(starts)):
        count = 0  # of features
        pending = 0  # of those, not yet added
        seen = 0
        for i in range(dim):
            out[text, i] = np.float32(0)
        at, end = starts[text], ends[text]
        while at <= end:
            while at < end and _is_space(data[at]):
                at += 1
            start = at
            while at < end and not _is_space(data[at]):
                at += 1
            value = _FNV_OFFSET
            if start == at:  # the sentence ends: "</s>", as the line feed after each line has it
                value = _step(_step(_step(_step(value, 60), 47), 115), 62)
                if end_of_sentence >= 0:
                    features[pending] = end_of_sentence
                    pending += 1
                at = end + 1
            else:
                value = _hash(data, start, at)
                word = _word_id(data, start, at, value, words, word_offsets, slots)
                if word >= 0:
                    features[pending] = word
                    pending += 1
                elif at - start >= prefix and _same(
                    data, start, start + prefix, words, prefix_at, prefix_at + prefix
                ):
                    continue  # a label in the text is no word
                size = at - start + 2 if maxn > 0 and pruned != 0 else 0
                if size > len(framed):
                    framed = np.empty(2 * size, dtype=np.uint8)
                if size > 0:
                    framed[0], framed[size - 1] = _LT, _GT
                    for i in range(start, at):
                        framed[i - start + 1] = data[i]
                for part in range(0, size, _CHUNK):
                    num_hashes = 0
                    for i in range(part, min(part + _CHUNK, size)):
                        if (framed[i] & 0xC0) == 0x80:
                            continue
                        gram = _FNV_OFFSET
                        j = i
                        for n in range(1, maxn + 1):
                            if j >= size:
                                break
                            gram = _step(gram, framed[j])
                            j += 1
                            while j < size and (framed[j] & 0xC0) == 0x80:
                                gram = _step(gram, framed[j])
                                j += 1
                            if n >= minn and not (n == 1 and (i == 0 or j == size)):
                                hashes[num_hashes] = gram
                                num_hashes += 1
                    for i in range(num_hashes):
                        # value % buckets of 32 bits without a division
                        wide = np.int64(hashes[i])
                        bucket = wide - np.int64(np.float64(wide) * inverse) * buckets
                        bucket += buckets & (bucket >> 63)
                        if bucket >= buckets:
                            bucket -= buckets
                        if pruned > 0:
                            # Most buckets of a pruned model are absent: one bit says so.
                            bits = kept[bucket >> 6, 0] >> _U64(bucket & 63)
                            if bits & _U64(1) == 0:
                                continue
                            bucket = np.int64(kept[bucket >> 6, 1]) - _ones(bits)
                        features[pending] = num_words + bucket
                        pending += 1
                    count += _flush(features, pending, matrix, out, text)
                    pending = 0
            if word_ngrams > 1 and pruned != 0:
                # n-grams of the words that end here, in another order than fastText's: only rounding differs
                recent[seen % word_ngrams] = value
                seen += 1
                for n in range(2, min(word_ngrams, seen) + 1):
                    mixed = _signed(recent[(seen - n) % word_ngrams])
                    for k in range(seen - n + 1, seen):
                        mixed = mixed * _NGRAM_FACTOR + _signed(recent[k % word_ngrams])
                    bucket = np.int64(mixed % _U64(buckets))
                    if pruned > 0:
                        bits = kept[bucket >> 6, 0] >> _U64(bucket & 63)
                        if bits & _U64(1) == 0:
                            continue
                        bucket = np.int64(kept[bucket >> 6, 1]) - _ones(bits)
                    features[pending] = num_words + bucket
                    pending += 1
            count += _flush(features, pending, matrix, out, text)
            pending = 0
        counts[text] = count
        if count > 0:
            for i in range(dim):
                out[text, i] *= np.float32(1) / np.float32(count)


@kernel
def probabilities(
    states: Float32s,
    counts: Int64s,
    output: Float32s,
    loss: int,
    left: Int32s,
    right: Int32s,
    out: Float32s,
) -> None:
    """``out[i]``: each label's probability as fastText gives it; 0 for a text without features.

    fastText adds 1e-5 to every factor before it takes logarithms, so a probability may exceed 1 by as much.
    """
    labels = out.shape[1]
    nodes = np.zeros(2 * labels, dtype=np.float64)
    for row in range(len(states)):
        if counts[row] == 0:
            for label in range(labels):
                out[row, label] = np.float32(0)
        elif loss == HIERARCHICAL:
            # Children have lower numbers than their parent, the root the highest.
            nodes[2 * labels - 2] = 1.0
            for node in range(2 * labels - 2, labels - 1, -1):
                f = 1 / (1 + math.exp(-_dot(output, node - labels, states, row)))
                nodes[left[node]] = nodes[node] * (1 - f + _FLOOR)
                nodes[right[node]] = nodes[node] * (f + _FLOOR)
            for label in range(labels):
                out[row, label] = nodes[label]
        elif loss == SOFTMAX:
            largest = -np.inf
            for label in range(labels):
                nodes[label] = _dot(output, label, states, row)
                largest = max(largest, nodes[label])
            total = 0.0
            for label in range(labels):
                nodes[label] = math.exp(nodes[label] - largest)
                total += nodes[label]
            for label in range(labels):
                out[row, label] = nodes[label] / total + _FLOOR
        else:
            for label in range(labels):
                # fastText looks the sigmoid up in steps of 1/32 from -8 to 8 (loss.cc).
                x = np.float64(_dot(output, label, states, row))
                step = np.int64((x + 8) * 32)
                f = 0.0 if x < -8 else 1.0 if x > 8 else 1 / (1 + math.exp(8 - step / 32))
                out[row, label] = f + _FLOOR


@inline_kernel
def _dot(matrix, row, states, text):
    total = np.float32(0)
    for i in range(matrix.shape[1]):
        total += matrix[row, i] * states[text, i]
    return total


@kernel
def read_entries(data: Bytes, at: int, count: int, out: Int64s) -> int:
    """Dictionary entries ``text NUL int64 int8`` from byte ``at``: start, end, count and type of each.

    Returns the byte after the last, or -1 when the data ends before that.
    """
    for i in range(count):
        start = at
        while at < len(data) and data[at] != 0:
            at += 1
        if at + 10 > len(data):
            return -1
        number = _U64(0)
        for k in range(8):
            number |= _U64(data[at + 1 + k]) << _U64(8 * k)
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = start, at, np.int64(number), data[at + 9]
        at += 10
    return at


@kernel
def fill_slots(words: Bytes, offsets: Int64s, slots: Int32s) -> None:
    """The hash table of the words: open addressing, -1 for empty."""
    mask = len(slots) - 1
    for word in range(len(offsets) - 1):
        at = np.int64(_hash(words, offsets[word], offsets[word + 1])) & mask
        while slots[at] >= 0:
            at = (at + 1) & mask
        slots[at] = word
