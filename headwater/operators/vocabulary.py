"""Whether a text keeps to a vocabulary."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

from headwater.errors import BadInput, DataMismatch, UsageError
from headwater.kernels.rouge import Hashes, outside_words, word_hashes
from headwater.operators.registry import operator, struct_array

VOCABULARY = pa.struct(
    [
        pa.field("num_words", pa.int64()),
        pa.field("num_outside", pa.int64()),
        pa.field("outside_share", pa.float64()),
    ]
)


@operator(
    name="vocabulary",
    version=1,
    inputs={"text": pa.large_string()},
    output=VOCABULARY,
    parameters={"words": "", "file": "", "digest": ""},
    source="TinyStories (arXiv 2305.07759): a small child's vocabulary, about 1,500 words; the list is yours",
)
def vocabulary(text: pa.Array, *, words: str, file: str, digest: str) -> pa.Array:
    """Words of a text, those that are not in a list, and their share (0 for a text without words).

    The list is ``words``, separated by white space, or a UTF-8 ``file`` of such words. A ``digest`` (xxh3-128
    of the file, 32 hex digits) is checked, so that a model's fingerprint names the content. Words are
    lower-cased runs of ``a`` to ``z`` and ``0`` to ``9``, in the list as in the text: *don't* is *don*, *t*.
    """
    if bool(words) == bool(file):
        raise UsageError("operator vocabulary: expected either words or file")
    known = _known(words) if words else _read(file, digest)
    counts, outside = outside_words(text, known)
    share = outside / np.maximum(counts, 1)
    return struct_array(VOCABULARY, {"num_words": counts, "num_outside": outside, "outside_share": share})


@lru_cache(maxsize=8)
def _known(words: str) -> Hashes:
    hashes, _ = word_hashes(pa.array([words], pa.large_string()))
    if not len(hashes):
        raise BadInput("the vocabulary has no words", hint="lower-cased words of a to z and 0 to 9")
    return np.unique(hashes)


def _read(file: str, digest: str) -> Hashes:
    try:
        return _of_file(file, Path(file).stat().st_mtime_ns, digest)
    except OSError as error:
        raise BadInput(f"cannot read the vocabulary {file}: {error.strerror}") from None


@lru_cache(maxsize=8)
def _of_file(file: str, modified: int, digest: str) -> Hashes:  # noqa: ARG001 - part of the key
    raw = Path(file).read_bytes()
    found = xxhash.xxh3_128_hexdigest(raw)
    if digest and digest != found:
        raise DataMismatch(
            f"the vocabulary {file} has the digest {found}, expected {digest}",
            hint="it changed since the digest was written down; look at the change, then write the new one",
        )
    try:
        return _known(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BadInput(f"the vocabulary {file} is not UTF-8: byte {error.start}") from None
