"""Which sequences a rank gets at a step: any number of ranks, ramp-up, seeking, and what a batch holds."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packed_table import LENGTH, SOURCES, write_packed

from headwater.errors import DataMismatch, UsageError
from headwater.lake import Lake
from headwater.loading.schedule import Schedule

torch = pytest.importorskip("torch")

from headwater import streaming  # noqa: E402
from headwater.streaming import stream, to_device  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:training on unapproved")

ROWS = 50


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("ranks") / "lake")
    write_packed(lake, rows=ROWS)
    return lake


@pytest.fixture(scope="module")
def tokens(lake: Lake) -> Any:
    values = lake.table("sequences").to_arrow(["tokens"])["tokens"].combine_chunks()
    return values.flatten().to_numpy().reshape(ROWS, LENGTH).astype(np.int64)


sizes = st.integers(1, 4).map(lambda n: 4 * n)
ramps = st.lists(st.tuples(st.integers(1, ROWS), sizes), max_size=3, unique_by=lambda pair: pair[0]).flatmap(
    lambda later: sizes.map(lambda size: [(0, size), *sorted(later)])
)


@settings(max_examples=80, deadline=None)
@given(ramp=ramps, first=st.integers(0, ROWS), stop=st.integers(0, ROWS))
def test_the_steps_are_those_of_a_plain_loop(ramp: list[tuple[int, int]], first: int, stop: int) -> None:
    schedule, want, at = Schedule(ramp, 4), [], first
    while at + (size := [b for a, b in ramp if a <= at][-1]) <= stop:
        assert schedule.size_at(at) == size
        want.append((at, size))
        at += size
    runs = list(schedule.runs(first, stop))
    assert [(r.first + i * r.size, r.size) for r in runs for i in range(r.steps)] == want
    assert schedule.steps(first, stop) == len(want)
    assert schedule.end(first, stop) == at


@settings(max_examples=12, deadline=None)
@given(ramp=ramps, stop=st.integers(0, 12), before=st.sampled_from([1, 2, 4]), after=st.sampled_from([1, 4]))
def test_a_ramp_up_is_the_same_on_any_number_of_ranks_and_after_a_resume(
    lake: Lake, tokens: Any, ramp: list[tuple[int, int]], stop: int, before: int, after: int
) -> None:
    first = stream(lake, dp_rank=before - 1, dp_world_size=before, global_batch_size=ramp)
    steps = len(first)
    assert len(stream(lake, global_batch_size=ramp)) == steps
    for _, batch in zip(range(stop), first, strict=False):
        assert batch["count"] == first.batch_size_at(batch["first_sequence"])
    assert len(first) == max(steps - stop, 0)
    rest = [
        stream(lake, dp_rank=r, dp_world_size=after, global_batch_size=ramp, state=first.state_dict())
        for r in range(after)
    ]
    at = first.next_sequence
    for parts in zip(*rest, strict=True):
        (place,) = {(part["first_sequence"], part["count"]) for part in parts}
        assert place[0] == at
        together = torch.cat([part["input_ids"] for part in parts])
        assert np.array_equal(together.numpy(), tokens[at : at + place[1]])
        at += place[1]
    assert at + rest[0].num_dropped == ROWS


def test_ranks_of_one_replica_get_the_same(lake: Lake) -> None:
    # Two tensor-parallel ranks for each of two replicas: global ranks 0..3, dp_rank = rank // 2.
    ranks = [list(stream(lake, dp_rank=r // 2, dp_world_size=2, global_batch_size=4)) for r in range(4)]
    for a, b in ((ranks[0], ranks[1]), (ranks[2], ranks[3])):
        for mine, other in zip(a, b, strict=True):
            assert all(np.array_equal(mine[key], other[key]) for key in mine)
    assert not torch.equal(ranks[0][0]["input_ids"], ranks[2][0]["input_ids"])


@pytest.mark.parametrize(
    "sizes", [[], [(4, 4)], [(0, 4), (0, 8)], [(0, 4), (8, 6), (4, 4)], [(0, 4), (8, 6)], [(0, 0)]]
)
def test_wrong_ramps_are_refused(lake: Lake, sizes: list[tuple[int, int]]) -> None:
    with pytest.raises(UsageError):
        stream(lake, dp_world_size=4, global_batch_size=sizes)


def test_seek_skips_and_repeats_in_an_iteration_under_way(lake: Lake) -> None:
    data = stream(lake, global_batch_size=4)
    seen = []
    for batch in data:
        seen.append(batch["first_sequence"])
        if seen == [0, 4]:
            data.seek(40)
        if seen == [0, 4, 40, 44]:
            data.seek(4)
            assert data.state_dict()["next_sequence"] == 4
    assert seen == [0, 4, 40, 44, *range(4, 48, 4)]
    for wrong in (-1, ROWS + 1):
        with pytest.raises(UsageError):
            data.seek(wrong)
    data.seek(ROWS)
    assert list(data) == [] and len(data) == 0


def test_segments_name_their_sources(lake: Lake, tmp_path: Any) -> None:
    data = stream(lake, global_batch_size=5)
    assert data.source_names == sorted(SOURCES)
    spans = lake.table("sequences").to_arrow(["spans"])["spans"].to_pylist()
    for batch in data:
        found = batch["segment_sources"]
        assert found.dtype == torch.int32
        for row, indices in enumerate(found.tolist()):
            names = [data.source_names[i] for i in indices if i >= 0]
            assert names == [span["source"] for span in spans[batch["first_sequence"] + row]]
            assert all(i == -1 for i in indices[len(names) :])
    older = Lake(tmp_path / "lake")
    write_packed(older, sources=())
    data = stream(older, global_batch_size=5)
    assert data.source_names == [] and {int(b["segment_sources"].max()) for b in data} == {-1}
    write_packed(older, "others", sources=("books",))
    with pytest.raises(DataMismatch, match=r"span of source '(code|web)'.*\['books'\]"):
        list(stream(older, "others", global_batch_size=5))


def test_fields_choose_the_tensors(lake: Lake) -> None:
    whole = list(stream(lake, global_batch_size=4))
    for fields in (("input_ids",), ("position_ids", "labels"), ("segment_sources",)):
        for batch, full in zip(stream(lake, global_batch_size=4, fields=fields), whole, strict=True):
            assert batch.keys() == {*fields, "first_sequence", "count"}
            assert all(torch.equal(batch[name], full[name]) for name in fields)
    for wrong in ((), ("input_ids", "mask")):
        with pytest.raises(UsageError, match="fields"):
            stream(lake, fields=wrong)


def test_wide_tokens_are_read_alike(tmp_path: Any) -> None:
    lake = Lake(tmp_path / "lake")
    table = write_packed(lake, vocab_size=200_000)
    ids = torch.cat([b["input_ids"] for b in stream(lake, global_batch_size=1)])
    assert ids.tolist() == table["tokens"].to_pylist() and int(ids.max()) > 65_535


def test_several_files_are_read_as_one_table(tmp_path: Any) -> None:
    lake = Lake(tmp_path / "lake")
    whole = write_packed(lake, "whole", rows=ROWS)
    for first, stop in ((0, 13), (13, 14), (14, ROWS)):
        mode = "append" if first else "replace"
        provenance = lake.table("whole").provenance
        lake.write("sequences", whole.slice(first, stop - first), mode=mode, provenance=provenance)
    assert len(lake.table("sequences").dataset.get_fragments()) == 3
    for rank, world in ((0, 1), (1, 2), (3, 4)):
        options: dict[str, Any] = {"dp_rank": rank, "dp_world_size": world, "global_batch_size": 4}
        data = stream(lake, **options)
        assert data._read._reader._files is not None
        query = stream(lake, **options)
        query._read._reader._files = None  # as in an object store
        for mine, same, other in zip(data, query, stream(lake, "whole", **options), strict=True):
            assert all(torch.equal(mine[key], other[key]) for key in streaming.FIELDS)
            assert all(torch.equal(mine[key], same[key]) for key in streaming.FIELDS)


def test_a_batch_that_is_held_keeps_its_content(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "CHUNK_TOKENS", 2 * LENGTH)
    held = list(stream(lake, global_batch_size=1))
    want = {key: torch.stack([b[key] for b in held]) for key in ("input_ids", "labels", "segment_ids")}
    data = stream(lake, global_batch_size=1)
    kept: dict[int, Any] = {}
    for turn in range(3):
        data.seek(0)
        for batch in data:
            if batch["first_sequence"] % 3 == turn:
                kept[batch["first_sequence"]] = {key: batch[key] for key in want}
            elif batch["first_sequence"] % 3 == 2:
                kept[-turn - 1] = batch["labels"].numpy()[0, 1:]  # a view keeps it too
        gc.collect()
        for first, tensors in kept.items():
            if first >= 0:
                assert all(torch.equal(tensors[key], want[key][first]) for key in want)


def test_memory_is_used_again_when_no_batch_refers_to_it(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "CHUNK_TOKENS", 2 * LENGTH)
    places = {batch["input_ids"].data_ptr() for batch in stream(lake, global_batch_size=1)}
    assert len(places) < 20  # of 50: chunks of two sequences, a few chunks alive at once


def test_to_device_passes_batches_through_on_a_cpu(lake: Lake) -> None:
    data = stream(lake, global_batch_size=4, pin_memory=True)
    batches = to_device(data, "cpu")
    assert next(batches)["input_ids"].shape == (4, LENGTH) and data.next_sequence == 4
    assert len(list(batches)) == len(list(stream(lake, global_batch_size=4))) - 1


def test_to_device_moves_elsewhere_one_by_one(lake: Lake) -> None:
    data = stream(lake, global_batch_size=4)
    for batch in to_device(data, "meta"):
        assert batch["labels"].device.type == "meta" and data.next_sequence == batch["first_sequence"] + 4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_to_device_copies_ahead_and_keeps_the_position(lake: Lake) -> None:
    whole = list(stream(lake, global_batch_size=4))
    data = stream(lake, global_batch_size=4, pin_memory=True)
    for batch, want in zip(to_device(data, "cuda"), whole, strict=True):
        assert batch["input_ids"].is_cuda and torch.equal(batch["labels"].cpu(), want["labels"])
        assert data.next_sequence == want["first_sequence"] + 4
