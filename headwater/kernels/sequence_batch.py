"""From tokens and span lengths to the arrays of a training batch, in one pass over the tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from headwater.kernels.jit import kernel

IGNORE = -100
"""Label that torch's cross-entropy leaves out."""


@kernel
def lay_out_sequences(
    tokens: npt.NDArray[Any],
    offsets: npt.NDArray[np.int32],
    lengths: npt.NDArray[np.int32],
    sources: npt.NDArray[np.int32],
    length: int,
    ids: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int64],
    segments: npt.NDArray[np.int32],
    positions: npt.NDArray[np.int32],
    segment_sources: npt.NDArray[np.int32],
) -> int:
    """Fill the outputs for ``len(offsets) - 1`` sequences of ``length`` tokens.

    Spans ``offsets[r]`` to ``offsets[r + 1]`` belong to sequence ``r``; what they do not cover is padding:
    label -100, segment -1, position 0. An output of size 0 is left out. ``segment_sources`` is
    (sequences, most segments), filled with -1 beforehand. Returns -1, or the first sequence whose spans
    do not fit into it (the outputs from there on are then undefined).
    """
    with_ids, with_labels = ids.size > 0, labels.size > 0
    with_segments, with_positions = segments.size > 0, positions.size > 0
    most = segment_sources.shape[1]
    for row in range(len(offsets) - 1):
        at = row * length
        end = at + length
        for span in range(offsets[row], offsets[row + 1]):
            count = lengths[span]
            if count < 0 or at + count > end:
                return row
            # Slices from zero: an index that could be negative keeps LLVM from vectorizing the loops.
            piece = tokens[at : at + count]
            if with_ids:
                out = ids[at : at + count]
                for i in range(count):
                    out[i] = piece[i]
            if with_labels:
                out = labels[at : at + count]
                for i in range(count):
                    out[i] = piece[i]
                if count > 0:
                    out[0] = IGNORE
            segment = span - offsets[row]
            if with_segments:
                narrow = segments[at : at + count]
                for i in range(count):
                    narrow[i] = segment
            if with_positions:
                narrow = positions[at : at + count]
                for i in range(count):
                    narrow[i] = i
            if segment < most:
                segment_sources[row, segment] = sources[span]
            at += count
        if with_ids:
            for i in range(at, end):
                ids[i] = tokens[i]
        if with_labels:
            labels[at:end] = IGNORE
        if with_segments:
            segments[at:end] = -1
        if with_positions:
            positions[at:end] = 0
    return -1
