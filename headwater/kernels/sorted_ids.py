"""128-bit ids in ascending order: sorting hashes, and finding them again."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headwater.kernels.jit import kernel

Words = npt.NDArray[np.uint64]  # (rows, 2): high and low
Places = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]


@kernel
def sort_ids(
    ids: Words, shift: np.uint64, starts: Places, ordered: Words, order: Places, max_bucket: int
) -> bool:
    """Sort by leading bits into buckets, then each bucket by insertion.

    Fills ``starts`` (first place of each bucket, and the end; given as zeros) in any case, ``ordered`` and
    ``order`` when no bucket holds more than ``max_bucket`` ids, as with hashes; else returns False.
    """
    for i in range(len(ids)):
        starts[int(ids[i, 0] >> shift) + 1] += 1
    most = 0
    for bucket in range(1, len(starts)):
        most = max(most, starts[bucket])
        starts[bucket] += starts[bucket - 1]
    if most > max_bucket:
        return False
    free = starts[:-1].copy()
    for i in range(len(ids)):
        bucket = int(ids[i, 0] >> shift)
        high, low = ids[i, 0], ids[i, 1]
        place = free[bucket]
        free[bucket] += 1
        first = starts[bucket]
        while place > first and (
            ordered[place - 1, 0] > high or (ordered[place - 1, 0] == high and ordered[place - 1, 1] > low)
        ):
            ordered[place, 0] = ordered[place - 1, 0]
            ordered[place, 1] = ordered[place - 1, 1]
            order[place] = order[place - 1]
            place -= 1
        ordered[place, 0] = high
        ordered[place, 1] = low
        order[place] = i
    return True


@kernel
def has_repeats(ids: Words) -> bool:
    """Whether two neighbors are equal."""
    for i in range(1, len(ids)):  # noqa: SIM110 - numba compiles no generator
        if ids[i, 0] == ids[i - 1, 0] and ids[i, 1] == ids[i - 1, 1]:
            return True
    return False


@kernel
def find_in_buckets(ids: Words, starts: Places, shift: np.uint64, wanted: Words, found: Ints) -> None:
    """``found[i]``: where ``wanted[i]`` stands in the ascending ``ids``, or -1."""
    for i in range(len(wanted)):
        high, low = wanted[i, 0], wanted[i, 1]
        bucket = int(high >> shift)
        left, right = starts[bucket], starts[bucket + 1]
        stop = right
        while left < right:
            middle = (left + right) // 2
            if ids[middle, 0] < high or (ids[middle, 0] == high and ids[middle, 1] < low):
                left = middle + 1
            else:
                right = middle
        there = left < stop and ids[left, 0] == high and ids[left, 1] == low
        found[i] = left if there else -1
