"""One corpus against another: which document of B each document of A repeats. Nothing of B is removed.

Three questions, one answer's shape: :func:`near_duplicates_against` (word 5-grams, exact Jaccard),
:func:`exact_duplicates_against` (the text, or its normalized form), and, span by span,
:func:`headwater.dedup.spans.spans_against`. Every document of A has one row; ``match_doc_id`` is null where B
has nothing like it, so a rule reads ``match_doc_id is null as keep__not_in_other``. A document id may stand
in both corpora: the sides are told apart, and a document of A that stands in B matches itself there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from headwater.dedup.bands import THRESHOLD
from headwater.dedup.candidates import Candidates
from headwater.dedup.documents import Documents
from headwater.dedup.ids import Ids, ids_from_arrow, ids_to_arrow
from headwater.dedup.occurrences import Corpus, blocks, text_of
from headwater.dedup.scratch import scratch
from headwater.dedup.verify import verify
from headwater.engine import ordered_map
from headwater.errors import UsageError
from headwater.kernels.normalize import form_number, normalized_hashes
from headwater.kernels.pairs import FRESH
from headwater.operators.minhash import NGRAM, NUM_PERM, SEED, minhash_signature

MEMORY_BYTES = 1 << 30

MATCHES = pa.schema(
    [
        pa.field("doc_id", pa.binary(16)),
        pa.field("match_doc_id", pa.binary(16)),
        pa.field("similarity", pa.float32()),
        pa.field("kind", pa.string()),
    ]
)

_OURS, _THEIRS = (
    np.uint64(0),
    np.uint64(1 << 56),
)  # upper half of a document's id while both sides are at work


def near_duplicates_against(
    a: Documents,
    b: Documents,
    threshold: float = THRESHOLD,
    *,
    ngram: int = NGRAM,
    num_perm: int = NUM_PERM,
    seed: int = SEED,
    memory_bytes: int = MEMORY_BYTES,
    threads: int | None = None,
) -> pa.Table:
    """For every document of ``a``, the most similar document of ``b`` of at least ``threshold``.

    Parameters
    ----------
    a, b: ``doc_id`` (binary(16), unique on each side) and ``text``: Arrow tables, lake Tables, or streams.
    threshold, ngram, num_perm, seed: as for ``near_duplicate_pairs``.
    memory_bytes: what the blocks of work and DuckDB may use together.

    Returns
    -------
    One row per document of ``a``, by doc_id: ``doc_id``, ``match_doc_id`` (null: none; of equally similar
    ones the smallest id), ``similarity`` (float32, exact before rounding) and ``kind``: ``equal_shingles``
    (the same set of shingles) or ``near``. A document without words matches nothing. In families of more than
    512 distinct near-duplicates, of both sides together, a document is compared with some of them, not all
    (``headwater.dedup.pairs``).
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"threshold must be above 0 and at most 1, got {threshold}")
    with tempfile.TemporaryDirectory(prefix="headwater-against-") as name:
        sides = _Sides(a, b, Path(name))

        def signed(batch: pa.RecordBatch) -> pa.RecordBatch:
            fields = minhash_signature(text_of(batch), num_perm=num_perm, ngram=ngram, seed=seed).flatten()
            names = ["doc_id", "num_shingles", "shingle_set_hash", "minhash"]
            return pa.record_batch([batch.column("doc_id"), *fields], names=names)

        with Candidates(
            Path(name), threshold=threshold, memory_bytes=memory_bytes, threads=threads
        ) as candidates:
            candidates.load(ordered_map(signed, blocks(sides), threads=threads))
            if not candidates.num_sets:
                return _total(sides.ours.sorted_ids, sides.theirs.sorted_ids, _NOTHING)
            candidates.run(_SIDES)
            sides_of = candidates.connection.cursor().sql("select ours from sides order by set_index")
            ours = sides_of.to_arrow_table()["ours"].to_numpy()
            # Pairs of two documents of b are not even listed; those of two of a go before they are verified.
            candidates.find(marks=np.where(ours, np.uint8(FRESH), np.uint8(0)))
            candidates.run(
                """delete from candidates where not exists (
                    select 1 from sides x, sides y where x.set_index = a and y.set_index = b
                        and ((x.ours and y.first_of_theirs is not null)
                            or (y.ours and x.first_of_theirs is not null)))"""
            )
            verify(
                candidates,
                sides,  # type: ignore[arg-type]  # reads as Texts does
                Path(name),
                ngram=ngram,
                memory_bytes=memory_bytes,
                threads=threads,
            )
            candidates.run("create table if not exists links (a bigint, b bigint, similarity double)")
            best = candidates.connection.cursor().sql(_BEST).to_arrow_table()
        return _total(sides.ours.sorted_ids, sides.theirs.sorted_ids, best)


def exact_duplicates_against(
    a: Documents,
    b: Documents,
    *,
    form: str = "exact",
    memory_bytes: int = MEMORY_BYTES,
    threads: int | None = None,
) -> pa.Table:
    """For every document of ``a``, the first document of ``b`` (by doc_id) with the same text in ``form``.

    ``form``: ``exact``, ``whitespace`` or ``words`` (``headwater.kernels.normalize``). Columns as
    :func:`near_duplicates_against`; ``similarity`` is 1 and ``kind`` the form. Texts that normalize to
    nothing match nothing.
    """
    form_number(form)
    with (
        tempfile.TemporaryDirectory(prefix="headwater-against-") as name,
        scratch(Path(name), limit_bytes=memory_bytes // 2, threads=threads) as connection,
    ):
        sides = _Sides(a, b, Path(name))
        nothing = normalized_hashes(pa.array([""], pa.large_string()), form)[0]

        def hashed(batch: pa.RecordBatch) -> pa.Table:
            ids = ids_from_arrow(batch.column("doc_id"))
            hashes = normalized_hashes(text_of(batch), form)
            some = (hashes != nothing).any(axis=1)
            columns = {"side": ids[some, 0] == _OURS, "place": ids[some, 1].astype(np.int64)}
            return pa.table({**columns, "high": hashes[some, 0].copy(), "low": hashes[some, 1].copy()})

        run = connection.execute
        run("create table texts (ours boolean, place bigint, high ubigint, low ubigint)").fetchall()
        for rows in ordered_map(hashed, blocks(sides), threads=threads):
            connection.register("incoming", rows)
            run("insert into texts select * from incoming").fetchall()
            connection.unregister("incoming")
        run("set variable form = ?", [form]).fetchall()
        best = connection.sql(
            """select t.place, f.place as match, 1.0::float as similarity, getvariable('form') as kind
            from texts t join (
                select high, low, min(place) as place from texts where not ours group by high, low
            ) f using (high, low)
            where t.ours order by 1"""
        ).to_arrow_table()
    return _total(sides.ours.sorted_ids, sides.theirs.sorted_ids, best)


_SIDES = """
    create table sides as
    select s.set_index, bool_or(d.doc_id < '\\x01'::blob) as ours,
        min(d.doc_id) filter (d.doc_id >= '\\x01'::blob) as first_of_theirs
    from docs d join sets s using (set_hash) group by s.set_index"""
"""``docs`` and ``sets`` as Candidates keeps them. Our ids begin with a zero byte, theirs with a one."""

_BEST = """
    with
    options as (
        select set_index, first_of_theirs, 1.0::double as similarity, 'equal_shingles' as kind
        from sides where ours and first_of_theirs is not null
        union all
        select x.set_index, y.first_of_theirs, l.similarity, 'near'
        from (select a, b, similarity from links union all select b, a, similarity from links) l
        join sides x on x.set_index = l.a join sides y on y.set_index = l.b
        where x.ours and y.first_of_theirs is not null
    ),
    best as (
        select * from options
        qualify row_number() over (partition by set_index order by similarity desc, first_of_theirs) = 1
    )
    select ('0x' || hex(d.doc_id)[17:])::ubigint::bigint as place,
        ('0x' || hex(o.first_of_theirs)[17:])::ubigint::bigint as match,
        o.similarity::float as similarity, o.kind
    from docs d join sets s using (set_hash) join best o using (set_index)
    where d.doc_id < '\\x01'::blob order by 1"""

_NOTHING = pa.table(
    {
        "place": pa.array([], pa.int64()),
        "match": pa.array([], pa.int64()),
        "similarity": pa.array([], pa.float32()),
        "kind": pa.array([], pa.string()),
    }
)


class _Sides:
    """The documents of both sides, with ids of 8 bytes for the side and 8 for the place among its ids."""

    def __init__(self, a: Documents, b: Documents, folder: Path) -> None:
        for side in ("a", "b"):
            (folder / side).mkdir()
        self.ours, self.theirs = Corpus(a, folder / "a"), Corpus(b, folder / "b")

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        yield from self._renamed(self.ours, _OURS, self.ours.texts)
        yield from self._renamed(self.theirs, _THEIRS, self.theirs.texts)

    def of(self, ids: Ids) -> Iterator[pa.RecordBatch]:
        """The batches of these documents, as ``headwater.dedup.documents.Texts`` gives them."""
        for corpus, side in ((self.ours, _OURS), (self.theirs, _THEIRS)):
            places = ids[ids[:, 0] == side, 1].astype(np.int64)
            if len(places):
                wanted = np.ascontiguousarray(corpus.sorted_ids[places])
                yield from self._renamed(corpus, side, corpus.texts.of(wanted))

    @staticmethod
    def _renamed(
        corpus: Corpus, side: np.uint64, batches: Iterable[pa.RecordBatch]
    ) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            places = corpus.ranks(batch.column("doc_id")).astype(np.uint64)
            ids = np.column_stack([np.full(len(places), side, dtype=np.uint64), places])
            yield pa.record_batch([ids_to_arrow(ids), batch.column("text")], names=["doc_id", "text"])


def _total(ours: Ids, theirs: Ids, best: pa.Table) -> pa.Table:
    """One row for each of ours; ``best`` has ``place``, ``match``, ``similarity`` and ``kind``."""
    rows = np.full(len(ours), -1, dtype=np.int64)
    rows[best["place"].to_numpy()] = np.arange(best.num_rows)
    taken = pa.array(rows, mask=rows < 0)
    matches = ids_to_arrow(theirs[best["match"].to_numpy()])
    columns = [
        ids_to_arrow(ours),
        matches.take(taken),
        best["similarity"].combine_chunks().take(taken),
        best["kind"].combine_chunks().take(taken),
    ]
    return pa.table(dict(zip(MATCHES.names, columns, strict=True))).cast(MATCHES)
