"""What the lake knows of some documents: where they are from, license, curated tables, approval, a piece."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from headwater.lake import Lake, Table
from headwater.lake.table import in_list
from headwater.lineage import approvals_of, open_optional
from headwater.report.losses import Decided, decided
from headwater.report.narrow import literal
from headwater.why import curated_tables

LICENSES = "license_concluded"
SNIPPET_LINES = 3
LINE_CHARACTERS = 160
READ_CHARACTERS = 1_000_000
"""Of a text, where a piece to show is looked for."""
_WORD = re.compile(r"\w\w+")
_SMALL = frozenset(
    [
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "by",
        "for",
        "from",
        "in",
        "into",
        "is",
        "it",
        "of",
        "on",
        "or",
        "that",
        "the",
        "this",
        "to",
        "with",
    ]
)
"""Words that say nothing about where a query is answered."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What one curated table says of one document."""

    table: str
    version: int
    kept: bool
    rules: tuple[str, ...]
    """Rules that failed or were unknown, of a document that is out."""
    approval: str | None
    """``table@version`` whose approval covers this content, for a document that is in."""
    approved_by: str | None
    approved_at: str | None


def facts_of(lake: Lake, documents: Table, ids: Sequence[bytes], query: str) -> dict[bytes, dict[str, Any]]:
    """The fields of a hit, by id."""
    wanted = pa.array(list(ids), pa.binary(16))
    columns = ("source", "path", "url", "origin", "license_declared", "text")
    there = [name for name in columns if name in documents.schema.names]
    found: dict[bytes, dict[str, Any]] = {}
    for batch in documents.with_text(wanted, there):
        found |= {row["doc_id"]: row for row in batch.to_pylist()}
    licenses, by = _licenses(lake, wanted)
    standings = _standings(lake, wanted)
    facts: dict[bytes, dict[str, Any]] = {}
    for doc_id in ids:
        row, concluded = found[doc_id], licenses.get(doc_id)
        spdx = (concluded or {}).get("license_spdx")
        line, snippet = piece(row.get("text") or "", query)
        facts[doc_id] = {
            "source": row.get("source"),
            "path": row.get("path") or row.get("url"),
            "origin": row.get("origin"),
            "license": spdx or row.get("license_declared"),
            "license_tier": (concluded or {}).get("license_tier"),
            "license_by": by if spdx else "declared" if row.get("license_declared") else "",
            "tables": tuple(standings[doc_id]),
            "approved": any(each.kept and each.approval for each in standings[doc_id]),
            "line": line,
            "snippet": snippet,
        }
    return facts


def _licenses(lake: Lake, ids: pa.Array) -> tuple[dict[bytes, dict[str, Any]], str]:
    table = open_optional(lake, LICENSES)
    if table is None:
        return {}, ""
    columns = ["doc_id", "license_spdx", "license_tier"]
    rows = table.to_arrow(columns, filter=in_list("doc_id", ids)).to_pylist()
    return {row["doc_id"]: row for row in rows}, str(table.ref)


def _standings(lake: Lake, ids: pa.Array) -> dict[bytes, list[Standing]]:
    found: dict[bytes, list[Standing]] = {doc_id: [] for doc_id in ids.to_pylist()}
    for table in curated_tables(lake):
        facts = decided(lake, table)
        kept = set(table.to_arrow(["doc_id"], filter=in_list("doc_id", ids))["doc_id"].to_pylist())
        failed = _failed(lake, facts, ids)
        approvals = approvals_of(lake, table)
        own = [each for each in approvals if each.table.name == table.name]
        relevant = own or approvals  # its own, before that of a table made from it
        last = relevant[-1] if relevant else None
        for doc_id in found:
            is_in = doc_id in kept
            if not is_in and doc_id not in failed:
                continue  # no candidate of this table
            shown = last if is_in else None
            found[doc_id].append(
                Standing(
                    table=table.name,
                    version=table.version,
                    kept=is_in,
                    rules=() if is_in else tuple(failed[doc_id]),
                    approval=str(shown.table).partition(" ")[0] if shown else None,
                    approved_by=shown.who if shown else None,
                    approved_at=shown.at.date().isoformat() if shown else None,
                )
            )
    return found


def _failed(lake: Lake, facts: Decided, ids: pa.Array) -> dict[bytes, list[str]]:
    decisions = open_optional(lake, f"{facts.schema}.decisions")
    if decisions is None:
        return {}
    mine = f"build_id = {literal(facts.build_id)} and {in_list('doc_id', ids)}"
    rows = decisions.to_arrow(["doc_id", "table", "failed", "unknown"], filter=mine).to_pylist()
    return {
        row["doc_id"]: [*(row["failed"] or ()), *(row["unknown"] or ())]
        for row in rows
        if row["table"] == facts.name
    }


def piece(text: str, query: str) -> tuple[int, str]:
    """The lines where most words of the query stand, and the number of the first of them."""
    asked = {word.casefold() for word in _WORD.findall(query)}
    words = (asked - _SMALL) or asked
    lines = text[:READ_CHARACTERS].split("\n")
    best, most = -1, -1
    for i, line in enumerate(lines):
        if not line.strip():
            continue
        low = line[: 10 * LINE_CHARACTERS].casefold()
        here = sum(word in low for word in words)
        if here > most:
            best, most = i, here
    if best < 0:
        return 1, ""
    shown = [_short(line, words) for line in lines[best : best + SNIPPET_LINES]]
    while shown and not shown[-1].strip():
        shown.pop()
    return best + 1, "\n".join(shown)


def _short(line: str, words: set[str]) -> str:
    """A part of a long line that holds one of the words."""
    line = line.rstrip()
    if len(line) <= LINE_CHARACTERS:
        return line
    low = line[: 10 * LINE_CHARACTERS].casefold()
    at = min((low.find(word) for word in words if word in low), default=0)
    start = max(0, at - LINE_CHARACTERS // 3)
    cut = line[start : start + LINE_CHARACTERS]
    return ("…" if start else "") + cut + ("…" if start + LINE_CHARACTERS < len(line) else "")
