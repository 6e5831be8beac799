"""From links between shingle sets to pairs of documents."""

from __future__ import annotations

import pyarrow as pa

from headwater.dedup.caps import Caps

EQUAL_SHINGLES = "equal_shingles"
"""Kind of a pair whose shingle sets are the same: texts equal but for case, spaces and punctuation."""
NEAR = "near"
"""Kind of a pair whose shingle sets differ; the similarity was computed from the texts."""

PAIRS = pa.schema(
    [
        pa.field("a", pa.binary(16)),
        pa.field("b", pa.binary(16)),
        pa.field("similarity", pa.float32()),
        pa.field("kind", pa.string()),
    ]
)


def spread_query(docs: str, sets: str, links: str, caps: Caps) -> str:
    """SQL that lists (a, b, similarity, kind), ordered, of links spread over the documents of their sets.

    ``docs``: doc_id, set_hash. ``sets``: set_index, set_hash, doc_id (the smallest), members, touched
    (whether the pairs inside the set are wanted). ``links``: a, b (set indices), similarity.
    """
    return f"""
        with
        chosen as (select * from {sets}),
        members as (
            select s.set_index, s.members, s.touched, d.doc_id from {docs} d join chosen s using (set_hash)
        ),
        wide as (
            select l.*, sa.doc_id as first_a, sb.doc_id as first_b, sa.members * sb.members as num_pairs
            from {links} l join chosen sa on sa.set_index = l.a join chosen sb on sb.set_index = l.b
        ),
        spread as (
            select x.doc_id as a, y.doc_id as b, 1.0::double as similarity, '{EQUAL_SHINGLES}' as kind
            from members x join members y using (set_index)
            where x.touched and x.members between 2 and {caps.group} and y.members between 2 and {caps.group}
                and x.doc_id < y.doc_id
            union all
            select s.doc_id, d.doc_id, 1.0, '{EQUAL_SHINGLES}' from {docs} d join chosen s using (set_hash)
            where s.touched and s.members > {caps.group} and s.doc_id < d.doc_id
            union all
            select x.doc_id, y.doc_id, w.similarity, '{NEAR}'
            from wide w join members x on x.set_index = w.a join members y on y.set_index = w.b
            where w.num_pairs between 2 and {caps.cross}
            union all
            select first_a, first_b, similarity, '{NEAR}' from wide
            where num_pairs = 1 or num_pairs > {caps.cross}
        )
        select least(a, b) as a, greatest(a, b) as b, similarity::float as similarity, kind
        from spread order by 1, 2"""
