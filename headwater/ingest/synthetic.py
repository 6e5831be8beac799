"""Whose work a row is, and for synthetic rows: what made them. What cannot say is quarantined, not lost."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headwater.ingest.rows import BAD, DOCUMENTS, PLACE, Checked
from headwater.lake.synthetic import EXPECTED, SYNTHETIC, SYNTHETIC_FIELDS, provenance_flaws, shown

WIDE_DOCUMENTS = pa.schema([*DOCUMENTS, *SYNTHETIC_FIELDS])
"""Columns of ``raw.documents`` in a lake that holds synthetic documents (decision 0012)."""

REASON = "synthetic_without_provenance"

_IDS = r'^\[("[0-9a-f]{32}"(,"[0-9a-f]{32}")*)?\]$'
_NIBBLE = np.full(256, 255, np.uint8)
_NIBBLE[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What is said of rows that do not say it themselves."""

    origin: str = "unknown"
    generator: str | None = None
    generator_version: str | None = None


def account(checked: Checked, claims: Claims) -> Checked:
    """Fill in the origin of every row, and the provenance of synthetic ones.

    The documents come back with the columns of :data:`WIDE_DOCUMENTS` when one of them is synthetic. A row
    that names a generator is synthetic unless it says otherwise; one that does not say what made it goes to
    ``bad``. The row's key stands for a prompt id that is not given.
    """
    documents, given = checked.documents, checked.said
    said = documents["origin"]
    by_program = pc.is_valid(given["generator"]) if "generator" in given.schema.names else None
    default: pa.Array | str = claims.origin
    if by_program is not None:
        default = pc.if_else(by_program, SYNTHETIC, claims.origin)
    origin = pc.coalesce(said, default)
    at = documents.schema.get_field_index("origin")
    documents = documents.set_column(at, DOCUMENTS.field("origin"), origin)
    synthetic = pc.equal(origin, SYNTHETIC)
    named = synthetic if by_program is None else pc.or_(synthetic, by_program)
    if not pc.any(named).as_py():
        return replace(checked, documents=documents)
    columns = {
        "generator": _or(given, "generator", claims.generator),
        "generator_version": _or(given, "generator_version", claims.generator_version),
        "prompt_id": _or(given, "prompt_id", given["key"]),
        "parent_ids": _parents(_or(given, "parent_ids", "[]")),
        "generation": _whole(_or(given, "generation", "1")),
        "parameters": _or(given, "parameters", "{}"),
        "verifier": _or(given, "verifier", None),
        "reward": _number(_or(given, "reward", None)),
    }
    # A generator stays with a row that calls itself human, so that the contradiction is found below.
    filled = [
        pc.if_else(named if name == "generator" else synthetic, columns[name], pa.scalar(None, kind))
        for name, kind in zip(SYNTHETIC_FIELDS.names, SYNTHETIC_FIELDS.types, strict=True)
    ]
    wide = pa.record_batch([*documents.columns, *filled], schema=WIDE_DOCUMENTS)
    flaws = provenance_flaws(wide)
    return _quarantined(checked, wide, flaws) if flaws else replace(checked, documents=wide)


def widened(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch of documents in the columns of :data:`WIDE_DOCUMENTS`."""
    if batch.num_columns == len(WIDE_DOCUMENTS):
        return batch
    missing = [pa.nulls(batch.num_rows, field.type) for field in SYNTHETIC_FIELDS]
    return pa.record_batch([*batch.columns, *missing], schema=WIDE_DOCUMENTS)


def parted(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """The documents that are not synthetic, without provenance; and the synthetic ones."""
    synthetic = pc.equal(batch["origin"], SYNTHETIC)
    return batch.filter(pc.invert(synthetic)).select(DOCUMENTS.names), batch.filter(synthetic)


def _quarantined(checked: Checked, wide: pa.RecordBatch, flaws: dict[str, pa.Array]) -> Checked:
    wrong = pa.array(np.zeros(wide.num_rows, np.bool_))
    for flaw in flaws.values():
        wrong = pc.or_(wrong, flaw)
    rows = np.flatnonzero(wrong.to_numpy(zero_copy_only=False))
    details = pa.array([_detail(wide, flaws, checked.said, int(row)) for row in rows], pa.string())
    place = checked.said.select(list(PLACE)).filter(wrong)
    reason = pa.repeat(REASON, len(rows))
    found = pa.record_batch([*place.columns, reason, details, wide["text_bytes"].filter(wrong)], schema=BAD)
    bad = pa.concat_batches([checked.bad, found]) if checked.bad.num_rows else found
    kept = pc.invert(wrong)
    return replace(checked, documents=wide.filter(kept), bad=bad, said=checked.said.filter(kept))


def _detail(wide: pa.RecordBatch, flaws: dict[str, pa.Array], given: pa.RecordBatch, row: int) -> str:
    """Every wrong field of a row, with what it was given as: names and ids, never text."""
    parts = []
    for field, flaw in flaws.items():
        if not flaw[row].as_py():
            continue
        if field == "origin":
            parts.append(f"a generator is named, and origin is {wide['origin'][row].as_py()}")
            continue
        value = given[field][row].as_py() if field in given.schema.names else None
        parts.append(
            f"{field} is {'not given' if value is None else shown(value)}, expected {EXPECTED[field]}"
        )
    return "; ".join(parts)


def _or(given: pa.RecordBatch, name: str, default: pa.Array | str | None) -> pa.Array:
    """The mapped column, the default where it is null or not mapped."""
    if isinstance(default, pa.Array):
        fallback = default.cast(pa.string())
    else:
        fallback = pa.repeat(pa.scalar(default, pa.string()), given.num_rows)
    return pc.coalesce(given[name], fallback) if name in given.schema.names else fallback


def _parents(values: pa.Array) -> pa.Array:
    """JSON lists of ids (hex, with or without dashes) as 16 bytes each; null for what is no such list."""
    kind = SYNTHETIC_FIELDS.field("parent_ids").type
    plain = pc.replace_substring_regex(pc.utf8_lower(values), r"[\s-]", "")
    valid = pc.match_substring_regex(plain, _IDS).fill_null(False)
    bare = pc.replace_substring_regex(pc.if_else(valid, plain, ""), r'[\[\]"]', "")
    ids = pc.binary_length(bare).to_numpy(zero_copy_only=False)
    counts = (ids + 1) // 33  # 32 digits each, with commas between
    digits = np.frombuffer("".join(bare.to_pylist()).replace(",", "").encode(), np.uint8)
    nibbles = _NIBBLE[digits].reshape(-1, 2)
    packed = ((nibbles[:, 0] << 4) | nibbles[:, 1]).astype(np.uint8)
    flat = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), len(packed) // 16, [None, pa.py_buffer(packed.tobytes())]
    )
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), flat).cast(kind)
    return pc.if_else(valid, lists, pa.scalar(None, kind))


def _whole(values: pa.Array) -> pa.Array:
    valid = pc.match_substring_regex(values, r"^\s*[0-9]{1,9}\s*$").fill_null(False)
    return pc.utf8_trim_whitespace(pc.if_else(valid, values, None)).cast(pa.int32())


def _number(values: pa.Array) -> pa.Array:
    valid = pc.match_substring_regex(
        values, r"^\s*[-+]?[0-9]{1,18}(\.[0-9]{0,18})?([eE][-+]?[0-9]{1,2})?\s*$"
    )
    return pc.utf8_trim_whitespace(pc.if_else(valid.fill_null(False), values, None)).cast(pa.float64())
