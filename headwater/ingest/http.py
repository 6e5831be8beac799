"""HTTP messages as crawlers store them: header fields, chunks and compressed bodies, all bounded."""

from __future__ import annotations

import io
import re
import zlib
from dataclasses import dataclass
from typing import Any

MAX_HEADER_BYTES = 64 << 10
_END = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(rb"HTTP/\d(?:\.\d)? +(\d{3})\b")
_CHUNK_SIZE = re.compile(rb"\s*([0-9a-fA-F]{1,15})[^\n]{0,1024}\n")
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([a-zA-Z0-9_:.\-]{1,40})", re.IGNORECASE)
_READ_BYTES = 64 << 10
_NATIVE = {"br": "BrotliReader", "zstd": "ZstdReader"}
_GZIP_MAGIC = b"\x1f\x8b"


class BrokenMessage(ValueError):
    """The bytes are no HTTP response, or its body cannot be decoded."""


class TooLarge(ValueError):
    """The decoded body passes the limit."""


@dataclass(frozen=True, slots=True)
class Response:
    """``fields``: by lower-case name, the first of each. ``body``: as stored, still encoded."""

    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def content_type(self) -> str | None:
        """``text/html``: lower case, without parameters."""
        return self.fields.get("content-type", "").partition(";")[0].strip().lower()[:100] or None

    @property
    def charset(self) -> str | None:
        """What ``Content-Type`` says."""
        return charset_of(self.fields.get("content-type", ""))


def charset_of(content_type: str) -> str | None:
    """The ``charset`` parameter of a content type."""
    found = _CHARSET.search(content_type[:1_000])
    return found[1] if found else None


def parse_response(message: bytes) -> Response:
    """Status line, fields and body. Raises BrokenMessage."""
    end = _END.search(message, 0, MAX_HEADER_BYTES)
    status = _STATUS.match(message)
    if status is None or end is None:
        raise BrokenMessage("no HTTP response")
    fields: dict[str, str] = {}
    for line in message[: end.start()].split(b"\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            fields.setdefault(name.strip().lower().decode("latin-1"), value.strip().decode("latin-1"))
    return Response(int(status[1]), fields, message[end.end() :])


def decoded_body(response: Response, max_bytes: int) -> bytes:
    """The body without transfer and content encoding, of at most ``max_bytes``.

    A crawler may have decoded the body and kept the header: a body that is not chunked or compressed is taken
    as it is.

    Raises
    ------
    BrokenMessage, TooLarge
    """
    body = response.body
    if "chunked" in response.fields.get("transfer-encoding", "").lower():
        body = _dechunk(body)
    for encoding in reversed(response.fields.get("content-encoding", "").lower().split(",")[:3]):
        body = _decompress(body, encoding.strip(), max_bytes)
    if len(body) > max_bytes:
        raise TooLarge(f"limit {max_bytes} bytes")
    return body


def _dechunk(body: bytes) -> bytes:
    parts: list[bytes] = []
    at = 0
    while (found := _CHUNK_SIZE.match(body, at, at + 1_100)) is not None:
        size = int(found[1], 16)
        if size == 0:
            return b"".join(parts)
        parts.append(body[found.end() : found.end() + size])
        at = found.end() + size + 2
        if at > len(body) + 2:
            raise BrokenMessage("a chunk breaks off")
    if not parts:
        return body
    raise BrokenMessage("chunks break off")


def _decompress(body: bytes, encoding: str, max_bytes: int) -> bytes:
    if encoding in ("", "identity", "none", "utf-8"):
        return body
    if encoding in ("gzip", "x-gzip", "deflate"):
        is_raw = encoding == "deflate" and (not body or body[0] & 0x0F != 8)  # as some servers send it
        if encoding != "deflate" and not body.startswith(_GZIP_MAGIC):
            return body
        return _inflated(body, encoding, -15 if is_raw else 47, max_bytes)
    if encoding not in _NATIVE:
        raise BrokenMessage(f"unknown content encoding {encoding[:20]!r}")
    from fastwarc import stream_io

    reader: Any = getattr(stream_io, _NATIVE[encoding])(io.BytesIO(body))
    found = bytearray()
    try:
        while data := reader.read(_READ_BYTES):
            found += data
            if len(found) > max_bytes:
                raise TooLarge(f"limit {max_bytes} bytes")
    except (OSError, RuntimeError, EOFError) as error:
        raise BrokenMessage(f"{encoding} body breaks off after {len(found)} bytes") from error
    return bytes(found)


def _inflated(body: bytes, encoding: str, window_bits: int, max_bytes: int) -> bytes:
    decoder = zlib.decompressobj(window_bits)
    try:
        data = decoder.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise BrokenMessage(f"{encoding} body: {error}") from error
    if len(data) > max_bytes:
        raise TooLarge(f"limit {max_bytes} bytes")
    if not decoder.eof:
        raise BrokenMessage(f"{encoding} body breaks off after {len(data)} bytes")
    return data
