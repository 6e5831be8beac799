"""The content digest of a table: a 128-bit sum over its rows.

Each cell becomes 128 bits from its canonical value, each row the mix of its cells with the names
and types of their columns, and the table the sum of its rows in two 64-bit lanes. A sum does not
know order, batches, files or slices, and it can be added to and taken from: an append or a delete
updates it without reading the rest. Canonical means: dictionaries decoded, ``-0.0`` equal to
``0.0``, every NaN equal, null its own value, small and large strings the same type.

It tells accidents and honest changes apart; it is not a defense against someone who *constructs*
rows to collide (sums of 64-bit lanes are not collision resistant against an adversary).
"""

from __future__ import annotations

from collections.abc import Iterable

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.kernels.xxh3 import xxh3_128

Cells = npt.NDArray[np.uint64]
"""(rows, 2) uint64: two lanes a cell."""

# Finalizer constants of splitmix64 (Steele, Lea, Flood 2014), used here as a bijective 64-bit mixer.
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
# Odd constants from the golden ratio and from xxh3's primes: any fixed odd numbers serve.
_LANE = np.uint64(0x9E3779B97F4A7C15)
_NULL = (np.uint64(0x9E3779B185EBCA87), np.uint64(0xC2B2AE3D27D4EB4F))

_U64 = (1 << 64) - 1
_INTEGER = {8: pa.uint8(), 16: pa.uint16(), 32: pa.uint32(), 64: pa.uint64()}


@numba.njit(nogil=True, cache=True, inline="always")
def _mix(value):  # type: ignore[no-untyped-def]
    value = (value ^ (value >> np.uint64(30))) * _MIX_1
    value = (value ^ (value >> np.uint64(27))) * _MIX_2
    return value ^ (value >> np.uint64(31))


@numba.njit(nogil=True, cache=True)
def _fold_column(rows, cells, seed_high, seed_low):  # type: ignore[no-untyped-def]
    """Add one column's cells, keyed by its name and type, into the rows."""
    for i in range(rows.shape[0]):
        high = _mix(cells[i, 0] ^ seed_high)
        rows[i, 0] += high
        rows[i, 1] += _mix(cells[i, 1] ^ seed_low ^ (high * _LANE))


@numba.njit(nogil=True, cache=True)
def _close_rows(rows):  # type: ignore[no-untyped-def]
    """Mix each row's sum once more, so that cells of different rows cannot trade places."""
    for i in range(rows.shape[0]):
        high = _mix(rows[i, 0] + _LANE)
        rows[i, 1] = _mix(rows[i, 1] ^ high)
        rows[i, 0] = high


class ContentDigest:
    """An additive digest of rows.

    Examples
    --------
    >>> import pyarrow as pa
    >>> a, b = pa.record_batch({"x": [1, 2]}), pa.record_batch({"x": [3]})
    >>> both = ContentDigest().add(a).add(b)
    >>> both == ContentDigest().add(b).add(a)
    True
    >>> both.subtract(b) == ContentDigest().add(a)
    True
    """

    def __init__(self, high: int = 0, low: int = 0, num_rows: int = 0) -> None:
        self.high, self.low, self.num_rows = high, low, num_rows

    def add(self, batch: pa.RecordBatch | pa.Table) -> ContentDigest:
        """Count the rows of ``batch`` in; returns itself."""
        return self._merge(batch, 1)

    def subtract(self, batch: pa.RecordBatch | pa.Table) -> ContentDigest:
        """Count the rows of ``batch`` out; returns itself."""
        return self._merge(batch, -1)

    def combine(self, other: ContentDigest, sign: int = 1) -> ContentDigest:
        """Add (or, with ``sign=-1``, take away) the rows of another digest; returns itself."""
        self.high = (self.high + sign * other.high) & _U64
        self.low = (self.low + sign * other.low) & _U64
        self.num_rows += sign * other.num_rows
        return self

    def hex(self) -> str:
        """32 hex digits."""
        return f"{self.high:016x}{self.low:016x}"

    @classmethod
    def from_hex(cls, text: str, num_rows: int) -> ContentDigest:
        return cls(int(text[:16], 16), int(text[16:], 16), num_rows)

    @classmethod
    def of(cls, batches: Iterable[pa.RecordBatch] | pa.Table) -> ContentDigest:
        digest = cls()
        for batch in batches.to_batches() if isinstance(batches, pa.Table) else batches:
            digest.add(batch)
        return digest

    def _merge(self, batch: pa.RecordBatch | pa.Table, sign: int) -> ContentDigest:
        for part in batch.to_batches() if isinstance(batch, pa.Table) else (batch,):
            rows = row_hashes(part)
            total = rows.sum(axis=0, dtype=np.uint64) if len(rows) else np.zeros(2, np.uint64)
            self.combine(ContentDigest(int(total[0]), int(total[1]), len(rows)), sign)
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ContentDigest) and (self.high, self.low, self.num_rows) == (
            other.high,
            other.low,
            other.num_rows,
        )

    def __hash__(self) -> int:
        return hash((self.high, self.low, self.num_rows))

    def __repr__(self) -> str:
        return f"ContentDigest({self.hex()}, num_rows={self.num_rows})"


def row_hashes(batch: pa.RecordBatch) -> Cells:
    """Return the two 64-bit lanes of every row, (rows, 2) uint64; the order of columns is no part."""
    rows = np.zeros((batch.num_rows, 2), dtype=np.uint64)
    for field, column in zip(batch.schema, batch.columns, strict=True):
        _fold_column(rows, _cells(column), *_column_seed(field.name, column.type))
    _close_rows(rows)
    return rows


def _column_seed(name: str, kind: pa.DataType) -> tuple[np.uint64, np.uint64]:
    high, low = xxh3_128(pa.array([f"{name}\0{_type_name(kind)}"]))[0]
    return high, low


def _type_name(kind: pa.DataType) -> str:
    """The name of a type without what only storage knows: dictionaries, offset widths, child names."""
    if isinstance(kind, pa.BaseExtensionType):
        return _type_name(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return _type_name(kind.value_type)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view():
        return "string"
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or kind == pa.binary_view():
        return "binary"
    if pa.types.is_fixed_size_list(kind):
        return f"list[{kind.list_size}]<{_type_name(kind.value_type)}>"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"list<{_type_name(kind.value_type)}>"
    if pa.types.is_struct(kind):
        fields = (kind.field(i) for i in range(kind.num_fields))
        return f"struct<{','.join(f'{f.name}:{_type_name(f.type)}' for f in fields)}>"
    if pa.types.is_map(kind):
        return f"map<{_type_name(kind.key_type)},{_type_name(kind.item_type)}>"
    return str(kind)


def _cells(array: pa.Array) -> Cells:
    """Canonical 128 bits of every value, (rows, 2) uint64."""
    cells = _values(array)
    if array.null_count:
        missing = np.asarray(array.is_null().to_numpy(zero_copy_only=False), dtype=np.bool_)
        cells[missing, 0], cells[missing, 1] = _NULL
    return cells


def _values(array: pa.Array) -> Cells:
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return _cells(array.storage)
    if pa.types.is_null(kind):
        return np.tile(np.array(_NULL, dtype=np.uint64), (len(array), 1))
    if pa.types.is_dictionary(kind):
        return _cells(array.dictionary_decode())
    if pa.types.is_struct(kind):
        return _struct(array)
    if pa.types.is_map(kind):
        entries = pa.StructArray.from_arrays([array.keys, array.items], ["key", "value"])
        return _hash_spans(_cells(entries), np.asarray(array.offsets))
    if pa.types.is_fixed_size_list(kind):
        size = kind.list_size
        offsets = np.arange(len(array) + 1, dtype=np.int64) * size
        return _list(array.values.slice(array.offset * size, len(array) * size), offsets)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        offsets = np.asarray(array.offsets).astype(np.int64)
        first = int(offsets[0]) if len(offsets) else 0
        last = int(offsets[-1]) if len(offsets) else 0
        return _list(array.values.slice(first, last - first), offsets - first)
    numbers = _as_unsigned(array)
    if numbers is None:
        if pa.types.is_decimal(kind) or pa.types.is_interval(kind):
            array = array.view(pa.binary(kind.bit_width // 8))
        return xxh3_128(array)
    cells = np.empty((len(array), 2), dtype=np.uint64)
    cells[:, 0] = numbers
    cells[:, 1] = numbers
    return cells


def _as_unsigned(array: pa.Array) -> npt.NDArray[np.unsignedinteger] | None:
    """Fixed-width values of up to 64 bits as unsigned integers of their width, floats normalized."""
    kind = array.type
    if pa.types.is_boolean(kind):
        return np.asarray(array.cast(pa.uint8()).fill_null(0).to_numpy(zero_copy_only=False))
    if not pa.types.is_primitive(kind) or kind.bit_width > 64:
        return None
    if array.null_count and not pa.types.is_floating(kind):
        array = array.view(_INTEGER[kind.bit_width]).fill_null(0)  # a null's slot holds anything
    if pa.types.is_floating(kind):
        values = np.array(array.fill_null(0.0).to_numpy(zero_copy_only=False))
        values += values.dtype.type(0)  # -0.0 + 0.0 is 0.0
        values[np.isnan(values)] = np.nan  # one NaN pattern
        return np.asarray(values.view(f"u{kind.bit_width // 8}"))
    return np.asarray(array.view(_INTEGER[kind.bit_width]).to_numpy(zero_copy_only=False))


def _list(values: pa.Array, offsets: npt.NDArray[np.int64]) -> Cells:
    """Lists of plain numbers hash as their bytes plus, where a list holds nulls, its null flags."""
    numbers = _as_unsigned(values)
    if numbers is None:
        return _hash_spans(_cells(values), offsets)
    cells = _hash_spans(np.ascontiguousarray(numbers), offsets)
    if values.null_count:
        flags = np.asarray(values.is_null().to_numpy(zero_copy_only=False), dtype=np.uint8)
        has_null = np.diff(np.concatenate(([0], np.cumsum(flags, dtype=np.int64)))[offsets]) > 0
        extra = _hash_spans(flags, offsets)
        cells[has_null] += extra[has_null] * _LANE
    return cells


def _hash_spans(values: npt.NDArray[np.generic], offsets: npt.NDArray[np.int64]) -> Cells:
    """xxh3-128 of each span's bytes; ``values`` is contiguous, one element (of any width) a row."""
    width = values.dtype.itemsize * (values.shape[1] if values.ndim == 2 else 1)
    data = pa.py_buffer(values.tobytes() if not values.flags.c_contiguous else values)
    spans = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(),
        len(offsets) - 1,
        [None, pa.py_buffer(np.ascontiguousarray(offsets * width, dtype=np.int64)), data],
    )
    return xxh3_128(spans)


def _struct(array: pa.StructArray) -> Cells:
    rows = np.zeros((len(array), 2), dtype=np.uint64)
    # flatten() carries the struct's own nulls and slice into its children.
    for field, child in zip(array.type, array.flatten(), strict=True):
        _fold_column(rows, _cells(child), *_column_seed(field.name, child.type))
    _close_rows(rows)
    return rows
