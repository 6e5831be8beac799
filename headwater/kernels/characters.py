"""One table that tells a kernel everything it asks about a code point.

``TABLE[c]`` is the lower case of ``c`` in its low 21 bits (one code point to one: the first of
``chr(c).lower()``) and flags above. Words for shingles, exactly:

* a *word character* is alphanumeric (``str.isalnum``), a combining mark (category M), or ``_``;
* a *solo* letter (Han, kana, Thai, Lao, Burmese, Khmer: scripts that put no spaces between words) is a word
  by itself, with the marks that follow it;
* every other maximal run of word characters is a word; all letters are lower-cased by the table.

As a regular expression over lower-cased text: ``[solo][mark]*|[word but not solo]+``.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
# numba infers the types of the helpers below; annotating them would only repeat its work.

from __future__ import annotations

import base64
import zlib

import numpy as np
import numpy.typing as npt

from headwater.kernels.jit import inline_kernel
from headwater.kernels.unicode_data import NUM_RUNS, PACKED

ALPHA, ALNUM, DIGIT, SPACE, WORD, MARK, SOLO = (1 << (21 + bit) for bit in range(7))
LOWER = (1 << 21) - 1


def _table() -> npt.NDArray[np.uint32]:
    raw = np.frombuffer(zlib.decompress(base64.b85decode(PACKED)), dtype=np.uint8)
    columns = raw.reshape(9, NUM_RUNS)
    lengths = np.ascontiguousarray(columns[:4].T).view("<u4").ravel()
    flags = np.repeat(columns[4].astype(np.uint32), lengths)
    delta = np.repeat(np.ascontiguousarray(columns[5:].T).view("<i4").ravel(), lengths)
    table: npt.NDArray[np.uint32] = (np.arange(len(flags), dtype=np.int64) + delta).astype(np.uint32) | (
        flags << np.uint32(21)
    )
    table.flags.writeable = False
    return table


TABLE = _table()


@inline_kernel
def decode(data, at):
    """(code point, bytes) of the multi-byte UTF-8 character at ``at``; the text is known to be valid."""
    first = data[at]
    if first < 0xE0:
        return (np.uint32(first & 0x1F) << np.uint32(6)) | np.uint32(data[at + 1] & 0x3F), 2
    if first < 0xF0:
        code = (np.uint32(first & 0x0F) << np.uint32(12)) | (np.uint32(data[at + 1] & 0x3F) << np.uint32(6))
        return code | np.uint32(data[at + 2] & 0x3F), 3
    code = (np.uint32(first & 0x07) << np.uint32(18)) | (np.uint32(data[at + 1] & 0x3F) << np.uint32(12))
    return code | (np.uint32(data[at + 2] & 0x3F) << np.uint32(6)) | np.uint32(data[at + 3] & 0x3F), 4
