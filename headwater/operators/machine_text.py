"""Marks of text that a language model wrote: a signal, never a verdict."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headwater.kernels.word_sequence import repeated_share, word_sequence
from headwater.operators.registry import operator, struct_array

Floats = npt.NDArray[np.float64]

MACHINE_TEXT = pa.struct(
    [
        pa.field("score", pa.float64()),
        pa.field("evidence", pa.list_(pa.string())),
        pa.field("num_marks", pa.int64()),
        pa.field("repeated_share", pa.float64()),
    ]
)


class Mark(NamedTuple):
    """A pattern (RE2, letter case does not count), what one occurrence weighs, and what many weigh at most.

    ``per_words``: occurrences count in so many words, so that a long text is not suspect for its length.
    """

    name: str
    pattern: str
    one: float
    most: float
    per_words: int | None = None


_APOSTROPHE = "(?:'|\u2019)"

MARKS = (
    Mark(
        "assistant_phrase",
        rf"\bas an ai(?: language)? model\b|\bi am an ai\b|\bi{_APOSTROPHE}m an ai\b"
        rf"|\bi(?:{_APOSTROPHE}m| am) sorry,? but (?:i can|as an)"
        rf"|\bi (?:cannot|can{_APOSTROPHE}t) (?:fulfill|assist with)"
        r"|\bas of my (?:last|latest) (?:knowledge )?update\b|\bmy knowledge cutoff\b"
        r"|\bi hope this helps\b|\blet me know if you (?:have|need|would|want)\b|\bfeel free to ask\b"
        rf"|\bis there anything else (?:i can|you{_APOSTROPHE}d)|\bhappy to help\b"
        r"|\bhow can i (?:help|assist) you\b",
        0.6,
        0.95,
    ),
    Mark(
        "answer_opening",
        rf"\A\s*(?:sure|certainly|absolutely|of course|great question)\s*[,!.:]"
        rf"|\A\s*here(?:{_APOSTROPHE}s| is| are) (?:a|an|the|your|some|one|three|two|five)\b[^\n]{{0,120}}"
        rf"|\A\s*(?:title|question|answer|solution|exercise|story)\s*(?:\d+\s*)?:"
        rf"|\A\s*i(?:{_APOSTROPHE}d| would) be (?:happy|glad) to\b",
        0.6,
        0.6,
    ),
    Mark(
        "chat_template",
        r"(?m)^\s*(?:<\|(?:im_start|im_end|user|assistant|system|endoftext|eot_id|start_header_id)\|>|\[/?INST\]|<</?SYS>>"
        r"|</?s>|<start_of_turn>|### (?:instruction|response|assistant|human):|</?think>)",
        0.8,
        0.95,
    ),
    Mark("fenced_whole", r"\A[^\n]{0,200}\n{0,2}\s*```[a-z0-9+#]*\n", 0.7, 0.7),
    Mark(
        "placeholder",
        r"\[(?:your|insert|author|company|recipient)[ a-z']{0,40}\]|<(?:your|insert)[ _-][a-z_ -]{1,30}>",
        0.3,
        0.5,
    ),
    Mark(
        "stock_phrase",
        r"\bdelv(?:e|es|ing) (?:in|deeper|into)|\brich tapestry\b|\btestament to\b"
        r"|\bin today's (?:fast|digital|world)"
        r"|\bever-(?:evolving|changing)\b"
        r"|\bit(?:'s| is) (?:important|worth|crucial|essential) to (?:note|remember|understand)\b"
        r"|\bplays? an? (?:crucial|vital|key|significant|essential) role\b"
        r"|\bin conclusion,|\bin summary,|\boverall,"
        r"|\bby following these\b|\bin this (?:section|chapter|exercise|example|tutorial), (?:we|you)\b"
        r"|\bonce upon a time\b|\bstep-by-step\b|\bensur(?:e|es|ing) that\b"
        r"|\b(?:deep|deeper) understanding\b|\bgame[- ]chang",
        0.25,
        0.75,
        150,
    ),
    Mark(
        "narrated_code",
        r"this (?:function|class|method|program|script|code|module)"
        r" (?:takes|uses|is used|is a|provides|defines|will|demonstrates|implements)\b"
        r"|(?m)^\s*#\s*(?:example usage|usage example|test the|test cases?|create an? (?:instance|new)"
        r"|define (?:the|a)|print the|import (?:the|necessary)|call the|initialize the)\b"
        r"|\bhere's (?:how|an example|the)\b|\bnote that this\b|\bin this (?:code|implementation|function)\b",
        0.2,
        0.7,
        150,
    ),
    Mark(
        "listed_in_bold",
        r"(?m)^\s*(?:[-*]|\d{1,2}\.)\s+\*\*[^*\n]{1,80}\*\*|^\s*\*\*[^*\n]{1,80}\*\*:?\s*$",
        0.1,
        0.35,
        150,
    ),
)
"""Chosen by hand from what assistants are known to write; fitted to no generator. Lists with bold heads weigh
little because READMEs of people have them too."""

REPETITION_FLOOR, REPETITION_CEILING, REPETITION_MOST = 0.35, 0.9, 0.6
"""Share of repeated word 5-grams from which a text is suspect of a loop, at which it is most suspect, and
what that weighs. Files of code repeat themselves up to about a third."""

CUT_OFF_WEIGHT = 0.15
"""A text that breaks off within a word or a clause, without a line end: an answer of limited length."""

_ENDED = r"""[\n.!?:;)\]}"'`>*=\x{2026}\x{201d}]\s*\z"""
EVIDENCE_FLOOR = 0.1
"""What weighs less is not named as evidence."""


@operator(
    name="machine_text",
    version=1,
    inputs={"text": pa.large_string()},
    output=MACHINE_TEXT,
    source="weights chosen by hand, measured in docs/how-to/synthetic-data.md",
)
def machine_text(text: pa.Array) -> pa.Array:
    """How much a text looks like a language model's, from 0 to 1, and what for, the strongest first.

    The marks: phrases of assistants, an answer's opening, tokens of a chat template at the start of a line,
    one code fence around everything, placeholders, stock phrases, code that narrates itself, lists with bold
    heads, loops (``repeated_share``: word 5-grams that occurred before), a text that breaks off.
    ``num_marks`` counts occurrences. Each mark is taken as independent: the score is one minus the product of
    what each leaves. It is a signal for looking at *sources*: single documents are wrong often enough, and a
    careful generator leaves few of these marks. Texts that quote them, as code about chat templates does,
    score too.
    """
    words = word_sequence(text)
    num_words = words.counts
    weights: dict[str, Floats] = {}
    marks = np.zeros(len(text), np.int64)
    for mark in MARKS:
        hits = pc.count_substring_regex(text, mark.pattern, ignore_case=True)
        hits = hits.to_numpy(zero_copy_only=False).astype(np.int64)
        marks += hits
        amount = hits / np.maximum(num_words / mark.per_words, 1) if mark.per_words else hits
        weights[mark.name] = np.minimum(mark.most, 1 - (1 - mark.one) ** amount)
    repeated = repeated_share(words, 5)
    span = REPETITION_CEILING - REPETITION_FLOOR
    weights["repetition"] = REPETITION_MOST * np.clip((repeated - REPETITION_FLOOR) / span, 0, 1)
    ended = pc.match_substring_regex(text, _ENDED).to_numpy(zero_copy_only=False)
    weights["cut_off"] = np.where(~ended & (num_words > 0), CUT_OFF_WEIGHT, 0.0)
    left = np.ones(len(text))
    for weight in weights.values():
        left *= 1 - weight
    return struct_array(
        MACHINE_TEXT,
        {
            "score": 1 - left,
            "evidence": _evidence(weights, len(text)),
            "num_marks": marks,
            "repeated_share": repeated,
        },
    )


def _evidence(weights: dict[str, Floats], rows: int) -> pa.Array:
    """The names of the marks that weigh enough, in each row the heaviest first."""
    names = pa.array(list(weights), pa.string())
    table = np.column_stack(list(weights.values())) if rows else np.zeros((0, len(names)))
    order = np.argsort(-table, axis=1, kind="stable")
    is_said = np.take_along_axis(table, order, axis=1) >= EVIDENCE_FLOOR
    offsets = np.concatenate([[0], np.cumsum(is_said.sum(axis=1))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), names.take(pa.array(order[is_said])))
