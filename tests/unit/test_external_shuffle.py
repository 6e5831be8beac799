"""The external shuffle: the order it is given, memory it is given, bytes it said it would move."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import DataMismatch, UsageError
from headwater.sequences import shuffle as module
from headwater.sequences.shuffle import (
    RECORD_BYTES,
    SHUFFLE_MEMORY,
    Shuffle,
    bucket_bytes,
    fan_out,
    passes_of,
    shuffle_cost,
)

KIB = 1 << 10


def lists(documents: list[list[int]], sizes: list[int]) -> list[pa.ListArray]:
    """The documents in batches of these sizes, the last batch has the rest; with offsets that do not begin at 0."""
    whole = pa.array([[7, 7], *documents], pa.list_(pa.uint16())).slice(1)
    made, start = [], 0
    for size in [*sizes, len(documents)]:
        made.append(whole.slice(start, size))
        start += size
    return made


def entries(positions: list[int], ranks: list[int], size: int = 3) -> pa.RecordBatchReader:
    pairs = sorted(zip(positions, ranks, strict=True))
    table = pa.table(
        {
            "position": pa.array([p for p, _ in pairs], pa.int64()),
            "rank": pa.array([r for _, r in pairs], pa.int64()),
        }
    )
    return pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=size))


def first_ranks(lengths: list[int], memory: int) -> np.ndarray:
    """What the order computes in SQL: the first rank of each bucket."""
    sizes = np.array([2 * n + RECORD_BYTES for n in lengths], np.int64)
    bucket = (np.cumsum(sizes) - sizes) // bucket_bytes(memory)
    return np.unique(bucket, return_index=True)[1].astype(np.int64)


def run(
    documents: list[list[int]], picks: list[int], memory: int, sizes: list[int]
) -> tuple[list[list[int]], Shuffle, int]:
    """Shuffle so that rank r is document ``picks[r]``."""
    wanted = [documents[i] for i in picks]
    firsts = first_ranks([len(d) for d in wanted], memory)
    shuffle = Shuffle(np.uint16, firsts, memory)
    out: list[list[int]] = []
    for first, column in shuffle.sorted(lists(documents, sizes), entries(picks, list(range(len(picks))))):
        assert first == len(out) and column.type == pa.list_(pa.uint16())
        out.extend(column.to_pylist())
    assert out == wanted
    return out, shuffle, len(firsts)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_rank_comes_out_once_in_order(data: st.DataObject) -> None:
    documents = data.draw(st.lists(st.lists(st.integers(0, 65_535), max_size=400), min_size=1, max_size=40))
    picks = data.draw(st.lists(st.integers(0, len(documents) - 1), min_size=1, max_size=80))
    sizes = data.draw(st.lists(st.integers(0, 9), max_size=5))
    run(documents, picks, data.draw(st.sampled_from([4 * KIB, 8 * KIB, SHUFFLE_MEMORY])), sizes)


def test_what_fits_into_a_bucket_touches_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.tempfile, "TemporaryFile", None)
    documents = [[i] * 50 for i in range(100)]
    _, shuffle, buckets = run(documents, list(np.random.default_rng(0).permutation(100)), SHUFFLE_MEMORY, [7])
    assert buckets == 1 and (shuffle.meter.bytes_written, shuffle.meter.bytes_read) == (0, 0)
    assert shuffle.meter.bytes_scanned == 2 * 50 * 100


@pytest.mark.parametrize(("count", "passes"), [(40, 1), (300, 2), (1_500, 3)])
def test_reads_and_writes_are_those_foretold(count: int, passes: int) -> None:
    rng = np.random.default_rng(count)
    memory = 4 * KIB  # buckets of 1 KiB, 8 of them a pass
    documents = [rng.integers(0, 65_536, rng.integers(10, 90)).tolist() for _ in range(count)]
    picks = [*rng.permutation(count).tolist(), *range(count // 3)]
    _, shuffle, buckets = run(documents, picks, memory, [11] * (count // 11))
    tokens = sum(2 * len(documents[i]) for i in picks)
    cost = shuffle_cost(
        tokens, memory, num_documents=len(picks), scanned_bytes=sum(2 * len(d) for d in documents)
    )
    assert cost.passes == passes == passes_of(buckets, memory)
    assert (shuffle.meter.bytes_written, shuffle.meter.bytes_read) == (cost.bytes_written, cost.bytes_read)
    assert shuffle.meter.bytes_scanned == cost.bytes_scanned
    assert cost.bytes_written == passes * (tokens + RECORD_BYTES * len(picks))


def test_blocks_and_buckets_keep_to_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    memory, sizes = 64 * KIB, []
    longest = 400
    documents = [rng.integers(0, 65_536, rng.integers(1, longest)).tolist() for _ in range(2_000)]
    original = module._joined_up
    monkeypatch.setattr(
        module,
        "_joined_up",
        lambda blocks: sizes.append(sum(b.nbytes for b in blocks)) or original(blocks),
    )
    run(documents, rng.permutation(2_000).tolist(), memory, [100] * 19)
    assert len(sizes) > 20
    assert max(sizes) <= bucket_bytes(memory) + 2 * longest + RECORD_BYTES


def test_the_scratch_file_has_no_name(tmp_path: Path) -> None:
    documents = [[i] * 200 for i in range(200)]
    picks = list(range(200))[::-1]
    shuffle = Shuffle(np.uint16, first_ranks([200] * 200, 8 * KIB), 8 * KIB, folder=str(tmp_path))
    stream = shuffle.sorted(lists(documents, []), entries(picks, list(range(200))))
    next(stream)
    assert shuffle.meter.bytes_written > 0 and not list(tmp_path.iterdir())
    stream.close()
    assert not list(tmp_path.iterdir())


def test_an_order_over_other_rows_is_an_error() -> None:
    shuffle = Shuffle(np.uint16, np.zeros(1, np.int64), SHUFFLE_MEMORY)
    with pytest.raises(DataMismatch, match="beyond the 2"):
        list(shuffle.sorted(lists([[1], [2]], []), entries([0, 2], [0, 1])))


def test_too_little_memory_is_refused() -> None:
    with pytest.raises(UsageError, match="1000 bytes"):
        shuffle_cost(1, 1_000)


def test_a_terabyte_needs_two_passes() -> None:
    cost = shuffle_cost(10**12, num_documents=10**9)
    assert cost.passes == 2 and fan_out(SHUFFLE_MEMORY) == 512
    assert cost.bytes_written == cost.bytes_read == 2 * (10**12 + 16 * 10**9)
    assert shuffle_cost(50_000_000).passes == 0
