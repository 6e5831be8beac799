"""The block cache: shared by processes, bounded, never stale, whole or fetched again."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packed_table import LENGTH, SOURCES, write_packed

from headwater.errors import UsageError
from headwater.lake import Lake
from headwater.loading import cache
from headwater.loading.rows import open_rows

torch = pytest.importorskip("torch")

from headwater.streaming import stream  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:training on unapproved")

ROWS, BLOCK_ROWS = 50, 8
KEYS = ("input_ids", "labels", "segment_ids", "position_ids", "segment_sources")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "BLOCK_TOKENS", BLOCK_ROWS * LENGTH)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("cache") / "lake")
    write_packed(lake, rows=ROWS)
    return lake


def blocks(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.block"))


def read(lake: Lake, folder: Path, max_bytes: int = 1 << 20, **options: Any) -> Any:
    data = stream(lake, global_batch_size=2, cache=(folder, max_bytes), **options)
    return list(data), data._read


def assert_equal(got: list[Any], want: list[Any]) -> None:
    for mine, other in zip(got, want, strict=True):
        assert all(torch.equal(mine[key], other[key]) for key in KEYS)


def test_batches_are_those_without_a_cache_and_the_table_is_read_once(lake: Lake, tmp_path: Path) -> None:
    want = list(stream(lake, global_batch_size=2))
    got, reader = read(lake, tmp_path)
    assert_equal(got, want)
    assert (reader.fetches, len(blocks(tmp_path))) == (7, 7)
    got, reader = read(lake, tmp_path)
    assert_equal(got, want)
    assert reader.fetches == 0 and reader.hits >= 7  # a block may be opened again
    for rank in range(2):  # strided rows of the same blocks
        got, reader = read(lake, tmp_path, dp_rank=rank, dp_world_size=2)
        assert reader.fetches == 0
        assert_equal(got, list(stream(lake, global_batch_size=2, dp_rank=rank, dp_world_size=2)))


@settings(max_examples=20, deadline=None)
@given(rows=st.lists(st.integers(0, ROWS - 1), min_size=1, unique=True).map(sorted))
def test_any_rows_come_out_of_blocks_as_out_of_the_table(
    lake: Lake, rows: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    table = lake.table("sequences")
    direct = open_rows(lake, table, SOURCES)
    cached = cache.BlockCache(direct, table, SOURCES, tmp_path_factory.getbasetemp() / "rows", 1 << 20)
    for mine, other in zip(cached(np.array(rows)), direct(np.array(rows)), strict=True):
        assert mine.dtype == other.dtype and np.array_equal(mine, other)


def test_the_disk_stays_within_the_limit_and_the_oldest_goes_first(lake: Lake, tmp_path: Path) -> None:
    want = list(stream(lake, global_batch_size=2))
    read(lake, tmp_path / "whole")
    size = max(path.stat().st_size for path in blocks(tmp_path / "whole"))
    folder, limit = tmp_path / "small", 5 * size
    for _ in range(2):
        got, reader = read(lake, folder, limit)
        assert_equal(got, want)
        assert reader.fetches > 0
        assert sum(path.stat().st_size for path in blocks(folder)) <= limit
        assert len(blocks(folder)) == 5


def test_the_block_that_was_not_opened_for_longest_goes_first(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "OPEN_BLOCKS", 0)
    table = lake.table("sequences")
    direct = open_rows(lake, table, SOURCES)
    cache.BlockCache(direct, table, SOURCES, tmp_path, 1 << 20)(np.arange(8))
    limit = 5 * blocks(tmp_path)[0].stat().st_size
    cached = cache.BlockCache(direct, table, SOURCES, tmp_path, limit)
    for age, block in enumerate((0, 1, 2, 3)):
        cached(np.arange(8) + 8 * block)
        os.utime(blocks(tmp_path)[block], (1_000 + age, 1_000 + age))
    cached(np.arange(8))  # block 0 again: now block 1 is the oldest
    for block in (4, 5):
        cached(np.arange(8) + 8 * block)
    left = {int(path.stem) for path in blocks(tmp_path)}
    assert {0, 4, 5} <= left and 1 not in left
    assert sum(path.stat().st_size for path in blocks(tmp_path)) <= limit


def test_another_version_never_finds_the_blocks_of_this_one(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    write_packed(lake, rows=ROWS)
    read(lake, tmp_path / "cache")
    write_packed(lake, rows=ROWS, seed=1)
    got, reader = read(lake, tmp_path / "cache")
    assert reader.fetches == 7
    assert_equal(got, list(stream(lake, global_batch_size=2)))


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "short"])
def test_a_damaged_block_is_fetched_again(lake: Lake, tmp_path: Path, damage: str) -> None:
    read(lake, tmp_path)
    path = blocks(tmp_path)[3]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes({"flip": content, "cut": content[:-40], "empty": b"", "short": b"abc"}[damage])
    got, reader = read(lake, tmp_path)
    assert_equal(got, list(stream(lake, global_batch_size=2)))
    assert reader.fetches == 1 and reader.hits >= 6


def test_processes_share_the_blocks(lake: Lake, tmp_path: Path) -> None:
    code = """
import sys, warnings
from headwater.loading import cache
cache.BLOCK_TOKENS = int(sys.argv[3])
import headwater as hw
warnings.simplefilter("ignore")
data = hw.stream(hw.Lake(sys.argv[1]), dp_rank=int(sys.argv[4]), dp_world_size=3, global_batch_size=6,
                 cache=(sys.argv[2], 1 << 20))
print(sum(int(batch["input_ids"].sum()) for batch in data), data._read.fetches)
"""
    words = [sys.executable, "-c", code, lake.uri, str(tmp_path), str(BLOCK_ROWS * LENGTH)]
    ranks = [subprocess.Popen([*words, str(r)], stdout=subprocess.PIPE, text=True) for r in range(3)]
    found = [list(map(int, rank.communicate()[0].split())) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0, 0]
    assert sum(total for total, _ in found) == sum(
        int(batch["input_ids"].sum()) for batch in stream(lake, global_batch_size=6)
    )
    assert sum(fetches for _, fetches in found) == 6  # 48 of 50 sequences: six blocks, each once


def test_what_a_killed_writer_left_is_removed_and_a_full_disk_stops_nothing(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    want = list(stream(lake, global_batch_size=2))
    read(lake, tmp_path)
    leftover = blocks(tmp_path)[0].with_suffix(".tmp")
    leftover.write_bytes(b"half")
    blocks(tmp_path)[0].unlink()
    read(lake, tmp_path)
    assert not leftover.exists() and len(blocks(tmp_path)) == 7

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cache.BlockCache, "_make_room", full)
    got, reader = read(lake, tmp_path / "full")
    assert_equal(got, want)
    assert blocks(tmp_path / "full") == [] and reader.fetches >= 7


def test_a_cache_too_small_to_help_is_refused(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="fewer than 4 blocks of 8 sequences"):
        read(lake, tmp_path, 1_000)
