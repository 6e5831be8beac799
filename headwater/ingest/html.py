"""HTML pages to text: main content or all of it, with title, language and links. By resiliparse.

Extraction of one page takes under a second whatever the page: what would take longer is refused before it is
parsed (:mod:`headwater.ingest.markup`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from headwater.errors import MissingExtra
from headwater.ingest.charsets import decode_page
from headwater.ingest.markup import cost_of

Mode = Literal["main", "full"]
MODES: tuple[Mode, ...] = ("main", "full")
SUFFIXES = (".html", ".htm", ".xhtml")
CONTENT_TYPES = frozenset({"text/html", "application/xhtml+xml"})

MAX_LINKS = 64
"""Links of a page that are kept in its metadata; all are counted."""
MAX_LICENSE_LINKS = 16
MAX_LISTED = 10_000
"""A page with more links has them counted only: resiliparse makes an object of each, at 5 µs, even for a
slice."""
_MAX_ADDRESS = 512
_MAX_TITLE = 512
_LICENSE_SELECTOR = "[rel~='license'], [href*='creativecommons.org/']"
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The text of a page, or the ``reason`` why there is none (a quarantine reason with its detail)."""

    text: str | None
    facts: dict[str, Any] = field(default_factory=dict)
    license_declared: str | None = None
    """SPDX id, else address, of the page's one ``rel=license``: what it declares of itself."""
    reason: str = ""
    detail: str = ""


def looks_like_html(name: str) -> bool:
    """By the suffix of a file name."""
    return name.lower().endswith(SUFFIXES)


def extract(data: bytes, *, mode: Mode, charset: str | None = None) -> Page:
    """Text and facts of one page. ``charset``: what the HTTP header said.

    ``main`` leaves out navigation, headers, footers and the like; where that leaves nothing, or the page is
    too large for it, all of the page's text is taken, and ``facts["html"]`` says ``full``.
    """
    parser, extractor = _resiliparse()
    decoded = decode_page(data, charset)
    is_utf8 = decoded.encoding == "utf-8" and decoded.said != "bom" and not decoded.replaced
    utf8 = data if is_utf8 else _utf8(decoded.text)
    cost = cost_of(utf8)
    if cost.problem is not None:
        return Page(text=None, reason="too_complex", detail=cost.problem)
    try:
        tree = parser.parse(utf8.decode("utf-8"))
        text, taken = "", mode
        if mode == "main" and cost.main_is_affordable:
            text = extractor(tree, main_content=True, preserve_formatting=True)
        if not text or text.isspace():
            text, taken = extractor(tree, main_content=False, preserve_formatting=True), "full"
        facts = {**_facts(tree), "encoding": decoded.encoding, "encoding_from": decoded.said, "html": taken}
        licenses = _license_links(tree)
    except BaseException as error:
        # The parser's own slips surface as Rust panics, which derive from BaseException.
        is_panic = type(error).__name__ == "PanicException"
        if not is_panic and not isinstance(error, ValueError | RuntimeError | MemoryError):
            raise
        return Page(text=None, reason="broken_html", detail=f"{type(error).__name__}: {error}"[:200])
    if decoded.replaced:
        facts["num_replaced"] = decoded.replaced
    if licenses:
        facts["license_links"] = licenses
    return Page(text=text, facts=facts, license_declared=_declared(licenses))


def _declared(links: list[dict[str, str]]) -> str | None:
    """What the page's ``rel=license`` links say of it, when they all say one thing."""
    named = {
        link.get("spdx", link["href"]) for link in links if "license" in link.get("rel", "").lower().split()
    }
    return named.pop() if len(named) == 1 else None


def _facts(tree: Any) -> dict[str, Any]:
    document = tree.document
    links = document.query_selector_all("a[href]")
    num_links = len(links)
    addresses = (link.getattr("href") for link in _first(links, num_links, MAX_LINKS))
    found = {
        "title": _clean(tree.title, _MAX_TITLE),
        "language": _language(document),
        "num_links": num_links,
        "links": [a for a in (_clean(address, _MAX_ADDRESS) for address in addresses) if a],
    }
    return {name: value for name, value in found.items() if value not in (None, "", [])}


def _first(elements: Any, count: int, wanted: int) -> list[Any]:
    return elements[:wanted] if 0 < count <= MAX_LISTED else []


def _language(document: Any) -> str | None:
    root = document.document_element
    if root is None:
        return None
    said = root.getattr("lang") or root.getattr("xml:lang")
    if not said:
        meta = document.query_selector("meta[http-equiv='content-language' i]")
        said = meta.getattr("content") if meta is not None else None
    return _clean(said, 35)  # RFC 5646, section 4.4.1: room for any tag


def _license_links(tree: Any) -> list[dict[str, str]]:
    """Links that name a license: where they stand is evidence, whether they cover the page is not said."""
    return list(_unique(tree.document.query_selector_all(_LICENSE_SELECTOR)))[:MAX_LICENSE_LINKS]


def _unique(elements: Any) -> Iterable[dict[str, str]]:
    from headwater.licenses.web import license_of

    seen = set()
    for element in _first(elements, len(elements), 4 * MAX_LICENSE_LINKS):
        href = _clean(element.getattr("href"), _MAX_ADDRESS)
        rel = _clean(element.getattr("rel"), 80)
        if href and (href, rel) not in seen:
            seen.add((href, rel))
            text = _clean(element.text, 120) if element.tag == "a" else None
            known = license_of(href)
            said = {"href": href, "rel": rel, "tag": element.tag, "text": text}
            said["spdx"] = known[0] if known else None
            yield {name: value for name, value in said.items() if value}


def _clean(value: str | None, limit: int) -> str | None:
    if not value:
        return None
    return _SPACE.sub(" ", value[: 4 * limit]).strip()[:limit] or None


def _utf8(text: str) -> bytes:
    # Lone surrogates come out of no decoder here except the permissive ones of UTF-16.
    return text.encode("utf-8", "replace")


def require() -> None:
    """Raise MissingExtra where the extractor is not installed."""
    _resiliparse()


def _resiliparse() -> tuple[Any, Any]:
    try:
        from resiliparse.extract.html2text import extract_plain_text
        from resiliparse.parse.html import HTMLTree
    except ImportError as error:
        raise MissingExtra.of("resiliparse", "web") from error
    return HTMLTree, extract_plain_text
