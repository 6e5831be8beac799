"""TinyStories (arXiv 2305.07759): stories in a small child's words, three of which every prompt demands."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from headwater.errors import BadInput
from headwater.lake import Provenance
from headwater.operators import operator
from headwater.synthesis.recipes.prompts import combinations, prompt_row, write_prompts

if TYPE_CHECKING:
    from headwater.lake import Lake, Table

VOCABULARY_WORDS = 1_500
"""Words that a small child knows, as the paper puts it."""

FEATURES = ("a dialogue", "a plot twist", "a bad ending", "a moral value", "a foreshadowing", "a conflict")
"""The paper's features of a story (its appendix A)."""

STORY = (
    "Write a short story (three to five paragraphs) which only uses very simple words that a small child "
    "understands. The story must use the words {words}. {feature}Remember to use only simple words."
)

WORDS = pa.schema({"word": pa.string(), "documents": pa.int64(), "count": pa.int64(), "rank": pa.int64()})
"""Columns of a vocabulary; ``rank`` counts from 1."""

ACCEPTED_SHARE = 0.02
"""Words outside the vocabulary that a story may have: one in fifty, for names. Ours, not the paper's."""


def vocabulary_words(
    lake: Lake, table: str, name: str = "story_vocabulary", *, size: int = VOCABULARY_WORDS
) -> Table:
    """The words that most documents of ``table`` use: a list with a source, and not somebody's authority.

    Words are lower-cased runs of ``a`` to ``z``, as the operator ``vocabulary`` reads them (without numbers);
    ties go by count, then by the alphabet. What kind of words they are is what kind of texts ``table`` holds:
    take stories, spoken language or simple prose for it, not code.
    """
    source = lake.table(table)
    documents: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for batch in source.scan(["text"]):
        for text in batch["text"].to_pylist():
            found = Counter(_words(text or ""))
            counts.update(found)
            documents.update(found.keys())
    if not counts:
        raise BadInput(f"{source.ref} has no words", hint="name a table with texts in English")
    ordered = sorted(counts, key=lambda word: (-documents[word], -counts[word], word))[:size]
    rows = [
        {"word": word, "documents": documents[word], "count": counts[word], "rank": rank}
        for rank, word in enumerate(ordered, 1)
    ]
    provenance = Provenance(kind="recipe", inputs=(source.ref,), extra={"size": size})
    lake.write(name, pa.Table.from_pylist(rows, WORDS), provenance=provenance)
    return lake.table(name)


def write_vocabulary(table: Table, path: Path) -> str:
    """The words as a file for the operator ``vocabulary``, one a line; returns the file's digest."""
    rows = table.to_arrow(["word", "rank"]).sort_by("rank")
    content = ("\n".join(rows["word"].to_pylist()) + "\n").encode()
    path.write_bytes(content)
    return xxhash.xxh3_128_hexdigest(content)


def story_prompts(
    lake: Lake,
    words: Sequence[str],
    name: str = "story_prompts",
    *,
    limit: int = 100,
    seed: int = 0,
    features: Sequence[str] = FEATURES,
) -> Table:
    """Prompts with three different words and, in half of them, a feature.

    The paper draws a noun, a verb and an adjective; a list without parts of speech gives any three words.
    Those of three letters and more are drawn: shorter ones carry no story.
    """
    usable = [word for word in dict.fromkeys(words) if len(word) >= 3 and word.isalpha()]
    if len(usable) < 3:
        raise BadInput(f"got {len(usable)} words of three letters and more", hint="at least three")
    chosen = combinations(
        {"a": usable, "b": usable, "c": usable, "feature": [*features, *([""] * max(len(features), 1))]},
        2 * limit + 16,
        seed,
    )
    rows: list[dict[str, Any]] = []
    for each in chosen:
        three = [each["a"], each["b"], each["c"]]
        if len(set(three)) < 3 or len(rows) >= limit:
            continue
        feature = f"The story has {each['feature']}. " if each["feature"] else ""
        text = STORY.format(words=", ".join(repr(word) for word in three), feature=feature)
        rows.append(prompt_row("tinystories", text, metadata={"words": three, "feature": each["feature"]}))
    return write_prompts(lake, name, rows)


def accept_stories(
    lake: Lake,
    documents: str,
    vocabulary: str,
    name: str = "tinystories",
    *,
    max_outside: float = ACCEPTED_SHARE,
) -> Table:
    """Stories of ``documents`` that keep to the vocabulary and use the words they were asked for.

    The table holds every candidate's measures and whether it is kept, so that a story that is out has its
    reason: ``keep__vocabulary``, ``keep__asked_words``. Text stays where it is (contract C2).
    """
    table, known = lake.table(documents), lake.table(vocabulary)
    words = " ".join(known.to_arrow(["word"])["word"].to_pylist())
    parts = []
    for batch in table.scan(["doc_id", "text", "metadata"]):
        found = operator("vocabulary")(batch["text"], words=words)
        share = pc.struct_field(found, "outside_share")
        asked = [
            set((json.loads(metadata) if metadata else {}).get("words", ())) <= set(_words(text or ""))
            for text, metadata in zip(batch["text"].to_pylist(), batch["metadata"].to_pylist(), strict=True)
        ]
        fits = pc.and_(
            pc.less_equal(share, max_outside),
            pc.greater(pc.struct_field(found, "num_words"), 0),
        )
        parts.append(
            pa.table(
                {
                    "doc_id": batch["doc_id"],
                    "num_words": pc.struct_field(found, "num_words"),
                    "outside_share": share,
                    "keep__vocabulary": fits,
                    "keep__asked_words": pa.array(asked, pa.bool_()),
                }
            )
        )
    provenance = Provenance(
        kind="recipe",
        inputs=(table.ref, known.ref),
        extra={"max_outside": max_outside, "candidates": documents},
    )
    checked = pa.concat_tables(parts)
    kept = pc.and_(checked["keep__vocabulary"], checked["keep__asked_words"])
    lake.write(f"{name}_checks", checked, provenance=provenance)
    lake.write(
        name, checked.filter(kept).select(["doc_id", "num_words", "outside_share"]), provenance=provenance
    )
    return lake.table(name)


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())
