"""Control tokens: added to any tokenizer without touching the ids of text, and first in their document."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import BadInput, UsageError
from headwater.fast_encoder import PROBES
from headwater.lake import Lake, Provenance
from headwater.sequences.forms import unform
from headwater.sequences.packing import PackCounts, Packing, pack_pieces

tokenizers = pytest.importorskip("tokenizers")

from headwater.tokenizer import EOS, FIM_TOKENS, SPECIAL_TOKENS, Encoder, load, train  # noqa: E402

TEXTS = [
    path.read_text(encoding="utf-8")
    for path in sorted(Path(pytest.__file__).parent.parent.glob("_pytest/*.py"))
]
CONTROL = ["<|good|>", "<|bad|>"]
BASE = Encoder(train([TEXTS[:12]], 600))
MADE = BASE.with_special_tokens(CONTROL)


def word_level(vocabulary: dict[str, int]) -> Encoder:
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0, **vocabulary}, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.add_special_tokens([EOS])
    return Encoder(made.to_str())


def column(texts: list[str]) -> pa.Array:
    return pa.array(texts, pa.large_string())


def test_a_trained_tokenizer_can_fill_the_middle() -> None:
    assert [BASE.special_id(name) for name in SPECIAL_TOKENS] == [0, 1, 2, 3]
    assert BASE.special_tokens == list(SPECIAL_TOKENS) and BASE.eos_id == 0
    assert BASE.with_special_tokens(FIM_TOKENS) is BASE


def test_new_tokens_stand_at_the_end_and_move_no_text() -> None:
    assert [MADE.special_id(name) for name in CONTROL] == [600, 601] and MADE.vocab_size == 602
    assert MADE.tokenizer_id != BASE.tokenizer_id and MADE.text_id == BASE.text_id
    texts = column([*TEXTS[:20], *PROBES])
    assert MADE.encode(texts).equals(BASE.encode(texts))
    one_by_one = BASE.with_special_tokens(CONTROL[:1]).with_special_tokens(CONTROL)
    assert one_by_one.json == MADE.json and MADE.with_special_tokens(reversed(CONTROL)) is MADE
    assert [i for i in range(602) if MADE.is_special(i)] == [0, 1, 2, 3, 600, 601]


def test_other_merges_are_other_text() -> None:
    assert Encoder(train([TEXTS[:12]], 601)).text_id != BASE.text_id


def test_a_text_that_spells_a_special_token_stays_text() -> None:
    fast, slow = MADE, Encoder(MADE.json, fast=False)
    assert (fast.encoder, fast.why_slow, slow.encoder) == ("gigatoken", "", "tokenizers")
    texts = column([f"{name}{name} x {name}\n{name}" for name in (*CONTROL, *SPECIAL_TOKENS)])
    ids = fast.encode(texts)
    assert ids.equals(slow.encode(texts)) and ids.equals(BASE.encode(texts))
    assert not any(MADE.is_special(i) for i in ids.values.to_pylist())
    assert [MADE.decode(each) for each in ids.to_pylist()] == texts.to_pylist()


@given(
    st.lists(
        st.one_of(st.sampled_from([*CONTROL, *SPECIAL_TOKENS, " ", "\n"]), st.text(max_size=8)), max_size=9
    )
)
@settings(max_examples=150, deadline=None)
def test_no_text_becomes_a_special_token(parts: list[str]) -> None:
    texts = column(["".join(parts)])
    ids = MADE.encode(texts)
    assert ids.equals(BASE.encode(texts))
    assert not set(ids.values.to_pylist()) & {0, 1, 2, 3, 600, 601}


def test_a_token_that_matched_text_is_made_special_and_that_is_another_text_id() -> None:
    """Some published tokenizers list their fill-in-the-middle tokens as ordinary ones."""
    content = json.loads(BASE.json)
    plain = {"special": False, "normalized": False, "lstrip": False, "rstrip": False, "single_word": False}
    content["added_tokens"].append({"id": 600, "content": "<|good|>", **plain})
    loose = Encoder(json.dumps(content))
    text = column(["a<|good|>b"])
    assert 600 in loose.encode(text).values.to_pylist()
    with pytest.raises(BadInput, match="no special token"):
        loose.special_id("<|good|>")
    made = loose.with_special_tokens(["<|good|>"])
    assert made.special_id("<|good|>") == 600 and made.vocab_size == loose.vocab_size
    assert made.encode(text).equals(BASE.encode(text))
    assert made.text_id == BASE.text_id != loose.text_id


def test_it_is_kept_in_the_lake_under_its_own_id(tmp_path: Path) -> None:
    lake = Lake(tmp_path, schema="dev")
    lake.write("tokenizers", pa.concat_tables([BASE.row(), MADE.row()]), provenance=Provenance(kind="log"))
    found = load(lake, MADE.tokenizer_id)
    assert found.special_id("<|bad|>") == 601 and found.text_id == BASE.text_id
    assert MADE.row()["special_tokens"].to_pylist() == [[*SPECIAL_TOKENS, *CONTROL]]


def test_a_vocabulary_with_gaps_and_an_empty_name_are_refused() -> None:
    with pytest.raises(BadInput, match="needs a name"):
        BASE.with_special_tokens([""])
    with pytest.raises(BadInput, match="other ids"):
        word_level({"a": 1, "b": 900}).with_special_tokens(["<|good|>"])


# -- in documents ----------------------------------------------------------------------------------


def pieces(texts: list[str], control: list[int], rate: float = 0.0) -> pa.RecordBatch:
    tokens = BASE.encode(column(texts))
    return pa.record_batch(
        {
            "doc_id": pa.array([bytes([i] * 16) for i in range(len(texts))], pa.binary(16)),
            "source": pa.array(["s"] * len(texts)),
            "control": pa.array(control, pa.int32()),
            "fim_rate": pa.array([rate] * len(texts), pa.float32()),
            "num_tokens": pa.array(np.diff(tokens.offsets.to_numpy()), pa.int32()),
            "tokens": tokens,
        }
    )


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_the_control_token_comes_first_in_its_document(rate: float) -> None:
    counts = PackCounts()
    texts = ["x = 1\n", "y = [2, 3]\n", "z\n"]
    batch = pieces(texts, [600, -1, 601], rate)
    made = list(pack_pieces(Packing(sequence_length=400), MADE, [batch], counts))
    row = made[0].to_pylist()[0]
    assert counts.num_control == 2 and counts.num_tokens == sum(span["length"] for span in row["spans"])
    at = 0
    for span, text, control in zip(row["spans"], texts, (600, None, 601), strict=True):
        tokens = row["tokens"][at : at + span["length"]]
        at += span["length"]
        assert span["start"] == 0 and tokens[-1] == MADE.eos_id
        assert tokens[0] == control or (control is None and not MADE.is_special(tokens[0])) or rate
        assert (tokens[0] if tokens[0] >= 600 else None) == control
        assert unform(tokens, span["form"], MADE) == text
        assert (span["form"] > 0) == (rate > 0)


def test_a_piece_from_behind_the_control_token_lacks_it() -> None:
    batch = pieces(["x = 1\n"], [600]).append_column("start", pa.array([1], pa.int32()))
    counts = PackCounts()
    (made,) = pack_pieces(Packing(sequence_length=100), MADE, [batch], counts)
    row = made.to_pylist()[0]
    assert row["spans"][0]["start"] == 1 and counts.num_control == 0
    assert row["tokens"][: counts.num_tokens] == [*batch["tokens"][0].as_py(), 0]


def test_gathered_orders_have_none() -> None:
    with pytest.raises(UsageError, match="gather=False"):
        list(pack_pieces(Packing(sequence_length=8, gather=True), MADE, [pieces(["x"], [600])]))


def test_ids_that_no_longer_fit_into_16_bits() -> None:
    """Stored tokens stay narrow, the sequences become wide."""
    base = word_level({f"w{i}": i for i in range(1, 65_534)})
    assert base.vocab_size == 65_535 and base.dtype == pa.uint16()
    made = base.with_special_tokens(CONTROL)
    assert made.dtype == pa.uint32() and made.text_id == base.text_id
    batch = pa.record_batch(
        {
            "doc_id": pa.array([bytes(16)], pa.binary(16)),
            "source": pa.array(["s"]),
            "control": pa.array([made.special_id("<|bad|>")], pa.int32()),
            "num_tokens": pa.array([2], pa.int32()),
            "tokens": pa.array([[7, 65_533]], pa.list_(pa.uint16())),
        }
    )
    for method in ("chunk", "best-fit"):
        (packed,) = pack_pieces(Packing(sequence_length=4, method=method), made, [batch])
        assert packed["tokens"].to_pylist() == [[65_536, 7, 65_533, made.eos_id]]
