"""What an ingest did, in numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

Progress = Callable[[int, int | None, str], None]
"""Called with (bytes read, bytes in all or None when unknown, what is being read)."""


@dataclass(frozen=True, kw_only=True)
class IngestReport:
    """Counts of one ingest. ``rows_seen`` = added + unchanged + repeated + all of ``quarantined``."""

    kind: str
    files_seen: int
    rows_seen: int
    """Files, lines that are not blank, or Parquet rows."""
    bytes_seen: int
    """Stored bytes read; compressed input counts as it lies on disk."""
    documents_added: int
    documents_unchanged: int
    """In the table already, with the same source, key and text."""
    documents_repeated: int
    """Came more than once in this run with the same source, key and text: stored once."""
    documents_removed: int
    """Only with ``sync``: no longer in the input."""
    quarantined: Mapping[str, int] = field(default_factory=dict)
    """Reason code -> rows, whether or not an earlier run recorded them."""
    text_bytes_added: int = 0
    """UTF-8 bytes of the added documents."""
    layout: str | None = None
    """The known layout whose columns were used, if any."""
    seconds: float = 0.0
    version: int | None = None
    """Version of ``raw.documents`` after the run; unchanged when nothing was added or removed."""

    @property
    def changed(self) -> bool:
        """True when the run made a new version of the documents."""
        return bool(self.documents_added or self.documents_removed)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "quarantined": dict(self.quarantined)}
