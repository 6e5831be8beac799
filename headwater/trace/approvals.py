"""Whether what a run trained on was approved then, and whether that still stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headwater.lake.approvals import approval_of_content, record_tables

if TYPE_CHECKING:
    from headwater.lake import Lake
    from headwater.lake.provenance import TableRef


def approval_facts(lake: Lake, ref: TableRef) -> dict[str, Any]:
    """``standing``: the approval of exactly this content (``who``, ``why``, ``at``), or ``None``;
    ``revoked``: the latest revocation of one, where none stands any more."""
    standing = approval_of_content(lake, ref)
    if standing is not None:
        facts = {"approval_id": standing.approval_id, "who": standing.who, "why": standing.why}
        return {"standing": {**facts, "at": standing.at.isoformat()}, "revoked": None}
    revoked = [
        row
        for record in record_tables(lake, ref.name)
        if lake.exists(record)
        for row in lake.table(record).to_arrow().to_pylist()
        if row["action"] == "revoke" and (row["table"], row["content_digest"]) == (ref.name, ref.digest)
    ]
    if not revoked:
        return {"standing": None, "revoked": None}
    last = max(revoked, key=lambda row: row["at"])
    facts = {"who": last["who"], "why": last["why"], "at": last["at"].isoformat()}
    return {"standing": None, "revoked": facts}
