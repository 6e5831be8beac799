"""From a reader's plain text columns to candidate columns: defaults, keys, lists of licenses.

This is Arrow and not SQL because a block of two megabytes is parsed in 10 ms, and planning a query
that does all of it took as long again.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from headwater.ingest.duck import Ducks
from headwater.ingest.rows import CANDIDATES, ORIGINS
from headwater.lake.synthetic import SYNTHETIC_FIELDS

DATE_SQL = "try_cast(try_cast({} as timestamptz) as timestamp)"
"""SQL for a date: UTC; an offset is taken into account, what is no date becomes null."""


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What a row gets that does not say."""

    source: str
    from_rows: bool
    """Take the row's own source where it has one."""


def candidates(
    raw: pa.Table, text: pa.Array | pa.ChunkedArray, *, unit: str, file: str, defaults: Defaults, ducks: Ducks
) -> pa.Table:
    """Schema :data:`CANDIDATES`, from the columns ``number``, ``metadata`` and those that were mapped.

    ``unit`` is ``line`` or ``row``. A row's key is its id, else its path, else ``file:number``; its path
    is its path, else its key, so that every row can be found again in its source. What a row does not say of
    its origin stays null: ``ingest.synthetic`` fills it in.
    """
    size = raw.num_rows
    nothing = pa.chunked_array([pa.nulls(size, pa.string())])
    given = {name: _filled(raw[name]) for name in raw.column_names if name in _TEXTUAL}
    number = raw["number"].cast(pa.string())
    place = pc.binary_join_element_wise(file, number, ":")
    path, own_id = given.get("path", nothing), given.get("id", nothing)
    source = given.get("source", nothing) if defaults.from_rows else nothing
    origin = pc.utf8_lower(pc.utf8_trim_whitespace(given.get("origin", nothing)))
    columns = {
        "text": text,
        "key": pc.coalesce(own_id, path, place),
        "source": pc.coalesce(source, defaults.source),
        "path": pc.coalesce(path, own_id, place),
        "url": given.get("url", nothing),
        "origin": pc.if_else(pc.is_in(origin, value_set=pa.array(ORIGINS)), origin, None),
        "license_declared": _licenses(given.get("license", nothing), ducks),
        "date": raw["date"] if "date" in raw.column_names else pa.nulls(size, pa.timestamp("us")),
        "metadata": raw["metadata"],
        "file": pa.repeat(file, size),
        "position": pc.binary_join_element_wise(unit, number, " "),
    }
    table = pa.table([columns[name] for name in CANDIDATES.names], names=CANDIDATES.names).cast(CANDIDATES)
    for name in SYNTHETIC_FIELDS.names:
        if name in raw.column_names:
            table = table.append_column(name, _filled(raw[name]))
    return table


_TEXTUAL = ("id", "source", "path", "url", "origin", "license")


def _filled(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """An empty string says as little as null."""
    values = values.cast(pa.string())
    return pc.if_else(pc.equal(values, ""), None, values)


def _licenses(values: pa.ChunkedArray, ducks: Ducks) -> pa.ChunkedArray:
    """A JSON list of licenses as their AND: which of them covers the file is not said, so all may."""
    is_list = pc.starts_with(values, "[").fill_null(False)
    if not pc.any(is_list).as_py():
        return values
    encoded = pc.dictionary_encode(values.combine_chunks())
    joined = ducks.query(_JOIN_LICENSES, pa.table({"value": encoded.dictionary}))["joined"]
    return pa.chunked_array([joined.cast(pa.string()).combine_chunks().take(encoded.indices)])


_JOIN_LICENSES = """
    with listed as (
        select value, case when json_valid(value) and json_type(value) = 'ARRAY' then
            list_filter(from_json(value, '["VARCHAR"]'), lambda x: x <> '') end as items
        from input
    )
    select case
        when items is null then value
        when len(items) = 1 then items[1]
        else nullif(array_to_string(list_transform(
            items, lambda x: case when contains(x, ' ') then '(' || x || ')' else x end), ' AND '), '')
    end as joined
    from listed
"""
