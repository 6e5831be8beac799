"""A new text with placeholders where the spans were."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import pyarrow as pa

from headwater.kernels.flat import Bytes, Offsets, flatten
from headwater.kernels.jit import kernel
from headwater.kernels.pii import KINDS, Places, Spans

# Dolma has the first three (arXiv 2402.00159, appendix); the others follow their pattern.
_DOLMA = (
    "EMAIL_ADDRESS",
    "PHONE_NUMBER",
    "IP_ADDRESS",
    "CREDIT_CARD",
    "IBAN",
    *(kind.upper() for kind in KINDS[5:]),
)

PLACEHOLDERS = MappingProxyType(
    {"dolma": tuple(f"|||{name}|||" for name in _DOLMA), "angle": tuple(f"<{kind}>" for kind in KINDS)}
)
"""Style to the placeholder of each kind, in the order of ``KINDS``. None of them holds a detectable value."""


def redacted(text: pa.Array, spans: Spans, placeholders: tuple[str, ...]) -> pa.Array:
    """``text`` (large_string, no nulls) with every span replaced by its kind's placeholder."""
    if len(spans.row) == 0:
        return text
    data, offsets = flatten(text)
    marks, mark_offsets = flatten(pa.array(placeholders, pa.large_string()))
    sizes = np.array([len(p.encode()) for p in placeholders], dtype=np.int64)
    change = sizes[spans.kind] - (spans.end - spans.start)
    new_sizes = np.diff(offsets) + np.bincount(spans.row, weights=change, minlength=len(text)).astype(
        np.int64
    )
    new_offsets = np.zeros(len(text) + 1, dtype=np.int64)
    np.cumsum(new_sizes, out=new_offsets[1:])
    out = np.empty(int(new_offsets[-1]), dtype=np.uint8)
    kinds = spans.kind.astype(np.int64)
    _write(data, offsets, spans.row, kinds, spans.start, spans.end, marks, mark_offsets, out)
    return pa.Array.from_buffers(
        pa.large_string(), len(text), [None, pa.py_buffer(new_offsets), pa.py_buffer(out)]
    )


@kernel
def _write(
    data: Bytes,
    offsets: Offsets,
    row: Places,
    kind: Places,
    start: Places,
    end: Places,
    marks: Bytes,
    mark_offsets: Offsets,
    out: Bytes,
) -> None:
    to = 0
    span = 0
    for i in range(len(offsets) - 1):
        at = offsets[i]
        while span < len(row) and row[span] == i:
            stop = offsets[i] + start[span]
            out[to : to + stop - at] = data[at:stop]
            to += stop - at
            size = mark_offsets[kind[span] + 1] - mark_offsets[kind[span]]
            out[to : to + size] = marks[mark_offsets[kind[span]] : mark_offsets[kind[span] + 1]]
            to += size
            at = offsets[i] + end[span]
            span += 1
        out[to : to + offsets[i + 1] - at] = data[at : offsets[i + 1]]
        to += offsets[i + 1] - at
