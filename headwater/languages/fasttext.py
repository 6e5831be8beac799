"""fastText models, read by Headwater itself: ``.bin`` mapped into memory, ``.ftz`` decompressed once.

A classifier runs here without the C++ library: no Python object per document, no GIL, and the matrix of a
model of gigabytes is mapped, so that processes share it.

References
----------
fastText 0.9.2: ``fasttext.cc`` (file format, version 12), ``dictionary.cc``, ``productquantizer.cc``,
``quantmatrix.cc``, ``loss.cc`` (tree of the hierarchical softmax).
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headwater.errors import BadInput
from headwater.kernels.fasttext import HIERARCHICAL, fill_slots, hidden, probabilities, read_entries

_MAGIC = 793712314
_VERSION = 12
_SUPERVISED = 3
_END_OF_SENTENCE = b"</s>"
_LABEL_PREFIX = b"__label__"
_CENTROIDS = 256
_BLOCK = 4096
"""Texts scored at once: with 176 labels, 3 MB of scores."""

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


class FastText:
    """A supervised fastText model.

    Attributes
    ----------
    labels: names without ``__label__``, in the order of the columns of :meth:`probabilities`.
    """

    def __init__(self, path: Path) -> None:
        reader = _Reader(path)
        magic, version = reader.values("<ii")
        if magic != _MAGIC or version != _VERSION:
            raise reader.bad(f"magic {magic} version {version}, expected {_MAGIC} version {_VERSION}")
        arguments = reader.values("<12id")
        dim, ngrams, loss, kind, buckets, minn, maxn = (arguments[i] for i in (0, 5, 6, 7, 8, 9, 10))
        if kind != _SUPERVISED or loss not in (1, 2, 3, 4):
            raise reader.bad("no classifier: it was not trained as supervised")
        size, num_words, num_labels, _, pruned = reader.values("<iiiqq")
        if min(size, num_words, buckets) < 0 or num_labels < 1 or num_words + num_labels != size:
            raise reader.bad(f"{num_words} words and {num_labels} labels of {size} entries")
        entries = reader.entries(size)
        texts = [bytes(reader.data[s:e]) for s, e in entries[num_words:, :2]]
        self.labels = tuple(t.removeprefix(_LABEL_PREFIX).decode("utf-8", "replace") for t in texts)
        lengths = entries[:num_words, 1] - entries[:num_words, 0]
        offsets = np.zeros(num_words + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        words = b"".join(bytes(reader.data[s:e]) for s, e in entries[:num_words, :2])
        last = {words[a:b]: i for i, (a, b) in enumerate(itertools.pairwise(offsets))}
        self._words = np.frombuffer(words + _LABEL_PREFIX, dtype=np.uint8)
        self._offsets = offsets
        self._slots = np.full(_power(2 * num_words + 2), -1, dtype=np.int32)
        fill_slots(self._words, self._offsets, self._slots)
        pairs = reader.array(np.dtype("<i4"), 2 * max(pruned, 0)).reshape(-1, 2)
        if len(pairs) and not 0 <= int(pairs.min()) <= int(pairs[:, 0].max()) < buckets:
            raise reader.bad("a bucket that is not there")
        order = np.argsort(pairs[:, 0], kind="stable")
        self._kept = _bits(pairs[order, 0], buckets)
        quantized = bool(reader.values("<?")[0])
        self._matrix = reader.quantized() if quantized else reader.matrix()
        quantized_output = bool(reader.values("<?")[0])
        self._output = np.ascontiguousarray(
            reader.quantized() if quantized and quantized_output else reader.matrix()
        )
        rows = num_words + (buckets if pruned < 0 else len(pairs) and int(pairs[:, 1].max()) + 1)
        needed = rows if maxn > 0 or ngrams > 1 else num_words
        if self._matrix.shape[0] < needed or {self._matrix.shape[1], self._output.shape[1]} != {dim}:
            raise reader.bad(f"a matrix of {self._matrix.shape}, expected {needed} rows of {dim}")
        if len(pairs):
            rows_kept = num_words + pairs[order, 1].astype(np.int64)
            self._matrix = np.concatenate([self._matrix[:num_words], self._matrix[rows_kept]])
        self._sizes = np.array(
            [
                num_words, minn, maxn, max(buckets, 1), ngrams, pruned,
                last.get(_END_OF_SENTENCE, -1), len(_LABEL_PREFIX),
            ],
            dtype=np.int64,
        )  # fmt: skip
        self._loss = int(loss)
        self._left, self._right = _tree(entries[num_words:, 2])
        nodes = num_labels - 1 if loss == HIERARCHICAL else num_labels
        if self._output.shape[0] < nodes:
            raise reader.bad(f"an output of {self._output.shape[0]} rows for {num_labels} labels")

    def probabilities(self, data: npt.NDArray[np.uint8], starts: Ints, ends: Ints) -> Iterator[Floats]:
        """Blocks of at most 4096 texts: each label's probability, (texts, labels) float32.

        A text without any feature that the model knows has 0 everywhere.
        """
        for at in range(0, len(starts), _BLOCK):
            first, last = starts[at : at + _BLOCK], ends[at : at + _BLOCK]
            states = np.empty((len(first), self._matrix.shape[1]), dtype=np.float32)
            counts = np.empty(len(first), dtype=np.int64)
            hidden(
                data, first, last, self._words, self._offsets, self._slots, self._sizes, self._kept,
                self._matrix, states, counts,
            )  # fmt: skip
            out = np.empty((len(first), len(self.labels)), dtype=np.float32)
            probabilities(states, counts, self._output, self._loss, self._left, self._right, out)
            yield out


def load(path: str | Path) -> FastText:
    """The model at ``path``, read once for each state of the file. Raises BadInput."""
    try:
        state = Path(path).stat()
    except OSError as error:
        raise BadInput(
            f"cannot read the fastText model {path}: {error.strerror}",
            hint="give the path of a .bin or .ftz file; Headwater downloads nothing",
        ) from None
    return _load(str(path), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=8)
def _load(path: str, modified: int, size: int) -> FastText:  # noqa: ARG001 - parts of the key
    return FastText(Path(path))


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.at = 0
        try:
            self.data: npt.NDArray[np.uint8] = np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray)
        except (OSError, ValueError) as error:  # an empty file cannot be mapped
            raise BadInput(f"cannot read the fastText model {path}: {error}") from None

    def bad(self, found: str) -> BadInput:
        return BadInput(
            f"{self.path} is no fastText classifier: {found}",
            hint="expected a supervised model of fastText 0.2 or later (.bin or .ftz)",
        )

    def values(self, pattern: str) -> tuple[Any, ...]:
        size = struct.calcsize(pattern)
        if self.at + size > len(self.data):
            raise self.bad(f"it ends at byte {len(self.data)}")
        found = struct.unpack(pattern, self.data[self.at : self.at + size].tobytes())
        self.at += size
        return found

    def array(self, dtype: np.dtype[Any], count: int) -> npt.NDArray[Any]:
        size = dtype.itemsize * count
        if count < 0 or self.at + size > len(self.data):
            raise self.bad(f"it ends at byte {len(self.data)}, expected {size:,} bytes from {self.at}")
        raw = self.data[self.at : self.at + size]
        self.at += size
        if (raw.ctypes.data % dtype.itemsize) == 0:
            return raw.view(dtype)
        return np.frombuffer(raw.tobytes(), dtype=dtype)

    def entries(self, count: int) -> Ints:
        if count * 10 > len(self.data):
            raise self.bad(f"{count} words in {len(self.data)} bytes")
        out = np.zeros((count, 4), dtype=np.int64)
        end = int(read_entries(self.data, self.at, count, out))
        if end < 0:
            raise self.bad("its dictionary is cut")
        self.at = end
        return out

    def matrix(self) -> Floats:
        rows, columns = self.values("<qq")
        if min(rows, columns) < 0:
            raise self.bad(f"a matrix of {rows} by {columns}")
        return self.array(np.dtype("<f4"), rows * columns).reshape(rows, columns)

    def quantized(self) -> Floats:
        """A product-quantized matrix as float32."""
        has_norms, rows, columns, num_codes = self.values("<?qqi")
        codes = self.array(np.dtype("u1"), num_codes)
        centroids = self._quantizer()
        if rows <= 0 or num_codes != rows * len(centroids):
            raise self.bad(f"{num_codes} codes for {rows} rows")
        codes = codes.reshape(rows, -1)
        out = np.concatenate([table[codes[:, i]] for i, table in enumerate(centroids)], axis=1)
        if has_norms:
            norm_codes = self.array(np.dtype("u1"), rows)
            out *= self._quantizer()[0][norm_codes]
        if out.shape[1] != columns:
            raise self.bad(f"{out.shape[1]} columns of {columns}")
        return np.ascontiguousarray(out, dtype=np.float32)

    def _quantizer(self) -> list[Floats]:
        dim, count, width, last = self.values("<iiii")
        if min(dim, count, width, last) <= 0 or (count - 1) * width + last != dim:
            raise self.bad(f"a quantizer of {count} parts of {width} for {dim}")
        flat = self.array(np.dtype("<f4"), dim * _CENTROIDS)
        cut = (count - 1) * width * _CENTROIDS
        parts = flat[:cut].reshape(count - 1, _CENTROIDS, width)
        return [*parts, flat[cut:].reshape(_CENTROIDS, last)]


def _bits(buckets: npt.NDArray[np.int32], total: int) -> npt.NDArray[np.uint64]:
    """What ``hidden`` asks of a pruned model: a bit for each bucket, and the count up to each 64."""
    kept = np.zeros((total // 64 + 1 if len(buckets) else 1, 2), dtype=np.uint64)
    word = buckets.astype(np.int64) >> 6
    np.bitwise_or.at(kept[:, 0], word, np.uint64(1) << (buckets & 63).astype(np.uint64))
    kept[:, 1] = np.cumsum(np.bincount(word, minlength=len(kept))).astype(np.uint64)
    return kept


def _tree(counts: Ints) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Children of each node of the Huffman tree over the labels, as ``loss.cc`` builds it."""
    labels = len(counts)
    weights = [*(int(c) for c in counts), *([10**15] * (labels - 1))]
    left, right = (np.full(2 * labels, -1, dtype=np.int32) for _ in range(2))
    leaf, node = labels - 1, labels
    for parent in range(labels, 2 * labels - 1):
        chosen = []
        for _ in range(2):
            if leaf >= 0 and weights[leaf] < weights[node]:
                chosen.append(leaf)
                leaf -= 1
            else:
                chosen.append(node)
                node += 1
        left[parent], right[parent] = chosen
        weights[parent] = weights[chosen[0]] + weights[chosen[1]]
    return left, right


def _power(least: int) -> int:
    return 1 << max(4, (least - 1).bit_length())
