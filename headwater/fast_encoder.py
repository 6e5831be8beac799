"""gigatoken as the encoder of a ``tokenizer.json``, where its ids are those of Hugging Face ``tokenizers``.

The two are compared when an encoder is made, on texts that break encoders, and again on the first texts of
every run (:meth:`FastEncoder.check`). One difference, and the slower one encodes: it defines the ids.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ids = tuple[npt.NDArray[np.unsignedinteger[Any]], npt.NDArray[np.int64]]
"""All ids of a batch one after the other, and the number of each text's."""

CHECK_BYTES = 1 << 18
"""Real text compared at the start of a run: 0.15 s at the 1.7 MB/s of ``tokenizers``."""

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
        made = FastEncoder(gigatoken.Tokenizer.from_json(_without_special_tokens(tokenizer_json)))
        return (made, "") if agrees(made, list(PROBES), reference) else (None, "gigatoken gives other ids")
    except Exception as error:  # a Rust library of a 0.x version: whatever it says, the reference can encode
        return None, f"gigatoken cannot read this tokenizer ({type(error).__name__})"


def agrees(fast: FastEncoder, texts: list[str], reference: Callable[[list[str]], list[list[int]]]) -> bool:
    """Whether both give the same ids for every text."""
    ids, counts = fast.encode(pa.array(texts, pa.large_string()))
    wanted = reference(texts)
    flat = [i for each in wanted for i in each]
    return bool(counts.tolist() == [len(each) for each in wanted] and ids.tolist() == flat)


def _without_special_tokens(tokenizer_json: str) -> str:
    """The same tokenizer that takes no part of a text for a special token.

    A document that spells ``<|endoftext|>`` must not be able to end itself.
    """
    content = json.loads(tokenizer_json)
    added = content.get("added_tokens") or []
    content["added_tokens"] = [token for token in added if not token.get("special")]
    return json.dumps(content, ensure_ascii=False)
