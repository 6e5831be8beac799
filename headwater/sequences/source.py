"""What a pack reads: an approved table of documents, or of a mixture, and the text that stands behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headwater.errors import LakeError, NotApproved, UnknownName, UsageError
from headwater.lake.approvals import approval_of_content
from headwater.lineage import upstream

if TYPE_CHECKING:
    from headwater.lake import Lake, Table

PROD = "prod"
"""The schema in which nothing unapproved is packed or trained on, whatever the caller asks."""

MIXTURE_COLUMNS = frozenset({"part", "share", "max_epochs"})
"""A table of documents that has these is a mixture."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A table to pack, with ``bypass`` saying which approval was missing (``None``: it is approved).

    ``texts`` are the base tables with the documents' text, one unless the parts of a mixture differ in it.
    """

    table: Table
    texts: tuple[Table, ...]
    bypass: str | None

    @property
    def text(self) -> Table:
        """The base table; of several, the first."""
        return self.texts[0]

    @property
    def is_mixture(self) -> bool:
        """Whether the table says which part of a mixture each document belongs to."""
        return set(self.table.schema.names) >= MIXTURE_COLUMNS

    @property
    def source_columns(self) -> tuple[Table, list[str]]:
        """Where each document's ``source`` is read from; a table without one gives no column."""
        for table in (self.table, self.text):
            if "source" in table.schema.names:
                return table, ["doc_id", "source"]
        return self.table, ["doc_id"]


def open_source(lake: Lake, name: str, *, require_approved: bool) -> Source:
    """Open the approved version of ``name``, or its latest where approval may be missing.

    Raises
    ------
    NotApproved
        No approval stands, and it is required or this is ``prod``.
    """
    table = lake.table(name, version="approved") if require_approved else lake.table(name)
    bypass = None if require_approved else bypass_of(lake, table)
    mixed = set(table.schema.names) >= MIXTURE_COLUMNS
    texts = texts_of(lake, table) if mixed else (text_of(lake, table),)
    return Source(table=table, texts=texts, bypass=bypass)


def bypass_of(lake: Lake, table: Table) -> str | None:
    """``None`` for approved content; otherwise the words that record the bypass.

    Raises ``NotApproved`` in ``prod``, where there is no bypass.
    """
    if approval_of_content(lake, table.ref) is not None:
        return None
    if lake.schema == PROD:
        raise NotApproved(
            f"{table.ref} has no standing approval, and {PROD} takes nothing else",
            hint=f"headwater check {table.short_name}, then headwater approve {table.short_name} --why '…'",
        )
    return f"{table.ref} is not approved (digest {table.digest})"


def text_of(lake: Lake, table: Table) -> Table:
    """The table that holds the text of ``table``'s documents, at the version it was made from.

    Curated tables hold no text: it is that of the base table they declare, or else of the nearest
    table upstream that has one.
    """
    if "doc_id" not in table.schema.names:
        raise UsageError(f"{table.ref} has no doc_id column", hint="pack a table of documents")
    if table.has_text:
        return table
    candidates = table.provenance.extra.get("candidates")
    base = lake.resolve(str(candidates)) if candidates else None
    refs = upstream(lake, table.ref)
    for ref in sorted(refs, key=lambda ref: ref.name != base):
        try:
            found = lake.table(ref.name, version=ref.version)
        except UnknownName:
            continue  # cleaned up; another input may hold the text
        if found.has_text:
            return found
    if base is not None and lake.exists(base):
        return lake.table(base)
    raise UsageError(
        f"no table that {table.ref} was made from has a text column",
        hint="declare its base table: config(meta={'candidates': 'documents'})",
    )


def texts_of(lake: Lake, table: Table) -> tuple[Table, ...]:
    """The base tables of the parts that a mixture was drawn from, each once, in the order of its inputs.

    Raises ``UsageError`` where none can be found, as :func:`text_of` does.
    """
    found: dict[tuple[str, int], Table] = {}
    for ref in table.provenance.inputs:
        try:
            part = lake.table(ref.name, version=ref.version)
            base = text_of(lake, part)
        except (UnknownName, LakeError, UsageError):
            continue  # an input that holds no documents, or is gone
        found[base.name, base.version] = base
    return tuple(found.values()) or (text_of(lake, table),)
