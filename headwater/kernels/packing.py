"""Laying documents into sequences: closing them, best-fit-decreasing, copying slices into rows."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
# numba infers the types of the helpers below; annotating them would only repeat its work.

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from headwater.kernels.jit import forced_kernel, inline_kernel, kernel

Integers = npt.NDArray[np.int64]
Tokens = npt.NDArray[np.unsignedinteger[Any]]


@forced_kernel
def copy(values, begin, count, out, at):
    """``out[at : at + count] = values[begin : begin + count]``; returns ``at + count``.

    Over views, so that no place can be negative: that loop becomes vector instructions.
    """
    source, target = values[begin : begin + count], out[at : at + count]
    for k in range(len(target)):
        target[k] = source[k]
    return at + count


@kernel
def close(
    values: Tokens,
    begins: Integers,
    counts: Integers,
    control: Integers,
    eos: int,
    starts: Integers,
    lengths: Integers,
    out: Tokens,
) -> None:
    """Write tokens ``starts[i] .. starts[i] + lengths[i]`` of each closed document into ``out``, end to end.

    Closed document i is ``control[i]`` (none when negative), ``values[begins[i] : begins[i] + counts[i]]``
    and ``eos``.
    """
    at = 0
    for i in range(len(begins)):
        if lengths[i] <= 0:  # a piece from behind the end of its document
            continue
        head = 1 if control[i] >= 0 else 0
        first, last = starts[i], starts[i] + lengths[i]
        if first < head:
            out[at] = control[i]
            at += 1
        skipped = max(first - head, 0)
        at = copy(values, begins[i] + skipped, max(min(last - head, counts[i]) - skipped, 0), out, at)
        if last > head + counts[i]:
            out[at] = eos
            at += 1


@kernel
def copy_slices(values: Tokens, begins: Integers, lengths: Integers, places: Integers, out: Tokens) -> None:
    """``out[places[i] : places[i] + lengths[i]] = values[begins[i] : begins[i] + lengths[i]]`` for each i."""
    for i in range(len(begins)):
        copy(values, begins[i], lengths[i], out, places[i])


@inline_kernel
def _mark(tree, leaf, present):
    """Set a leaf and the nodes above it that change: a node says whether any leaf under it is set."""
    node = leaf + (len(tree) >> 1)
    tree[node] = present
    node >>= 1
    while node >= 1:
        now = tree[2 * node] | tree[2 * node + 1]
        if tree[node] == now:
            break
        tree[node] = now
        node >>= 1


@inline_kernel
def _first_from(tree, leaf):
    """The first set leaf at ``leaf`` or after it, or -1."""
    half = len(tree) >> 1
    node = leaf + half
    if tree[node]:
        return leaf
    while node > 1:
        if node & 1 == 0 and tree[node + 1]:
            node += 1
            while node < half:
                node = 2 * node if tree[2 * node] else 2 * node + 1
            return node - half
        node >>= 1
    return -1


@kernel
def best_fit(lengths: Integers, order: Integers, capacity: int, rows: Integers) -> int:
    """Put items of at most ``capacity`` into rows, each where the least room is left; returns the rows used.

    Items are taken in ``order``; of rows with equal room, the one that came to it last is taken. Writes the
    row of each item, from 0. A segment tree over the amounts of free room, 0 to ``capacity``, finds the row:
    O(log capacity) an item.
    """
    half = 1
    while half < capacity + 1:
        half *= 2
    tree = np.zeros(2 * half, dtype=np.uint8)
    top = np.full(capacity + 1, -1, dtype=np.int64)  # of each amount of free room, a stack of rows
    below = np.empty(len(lengths), dtype=np.int64)
    used = 0
    for item in order:
        length = lengths[item]
        room = _first_from(tree, length)
        if room < 0:
            row, room = used, capacity
            used += 1
        else:
            row = top[room]
            top[room] = below[row]
            if top[room] < 0:
                _mark(tree, room, 0)
        rows[item] = row
        left = room - length
        if left > 0:
            if top[left] < 0:
                _mark(tree, left, 1)
            below[row] = top[left]
            top[left] = row
    return used
