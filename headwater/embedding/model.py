"""What every embedding model can do, and what it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headwater.kernels.flat import whole

CHARS_PER_TOKEN = 32
"""Of a text, a model's longest input times this many characters are tokenized: one endless line must not
cost more than a document. Real text has about 4 characters a token."""

Vectors = npt.NDArray[np.float32]
Progress = Callable[[int], None]
"""Called with the number of texts that are done so far."""


class Embedded(NamedTuple):
    """The vectors of some texts, and how much of each text they are about."""

    vectors: Vectors
    """(texts, dimensions), each of length 1; all zeros where a static model knew no token of the text."""
    num_tokens: npt.NDArray[np.int64]
    """Tokens that the model read, its own closing tokens included."""
    truncated: npt.NDArray[np.bool_]
    """Whether the text was longer than what the model reads."""


class EmbeddingModel(ABC):
    """A model in memory. One thread at a time computes; a second one waits."""

    id: str
    """Name and digest of its weights, ``name@8 hex``: vectors of the same id can be compared."""
    dimensions: int
    max_tokens: int
    """What is read of a text; the rest is cut off."""
    device: str

    @abstractmethod
    def embed(self, texts: pa.Array | Sequence[str], progress: Progress | None = None) -> Embedded:
        """Vectors, with the tokens read and what was cut off. A null counts as an empty text."""

    def encode(self, texts: pa.Array | Sequence[str], progress: Progress | None = None) -> Vectors:
        """float32 (texts, dimensions), each row of length 1, in the order of the texts."""
        return self.embed(texts, progress).vectors

    def encode_query(self, text: str) -> Vectors:
        """The vector of a search query, (dimensions,): some models mark queries with words of their own."""
        vector: Vectors = self.encode([text])[0]
        return vector

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r}, dimensions={self.dimensions}, device={self.device!r})"


def text_array(texts: pa.Array | pa.ChunkedArray | Sequence[str]) -> pa.Array:
    """Texts as one large-string array without nulls."""
    if not isinstance(texts, pa.Array | pa.ChunkedArray):
        texts = pa.array(texts, pa.large_string())
    array = whole(texts)
    if not pa.types.is_large_string(array.type):
        array = array.cast(pa.large_string())
    return array.fill_null("") if array.null_count else array


def cut(texts: pa.Array, max_tokens: int) -> tuple[pa.Array, npt.NDArray[np.bool_]]:
    """The texts without what no model of ``max_tokens`` would read, and which were cut.

    A whole number of characters is kept: no more than ``max_tokens * CHARS_PER_TOKEN`` of them.
    """
    longest = max_tokens * CHARS_PER_TOKEN
    sizes = pc.binary_length(texts).to_numpy(zero_copy_only=False)
    if not len(sizes) or sizes.max() <= longest:
        return texts, np.zeros(len(texts), dtype=np.bool_)
    shorter = pc.utf8_slice_codeunits(texts, 0, longest)
    return shorter, sizes > pc.binary_length(shorter).to_numpy(zero_copy_only=False)


def unit(vectors: npt.NDArray[Any]) -> Vectors:
    """Rows of length 1; rows of zeros, and what is not finite, become zeros."""
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        lengths = np.sqrt(np.square(rows, dtype=np.float64).sum(axis=1))
        good = np.isfinite(lengths) & (lengths > 0)
        out: Vectors = np.divide(rows, np.where(good, lengths, 1.0)[:, None].astype(np.float32))
    out[~good] = 0.0
    return out
