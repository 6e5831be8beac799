"""Detection of personal data and secrets, by detectors that go by name.

Values never leave these modules: results are kinds, offsets and counts, and no error quotes a text.
"""

from __future__ import annotations

import pyarrow as pa

from headwater.errors import UnknownName, UsageError
from headwater.kernels.pii import Spans, find_spans

DETECTORS = ("headwater", "dolma")


def detect(text: pa.Array, *, detectors: str = "headwater", region: str = "") -> Spans:
    """Spans of a text array without nulls; see the operator ``pii_spans`` for the parameters."""
    if detectors not in DETECTORS:
        raise UnknownName.of("detectors", detectors, DETECTORS, where="pii_spans, pii_counts, redact_pii")
    if detectors == "dolma":
        from headwater.pii.dolma import dolma_spans

        if region:
            raise UsageError("detectors 'dolma' take no region", hint="they know US phone numbers only")
        return dolma_spans(text)
    spans = find_spans(text)
    if region:
        from headwater.pii.phones import with_national

        return with_national(text, spans, region)
    return spans


__all__ = ["DETECTORS", "Spans", "detect"]
