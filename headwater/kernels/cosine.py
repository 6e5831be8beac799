"""Dot products of float32 vectors: nearest centroids, pairs above a floor, cluster sums, spanning forests.

A product is one chain of fused multiply-adds over the dimensions, from the first to the last: whatever the
batch, the thread or the neighbors in memory, two vectors give the same bits on any machine, and ``a · b`` is
``b · a``. (A BLAS gives no such promise: its sums depend on the tile a row falls into.)

Rows are contiguous float32 of unit length; what they are compared with is packed in panels of sixteen, so
that a tile of six rows by sixteen columns stays in registers.
"""

# mypy: disable-error-code="misc, no-untyped-def, no-untyped-call, import-untyped"
# ruff: noqa: ARG001 - numba gives every intrinsic its typing context, and arguments by position

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from headwater.kernels.jit import kernel
from headwater.kernels.pairs import root

Matrix = npt.NDArray[np.float32]
Panels = npt.NDArray[np.float32]  # (panels, dimensions, 16)
Ints = npt.NDArray[np.int64]
Places = npt.NDArray[np.int32]
Doubles = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

ROWS, COLUMNS = 6, 16
"""Of a tile: twelve accumulators, two columns and one row element in the sixteen AVX2 registers."""
ROW_BLOCK = 96
"""Rows that meet one panel before the next is loaded: both stay in the caches."""
EQUAL = np.float32(1 - 1e-5)
"""Cosines from here on are reported as 1: rounding of the vectors and of the sum is of that size."""


@intrinsic
def _tile(typing: Any, rows: Any, first: Any, panel: Any, which: Any, out: Any) -> Any:
    """``out[r, c] = rows[first + r] · panel[which, :, c]``; rows behind the end repeat the last one."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(ir.FloatType(), 8)
        i32, i64 = ir.IntType(32), ir.IntType(64)
        first, which = (context.cast(builder, args[i], signature.args[i], types.int64) for i in (1, 3))
        matrix = context.make_array(signature.args[0])(context, builder, args[0])
        panels = context.make_array(signature.args[2])(context, builder, args[2])
        count, dimensions = cgutils.unpack_tuple(builder, matrix.shape, 2)
        last = builder.sub(count, i64(1))
        starts = []
        for r in range(ROWS):
            row = builder.add(first, i64(r))
            row = builder.select(builder.icmp_signed("<", row, last), row, last)
            starts.append(builder.gep(matrix.data, [builder.mul(row, dimensions)]))
        begin = builder.mul(which, builder.mul(dimensions, i64(COLUMNS)))
        base = builder.gep(panels.data, [begin])
        name = "llvm.fma.v8f32"
        fma = builder.module.globals.get(name) or ir.Function(
            builder.module, ir.FunctionType(vector, [vector] * 3), name=name
        )
        zero = ir.Constant(vector, [0.0] * 8)
        held = [[cgutils.alloca_once_value(builder, zero) for _ in range(2)] for _ in range(ROWS)]
        everywhere = ir.Constant(ir.VectorType(i32, 8), [0] * 8)
        undefined = ir.Constant(vector, ir.Undefined)

        def pointer(place: Any) -> Any:
            return builder.bitcast(place, vector.as_pointer())

        with cgutils.for_range(builder, dimensions, intp=i64) as loop:
            at = builder.mul(loop.index, i64(COLUMNS))
            columns = [
                builder.load(pointer(builder.gep(base, [builder.add(at, i64(8 * half))])), align=4)
                for half in range(2)
            ]
            for r in range(ROWS):
                one = builder.load(builder.gep(starts[r], [loop.index]))
                spread = builder.shuffle_vector(
                    builder.insert_element(undefined, one, i32(0)), undefined, everywhere
                )
                for half in range(2):
                    total = builder.call(fma, [spread, columns[half], builder.load(held[r][half])])
                    builder.store(total, held[r][half])
        results = context.make_array(signature.args[4])(context, builder, args[4]).data
        for r in range(ROWS):
            for half in range(2):
                place = builder.gep(results, [i64(r * COLUMNS + 8 * half)])
                builder.store(builder.load(held[r][half]), pointer(place), align=4)
        return context.get_dummy_value()

    return types.void(rows, first, panel, which, out), codegen


@kernel
def to_unit(rows: Matrix, usable: Flags) -> None:
    """Scale each row to length one, in place; one without a direction (zero, NaN, infinite) becomes 0."""
    for i in range(rows.shape[0]):
        total = 0.0
        for j in range(rows.shape[1]):
            total += np.float64(rows[i, j]) * np.float64(rows[i, j])
        usable[i] = total > 1e-30 and total < np.inf
        length = np.sqrt(total) if usable[i] else 1.0
        for j in range(rows.shape[1]):
            rows[i, j] = np.float32(np.float64(rows[i, j]) / length) if usable[i] else np.float32(0)


@kernel
def add_fixed(rows: Matrix, sums: Ints) -> None:
    """Add unit vectors as integers of 2 ** -32, so that their sum does not depend on the order."""
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            sums[j] += np.int64(np.rint(np.float64(rows[i, j]) * 4294967296.0))


@kernel
def center(rows: Matrix, mean: Matrix) -> None:
    """Subtract ``mean`` from unit vectors, in place, and scale them to length one again.

    A row that is the mean keeps its direction.
    """
    for i in range(rows.shape[0]):
        total = 0.0
        for j in range(rows.shape[1]):
            rest = np.float64(rows[i, j] - mean[j])
            total += rest * rest
        length = np.sqrt(total)
        if length > 1e-6:
            for j in range(rows.shape[1]):
                rows[i, j] = np.float32(np.float64(rows[i, j] - mean[j]) / length)


@kernel
def pack(rows: Matrix) -> Panels:
    """Rows as columns of panels; the last panel is filled with zeros."""
    count, dimensions = rows.shape
    panels = np.zeros(((count + COLUMNS - 1) // COLUMNS, dimensions, COLUMNS), dtype=np.float32)
    for i in range(count):
        for j in range(dimensions):
            panels[i // COLUMNS, j, i % COLUMNS] = rows[i, j]
    return panels


@kernel
def nearest(rows: Matrix, panels: Panels, count: int, best: Places, similarity: Matrix) -> None:
    """The most similar of ``count`` packed vectors for each row (the first of equals), and its product."""
    tile = np.empty((ROWS, COLUMNS), dtype=np.float32)
    for start in range(0, rows.shape[0], ROW_BLOCK):
        stop = min(start + ROW_BLOCK, rows.shape[0])
        for i in range(start, stop):
            best[i] = 0
            similarity[i] = -np.inf
        for panel in range(panels.shape[0]):
            width = min(COLUMNS, count - panel * COLUMNS)
            for first in range(start, stop, ROWS):
                _tile(rows, first, panels, panel, tile)
                for r in range(min(ROWS, stop - first)):
                    for c in range(width):
                        if tile[r, c] > similarity[first + r]:
                            similarity[first + r] = tile[r, c]
                            best[first + r] = panel * COLUMNS + c


@kernel
def pairs_above(
    rows: Matrix, panels: Panels, count: int, is_diagonal: bool, floor: np.float32,
    a: Places, b: Places, similarity: Matrix,
) -> int:  # fmt: skip
    """(row, packed vector) with a product of at least ``floor``; of a block with itself, row < vector only.

    Returns how many; products of at least ``EQUAL`` are given as 1.
    """
    found = 0
    lowest = min(floor, EQUAL)
    tile = np.empty((ROWS, COLUMNS), dtype=np.float32)
    for start in range(0, rows.shape[0], ROW_BLOCK):
        stop = min(start + ROW_BLOCK, rows.shape[0])
        for panel in range(panels.shape[0]):
            width = min(COLUMNS, count - panel * COLUMNS)
            if is_diagonal and panel * COLUMNS + width <= start:
                continue
            for first in range(start, stop, ROWS):
                _tile(rows, first, panels, panel, tile)
                for r in range(min(ROWS, stop - first)):
                    for c in range(width):
                        other = panel * COLUMNS + c
                        if tile[r, c] >= lowest and (not is_diagonal or first + r < other):
                            a[found] = first + r
                            b[found] = other
                            similarity[found] = np.float32(1) if tile[r, c] >= EQUAL else tile[r, c]
                            found += 1
    return found


@kernel
def pair_products(one: Matrix, two: Matrix, out: Matrix) -> None:
    """``out[i] = one[i] · two[i]``, bit for bit what the tiles give."""
    panels = np.zeros((1, one.shape[1], COLUMNS), dtype=np.float32)
    tile = np.empty((ROWS, COLUMNS), dtype=np.float32)
    for i in range(one.shape[0]):
        for j in range(one.shape[1]):
            panels[0, j, 0] = two[i, j]
        _tile(one, i, panels, 0, tile)
        out[i] = tile[0, 0]


@kernel
def products_with(columns: Matrix, vector: Matrix, out: Matrix) -> None:
    """``out[i]``: product of ``vector`` with row i of a matrix given by columns ((dimensions, rows))."""
    out[:] = np.float32(0)
    for start in range(0, columns.shape[1], 1024):
        stop = min(start + 1024, columns.shape[1])
        for j in range(columns.shape[0]):
            factor = vector[j]
            for i in range(start, stop):
                out[i] += factor * columns[j, i]


@kernel
def lower_distances(products: Matrix, distances: Doubles) -> float:
    """Lower each distance to ``1 - product`` where that is less; returns their sum, added in order."""
    total = 0.0
    for i in range(len(products)):
        distance = max(0.0, 1.0 - np.float64(products[i]))
        if distance < distances[i]:
            distances[i] = distance
        total += distances[i]
    return total


@kernel
def place_of_weight(weights: Doubles, wanted: float) -> int:
    """The first row where the running sum of ``weights`` exceeds ``wanted``; else the last with a weight."""
    total, last = 0.0, 0
    for i in range(len(weights)):
        if weights[i] > 0:
            total += weights[i]
            last = i
            if total > wanted:
                return i
    return last


@kernel
def add_to_clusters(rows: Matrix, cluster: Places, sums: Doubles, sizes: Ints) -> None:
    """Add each row to its cluster's sum, in the order of rows."""
    for i in range(rows.shape[0]):
        sizes[cluster[i]] += 1
        for j in range(rows.shape[1]):
            sums[cluster[i], j] += rows[i, j]


@kernel
def row_hashes(rows: Matrix) -> npt.NDArray[np.uint64]:
    """A 64-bit hash of each row's bits; rows that are equal have equal hashes."""
    words = rows.view(np.uint32)
    out = np.empty(rows.shape[0], dtype=np.uint64)
    for i in range(rows.shape[0]):
        held = np.uint64(0x9E3779B97F4A7C15)
        for j in range(rows.shape[1]):
            held = (held ^ np.uint64(words[i, j])) * np.uint64(0xFF51AFD7ED558CCD)
            held ^= held >> np.uint64(32)
        out[i] = held
    return out


@kernel
def first_equals(rows: Matrix, hashes: npt.NDArray[np.uint64], order: Ints) -> Places:
    """For each row the first one that equals it, bit for bit. ``order``: rows by hash, then by place."""
    first = np.empty(rows.shape[0], dtype=np.int32)
    head = 0
    for at in range(len(order)):
        row = order[at]
        if at == 0 or hashes[row] != hashes[head]:
            head = row
        same = True
        for j in range(rows.shape[1]):
            if rows[row, j] != rows[head, j]:
                same = False
                break
        first[row] = head if same else row  # two hashes that collide: one of the vectors stands for itself
    return first


@kernel
def forest_edges(count: int, a: Places, b: Places) -> Flags:
    """Which edges, in the order given, join two trees: by descending weight, a maximum spanning forest."""
    parents = np.arange(count).astype(np.int32)
    joins = np.zeros(len(a), dtype=np.bool_)
    for i in range(len(a)):
        one, two = root(parents, a[i]), root(parents, b[i])
        if one != two:
            parents[max(one, two)] = min(one, two)
            joins[i] = True
    return joins
