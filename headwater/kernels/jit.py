"""How a kernel is compiled, and the few machine instructions numba has no spelling for.

numba's cache of a kernel does not notice edits in *another* file whose kernels it calls: after changing a
shared kernel, delete ``headwater/kernels/__pycache__``.
"""

# mypy: disable-error-code="misc, attr-defined, import-untyped"
# ruff: noqa: ARG001 - numba gives every intrinsic its typing context, and arguments by position

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile without the GIL on first call, cached on disk where a cache directory can be written."""
    try:
        return cast(F, numba.njit(nogil=True, cache=True)(function))
    except RuntimeError:  # "no locator available": read-only install and no writable user cache
        return cast(F, numba.njit(nogil=True)(function))


def inline_kernel(function: F) -> F:
    """A helper that is only called by kernels: compiled into them, so it needs no cache of its own."""
    return cast(F, numba.njit(nogil=True, inline="never")(function))


def forced_kernel(function: F) -> F:
    """A small helper of a hot loop, always compiled into its caller: a call passes seven words per array."""
    return cast(F, numba.njit(nogil=True, forceinline=True)(function))


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, position: Any, bits: int) -> Any:
    """A pointer to ``bits``-wide integers at byte ``position`` of a uint8 array."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [position]), ir.IntType(bits).as_pointer())


@intrinsic
def load64(typing: Any, data: Any, position: Any) -> Any:
    """The unaligned little-endian uint64 at byte ``position`` (the caller checks the bounds)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        position = context.cast(builder, args[1], signature.args[1], types.int64)
        return builder.load(_pointer(context, builder, signature.args[0], args[0], position, 64), align=1)

    return types.uint64(data, position), codegen


@intrinsic
def load32(typing: Any, data: Any, position: Any) -> Any:
    """The unaligned little-endian uint32 at byte ``position``, widened to uint64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        position = context.cast(builder, args[1], signature.args[1], types.int64)
        word = builder.load(_pointer(context, builder, signature.args[0], args[0], position, 32), align=1)
        return builder.zext(word, ir.IntType(64))

    return types.uint64(data, position), codegen


@intrinsic
def multiply_wide(typing: Any, a: Any, b: Any) -> Any:
    """The 128-bit product of two uint64 as ``(high, low)``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
        low = builder.trunc(product, ir.IntType(64))
        high = builder.trunc(builder.lshr(product, wide(64)), ir.IntType(64))
        return context.make_tuple(builder, signature.return_type, (high, low))

    return types.UniTuple(types.uint64, 2)(types.uint64, types.uint64), codegen


@intrinsic
def swap64(typing: Any, a: Any) -> Any:
    """Byte order reversed."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bswap(args[0])

    return types.uint64(types.uint64), codegen


@intrinsic
def accumulate_stripes(
    typing: Any, lanes: Any, data: Any, position: Any, secret: Any, at: Any, count: Any
) -> Any:
    """xxh3's inner loop: ``count`` stripes of 64 bytes from ``position`` into eight uint64 ``lanes``.

    Stripe n is keyed by the 64 secret bytes at ``at + 8 n``. Written as LLVM vectors because numba leaves
    its straight-line vectorizer off; the code generator picks SSE2, AVX2, AVX-512 or NEON.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(ir.IntType(64), 8)
        i32, i64 = ir.IntType(32), ir.IntType(64)

        def vector_pointer(index: int, byte: Any) -> Any:
            base = context.make_array(signature.args[index])(context, builder, args[index]).data
            raw = builder.bitcast(base, ir.IntType(8).as_pointer())
            return builder.bitcast(builder.gep(raw, [byte]), vector.as_pointer())

        def splat(value: int) -> Any:
            return ir.Constant(vector, [value] * 8)

        position, at, count = (
            context.cast(builder, args[i], signature.args[i], types.int64) for i in (2, 4, 5)
        )
        lanes_pointer = vector_pointer(0, i64(0))
        held = cgutils.alloca_once_value(builder, builder.load(lanes_pointer, align=8))
        neighbors = ir.Constant(ir.VectorType(i32, 8), [1, 0, 3, 2, 5, 4, 7, 6])
        with cgutils.for_range(builder, count, intp=i64) as loop:
            word = builder.load(
                vector_pointer(1, builder.add(position, builder.mul(loop.index, i64(64)))), align=1
            )
            key = builder.load(vector_pointer(3, builder.add(at, builder.mul(loop.index, i64(8)))), align=1)
            keyed = builder.xor(word, key)
            product = builder.mul(builder.and_(keyed, splat(0xFFFFFFFF)), builder.lshr(keyed, splat(32)))
            crossed = builder.shuffle_vector(word, ir.Constant(vector, ir.Undefined), neighbors)
            builder.store(builder.add(builder.load(held), builder.add(product, crossed)), held)
        builder.store(builder.load(held), lanes_pointer, align=8)
        return context.get_dummy_value()

    return types.void(lanes, data, position, secret, at, count), codegen


@intrinsic
def lower_minima(typing: Any, values: Any, count: Any, a: Any, b: Any, at: Any, minima: Any) -> Any:
    """``minima[at:at+16] = min(itself, a * x + b)`` over the first ``count`` uint64 ``values``, mod 2**64.

    Sixteen minima stay in registers over the whole loop; the five arrays are contiguous uint64.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(ir.IntType(64), 8)
        i32, i64 = ir.IntType(32), ir.IntType(64)
        count, at = (context.cast(builder, args[i], signature.args[i], types.int64) for i in (1, 4))

        def data(index: int) -> Any:
            return context.make_array(signature.args[index])(context, builder, args[index]).data

        def pointer(index: int, half: int) -> Any:
            place = builder.gep(data(index), [builder.add(at, i64(8 * half))])
            return builder.bitcast(place, vector.as_pointer())

        factors = [builder.load(pointer(2, half), align=8) for half in range(2)]
        terms = [builder.load(pointer(3, half), align=8) for half in range(2)]
        held = [
            cgutils.alloca_once_value(builder, builder.load(pointer(5, half), align=8)) for half in range(2)
        ]
        everywhere = ir.Constant(ir.VectorType(i32, 8), [0] * 8)
        undefined = ir.Constant(vector, ir.Undefined)
        base = data(0)
        with cgutils.for_range(builder, count, intp=i64) as loop:
            value = builder.load(builder.gep(base, [loop.index]))
            spread = builder.shuffle_vector(
                builder.insert_element(undefined, value, i32(0)), undefined, everywhere
            )
            for half in range(2):
                hashed = builder.add(builder.mul(factors[half], spread), terms[half])
                least = builder.load(held[half])
                smaller = builder.icmp_unsigned("<", hashed, least)
                builder.store(builder.select(smaller, hashed, least), held[half])
        for half in range(2):
            builder.store(builder.load(held[half]), pointer(5, half), align=8)
        return context.get_dummy_value()

    return types.void(values, count, a, b, at, minima), codegen
