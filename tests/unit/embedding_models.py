"""Small embedding models for tests, made without MiniLM: a static one, and a transformer of random weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

WORDS = [
    "the",
    "tree",
    "search",
    "binary",
    "of",
    "a",
    "sort",
    "list",
    "python",
    "function",
    "class",
    "return",
    "import",
    "def",
    "python",
    "parse",
    "command",
    "line",
    "argument",
    "file",
    "read",
    "write",
    "data",
    "model",
    "train",
    "test",
    "loss",
    "index",
    "table",
    "row",
    "column",
    "query",
    "token",
    "word",
    "text",
]


def vocabulary() -> list[str]:
    letters = [chr(c) for c in range(33, 127) if not chr(c).isupper()]
    pieces = [f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz0123456789"] + ["##s", "##ing", "##ed"]
    return list(
        dict.fromkeys(
            ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *pieces, *WORDS, "é", "中", "ß"]
        )
    )


def bert_tokenizer(vocab: list[str]):
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    ids = {token: i for i, token in enumerate(vocab)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
    )
    return tokenizer


def static_folder(folder: Path, *, seed: int = 0, dimensions: int = 16) -> Path:
    """A static model in model2vec's layout."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    vocab = vocabulary()
    table = np.random.default_rng(seed).normal(size=(len(vocab), dimensions)).astype(np.float32)
    table[:5] = 0
    save_file({"embeddings": table}, str(folder / "model.safetensors"))
    bert_tokenizer(vocab).save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"model_type": "model2vec"}))
    return folder


def transformer_folder(folder: Path, *, seed: int = 0, max_tokens: int = 24) -> Path:
    """A sentence-transformers model: a BERT of two thin layers with random weights, and mean pooling."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    bare = folder / "bare"
    bare.mkdir(parents=True)
    vocab = vocabulary()
    (bare / "vocab.txt").write_text("\n".join(vocab) + "\n", encoding="utf-8")
    tokenizer = BertTokenizerFast(vocab=str(bare / "vocab.txt"), model_max_length=max_tokens)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocab), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=48, max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(bare)
    tokenizer.save_pretrained(bare)
    word = Transformer(str(bare), max_seq_length=max_tokens)
    SentenceTransformer(modules=[word, Pooling(word.get_embedding_dimension())], device="cpu").save(
        str(folder / "model")
    )
    return folder / "model"


def documents(rows: list[tuple[str, str]]) -> pa.Table:
    """``(path, text)`` as raw.documents has them."""
    return pa.table(
        {
            "doc_id": pa.array(
                [xxhash.xxh3_128_digest((p + "\0" + t).encode()) for p, t in rows], pa.binary(16)
            ),
            "text": pa.array([t for _, t in rows], pa.large_string()),
            "text_hash": pa.array([xxhash.xxh3_128_digest(t.encode()) for _, t in rows], pa.binary(16)),
            "source": ["tests"] * len(rows),
            "path": [p for p, _ in rows],
            "origin": ["human"] * len(rows),
            "license_declared": ["MIT"] * len(rows),
            "text_bytes": pa.array([len(t.encode()) for _, t in rows], pa.int64()),
        }
    )
