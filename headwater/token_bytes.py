"""How many bytes of text each token id stands for: what makes losses of different tokenizers comparable."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from headwater.errors import UsageError

if TYPE_CHECKING:
    from headwater.tokenizer import Encoder

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_SPACE = "\u2581"


def bytes_per_token(encoder: Encoder) -> npt.NDArray[np.int64]:
    """Bytes of UTF-8 text of each id, (vocab_size,) int64; 0 for special tokens, which no text becomes.

    Exact for byte-level BPE: the tokens of a text stand for just its bytes. For the SentencePiece kind
    (``▁`` for a space, ``<0x0A>`` for a byte) exact but for a space that it may put before a text.

    Raises
    ------
    UsageError
        A tokenizer of another kind, which may drop or change bytes of the text.
    """
    if encoder.spelling is not None:
        return np.diff(encoder.spelling[1])
    content = json.loads(encoder.json)
    kinds = _decoders(content.get("decoder"))
    if not kinds & {"ByteFallback", "Metaspace"}:
        raise UsageError(
            "cannot tell the bytes of tokens: the tokenizer decodes by "
            f"{', '.join(sorted(kinds)) or 'nothing that is known'}",
            hint="bits per byte needs a byte-level BPE or a SentencePiece tokenizer",
        )
    found = np.zeros(encoder.vocab_size, np.int64)
    vocab = content["model"]["vocab"]  # of a Unigram model a list of [token, score]
    for i, token in enumerate(each[0] for each in vocab) if isinstance(vocab, list) else _swapped(vocab):
        found[i] = 1 if _BYTE.fullmatch(token) else len(token.replace(_SPACE, " ").encode())
    for token in content.get("added_tokens") or ():
        found[token["id"]] = 0 if token["special"] else len(token["content"].encode())
    return found


def _swapped(vocab: dict[str, int]) -> list[tuple[int, str]]:
    return [(i, token) for token, i in vocab.items()]


def _decoders(decoder: dict[str, Any] | None) -> set[str]:
    if decoder is None:
        return set()
    if decoder["type"] == "Sequence":
        return {kind for each in decoder["decoders"] for kind in _decoders(each)}
    return {str(decoder["type"])}
