"""Special tokens in a ``tokenizer.json``: no text is encoded to them, and they can be added at any time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

EOS = "<|endoftext|>"
"""Closes every document."""

FIM_TOKENS = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>")
"""Open the parts of a document that is trained on with its middle at the end (``sequences.forms``)."""

SPECIAL_TOKENS = (EOS, *FIM_TOKENS)
"""Those of every tokenizer that is trained here, ids 0 to 3, used or not: vocabularies outlive a corpus."""

_NOT_OF_TEXT = ("decoder", "padding", "post_processor", "truncation")


def listed(tokenizer_json: str) -> list[str]:
    """The special tokens it names."""
    added = json.loads(tokenizer_json).get("added_tokens") or []
    return [token["content"] for token in added if token.get("special")]


def without_special_tokens(tokenizer_json: str) -> str:
    """The same tokenizer that takes no part of a text for a special token.

    A document that spells ``<|endoftext|>`` must not be able to end itself.
    """
    content = json.loads(tokenizer_json)
    added = content.get("added_tokens") or []
    content["added_tokens"] = [token for token in added if not token.get("special")]
    return json.dumps(content, ensure_ascii=False)


def text_part(tokenizer_json: str) -> str:
    """What decides the ids of a text: all but special tokens, decoder, template, truncation and padding."""
    content = json.loads(without_special_tokens(tokenizer_json))
    return json.dumps({key: value for key, value in content.items() if key not in _NOT_OF_TEXT})


def add_special_tokens(
    tokenizer_json: str, names: Sequence[str], vocabulary: Mapping[str, int], vocab_size: int
) -> tuple[str, dict[str, int]]:
    """The tokenizer with these special tokens, and their ids: those they had, or the next free ones."""
    content = json.loads(tokenizer_json)
    held = {token["content"]: token for token in content.get("added_tokens") or []}
    fresh = [name for name in names if name not in vocabulary]
    ids = {name: vocabulary[name] for name in names if name in vocabulary}
    ids |= {name: vocab_size + n for n, name in enumerate(fresh)}
    options = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    for name, i in ids.items():
        held[name] = {"id": i, "content": name, **options, "special": True}
    content["added_tokens"] = sorted(held.values(), key=lambda token: int(token["id"]))
    return json.dumps(content, ensure_ascii=False), ids
