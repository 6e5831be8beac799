"""UTF-8 or not, decided natively; and names of files that are not."""

from __future__ import annotations

import codecs
import io
import os
import tokenize

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headwater.kernels.flat import Bytes, Offsets, flatten
from headwater.kernels.jit import kernel

Mask = npt.NDArray[np.bool_]

_DECLARABLE = (
    "iso8859",
    "latin",
    "cp1",
    "cp4",
    "cp7",
    "cp8",
    "cp9",
    "koi8",
    "mac-",
    "mac_",
    "euc",
    "shift_jis",
)
_DECLARABLE_TOO = (
    "big5",
    "gb2312",
    "gbk",
    "gb18030",
    "johab",
    "iso2022",
    "ptcp154",
    "tis-620",
    "hp-roman8",
    "kz1048",
)
"""Character sets that a source file may declare. Python has more text codecs, but decoding by
``unicode_escape``, ``punycode`` or ``idna`` would make another text than the author wrote, or take
quadratic time."""


def as_text(array: pa.Array) -> tuple[pa.Array, Mask | None]:
    """``(large_string, None)`` when every row is UTF-8, else ``(…, mask of the rows that are)``.

    With a mask the array holds null in the other rows. Nulls count as valid.
    """
    binary = array.cast(pa.large_binary())
    try:
        return binary.cast(pa.large_string()), None
    except pa.ArrowInvalid:
        data, offsets = flatten(binary)
        valid = np.empty(len(binary), dtype=np.bool_)
        _valid_rows(data, offsets, valid)
        if binary.null_count:
            valid |= binary.is_null().to_numpy(zero_copy_only=False)
        # First the bytes go, then the row: kernels decode what lies under a null as well.
        mask = pa.array(valid)
        return pc.if_else(mask, pc.if_else(mask, binary, b"").cast(pa.large_string()), None), valid


@kernel
def _valid_rows(data: Bytes, offsets: Offsets, valid: Mask) -> None:
    """Which rows are UTF-8 by table 3-7 of the Unicode standard (no surrogates, no overlong forms)."""
    for row in range(len(valid)):
        at, end, good = offsets[row], offsets[row + 1], True
        while good and at < end:
            first = data[at]
            at += 1
            if first < 0x80:
                continue
            low, high, more = 0x80, 0xBF, 0
            if 0xC2 <= first <= 0xDF:
                more = 1
            elif 0xE0 <= first <= 0xEF:
                more = 2
                low = 0xA0 if first == 0xE0 else 0x80
                high = 0x9F if first == 0xED else 0xBF
            elif 0xF0 <= first <= 0xF4:
                more = 3
                low = 0x90 if first == 0xF0 else 0x80
                high = 0x8F if first == 0xF4 else 0xBF
            good = more > 0 and at + more <= end
            while good and more > 0:
                good = low <= data[at] <= high
                low, high = 0x80, 0xBF
                at += 1
                more -= 1
        valid[row] = good


def decode_declared(data: bytes) -> tuple[str, str] | None:
    """Decode Python source by the coding it declares in its first two lines (PEP 263): text, coding."""
    try:
        coding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        name = codecs.lookup(coding).name
        if name.startswith(_DECLARABLE + _DECLARABLE_TOO):
            return data.decode(coding), name
    except (SyntaxError, LookupError, UnicodeDecodeError):
        pass
    return None


def stored_name(name: str) -> str:
    """A file name as UTF-8. One that is not UTF-8 on disk is percent-encoded, its own ``%`` too."""
    raw = os.fsencode(name)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        parts = raw.replace(b"%", b"%25").decode("utf-8", "surrogateescape")
        return "".join(c if not 0xDC80 <= ord(c) <= 0xDCFF else f"%{ord(c) - 0xDC00:02X}" for c in parts)
