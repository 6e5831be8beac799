"""fastText and Hugging Face classifiers as operators."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import BadInput, UnknownName, UsageError
from headwater.kernels.words import sentences
from headwater.operators import operator

GOLDEN = Path(__file__).parents[1] / "golden" / "fasttext"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text("utf-8"))


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_fasttext_scores_are_the_library_s(name: str) -> None:
    """Every loss, word and character n-grams, plain and quantized with norms, as fastText itself scores."""
    texts = [row["text"] for row in EXPECTED[name]]
    for label in ("food", "machine", "plant"):
        got = operator("fasttext_classifier")(pa.array(texts), model=str(GOLDEN / name), label=label)
        expected = [min(row["scores"].get(label, 0.0), 1.0) for row in EXPECTED[name]]
        assert [row["score"] for row in got.to_pylist()] == pytest.approx(expected, abs=3e-5)


def test_fasttext_by_sentence() -> None:
    text = "The soup was good. Engine engine gear piston! bread and cheese\nmotor gear piston"
    settings_ = {"model": str(GOLDEN / "softmax.bin"), "label": "food"}
    op = operator("fasttext_classifier")
    [row] = op(pa.array([text]), **settings_).to_pylist()
    alone = [op(pa.array([s]), **settings_)[0]["score"].as_py() for s in
             ("The soup was good.", "Engine engine gear piston!", "bread and cheese", "motor gear piston")]  # fmt: skip
    assert row["num_sentences"] == 4 and row["sentence_share"] == 0.5
    assert row["max_sentence_score"] == max(alone)
    assert [s >= 0.4 for s in alone] == [True, False, True, False]
    assert op(pa.array(["", None]), **settings_).to_pylist() == [
        {"score": pytest.approx(1 / 3, abs=0.5), "max_sentence_score": 0, "sentence_share": 0, "num_sentences": 0},
        None,
    ]  # fmt: skip
    with pytest.raises(UnknownName, match="foods"):
        op(pa.array(["x"]), model=settings_["model"], label="foods")
    with pytest.raises(BadInput, match="downloads nothing"):
        op(pa.array(["x"]), model="/none.bin", label="food")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ('v1.2 is out...  (Really.) "Yes." Go', ["v1.2 is out...", "(Really.)", '"Yes."', "Go"]),
        ("一。二！三", ["一。", "二！", "三"]),
        ("  \n a\n\n b \n", ["a", "b"]),
        ("", []),
        ("…", ["…"]),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    data = np.frombuffer(text.encode() + b"\0", np.uint8)
    owners, starts, ends = (np.empty(9, dtype=np.int64) for _ in range(3))
    count = sentences(data, np.array([0, len(data) - 1], dtype=np.int64), owners, starts, ends)
    # Beyond `count` the arrays hold what was in memory.
    found = zip(starts[:count], ends[:count], strict=True)
    assert [bytes(data[s:e]).decode() for s, e in found] == expected


HOSTILE = st.one_of(
    st.text(max_size=200),
    st.text(alphabet='\u200f\u202e\0😀👩\u200d\ufeff。." \n', max_size=200),
    st.binary(max_size=200).map(lambda b: b.decode("utf-8", "replace")),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(HOSTILE, max_size=6), st.sampled_from(sorted(EXPECTED)))
def test_fasttext_hostile_text(texts: list[str], name: str) -> None:
    got = operator("fasttext_classifier")(
        pa.array(texts, pa.large_string()), model=str(GOLDEN / name), label="food"
    ).to_pylist()
    for text, row in zip(texts, got, strict=True):
        assert 0 <= row["score"] <= 1 and 0 <= row["sentence_share"] <= 1
        assert (row["num_sentences"] == 0) == (not text.strip())


@pytest.mark.parametrize("text", ["x" * 3_000_000, "a. " * 1_000_000, "\n" * 100_000, "é" * 1_000_000])
def test_fasttext_huge_text(text: str) -> None:
    for name in ("hierarchical.bin", "one_vs_all.bin"):
        operator("fasttext_classifier")(pa.array([text]), model=str(GOLDEN / name), label="food")


# Hugging Face

trainer = pytest.mark.trainer
LABELS = ("food", "machine")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of 2 layers, fitted in some steps to tell food from machines, with its own tokenizer."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    words = {"food": "soup bread cheese apple salt", "machine": "engine gear piston motor fuel"}
    texts = [(f"{a} {b} {c}", i) for i, k in enumerate(LABELS) for a in words[k].split()
             for b in words[k].split() for c in ("the", "old", "")]  # fmt: skip
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made.train_from_iterator(
        [t for t, _ in texts],
        trainers.WordPieceTrainer(vocab_size=200, special_tokens=special, show_progress=False),
    )
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_max_length=64,
    )  # fmt: skip
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=200, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, id2label=dict(enumerate(LABELS)), label2id={k: i for i, k in enumerate(LABELS)},
    )  # fmt: skip
    model = transformers.BertForSequenceClassification(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    batch = fast([t for t, _ in texts], padding=True, return_tensors="pt")
    batch.pop("token_type_ids", None)
    target = torch.tensor([i for _, i in texts])
    for _ in range(15):
        loss = model(**batch, labels=target).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    path = tmp_path_factory.mktemp("bert")
    model.save_pretrained(path)
    fast.save_pretrained(path)
    return path


TEXTS = ["soup bread", "the old engine", "", None, "piston " * 200, "cheese apple salt soup", "gear"]


@trainer
def test_classifier_in_every_call_form(folder: Path) -> None:
    op = operator("text_classifier")
    rows = op(pa.array(TEXTS, pa.large_string()), model=str(folder)).to_pylist()
    assert [r and r["label"] for r in rows][:2] == ["food", "machine"] and rows[3] is None
    assert [r and r["truncated"] for r in rows] == [False, False, False, None, True, False, False]
    assert rows[4]["num_tokens"] == 64 and rows[0]["num_tokens"] == 4
    for row in filter(None, rows):
        assert {s["label"] for s in row["scores"]} == set(LABELS)
        assert sum(s["score"] for s in row["scores"]) == pytest.approx(1)
        assert row["score"] == max(s["score"] for s in row["scores"])
    food = op(pa.array(TEXTS, pa.large_string()), model=str(folder), label="food").to_pylist()
    assert [r and r["score"] for r in food] == [
        r and pytest.approx(r["scores"][0]["score"], abs=1e-5) for r in rows
    ]

    def close(got: list) -> bool:
        return [r and (r["label"], r["score"]) for r in got] == [
            r and (r["label"], pytest.approx(r["score"], abs=1e-5)) for r in rows
        ]

    one_by_one = [
        op(pa.array([t], pa.large_string()), model=str(folder), batch_size=1)[0].as_py() for t in TEXTS
    ]
    assert close(one_by_one)
    con = duckdb.connect(config={"threads": 2})
    op.register(con)
    con.register("t", pa.table({"n": range(len(TEXTS)), "text": pa.array(TEXTS, pa.large_string())}))
    sql = f"select text_classifier(text, model := '{folder}', max_length := 64) from t order by n"
    assert close([r[0] for r in con.execute(sql).fetchall()])
    con.close()
    frame = pl.DataFrame({"text": TEXTS}).select(op.polars("text", model=str(folder)))
    assert close(frame["text"].to_list())
    batch = pa.record_batch({"doc_id": range(len(TEXTS)), "text": pa.array(TEXTS, pa.large_string())})
    assert close(op.apply(batch, model=str(folder)).column("text_classifier").to_pylist())


@trainer
def test_threads_share_one_model(folder: Path) -> None:
    op = operator("text_classifier")
    column = pa.array(["soup bread", "gear engine"] * 40, pa.large_string())
    expected = op(column, model=str(folder)).field("label").to_pylist()
    results: list[list[str]] = []
    threads = [
        threading.Thread(
            target=lambda: results.append(op(column, model=str(folder)).field("label").to_pylist())
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 4


@trainer
def test_activations_and_refusals(folder: Path, tmp_path: Path) -> None:
    op = operator("text_classifier")
    column = pa.array(["soup"])
    raw = {
        s["label"]: s["score"] for s in op(column, model=str(folder), activation="none")[0].as_py()["scores"]
    }
    sigmoid = op(column, model=str(folder), activation="sigmoid", label="machine")[0]["score"].as_py()
    assert sigmoid == pytest.approx(1 / (1 + np.exp(-raw["machine"])), abs=1e-6)
    softmax = op(column, model=str(folder), label="food")[0]["score"].as_py()
    assert softmax == pytest.approx(np.exp(raw["food"]) / sum(np.exp(v) for v in raw.values()), abs=1e-6)
    with pytest.raises(UnknownName, match="foot"):
        op(column, model=str(folder), label="foot")
    with pytest.raises(BadInput, match="downloads nothing"):
        op(column, model=str(tmp_path / "none"))
    with pytest.raises(BadInput, match="downloads nothing"):
        op(column, model="someone/not-in-the-cache")
    with pytest.raises(UsageError, match="activation expected"):
        op(column, model=str(folder), activation="x")
    # Weights in a pickle are refused, not read.
    import shutil

    import torch

    pickled = tmp_path / "pickled"
    shutil.copytree(folder, pickled)
    (pickled / "model.safetensors").unlink()
    torch.save({}, pickled / "pytorch_model.bin")
    with pytest.raises(BadInput, match="safetensors"):
        op(column, model=str(pickled))


@trainer
def test_regression_models_give_their_number(folder: Path, tmp_path: Path) -> None:
    """One output, as FineWeb-Edu's classifier has."""
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig.from_pretrained(
        folder, id2label={0: "quality"}, label2id={"quality": 0}, problem_type="regression"
    )
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    op = operator("text_classifier")
    auto, bare = (
        op(pa.array(["soup"]), model=str(tmp_path), activation=a)[0].as_py() for a in ("auto", "none")
    )
    assert auto == bare and len(auto["scores"]) == 1


@trainer
def test_classifier_hostile_text(folder: Path) -> None:
    texts = [
        "x" * 3_000_000,
        "\n" * 100_000,
        "\0",
        "\u202e\u200f",
        "😀" * 500,
        " ",
        "é" * 1_000_000,
        "a b " * 500_000,
    ]
    rows = operator("text_classifier")(pa.array(texts, pa.large_string()), model=str(folder)).to_pylist()
    assert all(0 <= r["score"] <= 1 and r["num_tokens"] <= 64 for r in rows)
    assert [r["truncated"] for r in rows] == [True, True, False, False, False, False, True, True]
