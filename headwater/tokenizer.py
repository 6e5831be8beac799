"""Byte-level BPE tokenizers as artifacts of the lake: trained once, named by the digest of their JSON.

Hugging Face ``tokenizers`` trains them and defines the ids; gigatoken encodes where its ids are the same
(``headwater.fast_encoder``). Ids go to Arrow in batches bounded by bytes, so that no run holds more
encodings than one batch.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from headwater.errors import BadInput, DataMismatch, MissingExtra
from headwater.fast_encoder import CHECK_BYTES, FastEncoder, agrees, fast_encoder, newer_than_reference
from headwater.special_tokens import EOS as EOS
from headwater.special_tokens import FIM_TOKENS as FIM_TOKENS
from headwater.special_tokens import SPECIAL_TOKENS as SPECIAL_TOKENS
from headwater.special_tokens import add_special_tokens, text_part
from headwater.token_spelling import Spelling, spelling_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

ENCODE_BYTES = 4 << 20
"""Text encoded at once: an encoding costs some 90 bytes a token, so this is about 110 MB."""

TOKENIZERS = pa.schema(
    {
        "tokenizer_id": pa.string(),
        "json": pa.large_string(),
        "vocab_size": pa.int32(),
        "eos_id": pa.int32(),
        "special_tokens": pa.list_(pa.string()),
        "trained_on": pa.string(),
        "trained_version": pa.int64(),
        "trained_digest": pa.string(),
        "settings": pa.string(),
    }
)
"""Columns of ``<schema>.tokenizers``; ``trained_*`` are null for one that was brought along."""


def token_type(vocab_size: int) -> pa.DataType:
    """The narrowest stored type: uint16 up to 65,535 ids (2 bytes a token, and the fastest to read)."""
    return pa.uint16() if vocab_size <= 65_535 else pa.uint32()


def canonical_json(text: str) -> str:
    """The same tokenizer file with sorted keys and no spacing: what the id is a digest of.

    Raises ``BadInput`` when it is not JSON.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise BadInput(f"the tokenizer is not valid JSON: {error}", hint="give a tokenizer.json") from error
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def train(texts: Iterable[list[str]], vocab_size: int) -> str:
    """Train a byte-level BPE on batches of texts; returns its canonical JSON.

    Byte-level, so that every text can be encoded and decoded without loss. The result depends on the
    texts only, not on threads or batches.
    """
    tokenizers = _library()
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    model.train_from_iterator(texts, trainer=trainer)
    return canonical_json(model.to_str())


class Encoder:
    """A tokenizer ready to encode.

    Parameters
    ----------
    text:
        Content of a ``tokenizer.json``. Must hold ``<|endoftext|>``, unless ``documents`` is False: then it
        encodes texts that no end of a document will follow.
    fast:
        Encode by gigatoken where its ids are equal; False leaves it aside.

    Attributes
    ----------
    why_slow: why ``tokenizers`` encodes and not gigatoken; empty when gigatoken does.
    """

    def __init__(self, text: str, *, fast: bool = True, documents: bool = True) -> None:
        self.json = canonical_json(text)
        try:
            self._tokenizer: Tokenizer = _library().Tokenizer.from_str(self.json)
        except Exception as error:  # the library raises bare Exception
            raise BadInput(
                f"not a tokenizer that the tokenizers library reads: {error}", hint="give a tokenizer.json"
            ) from error
        eos = self._tokenizer.token_to_id(EOS)
        if eos is None and documents:
            raise BadInput(
                f"the tokenizer has no {EOS} token to close documents with",
                hint=f"add {EOS!r} to its special tokens",
            )
        self.eos_id: int = -1 if eos is None else eos
        # A document that spells "<|endoftext|>" must not be able to end itself.
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._wants_fast = fast
        self._fast: FastEncoder | None = None
        self.why_slow = "gigatoken was not asked for"
        if fast:
            self._fast, self.why_slow = fast_encoder(self.json, self._reference)

    @property
    def encoder(self) -> str:
        """The library that encodes."""
        return "gigatoken" if self._fast is not None else "tokenizers"

    def check(self, texts: pa.Array) -> None:
        """Compare both encoders on the first texts to come; where they differ, the slower one goes on."""
        if self._fast is None:
            return
        first = next(by_bytes(texts, CHECK_BYTES), texts.slice(0, 0)).fill_null("")
        some = first.filter(pa.array(~newer_than_reference(first))).to_pylist()
        if not agrees(self._fast, [text[: 4 * CHECK_BYTES] for text in some], self._reference):
            self._fast, self.why_slow = None, "gigatoken gives other ids on these texts"

    @cached_property
    def tokenizer_id(self) -> str:
        """xxh3-128 of the canonical JSON, 32 hex digits."""
        return xxhash.xxh3_128_hexdigest(self.json.encode())

    @cached_property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    @property
    def dtype(self) -> pa.DataType:
        return token_type(self.vocab_size)

    @cached_property
    def special_tokens(self) -> list[str]:
        added = self._tokenizer.get_added_tokens_decoder()
        return [added[i].content for i in sorted(added)]

    @cached_property
    def _special_ids(self) -> dict[str, int]:
        added = self._tokenizer.get_added_tokens_decoder()
        return {token.content: i for i, token in added.items() if token.special}

    def special_id(self, name: str) -> int:
        """The id of a special token. Raises ``BadInput`` when there is none of that name."""
        found = self._special_ids.get(name)
        if found is None:
            raise BadInput(
                f"the tokenizer has no special token {name!r}; it has {sorted(self._special_ids)}",
                hint="Encoder.with_special_tokens adds it, or give a tokenizer.json that has it",
            )
        return found

    def is_special(self, token: int) -> bool:
        """Whether ``token`` is one that no text is encoded to."""
        return token in self._special_ids.values()

    def with_special_tokens(self, names: Iterable[str]) -> Encoder:
        """The same tokenizer with these special tokens, the missing ones at the end of its vocabulary.

        A token that is there but matches text becomes special: from then on a text that spells it stays
        text, which is another :attr:`text_id`. Raises ``BadInput`` for an empty name.
        """
        missing = [name for name in dict.fromkeys(names) if name not in self._special_ids]
        if not missing:
            return self
        if "" in missing:
            raise BadInput("a special token needs a name", hint="for instance '<|good|>'")
        known = self._tokenizer.get_vocab(with_added_tokens=True)
        text, ids = add_special_tokens(self.json, missing, known, self.vocab_size)
        made = Encoder(text, fast=self._wants_fast, documents=self.eos_id >= 0)
        wrong = [name for name, i in ids.items() if made._special_ids.get(name) != i]
        if wrong:
            raise BadInput(
                f"the tokenizers library gives {wrong} other ids than the next free ones",
                hint="the vocabulary has gaps; add the tokens with the program that made it",
            )
        return made

    @cached_property
    def text_id(self) -> str:
        """xxh3-128 of what decides the ids of a text, 32 hex digits.

        Special tokens never match a text here, and documents are encoded without what a template adds:
        tokenizers that differ in these only give every text the same ids.
        """
        return xxhash.xxh3_128_hexdigest(canonical_json(text_part(self.json)).encode())

    @cached_property
    def spelling(self) -> Spelling | None:
        """The bytes of each id, ``data[offsets[id] : offsets[id + 1]]``, none for special tokens.

        ``None`` unless the tokenizer is byte-level: others do not say which bytes a token stands for.
        """
        return spelling_of(self.json, self.vocab_size)

    def decode(self, ids: Iterable[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def encode(self, texts: pa.Array) -> pa.ListArray:
        """Token ids of each text, without end-of-text tokens: ``list<uint16 | uint32>``."""
        parts: list[np.ndarray[Any, Any]] = []
        lengths: list[np.ndarray[Any, Any]] = []
        for piece in by_bytes(texts, ENCODE_BYTES):
            ids, counts = self._encode_piece(piece.fill_null(""))
            parts.append(ids.astype(self.dtype.to_pandas_dtype(), copy=False))
            lengths.append(counts)
        flat = np.concatenate([np.empty(0, self.dtype.to_pandas_dtype()), *parts])
        offsets = np.concatenate([[0], np.cumsum(np.concatenate([np.empty(0, np.int64), *lengths]))])
        return pa.ListArray.from_arrays(
            pa.array(offsets.astype(np.int32)), pa.array(flat, self.dtype), type=pa.list_(self.dtype)
        )

    def _encode_piece(self, texts: pa.Array) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Ids of all texts one after the other, and the number of each one's."""
        if self._fast is None:
            return self._encode_batch(texts.to_pylist())
        apart = newer_than_reference(texts)
        if not apart.any():
            return self._fast.encode(texts)
        fast_ids, fast_counts = self._fast.encode(texts.filter(pa.array(~apart)))
        slow_ids, slow_counts = self._encode_batch(texts.filter(pa.array(apart)).to_pylist())
        counts = np.empty(len(texts), dtype=np.int64)
        counts[apart], counts[~apart] = slow_counts, fast_counts
        is_slow = np.repeat(apart, counts)
        ids = np.empty(len(is_slow), dtype=self.dtype.to_pandas_dtype())
        ids[is_slow], ids[~is_slow] = slow_ids, fast_ids
        return ids, counts

    def _reference(self, texts: list[str]) -> list[list[int]]:
        found = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in found]

    def _encode_batch(self, texts: list[str]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        pieces = [cut_text(text) for text in texts]
        owners = np.repeat(np.arange(len(texts)), [len(p) for p in pieces])
        flat = [piece for each in pieces for piece in each]
        ids, counts = [], []
        for batch in _text_batches(flat):
            for encoding in self._tokenizer.encode_batch_fast(batch, add_special_tokens=False):
                found = np.array(encoding.ids, dtype=self.dtype.to_pandas_dtype())
                ids.append(found)
                counts.append(len(found))
        lengths = np.bincount(owners, weights=counts, minlength=len(texts)).astype(np.int64)
        return np.concatenate(ids), lengths

    def row(self, *, trained_on: Any = None, settings: dict[str, Any] | None = None) -> pa.Table:
        """The row of ``<schema>.tokenizers`` for it; ``trained_on`` is a ``TableRef`` or ``None``."""
        row = {
            "tokenizer_id": self.tokenizer_id,
            "json": self.json,
            "vocab_size": self.vocab_size,
            "eos_id": self.eos_id,
            "special_tokens": self.special_tokens,
            "trained_on": trained_on.name if trained_on else None,
            "trained_version": trained_on.version if trained_on else None,
            "trained_digest": trained_on.digest if trained_on else None,
            "settings": json.dumps(settings or {}, sort_keys=True),
        }
        return pa.Table.from_pylist([row], schema=TOKENIZERS)


def load(lake: Any, tokenizer_id: str) -> Encoder:
    """The tokenizer of that id from the lake's ``tokenizers`` table.

    Raises ``DataMismatch`` when it is not there, or is not what its id says.
    """
    table = lake.table("tokenizers")
    rows = table.to_arrow(["json"], filter=f"tokenizer_id = '{tokenizer_id}'").to_pylist()
    found = Encoder(rows[0]["json"]) if rows else None
    if found is None or found.tokenizer_id != tokenizer_id:
        has = found.tokenizer_id if found else "none of that id"
        raise DataMismatch(
            f"expected tokenizer {tokenizer_id}, {table.ref} has {has}",
            hint="pack again, with the tokenizer.json that was used",
        )
    return found


_SAFE_CUT = re.compile(r"(?<=[A-Za-z])(?= [A-Za-z])")
"""Before the one space between two words: byte-level pre-tokenizers (GPT-2's and those after it) begin a
piece there whatever stands around, so cutting leaves the ids as they are. No cut lies at a longer run of
white space, which is split according to what follows it."""


def cut_text(text: str, limit: int = ENCODE_BYTES) -> list[str]:
    """A huge text in pieces of about ``limit`` characters that encode to the same ids; most texts whole."""
    pieces, start = [], 0
    while len(text) - start > limit:
        found = _SAFE_CUT.search(text, start + limit)
        if found is None:
            break
        pieces.append(text[start : found.start()])
        start = found.start()
    return [*pieces, text[start:]]


def _text_batches(texts: list[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        if batch and size + len(text) > ENCODE_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text)
    if batch:
        yield batch


def by_bytes(texts: pa.Array, limit: int) -> Iterator[pa.Array]:
    """Slices of ``texts`` of about ``limit`` bytes, at least one text each."""
    if len(texts) == 0:
        return
    offsets = np.concatenate([[0], np.cumsum(pc.binary_length(texts).fill_null(0).to_numpy())])
    start = 0
    while start < len(texts):
        end = int(np.searchsorted(offsets, offsets[start] + limit, side="right")) - 1
        end = min(max(end, start + 1), len(texts))
        yield texts.slice(start, end - start)
        start = end


def _library() -> Any:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # or it warns when a process forks later
    try:
        import tokenizers
    except ImportError as error:
        raise MissingExtra.of("tokenizers", "train") from error
    return tokenizers
