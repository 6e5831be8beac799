"""What a loader's state says, and over which table it may be resumed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from headwater.errors import DataMismatch, LakeError, UsageError

if TYPE_CHECKING:
    from headwater.lake import Lake, Table

STATE_FORMAT = 2
_OLDER = {1: {"version": None, "stage": 0}}
"""Earlier formats, with the keys they lack."""

IDENTITY = ("table", "digest", "tokenizer_id", "sequence_length", "stage")
"""What must be equal. The version may differ: the same content may be recorded anew (an approval)."""
LONGEST_VALUE = 160
EXPLAINED = (
    *("packed_table", "tokens_table", "seed", "method", "mixture", "limit_tokens", "fim_rate"),
    *("control_tokens", "split", "packing_version", "epochs", "continues"),
)
"""What a table's record says about how it was made, and may explain another digest."""


def state_of(table: Table, next_sequence: int) -> dict[str, Any]:
    """The state at a position: at most 1 kB of JSON, the same for any number of ranks."""
    facts = table.provenance.extra
    return {
        "format": STATE_FORMAT,
        "next_sequence": next_sequence,
        "table": table.name,
        "version": table.version,
        "digest": table.digest,
        "tokenizer_id": facts["tokenizer_id"],
        "sequence_length": int(facts["sequence_length"]),
        "stage": int(facts.get("stage") or 0),
    }


def resume_at(lake: Lake, table: Table, state: Mapping[str, Any]) -> int:
    """The sequence of ``table`` at which a run with ``state`` goes on.

    That is 0 when ``table`` is the stage that was made to continue from exactly this state.

    Raises
    ------
    DataMismatch
        The state was taken over other data (both sides are shown), or stands elsewhere than the stage
        goes on from.
    UsageError
        It is not a state.
    """
    given = _upgraded(state)
    mine = state_of(table, 0)
    position = int(given["next_sequence"])
    continues = table.provenance.extra.get("continues")
    if continues and given["digest"] == continues["digest"]:
        _check_stage(table, given, continues, mine)
        return 0
    differ = [key for key in IDENTITY if given[key] != mine[key]]
    if differ:
        sides = [f"{key}: state {_short(given[key])}, table {_short(mine[key])}" for key in differ]
        shown = "; ".join([*sides, *_reasons(lake, table, given)])
        raise DataMismatch(
            f"the loader's state does not fit {table.ref}: {shown}",
            hint="stream the version that the run began with, start a new run, or make a stage that goes "
            "on from it: headwater pack TABLE --after RUN",
        )
    if not 0 <= position <= table.num_rows:
        raise DataMismatch(f"the state stands at sequence {position} of {table.num_rows} in {table.ref}")
    return position


def _upgraded(state: Mapping[str, Any]) -> dict[str, Any]:
    missing: Mapping[str, Any] = _OLDER.get(state.get("format", 0), {})
    given = {**missing, **state}
    absent = [key for key in ("next_sequence", "version", *IDENTITY) if key not in given]
    if absent or (state.get("format") != STATE_FORMAT and not missing):
        raise UsageError(
            f"not a loader's state of format {STATE_FORMAT}: format {state.get('format')!r}"
            + (f", without {', '.join(absent)}" if absent else ""),
            hint="give what state_dict() returned",
        )
    return given


def _check_stage(
    table: Table, given: Mapping[str, Any], continues: Mapping[str, Any], mine: Mapping[str, Any]
) -> None:
    if int(given["next_sequence"]) != int(continues["next_sequence"]):
        raise DataMismatch(
            f"{table.ref} goes on from sequence {continues['next_sequence']} of {continues['table']}@"
            f"{continues['version']}, the state stands at sequence {given['next_sequence']}",
            hint="resume the checkpoint that the stage was made after, or make the stage anew: "
            "headwater pack TABLE --after RUN@STEP",
        )
    if given["tokenizer_id"] != mine["tokenizer_id"]:
        raise DataMismatch(
            f"{table.ref} continues the state's run with another tokenizer: state "
            f"{given['tokenizer_id']}, table {mine['tokenizer_id']}",
            hint="make the stage with the run's tokenizer: headwater pack TABLE --tokenizer ID",
        )


def _reasons(lake: Lake, table: Table, given: Mapping[str, Any]) -> list[str]:
    """How the records of the two tables differ, where the lake still holds the state's."""
    try:
        other = lake.table(str(given["table"]), version=given["version"])
    except (LakeError, UsageError):
        return []
    if other.digest != given["digest"]:
        return []
    theirs, ours = other.provenance.extra, table.provenance.extra
    return [
        f"{key}: {_short(theirs.get(key))} there, {_short(ours.get(key))} here"
        for key in EXPLAINED
        if theirs.get(key) != ours.get(key)
    ]


def _short(value: object) -> str:
    if isinstance(value, Mapping) and {"table", "version"} <= value.keys():
        return f"{value['table']}@{value['version']}"
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"
