"""Samples: the same documents everywhere, clusters whole, larger ones keep smaller ones."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pyarrow as pa
import pytest
import xxhash

import headwater as hw
from headwater.errors import UnknownName, UsageError
from headwater.ingest import ingest
from headwater.sample import sample


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> hw.Lake:
    """Real files of two sources, every fifth of which stands in a cluster of four."""
    lake = hw.Lake(tmp_path_factory.mktemp("whole") / "lake")
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    for folder in ("json", "asyncio", "email"):
        ingest(lake, "folder", stdlib / folder, source=folder)
    ids = sorted(lake.table("raw.documents").to_arrow(["doc_id"])["doc_id"].to_pylist())
    cluster = {
        doc_id: min(ids[i // 4 * 4 : i // 4 * 4 + 4]) if i // 4 % 2 else doc_id
        for i, doc_id in enumerate(ids)
    }
    clusters = {
        "doc_id": pa.array(ids, pa.binary(16)),
        "cluster_id": pa.array([cluster[i] for i in ids], pa.binary(16)),
    }
    lake.write("duplicate_clusters", pa.table(clusters))
    return lake


def taken(lake: hw.Lake) -> set[bytes]:
    return set(lake.table("raw.documents").to_arrow(["doc_id"])["doc_id"].to_pylist())


def clusters_of(lake: hw.Lake) -> dict[bytes, bytes]:
    rows = lake.table("duplicate_clusters").to_arrow()
    return dict(zip(rows["doc_id"].to_pylist(), rows["cluster_id"].to_pylist(), strict=True))


def test_the_hash_of_the_cluster_decides(lake: hw.Lake, tmp_path: Path) -> None:
    report = sample(lake, str(tmp_path / "ci"), share=0.3, seed=5)
    cluster = clusters_of(lake)
    expected = {d for d, c in cluster.items() if xxhash.xxh3_64_intdigest(c, seed=5) < int(0.3 * 2**64)}
    assert taken(hw.Lake(tmp_path / "ci")) == expected
    assert report.documents == len(expected) and report.closed_over == "dev.duplicate_clusters@1"
    small = hw.Lake(tmp_path / "ci").table("raw.documents")
    whole = {row["doc_id"]: row for row in lake.table("raw.documents").to_arrow().to_pylist()}
    rows = small.to_arrow().to_pylist()
    assert (
        all(row == whole[row["doc_id"]] for row in rows)
        and small.schema == lake.table("raw.documents").schema
    )
    assert report.text_bytes == sum(row["text_bytes"] for row in rows)
    assert small.provenance.extra["sample_of"]["digest"] == lake.table("raw.documents").digest


@pytest.mark.parametrize("by_source", [False, True])
def test_larger_samples_keep_smaller_ones_and_clusters_stay_whole(
    lake: hw.Lake, tmp_path: Path, by_source: bool
) -> None:
    cluster = clusters_of(lake)
    before: set[bytes] = set()
    asked: list[dict[str, float]] = [{"share": s} for s in (0.05, 0.2, 0.6, 1.0)]
    asked = asked if not by_source else [{"documents": n} for n in (1, 10, 40, 10_000)]
    for place, much in enumerate(asked):
        sample(lake, str(tmp_path / str(place)), by_source=by_source, **much)  # type: ignore[arg-type]
        found = taken(hw.Lake(tmp_path / str(place)))
        assert before <= found
        assert found == {d for d, c in cluster.items() if c in {cluster[f] for f in found}}
        before = found
    assert before == set(cluster)


def test_at_least_so_many_documents_of_each_source(lake: hw.Lake, tmp_path: Path) -> None:
    for number in (1, 7, 25):
        report = sample(lake, str(tmp_path / f"n{number}"), documents=number)
        assert number <= report.documents < number + 4  # a cluster has four members
    sample(lake, str(tmp_path / "each"), share=0.01, by_source=True)
    sources = set(
        hw.Lake(tmp_path / "each").table("raw.documents").to_arrow(["source"])["source"].to_pylist()
    )
    assert len(sources) >= 2


def test_digest_depends_on_the_request_alone(lake: hw.Lake, tmp_path: Path) -> None:
    first = sample(lake, str(tmp_path / "a"), share=0.4)
    assert sample(lake, str(tmp_path / "b"), share=0.4).digest == first.digest
    assert sample(lake, str(tmp_path / "a"), share=0.4).digest == first.digest  # over the earlier sample
    assert sample(lake, str(tmp_path / "c"), share=0.4, seed=1).digest != first.digest


def test_look_ups_and_scans_find_the_same(
    lake: hw.Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanned = sample(lake, str(tmp_path / "scan"), share=0.3)
    whole = hw.Lake(tmp_path / "whole")
    whole.write("raw.documents", lake.table("raw.documents").scan())
    whole.write("duplicate_clusters", lake.table("duplicate_clusters").scan())
    whole.index("raw.documents", "doc_id")
    monkeypatch.setattr("headwater.sample.LOOKUP_SHARE", 1.0)
    assert sample(whole, str(tmp_path / "look"), share=0.3).digest == scanned.digest


def test_without_clusters_each_document_is_alone(lake: hw.Lake, tmp_path: Path) -> None:
    plain = hw.Lake(tmp_path / "plain")
    plain.write("raw.documents", lake.table("raw.documents").scan())
    report = sample(plain, str(tmp_path / "ci"), share=0.5)
    ids = taken(plain)
    assert taken(hw.Lake(tmp_path / "ci")) == {d for d in ids if xxhash.xxh3_64_intdigest(d, seed=0) < 2**63}
    assert report.closed_over is None and report.units == report.documents


def test_refusals(lake: hw.Lake, tmp_path: Path) -> None:
    for wrong in (
        {},
        {"share": 0.1, "documents": 3},
        {"share": 0.0},
        {"share": 1.5},
        {"share": float("nan")},
        {"documents": 0},
    ):
        with pytest.raises(UsageError):
            sample(lake, str(tmp_path / "ci"), **wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="taken from"):
        sample(lake, lake.uri, share=0.1)
    other = hw.Lake(tmp_path / "other")
    other.write("raw.documents", lake.table("raw.documents").scan())
    with pytest.raises(UsageError, match="holds documents that are no sample"):
        sample(lake, other, share=0.1)
    with pytest.raises(UnknownName, match=r"raw\.documents"):
        sample(hw.Lake(tmp_path / "empty"), str(tmp_path / "ci"), share=0.1)
    assert not (tmp_path / "ci").exists()
