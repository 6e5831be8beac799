"""Rows that several processes write for one commit: files first, each with its digest, then one version."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from lance.fragment import FragmentMetadata

from headwater.digest import ContentDigest


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Data files of a table that no version names yet. Small, and plain text: it travels between machines."""

    fragments: tuple[str, ...]
    """Lance's description of each fragment, as JSON."""
    digest: str
    num_rows: int

    @classmethod
    def of(cls, fragments: Iterable[FragmentMetadata], digest: ContentDigest) -> Piece:
        described = tuple(json.dumps(fragment.to_json()) for fragment in fragments)
        return cls(fragments=described, digest=digest.hex(), num_rows=digest.num_rows)


@dataclass(frozen=True)
class Pieces:
    """What :meth:`Lake.write` and :meth:`Lake.update` publish in place of batches; ``parts`` is read once.

    The order of the parts is the order of the table's rows.
    """

    schema: pa.Schema
    parts: Iterable[Piece]

    def collect(self, digest: ContentDigest) -> list[Any]:
        """The fragments of every part, their rows counted into ``digest``."""
        found: list[Any] = []
        for part in self.parts:
            digest.combine(ContentDigest.from_hex(part.digest, part.num_rows))
            found.extend(FragmentMetadata.from_json(text) for text in part.fragments)
        return found
