"""Megatron's files: every sequence in its place, each traced, read back by the real package."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

from headwater.cli import main
from headwater.errors import DataMismatch, HeadwaterError, UsageError
from headwater.export import export, export_megatron
from headwater.export.megatron import IndexedFiles, hex_of
from headwater.lake import Lake
from headwater.sequences import pack

pytest.importorskip("tokenizers")

LENGTH = 32


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    words = np.random.default_rng(1).integers(0, 50, (60, 90))
    texts = [" ".join(f"w{w}" for w in row[: 1 + i % 90]) for i, row in enumerate(words)]
    ids = [xxhash.xxh3_128_digest(f"{i}{text}".encode()) for i, text in enumerate(texts)]
    columns = {
        "doc_id": pa.array(ids, pa.binary(16)),
        "text": pa.array(texts, pa.large_string()),
        "source": pa.array([f"source {i % 3}" for i in range(len(ids))]),
    }
    lake = Lake(tmp_path_factory.mktemp("megatron") / "lake")
    lake.write("book", pa.table(columns))
    pack(lake, "book", sequence_length=LENGTH, vocab_size=300, require_approved=False)
    return lake


def read(prefix: Path) -> tuple[list[list[int]], np.ndarray[Any, Any]]:
    """The sequences and the document borders, by the layout's own words."""
    index = prefix.with_suffix(".idx").read_bytes()
    assert index[:9] == b"MMIDIDX\x00\x00"
    version, code, count, borders = struct.unpack("<QBQQ", index[9:34])
    assert version == 1
    dtype = {8: np.uint16, 4: np.int32}[code]
    lengths = np.frombuffer(index, np.int32, count, 34)
    pointers = np.frombuffer(index, np.int64, count, 34 + 4 * count)
    documents = np.frombuffer(index, np.int64, borders, 34 + 12 * count)
    assert len(index) == 34 + 12 * count + 8 * borders
    data = prefix.with_suffix(".bin").read_bytes()
    assert len(data) == lengths.sum() * dtype().itemsize
    pairs = zip(lengths, pointers, strict=True)
    return [np.frombuffer(data, dtype, n, p).tolist() for n, p in pairs], documents


def test_document_i_is_sequence_i_and_the_sidecar_says_what_it_holds(lake: Lake, tmp_path: Path) -> None:
    report = export_megatron(lake, to=tmp_path / "out")
    table = lake.table("sequences")
    rows = table.to_arrow().to_pylist()
    found, documents = read(tmp_path / "out" / "sequences")
    assert found == [row["tokens"] for row in rows]
    assert documents.tolist() == list(range(len(rows) + 1))
    traced = pq.read_table(tmp_path / "out" / "sequences.spans.parquet").to_pylist()
    expected = [(row["sequence_index"], span) for row in rows for span in row["spans"]]
    assert len(traced) == len(expected)
    for got, (index, span) in zip(traced, expected, strict=True):
        assert (got["sequence_index"], got["doc_id"]) == (index, span["doc_id"].hex())
        assert {k: got[k] for k in ("start", "length", "source")} == {
            k: span[k] for k in ("start", "length", "source")
        }
        assert (got["epoch"], got["form"]) == (span.get("epoch", 0), span.get("form", 0))
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest == json.loads(json.dumps(report.to_json()))
    facts = table.provenance.extra
    assert (manifest["table"], manifest["version"], manifest["digest"]) == (
        table.name,
        table.version,
        table.digest,
    )
    assert manifest["tokenizer_id"] == facts["tokenizer_id"] and manifest["approval"] is None
    assert manifest["tokens"] - manifest["padding"] == sum(span["length"] for _, span in expected)
    tokenizer = (tmp_path / "out" / "tokenizer.json").read_text()
    assert xxhash.xxh3_128_hexdigest(tokenizer.encode()) == facts["tokenizer_id"]
    for file in manifest["files"]:
        data = (tmp_path / "out" / file["path"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file["bytes"], file["sha256"])
    assert {p.name for p in (tmp_path / "out").iterdir()} == {f["path"] for f in manifest["files"]} | {
        "manifest.json"
    }


def test_tokens_give_a_megatron_document_for_each_document(lake: Lake, tmp_path: Path) -> None:
    report = export_megatron(lake, "tokens", to=tmp_path / "out")
    rows = lake.table("tokens").to_arrow().to_pylist()
    found, documents = read(tmp_path / "out" / "tokens")
    assert found == [[*row["tokens"], report.eos_id] for row in rows]
    assert len(documents) == len(rows) + 1 and report.unit == "document" and report.padding == 0
    traced = pq.read_table(tmp_path / "out" / "tokens.documents.parquet").to_pylist()
    assert [row["doc_id"] for row in traced] == [row["doc_id"].hex() for row in rows]
    assert [row["num_tokens"] for row in traced] == [len(tokens) for tokens in found]


def test_batches_do_not_show(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_megatron(lake, to=tmp_path / "one")
    monkeypatch.setattr("headwater.export.megatron.CHUNK_TOKENS", 3 * LENGTH)
    export_megatron(lake, to=tmp_path / "two")
    for name in ("sequences.bin", "sequences.idx"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    one, two = (pq.read_table(tmp_path / n / "sequences.spans.parquet") for n in ("one", "two"))
    assert one.equals(two)


def test_large_vocabularies_become_int32(tmp_path: Path) -> None:
    with IndexedFiles(tmp_path / "x.bin", tmp_path / "x.idx", np.dtype("<i4"), 2) as files:
        files.add(np.array([70_000, 2, 3], np.uint32), np.array([1, 2]))
    found, documents = read(tmp_path / "x")
    assert found == [[70_000], [2, 3]] and documents.tolist() == [0, 1, 2]
    with (
        pytest.raises(DataMismatch, match="2 rows were announced and 1 came"),
        IndexedFiles(tmp_path / "y.bin", tmp_path / "y.idx", np.dtype("<u2"), 2) as files,
    ):
        files.add(np.array([1], np.uint16), np.array([1]))


def test_hex_of_slices_and_nothing() -> None:
    ids = pa.array([bytes([i]) * 16 for i in range(5)], pa.binary(16))
    assert hex_of(ids.slice(2, 2)).to_pylist() == ["02" * 16, "03" * 16]
    assert hex_of(ids.slice(0, 0)).to_pylist() == []


def test_what_cannot_be_exported_says_why(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no tokens"):
        export_megatron(lake, "book", to=tmp_path / "out")
    with pytest.raises(UsageError, match="format of tokens"):
        export(lake, "book", format="megatron", to=tmp_path / "out")
    with pytest.raises(UsageError, match="both name a version"):
        export_megatron(lake, "sequences@1", version=1, to=tmp_path / "out")
    other = Lake(tmp_path / "lake")
    other.write("tokenizers", lake.table("tokenizers").to_arrow().slice(0, 0))
    sequences = lake.table("sequences")
    other.write("sequences", sequences.scan(), provenance=sequences.provenance)
    with pytest.raises(DataMismatch, match="none of that id"):
        export_megatron(other, to=tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["lake"]


def test_gathered_sequences_give_the_same_files(lake: Lake, tmp_path: Path) -> None:
    gathered = Lake(tmp_path / "lake")
    gathered.write("book", lake.table("book").scan())
    pack(gathered, "book", sequence_length=LENGTH, vocab_size=300, require_approved=False, gather=True)
    assert "tokens" not in gathered.table("sequences").schema.names
    export_megatron(lake, to=tmp_path / "one")
    export_megatron(gathered, to=tmp_path / "two")
    for name in ("sequences.bin", "sequences.idx", "sequences.spans.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_holes_are_refused_and_nothing_is_left(lake: Lake, tmp_path: Path) -> None:
    other = Lake(tmp_path / "lake")
    other.write("tokenizers", lake.table("tokenizers").scan())
    sequences = lake.table("sequences")
    other.write("sequences", sequences.to_arrow().slice(1), provenance=sequences.provenance)
    with pytest.raises(DataMismatch, match="densely"):
        export_megatron(other, to=tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["lake"]


def test_a_full_disk_leaves_nothing(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(IndexedFiles, "add", full)
    with pytest.raises(HeadwaterError, match="No space left"):
        export_megatron(lake, to=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_command(lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["export", "sequences", "--format", "megatron", "--to", str(tmp_path / "out"), "--lake", lake.uri]
    assert main(line) == 0
    shown = "".join(capsys.readouterr().out.split())
    assert f"{lake.table('sequences').num_rows}sequencesofdev.sequences@1" in shown
    assert main(line) == 2  # the folder is in the way
    assert main([*line, "--shard-bytes", "5"]) == 2
    capsys.readouterr()
    assert main([*line, "--overwrite", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["unit"] == "sequence"


PEER = """
import json, sys
import numpy as np
from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig
from megatron.core.datasets.indexed_dataset import IndexedDataset
from megatron.core.datasets.utils import Split

class Tokenizer:
    vocab_size, eod, pad = 300, 0, -1
    unique_identifiers = {"class": "test"}

prefix, cache, length = sys.argv[1], sys.argv[2], int(sys.argv[3])
low = IndexedDataset(prefix)
rows = [low[i].tolist() for i in range(len(low))]
config = GPTDatasetConfig(
    random_seed=1, sequence_length=length, blend=([prefix], None), split="1,0,0", path_to_cache=cache,
    tokenizer=Tokenizer(), reset_position_ids=True, reset_attention_mask=True, eod_mask_loss=True,
    create_attention_mask=True, add_extra_token_to_sequence=False)
data = GPTDataset(low, prefix, np.arange(len(low), dtype=np.int32), None, Split.train, config)
samples = []
for i in range(len(data)):
    tokens, documents = data._query_document_sample_shuffle_indices(i)
    samples.append([int(documents[-1]), tokens.tolist(), data[i]["loss_mask"].tolist()])
print("RESULT" + json.dumps({"type": low.index.dtype.__name__, "rows": rows, "samples": samples}))
"""


@pytest.mark.skipif(
    "HEADWATER_PEER_MEGATRON" not in os.environ, reason="HEADWATER_PEER_MEGATRON names no Python"
)
def test_megatron_core_reads_it_and_its_samples_are_our_sequences(lake: Lake, tmp_path: Path) -> None:
    """With ``add_extra_token_to_sequence`` off a sample is one sequence; its last document id says which."""
    export_megatron(lake, to=tmp_path / "out")
    prefix = str(tmp_path / "out" / "sequences")
    command = [
        os.environ["HEADWATER_PEER_MEGATRON"],
        "-c",
        PEER,
        prefix,
        str(tmp_path / "cache"),
        str(LENGTH),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    result = json.loads(line.removeprefix("RESULT"))
    rows = [row["tokens"] for row in lake.table("sequences").to_arrow().to_pylist()]
    assert result["rows"] == rows and result["type"] == "uint16"
    samples = sorted(result["samples"])
    assert [index for index, *_ in samples] == list(range(len(rows)))  # each once, in Megatron's own order
    assert [tokens for _, tokens, _ in samples] == rows
    for _, tokens, loss in samples:  # no target is a document's first token, or beyond the sequence
        assert loss == [*(float(token != 0) for token in tokens[:-1]), 0.0]
