"""Writes ``datatrove_decisions.json``: what datatrove's real filters say of every golden document, rule by rule.

Run it with an interpreter that has datatrove and spaCy: ``python tests/golden/make_datatrove_decisions.py``.
Each rule is asked alone, every other rule of its filter switched off.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4ParagraphFilter,
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)

HERE = Path(__file__).parent
QUALITY_OFF = dict.fromkeys(
    ("min_doc_words", "max_doc_words", "min_avg_word_length", "max_avg_word_length", "max_symbol_word_ratio",
     "max_bullet_lines_ratio", "max_ellipsis_lines_ratio", "max_non_alpha_words_ratio", "min_stop_words")
)  # fmt: skip
REPETITION_OFF = {
    "dup_line_frac": None,
    "dup_para_frac": None,
    "dup_line_char_frac": None,
    "dup_para_char_frac": None,
    "top_n_grams": (),
    "dup_n_grams": (),
}
FINEWEB_OFF = {
    "line_punct_thr": 0.0,
    "short_line_thr": 2.0,
    "char_duplicates_ratio": 2.0,
    "new_line_ratio": 1e9,
}


def quality(**on):
    return GopherQualityFilter(**{**QUALITY_OFF, **on})


def repetition(**on):
    return GopherRepetitionFilter(**{**REPETITION_OFF, **on})


def fineweb(**on):
    return FineWebQualityFilter(**{**FINEWEB_OFF, **on})


# rule: (filter, reasons that are the rule's; None: any)
RULES = {
    "gopher_quality": {
        "min_words": (quality(min_doc_words=50), None),
        "max_words": (quality(max_doc_words=100_000), None),
        "min_word_length": (quality(min_avg_word_length=3), None),
        "max_word_length": (quality(max_avg_word_length=10), None),
        "hashes": (quality(max_symbol_word_ratio=0.1), {"gopher_too_many_hashes"}),
        "ellipses": (quality(max_symbol_word_ratio=0.1), {"gopher_too_many_ellipsis"}),
        "bullet_lines": (quality(max_bullet_lines_ratio=0.9), None),
        "ellipsis_lines": (quality(max_ellipsis_lines_ratio=0.3), None),
        "alpha_words": (quality(max_non_alpha_words_ratio=0.8), None),
        "stop_words": (quality(min_stop_words=2), None),
    },
    "gopher_repetition": {
        "dup_lines": (repetition(dup_line_frac=0.3), None),
        "dup_paragraphs": (repetition(dup_para_frac=0.3), None),
        "dup_line_chars": (repetition(dup_line_char_frac=0.2), None),
        "dup_paragraph_chars": (repetition(dup_para_char_frac=0.2), None),
        **{f"top_{n}_gram": (repetition(top_n_grams=((n, s),)), None) for n, s in ((2, 0.2), (3, 0.18), (4, 0.16))},
        **{
            f"dup_{n}_gram": (repetition(dup_n_grams=((n, s),)), None)
            for n, s in ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))
        },
    },
    "fineweb": {
        "terminal_lines": (fineweb(line_punct_thr=0.12), None),
        "short_lines": (fineweb(short_line_thr=0.67), None),
        "dup_line_chars": (fineweb(char_duplicates_ratio=0.01), None),
        "newlines": (fineweb(new_line_ratio=0.3), None),
    },
    "c4": {
        "min_sentences": (C4QualityFilter(filter_lorem_ipsum=False, filter_curly_bracket=False), None),
        "lorem_ipsum": (C4QualityFilter(min_num_sentences=-1, filter_curly_bracket=False), {"lorem_ipsum"}),
        "curly_bracket": (C4QualityFilter(min_num_sentences=-1, filter_lorem_ipsum=False), {"curly_bracket"}),
    },
    "c4_fineweb": {
        "min_sentences": (
            C4QualityFilter(filter_no_terminal_punct=False, filter_lorem_ipsum=False, filter_curly_bracket=False), None
        ),
    },
    "c4_mc4": {"min_paragraphs": (C4ParagraphFilter(), None)},
}  # fmt: skip


def decide(found, text, reasons):
    try:
        answer = found.filter(Document(text=text, id="golden"))
    except ZeroDivisionError:  # no word, no line
        return None
    reason = answer[1] if isinstance(answer, tuple) else None
    return reason is None or (reasons is not None and reason not in reasons)


def main() -> None:
    decisions, cleaned = {}, {}
    for entry in json.loads((HERE / "documents.json").read_text(encoding="utf-8")):
        text = "".join(part * times for part, times in entry["parts"])
        decisions[entry["id"]] = {
            family: {rule: decide(found, text, reasons) for rule, (found, reasons) in rules.items()}
            for family, rules in RULES.items()
        }
        if entry["family"] == "c4" and len(text) < 10_000:
            document = Document(text=text, id="golden")
            if C4QualityFilter(min_num_sentences=-1).filter(document) is True:
                cleaned[entry["id"]] = document.text
    made_with = {name: version(name) for name in ("datatrove", "spacy")}
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in decisions.items())
    texts = ",\n".join(
        f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in cleaned.items()
    )
    (HERE / "datatrove_decisions.json").write_text(
        f'{{"made_with": {json.dumps(made_with)},\n"decisions": {{\n{lines}\n}},\n"cleaned": {{\n{texts}\n}}}}\n',
        encoding="utf-8",
    )
    print(len(decisions), "documents", made_with)


if __name__ == "__main__":
    main()
