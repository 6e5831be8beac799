"""Signatures in, candidate pairs out: bands sorted in DuckDB, filtered by signature."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.dedup.bands import bands_for, least_agreement
from headwater.dedup.caps import CAPS, Caps
from headwater.dedup.ids import ids_from_arrow
from headwater.dedup.scratch import scratch
from headwater.dedup.spread import spread_query
from headwater.errors import UsageError
from headwater.kernels.flat import whole
from headwater.kernels.pairs import FRESH, REDONE, band_keys, bucket_pairs

_CHUNK_ROWS = 1 << 16
_PAIR_ROWS = 1 << 20  # pairs a kernel call may write: 16 MiB


class Candidates:
    """The tables of one run, in a DuckDB file of its own.

    ``docs``: doc_id, set_hash, num_shingles, position (the row of its minhash in a file); ``sets``: one row
    per distinct shingle set, numbered by its smallest doc_id; ``candidates`` and ``links``: pairs of sets.
    """

    def __init__(
        self,
        folder: Path,
        *,
        threshold: float,
        memory_bytes: int,
        threads: int | None,
        caps: Caps = CAPS,
        in_memory: bool = False,
    ) -> None:
        self.threshold = threshold
        self.caps = caps
        self.num_sets = 0
        self.num_perm = 0
        self._minhash_path = folder / "minhash.u32"
        self.connection = scratch(
            folder,
            limit_bytes=memory_bytes // 2,
            threads=threads,
            # Little work is done faster without a file; what does not fit is spilled either way.
            name=":memory:" if in_memory else "pairs.duckdb",
        )

    def __enter__(self) -> Candidates:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()

    def load(self, signatures: Iterable[pa.RecordBatch]) -> None:
        """Store the signatures of documents that have shingles, and number the distinct sets."""
        self.run("create table docs (doc_id blob, set_hash blob, num_shingles bigint, position bigint)")
        position = 0
        with self._minhash_path.open("wb") as file:
            for table in _regrouped(signatures):
                ids_from_arrow(table["doc_id"])  # 16 bytes each, no nulls, or an error that says so
                present = table.filter(pa.array(table["num_shingles"].to_numpy() > 0))
                minhash = self._rectangle(present["minhash"])
                minhash.tofile(file)
                positions = pa.array(np.arange(position, position + len(minhash)))
                position += len(minhash)
                rows = present.select(["doc_id", "shingle_set_hash", "num_shingles"])
                self.insert("docs", rows.append_column("position", positions))
        twice = self.run(
            "select doc_id from docs group by doc_id having count(*) > 1 order by doc_id limit 1"
        )
        if twice:
            raise UsageError(
                f"document {bytes(twice[0][0]).hex()} occurs more than once; doc_id must be unique"
            )
        self.run(
            """create table sets as
            select row_number() over () - 1 as set_index, *
            from (
                select min(doc_id) as doc_id, arg_min(position, doc_id) as position,
                    any_value(num_shingles) as num_shingles, count(*) as members, set_hash
                from docs group by set_hash order by 1
            )"""
        )
        self.num_sets = position and self._count("sets")

    def find(
        self,
        *,
        marks: npt.NDArray[np.uint8] | None = None,
        only_keys: str | None = None,
        shifting: str | None = None,
    ) -> None:
        """Fill ``candidates`` (a < b, set indices): what shares a band and may reach the threshold.

        ``marks`` of each set (``kernels.pairs.FRESH`` and ``REDONE``) leave out pairs of two others;
        ``only_keys`` names a table of the upper halves of the keys whose buckets count. With ``shifting``,
        another such table, ``gives`` and ``gave`` are filled too: the pairs that those buckets list among
        sets that are not FRESH, now and as they were: the members in the order of ``former`` (member, place).
        """
        marks = np.full(self.num_sets, FRESH, dtype=np.uint8) if marks is None else marks
        numbers = (
            self.connection.cursor()
            .sql("select position, num_shingles from sets order by set_index")
            .to_arrow_table()
        )
        rows = np.ascontiguousarray(numbers["position"].to_numpy(), dtype=np.int64)
        sizes = np.ascontiguousarray(numbers["num_shingles"].to_numpy(), dtype=np.int64)
        with mapped(self._minhash_path, np.dtype(np.uint32)) as (flat, release):
            minhash = flat.reshape(-1, self.num_perm)
            self._store_bands(minhash, rows)
            release()
            if only_keys is not None:
                self.run(f"delete from bands where (key >> 32) not in (select key from {only_keys})")

            def fill(table: str, marks: npt.NDArray[np.uint8], chosen: str) -> None:
                self.run("create table found (a bigint, b bigint)")
                for keys, members in self._buckets(chosen):
                    for pairs in self._bucket_pairs(keys, members, minhash, rows, sizes, marks):
                        self.insert("found", pa.table({"a": pairs[:, 0].copy(), "b": pairs[:, 1].copy()}))
                    release()
                self.run(f"create table {table} as select distinct a, b from found")
                self.run("drop table found")

            fill("candidates", marks, "select key, member, member as place from bands")
            if shifting is not None:
                others = np.where(marks & FRESH, 0, REDONE).astype(np.uint8)
                among = f"(key >> 32) in (select key from {shifting})"
                fill("gives", others, f"select key, member, member as place from bands where {among}")
                was = f"select key, member, place from bands join former using (member) where {among}"
                fill("gave", others, was)
        self.run("drop table bands")

    def run(self, sql: str) -> list[tuple[Any, ...]]:
        """Execute and fetch all: an unfetched result, even of DDL, keeps a DuckDB 2 connection busy."""
        return self.connection.execute(sql).fetchall()

    def insert(self, table: str, rows: pa.Table) -> None:
        self.connection.register("incoming", rows)
        self.run(f"insert into {table} select * from incoming")
        self.connection.unregister("incoming")

    def pairs(self) -> Iterator[pa.RecordBatch]:
        """(a, b, similarity, kind), ordered: ``links`` between sets spread over their documents."""
        self.run("create table if not exists links (a bigint, b bigint, similarity double)")
        query = spread_query("docs", "(select *, true as touched from sets)", "links", self.caps)
        yield from self.connection.cursor().sql(query).to_arrow_reader(_CHUNK_ROWS)

    def _rectangle(self, lists: pa.ChunkedArray) -> npt.NDArray[np.uint32]:
        """The minhash lists as rows; all must have one length."""
        column = whole(lists)
        values = np.asarray(column.flatten().to_numpy(zero_copy_only=False), dtype=np.uint32)
        if len(column) == 0:
            return np.empty((0, max(self.num_perm, 1)), dtype=np.uint32)
        num_perm = self.num_perm or len(column[0])
        lengths = np.asarray(column.value_lengths().to_numpy(zero_copy_only=False))
        if (lengths != num_perm).any():
            raise UsageError("signatures of different num_perm cannot be compared; make them in one model")
        self.num_perm = num_perm
        return values.reshape(-1, num_perm)

    def _store_bands(self, minhash: npt.NDArray[np.uint32], rows: npt.NDArray[np.int64]) -> None:
        bands, depth = bands_for(self.threshold, self.num_perm)
        self.run("create table bands (key ubigint, member bigint)")
        step = max(1, (1 << 21) // bands)
        for start in range(0, self.num_sets, step):
            part = rows[start : start + step]
            keys = band_keys(minhash[part], bands, depth)
            members = np.repeat(np.arange(start, start + len(part), dtype=np.int64), bands)
            self.insert("bands", pa.table({"key": keys.reshape(-1), "member": members}))

    def _buckets(self, chosen: str) -> Iterator[tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]]:
        """Sorted (key, member) runs; a bucket is never cut."""
        reader = (
            self.connection.cursor()
            .sql(
                f"""with chosen as ({chosen})
            select key, member from chosen
            where key in (select key from chosen group by key having count(*) > 1)
            order by key, place"""
            )
            .to_arrow_reader(1 << 20)
        )
        left_keys, left_members = np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64)
        for batch in reader:
            keys = np.concatenate([left_keys, batch.column("key").to_numpy()])
            members = np.concatenate([left_members, batch.column("member").to_numpy()])
            if len(keys) == 0:
                continue
            whole_until = int(np.searchsorted(keys, keys[-1]))
            if whole_until:
                yield keys[:whole_until], members[:whole_until]
            left_keys, left_members = keys[whole_until:], members[whole_until:]
        if len(left_keys):
            yield left_keys, left_members

    def _bucket_pairs(
        self,
        keys: npt.NDArray[np.uint64],
        members: npt.NDArray[np.int64],
        minhash: npt.NDArray[np.uint32],
        rows: npt.NDArray[np.int64],
        sizes: npt.NDArray[np.int64],
        marks: npt.NDArray[np.uint8],
    ) -> Iterator[npt.NDArray[np.int64]]:
        caps = self.caps
        # A bucket above the cap needs room for all it may emit.
        room = max(_PAIR_ROWS, caps.bucket * caps.bucket, len(keys) * (2 + 2 * caps.window))
        least = least_agreement(self.threshold, self.num_perm)
        pairs = np.empty((room, 2), dtype=np.int64)
        at = 0
        while at < len(keys):
            at, count = bucket_pairs(
                keys, members, at, minhash, rows, sizes, marks, least, self.threshold, caps.bucket,
                caps.leaders, caps.window, pairs,
            )  # fmt: skip
            if count:
                yield pairs[:count]

    def _count(self, table: str) -> int:
        return int(self.run(f"select count(*) from {table}")[0][0])


@contextlib.contextmanager
def mapped(path: Path, dtype: np.dtype[np.generic]) -> Iterator[tuple[npt.NDArray[Any], Callable[[], None]]]:
    """A file as a flat read-only array, and a function that drops its pages from this process's memory."""
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            yield np.empty(0, dtype=dtype), _nothing
            return
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

        def release() -> None:
            if hasattr(mmap, "MADV_DONTNEED"):
                memory.madvise(mmap.MADV_DONTNEED)

        yield np.frombuffer(memory, dtype=dtype), release


def _nothing() -> None:
    """Nothing is mapped."""


def _regrouped(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Larger tables of the same rows, so that DuckDB is called less often."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        held.append(batch)
        rows += batch.num_rows
        if rows >= _CHUNK_ROWS:
            yield pa.Table.from_batches(held)
            held, rows = [], 0
    if rows:
        yield pa.Table.from_batches(held)
