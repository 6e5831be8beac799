"""Synthetic rows say where they come from, or they are not written (DESIGN 4, decision 0012).

A table that holds ``text`` holds documents. There a row whose ``origin`` is ``synthetic`` names what made
it. A table without text holds references to documents: their provenance stands with the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from headwater.errors import MissingProvenance
from headwater.lake.table import TEXT_COLUMN

SYNTHETIC = "synthetic"
"""The ``origin`` of a row that a program wrote."""

SYNTHETIC_FIELDS = pa.schema(
    {
        "generator": pa.string(),
        "generator_version": pa.string(),
        "prompt_id": pa.string(),
        "parent_ids": pa.list_(pa.binary(16)),
        "generation": pa.int32(),
        "parameters": pa.string(),
        "verifier": pa.string(),
        "reward": pa.float64(),
    }
)
"""Columns that synthetic rows add to those of a document; null in the others.

``parent_ids`` are the documents that the prompt was made from (none: an empty list), ``generation`` is 1
plus the highest of theirs (0: real data), ``parameters`` a JSON object, ``verifier`` what gave ``reward``.
"""

REQUIRED = ("generator", "generator_version", "prompt_id", "parent_ids", "generation", "parameters")
"""Without these a synthetic row is not written; a ``reward`` needs its ``verifier`` as well."""

MAX_NAME_CHARS = 1_024
"""Longest name of a generator, version or prompt."""

EXPECTED = {
    "generator": f"one line of text of at most {MAX_NAME_CHARS} characters",
    "generator_version": f"one line of text of at most {MAX_NAME_CHARS} characters",
    "prompt_id": f"one line of text of at most {MAX_NAME_CHARS} characters",
    "parent_ids": "a list of 16-byte document ids, empty where there are none",
    "generation": "a whole number, 1 or more: 1 plus the highest generation of its parents",
    "parameters": "a JSON object",
    "verifier": "the name of what gave the reward",
}

HINT = (
    "headwater.synthesis.provenance.synthetic_rows makes complete rows; for data of others, "
    "headwater ingest takes --generator and --generator-version, or --map generator=THEIRS,…"
)

_BAD_NAME = r"^[\s\p{Zs}]*$|[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]"
"""Blank, or with characters that control a terminal or the direction of writing, or end a line."""

_NAMES = ("generator", "generator_version", "prompt_id")


def provenance_flaws(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    """For each field that is wrong somewhere in ``batch``: a boolean per row, true where it is.

    Empty when every synthetic row says where it comes from. ``origin`` is among the fields where a row has
    a generator, or a generation above 0, and does not say that it is synthetic.
    """
    names = batch.schema.names
    if TEXT_COLUMN not in names or not ("origin" in names or "generation" in names):
        return {}
    made = _made(batch)
    claims = made
    if "origin" in names:
        said = pc.utf8_lower(pc.utf8_trim_whitespace(batch["origin"].cast(pa.string())))
        claims = pc.equal(said, SYNTHETIC).fill_null(False)
    if not pc.any(claims).as_py() and not pc.any(made).as_py():
        return {}
    flaws = {"origin": pc.and_not(made, claims)}
    flaws |= {field: pc.and_(claims, _wrong(batch, field)) for field in REQUIRED}
    if "reward" in names:
        verified = _valid_names(batch["verifier"]) if "verifier" in names else _all(batch, False)
        flaws["verifier"] = pc.and_not(pc.and_(claims, pc.is_valid(batch["reward"])), verified)
    return {field: wrong for field, wrong in flaws.items() if pc.any(wrong).as_py()}


class Provenanced:
    """The same batches; :class:`MissingProvenance` at the first one with an unaccounted synthetic row."""

    def __init__(self, reader: pa.RecordBatchReader, target: str) -> None:
        self._reader = reader
        self._target = target
        self.reader = pa.RecordBatchReader.from_batches(reader.schema, self._batches())

    def _batches(self) -> Iterator[pa.RecordBatch]:
        start = 0
        for batch in self._reader:
            flaws = provenance_flaws(batch)
            if flaws:
                raise _refusal(batch, flaws, start, self._target)
            start += batch.num_rows
            yield batch


def accounted(reader: pa.RecordBatchReader, target: str) -> pa.RecordBatchReader:
    """``reader`` itself where no row can be synthetic, else the stream that refuses."""
    names = reader.schema.names
    if TEXT_COLUMN not in names or not ("origin" in names or "generation" in names):
        return reader
    return Provenanced(reader, target).reader


def shown(value: Any, limit: int = 60) -> str:
    """A value of a row as an error may show it: one line, short, never text of the document."""
    return "null" if value is None else ascii(value)[: limit + 2]


def _made(batch: pa.RecordBatch) -> pa.Array:
    """Rows that look generated, whatever their origin says."""
    made = _all(batch, False)
    if "generation" in batch.schema.names and pa.types.is_integer(batch["generation"].type):
        made = pc.greater(batch["generation"], 0).fill_null(False)
    if {"generator", "origin"} <= set(batch.schema.names):
        made = pc.or_(made, pc.is_valid(batch["generator"]))
    return made


def _wrong(batch: pa.RecordBatch, field: str) -> pa.Array:
    """True for rows in which ``field`` is not what :data:`EXPECTED` says; all of them where it is missing."""
    if field not in batch.schema.names:
        return _all(batch, True)
    values = batch[field]
    if field in _NAMES:
        return pc.invert(_valid_names(values))
    if field == "generation":
        if not pa.types.is_integer(values.type):
            return _all(batch, True)
        return pc.less(values, 1).fill_null(True)
    return pc.invert(_valid_parents(values) if field == "parent_ids" else _valid_parameters(values))


def _valid_names(values: pa.Array) -> pa.Array:
    if not _is_text(values.type):
        return pa.array([False] * len(values), pa.bool_())
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    values = values.cast(pa.large_string())
    long = pc.greater(pc.utf8_length(values), MAX_NAME_CHARS)
    return pc.invert(pc.or_(long, pc.match_substring_regex(values, _BAD_NAME))).fill_null(False)


def _valid_parents(values: pa.Array) -> pa.Array:
    kind = values.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not _is_bytes(kind.value_type):
        return pa.array([False] * len(values), pa.bool_())
    valid = pc.is_valid(values)
    ids = pc.list_flatten(values)
    whole = pc.equal(pc.binary_length(ids), 16).fill_null(False)
    if not len(ids) or pc.all(whole).as_py():
        return valid
    rows = pc.unique(pc.list_parent_indices(values).filter(pc.invert(whole)))
    places = pa.array(range(len(values)), rows.type)
    return pc.and_not(valid, pc.is_in(places, value_set=rows))


def _valid_parameters(values: pa.Array) -> pa.Array:
    if not _is_text(values.type):
        return pa.array([False] * len(values), pa.bool_())
    # Most rows of a batch share their parameters: each value is parsed once.
    encoded = values if pa.types.is_dictionary(values.type) else pc.dictionary_encode(values)
    valid = pa.array([is_json_object(value) for value in encoded.dictionary.to_pylist()], pa.bool_())
    return valid.take(encoded.indices).fill_null(False)


def is_json_object(value: str | None) -> bool:
    """Whether ``value`` is the text of a JSON object by the standard (which has no NaN)."""
    try:
        return isinstance(json.loads(value or "", parse_constant=_refuse_constant), dict)
    except (ValueError, RecursionError):
        return False


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view())


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_fixed_size_binary(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    )


def _all(batch: pa.RecordBatch, value: bool) -> pa.Array:
    return pa.repeat(pa.scalar(value), batch.num_rows)


def _refusal(batch: pa.RecordBatch, flaws: dict[str, pa.Array], start: int, target: str) -> MissingProvenance:
    """Name the first wrong row, its first wrong field, and how many more there are of each."""
    first = min(pc.index(wrong, True).as_py() for wrong in flaws.values())
    field = next(name for name, wrong in flaws.items() if wrong[first].as_py())
    others = [name for name, wrong in flaws.items() if wrong[first].as_py() and name != field]
    if field == "origin":
        found = (
            f"origin is {_found(batch, 'origin', first)} though it has a generator or a generation above 0"
        )
        expected = "'synthetic'"
    else:
        found, expected = f"{field} is {_found(batch, field, first)}", EXPECTED[field]
    more = f" (and {', '.join(others)})" if others else ""
    any_wrong = flaws[field]
    for wrong in flaws.values():
        any_wrong = pc.or_(any_wrong, wrong)
    count = pc.sum(any_wrong).as_py()
    rest = f"; {count - 1:,} more of the {batch.num_rows:,} rows read with it are wrong" if count > 1 else ""
    return MissingProvenance(
        f"{target} was not written: the synthetic row {start + first}{_name(batch, first)} does not say "
        f"where it comes from: {found}{more}, expected {expected}{rest}",
        hint=HINT,
    )


def _found(batch: pa.RecordBatch, field: str, row: int) -> str:
    if field not in batch.schema.names:
        return "missing: the rows have no such column"
    kind = batch.schema.field(field).type
    value = batch[field][row].as_py()
    if value is None:
        return "null"
    if field == "parent_ids":
        return (
            f"{kind}" if not pa.types.is_list(kind) else f"a list of {len(value)} that is not of document ids"
        )
    if not _is_text(kind) and field != "generation":
        return f"of type {kind}"
    return shown(value)


def _name(batch: pa.RecordBatch, row: int) -> str:
    if "doc_id" not in batch.schema.names:
        return ""
    value = batch["doc_id"][row].as_py()
    return f" (doc_id {value.hex() if isinstance(value, bytes) else re.sub(r'[^0-9a-f-]', '', str(value))})"
