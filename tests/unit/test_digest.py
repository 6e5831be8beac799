"""The content digest: canonical values, additivity, independence of layout."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.digest import ContentDigest, row_hashes

CELLS = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "i": CELLS,
            "f": st.one_of(st.none(), st.floats()),
            "s": st.one_of(st.none(), st.text(max_size=40)),
            "l": st.one_of(st.none(), st.lists(st.one_of(st.none(), st.integers(0, 255)), max_size=5)),
            "t": st.one_of(st.none(), st.lists(st.one_of(st.none(), st.text(max_size=3)), max_size=3)),
            "n": st.one_of(st.none(), st.fixed_dictionaries({"a": CELLS, "b": st.text(max_size=3)})),
        }
    ),
    max_size=20,
)
SCHEMA = pa.schema(
    {
        "i": pa.int64(),
        "f": pa.float64(),
        "s": pa.string(),
        "l": pa.list_(pa.uint8()),
        "t": pa.list_(pa.string()),
        "n": pa.struct({"a": pa.int64(), "b": pa.string()}),
    }
)


def digest(table: pa.Table) -> str:
    return ContentDigest.of(table).hex()


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, data=st.data())
def test_order_slices_and_layout_do_not_matter(rows: list[dict], data: st.DataObject) -> None:
    table = pa.Table.from_pylist(rows, SCHEMA)
    order = data.draw(st.permutations(range(len(rows))))
    cut = data.draw(st.integers(0, len(rows)))
    large = pa.schema([pa.field("s", pa.large_string()) if f.name == "s" else f for f in SCHEMA])
    expected = digest(table)
    assert digest(table.take(pa.array(order, pa.int64()))) == expected
    assert digest(pa.concat_tables([table.slice(0, cut), table.slice(cut)])) == expected
    assert digest(table.cast(large).select(["n", "t", "l", "s", "f", "i"])) == expected


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, cut=st.integers(0, 20))
def test_it_adds_and_subtracts(rows: list[dict], cut: int) -> None:
    table = pa.Table.from_pylist(rows, SCHEMA)
    whole = ContentDigest.of(table)
    for part in table.slice(cut).to_batches():
        whole.subtract(part)
    assert whole == ContentDigest.of(table.slice(0, cut))


@settings(max_examples=100, deadline=None)
@given(rows=ROWS, other=ROWS)
def test_different_rows_differ(rows: list[dict], other: list[dict]) -> None:
    a, b = pa.Table.from_pylist(rows, SCHEMA), pa.Table.from_pylist(other, SCHEMA)
    same = sorted(map(repr, a.to_pylist())) == sorted(map(repr, b.to_pylist()))
    if "nan" not in repr((rows, other)) and "-0.0" not in repr((rows, other)):
        assert (digest(a) == digest(b)) == same


def test_zeros_and_nans_are_normalized() -> None:
    bits = np.array([0x7FF8000000000000, 0x7FF8000000000001], dtype=np.uint64).view(np.float64)
    rows = row_hashes(pa.record_batch({"x": pa.array([0.0, -0.0, *bits])}))
    assert (rows[0] == rows[1]).all() and (rows[2] == rows[3]).all() and (rows[0] != rows[2]).any()


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"a": [1], "b": [2]}, {"a": [2], "b": [1]}),
        ({"a": [1]}, {"b": [1]}),
        ({"a": pa.array([1], pa.int32())}, {"a": pa.array([1], pa.int64())}),
        ({"a": [0]}, {"a": pa.array([None], pa.int64())}),
        ({"a": [""]}, {"a": pa.array([None], pa.string())}),
        ({"a": [[1, None]]}, {"a": [[1, 0]]}),
        ({"a": [["x"], []]}, {"a": [[], ["x", "x"]]}),
        ({"a": [1, 2], "b": [3, 4]}, {"a": [1, 2], "b": [4, 3]}),
        ({"a": [dt.date(2026, 1, 1)]}, {"a": [dt.date(2026, 1, 2)]}),
        ({"a": [True]}, {"a": [False]}),
        ({"a": [Decimal("1.5")]}, {"a": [Decimal("2.5")]}),
    ],
)
def test_what_must_differ(left: dict, right: dict) -> None:
    assert digest(pa.table(left)) != digest(pa.table(right))


def test_dictionaries_and_fixed_lists_are_read_through() -> None:
    plain = pa.array(["x", "y", None, "x"])
    assert digest(pa.table({"a": plain})) == digest(pa.table({"a": plain.dictionary_encode()}))
    tokens = pa.FixedSizeListArray.from_arrays(pa.array(range(12), pa.uint16()), 4)
    whole = ContentDigest.of(pa.table({"t": tokens}))
    parts = ContentDigest.of(pa.table({"t": tokens.slice(1)})).add(pa.record_batch({"t": tokens.slice(0, 1)}))
    assert whole == parts


def test_golden_value() -> None:
    """The digest is part of the format: a change of this value is a change of the lake's format."""
    table = pa.table({"id": [1, 2, None], "text": ["a", "", None], "x": [0.5, -0.0, float("nan")]})
    assert digest(table) == "19aef9147f1fc948decf7e61cc320bc0"
