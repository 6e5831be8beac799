"""A release: what is in it, that it says nothing of the text, that it is whole or not there, and its check."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trace_lake import LENGTH, append, doc, log_attempt, make, steps, text_of, write_order

from headwater.errors import BadInput, HeadwaterError, UnknownName, UsageError
from headwater.lake import Lake
from headwater.release import bundle as bundle_module
from headwater.release import order as order_module
from headwater.release import release, verify
from headwater.release.order import StepOf, order_files
from headwater.trace import trace_step

NAMES = ["a", "b", "c", "w1"]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Two stages, a skipped step, a resumption, samples; the checkpoint of step 6 is in ``runs``."""
    lake = make(tmp_path / "lake", NAMES)
    first = write_order(lake, [[(n, 0, LENGTH, 0, 0)] for n in ["a", "b", "w1", "a"]])
    log_attempt(lake, first, 1, 0, steps(1, 3), (2, 3))
    log_attempt(lake, first, 2, 2, [(3, 2, 1, "skipped")], ())
    second = write_order(lake, [[(n, 0, LENGTH, 1, 1)] for n in ["c", "b", "a"]])
    log_attempt(lake, second, 3, 3, steps(4, 5), (5,))
    columns = {
        "run_id": pa.string(), "attempt": pa.int64(), "step": pa.int64(), "prompt": pa.string(), "text": pa.string()
    }  # fmt: skip
    sample = {"run_id": "r", "attempt": 3, "step": 5, "prompt": "The text of", "text": text_of("a")}
    append(lake, "generation_samples", [sample], columns)
    tokenizer = {"tokenizer_id": pa.array(["t" * 32]), "json": pa.array(['{"model": "made"}'])}
    lake.write("tokenizers", pa.table(tokenizer))
    saved = tmp_path / "runs" / "r" / "step-00000005"
    (saved / "deep").mkdir(parents=True)
    (saved / "state.json").write_text('{"step": 5}')
    (saved / "deep" / "weights.bin").write_bytes(bytes(range(256)))
    return lake


def make_release(lake: Lake, tmp_path: Path, name: str = "out", **how: object) -> Path:
    release(lake, "r", tmp_path / name, runs=tmp_path / "runs", **how)  # type: ignore[arg-type]
    return tmp_path / name


def test_it_holds_what_a_stranger_needs(lake: Lake, tmp_path: Path) -> None:
    report = release(lake, "r", tmp_path / "out", runs=tmp_path / "runs")
    out = tmp_path / "out"
    assert (report.step, report.checkpoints, len(report.orders)) == (5, 1, 2)
    first = pq.read_table(out / "order" / "stage-0" / "part-00000.parquet")
    assert first.column_names == ["sequence_index", "spans", "step"]
    assert first["step"].to_pylist() == [1, 2, None, None]  # sequence 2 was skipped, 3 never reached
    assert (
        first["spans"].to_pylist()
        == lake.table("sequences", version=1).to_arrow(["spans"])["spans"].to_pylist()
    )
    assert pq.read_table(out / "order" / "stage-1" / "part-00000.parquet")["step"].to_pylist() == [4, 5, None]
    log = pq.read_table(out / "log" / "training_steps.parquet")
    assert log.num_rows == 6 and sum(log["stands"].to_pylist()) == 5
    checkpoints = json.loads((out / "checkpoints" / "checkpoints.json").read_text())
    assert [(c["step"], c["present"], c["copied"]) for c in checkpoints] == [
        (2, False, False),
        (5, True, True),
    ]
    assert (out / "checkpoints" / "step-00000005" / "deep" / "weights.bin").read_bytes() == bytes(range(256))
    recipe = json.loads((out / "recipe.json").read_text())
    assert recipe["config"] == {"seed": 0} and [a["start_step"] for a in recipe["attempts"]] == [0, 2, 3]
    assert json.loads((out / "tokenizer" / "tokenizer.json").read_text()) == {"model": "made"}
    card = json.loads((out / "data_card.json").read_text())
    assert [t["table"] for t in card["tables"]] == [
        "dev.sequences",
        "dev.sequences",
        "dev.book",
        "raw.documents",
    ]
    assert {s["source"]: s["tokens"] for s in card["sources"]} == {"code": 4 * LENGTH}
    assert subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=out, check=False).returncode == 0
    assert trace_step(lake, 4).rows[0]["doc_id"] == doc("c").hex()


def test_no_text_leaves_unless_asked(lake: Lake, tmp_path: Path) -> None:
    out = make_release(lake, tmp_path)
    everything = b"".join(p.read_bytes() for p in out.rglob("*") if p.is_file() and p.suffix != ".parquet")
    assert b"text of document" not in everything
    for path in out.rglob("*.parquet"):
        assert "text of document" not in str(pq.read_table(path).to_pydict()), path
    assert pq.read_table(out / "log" / "generation_samples.parquet").column_names == [
        "run_id", "attempt", "step", "stands"
    ]  # fmt: skip
    told = json.loads((out / "MANIFEST.json").read_text())
    assert told["with_text"] is False and any("prompt and text" in note for note in told["left_out"])
    full = make_release(lake, tmp_path, "full", with_text=True)
    texts = pq.read_table(next((full / "documents").rglob("*.parquet")))["text"].to_pylist()
    assert sorted(texts) == sorted(text_of(n) for n in NAMES)
    assert pq.read_table(full / "log" / "generation_samples.parquet")["prompt"].to_pylist() == ["The text of"]


def test_the_order_is_held_against_the_table(lake: Lake, tmp_path: Path) -> None:
    out = make_release(lake, tmp_path)
    alone = verify(out)
    assert alone.ok and alone.sequences == 7 and len(alone.not_compared) == 2
    with_lake = verify(out, lake)
    assert with_lake.ok and with_lake.compared == (
        "dev.sequences@1",
        f"dev.sequences@{lake.table('sequences').version}",
    )
    full = verify(make_release(lake, tmp_path, "full", with_text=True))
    assert full.ok and len(full.compared) == 2  # all columns are there: the table's digest proves itself
    lake.drop("sequences")
    assert verify(out, lake).ok and len(verify(out, lake).not_compared) == 2
    write_order(lake, [[("w1", 0, LENGTH, 0, 0)]])
    changed = verify(out, lake)
    assert not changed.ok and "the lake holds digest" in changed.problems[0]


def test_the_same_run_gives_the_same_bytes(lake: Lake, tmp_path: Path) -> None:
    a, b = make_release(lake, tmp_path, "a"), make_release(lake, tmp_path, "deeper/b")
    names = sorted(p.relative_to(a) for p in a.rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(b) for p in b.rglob("*") if p.is_file())
    assert all((a / n).read_bytes() == (b / n).read_bytes() for n in names)


def test_every_change_is_found(lake: Lake, tmp_path: Path) -> None:
    whole = make_release(lake, tmp_path)
    files = sorted(p.relative_to(whole) for p in whole.rglob("*") if p.is_file())
    files = [name for name in files if name.name not in ("MANIFEST.json", "SHA256SUMS")]
    for name in files:
        broken = tmp_path / "broken"
        shutil.rmtree(broken, ignore_errors=True)
        shutil.copytree(whole, broken)
        data = bytearray((broken / name).read_bytes())
        data[len(data) // 2] ^= 1
        (broken / name).write_bytes(data)
        found = verify(broken)
        assert not found.ok and any(name.as_posix() in problem for problem in found.problems), name
    (whole / "extra").write_text("x")
    (whole / "link").symlink_to("/etc/hostname")
    (whole / "recipe.json").unlink()
    assert {p.split(":")[0] for p in verify(whole).problems} == {"extra", "link", "recipe.json"}


def forge(out: Path, **order: object) -> None:
    """Change an order's facts, and every digest that stands for them."""
    from headwater.release.files import described

    manifest = json.loads((out / "MANIFEST.json").read_text())
    manifest["orders"][0].update(order)
    facts = json.loads((out / "order" / "stage-0" / "order.json").read_text())
    (out / "order" / "stage-0" / "order.json").write_text(json.dumps({**facts, **order}))
    listed = [f for f in described(out) if f["path"] not in ("MANIFEST.json", "SHA256SUMS")]
    (out / "MANIFEST.json").write_text(json.dumps({**manifest, "files": listed}))


def test_a_forged_order_is_found(lake: Lake, tmp_path: Path) -> None:
    from headwater.digest import ContentDigest

    out = make_release(lake, tmp_path)
    path = out / "order" / "stage-0" / "part-00000.parquet"
    rows = pq.read_table(path)
    swapped = rows.set_column(1, rows.schema.field("spans"), rows["spans"].take(pa.array([1, 0, 2, 3])))
    pq.write_table(swapped, path)
    forge(out)
    assert any("has digest" in problem for problem in verify(out).problems)
    forge(out, order_digest=ContentDigest.of(swapped.select(["sequence_index", "spans"])).hex())
    assert verify(out).ok  # ids only: nothing in the folder contradicts it ...
    assert any(
        "the lake's order has digest" in p for p in verify(out, lake).problems
    )  # ... but the lake does
    pq.write_table(rows.slice(1), path)
    forge(out)
    assert any("are not 0 to 3" in problem for problem in verify(out).problems)
    moved = rows.set_column(2, "step", pa.array([2, 1, None, None], pa.int64()))
    pq.write_table(moved, path)
    forge(out, order_digest=ContentDigest.of(rows.select(["sequence_index", "spans"])).hex())
    assert any("its steps are not those" in problem for problem in verify(out).problems)


@pytest.mark.parametrize("bad", ["../x", "/etc/passwd", "a/../../x", ""])
def test_a_manifest_cannot_reach_outside(lake: Lake, tmp_path: Path, bad: str) -> None:
    out = make_release(lake, tmp_path)
    manifest = json.loads((out / "MANIFEST.json").read_text())
    manifest["files"].append({"path": bad, "bytes": 1, "sha256": "0"})
    (out / "MANIFEST.json").write_text(json.dumps(manifest))
    with pytest.raises(BadInput, match="does not describe a file"):
        verify(out)
    manifest["files"].pop()
    manifest["orders"][0]["folder"] = bad or "../.."
    (out / "MANIFEST.json").write_text(json.dumps(manifest))
    assert not verify(out).ok


def test_folders_that_are_no_release(tmp_path: Path) -> None:
    for text in (
        None,
        "{",
        "[]",
        '{"kind": "x", "files": []}',
        '{"kind": "headwater release", "files": [], "format": 9}',
    ):
        if text is not None:
            (tmp_path / "MANIFEST.json").write_text(text)
        with pytest.raises(BadInput):
            verify(tmp_path)


def test_it_is_whole_or_not_there(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(bundle_module, "write_manifest", full)
        with pytest.raises(HeadwaterError, match="No space left"):
            make_release(lake, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lake", "runs"]
    make_release(lake, tmp_path)
    with pytest.raises(UsageError, match="is there already"):
        make_release(lake, tmp_path)


def test_what_is_wanted_must_be_there(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not in"):
        release(lake, "r", tmp_path / "out", runs=tmp_path / "none")
    with pytest.raises(UnknownName, match="run 'x'"):
        release(lake, "x", tmp_path / "out")
    with pytest.raises(UsageError, match=r"no config\.json"):
        make_release(lake, tmp_path, hf=tmp_path)
    (tmp_path / "runs" / "r" / "step-00000005" / "link").symlink_to("/etc/hostname")
    with pytest.raises(UsageError, match="is a link"):
        make_release(lake, tmp_path)
    assert not (tmp_path / "out").exists()


def test_checkpoints_all_and_none_and_the_model(lake: Lake, tmp_path: Path) -> None:
    early = tmp_path / "runs" / "r" / "step-00000002"
    early.mkdir()
    (early / "state.json").write_text("{}")
    every = json.loads(
        (
            make_release(lake, tmp_path, "all", checkpoints="all") / "checkpoints" / "checkpoints.json"
        ).read_text()
    )
    assert [c["copied"] for c in every] == [True, True]
    model = tmp_path / "hf"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "README.md").write_text("# card\n")
    none = make_release(lake, tmp_path, "none", checkpoints="none", hf=model)
    listed = json.loads((none / "checkpoints" / "checkpoints.json").read_text())
    assert [c["copied"] for c in listed] == [False, False] and listed[1]["files"][0]["sha256"]
    assert sorted(p.name for p in (none / "checkpoints").iterdir()) == ["checkpoints.json"]
    assert (none / "MODEL_CARD.md").read_text() == "# card\n" and (none / "hf" / "config.json").is_file()
    assert verify(none).ok


def test_an_order_of_several_files_reads_back(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_module, "FILE_ROWS", 2)
    monkeypatch.setattr(order_module, "SPAN_BATCH_ROWS", 1)
    out = make_release(lake, tmp_path)
    assert len(order_files(out / "order" / "stage-0")) == 2
    assert verify(out, lake).ok


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 25), st.integers(1, 6)), max_size=10), st.integers(1, 7))
def test_the_step_of_a_sequence_is_the_first_that_holds_it(parts: list[tuple[int, int]], batch: int) -> None:
    rows = [(i + 1, first, count) for i, (first, count) in enumerate(parts)]
    columns = {
        name: pa.array([row[i] for row in rows], pa.int64())
        for i, name in enumerate(("step", "first_sequence", "count"))
    }
    step_of = StepOf(pa.table(columns))
    want = [min((s for s, f, n in rows if f <= i < f + n), default=None) for i in range(32)]
    got: list[int | None] = []
    for start in range(0, 32, batch):
        got += step_of(pa.array(np.arange(start, min(start + batch, 32)))).to_pylist()
    assert got == want
