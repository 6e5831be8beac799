"""Filling the middle: every arrangement of real code gives its text back, and only the seed decides which."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import xxhash

from headwater.errors import BadInput, DataMismatch, UsageError
from headwater.sequences.forms import FORMS, PLAIN, PSM, SPM, random_bits, unform
from headwater.sequences.packing import PackCounts, Packing, pack_pieces

pytest.importorskip("tokenizers")

from headwater.tokenizer import EOS, FIM_TOKENS, Encoder, train

CODE = [
    path.read_text(encoding="utf-8")
    for path in sorted(Path(pytest.__file__).parent.parent.glob("_pytest/*.py"))
]
TEXTS = [
    *(text for text in CODE[:60] if text),
    "π = 3.14  # größer\nprint('漢字かな', '\U0001f469\u200d\U0001f467')\n",
    "e\u0301" * 40,
    f"a text that spells {EOS} and {FIM_TOKENS[0]}x{FIM_TOKENS[1]}\n",
    "\n",
    "x",
]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(train([TEXTS], 1_000))


def pieces(
    encoder: Encoder, texts: list[str] = TEXTS, *, rate: float = 1.0, **columns: list[int]
) -> pa.RecordBatch:
    tokens = encoder.encode(pa.array(texts, pa.large_string()))
    ids = [xxhash.xxh3_128_digest(text.encode()) for text in texts]
    return pa.record_batch(
        {
            "doc_id": pa.array(ids, pa.binary(16)),
            "source": pa.array(["code"] * len(texts)),
            "fim_rate": pa.array([rate] * len(texts), pa.float32()),
            "num_tokens": pa.array(np.diff(tokens.offsets.to_numpy()), pa.int32()),
            "tokens": tokens,
            **{name: pa.array(values, pa.int32()) for name, values in columns.items()},
        }
    )


Documents = dict[tuple[bytes, int], tuple[int, list[int]]]


def documents_of(rows: list[pa.RecordBatch]) -> Documents:
    """Form and tokens of every document and epoch, put together from its spans, which leave no gap."""
    spans = []
    for row in (row for batch in rows for row in batch.to_pylist()):
        at = 0
        for span in row["spans"]:
            key = (span["doc_id"], span["epoch"])
            spans.append((key, span["start"], span["form"], row["tokens"][at : at + span["length"]]))
            at += span["length"]
    found: Documents = {}
    begins: dict[tuple[bytes, int], int] = {}
    for key, start, form, tokens in sorted(spans):
        held = found.setdefault(key, (form, []))
        begin = begins.setdefault(key, start)
        assert held[0] == form and start == begin + len(held[1])
        held[1].extend(tokens)
    return found


def packed(
    encoder: Encoder, batches: list[pa.RecordBatch], counts: PackCounts | None = None, **settings: object
) -> Documents:
    packing = Packing(**{"sequence_length": 256, "seed": 7, **settings})  # type: ignore[arg-type]
    return documents_of(list(pack_pieces(packing, encoder, batches, counts)))


@pytest.mark.parametrize("method", ["chunk", "best-fit"])
def test_every_arrangement_gives_its_text_back(encoder: Encoder, method: str) -> None:
    counts = PackCounts()
    found = packed(encoder, [pieces(encoder)], counts, method=method)
    texts = {xxhash.xxh3_128_digest(text.encode()): text for text in TEXTS}
    assert {key[0] for key in found} == set(texts)
    forms = Counter(form for form, _ in found.values())
    assert forms[PSM] == counts.num_psm > 10 and forms[SPM] == counts.num_spm > 10
    assert forms[PLAIN] == counts.num_fim_refused == 0
    for (doc_id, _), (form, tokens) in found.items():
        assert unform(tokens, form, encoder) == texts[doc_id]


def test_the_forms_are_what_they_are_called(encoder: Encoder) -> None:
    prefix, middle, suffix = (encoder.special_id(name) for name in FIM_TOKENS)
    found = packed(encoder, [pieces(encoder, ["abcdefgh" * 5 + str(i) for i in range(40)])])
    for form, tokens in found.values():
        body = encoder.decode(tokens)
        opening = [t for t in tokens if t in (prefix, middle, suffix, encoder.eos_id)]
        assert opening == [prefix, suffix, middle, encoder.eos_id]
        a, b, c = (body.index(name) for name in (FIM_TOKENS[0], FIM_TOKENS[2], FIM_TOKENS[1]))
        before, after = body[a + len(FIM_TOKENS[0]) : b], body[b + len(FIM_TOKENS[2]) : c]
        filled = body[c + len(FIM_TOKENS[1]) : -len(EOS)]
        if FORMS[form] == "SPM":  # suffix, then prefix and middle as one text
            assert before == "" and filled.startswith("abcdefgh"[: len(filled)])
        assert (before + filled + after).startswith("abcdefgh" * 5)


def test_cuts_fall_between_any_two_characters(encoder: Encoder) -> None:
    """Also inside of what is one token of the whole text; both ends are places as well."""
    word = "return"
    assert any(encoder.decode([i]) == " return" for i in range(encoder.vocab_size))
    text = f"    {word} {word} {word}"
    rows = [text] * 6_000
    batch = pieces(encoder, rows, epoch=list(range(6_000)))
    places = Counter()
    for form, tokens in packed(encoder, [batch]).values():
        if form == PSM:
            parts = encoder.decode(tokens)[len(FIM_TOKENS[0]) :]
            places[parts.index(FIM_TOKENS[2])] += 1
    assert {0, len(text)} <= set(places) and len(places) == len(text) + 1


def test_share_and_forms_are_as_asked(encoder: Encoder) -> None:
    texts = [f"value_{i} = {i}\n" for i in range(4_000)]
    counts = PackCounts()
    packed(encoder, [pieces(encoder, texts, rate=0.3)], counts)
    # Five standard deviations of a binomial.
    assert abs(counts.num_fim - 1_200) < 5 * (4_000 * 0.3 * 0.7) ** 0.5
    assert abs(counts.num_psm - counts.num_spm) < 5 * counts.num_fim**0.5
    none = PackCounts()
    packed(encoder, [pieces(encoder, texts, rate=0.0)], none)
    assert none.num_fim == 0


def test_batches_do_not_matter_and_seed_and_epoch_do(encoder: Encoder) -> None:
    batch = pieces(encoder, rate=0.5)
    apart = [batch.slice(i, 1) for i in range(batch.num_rows)]
    assert packed(encoder, [batch]) == packed(encoder, apart)
    assert packed(encoder, [batch]) != packed(encoder, [batch], seed=8)
    once, twice = (packed(encoder, [pieces(encoder, epoch=[e] * len(TEXTS))]) for e in (0, 1))
    assert {k[0]: v for k, v in once.items()} != {k[0]: v for k, v in twice.items()}


def test_both_encoders_arrange_alike(encoder: Encoder) -> None:
    slow = Encoder(encoder.json, fast=False)
    assert packed(encoder, [pieces(encoder)]) == packed(slow, [pieces(encoder)])


def test_a_rest_of_a_document_goes_on_where_its_first_part_ended(encoder: Encoder) -> None:
    """What a new stage asks for: the form is known, and the piece begins inside the arrangement."""
    texts = TEXTS[:9]
    whole = packed(encoder, [pieces(encoder, texts)])
    keys = [(xxhash.xxh3_128_digest(text.encode()), 0) for text in texts]
    form = [whole[key][0] for key in keys]
    half = [len(whole[key][1]) // 2 for key in keys]
    first = packed(encoder, [pieces(encoder, texts, rate=0.0, form=form, stop=half)])
    rest = packed(encoder, [pieces(encoder, texts, rate=0.0, form=form, start=half)], method="best-fit")
    for key in keys:
        assert first[key][1] + rest[key][1] == whole[key][1]


def test_a_part_of_a_document_stays_plain(encoder: Encoder) -> None:
    batch = pieces(encoder, stop=[5] * len(TEXTS))
    assert {form for form, _ in packed(encoder, [batch]).values()} == {PLAIN}


def test_a_tokenizer_that_loses_text_leaves_documents_plain() -> None:
    """SentencePiece-like ones do not say which bytes a token stands for."""
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({"[UNK]": 0, "a": 1, "b": 2, EOS: 3}, unk_token="[UNK]")
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.add_special_tokens([EOS])
    encoder = Encoder(made.to_str()).with_special_tokens(FIM_TOKENS)
    counts = PackCounts()
    found = packed(encoder, [pieces(encoder, ["a b", "a  c"])], counts)
    assert counts.num_fim_refused == 2 and counts.num_fim == 0
    assert sorted(tokens for _, tokens in found.values()) == [[1, 0, 3], [1, 2, 3]]


def test_a_tokenizer_of_the_qwen_and_llama_3_kind(encoder: Encoder) -> None:
    """Normal form C, a regular expression for words, then bytes: what the tokens spell comes back."""
    content = json.loads(encoder.json)
    content["normalizer"] = {"type": "NFC"}
    pattern = r"(?i:'s|'t|'re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    to_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, to_bytes]}
    content["decoder"] = {"type": "Sequence", "decoders": [to_bytes]}
    made = Encoder(json.dumps(content))
    counts = PackCounts()
    found = packed(made, [pieces(made)], counts)
    assert counts.num_fim_refused == 0 and counts.num_fim == len(TEXTS)
    texts = {xxhash.xxh3_128_digest(text.encode()): unicodedata.normalize("NFC", text) for text in TEXTS}
    for (doc_id, _), (form, tokens) in found.items():
        assert unform(tokens, form, made) == texts[doc_id]


def test_a_prefix_space_or_a_lost_byte_is_noticed(encoder: Encoder) -> None:
    """Byte-level tokenizers that change a text: the parts no longer spell it, so it stays plain."""
    content = json.loads(encoder.json)
    content["pre_tokenizer"]["add_prefix_space"] = True
    spaced = Encoder(json.dumps(content))
    counts = PackCounts()
    found = packed(spaced, [pieces(spaced)], counts)
    assert counts.num_fim_refused > 40
    texts = {xxhash.xxh3_128_digest(text.encode()): text for text in TEXTS}
    for (doc_id, _), (form, tokens) in found.items():
        assert form == PLAIN or unform(tokens, form, spaced).lstrip() == texts[doc_id].lstrip()


def test_tokens_that_are_no_text_stay_plain(encoder: Encoder) -> None:
    """Half a character, a special token inside, an empty document."""
    half = encoder.encode(pa.array(["漢"], pa.large_string()))[0].as_py()[:1]
    inside = [5, encoder.eos_id, 6]
    good = encoder.encode(pa.array(["x = 1"], pa.large_string()))[0].as_py()
    tokens = [half, inside, [], good]
    batch = pieces(encoder, ["1", "2", "3", "4"])
    batch = batch.set_column(4, "tokens", pa.array(tokens, pa.list_(encoder.dtype)))
    counts = PackCounts()
    found = packed(encoder, [batch], counts)
    assert counts.num_fim_refused == 3 and counts.num_fim == 1
    kept = [tokens for form, tokens in found.values() if form == PLAIN]
    assert sorted(kept) == sorted([[*half, encoder.eos_id], [*inside, encoder.eos_id], [encoder.eos_id]])


def test_a_form_that_cannot_be_had_is_an_error(encoder: Encoder) -> None:
    batch = pieces(encoder, [""], form=[PSM])
    with pytest.raises(DataMismatch, match="form PSM"):
        packed(encoder, [batch])


def test_gathered_orders_and_other_tokenizers_are_refused(encoder: Encoder) -> None:
    with pytest.raises(UsageError, match="gather=False"):
        list(pack_pieces(Packing(sequence_length=64, gather=True), encoder, [pieces(encoder)]))
    plain = json.loads(encoder.json)
    plain["added_tokens"] = plain["added_tokens"][:1]
    without = Encoder(json.dumps(plain))
    with pytest.raises(BadInput, match=r"no special token '<\|fim_prefix\|>'"):
        packed(without, [pieces(without)])


def test_unform_refuses_what_is_no_whole_document(encoder: Encoder) -> None:
    (form, tokens), *_ = packed(encoder, [pieces(encoder, TEXTS[:1])]).values()
    with pytest.raises(BadInput, match="one of each"):
        unform(tokens[: len(tokens) // 100], form, encoder)
    with pytest.raises(BadInput, match="no form 9"):
        unform(tokens, 9, encoder)


def test_the_random_words_are_fixed_for_ever() -> None:
    """Another hash would be other forms for the same seed: raise PACKING_VERSION with it."""
    ids = pa.array([bytes(16), bytes(range(16))], pa.binary(16))
    bits = random_bits(ids, np.array([0, 3], np.int32), 5)
    want = xxhash.xxh3_64_intdigest(bytes(range(16)) + (3).to_bytes(4, "little") + b"form", seed=5)
    state = (want + 0x9E3779B97F4A7C15) % 2**64
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
    assert int(bits[0, 1]) == state ^ (state >> 31)
    assert len(set(bits.ravel().tolist())) == 8
    assert np.array_equal(random_bits(ids.slice(1), np.array([3], np.int32), 5)[:, 0], bits[:, 1])
