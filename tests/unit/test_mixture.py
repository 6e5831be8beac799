"""Mixtures: shares exact to the token, epochs without gaps, and errors that name the part or document."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import NotApproved, UnknownName, UsageError
from headwater.lake import Lake, Provenance
from headwater.sequences import plan
from headwater.sequences.held_out import HELD_OUT_SEED
from headwater.sequences.mixture import largest_total, quotas, supply

pytest.importorskip("tokenizers")

from pack_lake import curate, doc_id, mix, positions, small_pack, spans, write_base

LENGTHS = {f"{'abc'[i % 3]}{i}": 3 + (i * 37) % 90 for i in range(45)}
NAMES = {s: [n for n in LENGTHS if n[0] == s] for s in "abc"}
ONE = {s: sum(LENGTHS[n] + 1 for n in names) for s, names in NAMES.items()}
NAME_OF = {doc_id(n): n for n in LENGTHS}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(tmp_path / "lake")
    write_base(lake, LENGTHS)
    curate(lake, LENGTHS)
    return lake


# -- arithmetic -----------------------------------------------------------------------------------

Shares = st.lists(st.integers(1, 1_000), min_size=1, max_size=6).map(
    lambda weights: {f"p{i}": Fraction(w, sum(weights)) for i, w in enumerate(weights)}
)


@given(shares=Shares, total=st.integers(0, 10**12))
def test_quotas_sum_to_the_token(shares: dict[str, Fraction], total: int) -> None:
    got = quotas(shares, total)
    assert sum(got.values()) == total
    assert all(abs(got[part] - share * total) < 1 for part, share in shares.items())


@given(shares=Shares, data=st.data())
def test_the_largest_total_is_the_largest(shares: dict[str, Fraction], data: st.DataObject) -> None:
    available = {part: data.draw(st.integers(0, 10**6)) for part in shares}
    most = largest_total(shares, available)
    assert all(quotas(shares, most)[part] <= available[part] for part in shares)
    assert any(share * (most + 1) > available[part] for part, share in shares.items())


def test_supply_counts_whole_and_begun_epochs() -> None:
    assert supply(100, 2.5, {}, {}).left == (100, 100, 50)
    assert supply(100, 0.25, {}, {}).left == (25,)
    assert supply(100, 2.5, {0: 0, 2: 80}, {0: 100, 2: 20}).left == (0, 100, 30)
    assert supply(100, 1, {0: 40, 1: 90}, {0: 60, 1: 10}).left == (40,)


# -- pack -----------------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_shares_are_exact_and_epochs_complete(data: st.DataObject) -> None:
    weights = [data.draw(st.integers(1, 20)) for _ in "abc"]
    caps = {s: data.draw(st.sampled_from([0.3, 1, 1.5, 2, 3])) for s in "abc"}
    shares = {s: Fraction(w, sum(weights)) for s, w in zip("abc", weights, strict=True)}
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Path(folder) / "lake")
        write_base(lake, LENGTHS)
        curate(lake, LENGTHS)
        mix(lake, {s: (float(shares[s]), caps[s], NAMES[s]) for s in "abc"})
        most = min(
            int((int(caps[s]) * ONE[s] + int((Fraction(str(caps[s])) % 1) * ONE[s])) / shares[s])
            for s in "abc"
        )
        total = data.draw(st.one_of(st.none(), st.integers(1, most - 3)))
        report = small_pack(
            lake, "mix", tokens_total=total, method=data.draw(st.sampled_from(["chunk", "best-fit"]))
        )
        found = spans(lake)
        counts = positions(found)
        got = Counter(NAME_OF[key[0]][0] for key in counts)
        wanted = sum(got.values())
        assert report.num_tokens == wanted and abs(wanted - (total or most)) <= (0 if total else 3)
        assert all(abs(got[s] - shares[s] * wanted) < 1.001 for s in "abc")
        assert max(counts.values()) == 1 and {s["source"] for s in found} <= set("abc")
        assert {s: p["tokens"] for s, p in report.mixture.items()} == {s: got[s] for s in "abc"}
        assert report.sources == dict(got)
        for part in "abc":
            epochs: dict[str, set[int]] = {}
            cut = 0
            for (i, epoch, _), _n in counts.items():
                if NAME_OF[i][0] == part:
                    epochs.setdefault(NAME_OF[i], set()).add(epoch)
            deepest = max((max(e) for e in epochs.values()), default=0)
            for name in NAMES[part]:
                own = epochs.get(name, set())
                assert own == set(range(len(own))), "an epoch is missing"
                assert len(own) in (deepest, deepest + 1), "repeated before all were seen"
                for epoch in own:
                    size = sum(1 for key in counts if key[:2] == (doc_id(name), epoch))
                    cut += size != LENGTHS[name] + 1
                    assert {(doc_id(name), epoch, at) for at in range(size)} <= set(counts), (
                        "cut at the end only"
                    )
            assert cut <= 1


def test_the_result_is_that_of_the_rows_not_of_their_order(lake: Lake, tmp_path: Path) -> None:
    digests = set()
    for turn in range(3):
        rng = np.random.default_rng(turn)
        parts = {
            s: (w, 2.0, [NAMES[s][i] for i in rng.permutation(len(NAMES[s]))])
            for s, w in (("b", 0.5), ("a", 0.2), ("c", 0.3))
        }
        mix(lake, dict(sorted(parts.items(), reverse=bool(turn))))
        report = small_pack(lake, "mix", name=f"try{turn}", shuffle_memory=[1 << 28, 1 << 12, 1 << 14][turn])
        digests.add((report.sequences_digest, lake.table(f"try{turn}_exposures").digest))
        assert bool(report.shuffle["bytes_written"]) == bool(turn)
    assert len(digests) == 1


@pytest.mark.parametrize("threads", [1, 7])
def test_the_result_does_not_depend_on_threads(
    lake: Lake, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = duckdb.connect
    mix(lake, {"a": (0.4, 2, NAMES["a"]), "b": (0.6, 2, NAMES["b"])})
    expected = small_pack(lake, "mix", name="before").sequences_digest
    calls = []

    def connect(config: dict[str, Any]) -> duckdb.DuckDBPyConnection:
        calls.append(threads)
        return real(config={**config, "threads": threads})

    monkeypatch.setattr(duckdb, "connect", connect)
    assert small_pack(lake, "mix").sequences_digest == expected and calls


def test_a_pack_that_fails_leaves_the_lake_and_no_scratch(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_pack(lake)
    before = {name: lake.table(name).ref for name in ("tokens", "sequences", "exposures")}
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    real, seen = plan.pack_pieces, []

    def breaks(*arguments: Any) -> Iterator[pa.RecordBatch]:
        for batch in real(*arguments):
            yield batch
            seen.extend(path.name for path in scratch.iterdir())
            raise OSError("the disk is full")

    monkeypatch.setattr(plan, "pack_pieces", breaks)
    with pytest.raises(OSError, match="the disk is full"):
        small_pack(lake, seed=1, shuffle_memory=1 << 12)
    assert seen and not list(scratch.iterdir())
    assert {name: lake.table(name).ref for name in before} == before


def test_a_curriculum_goes_before_the_hash(lake: Lake) -> None:
    levels = [None if n == "a0" else float(LENGTHS[n] // 30) for s in "ab" for n in NAMES[s]]
    mix(lake, {"a": (0.5, 1, NAMES["a"]), "b": (0.5, 1, NAMES["b"])}, curriculum=levels)
    small_pack(lake, "mix", sequence_length=4)
    by_document = {}
    for row in lake.table("sequences").to_arrow().to_pylist():
        for s in row["spans"]:
            by_document.setdefault(s["doc_id"], []).append(row["sequence_index"])
    # Sequences are shuffled in windows, and this corpus is one: the packer's order shows in `pieces` instead.
    from headwater.sequences.mixture import check_mixture
    from headwater.sequences.order import Wanted, open_order
    from headwater.sequences.source import open_source

    source = open_source(lake, "mix", require_approved=False)
    wanted = Wanted(seed=0, parts=check_mixture(source.table))
    with open_order(lake, source, lake.table("tokens"), wanted) as order:
        ids = [i for batch in order.pieces(with_tokens=True) for i in batch["doc_id"].to_pylist()]
    assert set(ids) == set(by_document)
    level = {doc_id(n): (1, 0) if n == "a0" else (0, LENGTHS[n] // 30) for n in LENGTHS}
    assert ids == sorted(ids, key=lambda i: (level[i], xxhash.xxh3_64_intdigest(i, 0), i))


def test_parts_have_control_tokens_and_forms_of_their_own(lake: Lake) -> None:
    control = ["<|good|>"] * len(NAMES["a"]) + [None] * len(NAMES["b"])
    rates = [0.0] * len(NAMES["a"]) + [1.0] * len(NAMES["b"])
    mix(
        lake,
        {"a": (0.5, 1, NAMES["a"]), "b": (0.5, 1, NAMES["b"])},
        control=control,
        fim_rate=pa.array(rates, pa.float32()),
    )
    report = small_pack(lake, "mix")
    assert report.control_tokens == ["<|good|>"] and report.num_control > 0 and report.num_fim > 0
    forms = {(s["source"], s["form"] > 0) for s in spans(lake)}
    assert ("a", True) not in forms and ("b", True) in forms
    with pytest.raises(UsageError, match="gathered"):
        small_pack(lake, "mix", gather=True)


def test_parts_from_two_base_tables_share_the_tokens(lake: Lake) -> None:
    write_base(lake, {"w1": 50, "w2": 9}, "raw.web")
    curate(lake, ["w1", "w2"], "web_good", "raw.web")
    mix(
        lake,
        {"code": (0.5, 1, NAMES["a"]), "web": (0.5, 8, ["w1", "w2"])},
        inputs=("python_textbook", "web_good"),
    )
    first = small_pack(lake, "mix")
    assert first.num_encoded == len(NAMES["a"]) + 2
    second = small_pack(lake, name="all_code")
    assert second.num_encoded == len(LENGTHS) - len(NAMES["a"]) and second.num_removed == 0
    assert lake.exists("all_code_exposures") and not lake.exists("all_code_held_out")
    third = small_pack(lake, "mix")
    assert not third.changed and third.sequences == first.sequences
    write_base(lake, {"w1": 50}, "raw.web")
    assert small_pack(lake, name="all_code").num_removed == 1, "gone from its base table"
    with pytest.raises(UnknownName, match=doc_id("w2").hex()):
        mix(
            lake,
            {"code": (0.5, 1, NAMES["a"]), "web": (0.5, 8, ["w1", "w2"])},
            inputs=("python_textbook", "raw.web"),
        )
        small_pack(lake, "mix")


def bad(lake: Lake, **columns: Any) -> None:
    rows = {
        "doc_id": pa.array([doc_id("a0"), doc_id("b1")], pa.binary(16)),
        "part": ["a", "b"],
        "share": [0.5, 0.5],
        "max_epochs": [1.0, 1.0],
    }
    lake.write(
        "mix",
        pa.table({**rows, **columns}),
        provenance=Provenance(kind="model", inputs=(lake.table("python_textbook").ref,)),
    )


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"share": [0.5, 0.4]}, r"sum to 0\.9: a 0\.5, b 0\.4"),
        ({"share": [1.5, -0.5]}, r"part 'b' .* share -0\.5"),
        ({"max_epochs": [1.0, 0.0]}, r"part 'b' .* max_epochs 0"),
        ({"part": ["a", "a"], "share": [0.5, 0.6]}, r"part 'a' .* several values of share: 0\.5 and 0\.6"),
        ({"share": pa.array([0.5, None])}, "no share in 1 rows, document " + doc_id("b1").hex()),
        ({"part": pa.array(["a", None])}, "no part in 1 rows"),
        ({"doc_id": pa.array([doc_id("a0")] * 2, pa.binary(16))}, doc_id("a0").hex() + " .* parts 'a' and 'b'"),
        ({"doc_id": pa.array([doc_id("a0")] * 2, pa.binary(16)), "part": ["a", "a"], "share": [1.0, 1.0]}, "part 'a' several times"),
    ],
)  # fmt: skip
def test_a_mixture_that_makes_no_sense_is_refused(lake: Lake, columns: dict[str, Any], says: str) -> None:
    bad(lake, **columns)
    with pytest.raises(UsageError, match=says):
        small_pack(lake, "mix")
    assert not lake.exists("sequences")


def test_a_part_that_cannot_fill_its_share_is_named(lake: Lake) -> None:
    mix(lake, {"a": (0.9, 1, NAMES["a"]), "b": (0.1, 1, NAMES["b"])})
    most = int(ONE["a"] / Fraction("0.9"))
    with pytest.raises(
        UsageError, match=rf"part 'a' cannot fill .*{ONE['a']:,} an epoch and max_epochs 1"
    ) as caught:
        small_pack(lake, "mix", tokens_total=most + 10)
    assert f"at most {most:,} tokens" in str(caught.value)
    assert small_pack(lake, "mix", tokens_total=most).num_tokens == most
    with pytest.raises(UsageError, match="tokens_total keeps them exact"):
        small_pack(lake, "mix", limit_tokens=10)
    with pytest.raises(UsageError, match="no mixture"):
        small_pack(lake, tokens_total=10)
    with pytest.raises(NotApproved):
        small_pack(lake, "mix", require_approved=True)


# -- the validation split -------------------------------------------------------------------------


def test_no_cluster_stands_on_both_sides(lake: Lake) -> None:
    cluster = {n: doc_id(f"k{i // 3}") for i, n in enumerate(LENGTHS)}
    ids = pa.array([doc_id(n) for n in LENGTHS], pa.binary(16))
    clusters = pa.table({"doc_id": ids, "cluster_id": pa.array(list(cluster.values()), pa.binary(16))})
    lake.write(
        "duplicate_clusters", clusters, provenance=Provenance(inputs=(lake.table("raw.documents").ref,))
    )
    curate(lake, LENGTHS, extra=("duplicate_clusters",))
    lake.write(
        "duplicate_clusters", clusters.slice(0, 3)
    )  # a later version that the table was not built from
    report = small_pack(lake, hold_out=0.3, seed=9)
    train, held = ({NAME_OF[s["doc_id"]] for s in spans(lake, t)} for t in ("sequences", "held_out"))
    assert train | held == set(LENGTHS) and not train & held and held
    assert not {cluster[n] for n in train} & {cluster[n] for n in held}
    assert held == {
        n for n in LENGTHS if xxhash.xxh3_64_intdigest(cluster[n], HELD_OUT_SEED) < int(0.3 * 2**64)
    }
    assert report.clusters == "dev.duplicate_clusters@1" and report.held_out_documents == len(held)
    assert lake.table("held_out").provenance.extra["split"] == "held_out"
    assert positions(spans(lake, "held_out")) == Counter(
        {(doc_id(n), 0, at): 1 for n in held for at in range(LENGTHS[n] + 1)}
    )
    digest = lake.table("held_out").digest
    small_pack(lake, hold_out=0.3, seed=2, fim_rate=0.5)
    assert lake.table("held_out").digest == digest, "the same rows whatever the order is"
    more = small_pack(lake, hold_out=0.6)
    assert (
        held < {NAME_OF[s["doc_id"]] for s in spans(lake, "held_out")}
        and more.num_documents < report.num_documents
    )
    small_pack(lake)
    assert lake.table("held_out").num_rows == 0, "nothing is held out of this order any more"
    curate(lake, LENGTHS, "other", extra=("duplicate_clusters",))
    mix(lake, {"a": (1.0, 1, NAMES["a"])}, inputs=("python_textbook", "other"))
    with pytest.raises(UsageError, match="clusters that differ"):
        small_pack(lake, "mix", hold_out=0.1)


def test_names_that_belong_to_others_are_refused(lake: Lake) -> None:
    for name in ("tokens", "python_textbook", "approvals"):
        with pytest.raises(UsageError):
            small_pack(lake, name=name)
    lake.write("mine", lake.table("python_textbook").to_arrow())
    with pytest.raises(UsageError, match="not made by pack"):
        small_pack(lake, name="mine")


def test_a_tokenizer_by_its_id(lake: Lake) -> None:
    first = small_pack(lake)
    assert small_pack(lake, tokenizer=first.tokenizer_id, name="again").tokenizer_id == first.tokenizer_id
