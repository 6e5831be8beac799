"""Streaming: every rank its slice, resume anywhere, other data refused."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import DataMismatch, LakeError, NotApproved, UsageError
from headwater.lake import Lake, Provenance
from headwater.lake.approvals import APPROVALS_SCHEMA
from headwater.loading.rows import Materialized
from headwater.sequences import pack

torch = pytest.importorskip("torch")
pytest.importorskip("tokenizers")

from headwater.kernels.sequence_batch import lay_out_sequences  # noqa: E402
from headwater.streaming import SequenceStream, stream  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:training on unapproved")

LENGTH = 32


def make_lake(place: Path, *, schema: str = "dev", documents: int = 60, **options: Any) -> Lake:
    words = np.random.default_rng(1).integers(0, 50, (documents, 90))
    texts = [" ".join(f"w{w}" for w in row[: 1 + i % 90]) for i, row in enumerate(words)]
    columns = {
        "doc_id": pa.array(
            [xxhash.xxh3_128_digest(f"{i}{t}".encode()) for i, t in enumerate(texts)], pa.binary(16)
        ),
        "text": pa.array(texts, pa.large_string()),
        "source": pa.array(["made"] * documents),
    }
    lake = Lake(place, schema=schema)
    lake.write("book", pa.table(columns), provenance=Provenance())
    approve(lake, "book")
    pack(lake, "book", **{"sequence_length": LENGTH, "vocab_size": 300, **options})
    return lake


def approve(lake: Lake, name: str) -> None:
    ref = lake.table(name).ref
    row: dict[str, Any] = dict.fromkeys(APPROVALS_SCHEMA.names)
    row |= {"approval_id": f"{ref}", "action": "approve", "table": ref.name, "version": ref.version}
    row |= {"content_digest": ref.digest, "at": datetime.now(UTC)}
    lake.write("approvals", pa.Table.from_pylist([row], schema=APPROVALS_SCHEMA), mode="append")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return make_lake(tmp_path_factory.mktemp("stream") / "lake")


def rows_of(batches: list[dict[str, Any]]) -> Any:
    return torch.cat([batch["input_ids"] for batch in batches])


def test_a_batch_says_where_documents_begin_and_padding_is(lake: Lake) -> None:
    data = stream(lake, global_batch_size=1)
    batches = list(data)
    table = lake.table("sequences").to_arrow()
    assert len(batches) == table.num_rows == data.num_sequences
    for batch, row in zip(batches, table.to_pylist(), strict=True):
        assert batch["input_ids"].shape == (1, LENGTH) and batch["input_ids"].dtype == torch.int64
        assert batch["input_ids"][0].tolist() == row["tokens"]
        lengths = [span["length"] for span in row["spans"]]
        segments = [i for i, n in enumerate(lengths) for _ in range(n)]
        positions = [i for n in lengths for i in range(n)]
        padding = LENGTH - sum(lengths)
        assert batch["segment_ids"][0].tolist() == segments + [-1] * padding
        assert batch["position_ids"][0].tolist() == positions + [0] * padding
        labels = [t if p else -100 for t, p in zip(row["tokens"], positions, strict=False)]
        assert batch["labels"][0].tolist() == labels + [-100] * padding
    assert (batches[3]["first_sequence"], batches[3]["count"]) == (3, 1)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_the_ranks_together_read_each_step_once(lake: Lake, world: int) -> None:
    whole = list(stream(lake, global_batch_size=8))
    ranks = [list(stream(lake, dp_rank=r, dp_world_size=world, global_batch_size=8)) for r in range(world)]
    assert {len(batches) for batches in ranks} == {len(whole)}
    for step, batch in enumerate(whole):
        together = torch.cat([batches[step]["input_ids"] for batches in ranks])
        assert torch.equal(together, batch["input_ids"])
        assert {batches[step]["first_sequence"] for batches in ranks} == {8 * step}


def test_gathered_sequences_give_the_same_batches(lake: Lake, tmp_path: Path) -> None:
    gathered = make_lake(tmp_path / "lake", gather=True)
    assert "tokens" not in gathered.table("sequences").schema.names
    pairs = zip(stream(lake, global_batch_size=4), stream(gathered, global_batch_size=4), strict=True)
    for mine, other in pairs:
        assert mine.keys() == other.keys()
        for key in ("input_ids", "labels", "segment_ids", "position_ids"):
            assert torch.equal(mine[key], other[key])


@settings(max_examples=15, deadline=None)
@given(stop=st.integers(0, 8), before=st.sampled_from([1, 2, 4]), after=st.sampled_from([1, 2, 4]))
def test_resume_goes_on_exactly_with_any_number_of_ranks(
    lake: Lake, stop: int, before: int, after: int
) -> None:
    whole = list(stream(lake, global_batch_size=4))
    first = stream(lake, dp_rank=before - 1, dp_world_size=before, global_batch_size=4)
    reading = iter(first)
    for _ in range(stop):
        next(reading)
    state = json.loads(json.dumps(first.state_dict()))
    reading.close()
    assert len(json.dumps(state)) < 1_000 and state["next_sequence"] == 4 * stop
    rest = [
        list(stream(lake, dp_rank=r, dp_world_size=after, global_batch_size=4, state=state))
        for r in range(after)
    ]
    assert {len(batches) for batches in rest} == {len(whole) - stop}
    for step, batch in enumerate(whole[stop:]):
        together = torch.cat([batches[step]["input_ids"] for batches in rest])
        assert torch.equal(together, batch["input_ids"])


def test_the_end_is_cut_to_full_batches_and_said(lake: Lake) -> None:
    data = stream(lake, global_batch_size=7)
    assert len(data) * 7 + data.num_dropped == data.num_sequences
    assert len(list(data)) == data.num_sequences // 7
    assert len(data) == 0


@pytest.mark.parametrize(
    ("options", "differs"),
    [
        ({"sequence_length": 16}, "sequence_length: state 32, table 16"),
        ({"seed": 5}, "digest: state"),
        ({"vocab_size": 270}, "tokenizer_id: state"),
    ],
)
def test_state_of_other_data_is_refused_with_both_sides(
    lake: Lake, tmp_path: Path, options: dict[str, int], differs: str
) -> None:
    state = stream(lake, global_batch_size=4).state_dict()
    other = make_lake(tmp_path / "lake", **options)
    with pytest.raises(DataMismatch, match=differs):
        stream(other, global_batch_size=4, state=state)


def test_dev_warns_about_unapproved_data_and_prod_refuses_it(tmp_path: Path) -> None:
    lake = make_lake(tmp_path / "lake")
    with pytest.warns(UserWarning, match="unapproved"):
        data = stream(lake)
    assert data.bypass is not None and "not approved" in data.bypass
    with pytest.raises(NotApproved):
        stream(lake, version="approved")
    approve(lake, "sequences")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert stream(lake, version="approved").bypass is None

    prod = make_lake(tmp_path / "prod", schema="prod")
    for version in (None, 1, "approved"):
        with pytest.raises(NotApproved):
            stream(prod, version=version)
    approve(prod, "sequences")
    assert len(list(stream(prod))) > 0


@pytest.mark.parametrize(
    "options",
    [
        {"dp_rank": 2, "dp_world_size": 2},
        {"dp_world_size": 3, "global_batch_size": 8},
        {"global_batch_size": 0},
        {"table": "book"},
    ],
)
def test_wrong_use_is_refused(lake: Lake, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        stream(lake, **options)


def test_data_loader_workers_are_refused_and_no_workers_work(lake: Lake) -> None:
    data = stream(lake, global_batch_size=4)
    loader = torch.utils.data.DataLoader(data, batch_size=None)
    assert torch.equal(rows_of(list(loader)), rows_of(list(stream(lake, global_batch_size=4))))


def test_rows_that_were_deleted_are_noticed(tmp_path: Path) -> None:
    lake = make_lake(tmp_path / "lake")
    lake.update(
        "sequences",
        remove=pa.array([3], pa.int64()),
        key="sequence_index",
        provenance=lake.table("sequences").provenance,
    )
    with pytest.raises(DataMismatch, match="densely"):
        list(stream(lake))


def test_errors_of_the_reading_thread_name_the_sequences(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    data = stream(lake, global_batch_size=4)
    reading = iter(data)
    next(reading)
    monkeypatch.setattr(Materialized, "_fetch", lambda *_: (_ for _ in ()).throw(OSError("disk gone")))
    with pytest.raises(LakeError, match=rf"sequences \d+ to \d+ of {data.table.ref}: disk gone"):
        list(data)
    assert data.next_sequence == 4


def test_a_file_that_goes_missing_or_is_damaged_is_named_with_its_sequences(tmp_path: Path) -> None:
    lake = make_lake(tmp_path / "lake")
    data = stream(lake, global_batch_size=4)
    (file,) = (tmp_path / "lake" / "dev" / "sequences.lance" / "data").glob("*.lance")
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(LakeError, match=r"cannot read sequences 0 to 3 of dev.sequences@1: "):
        list(stream(lake, global_batch_size=4))
    file.unlink()
    with pytest.raises(LakeError, match=r"sequences 0 to 3 of dev.sequences@1: .*[Nn]ot found"):
        list(data)
    file.write_bytes(content)
    assert len(list(stream(lake, global_batch_size=4))) == len(data)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 9), max_size=5).filter(lambda r: sum(r) <= 20), min_size=1, max_size=5)
)
def test_laying_out_fills_every_row(rows: list[list[int]]) -> None:
    size = 20 * len(rows)
    tokens = np.arange(size, dtype=np.uint16)
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int32)
    lengths = np.array([n for row in rows for n in row], np.int32)
    sources = np.arange(len(lengths), dtype=np.int32)
    for array in (tokens, offsets, lengths, sources):
        array.flags.writeable = False
    ids, labels = np.zeros((2, size), np.int64)
    segments, positions = np.zeros((2, size), np.int32)
    named = np.full((len(rows), 5), -1, np.int32)
    outputs = (ids, labels, segments, positions, named)
    assert lay_out_sequences(tokens, offsets, lengths, sources, 20, *outputs) == -1
    assert ids.tolist() == tokens.tolist()
    for r, row in enumerate(rows):
        place, begin = slice(20 * r, 20 * (r + 1)), int(offsets[r])
        padding = 20 - sum(row)
        at = [p for n in row for p in range(n)]
        assert segments[place].tolist() == [i for i, n in enumerate(row) for _ in range(n)] + [-1] * padding
        assert positions[place].tolist() == at + [0] * padding
        want = [t if p else -100 for t, p in zip(tokens[place].tolist(), at, strict=False)]
        assert labels[place].tolist() == want + [-100] * padding
        assert named[r].tolist() == [*range(begin, begin + len(row)), *[-1] * (5 - len(row))]


def test_spans_that_overrun_their_sequence_are_refused() -> None:
    for lengths in ([21], [-1], [2**31 - 1, 2**31 - 1]):
        arrays = (np.zeros(40, np.uint16), np.array([0, 0, len(lengths)], np.int32))
        spans = (np.array(lengths, np.int32), np.zeros(len(lengths), np.int32))
        for array in (*arrays, *spans):
            array.flags.writeable = False
        outputs = (*np.zeros((2, 40), np.int64), *np.zeros((2, 40), np.int32), np.zeros((2, 0), np.int32))
        assert lay_out_sequences(*arrays, *spans, 20, *outputs) == 1


def test_the_packages_load_without_torch() -> None:
    code = "import sys, headwater, headwater.sequences, headwater.trace; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_stream_is_an_iterable_dataset() -> None:
    assert issubclass(SequenceStream, torch.utils.data.IterableDataset)
