"""Sets of documents to ask about: a file of ids, or a condition over the packed table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from headwater.errors import BadInput, UsageError
from headwater.sql import sql_columns
from headwater.trace.orders import homes_of, id_range
from headwater.trace.seen import distinct_ids

if TYPE_CHECKING:
    from headwater.lake import Lake, Table


def read_ids(path: str | Path) -> pa.Array:
    """The ids in a file, one a line: 32 hex digits, dashes ignored. Blank lines and ``#`` lines are skipped.

    Raises ``BadInput`` naming the line.
    """
    found = []
    try:
        with Path(path).open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                text = line.strip()
                if text and not text.startswith("#"):
                    found.append(_id_of(text, f"{path}:{number}"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise BadInput(f"cannot read ids from {path}: {reason}", hint="one document id a line") from error
    if not found:
        raise BadInput(f"{path} holds no document id", hint="one document id a line")
    return distinct_ids(found)


def full_id(text: str) -> bytes | None:
    """The id of 32 hex digits (dashes ignored), or ``None`` for anything else, a prefix too."""
    try:
        low, high = id_range(text)
    except UsageError:
        return None
    return low if low == high else None


def _id_of(text: str, where: str) -> bytes:
    found = full_id(text)
    if found is None:
        shown = text if len(text) <= 60 else f"{text[:60]}…"
        raise BadInput(f"{where}: {shown!r} is not a document id", hint="a line holds 32 hex digits")
    return found


def ids_where(lake: Lake, order: Table, condition: str) -> pa.Array:
    """The documents of the packed table behind ``order`` for which an SQL condition is true.

    The condition may name the packed table's columns and, but for the text, those of the table that holds
    its text (``source``, ``path``, ``license_declared``). It is the user's own SQL; it runs in a database
    of its own that may not read or write files.

    Raises
    ------
    UsageError
        DuckDB cannot run it.
    """
    import duckdb

    homes = homes_of(lake, order)
    if not homes:
        raise UsageError(
            f"the table that {order.ref} was packed from is gone from the lake",
            hint="name documents by --doc or --docs",
        )
    names = dict.fromkeys(homes[0].schema.names)
    con = duckdb.connect(":memory:", config={"enable_external_access": "false"})
    try:
        con.register("_packed", homes[0].dataset)
        query = f"select {sql_columns(homes[0].schema)} from _packed"
        own = set(homes[0].schema.names)
        texts = []
        for i, home in enumerate(homes[1:]):
            con.register(f"_text{i}", home.dataset)
            wanted = [f for f in home.schema if f.name == "doc_id" or f.name not in own]
            names.update(dict.fromkeys(f.name for f in wanted))
            texts.append(f"select {sql_columns(pa.schema(wanted))} from _text{i}")
        if texts:
            every = " union all by name ".join(texts)
            query = f"select * from ({query}) left join ({every}) using (doc_id)"
        con.execute(f"create view documents as {query}").fetchall()
        # On a line of its own: a comment in the condition must not swallow the parenthesis.
        found = con.sql(f"select distinct doc_id::blob as doc_id from documents where (\n{condition}\n)")
        ids = found.to_arrow_table()["doc_id"].combine_chunks()
    except duckdb.Error as error:
        raise UsageError(
            f"--where cannot be run: {str(error).splitlines()[0]}",
            hint=f"a condition over {', '.join(n for n in names if n != 'text')}",
        ) from error
    finally:
        con.close()
    ids = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    return ids.cast(pa.binary(16)).sort()
