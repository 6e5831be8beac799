"""New pairs from new documents: only the buckets that changed, only the texts of new candidates.

    documents that came or went → the shingle sets that are born, dead, or have another smallest document
      → their bucket keys → members of those buckets (one scan of the index) → candidates with a new set
      → texts of those → links → the pairs of every set whose documents changed, before and after

A bucket above its cap lists some of its pairs only, and which ones depends on all of its members. Where one
gained members, its pairs before and now are compared: new ones are candidates; those it no longer lists stay
if a bucket of up to the cap lists them. Where that does not tell, or such a bucket lost a member (whose
signature is gone), every pair among its members is decided again from all the buckets they share; pairs
that were listed keep their similarity. So the result is that of a full build, row for row.

All of it is ids and signatures in DuckDB (which spills) and texts in blocks, as in a full build.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.dedup import changes
from headwater.dedup.changes import Changes
from headwater.dedup.documents import Texts
from headwater.dedup.index import bucket_members
from headwater.dedup.spread import PAIRS, spread_query
from headwater.dedup.verify import verify
from headwater.kernels.pairs import FRESH, REDONE


class Unresolved(Exception):
    """Some pairs depend on more buckets: to be done again ``thorough``, or all of it anew."""


class Increment(Changes):
    """One increment. Open it, look at ``change``, then take the rows of the index and of the pairs."""

    def find(self, added: pa.Table) -> tuple[int, int]:
        """Fill ``gone`` and ``come``, the pairs to take out and to put in; returns how many of each.

        ``added``: the rows of :meth:`index_added`. Raises Unresolved.
        """
        if self.change.num_added == self.change.num_removed == 0:
            return 0, 0
        self._touch(added)
        self._choose_sets()
        self._find_candidates()
        self._load_old_pairs()
        self._verify_new_links()
        self._spread()
        return self._count("gone"), self._count("come")

    def removed_keys(self) -> pa.Array:
        """``a`` of the pairs to take out: all the rows of these are replaced."""
        return self._ids("select distinct a from gone")

    def added_rows(self) -> pa.RecordBatchReader:
        """The pairs that came, and those that stay although another pair of the same ``a`` goes."""
        if self._count("gone"):
            self._work.connection.register("all_pairs", self._pairs.scan())
            self._run(
                """insert into come
                select p.* from (
                    select a::uuid as a, b::uuid as b, similarity, kind from all_pairs
                    where a::uuid in (select a from gone)
                ) p anti join gone using (a, b)"""
            )
            self._work.connection.unregister("all_pairs")
        query = "select a::blob as a, b::blob as b, similarity, kind from come order by 1, 2"
        reader = self._work.connection.cursor().sql(query).to_arrow_reader(1 << 16)
        return pa.RecordBatchReader.from_batches(PAIRS, (batch.cast(PAIRS) for batch in reader))

    def _touch(self, added: pa.Table) -> None:
        """Fill ``hits`` (key, set_hash): who is, or was, in the buckets that changed."""
        self._run("create table born_hits (key uinteger, set_hash uuid)")
        self._run("create table hits (key uinteger, set_hash uuid)")
        self._run("create table redone (set_hash uuid)")
        self._insert_bands("born_hits", added)
        removed = self._index_rows("select doc_id from removed")
        self._run("create table gone_hits (key uinteger, set_hash uuid)")
        self._insert_bands("gone_hits", removed)
        # Keys of the sets that are born, dead or moved; others changed their number of documents only.
        self._run(
            """create table keys as
            select distinct key from (select * from born_hits union all select * from gone_hits)
            semi join (select set_hash from changed where is_born or is_dead or is_moved) using (set_hash)"""
        )
        self._scan_buckets()
        self._sort_large_buckets()
        if not self._count("redone"):
            return
        if self._count("redone") > changes.REBUILD_SHARE * self._count("now"):
            raise Unresolved("most of the documents are in buckets above the cap")
        # Their pairs are decided again: by every bucket that they share, of which all members count.
        self._insert_bands(
            "born_hits",
            self._index_rows(
                "select min(doc_id) from before semi join redone using (set_hash) group by set_hash"
            ),
            keep="semi join redone using (set_hash)",
        )
        self._run("create or replace table keys as select key from keys union select key from born_hits")
        self._run("delete from hits")
        self._scan_buckets()

    def _sort_large_buckets(self) -> None:
        """Buckets above the cap that lost no set are ``shifting``; members of the others are ``redone``."""
        cap = self._work.caps.bucket
        self._run(
            f"""create table large as
            select key from alive group by key having count(*) > {cap}
            union
            select key from (select distinct key, set_hash from hits) group by key having count(*) > {cap}"""
        )
        lost = "" if self._thorough else "where is_dead"
        self._run(
            f"""create table shifting as select key from large anti join (
                select key from (select * from hits union all select * from alive)
                semi join (select set_hash from changed {lost}) using (set_hash)
            ) using (key)"""
        )
        self._run(
            """insert into redone select distinct set_hash from alive
            semi join (from large anti join shifting using (key)) using (key)"""
        )

    def _scan_buckets(self) -> None:
        """Fill ``hits`` with the indexed members of the buckets in ``keys``, and ``alive`` with today's."""
        keys = self._work.connection.cursor().sql("select key from keys order by key").to_arrow_table()
        wanted = np.ascontiguousarray(keys["key"].to_numpy(), dtype=np.uint32)
        if len(wanted):
            for rows in bucket_members(self._index, wanted):
                self._insert("hits", rows, "select key, set_hash::uuid from incoming")
        self._run(
            """create or replace table alive as select distinct key, set_hash from (
                select * from hits
                union all
                select * from born_hits semi join keys using (key)
            ) anti join (select set_hash from changed where is_dead) using (set_hash)"""
        )

    def _choose_sets(self) -> None:
        """Load the signatures of the sets of buckets that may give candidates, one document each."""
        self._run(
            """create table buckets as select key from alive
            left join (select set_hash from changed where is_born) born using (set_hash)
            left join redone r using (set_hash)
            group by key
            having count(*) > 1 and (
                count(born.set_hash) > 0 or count(r.set_hash) > 1 or key in (select key from shifting)
            )"""
        )
        self._run(
            "create table involved as select distinct set_hash from alive semi join buckets using (key)"
        )
        wanted = self._ids(
            "select min(doc_id) from now semi join involved using (set_hash) group by set_hash"
        )
        self._work.load(self._signature_rows(wanted))

    def _find_candidates(self) -> None:
        if not self._work.num_sets:
            self._run("create table candidates (a bigint, b bigint)")
            return
        marks = self._work.connection.cursor().sql(
            f"""select (c.set_hash is not null)::utinyint * {FRESH}
                + (r.set_hash is not null)::utinyint * {REDONE} as mark
            from sets s
            left join (select set_hash from changed where is_born) c on c.set_hash = s.set_hash::uuid
            left join redone r on r.set_hash = s.set_hash::uuid order by set_index"""
        )
        column: npt.NDArray[np.uint8] = marks.to_arrow_table()["mark"].to_numpy().astype(np.uint8)
        shifting = self._count("shifting") > 0
        if shifting:  # the sets as they were numbered before
            self._run(
                """create table former as
                select s.set_index as member, min(b.doc_id) as doc_id,
                    row_number() over (order by min(b.doc_id)) as place
                from sets s join before b on b.set_hash = s.set_hash::uuid group by s.set_index"""
            )
        self._work.find(marks=column, only_keys="buckets", shifting="shifting" if shifting else None)
        if shifting:
            self._settle_shifting()

    def _settle_shifting(self) -> None:
        """Buckets above the cap list other pairs than before: new ones are candidates.

        Those that they no longer list stay where another bucket lists them, which one of up to the cap does
        of all its pairs. Where there is none, it takes the buckets of all the members to tell.
        """
        self._run("create table gained as from gives anti join gave using (a, b)")
        self._run("insert into candidates from gained anti join candidates using (a, b)")
        self._run(
            """create table lost as
            select l.a, l.b, x.set_hash::uuid as set_a, y.set_hash::uuid as set_b,
                least(v.doc_id, w.doc_id) as doc_a, greatest(v.doc_id, w.doc_id) as doc_b
            from gave l anti join gives using (a, b)
            join sets x on x.set_index = l.a join sets y on y.set_index = l.b
            join former v on v.member = l.a join former w on w.member = l.b"""
        )
        self._work.connection.register("all_pairs", self._pairs.scan(["a", "b"]))
        self._run(
            """create table loose as select lost.* from lost
            semi join (
                select * from (select a::uuid as doc_a, b::uuid as doc_b from all_pairs)
                where doc_a in (select doc_a from lost)
            ) using (doc_a, doc_b)
            anti join candidates using (a, b)"""
        )
        self._work.connection.unregister("all_pairs")
        if not self._count("loose"):
            return
        ids = "select least(doc_a, doc_b) from loose union select greatest(doc_a, doc_b) from loose"
        self._run("create table loose_bands (key uinteger, set_hash uuid)")
        self._insert_bands("loose_bands", self._index_rows(ids))
        self._run(
            """create table shared as select distinct l.set_a, l.set_b, x.key from loose l
            join loose_bands x on x.set_hash = l.set_a
            join loose_bands y on y.set_hash = l.set_b and y.key = x.key"""
        )
        self._run("create or replace table keys as select distinct key from shared")
        self._run("delete from hits")
        self._scan_buckets()
        ((unresolved,),) = self._run(
            f"""select count(*) from loose anti join (
                from shared join (select key, count(*) as members from alive group by key) using (key)
                where members <= {self._work.caps.bucket}
            ) using (set_a, set_b)"""
        )
        if unresolved:
            raise Unresolved(f"{unresolved} pairs")

    def _load_old_pairs(self) -> None:
        """Fill ``old_pairs`` (a, b, similarity, kind, set_a, set_b) with the listed pairs that may change."""
        self._run("create table if not exists gained (a bigint, b bigint)")
        self._run(
            """create table gained_sets as
            select least(x.set_hash, y.set_hash)::uuid as set_a,
                greatest(x.set_hash, y.set_hash)::uuid as set_b
            from gained g join sets x on x.set_index = g.a join sets y on y.set_index = g.b"""
        )
        self._run(
            """create table near_docs as select doc_id, set_hash from before semi join (
                select set_hash from changed union select set_hash from redone
                union select set_a from gained_sets
            ) using (set_hash)"""
        )
        self._work.connection.register("all_pairs", self._pairs.scan())
        self._run(
            """create table old_pairs as
            with listed as (
                select * from (select a::uuid as a, b::uuid as b, similarity, kind from all_pairs)
                where a in (select doc_id from near_docs) or b in (select doc_id from near_docs)
            )
            select listed.*, x.set_hash as set_a, y.set_hash as set_b
            from listed join before x on x.doc_id = a join before y on y.doc_id = b
            where set_a in (select set_hash from changed) or set_b in (select set_hash from changed)
                or (set_a <> set_b
                    and set_a in (select set_hash from redone) and set_b in (select set_hash from redone))
                or (least(set_a, set_b), greatest(set_a, set_b)) in (
                    select (set_a, set_b) from gained_sets
                )"""
        )
        self._work.connection.unregister("all_pairs")
        self._run(
            """create table old_links as
            select least(set_a, set_b) as set_a, greatest(set_a, set_b) as set_b,
                any_value(similarity) as similarity
            from old_pairs where set_a <> set_b group by all"""
        )

    def _verify_new_links(self) -> None:
        """Fill ``new_links`` (set_a, set_b, similarity): every link of today whose pairs may change."""
        self._run(
            """create table found as
            select c.a, c.b, o.similarity, least(x.set_hash::uuid, y.set_hash::uuid) as set_a,
                greatest(x.set_hash::uuid, y.set_hash::uuid) as set_b
            from candidates c join sets x on x.set_index = c.a join sets y on y.set_index = c.b
            left join old_links o on o.set_a = least(x.set_hash::uuid, y.set_hash::uuid)
                and o.set_b = greatest(x.set_hash::uuid, y.set_hash::uuid)"""
        )
        self._run("create table links (a bigint, b bigint, similarity double)")
        self._run("create or replace table candidates as select a, b from found where similarity is null")
        verify(
            self._work,
            Texts(self._documents, self._folder),
            self._folder,
            ngram=self._ngram,
            memory_bytes=self._memory_bytes,
            threads=self._threads,
        )
        self._run(
            """create table new_links as
            select set_a, set_b, similarity::double as similarity from found where similarity is not null
            union all
            select f.set_a, f.set_b, l.similarity from links l join found f using (a, b)
            union all
            select set_a, set_b, similarity from old_links
            where set_a not in (select set_hash from changed where is_dead)
                and set_b not in (select set_hash from changed where is_dead)
                and not (set_a in (select set_hash from redone) and set_b in (select set_hash from redone))
                and (set_a, set_b) not in (select (set_a, set_b) from found)"""
        )

    def _spread(self) -> None:
        """Fill ``gone`` and ``come`` by spreading today's links and comparing with what was listed."""
        self._run(
            """create table part_sets as
            with hashes as (
                select set_hash from changed
                union select set_a from new_links
                union select set_b from new_links
            )
            select row_number() over () - 1 as set_index, set_hash, min(doc_id) as doc_id,
                count(*) as members,
                set_hash in (select set_hash from changed) as touched
            from now semi join hashes using (set_hash) group by set_hash"""
        )
        self._run(
            """create table part_docs as
            select doc_id, set_hash from now semi join part_sets using (set_hash)"""
        )
        self._run(
            """create table part_links as
            select x.set_index as a, y.set_index as b, similarity from new_links
            join part_sets x on x.set_hash = set_a join part_sets y on y.set_hash = set_b"""
        )
        query = spread_query("part_docs", "part_sets", "part_links", self._work.caps)
        self._run(f"create table new_pairs as {query}")
        same = "using (a, b, similarity, kind)"
        columns = "a, b, similarity, kind"
        self._run(f"create table gone as select {columns} from old_pairs anti join new_pairs {same}")
        self._run(f"create table come as select {columns} from new_pairs anti join old_pairs {same}")
