"""Reading real files into ``raw.documents`` and, when they are no documents, into ``raw.quarantine``."""

from headwater.ingest.columns import CANONICAL, LAYOUTS
from headwater.ingest.readers import KINDS, guess_kind
from headwater.ingest.report import IngestReport
from headwater.ingest.run import MAX_DOCUMENT_BYTES, ingest

__all__ = ["CANONICAL", "KINDS", "LAYOUTS", "MAX_DOCUMENT_BYTES", "IngestReport", "guess_kind", "ingest"]
