"""Packing: nothing lost, the order the seed's alone, tables written only when they would change."""

from __future__ import annotations

import functools
import itertools
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import BadInput, NotApproved, UsageError
from headwater.fast_encoder import PROBES, FastEncoder
from headwater.lake import Lake, Provenance
from headwater.lake.approvals import APPROVALS_SCHEMA
from headwater.sequences import PackReport, pack, packing
from headwater.sequences.packing import SPANS, Packing, exposures_of, pack_pieces

tokenizers = pytest.importorskip("tokenizers")

from headwater.tokenizer import EOS, Encoder, cut_text, load, train  # noqa: E402

SOURCES = sorted(Path(pytest.__file__).parent.parent.glob("_pytest/*.py"))[:40]


def documents(paths: list[Path]) -> pa.Table:
    texts = [path.read_text(encoding="utf-8") or "pass\n" for path in paths]
    rows = [
        {
            "doc_id": xxhash.xxh3_128_digest(path.name.encode() + b"\0" + text.encode()),
            "text": text,
            "source": "pytest" if i % 2 else "other",
            "path": path.name,
        }
        for i, (path, text) in enumerate(sorted(zip(paths, texts, strict=True)))
    ]
    schema = pa.schema(
        {"doc_id": pa.binary(16), "text": pa.large_string(), "source": pa.string(), "path": pa.string()}
    )
    return pa.Table.from_pylist(rows, schema=schema)


def make_lake(place: Path, rows: pa.Table, *, schema: str = "dev") -> Lake:
    lake = Lake(place, schema=schema)
    curate(lake, rows)
    return lake


def curate(lake: Lake, rows: pa.Table) -> None:
    lake.write("raw.documents", rows)
    base = lake.table("raw.documents").ref
    facts = Provenance(kind="model", inputs=(base,), extra={"candidates": "documents"})
    lake.write("python_textbook", rows.select(["doc_id", "source", "path"]), provenance=facts)


def approve(lake: Lake, name: str = "python_textbook") -> None:
    ref = lake.table(name).ref
    row: dict[str, Any] = dict.fromkeys(APPROVALS_SCHEMA.names)
    row |= {"approval_id": f"{ref}", "action": "approve", "table": ref.name, "version": ref.version}
    row |= {"content_digest": ref.digest, "closure": "[]", "suites": "[]", "dbt_tests": "[]"}
    row |= {"who": "me", "why": "test", "at": datetime.now(UTC)}
    lake.write("approvals", pa.Table.from_pylist([row], schema=APPROVALS_SCHEMA), mode="append")


def small_pack(lake: Lake, **options: Any) -> PackReport:
    return pack(lake, **{"sequence_length": 64, "vocab_size": 400, **options})


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = make_lake(tmp_path / "lake", documents(SOURCES))
    approve(lake)
    return lake


# -- the kernel -----------------------------------------------------------------------------------

Batches = st.lists(st.lists(st.lists(st.integers(0, 99), max_size=30), max_size=6), max_size=6)


def batches_of(batches: list[list[list[int]]]) -> list[pa.RecordBatch]:
    made, n = [], 0
    for docs in batches:
        ids = [(n + i).to_bytes(16, "big") for i in range(len(docs))]
        n += len(docs)
        columns = {
            "doc_id": pa.array(ids, pa.binary(16)),
            "source": pa.array(["s"] * len(docs)),
            "num_tokens": pa.array([len(d) for d in docs], pa.int32()),
            "tokens": pa.array(docs, pa.list_(pa.uint16())),
        }
        made.append(pa.record_batch(columns))
    return made


class Eos:
    """What the packer asks of an encoder when nothing is rearranged."""

    eos_id, dtype = 100, pa.uint16()


def packed(batches: list[pa.RecordBatch], length: int, *, gather: bool = False) -> list[dict[str, Any]]:
    packing = Packing(sequence_length=length, gather=gather)
    return [row for b in pack_pieces(packing, Eos(), batches) for row in b.to_pylist()]


@settings(max_examples=60, deadline=None)
@given(batches=Batches, length=st.integers(2, 17))
def test_every_token_of_every_document_is_packed_once(batches: list[list[list[int]]], length: int) -> None:
    rows = packed(batches_of(batches), length)
    docs = [[*doc, 100] for batch in batches for doc in batch]
    assert [row["sequence_index"] for row in rows] == list(range(-(-sum(map(len, docs)) // length)))
    back: dict[int, dict[int, list[int]]] = {}
    for row in rows:
        at = 0
        for span in row["spans"]:
            parts = back.setdefault(int.from_bytes(span["doc_id"], "big"), {})
            assert span["start"] not in parts and span["length"] > 0
            parts[span["start"]] = row["tokens"][at : at + span["length"]]
            at += span["length"]
        assert set(row["tokens"][at:]) <= {100}
    joined = {i: [t for start in sorted(parts) for t in parts[start]] for i, parts in back.items()}
    assert joined == dict(enumerate(docs))


def test_exposures_are_the_spans_turned_around() -> None:
    packing = Packing(sequence_length=4)
    batches = pack_pieces(packing, Eos(), batches_of([[[1, 2], [3, 4, 5, 6, 7]]]))
    pairs, expected = [], []
    for batch in batches:
        pairs += [(r["doc_id"], r["sequence_index"]) for r in exposures_of(batch).to_pylist()]
        expected += [(s["doc_id"], r["sequence_index"]) for r in batch.to_pylist() for s in r["spans"]]
    assert pairs == expected and len(pairs) == 4


# -- the tokenizer --------------------------------------------------------------------------------

TEXTS = [path.read_text(encoding="utf-8") for path in SOURCES[:12]]


def test_training_and_encoding_do_not_depend_on_batches() -> None:
    encoder = Encoder(train([TEXTS], 500))
    assert encoder.json == train(([text] for text in TEXTS), 500)
    texts = pa.array(TEXTS, pa.large_string())
    whole = encoder.encode(texts)
    assert [encoder.encode(texts.slice(i, 1))[0].as_py() for i in range(len(TEXTS))] == whole.to_pylist()
    assert whole.type == pa.list_(pa.uint16())
    assert [encoder.decode(ids) for ids in whole.to_pylist()] == TEXTS


def test_a_document_cannot_spell_its_own_end() -> None:
    encoder = Encoder(train([TEXTS], 400))
    ids = encoder.encode(pa.array([f"a {EOS} b"], pa.large_string()))[0].as_py()
    assert encoder.eos_id not in ids
    assert encoder.decode(ids) == f"a {EOS} b"


def test_a_huge_text_is_cut_without_changing_its_ids() -> None:
    encoder = Encoder(train([TEXTS], 500))
    text = "".join(TEXTS) + "\n\n   \nx = 'tail'  \n\n"
    pieces = cut_text(text, 1_000)
    assert "".join(pieces) == text and len(pieces) > 50
    in_pieces = encoder.encode(pa.array(pieces, pa.large_string())).values.to_pylist()
    assert in_pieces == encoder.encode(pa.array([text], pa.large_string())).values.to_pylist()


def test_the_fast_encoder_gives_the_ids_of_the_slow_one() -> None:
    fast = Encoder(train([TEXTS], 700))
    slow = Encoder(fast.json, fast=False)
    assert (fast.encoder, fast.why_slow, slow.encoder) == ("gigatoken", "", "tokenizers")
    texts = pa.array([*PROBES, None, *TEXTS, f"{EOS}{EOS} x{EOS}"], pa.large_string())
    assert fast.encode(texts).equals(slow.encode(texts))
    assert fast.encode(texts.slice(3, 9)).equals(slow.encode(texts).slice(3, 9))


@given(st.lists(st.text(max_size=60), max_size=5))
@settings(max_examples=200, deadline=None)
def test_any_text_has_the_same_ids_under_both_encoders(texts: list[str]) -> None:
    fast, slow = _both_encoders()
    column = pa.array(texts, pa.large_string())
    assert fast.encode(column).equals(slow.encode(column))


def test_characters_that_only_one_encoder_knows_have_the_same_ids() -> None:
    """The two know different editions of Unicode; merges across a quotation mark show who splits after it.

    Every character there is but those that stand for nothing: when a new version of either library moves its
    edition, this finds it.
    """
    encoder = Encoder(_joining('"'))
    slow = Encoder(encoder.json, fast=False)
    assert (encoder.encoder, slow.encoder) == ("gigatoken", "tokenizers")
    codes = [*range(0x80, 0xD800), *range(0xE000, 0x34000), *range(0xE0000, 0xE0200)]
    texts = pa.array([f'"{chr(code)}' for code in codes], pa.large_string())
    assert encoder.encode(texts).equals(slow.encode(texts))
    mixed = pa.array(["plain", '"\U00016ebb', "", '"\u4e00 x', '"\U00016ebb"\U00033000'], pa.large_string())
    assert encoder.encode(mixed).equals(slow.encode(mixed))


def _joining(sign: str) -> str:
    """A tokenizer of bytes that joins ``sign`` and the first byte of any longer character, unless split."""
    tokenizers = pytest.importorskip("tokenizers")
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: i for i, letter in enumerate(letters)}
    leads = [
        chr(lead) for lead in range(0xC2, 0xF5)
    ]  # the byte-level alphabet writes these bytes as themselves
    merges = [(sign, lead) for lead in leads]
    vocab |= {sign + lead: len(letters) + i for i, lead in enumerate(leads)}
    model = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=merges))
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.add_special_tokens([EOS])
    return str(model.to_str())


@functools.cache
def _both_encoders() -> tuple[Encoder, Encoder]:
    fast = Encoder(train([TEXTS], 700))
    assert fast.encoder == "gigatoken"
    return fast, Encoder(fast.json, fast=False)


def test_an_encoder_with_other_ids_is_left_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder(train([TEXTS], 400))
    expected = encoder.encode(pa.array(TEXTS, pa.large_string()))
    original = FastEncoder.encode

    def wrong(self: FastEncoder, texts: pa.Array) -> object:
        ids, counts = original(self, texts)
        return ids[::-1], counts

    monkeypatch.setattr(FastEncoder, "encode", wrong)
    encoder.check(pa.array(TEXTS, pa.large_string()))
    assert encoder.encoder == "tokenizers" and "other ids on these texts" in encoder.why_slow
    assert encoder.encode(pa.array(TEXTS, pa.large_string())).equals(expected)
    assert "other ids" in Encoder(encoder.json).why_slow, "the probes see it too"


@pytest.mark.parametrize(
    ("text", "says"),
    [("{", "not valid JSON"), ("{}", "not a tokenizer"), ('{"version": 3}', "not a tokenizer")],
)
def test_a_file_that_is_no_tokenizer_is_refused(text: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        Encoder(text)


def test_a_tokenizer_without_end_of_text_is_refused() -> None:
    json = Encoder(train([TEXTS], 400)).json.replace(EOS, "<|other|>")
    with pytest.raises(BadInput, match=r"no <.endoftext.> token"):
        Encoder(json)


# -- pack -----------------------------------------------------------------------------------------


def test_pack_writes_tokens_sequences_and_exposures(lake: Lake) -> None:
    report = small_pack(lake)
    tokens, sequences = lake.table("tokens"), lake.table("sequences")
    assert report.approved and report.bypass is None and report.tokenizer_trained
    assert report.num_documents == report.num_encoded == len(SOURCES) == tokens.num_rows
    assert report.num_sequences == sequences.num_rows
    assert report.num_tokens + report.num_padding == 64 * report.num_sequences
    assert sequences.schema.field("tokens").type == pa.list_(pa.uint16(), 64)
    assert sequences.provenance.extra["tokenizer_id"] == report.tokenizer_id
    assert {ref.name for ref in sequences.provenance.inputs} == {"dev.python_textbook", "dev.tokens"}
    encoder = load(lake, report.tokenizer_id)
    rows = sequences.to_arrow().to_pylist()
    assert [row["sequence_index"] for row in rows] == list(range(len(rows)))
    assert sum(s["length"] for s in rows[-1]["spans"]) == 64 - report.num_padding
    pieces: dict[bytes, dict[int, list[int]]] = {}
    for row in rows:
        at = 0
        for span in row["spans"]:
            piece = row["tokens"][at : at + span["length"]]
            pieces.setdefault(span["doc_id"], {})[span["start"]] = piece
            at += span["length"]
    want = {row["doc_id"]: row for row in documents(SOURCES).to_pylist()}
    joined = {i: [t for start in sorted(parts) for t in parts[start]] for i, parts in pieces.items()}
    assert {i: encoder.decode(ids) for i, ids in joined.items()} == {
        i: row["text"] + EOS for i, row in want.items()
    }
    spans = [(row["sequence_index"], s) for row in rows for s in row["spans"]]
    assert all(s["source"] == want[s["doc_id"]]["source"] for _, s in spans)
    exposed = [(e["doc_id"], e["sequence_index"]) for e in lake.table("exposures").to_arrow().to_pylist()]
    assert exposed == [(s["doc_id"], i) for i, s in spans]


def by_hash(ids: list[bytes]) -> list[bytes]:
    return sorted(ids, key=lambda i: (xxhash.xxh3_64_intdigest(i, 0), i))


def test_documents_stand_in_hash_order_and_sequences_are_shuffled(lake: Lake) -> None:
    small_pack(lake)
    rows = lake.table("sequences").to_arrow(["spans"])["spans"].to_pylist()
    order = by_hash(documents(SOURCES)["doc_id"].to_pylist())
    follows = dict(itertools.pairwise(order))
    for row in rows:
        ids = [span["doc_id"] for span in row]
        assert all(follows[a] == b for a, b in itertools.pairwise(ids))
    side_by_side = sum(a[-1]["doc_id"] == b[0]["doc_id"] for a, b in itertools.pairwise(rows))
    assert side_by_side < len(rows) / 5


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.integers(1, 12))
def test_the_shuffle_is_the_same_whatever_the_batches(sizes: list[int], window: int) -> None:
    rows = sum(sizes)
    spans = pa.array(
        [[{"doc_id": bytes(16), "start": i, "length": 4, "source": ""}] for i in range(rows)], SPANS
    )
    whole = pa.record_batch({"sequence_index": pa.array(np.arange(rows)), "spans": spans})
    ends = np.cumsum(sizes)
    parts = [whole.slice(end - size, size) for end, size in zip(ends, sizes, strict=True)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "SHUFFLE_TOKENS", 4 * window)
        got = [r for b in packing.shuffle_windows(parts, 4, 1) for r in b.to_pylist()]
        one = [r for b in packing.shuffle_windows([whole], 4, 1) for r in b.to_pylist()]
    assert got == one
    assert [r["sequence_index"] for r in got] == list(range(rows))
    starts = [r["spans"][0]["start"] for r in got]
    assert [sorted(starts[i : i + window]) for i in range(0, rows, window)] == [
        list(range(i, min(i + window, rows))) for i in range(0, rows, window)
    ]


def test_a_second_pack_writes_nothing_and_says_so(lake: Lake) -> None:
    first = small_pack(lake)
    second = small_pack(lake)
    assert first.changed and not second.changed and not second.tokenizer_trained
    assert (second.tokens, second.sequences, second.exposures) == (
        first.tokens,
        first.sequences,
        first.exposures,
    )
    assert any("unchanged" in line for line in second.lines())


def test_another_length_or_seed_keeps_the_tokens(lake: Lake) -> None:
    first = small_pack(lake)
    second = small_pack(lake, sequence_length=32, seed=7)
    assert second.tokens == first.tokens and not second.tokens_changed
    assert second.sequences_changed and second.num_tokens == first.num_tokens


def test_shuffled_input_gives_the_same_digests(tmp_path: Path) -> None:
    rows = documents(SOURCES)
    order = np.random.default_rng(3).permutation(rows.num_rows)
    reports = []
    for name, table in (("a", rows), ("b", rows.take(order))):
        lake = make_lake(tmp_path / name, table)
        approve(lake)
        report = small_pack(lake)
        reports.append(
            (
                report.tokenizer_id,
                report.sequences_digest,
                lake.table("tokens").digest,
                lake.table("exposures").digest,
            )
        )
    assert reports[0] == reports[1]


def test_new_documents_are_encoded_and_gone_ones_removed(lake: Lake) -> None:
    small_pack(lake)
    rows = documents(SOURCES)
    more = documents(sorted(Path(pytest.__file__).parent.parent.glob("_pytest/*.py"))[:45])
    new = pa.concat_tables(
        [rows.slice(3), more.filter(pa.compute.invert(pa.compute.is_in(more["doc_id"], rows["doc_id"])))]
    )
    curate(lake, new)
    approve(lake)
    second = small_pack(lake)
    assert second.num_encoded == new.num_rows - (rows.num_rows - 3) > 0
    assert second.num_removed == 3
    fresh = make_lake(Path(lake.uri).parent / "fresh", new)
    approve(fresh)
    tokenizer = Path(lake.uri).parent / "tokenizer.json"
    tokenizer.write_text(load(lake, second.tokenizer_id).json)
    again = small_pack(fresh, tokenizer=tokenizer)
    assert again.tokenizer_id == second.tokenizer_id
    assert again.sequences_digest == second.sequences_digest
    assert fresh.table("tokens").digest == lake.table("tokens").digest


def test_a_limit_packs_a_prefix_of_the_order(lake: Lake) -> None:
    limited = small_pack(lake, limit_tokens=20_000)
    part = lake.table("sequences").to_arrow(["spans"])["spans"].to_pylist()
    whole = small_pack(lake)
    assert whole.num_tokens > limited.num_tokens >= 20_000
    assert limited.num_encoded + whole.num_encoded == len(SOURCES)
    ids = {span["doc_id"] for row in part for span in row}
    order = by_hash(documents(SOURCES)["doc_id"].to_pylist())
    assert ids == set(order[: len(ids)]) and limited.num_documents == len(ids)
    assert small_pack(lake, limit_tokens=20_000).sequences_digest == limited.sequences_digest


def test_unapproved_tables_are_not_packed(tmp_path: Path) -> None:
    lake = make_lake(tmp_path / "lake", documents(SOURCES[:5]))
    with pytest.raises(NotApproved):
        small_pack(lake)
    assert not lake.exists("sequences")
    report = small_pack(lake, require_approved=False)
    assert not report.approved and "python_textbook" in str(report.bypass)
    assert lake.table("sequences").provenance.extra["bypass"] == report.bypass
    approve(lake)
    later = small_pack(lake)
    assert later.approved and later.sequences_digest == report.sequences_digest
    assert lake.table("sequences").provenance.extra["approved"] is True


def test_prod_has_no_bypass(tmp_path: Path) -> None:
    lake = make_lake(tmp_path / "lake", documents(SOURCES[:5]), schema="prod")
    with pytest.raises(NotApproved, match="prod"):
        small_pack(lake, require_approved=False)


@pytest.mark.parametrize("options", [{"sequence_length": 1}, {"vocab_size": 10}, {"limit_tokens": 0}])
def test_senseless_settings_are_refused(lake: Lake, options: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        small_pack(lake, **options)


def test_an_empty_table_packs_to_no_sequences(tmp_path: Path) -> None:
    lake = make_lake(tmp_path / "lake", documents(SOURCES[:1]).slice(0, 0))
    approve(lake)
    report = small_pack(lake)
    assert (report.num_documents, report.num_tokens, report.num_sequences, report.num_padding) == (0, 0, 0, 0)
