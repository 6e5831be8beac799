"""What a loader's state may be resumed over: the same data, or the stage made to go on from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from packed_table import write_packed

from headwater.errors import DataMismatch, UsageError
from headwater.lake import Lake

pytest.importorskip("torch")

from headwater.streaming import stream

pytestmark = pytest.mark.filterwarnings("ignore:training on unapproved")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(tmp_path / "lake")
    write_packed(lake)
    return lake


def state_at(lake: Lake, steps: int, **options: Any) -> dict[str, Any]:
    data = stream(lake, global_batch_size=4, **options)
    for _, _batch in zip(range(steps), data, strict=False):
        pass
    return json.loads(json.dumps(data.state_dict()))


def stage(lake: Lake, state: dict[str, Any], **changed: Any) -> None:
    continues = {key: state[key] for key in ("table", "version", "digest", "next_sequence")}
    continues |= {"run_id": "r" * 32, "step": 3}
    write_packed(lake, **{"seed": 9, "stage": 1, "continues": continues, **changed})


def test_the_state_is_small_and_knows_no_ranks(lake: Lake) -> None:
    states = [state_at(lake, 3), state_at(lake, 3, dp_rank=1, dp_world_size=4)]
    assert states[0] == states[1] and states[0]["next_sequence"] == 12
    assert len(json.dumps(states[0])) <= 1_000
    assert set(states[0]) == {
        *("format", "next_sequence", "table", "version", "digest", "tokenizer_id", "sequence_length", "stage")
    }


def test_a_stage_begins_where_the_state_stopped(lake: Lake) -> None:
    state = state_at(lake, 3)
    stage(lake, state, length=8)
    data = stream(lake, global_batch_size=4, state=state)
    assert data.next_sequence == 0 and data.sequence_length == 8
    reading = iter(data)
    next(reading)
    own = data.state_dict()
    assert own["stage"] == 1 and own["next_sequence"] == 4
    assert stream(lake, state=own).next_sequence == 4
    # The first stage is still there for those who ask for it.
    assert stream(lake, version=1, state=state).next_sequence == 12


def test_a_stage_of_another_position_run_or_tokenizer_is_refused(lake: Lake) -> None:
    state = state_at(lake, 3)
    stage(lake, state)
    early = state_at(lake, 2, version=1)
    with pytest.raises(DataMismatch, match=r"goes on from sequence 12 of dev.sequences@1.*at sequence 8"):
        stream(lake, state=early)
    stage(lake, state, tokenizer_id="u" * 32)
    with pytest.raises(DataMismatch, match=f"another tokenizer: state {'t' * 32}, table {'u' * 32}"):
        stream(lake, state=state)
    stage(lake, {**state, "digest": "0" * 32})
    with pytest.raises(DataMismatch, match=r"digest: state .* stage: state 0, table 1"):
        stream(lake, state=state)


@pytest.mark.parametrize(
    ("changed", "shown"),
    [
        ({"seed": 5}, r"digest: state '\w{32}', table '\w{32}'; seed: 0 there, 5 here"),
        ({"seed": 5, "mixture": {"code": {"share": 0.5}}}, r"mixture: None there, \{'code': .*0.5"),
        ({"rows": 49}, "digest: state"),
        ({"length": 8}, "sequence_length: state 16, table 8"),
        ({"tokenizer_id": "u" * 32}, f"tokenizer_id: state '{'t' * 32}', table '{'u' * 32}'"),
        ({"stage": 2}, "stage: state 0, table 2"),
    ],
)
def test_drift_is_refused_with_both_sides(lake: Lake, changed: dict[str, Any], shown: str) -> None:
    state = state_at(lake, 1)
    write_packed(lake, **changed)
    with pytest.raises(DataMismatch, match=shown):
        stream(lake, state=state)
    assert stream(lake, version=1, state=state).next_sequence == 4


def test_another_name_is_refused_and_another_version_of_the_same_content_is_not(lake: Lake) -> None:
    state = state_at(lake, 1)
    write_packed(lake, "validation")
    with pytest.raises(DataMismatch, match=r"table: state 'dev.sequences', table 'dev.validation'"):
        stream(lake, "validation", state=state)
    lake.rerecord("dev.sequences", lake.table("sequences").provenance)
    data = stream(lake, state=state)
    assert data.table.version == 2 and data.next_sequence == 4


def test_states_of_the_first_format_are_read_and_others_are_not(lake: Lake) -> None:
    state = state_at(lake, 2)
    older = {key: state[key] for key in state.keys() - {"version", "stage"}} | {"format": 1}
    assert stream(lake, state=older).next_sequence == 8
    for wrong in ({}, {**state, "format": 3}, {"next_sequence": 4}, {**older, "format": 2}):
        with pytest.raises(UsageError, match="not a loader's state of format 2"):
            stream(lake, state=wrong)
    with pytest.raises(DataMismatch, match="sequence 51 of 50"):
        stream(lake, state={**state, "next_sequence": 51})
