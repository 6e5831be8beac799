"""The bytes that the ids of a byte-level tokenizer stand for, as arrays: decoding without a Python object."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt

Spelling = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]
"""Data and offsets: id t spells ``data[offsets[t] : offsets[t + 1]]``."""


def byte_alphabet() -> dict[str, int]:
    """The byte that each character of a byte-level vocabulary (GPT-2's and those after it) stands for.

    A byte that is a visible Latin-1 character is written as itself, the others from U+0100 on in order.
    """
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + n): byte for n, byte in enumerate(others)}


def spelling_of(tokenizer_json: str, vocab_size: int) -> Spelling | None:
    """What each id spells; nothing for special tokens and for ids that are not in use.

    ``None`` unless the tokenizer decodes by its byte-level alphabet alone: others do not say which bytes a
    token stands for.
    """
    content = json.loads(tokenizer_json)
    if _decoders(content.get("decoder")) != ["ByteLevel"] or not isinstance(content["model"]["vocab"], dict):
        return None
    bytes_of = byte_alphabet()
    spelled = [b""] * vocab_size
    for token, i in content["model"]["vocab"].items():
        found = [bytes_of.get(character, -1) for character in token]
        spelled[i] = b"" if -1 in found else bytes(found)
    for token in content.get("added_tokens") or []:
        spelled[token["id"]] = b"" if token["special"] else token["content"].encode()
    offsets = np.concatenate([[0], np.cumsum([len(each) for each in spelled])]).astype(np.int64)
    return np.frombuffer(b"".join(spelled), dtype=np.uint8), offsets


def _decoders(decoder: dict[str, Any] | None) -> list[str]:
    if decoder is None:
        return []
    if decoder["type"] == "Sequence":
        return [kind for each in decoder["decoders"] for kind in _decoders(each)]
    return [str(decoder["type"])]
