"""Personal data and secrets: where they are and how many, never what they say."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headwater.errors import UnknownName
from headwater.kernels.pii import KINDS, Spans
from headwater.operators.registry import operator, struct_array
from headwater.pii import detect
from headwater.pii.redaction import PLACEHOLDERS, redacted

SPAN = pa.struct([pa.field("kind", pa.string()), pa.field("start", pa.int64()), pa.field("end", pa.int64())])
COUNTS = pa.struct([pa.field("num_pii_spans", pa.int64())] + [pa.field(kind, pa.int64()) for kind in KINDS])
_SOURCE = (
    "IANA top-level domains and special-purpose registries; ISO/IEC 7812; SWIFT IBAN registry; NANPA; "
    "libphonenumber; gitleaks 8; Dolma's pii_regex_with_counts_fast_v2 (dolma 1.2.1)"
)


@operator(
    name="pii_spans",
    version=1,
    inputs={"text": pa.large_string()},
    output=pa.list_(SPAN),
    parameters={"detectors": "headwater", "region": ""},
    source=_SOURCE,
)
def pii_spans(text: pa.Array, *, detectors: str, region: str) -> pa.Array:
    """Spans of personal data and secrets: kind, first and last byte (exclusive) in the UTF-8 of the text.

    In the order of the text, none overlapping another. Kinds: ``email``, ``phone``, ``ip_address`` (public
    ones), ``credit_card``, ``iban``, ``aws_key``, ``github_token``, ``gitlab_token``, ``slack_token``,
    ``google_key``, ``stripe_key``, ``jwt``, ``private_key``, and, of lower confidence, ``password``.
    ``detectors``: ``headwater``, or ``dolma`` for its three regular expressions. ``region`` (``DE``, ``US``,
    …) also finds that country's national phone numbers, checked by the package phonenumbers.
    """
    spans = detect(text, detectors=detectors, region=region)
    kinds = pa.DictionaryArray.from_arrays(pa.array(spans.kind), pa.array(KINDS)).cast(pa.string())
    values = pa.StructArray.from_arrays(
        [kinds, pa.array(spans.start), pa.array(spans.end)], fields=list(SPAN)
    )
    offsets = np.searchsorted(spans.row, np.arange(len(text) + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values, type=pa.list_(SPAN))


@operator(
    name="pii_counts",
    version=1,
    inputs={"text": pa.large_string()},
    output=COUNTS,
    parameters={"detectors": "headwater", "region": ""},
    source=_SOURCE,
)
def pii_counts(text: pa.Array, *, detectors: str, region: str) -> pa.Array:
    """How many spans of each kind; ``num_pii_spans`` are all but ``password``, the uncertain kind."""
    spans = detect(text, detectors=detectors, region=region)
    counts = counted(spans, len(text))
    columns = dict(zip(KINDS, counts.T, strict=True))
    total = counts.sum(axis=1) - columns["password"]
    return struct_array(COUNTS, {"num_pii_spans": total, **columns})


@operator(
    name="redact_pii",
    version=1,
    inputs={"text": pa.large_string()},
    output=pa.large_string(),
    parameters={"detectors": "headwater", "region": "", "placeholders": "dolma"},
    source=f"{_SOURCE}; placeholders of Dolma v1.5",
)
def redact_pii(text: pa.Array, *, detectors: str, region: str, placeholders: str) -> pa.Array:
    """The text with a placeholder in the place of every span of :func:`pii_spans`.

    ``placeholders``: ``dolma`` (``|||EMAIL_ADDRESS|||``) or ``angle`` (``<email>``). Redacting what is
    already redacted changes nothing. A text without spans comes back as it is.
    """
    if placeholders not in PLACEHOLDERS:
        raise UnknownName.of("placeholders", placeholders, PLACEHOLDERS, where="operator redact_pii")
    marks = PLACEHOLDERS[placeholders]
    spans = detect(text, detectors=detectors, region=region)
    result = redacted(text, spans, marks)
    # A placeholder may free what stood against it ("…5000AKIA…"): again where something was found.
    rows = np.unique(spans.row)
    while len(rows):
        again = result.take(pa.array(rows))
        spans = detect(again, detectors=detectors, region=region)
        if len(spans.row):
            changed = np.zeros(len(text), dtype=np.bool_)
            changed[rows] = True
            result = pc.replace_with_mask(result, pa.array(changed), redacted(again, spans, marks))
        rows = rows[np.unique(spans.row)]
    return result


def counted(spans: Spans, rows: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Spans of each row and kind, shape (rows, kinds)."""
    places = spans.row * len(KINDS) + spans.kind
    return np.bincount(places, minlength=rows * len(KINDS)).astype(np.int64).reshape(rows, len(KINDS))
