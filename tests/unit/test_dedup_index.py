"""The index of near-duplicates in the lake: when it is used, when everything is built anew, what it records."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import xxhash

from headwater.dedup import IncrementalPairs, estimate_near_duplicates, near_duplicate_pairs
from headwater.dedup.caps import CAPS
from headwater.dedup.estimate import memory_setting
from headwater.dedup.index import index_rows
from headwater.errors import UsageError
from headwater.kernels.pairs import rows_with_keys
from headwater.lake import Lake, Provenance
from headwater.models import ModelSpec, materialize
from headwater.operators import operator
from headwater.session import ModelResult, Session


def words(start: int, stop: int) -> str:
    return " ".join(f"w{i}" for i in range(start, stop))


TEXTS = {i: words(i, i + 120) for i in range(0, 1200, 3)} | {
    f"x{i}": words(9000 + 200 * i, 9099 + 200 * i) for i in range(50)
}


def documents(names: list[Any], texts: dict[Any, str] = TEXTS) -> pa.Table:
    ids = [xxhash.xxh3_128_digest(str(name).encode()) for name in names]
    table = {
        "doc_id": pa.array(ids, pa.binary(16)),
        "text": pa.array([texts[n] for n in names], pa.large_string()),
    }
    return pa.table(table | {"text_bytes": pa.array([len(texts[n]) for n in names], pa.int64())})


def signatures_of(docs: pa.Table, **settings: int) -> pa.Table:
    fields = operator("minhash_signature")(docs["text"], **settings).flatten()
    names = ["doc_id", "num_shingles", "shingle_set_hash", "minhash"]
    return pa.table([docs["doc_id"], *fields], names=names)


class Project:
    """Documents, signatures, and the model of pairs as a build materializes it."""

    def __init__(self, folder: Path) -> None:
        self.lake = Lake(folder, schema="dev")

    def documents(self, docs: pa.Table, fingerprint: str = "1", **settings: int) -> None:
        self.lake.write("raw.documents", docs)
        signed = signatures_of(docs, **settings)
        self.lake.write("signatures", signed, provenance=Provenance(fingerprint=fingerprint))

    def build(self, *, full_refresh: bool = False, source: str = "floor 0.7", **options: Any) -> ModelResult:
        session = Session(self.lake, full_refresh=full_refresh)
        session.pin_all()
        con = duckdb.connect()
        session.register_all(con)
        session.create_views(con)
        pairs = IncrementalPairs(
            signatures=session.table("signatures"),
            documents=session.table("raw.documents"),
            **{"threshold": 0.7, **options},
        )
        spec = ModelSpec(
            name="dev.pairs", sql=None, source=source, inputs=("raw.documents", "dev.signatures")
        )
        result = materialize(session, con, spec, pairs)
        con.close()
        return result

    def check(self, docs: pa.Table, threshold: float = 0.7) -> None:
        whole = near_duplicate_pairs(docs, threshold=threshold)
        rows = self.lake.table("pairs").to_arrow().sort_by([("a", "ascending"), ("b", "ascending")])
        assert rows.equals(whole)
        assert whole.num_rows > 100


NAMES: list[Any] = list(TEXTS)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "lake")
    made.documents(documents(NAMES[20:]))
    assert made.build().status == "built"
    return made


def test_a_build_extends_what_stands(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    lake = project.lake
    assert project.build().status == "unchanged"
    everything = documents(NAMES)
    project.documents(everything)
    with caplog.at_level(logging.INFO, "headwater"):
        result = project.build()
    assert result.status == "extended" and not caplog.records  # a prediction is for what takes long
    assert "20 documents came, 0 went" in result.message
    project.check(everything)
    pairs, index = lake.table("pairs"), lake.table("pairs_index")
    assert pairs.version == 2 and index.version == 2  # one commit each
    assert index.num_rows == len(NAMES)
    assert pairs.provenance.extra["index"]["digest"] == index.digest
    assert {ref.name for ref in pairs.provenance.inputs} == {"raw.documents", "dev.signatures"}
    assert [ref.name for ref in index.provenance.inputs] == ["dev.signatures"]
    assert project.build().status == "unchanged"
    # other documents, same pairs: the record moves, the rows do not
    lonely = {**TEXTS, "lonely": "a text like no other in all of this corpus"}
    project.documents(documents([*NAMES, "lonely"], lonely))
    result = project.build()
    assert result.status == "unchanged" and "no pair changed" in result.message
    assert lake.table("pairs").digest == pairs.digest
    assert project.build().status == "unchanged"


@pytest.mark.parametrize("what", ["full refresh", "floor", "caps", "signatures", "num_perm"])
def test_what_is_asked_for_anew_is_built_anew(project: Project, what: str) -> None:
    docs = documents(NAMES)
    if what == "full refresh":
        project.documents(docs)
        assert project.build(full_refresh=True).status == "built"
        project.check(docs)
    elif what == "floor":
        assert project.build(source="floor 0.8", threshold=0.8).status == "built"
        project.check(documents(NAMES[20:]), threshold=0.8)
    elif what == "caps":
        project.documents(docs)
        assert project.build(caps=CAPS._replace(group=2)).status == "built"
    elif what == "signatures":
        project.documents(docs, fingerprint="2")
        assert project.build().status == "built"
    else:
        project.documents(docs, num_perm=128)
        assert project.build().status == "built"
        project.check(docs)


@pytest.mark.parametrize("what", ["dropped", "newer", "of the former layout"])
def test_an_index_that_does_not_belong_is_not_used(project: Project, what: str) -> None:
    lake, docs = project.lake, documents(NAMES)
    index = lake.table("pairs_index")
    if what == "dropped":
        lake.drop("pairs_index")
    elif what == "newer":  # the build that wrote it was killed before it wrote the pairs
        lake.update("pairs_index", remove=index.to_arrow()["doc_id"].slice(0, 3))
    else:
        pairs = lake.table("pairs")
        narrow = pairs.to_arrow().drop_columns("kind")
        lake.write("pairs", narrow, provenance=replace(pairs.provenance, kind="model"))
    project.documents(docs)
    assert project.build().status == "built"
    project.check(docs)
    assert lake.table("pairs").provenance.extra["index"]["digest"] == lake.table("pairs_index").digest


def test_a_text_that_changed_under_its_id(project: Project) -> None:
    changed = {**TEXTS, 300: words(303, 423), 600: words(20_000, 20_100), "x1": TEXTS["x2"]}
    project.documents(documents(NAMES[20:], changed))
    result = project.build()
    assert result.status == "extended" and "3 documents came, 3 went" in result.message
    project.check(documents(NAMES[20:], changed))


def test_a_doubled_document_is_an_error_as_in_a_full_build(project: Project) -> None:
    docs = documents(NAMES)
    project.documents(pa.concat_tables([docs, docs.slice(0, 1)]))
    with pytest.raises(UsageError, match="more than once"):
        project.build()


def test_from_nothing_to_nothing(tmp_path: Path) -> None:
    project = Project(tmp_path / "lake")
    project.documents(documents([]))
    assert project.build().status == "built"
    docs = documents(NAMES)
    project.documents(docs)
    assert project.build().rows > 100
    project.check(docs)
    project.documents(documents([]))
    assert project.build().rows == 0


def test_signatures_of_two_lengths() -> None:
    docs = documents(NAMES[:4])
    mixed = [*signatures_of(docs).to_batches(), *signatures_of(docs, num_perm=128).to_batches()]
    with pytest.raises(UsageError, match="num_perm"):
        index_rows(mixed, 0.8).read_all()


def test_rows_with_keys_finds_them_all() -> None:
    rng = np.random.default_rng(3)
    bands = rng.integers(0, 1 << 32, (500, 28), dtype=np.uint32)
    wanted = np.unique(
        np.concatenate([bands[::7].reshape(-1), np.array([0, (1 << 32) - 1], dtype=np.uint32)])
    )
    for bits in (3, 12, 20):
        rows, keys = rows_with_keys(bands, wanted, bits)
        expected = [(r, k) for r in range(len(bands)) for k in bands[r] if k in set(wanted.tolist())]
        assert list(zip(rows.tolist(), keys.tolist(), strict=True)) == [(r, int(k)) for r, k in expected]


def test_the_prediction_is_logged_before_a_full_build(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    project = Project(tmp_path / "lake")
    docs = documents(NAMES)
    project.documents(docs)
    with caplog.at_level(logging.INFO, "headwater"):
        project.build()
    (record,) = caplog.records
    line = record.getMessage()
    assert line.startswith(f"dev.pairs: {len(NAMES):,} documents") and "of memory" in line and "disk" in line


def test_predictions_follow_their_inputs() -> None:
    small = estimate_near_duplicates(10_000, 10**8, threads=2)
    large = estimate_near_duplicates(1_000_000, 10**10, threads=2)
    assert large.pair_seconds == pytest.approx(100 * small.pair_seconds)
    assert large.temporary_bytes == pytest.approx(100 * small.temporary_bytes, rel=1e-6)
    assert estimate_near_duplicates(10_000, 10**8, threads=1).seconds == pytest.approx(2 * small.seconds)
    bounded = estimate_near_duplicates(1_000_000, 10**10, memory_bytes=1 << 28)
    assert bounded.peak_memory_bytes < large.peak_memory_bytes < bounded.temporary_bytes
    assert "1,000,000 documents, 10.0 GB of text" in str(large)
    assert "TB" in str(estimate_near_duplicates(10**10, 10**14)) and " h" in str(
        estimate_near_duplicates(10**8, 10**13)
    )


def test_the_memory_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, expected in (
        ("", 1 << 30),
        ("768MB", 768_000_000),
        ("2 GiB", 2 << 30),
        ("1.5g", 1_500_000_000),
        ("42", 42),
    ):
        monkeypatch.setenv("HEADWATER_MEMORY", text)
        assert memory_setting() == expected
    monkeypatch.setenv("HEADWATER_MEMORY", "much")
    with pytest.raises(UsageError, match="HEADWATER_MEMORY"):
        memory_setting()
