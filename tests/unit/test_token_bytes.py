"""Bytes of text per token: what they add up to is the text, whatever the tokenizer."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import UsageError
from headwater.token_bytes import bytes_per_token
from headwater.tokenizer import EOS, Encoder, train

tokenizers = pytest.importorskip("tokenizers")

TEXTS = [
    "def f(x):\n    return x + 1\n",
    "naïve café, 東京 🙂",
    "a  b\t\tc\r\n",
    "the theme of the thesis",
] * 8


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(train([TEXTS], 400), fast=False)


@given(text=st.text(max_size=80))
@settings(max_examples=200, deadline=None)
def test_the_tokens_of_a_text_add_up_to_its_bytes(encoder: Encoder, text: str) -> None:
    sizes = bytes_per_token(encoder)
    ids = encoder.encode(pa.array([text], pa.large_string())).to_pylist()[0]
    assert sizes[ids].sum() == len(text.encode())


def test_special_tokens_are_no_text(encoder: Encoder) -> None:
    more = encoder.with_special_tokens(["<|good|>"])
    sizes = bytes_per_token(more)
    assert len(sizes) == more.vocab_size
    assert [sizes[more.special_id(name)] for name in (EOS, "<|good|>")] == [0, 0]
    assert sizes[encoder.encode(pa.array([EOS], pa.large_string())).to_pylist()[0]].sum() == len(EOS)


def test_sentencepiece_tokens_count_spaces_and_bytes() -> None:
    vocab = {"<unk>": 0, EOS: 1, "<0xE2>": 2, "\u2581the": 3, "é": 4, "\u2581\u2581": 5}
    model = tokenizers.models.BPE(vocab, [], byte_fallback=True, unk_token="<unk>")
    library = tokenizers.Tokenizer(model)
    decoders = tokenizers.decoders
    library.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback()])
    library.add_special_tokens(["<unk>", EOS])
    sizes = bytes_per_token(Encoder(library.to_str(), fast=False))
    assert sizes.tolist() == [0, 0, 1, 4, 2, 2]


def test_a_tokenizer_that_loses_bytes_is_refused(encoder: Encoder) -> None:
    content = json.loads(encoder.json)
    content["decoder"] = {"type": "WordPiece", "prefix": "##", "cleanup": True}
    with pytest.raises(UsageError, match="decodes by WordPiece"):
        bytes_per_token(Encoder(json.dumps(content), fast=False))
