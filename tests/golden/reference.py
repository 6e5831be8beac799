"""The published measures in plain Python, written from their descriptions: what the kernels are held against.

Slow, obvious, and independent of the library. Words are given by the caller where a variant's tokenizer is
not Python's ``str.split``.
"""

from __future__ import annotations

import re
from collections import Counter
from statistics import median

STOP_WORDS = {"the", "be", "to", "of", "and", "that", "have", "with"}
Measures = dict[str, float]


def stripped(text: str, separator: str) -> list[str]:
    return [piece for part in text.split(separator) if (piece := part.strip())]


def copies(pieces: list[str], *, every: bool) -> tuple[int, int]:
    """(how many are duplicates, their characters): all copies, or only the later ones."""
    counts = Counter(pieces)
    extra = {piece: count if every else count - 1 for piece, count in counts.items() if count > 1}
    return sum(extra.values()), sum(len(piece) * count for piece, count in extra.items())


def share(part: float, of: float) -> float:
    return part / of if of else 0.0


def ngrams(words: list[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def top_share(words: list[str], n: int, *, dolma: bool) -> float:
    counts = Counter(ngrams(words, n))
    if not counts:
        return 0.0
    most = max(counts.values())
    lengths = [sum(map(len, gram)) for gram, count in counts.items() if count == most]
    if dolma:
        return most * lengths[0] / sum(map(len, words))
    return most * max(lengths) / sum(map(len, words)) if most > 1 else 0.0


def repeated_share(words: list[str], n: int, *, dolma: bool) -> float:
    grams = ngrams(words, n)
    counts = Counter(grams)
    if dolma:
        lengths = [sum(map(len, gram)) for gram in grams]
        return share(sum(k for k, gram in zip(lengths, grams, strict=True) if counts[gram] > 1), sum(lengths))
    covered = {k for i, gram in enumerate(grams) if counts[gram] > 1 for k in range(i, i + n)}
    return share(sum(len(words[k]) for k in covered), sum(map(len, words)))


def gram_shares(words: list[str], *, dolma: bool) -> Measures:
    shares = {f"gopher_top_{n}_gram_share": top_share(words, n, dolma=dolma) for n in (2, 3, 4)}
    for n in range(5, 11):
        shares[f"gopher_dup_{n}_gram_share"] = repeated_share(words, n, dolma=dolma)
    return shares


def fineweb(text: str, words: int, terminal: set[str]) -> Measures:
    lines = [line for line in text.split("\n") if line.strip()]
    return {
        "fineweb_terminal_line_share": share(sum(line[-1] in terminal for line in lines), len(lines)),
        "fineweb_short_line_share": share(sum(len(line) <= 30 for line in lines), len(lines)),
        "fineweb_dup_line_char_share": share(copies(lines, every=False)[1], len(text.replace("\n", ""))),
        "fineweb_newline_ratio": share(text.count("\n"), words),
    }


def common(words: list[str]) -> Measures:
    return {
        "gopher_alpha_word_share": share(sum(any(map(str.isalpha, word)) for word in words), len(words)),
        "gopher_word_length": share(sum(map(len, words)), len(words)),
        "gopher_words": len(words),
    }


def dolma(text: str, *, v2: bool = False) -> Measures:
    words = text.split()
    lines = re.split(r"\n+", text) if v2 else text.split("\n")
    count, chars = copies(lines, every=True)
    return {
        **common(words),
        **gram_shares(words, dolma=True),
        "gopher_word_length": median(map(len, words)) if words else 0.0,
        "gopher_symbol_ratio": share(sum("#" in word or "…" in word for word in words), len(words)),
        "gopher_stop_words": sum(word in STOP_WORDS for word in words),
        "gopher_bullet_line_share": share(sum(line.startswith(("*", "-")) for line in lines), len(lines)),
        "gopher_ellipsis_line_share": share(sum(line.endswith("…") for line in lines), len(lines)),
        "gopher_dup_line_share": share(count, len(lines)),
        "gopher_dup_line_char_share": share(chars, sum(map(len, words))),
    }


def dclm(text: str, segments: list[str]) -> Measures:
    """``segments``: the text's UAX 29 words that begin with a letter or digit."""
    words, lines, paragraphs = text.split(), stripped(text, "\n"), stripped(text, "\n\n")
    line_copies, paragraph_copies = copies(lines, every=True), copies(paragraphs, every=True)
    symbols = sum(text.count(symbol) for symbol in ("#", "...", ". . .", "…"))
    return {
        **common(words),
        **gram_shares(segments, dolma=False),
        "gopher_words": sum(word[0].isalnum() for word in words),
        "gopher_symbol_ratio": share(symbols, len(words)),
        "gopher_stop_words": sum(word.lower() in STOP_WORDS for word in words),
        "gopher_bullet_line_share": share(sum(line[0] in "●•*-" for line in lines), len(lines)),
        "gopher_ellipsis_line_share": share(
            sum(line.endswith(("...", ". . .", "…")) for line in lines), len(lines)
        ),
        "gopher_dup_line_share": share(line_copies[0], len(lines)),
        "gopher_dup_line_char_share": share(line_copies[1], sum(map(len, lines))),
        "gopher_dup_paragraph_share": share(paragraph_copies[0], len(paragraphs)),
        "gopher_dup_paragraph_char_share": share(paragraph_copies[1], sum(map(len, paragraphs))),
    }


def paper(text: str) -> Measures:
    words, lines, paragraphs = text.split(), stripped(text, "\n"), stripped(text, "\n\n")
    line_copies, paragraph_copies = copies(lines, every=False), copies(paragraphs, every=False)
    return {
        **common(words),
        **gram_shares(words, dolma=False),
        "gopher_hash_ratio": share(text.count("#"), len(words)),
        "gopher_ellipsis_ratio": share(text.count("...") + text.count("…"), len(words)),
        "gopher_distinct_stop_words": len({word.lower() for word in words} & STOP_WORDS),
        "gopher_bullet_line_share": share(sum(line[0] in "●•*-" for line in lines), len(lines)),
        "gopher_ellipsis_line_share": share(sum(line.endswith(("...", "…")) for line in lines), len(lines)),
        "gopher_dup_line_share": share(line_copies[0], len(lines)),
        "gopher_dup_line_char_share": share(line_copies[1], sum(map(len, lines))),
        "gopher_dup_paragraph_share": share(paragraph_copies[0], len(paragraphs)),
        "gopher_dup_paragraph_char_share": share(paragraph_copies[1], sum(map(len, paragraphs))),
    }


POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")


def c4_lines(text: str, *, marks: str, min_words: int, recount: bool) -> tuple[list[str], set[str]]:
    """(lines kept, what drops the page) of tensorflow_datasets' and datatrove's cleaning, without sentences."""
    kept, dropped = [], set()
    for raw in text.splitlines():
        line = raw.strip()
        words = line.split()
        if any(len(word) > 1000 for word in words):
            continue
        line = re.sub(r"\[\d*]|\[edit]|\[citation needed]", "", line)
        if not line.endswith(tuple(marks)) or line.endswith("..."):
            continue
        if len(line.split() if recount else words) < min_words:
            continue
        lower = line.lower()
        if "lorem ipsum" in lower:
            dropped.add("lorem_ipsum")
        elif "javascript" in lower:
            continue
        elif "{" in line:
            dropped.add("curly_bracket")
        elif not any(phrase in lower for phrase in POLICY):
            kept.append(line)
    return kept, dropped
