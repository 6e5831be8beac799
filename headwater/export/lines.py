# the names in these queries are the stored schema's own, quoted
"""Rows as lines of JSON, made by DuckDB's writer: no Python object per document.

Numbers that JSON cannot say (NaN, infinities) become null; ids become hex; a ``metadata`` column that
holds JSON text becomes the object it says.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from headwater.ingest.duck import Ducks

ID, TEXT = "id", "text"


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """An SQL string."""
    return "'" + text.replace("'", "''") + "'"


def value_sql(field: pa.Field) -> str:
    """SQL of one column's value as JSON shows it."""
    name, kind = quoted(field.name), field.type
    if field.name == "metadata" and (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return f"case when json_valid({name}) then {name}::json else to_json({name}) end"
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return f"lower(hex({name}))"
    if pa.types.is_list(kind) and pa.types.is_fixed_size_binary(kind.value_type):
        return f"list_transform({name}, lambda one: lower(hex(one)))"
    if pa.types.is_floating(kind):
        return f"case when isfinite({name}) then {name} end"
    if pa.types.is_timestamp(kind):
        return f"strftime({name}, '%Y-%m-%dT%H:%M:%S.%fZ')"
    return name


def object_sql(entries: Iterable[tuple[str, str]]) -> str:
    """A JSON object of ``(key, SQL of the value)``, in this order."""
    pairs = ", ".join(f"{literal(key)}, {value}" for key, value in entries)
    return f"json_object({pairs})"


def flat_line(schema: pa.Schema) -> str:
    """``{"id", "text", every other column}``."""
    rest = (f for f in schema if f.name not in ("doc_id", TEXT))
    return object_sql(
        [(ID, "lower(hex(doc_id))"), (TEXT, TEXT), *((_key(f.name), value_sql(f)) for f in rest)]
    )


def datatrove_line(schema: pa.Schema) -> str:
    """datatrove's Document: ``text``, ``id``, ``metadata`` with every other column in it."""
    rest = [f for f in schema if f.name not in ("doc_id", TEXT, "metadata")]
    return object_sql(
        [(TEXT, TEXT), (ID, "lower(hex(doc_id))"), ("metadata", _merged(schema, rest, rename=_DATATROVE))]
    )


def dolma_line(schema: pa.Schema, version: str) -> str:
    """Dolma's document: ``id``, ``text``, ``source``, ``created``, ``added``, ``version``, ``metadata``.

    Dolma decodes ``source``, ``created`` and ``added`` as strings, so that they are empty where nothing is
    known. Numbers go to the attributes, other columns into ``metadata``.
    """
    names = schema.names
    taken = ("doc_id", TEXT, "metadata", "source", "date")
    rest = [f for f in schema if f.name not in taken and not is_attribute(f)]
    created = value_sql(schema.field("date")) if "date" in names else "''"
    return object_sql(
        [
            (ID, "lower(hex(doc_id))"),
            (TEXT, TEXT),
            ("source", "coalesce(source, '')" if "source" in names else "''"),
            ("created", f"coalesce({created}, '')"),
            ("added", "''"),
            ("version", literal(version)),
            ("metadata", _merged(schema, rest, rename=_DOLMA)),
        ]
    )


def dolma_attributes_line(schema: pa.Schema, prefix: str) -> str:
    """Dolma's attributes of a document: each number as one span over the whole text, no span where unknown.

    Spans count characters (code points), as Python's ``len`` does.
    """
    entries = []
    for field in schema:
        if is_attribute(field):
            value = value_sql(field)
            value = f"{value}::int" if pa.types.is_boolean(field.type) else value
            span = f"json_array(json_array(0, length({TEXT}), ({value})::double))"
            entries.append(
                (
                    f"{prefix}__{_key(field.name)}",
                    f"case when ({value}) is null then json_array() else {span} end",
                )
            )
    source = "source" if "source" in schema.names else "''"
    return object_sql([(ID, "lower(hex(doc_id))"), ("source", source), ("attributes", object_sql(entries))])


def is_attribute(field: pa.Field) -> bool:
    """Numbers and truth values become attributes of Dolma documents."""
    kind = field.type
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def lines(ducks: Ducks, batch: pa.RecordBatch, line: str) -> pa.Buffer:
    """One line of JSON for each row, each ended by a newline, as one buffer."""
    made = ducks.query(f"select ({line})::varchar || chr(10) as line from input", batch)["line"]
    parts = [_values(chunk) for chunk in made.chunks]
    return parts[0] if len(parts) == 1 else pa.py_buffer(b"".join(parts))


def _values(array: pa.Array) -> pa.Buffer:
    """The bytes of all strings of an array, which lie one after another."""
    array = array.cast(pa.large_string())
    offsets = pa.Array.from_buffers(
        pa.int64(), len(array) + 1, [None, array.buffers()[1]], offset=array.offset
    )
    start, stop = offsets[0].as_py(), offsets[-1].as_py()
    return array.buffers()[2].slice(start, stop - start) if stop > start else pa.py_buffer(b"")


_DOLMA = {"license_declared": "license"}
_DATATROVE = {"license_declared": "license"}
"""Our column to the name that the format's own data sets, and our readers, use."""


def _merged(schema: pa.Schema, fields: Iterable[pa.Field], *, rename: dict[str, str]) -> str:
    """An object of columns, with the row's own metadata object merged below them; nulls are left out."""
    own = object_sql([(rename.get(f.name, _key(f.name)), value_sql(f)) for f in fields])
    if "metadata" not in schema.names:
        return f"json_merge_patch(json_object(), {own})"
    is_object = "json_valid(metadata) and json_type(metadata) = 'OBJECT'"
    given = f"case when {is_object} then metadata::json else json_object() end"
    return f"json_merge_patch({given}, {own})"


def _key(name: str) -> str:
    """A column called ``id`` may not hide the document's."""
    return name if name not in (ID, TEXT) else f"{name}_"
