"""From a page's bytes to text: which character set, told by whom.

The order is that of the HTML standard (section 13.2.3.2): byte order mark, HTTP header, ``meta``, and only
then a guess, by resiliparse's detector.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from typing import Any

from headwater.errors import MissingExtra

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_META_BYTES = 1_024
"""Where the standard looks for a ``meta`` that declares the character set."""
_META = re.compile(
    rb"<meta[^>]{0,512}?charset\s{0,16}=\s{0,16}[\"']?\s{0,16}([a-zA-Z0-9_:.\-]{1,40})", re.IGNORECASE
)

_DEFAULTS = ("cp1252", "iso8859-1")

Said = str
"""``bom``, ``http``, ``meta``, or ``detected``."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """Text without a byte order mark. ``replaced``: bytes that were no text became U+FFFD, so many."""

    text: str
    encoding: str
    said: Said
    replaced: int = 0


def decode_page(data: bytes, http_charset: str | None) -> Decoded:
    """Decode by the first of the four that decodes without error; else by the first, with U+FFFD.

    A header that says Latin-1, the default of many servers, does not count against text that is UTF-8: by
    chance no longer text in another character set is (RFC 3629, section 3).
    """
    for mark, name in _BOMS:
        if data.startswith(mark):
            return _decoded(data[len(mark) :], name, "bom", "replace")
    meta = _META.search(data[:_META_BYTES])
    named = [("http", http_charset), ("meta", meta[1].decode("ascii") if meta else None)]
    known = [(said, codec) for said, name in named if name and (codec := codec_of(name))]
    if not known or (known[0][1] in _DEFAULTS and not data.isascii()):
        known.append(("detected", "utf-8"))
        known.sort(key=lambda one: one[1] != "utf-8")
    for said, codec in known:
        try:
            return _decoded(data, codec, said, "strict")
        except (UnicodeDecodeError, ValueError):
            continue
    said, codec = next((one for one in known if one[0] != "detected"), ("detected", ""))
    return _decoded(data, codec or _detect(data), said, "replace")


def codec_of(label: str) -> str | None:
    """Python's name for a character set label, as browsers understand labels (``latin1`` is cp1252)."""
    from_label = _encoding().map_encoding_to_html5(label.strip().lower()[:40], fallback_utf8=False)
    if from_label is None:
        return None
    try:
        found = codecs.lookup(from_label)
    except (LookupError, ValueError):
        return None
    # A few codecs (hex, zip, rot13, unicode_escape, idna) do not decode characters.
    is_charset = getattr(found, "_is_text_encoding", True) and "escape" not in found.name
    return found.name if is_charset and found.name not in ("idna", "punycode", "undefined") else None


def _detect(data: bytes) -> str:
    return codec_of(_encoding().detect_encoding(data) or "") or "cp1252"


def _decoded(data: bytes, codec: str, said: Said, errors: str) -> Decoded:
    text = data.decode(codec, errors)
    return Decoded(text, codec, said, text.count("\ufffd") if errors == "replace" else 0)


def _encoding() -> Any:
    try:
        from resiliparse.parse import encoding
    except ImportError as error:
        raise MissingExtra.of("resiliparse", "web") from error
    return encoding
