"""What a table version knows about itself, kept in the commit that made it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PROPERTY = "headwater"
"""Name of the one Lance transaction property that holds everything below as JSON."""


def new_build_id() -> str:
    """A fresh build id: 32 hex digits, random, with no meaning."""
    return uuid.uuid4().hex


@dataclass(frozen=True, kw_only=True)
class TableRef:
    """One exact table version: qualified name, version, content digest (32 hex digits)."""

    name: str
    version: int
    digest: str

    def to_dict(self) -> dict[str, Any]:
        return {"table": self.name, "version": self.version, "digest": self.digest}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TableRef:
        return cls(name=str(data["table"]), version=int(data["version"]), digest=str(data["digest"]))

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """How a version was made. Everything here is given by the writer, before the commit."""

    kind: str = "write"
    """What made it: ingest, model, rows (incremental row-wise), pack, log, index, compact."""
    build_id: str = field(default_factory=new_build_id)
    git_commit: str | None = None
    fingerprint: str = ""
    """Digest of what was asked for: compiled SQL, operator versions, parameters."""
    inputs: tuple[TableRef, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further JSON-able facts, e.g. the decisions that belong to a curated version."""


@dataclass(frozen=True, kw_only=True)
class VersionFacts:
    """A version's provenance together with what only the writer could know at the end."""

    provenance: Provenance
    content_digest: str
    num_rows: int

    def to_properties(self) -> dict[str, str]:
        p = self.provenance
        record = {
            "build_id": p.build_id,
            "content_digest": self.content_digest,
            "extra": dict(p.extra),
            "fingerprint": p.fingerprint,
            "git_commit": p.git_commit,
            "inputs": [ref.to_dict() for ref in p.inputs],
            "kind": p.kind,
            "num_rows": self.num_rows,
        }
        return {PROPERTY: json.dumps(record, sort_keys=True)}

    @classmethod
    def from_properties(cls, properties: Mapping[str, str] | None) -> VersionFacts | None:
        """Read the record back, or ``None`` when the version carries none (an index, a compaction)."""
        if not properties or PROPERTY not in properties:
            return None
        record = json.loads(properties[PROPERTY])
        return cls(
            provenance=Provenance(
                kind=record["kind"],
                build_id=record["build_id"],
                git_commit=record["git_commit"],
                fingerprint=record["fingerprint"],
                inputs=tuple(TableRef.from_dict(ref) for ref in record["inputs"]),
                extra=record["extra"],
            ),
            content_digest=record["content_digest"],
            num_rows=int(record["num_rows"]),
        )
