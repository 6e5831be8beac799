"""Embedding models: that they are what their libraries make of them, fast paths included; bad models and texts."""

from __future__ import annotations

import itertools
import json
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from embedding_models import WORDS, bert_tokenizer, static_folder, transformer_folder, vocabulary
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.embedding import cache_folder, distill, load_model, model_id
from headwater.embedding.distill import principal_components, sif_weights
from headwater.embedding.model import cut, text_array, unit
from headwater.embedding.static import StaticModel
from headwater.embedding.transformer import TransformerModel
from headwater.errors import BadInput, MissingExtra, UsageError
from headwater.kernels.wordpiece import wordpiece, wordpiece_ids

pytest.importorskip("sentence_transformers")


@pytest.fixture(scope="module")
def static(tmp_path_factory):
    return static_folder(tmp_path_factory.mktemp("static") / "toy")


@pytest.fixture(scope="module")
def thin(tmp_path_factory):
    return transformer_folder(tmp_path_factory.mktemp("thin"))


HOSTILE = [
    "",
    " \n\t",
    "\x00",
    "[SEP] [MASK] [CLS]",
    "x" * 100_000,
    "tree " * 50_000,
    "\u202eabc\u0301 ﬁ ß İ 中文 😀 \U000e0041 \U0003ffff",
    "search\r\nbinary-tree's",
    "".join(map(chr, range(1, 0x2000))),
]


def mean_of_tokens(folder: Path, text: str, limit: int = 8192) -> np.ndarray:
    """The definition, by the tokenizers library and numpy."""
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    ids = tokenizer.encode(text, add_special_tokens=False).ids[:limit]
    table = load_file(str(folder / "model.safetensors"))["embeddings"]
    total = table[ids].astype(np.float64).sum(axis=0) if ids else np.zeros(table.shape[1])
    length = np.linalg.norm(total)
    return total / length if length else total


def test_a_static_model_is_the_mean_of_its_tokens(static):
    model = load_model(str(static))
    texts = [*HOSTILE, *(" ".join(WORDS[i:]) for i in range(len(WORDS)))]  # enough for the kernel
    vectors = model.encode(texts)
    assert vectors.dtype == np.float32 and vectors.shape == (len(texts), 16)
    for text, vector in zip(texts, vectors, strict=True):
        np.testing.assert_allclose(vector, mean_of_tokens(static, text[: 8192 * 32]), atol=2e-5)
    few = model.encode(texts[:7])  # by the library
    np.testing.assert_allclose(few, vectors[:7], atol=1e-6)
    assert not vectors[0].any() and not vectors[1].any()
    assert np.isfinite(vectors).all()


def test_what_was_cut_off_is_counted(static):
    found = load_model(str(static)).embed(HOSTILE * 3)
    by_text = dict(zip(HOSTILE, found.truncated[: len(HOSTILE)], strict=True))
    assert by_text["tree " * 50_000] and not by_text[""] and not by_text["search\r\nbinary-tree's"]
    assert found.num_tokens.max() == 8192
    again = load_model(str(static)).embed(HOSTILE)  # by the library
    assert (again.truncated == found.truncated[: len(HOSTILE)]).all()
    assert (again.num_tokens == found.num_tokens[: len(HOSTILE)]).all()


def test_arrow_arrays_nulls_and_order(static):
    model = load_model(str(static))
    texts = pa.chunked_array([["tree search", None], ["binary tree"]], pa.string())
    vectors = model.encode(texts)
    np.testing.assert_array_equal(vectors, model.encode(["tree search", "", "binary tree"]))
    many = [" ".join(WORDS[i % 30 :]) for i in range(700)]  # several threads' turns
    seen: list[int] = []
    np.testing.assert_array_equal(model.encode(many, seen.append)[:30], model.encode(many[:30]))
    assert seen[-1] == 700 and seen == sorted(seen)
    assert model.encode([]).shape == (0, 16)
    assert "toy@" in repr(model) and model.id == model_id(str(static))


def test_layouts_of_static_models(static, tmp_path):
    from safetensors.numpy import load_file, save_file

    table = load_file(str(static / "model.safetensors"))["embeddings"]
    texts = ["binary tree search", "sort a list"]
    expected = load_model(str(static)).encode(texts)
    weighted = static_copy(static, tmp_path / "weighted")
    half = np.linspace(0.5, 2, len(table)).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(table))
    tensors = {
        "embeddings": (table / half[:, None])[order].astype(np.float16),
        "mapping": np.argsort(order),
        "weights": half,
    }
    save_file(tensors, str(weighted / "model.safetensors"))  # model2vec's vocabulary quantization
    np.testing.assert_allclose(load_model(str(weighted)).encode(texts), expected, atol=2e-3)
    nested = tmp_path / "nested"
    static_copy(static, nested / "0_StaticEmbedding")
    save_file({"embedding.weight": table}, str(nested / "0_StaticEmbedding" / "model.safetensors"))
    kind = "sentence_transformers.models.StaticEmbedding"
    (nested / "modules.json").write_text(
        json.dumps([{"idx": 0, "name": "0", "path": "0_StaticEmbedding", "type": kind}])
    )
    model = load_model(str(nested))
    assert isinstance(model, StaticModel)
    np.testing.assert_allclose(model.encode(texts), expected, atol=1e-6)
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(nested), device="cpu").encode(texts, normalize_embeddings=True)
    np.testing.assert_allclose(model.encode(texts), theirs, atol=1e-5)


def static_copy(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.characters(max_codepoint=0x3FFFF, exclude_categories=["Cs"]), max_size=60))
def test_the_kernel_s_ids_are_the_library_s(text: str) -> None:
    ids, starts, failed = wordpiece_ids(
        _TABLES, pa.array([text, "tree", text * 3], pa.large_string()), 10_000
    )
    expected = [
        each.ids for each in _TOKENIZER.encode_batch_fast([text, "tree", text * 3], add_special_tokens=False)
    ]
    assert failed.tolist() == [
        any(ord(c) >= 0x32400 for c in text),
        False,
        any(ord(c) >= 0x32400 for c in text),
    ]
    for i, one in enumerate(expected):
        if not failed[i]:
            assert ids[starts[i] : starts[i + 1]].tolist() == one


_TOKENIZER = bert_tokenizer(vocabulary())
_TOKENIZER.encode_special_tokens = True
_TABLES = wordpiece(_TOKENIZER)


def test_every_code_point_tokenizes_as_the_library_does() -> None:
    codes = [c for c in range(0x32400) if not 0xD800 <= c < 0xE000]
    texts = ["tree" + "".join(map(chr, codes[at : at + 37])) + "s" for at in range(0, len(codes), 37)]
    ids, starts, failed = wordpiece_ids(_TABLES, pa.array(texts, pa.large_string()), 10_000)
    assert not failed.any()
    expected = [each.ids for each in _TOKENIZER.encode_batch_fast(texts, add_special_tokens=False)]
    assert [ids[a:b].tolist() for a, b in itertools.pairwise(starts)] == expected


def test_other_tokenizers_go_to_the_library() -> None:
    from tokenizers import Tokenizer, models, normalizers

    lower = bert_tokenizer(vocabulary())
    lower.normalizer = normalizers.Lowercase()
    assert wordpiece(lower) is None
    assert wordpiece(Tokenizer(models.BPE())) is None


def test_a_transformer_s_vectors_are_its_library_s(thin):
    from sentence_transformers import SentenceTransformer

    model = load_model(str(thin), device="cpu")
    assert isinstance(model, TransformerModel) and model.max_tokens == 24 and model.dimensions == 32
    texts = [*(" ".join(WORDS[i % 30 : i % 30 + 1 + i % 40]) for i in range(60)), *HOSTILE]
    found = model.embed(texts)
    theirs = SentenceTransformer(str(thin), device="cpu").encode(texts, normalize_embeddings=True)
    np.testing.assert_allclose(found.vectors, theirs, atol=2e-6)
    assert found.num_tokens.max() == 24 and found.num_tokens[texts.index("")] == 2
    assert found.truncated[texts.index("tree " * 50_000)] and not found.truncated[0]
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-5)
    one_by_one = np.concatenate([model.encode([text]) for text in texts])
    np.testing.assert_allclose(one_by_one, found.vectors, atol=2e-6)


def test_threads_share_a_model(thin):
    model = load_model(str(thin), device="cpu")
    assert load_model(str(thin), device="cpu") is model
    texts = [" ".join(WORDS[i:]) for i in range(30)]
    expected = model.encode(texts)
    found: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: found.append(model.encode(texts))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in found:
        np.testing.assert_array_equal(each, expected)


def test_distilling(thin, tmp_path, monkeypatch):
    model = load_model(str(thin), device="cpu")
    seen: list[tuple[int, int]] = []
    folder = distill(model, tmp_path / "distilled", dimensions=8, progress=lambda *n: seen.append(n))
    made = load_model(str(folder))
    assert isinstance(made, StaticModel) and made.dimensions == 8 and seen[-1][0] == seen[-1][1]
    vectors = made.encode(["binary tree", "tree binary", "sort list"])
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)  # a bag of tokens
    assert not made.encode([""]).any()
    again = distill(model, tmp_path / "again", dimensions=8)
    assert (again / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    with pytest.raises(BadInput, match="is there already"):
        distill(model, folder)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again", "distilled"]  # nothing half made
    monkeypatch.setattr("safetensors.numpy.save_file", _broken)
    with pytest.raises(OSError, match="No space"):
        distill(model, tmp_path / "third")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again", "distilled"]


def _broken(*_: object) -> None:
    raise OSError("No space left on device")


def test_parts_of_the_recipe():
    rows = np.random.default_rng(1).normal(size=(50, 6)) * [9, 5, 3, 1, 0.5, 0.1]
    found = principal_components(rows, 3)
    centered = rows - rows.mean(axis=0)
    singular = np.linalg.svd(centered, compute_uv=False)
    np.testing.assert_allclose(np.sqrt((found**2).sum(axis=0)), singular[:3])
    np.testing.assert_array_equal(found, principal_components(rows.copy(), 3))
    weights = sif_weights(30_000)
    assert (np.diff(weights) > 0).all() and 0 < weights[0] < 0.01 and weights[-1] < 1


def test_minilm_from_its_wheel(tmp_path, monkeypatch, capsys):
    """The real model, and what is distilled from it: alike texts are nearer to each other than to others."""
    model = load_model("minilm", device="cpu")
    assert model.id.startswith("minilm@") and model.dimensions == 384 and model.max_tokens == 256
    texts = [
        "how to bake bread at home",
        "a recipe for sourdough loaves",
        "segmentation fault in the C compiler",
    ]
    a, b, c = model.encode(texts)
    assert a @ b > 0.4 > 0.2 > a @ c
    monkeypatch.setenv("HEADWATER_CACHE", str(tmp_path))
    assert cache_folder("models") == tmp_path / "models"
    # The whole vocabulary takes half a minute: the tables of ten words stand for it here.
    made = []

    def few(source, to, **_):
        made.append(to)
        return static_folder(Path(to))

    monkeypatch.setattr("headwater.embedding.load.distill", few)
    first = load_model("static")
    assert "once" in capsys.readouterr().err and first.id.startswith("static@")
    assert load_model("static") is first and len(made) == 1 and str(made[0]).startswith(str(tmp_path))
    assert not capsys.readouterr().err


def test_models_that_are_not_there(tmp_path, static, thin):
    with pytest.raises(BadInput, match="no folder"):
        load_model(str(tmp_path / "none"))
    with pytest.raises(
        BadInput, match=r"(?s)no embedding model 'some/model' on this machine.*downloads nothing"
    ):
        load_model("some/model")
    for name in ("", "minilmm", "a b", "x\x00y", "../../etc"):
        with pytest.raises(BadInput):
            load_model(name)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(BadInput, match="cannot read the embedding model"):
        load_model(str(empty))
    cut_short = static_copy(static, tmp_path / "cut")
    content = (cut_short / "model.safetensors").read_bytes()
    (cut_short / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(BadInput, match=r"cannot read .*model.safetensors"):
        load_model(str(cut_short))
    damaged = static_copy(static, tmp_path / "damaged")
    (damaged / "tokenizer.json").write_text("{")
    with pytest.raises(BadInput, match="tokenizer.json"):
        load_model(str(damaged))
    broken = tmp_path / "broken"
    shutil.copytree(thin, broken)
    (broken / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{not json}")
    with pytest.raises(BadInput):
        load_model(str(broken), device="cpu")


def test_an_id_in_the_local_cache(static, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    kept = tmp_path / "models--acme--small"
    static_copy(static, kept / "snapshots" / "a1b2c3")
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("a1b2c3")
    model = load_model("acme/small")
    assert model.id.startswith("small@") and isinstance(model, StaticModel)
    with pytest.raises(BadInput, match="not in the Hugging Face cache"):
        load_model("acme/large")


def test_a_folder_of_anything_is_read_no_deeper_than_a_model(tmp_path):
    deep = tmp_path / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (deep / "model.safetensors").write_bytes(b"x")
    with pytest.raises(BadInput, match="cannot read the embedding model"):
        load_model(str(tmp_path))


def test_not_finite_weights_and_odd_tables(static, tmp_path):
    from safetensors.numpy import load_file, save_file

    table = load_file(str(static / "model.safetensors"))["embeddings"]
    bad = static_copy(static, tmp_path / "nan")
    for tensors, said in (
        ({"embeddings": np.where(np.arange(len(table))[:, None] == 9, np.nan, table)}, "not finite"),
        ({"embeddings": table, "mapping": np.full(len(table), 10**6)}, "vectors that are not there"),
        ({"embeddings": table, "weights": np.ones(3, np.float32)}, "weights of shape"),
        ({"embeddings": table[0]}, "no table"),
    ):
        save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, str(bad / "model.safetensors"))
        with pytest.raises(BadInput, match=said):
            StaticModel(bad, "x@1")
    short = static_copy(static, tmp_path / "short")
    save_file({"embeddings": table[:60]}, str(short / "model.safetensors"))  # fewer vectors than tokens
    assert np.isfinite(StaticModel(short, "x@1").encode(["tree"] * 20)).all()


def test_unit_and_cut():
    rows = np.array([[3, 4], [0, 0], [np.nan, 1], [np.inf, 0]], dtype=np.float32)
    np.testing.assert_allclose(unit(rows), [[0.6, 0.8], [0, 0], [0, 0], [0, 0]], atol=1e-7)
    texts, longer = cut(text_array(["中" * 100, "b" * 32, None]), 1)
    assert texts.to_pylist() == ["中" * 32, "b" * 32, ""] and longer.tolist() == [True, False, False]


def test_devices(thin, static):
    import torch

    if not torch.cuda.is_available():
        for device in ("cuda", "cuda:1"):
            for folder in (thin, static):
                with pytest.raises(
                    UsageError, match=rf"device {device} was asked for; PyTorch .* sees no CUDA"
                ):
                    load_model(str(folder), device=device)
    with pytest.raises(UsageError, match="unknown device"):
        load_model(str(thin), device="gpu")
    assert load_model(str(static), device="cpu").device == "cpu"


def test_without_the_extra(thin, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    from headwater.embedding import transformer

    with pytest.raises(MissingExtra, match="embeddings"):
        transformer._load(thin, "cpu")


def test_no_weights_of_pickles(thin, tmp_path):
    """A folder whose weights are a pickle is refused: only safetensors are read."""
    import torch

    folder = tmp_path / "pickled"
    shutil.copytree(thin, folder)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(BadInput):
        load_model(str(folder), device="cpu")
