"""The license that a web page states about itself."""

from __future__ import annotations

import pyarrow as pa

from headwater.licenses.schemas import WEB_EVIDENCE
from headwater.operators.registry import operator


@operator(
    name="web_license",
    version=1,
    inputs={"html": pa.large_string()},
    output=WEB_EVIDENCE,
    source="HTML Living Standard 4.6.7.7 (rel=license); CC REL (2008); SPDX license list 3.29.0",
)
def web_license(html: pa.Array) -> pa.Array:
    """The license of an HTML page, from the surest of three places that names one.

    ``detector``: ``rel_license`` (a link of that relation), ``metadata`` (``dcterms.license`` and the like,
    JSON-LD), ``link`` (any link to a Creative Commons license: it may be that of a picture); null for none,
    and for URLs that name no license known by URL. ``url``: the first link. Several licenses of one place
    are joined by AND, and ``disagree``.
    """
    from headwater.licenses.web import evidence

    return evidence(html)
