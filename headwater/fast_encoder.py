"""gigatoken as the encoder of a ``tokenizer.json``, where its ids are those of Hugging Face ``tokenizers``.

The two are compared when an encoder is made, on texts that break encoders, and again on the first texts of
every run (:meth:`headwater.tokenizer.Encoder.check`). One difference, and the slower one encodes: it defines
the ids. They know different editions of Unicode, so a text with a character between these editions is left
to the slower one, always (:func:`newer_than_reference`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headwater.special_tokens import listed, without_special_tokens

Ids = tuple[npt.NDArray[np.unsignedinteger[Any]], npt.NDArray[np.int64]]
"""All ids of a batch one after the other, and the number of each text's."""

CHECK_BYTES = 1 << 18
"""Real text compared at the start of a run: 0.15 s at the 1.7 MB/s of ``tokenizers``."""

NEWER = (
    (0x88F, 0x88F), (0xC5C, 0xC5C), (0xCDC, 0xCDC), (0x1ACF, 0x1AEB), (0x20C1, 0x20C1), (0x2B96, 0x2B96),
    (0xA7CE, 0xA7D4), (0xA7F1, 0xA7F1), (0x10940, 0x10959), (0x10EC5, 0x10ED8), (0x10EFA, 0x10EFB),
    (0x11B60, 0x11B67), (0x11DB0, 0x11DE9), (0x16EA0, 0x16ED3), (0x16FF2, 0x16FF6), (0x187F8, 0x187FF),
    (0x18D09, 0x18D1E), (0x18D80, 0x18DF2), (0x1CCFA, 0x1CCFC), (0x1CEBA, 0x1CEF0), (0x1E6C0, 0x1E6FF),
    (0x1F6D8, 0x1F6D8), (0x1F777, 0x1F77A), (0x1F8D0, 0x1F8D8), (0x1FA54, 0x1FA57), (0x1FA8A, 0x1FA8E),
    (0x1FAC8, 0x1FACD), (0x1FAEA, 0x1FAEF), (0x1FBFA, 0x1FBFA), (0x2B73A, 0x2B73F), (0x2CEA2, 0x2CEAD),
    (0x323B0, 0x33479),
)  # fmt: skip
"""Characters that Unicode 17 added, with a few neighbours. gigatoken 0.10 takes them for the letters, digits
and marks that they are, tokenizers 0.23 for unknown signs, so they split a text in other places."""

_NEWER = "[" + "".join(rf"\x{{{first:X}}}-\x{{{last:X}}}" for first, last in NEWER) + "]"

PROBES = (
    "",
    " ",
    "\n\n\t  \n",
    "Hello world, it's  a test\u2026 don't they'll I'VE",
    "def f(x):\n    return  x ** 2  # 12345 1_000_000\n\n\n",
    "a\x00b\x07\x7f\u200d\u200b\ufeff",
    "\r\nwindows\r\nlines\r",
    "<|endoftext|> <|fim_prefix|><|endoftext|>",
    "漢字かな交じり文。テスト123",
    "e\u0301 \u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd \u202eabc",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f600\U0001f600",
    "\u00a0\u2003\u3000x\u2028y\u2029z\x85",
    "0123456789" * 30 + " ½²३",
    "x" * 3_000 + " " * 300 + "\n" * 300 + "/" * 300,
)


class FastEncoder:
    """gigatoken over one tokenizer; make it with :func:`fast_encoder`."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def encode(self, texts: pa.Array) -> Ids:
        """Ids of every text (strings without nulls), by every core; no Python object for each."""
        import awkward

        found = self._tokenizer.encode_batch(awkward.from_arrow(texts.cast(pa.large_string()))).layout
        offsets = np.asarray(found.offsets.data if hasattr(found.offsets, "data") else found.offsets)
        offsets = offsets.astype(np.int64)
        ids = (
            np.asarray(found.content.data)[offsets[0] : offsets[-1]]
            if len(offsets)
            else np.empty(0, np.uint32)
        )
        return ids, np.diff(offsets)


def fast_encoder(
    tokenizer_json: str, reference: Callable[[list[str]], list[list[int]]]
) -> tuple[FastEncoder | None, str]:
    """The fast encoder, and ``""``; or None, and why there is none.

    Parameters
    ----------
    tokenizer_json: content of the ``tokenizer.json``.
    reference: ids of texts under Hugging Face ``tokenizers``, special tokens in a text spelled out.
    """
    try:
        import awkward  # noqa: F401
        import gigatoken
    except ImportError:
        return None, "gigatoken is not installed: pip install 'headwater[train]'"
    try:
        made = FastEncoder(gigatoken.Tokenizer.from_json(without_special_tokens(tokenizer_json)))
        probes = [*PROBES, *(f"{token} x{token}{token}" for token in listed(tokenizer_json))]
        return (made, "") if agrees(made, probes, reference) else (None, "gigatoken gives other ids")
    except Exception as error:  # a Rust library of a 0.x version: whatever it says, the reference can encode
        return None, f"gigatoken cannot read this tokenizer ({type(error).__name__})"


def newer_than_reference(texts: pa.Array) -> npt.NDArray[np.bool_]:
    """Which texts (strings without nulls) hold a character that only gigatoken knows."""
    found = ~np.asarray(pc.string_is_ascii(texts).to_numpy(zero_copy_only=False), dtype=np.bool_)
    if found.any():
        some = texts.filter(pa.array(found))
        found[found] = pc.match_substring_regex(some, _NEWER).to_numpy(zero_copy_only=False)
    return found


def agrees(fast: FastEncoder, texts: list[str], reference: Callable[[list[str]], list[list[int]]]) -> bool:
    """Whether both give the same ids for every text."""
    ids, counts = fast.encode(pa.array(texts, pa.large_string()))
    wanted = reference(texts)
    flat = [i for each in wanted for i in each]
    return bool(counts.tolist() == [len(each) for each in wanted] and ids.tolist() == flat)
