"""Loops over pairs of documents: band keys, candidates in a bucket, exact Jaccard, connected components."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
# numba infers the types of the helpers below; annotating them would only repeat its work.

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headwater.kernels.jit import inline_kernel, kernel
from headwater.kernels.shingles import mix

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Minhashes = npt.NDArray[np.uint32]  # (rows, num_perm)

FRESH = 1
"""Mark of a set all of whose pairs are wanted."""
REDONE = 2
"""Mark of sets whose pairs among each other are wanted."""

_U = np.uint64
_ROLL = _U(0x9E3779B97F4A7C15)


@kernel
def band_keys(minhash: Minhashes, bands: int, rows: int) -> Words:
    """(rows of ``minhash``, bands): a 64-bit key of each band's number and its ``rows`` minima."""
    keys = np.empty((minhash.shape[0], bands), dtype=np.uint64)
    for i in range(minhash.shape[0]):
        for band in range(bands):
            key = _U(band + 1)
            for k in range(band * rows, (band + 1) * rows):
                key = mix(key * _ROLL + _U(minhash[i, k]))
            keys[i, band] = key
    return keys


@inline_kernel
def _agreeing(minhash, one, two):
    total = np.int32(0)
    for k in range(minhash.shape[1]):
        total += np.int32(minhash[one, k] == minhash[two, k])
    return total


@inline_kernel
def _promising(minhash, rows, sizes, a, b, least, threshold):
    """Agreeing minima of two sets, or -1 where their sizes or signatures rule the threshold out."""
    small, large = min(sizes[a], sizes[b]), max(sizes[a], sizes[b])
    if small / large < threshold:  # Jaccard <= small / large
        return np.int32(-1)
    same = _agreeing(minhash, rows[a], rows[b])
    return same if same >= least else np.int32(-1)


@inline_kernel
def _emit(pairs, count, a, b):
    pairs[count, 0] = min(a, b)
    pairs[count, 1] = max(a, b)
    return count + 1


@inline_kernel
def _is_wanted(marks, a, b):
    return ((marks[a] | marks[b]) & FRESH) != 0 or (marks[a] & marks[b] & REDONE) != 0


@kernel
def bucket_pairs(
    keys: Words,
    members: Ints,
    start: int,
    minhash: Minhashes,
    rows: Ints,
    sizes: Ints,
    marks: npt.NDArray[np.uint8],
    least: int,
    threshold: float,
    cap: int,
    max_leaders: int,
    window: int,
    pairs: Ints,
) -> tuple[int, int]:
    """Candidate pairs of the buckets from ``start`` until ``pairs`` is full: (next start, pairs written).

    ``keys`` ascending, ``members`` ascending within a key; ``rows[m]`` is the row of ``minhash`` and
    ``sizes[m]`` the number of shingles of member m. A bucket of at most ``cap`` members gives all its pairs.
    In a larger one each member meets the leaders so far, is paired with the two that agree best, and is
    a leader itself where none reaches the threshold by estimate; and it is paired with ``window`` neighbors
    in each of two orders by other minima. Pairs that sizes or signatures rule out are left out, and so are
    those that ``marks[m]`` do not want: neither is ``FRESH``, and not both are ``REDONE``.
    """
    count = 0
    leaders = np.empty(max_leaders, dtype=np.int64)
    expected = threshold * minhash.shape[1]
    at = start
    while at < len(keys):
        end = at + 1
        while end < len(keys) and keys[end] == keys[at]:
            end += 1
        m = end - at
        bound = m * (m - 1) // 2 if m <= cap else m * (2 + 2 * window)
        if count + bound > len(pairs):
            break
        if m <= cap:
            for i in range(at, end):
                for j in range(i + 1, end):
                    if not _is_wanted(marks, members[i], members[j]):
                        continue
                    if _promising(minhash, rows, sizes, members[i], members[j], least, threshold) >= 0:
                        count = _emit(pairs, count, members[i], members[j])
        else:
            num_leaders = 0
            for i in range(at, end):
                best = second = np.int32(-1)
                first_leader = second_leader = np.int64(-1)
                for k in range(num_leaders):
                    same = _promising(minhash, rows, sizes, leaders[k], members[i], least, threshold)
                    if same > best:
                        second, second_leader = best, first_leader
                        best, first_leader = same, leaders[k]
                    elif same > second:
                        second, second_leader = same, leaders[k]
                if best >= 0 and _is_wanted(marks, first_leader, members[i]):
                    count = _emit(pairs, count, first_leader, members[i])
                if second >= 0 and _is_wanted(marks, second_leader, members[i]):
                    count = _emit(pairs, count, second_leader, members[i])
                if best < expected and num_leaders < max_leaders:
                    leaders[num_leaders] = members[i]
                    num_leaders += 1
            order_keys = np.empty(m, dtype=np.uint64)
            for turn in range(2):
                # Which minima: by the key, so that each bucket that two twins share sorts them differently.
                place = np.int64((keys[at] >> _U(16 * turn)) & _U(0xFFFF))
                one = place % minhash.shape[1]
                two = (place + 1 + place // minhash.shape[1]) % minhash.shape[1]
                for i in range(m):
                    row = rows[members[at + i]]
                    order_keys[i] = (_U(minhash[row, one]) << _U(32)) | _U(minhash[row, two])
                order = np.argsort(order_keys, kind="mergesort")
                for i in range(m):
                    for j in range(i + 1, min(i + 1 + window, m)):
                        a, b = members[at + order[i]], members[at + order[j]]
                        if not _is_wanted(marks, a, b):
                            continue
                        if _promising(minhash, rows, sizes, a, b, least, threshold) >= 0:
                            count = _emit(pairs, count, a, b)
        at = end
    return at, count


@kernel
def jaccard(
    values: Words, starts: Ints, lengths: Ints, a: Ints, b: Ints, out: npt.NDArray[np.float64]
) -> None:
    """Exact similarity of sets a[i] and b[i]; set s is ``values[starts[s] :][: lengths[s]]``, ascending."""
    for i in range(len(a)):
        at, other = starts[a[i]], starts[b[i]]
        end, other_end = at + lengths[a[i]], other + lengths[b[i]]
        shared = 0
        while at < end and other < other_end:
            x, y = values[at], values[other]
            shared += x == y
            at += x <= y
            other += y <= x
        out[i] = shared / (lengths[a[i]] + lengths[b[i]] - shared)


@kernel
def rows_with_keys(
    bands: npt.NDArray[np.uint32], wanted: npt.NDArray[np.uint32], filter_bits: int
) -> tuple[Ints, npt.NDArray[np.uint32]]:
    """(row, key) of every cell of ``bands`` that is in ``wanted`` (ascending): the members of its buckets.

    A bitmap of ``2 ** filter_bits`` bits over the keys' upper bits spares most cells the binary search.
    """
    shift = np.uint32(32 - filter_bits)
    bitmap = np.zeros(max(1, (1 << filter_bits) >> 3), dtype=np.uint8)
    for i in range(len(wanted)):
        place = np.int64(wanted[i] >> shift)
        bitmap[place >> 3] |= np.uint8(1 << (place & 7))
    room = 1024
    rows, keys = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.uint32)
    count = 0
    for i in range(bands.shape[0]):
        for band in range(bands.shape[1]):
            key = bands[i, band]
            place = np.int64(key >> shift)
            if bitmap[place >> 3] & (1 << (place & 7)) == 0:
                continue
            left, right = 0, len(wanted)
            while left < right:
                middle = (left + right) // 2
                if wanted[middle] < key:
                    left = middle + 1
                else:
                    right = middle
            if left == len(wanted) or wanted[left] != key:
                continue
            if count == room:
                room *= 2
                more_rows, more_keys = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.uint32)
                more_rows[:count], more_keys[:count] = rows, keys
                rows, keys = more_rows, more_keys
            rows[count], keys[count] = i, key
            count += 1
    return rows[:count], keys[:count]


@kernel
def find_ids(ids: Words, wanted: Words) -> Ints:
    """Where each row of ``wanted`` stands in ``ids`` ((n, 2): high and low, ascending), or -1."""
    found = np.empty(len(wanted), dtype=np.int64)
    for i in range(len(wanted)):
        high, low = wanted[i, 0], wanted[i, 1]
        left, right = 0, len(ids)
        while left < right:
            middle = (left + right) // 2
            if ids[middle, 0] < high or (ids[middle, 0] == high and ids[middle, 1] < low):
                left = middle + 1
            else:
                right = middle
        is_there = left < len(ids) and ids[left, 0] == high and ids[left, 1] == low
        found[i] = left if is_there else -1
    return found


@inline_kernel
def root(parents, node):
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = parents[node]
    return node


@kernel
def join_components(parents: Ints, a: Ints, b: Ints) -> None:
    """Unite ``a[i]`` with ``b[i]``. A root is the smallest node of its component."""
    for i in range(len(a)):
        one, two = root(parents, a[i]), root(parents, b[i])
        parents[max(one, two)] = min(one, two)


@kernel
def settle_components(parents: Ints) -> None:
    """Point every node at its component's smallest node."""
    for node in range(len(parents)):
        parents[node] = parents[parents[node]]  # parents come first, and are settled
