"""Evaluation sets as a table of the lake: one row per item and field."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from headwater.errors import BadInput, UnknownName, UsageError
from headwater.lake import Lake, Provenance, TableVersion

TABLE = "raw.eval_items"

EVAL_ITEMS = pa.schema(
    {
        "item_key": pa.binary(16),
        "eval_set": pa.string(),
        "item_id": pa.string(),
        "field": pa.string(),
        "text": pa.large_string(),
    }
)
"""``item_key`` is a hash of the other four: an item that changes is another row."""


def read_eval_set(eval_set: str, path: str | Path, *, fields: Mapping[str, str], item_id: str) -> pa.Table:
    """Read an evaluation set from JSON Lines (plain, gzip, zstd, bzip2) or Parquet.

    Parameters
    ----------
    eval_set: the name its rows get.
    fields: name of a field to the key that holds its text, ``{"prompt": "prompt", "solution":
        "canonical_solution"}``; a dot reaches into a nested object (``question.stem``). A list of strings
        gives one row for each, ``field.0``, ``field.1``, … Absent and null values give none.
    item_id: the key of the item's id (a string or an integer), unique in the file.

    Raises
    ------
    BadInput
        A line that is no JSON object, an id that is missing or used twice, a field that is no text: with
        file and line. Texts are not quoted.
    """
    path = Path(path)
    if not eval_set or not fields:
        raise UsageError("an evaluation set needs a name and at least one field")
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    found: set[str] = set()
    for place, record in _records(path):
        key = _reach(record, item_id)
        if not isinstance(key, str | int) or isinstance(key, bool):
            raise BadInput(f"{place}: expected an id under {item_id!r}, got {type(key).__name__}")
        if str(key) in seen:
            raise BadInput(
                f"{place}: the id under {item_id!r} was used before", hint="ids are unique in a set"
            )
        seen.add(str(key))
        for name, source in fields.items():
            for field, text in _texts(name, _reach(record, source), place):
                found.add(name)
                rows.append(_row(eval_set, str(key), field, text))
    missing = sorted(set(fields) - found)
    if missing:
        known = ", ".join(f"{name} ({fields[name]})" for name in missing)
        raise BadInput(f"{path}: no row of {len(seen)} has text for {known}", hint="check the column map")
    return pa.Table.from_pylist(rows, schema=EVAL_ITEMS)


def add_eval_set(lake: Lake, items: pa.Table) -> TableVersion:
    """Make ``items`` (of :func:`read_eval_set`) the rows of their sets in ``raw.eval_items``.

    Other sets stay as they are; nothing is published when nothing changed.
    """
    for name in EVAL_ITEMS.names:
        if name not in items.schema.names:
            raise UnknownName.of("column", name, items.schema.names, where="evaluation items")
    items = items.select(EVAL_ITEMS.names).cast(EVAL_ITEMS)
    sets = pc.unique(items["eval_set"])
    provenance = Provenance(kind="ingest", extra={"eval_sets": sets.to_pylist()})
    if not lake.exists(TABLE):
        return lake.write(TABLE, items, provenance=provenance)
    current = lake.table(TABLE).to_arrow(["item_key", "eval_set"])
    mine = current["item_key"].filter(pc.is_in(current["eval_set"], sets))
    # Bytes of ids, not rows of documents: an evaluation set is small.
    old, new = set(mine.to_pylist()), set(items["item_key"].to_pylist())
    added = items.filter(pa.array([key not in old for key in items["item_key"].to_pylist()], pa.bool_()))
    gone = pa.array(sorted(old - new), pa.binary(16))
    return lake.update(
        TABLE, add=added if added.num_rows else None, remove=gone, key="item_key", provenance=provenance
    )


def eval_sets(lake: Lake) -> list[dict[str, Any]]:
    """The sets in ``raw.eval_items`` by name: ``eval_set``, ``num_items``, ``fields``."""
    if not lake.exists(TABLE):
        return []
    rows = lake.table(TABLE).to_arrow(["eval_set", "item_id", "field"])
    found = rows.group_by("eval_set").aggregate([("item_id", "count_distinct"), ("field", "distinct")])
    return [
        {
            "eval_set": row["eval_set"],
            "num_items": row["item_id_count_distinct"],
            "fields": sorted(row["field_distinct"]),
        }
        for row in found.sort_by("eval_set").to_pylist()
    ]


def _row(eval_set: str, item: str, field: str, text: str) -> dict[str, Any]:
    # JSON can spell lone surrogates, UTF-8 cannot.
    values = [part.encode("utf-8", "replace") for part in (eval_set, item, field, text)]
    packed = b"".join(len(value).to_bytes(8, "little") + value for value in values)
    names = ("eval_set", "item_id", "field", "text")
    shown = {name: value.decode() for name, value in zip(names, values, strict=True)}
    return {"item_key": xxhash.xxh3_128_digest(packed), **shown}


def _records(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if not path.is_file():
        raise BadInput(f"{path} is not a file")
    if path.suffix == ".parquet":
        for batch in pq.ParquetFile(path).iter_batches():
            for number, record in enumerate(batch.to_pylist(), start=1):
                yield f"{path}, row {number}", record
        return
    try:
        with pa.input_stream(str(path), compression="detect") as raw:
            for number, line in enumerate(io.BufferedReader(raw), start=1):
                if line.strip():
                    yield f"{path}, line {number}", _parsed(line, f"{path}, line {number}")
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {type(error).__name__}") from error


def _parsed(line: bytes, place: str) -> Mapping[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise BadInput(f"{place}: not JSON in UTF-8", hint="one object a line") from None
    if not isinstance(record, dict):
        raise BadInput(f"{place}: expected an object, got {type(record).__name__}")
    return record


def _reach(record: Any, key: str) -> Any:
    if isinstance(record, Mapping) and key in record:
        return record[key]
    head, _, rest = key.partition(".")
    return _reach(record[head], rest) if rest and isinstance(record, Mapping) and head in record else None


def _texts(name: str, value: Any, place: str) -> Iterator[tuple[str, str]]:
    if value is None:
        return
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, list) and all(isinstance(part, str) for part in value):
        for number, part in enumerate(value):
            yield f"{name}.{number}", part
    else:
        raise BadInput(f"{place}: field {name} expected text or a list of texts, got {type(value).__name__}")
