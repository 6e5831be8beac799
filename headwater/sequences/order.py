"""The order of a pack: which documents, how often, in which place. DuckDB sees ids and counts only.

Documents stand by the column ``curriculum`` (where there is one, missing values last), then by a seeded hash
of id and epoch, ties by the id. What a run has consumed before a stage has no place in it, only the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa

from headwater.errors import UnknownName, UsageError
from headwater.sequences.database import ID_BATCH_ROWS, database, fixed_ids, hashed, keep, quoted
from headwater.sequences.held_out import HELD_OUT_SEED, held_out_sql
from headwater.sequences.mixture import Drawn, Part, draw
from headwater.sequences.shuffle import RECORD_BYTES, SHUFFLE_MEMORY, Meter, Shuffle, bucket_bytes
from headwater.sequences.stages import load_consumed

if TYPE_CHECKING:
    from headwater.lake import Lake, Table
    from headwater.sequences.source import Source
    from headwater.sequences.stages import Past

PIECE_TOKENS = 4 << 20
"""Tokens of the pieces in a batch: 8 to 16 MiB."""

SCAN_BYTES = 4 << 20
"""About the tokens that one batch of the scan holds."""

MOST_CONTROL_TOKENS = 1_000


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What an order is asked to be, beside its source.

    ``control_ids`` are the ids of the control tokens by their text; ``control`` is the column with that text;
    ``parts`` those of a mixture, ``clusters`` the duplicate clusters that ``hold_out`` is a share of.
    """

    seed: int
    limit_tokens: int | None = None
    tokens_total: int | None = None
    hold_out: float = 0.0
    fim_rate: float = 0.0
    control: str | None = None
    control_ids: Mapping[str, int] = field(default_factory=dict)
    parts: Mapping[str, Part] | None = None
    clusters: Table | None = None
    past: Past | None = None
    memory_bytes: int = SHUFFLE_MEMORY


class Order:
    """The documents of one pack with their places. Made by :func:`open_order`."""

    def __init__(self, con: duckdb.DuckDBPyConnection, tokens: Table, wanted: Wanted) -> None:
        self.con = con
        self.drawn: dict[str, Drawn] | None = None
        self.meter = Meter()
        self._tokens = tokens
        self._wanted = wanted
        self._dtype = np.dtype(tokens.schema.field("tokens").type.value_type.to_pandas_dtype())

    def pieces(self, ranked: str = "ranked", *, with_tokens: bool) -> Iterator[pa.RecordBatch]:
        """What the packer takes, in order (``headwater.sequences.closing.close_pieces``).

        ``ranked`` or ``ranked_held``: the order itself, or the documents held out of it.
        """
        gaps = f"{ranked}_gaps"
        rows = self.con.cursor().sql(
            f"select r.doc_id::blob as doc_id, r.source, r.epoch, coalesce(r.form, -1)::tinyint as form, "
            f"r.fim_rate, r.control, coalesce(g.start, 0)::int as start, coalesce(g.stop, -1)::int as stop, "
            f"r.num_tokens, r.rank from {ranked} r left join {gaps} g using (doc_id, epoch) "
            f"order by r.rank, start"
            if self._count(gaps)
            else f"select doc_id::blob as doc_id, source, epoch, coalesce(form, -1)::tinyint as form, "
            f"fim_rate, control, 0::int as start, -1::int as stop, num_tokens, rank from {ranked} "
            f"order by rank"
        )
        batches = map(fixed_ids, rows.to_arrow_reader(ID_BATCH_ROWS))
        if not with_tokens:
            yield from (batch.drop_columns(["rank"]) for batch in batches)
            return
        yield from _joined(batches, self._token_lists(ranked))

    def count(self, ranked: str = "ranked") -> tuple[int, int]:
        """Documents, each once, and about the tokens that are left of them."""
        found = self.con.execute(
            f"select count(distinct doc_id), coalesce(sum(length), 0)::bigint from {ranked}"
        ).fetchall()
        return int(found[0][0]), int(found[0][1])

    @property
    def has_forms(self) -> bool:
        """Whether documents of the order go on in a form that was given to them in a stage before."""
        rows = self.con.execute("select 1 from ranked where coalesce(form, 0) > 0 limit 1").fetchall()
        return bool(rows)

    def _count(self, table: str) -> int:
        return int(self.con.execute(f"select count(*) from {table}").fetchall()[0][0])

    def _token_lists(self, ranked: str) -> Iterator[tuple[int, pa.ListArray]]:
        firsts = self.con.execute(
            f"select min(rank) from {ranked} group by bucket order by bucket"
        ).fetchnumpy()
        entries = self.con.cursor().sql(f"select position, rank from {ranked} order by position, rank")
        first_ranks = np.asarray(next(iter(firsts.values())), dtype=np.int64)
        shuffle = Shuffle(self._dtype, first_ranks, self._wanted.memory_bytes)
        self.meter = shuffle.meter
        lists = (batch["tokens"] for batch in self._tokens.scan(["tokens"], batch_rows=self._scan_rows()))
        yield from shuffle.sorted(lists, entries.to_arrow_reader(1 << 16))

    def _scan_rows(self) -> int:
        mean = self.con.execute("select coalesce(avg(num_tokens), 1) from docs").fetchall()[0][0]
        return int(min(max(SCAN_BYTES / (mean * self._dtype.itemsize + 1), 16), 8_192))


@contextmanager
def open_order(lake: Lake, source: Source, tokens: Table, wanted: Wanted) -> Iterator[Order]:
    """Find the documents of ``source`` that have tokens, and give them their places."""
    with database() as con:
        order = Order(con, tokens, wanted)
        _load_documents(con, source, tokens, wanted)
        load_consumed(con, lake, wanted.past, wanted.control_ids)
        if wanted.parts is not None:
            order.drawn = draw(con, wanted.parts, wanted.tokens_total, wanted.seed)
        else:
            _carry_all(con, wanted.limit_tokens)
        item = np.dtype(tokens.schema.field("tokens").type.value_type.to_pandas_dtype()).itemsize
        _rank(con, "ranked", "select * from carried", item, wanted.memory_bytes)
        _find_gaps(con)
        held = (
            f"select doc_id, 0::int as epoch, seeded_hash(doc_id, seed := {HELD_OUT_SEED}) as h, source, "
            "null::double as curriculum, -1 as control, 0::float as fim_rate, 0 as form, "
            "num_tokens, position, (num_tokens + 1)::bigint as length, length as allowed from docs where held"
        )
        _rank(con, "ranked_held", held, item, wanted.memory_bytes)
        con.execute("create table ranked_held_gaps as select * from ranked_gaps limit 0").fetchall()
        yield order


def _load_documents(con: duckdb.DuckDBPyConnection, source: Source, tokens: Table, wanted: Wanted) -> None:
    """``docs``: a row per document that has tokens, with what the table says of it; ``listed``: all rows."""
    table = source.table
    names = set(table.schema.names)
    columns = ["doc_id"]
    shown = {"source": "''", "control": "-1", "fim_rate": f"{wanted.fim_rate!r}::float", "curriculum": "null"}
    if wanted.parts is not None:
        shown["source"] = "any_value(part)"
        columns.append("part")
        for column in ("fim_rate", "curriculum"):
            if column in names:
                shown[column] = f"coalesce(any_value({column}), {shown[column]})"
                columns.append(column)
    where, source_columns = source.source_columns
    if wanted.parts is None and "source" in source_columns and where.name == table.name:
        shown["source"] = "any_value(source)"
        columns.append("source")
    if wanted.control is not None:
        shown["control"] = "coalesce(any_value(i.id), -1)"
        columns.append(wanted.control)
    ids = pa.table(
        {
            "text": pa.array(list(wanted.control_ids), pa.string()),
            "id": pa.array(list(wanted.control_ids.values()), pa.int32()),
        }
    )
    control = f"left join ids i on i.text = given.{quoted(wanted.control)}" if wanted.control else ""
    listed = ", ".join(f"({sql}) as {name}" for name, sql in shown.items())
    keep(
        con,
        "listed",
        f"select doc_id::uuid as doc_id, {listed} from given {control} group by given.doc_id",
        given=table.scan(list(dict.fromkeys(columns))),
        ids=ids.to_reader(),
    )
    if wanted.parts is None and "source" in source_columns and where.name != table.name:
        keep(
            con,
            "listed",
            "select l.* replace (coalesce(w.source, '') as source) from listed l left join "
            "(select doc_id::uuid as doc_id, any_value(source) as source from given group by doc_id) w "
            "using (doc_id)",
            given=where.scan(source_columns),
        )
    held, join, readers = "false", "", {}
    if wanted.hold_out:
        held = held_out_sql("l.doc_id", wanted.hold_out)
        if wanted.clusters is not None:
            readers["clusters"] = wanted.clusters.scan(["doc_id", "cluster_id"])
            held = held_out_sql("coalesce(k.cluster_id::uuid, l.doc_id)", wanted.hold_out)
            join = "left join clusters k on k.doc_id::uuid = l.doc_id"
    keep(
        con,
        "docs",
        f"""select l.doc_id, l.source, l.control::int as control, l.fim_rate::float as fim_rate,
                   l.curriculum::double as curriculum, f.h, f.position, f.num_tokens, {held} as held
            from found f join listed l on l.doc_id = f.doc_id::uuid {join}""",
        found=hashed(tokens.scan(["doc_id", "num_tokens"]), wanted.seed),
        **readers,
    )


def _carry_all(con: duckdb.DuckDBPyConnection, limit_tokens: int | None) -> None:
    """``carried`` without a mixture: every document once, of the first ``limit_tokens`` tokens."""
    first = (
        "qualify coalesce(sum(length) over "
        f"(order by h, doc_id rows between unbounded preceding and 1 preceding), 0) < {int(limit_tokens)}"
        if limit_tokens is not None
        else ""
    )
    keep(
        con,
        "carried",
        f"""with whole as (
            select d.doc_id, 0::int as epoch, d.h, d.source, d.curriculum,
                   coalesce(c.control, d.control) as control, d.fim_rate, c.form, d.num_tokens, d.position,
                   (coalesce(c.closed, d.num_tokens + 1 + (coalesce(c.control, d.control) >= 0)::int)
                       - coalesce(c.tokens, 0))::bigint as length
            from docs d left join consumed_sums c on c.doc_id = d.doc_id and c.epoch = 0
            where not d.held)
        select *, length as allowed from whole where length > 0 {first}""",
    )


def _rank(con: duckdb.DuckDBPyConnection, into: str, query: str, item: int, memory_bytes: int) -> None:
    """Number the documents of ``query`` from 0, and say which bucket of the shuffle each falls into."""
    size = f"(num_tokens::bigint * {item} + {RECORD_BYTES})"
    over = "over (order by curriculum nulls last, h, doc_id, epoch rows unbounded preceding)"
    keep(
        con,
        into,
        f"select *, row_number() {over} - 1 as rank, "
        f"((sum({size}) {over} - {size}) // {bucket_bytes(memory_bytes)})::bigint as bucket from ({query})",
    )


def _find_gaps(con: duckdb.DuckDBPyConnection) -> None:
    """``ranked_gaps``: start and stop of what is to be packed of documents that are not packed whole."""
    keep(
        con,
        "ranked_gaps",
        """with touched as (
            select r.doc_id, r.epoch, r.allowed,
                   coalesce(c.closed, r.num_tokens + 1 + (r.control >= 0)::int) as closed
            from ranked r left join consumed_sums c using (doc_id, epoch)
            where c.doc_id is not null or r.allowed < r.length
        ), borders as (
            select c.doc_id, c.epoch, coalesce(lag(c.stop) over w, 0) as start, c.start as stop
            from consumed c semi join touched using (doc_id, epoch)
            window w as (partition by c.doc_id, c.epoch order by c.start)
            union all
            select t.doc_id, t.epoch, coalesce(max(c.stop), 0), any_value(t.closed)
            from touched t left join consumed c using (doc_id, epoch) group by t.doc_id, t.epoch
        ), sized as (
            select *, sum(stop::bigint - start) over (
                partition by doc_id, epoch order by start rows unbounded preceding) - (stop - start) as before
            from (select * from borders where stop > start)
        )
        select s.doc_id, s.epoch, s.start::int as start,
               least(s.stop, s.start + t.allowed - s.before)::int as stop
        from sized s join touched t using (doc_id, epoch) where s.before < t.allowed""",
    )


def control_texts(table: Table, column: str) -> list[str]:
    """The control tokens' texts in a column, sorted.

    Raises ``UnknownName`` without such a column, ``UsageError`` when it holds other than a few texts.
    """
    if column not in table.schema.names:
        raise UnknownName.of("column", column, table.schema.names, where=str(table.ref))
    kind = table.schema.field(column).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise UsageError(
            f"column {column} of {table.ref} is {kind}", hint="a control token is a text: '<|good|>'"
        )
    with database(given=table.scan([column])) as con:
        name = quoted(column)
        rows: list[Any] = con.execute(
            f"select distinct {name} from given where {name} is not null limit {MOST_CONTROL_TOKENS + 1}"
        ).fetchall()
    texts = sorted(row[0] for row in rows)
    if len(texts) > MOST_CONTROL_TOKENS or "" in texts:
        found = "an empty text" if "" in texts else f"more than {MOST_CONTROL_TOKENS:,} different texts"
        raise UsageError(
            f"column {column} of {table.ref} holds {found}",
            hint="control tokens are a few, like '<|good|>'; NULL where a document has none",
        )
    return texts


def _joined(
    pieces: Iterator[pa.RecordBatch], lists: Iterator[tuple[int, pa.ListArray]]
) -> Iterator[pa.RecordBatch]:
    """Give pieces in the order of ``rank`` their documents' tokens; several pieces may be of one document."""
    first, tokens = 0, None
    for batch in pieces:
        while batch.num_rows:
            ranks = batch["rank"].to_numpy()
            while tokens is None or ranks[0] >= first + len(tokens):
                first, tokens = next(lists)
            here = batch.slice(0, int(np.searchsorted(ranks, first + len(tokens))))
            for part in _by_tokens(here):
                own = pa.array(part["rank"].to_numpy() - first)
                yield part.drop_columns(["rank"]).append_column("tokens", tokens.take(own))
            batch = batch.slice(here.num_rows)


def _by_tokens(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    ends = np.cumsum(batch["num_tokens"].to_numpy().astype(np.int64))
    start, before = 0, 0
    while start < batch.num_rows:
        end = max(int(np.searchsorted(ends, before + PIECE_TOKENS, side="right")), start + 1)
        yield batch.slice(start, end - start)
        start, before = end, int(ends[end - 1])
