"""Writes ``documents.json``: for every rule and variant, documents on both sides of its threshold.

Run it when a rule is added. Each document is a list of ``[text, times]`` parts, and carries the rule it is
about, the side it is meant to fall on in each variant (``keep`` or ``drop``), and nothing else: what every
rule really decides is recorded by ``make_datatrove_decisions.py`` and ``make_dolma_decisions.py``.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DT, DCLM, DOLMA, PAPER = "datatrove", "dclm", "dolma", "paper"
EVERY = (DT, DCLM, DOLMA, PAPER)
documents: list[dict[str, Any]] = []


def words(length: int = 4) -> Iterator[str]:
    """Different words of ``length`` letters, none a stop word or a contraction."""
    vowels, consonants = "aou", "bdfgkpvz"
    pools = [consonants if i % 2 == 0 else vowels for i in range(length)]
    return ("".join(letters) for letters in itertools.product(*pools))


def filler(characters: int, *, spaces: bool) -> str:
    """Different words of exactly so many characters, with or without the spaces between them counted."""
    source, out, used = words(6), [], 0
    while characters - used >= 14:
        out.append(next(source))
        used += 6 + spaces
    rest = characters - used
    return " ".join([*out, "q" * rest]) if rest > 0 else " ".join(out)


def add(rule: str, text: str | list[list[Any]], **sides: str) -> None:
    """A document, and the variants in which it is meant to be kept or dropped by ``rule``."""
    parts = [[text, 1]] if isinstance(text, str) else text
    documents.append({"id": f"{rule}/{len(documents)}", "rule": rule, "parts": parts, "meant": sides})


def pair(rule: str, keep: str | list[list[Any]], drop: str | list[list[Any]], *variants: str) -> None:
    add(rule, keep, **dict.fromkeys(variants, "keep"))
    add(rule, drop, **dict.fromkeys(variants, "drop"))


def gopher_quality() -> None:
    pool = list(itertools.islice(words(5), 400))
    pair("min_words", " ".join(pool[:50]), " ".join(pool[:49]), *EVERY)
    add("min_words", " ".join(pool[:49]) + " !", datatrove="drop", dclm="drop", dolma="keep", paper="keep")
    pair("max_words", [["baba ", 100_000]], [["baba ", 100_001]], *EVERY)
    three, ten = list(words(3)), list(itertools.islice(words(10), 60))
    three = [a + b for a in "bdf" for b in ("ab", "od", "ug", "up", "av", "oz", "ik")] * 3
    pair("min_word_length", " ".join(three[:51]), " ".join([*three[:50], "ox"]), DT, DCLM, PAPER)
    pair("min_word_length", " ".join(three[:51]), " ".join([*three[:25], *["ox"] * 26]), DOLMA)
    pair("max_word_length", " ".join(ten[:51]), " ".join([*ten[:50], "b" * 11]), DT, DCLM, PAPER)
    pair("max_word_length", " ".join(ten[:51]), " ".join([*ten[:25], *["b" * 11] * 26]), DOLMA)
    some = pool[:45]
    pair("hashes", " ".join([*some, *"#####"]), " ".join([*some, *"######"]), DT, PAPER)
    pair("symbols", " ".join([*some, *"#####"]), " ".join([*some, *"######"]), DCLM, DOLMA)
    pair("ellipses", " ".join([*some, *["..."] * 5]), " ".join([*some, *["..."] * 6]), DT, PAPER)
    pair("ellipses", " ".join([*some, *"…" * 5]), " ".join([*some, *"…" * 6]), DT, PAPER)
    pair("symbols", " ".join([*some, *"###", *["..."] * 2]), " ".join([*some, *"###", *["..."] * 3]), DCLM)
    pair("symbols", " ".join([*some, *"###", *"……"]), " ".join([*some, *"###", *"………"]), DOLMA)
    for bullet, variants in (
        ("•", (DT, DCLM, PAPER)),
        ("-", EVERY),
        ("*", (DCLM, DOLMA, PAPER)),
        ("●", (DCLM,)),
    ):
        lines = [f"{bullet} {word}" for word in pool[:10]]
        pair("bullet_lines", "\n".join([*lines[:9], "plain"]), "\n".join(lines), *variants)
    for end, variants in (("…", EVERY), ("...", (DT, DCLM, PAPER)), (". . .", (DCLM,))):
        lines = [f"{word} {other}" for word, other in zip(pool[:10], pool[10:20], strict=True)]
        keep = [line + end if i < 3 else line for i, line in enumerate(lines)]
        drop = [line + end if i < 4 else line for i, line in enumerate(lines)]
        pair("ellipsis_lines", "\n".join(keep), "\n".join(drop), *variants)
    numbers = [str(n) for n in range(100, 120)]
    pair("alpha_words", " ".join([*pool[:40], *numbers[:10]]), " ".join([*pool[:39], *numbers[:11]]), *EVERY)
    add("stop_words", " ".join([*pool[:50], "the", "of"]), **dict.fromkeys(EVERY, "keep"))
    add("stop_words", " ".join([*pool[:50], "the"]), **dict.fromkeys(EVERY, "drop"))
    add("stop_words", " ".join([*pool[:50], "the", "the"]),
        datatrove="drop", paper="drop", dclm="keep", dolma="keep")  # fmt: skip
    add("stop_words", " ".join([*pool[:50], "The", "OF"]),
        datatrove="drop", paper="keep", dclm="keep", dolma="drop")  # fmt: skip
    add("stop_words", " ".join([*pool[:50], "the,", "of."]),
        datatrove="keep", paper="drop", dclm="drop", dolma="drop")  # fmt: skip


def gopher_repetition() -> None:
    pool = list(itertools.islice(words(5), 400))
    for rule, feed in (("dup_lines", "\n"), ("dup_paragraphs", "\n\n")):
        later = (DT, PAPER)
        every = (DCLM, DOLMA) if feed == "\n" else (DCLM,)
        pair(
            rule,
            feed.join([*pool[:7], *["baba"] * 4][:11][1:]),
            feed.join([*pool[:6], *["baba"] * 5][1:]),
            *later,
        )
        pair(rule, feed.join([*pool[:7], *["baba"] * 3]), feed.join([*pool[:6], *["baba"] * 4]), *every)
    for rule, feed in (("dup_line_chars", "\n"), ("dup_paragraph_chars", "\n\n")):
        gaps = 3 * len(feed)

        def lines(copy: int, rest: int, feed: str = feed) -> str:
            return feed.join(["b" * copy, "b" * copy, "d" * (rest // 2), "f" * (rest - rest // 2)])

        pair(rule, lines(20, 60 - gaps), lines(20, 59 - gaps), DT)
        pair(rule, lines(10, 80), lines(10, 79), DCLM)
        pair(rule, lines(20, 60), lines(20, 59), PAPER)
        if feed == "\n":
            pair(rule, lines(15, 70), lines(15, 69), DOLMA)
    for n, share in ((2, 20), (3, 18), (4, 16)):
        repeated(f"top_{n}_gram", n, share, top=True)
    for n, share in ((5, 15), (6, 14), (7, 13), (8, 12), (9, 11), (10, 10)):
        repeated(f"dup_{n}_gram", n, share, top=False)


def repeated(rule: str, n: int, percent: int, *, top: bool) -> None:
    """A phrase of n three-letter words, often enough that its characters are exactly so many percent."""
    phrase = " ".join(["kab", "kod", "kug", "kiv", "kaz", "kof", "kub", "kiz", "kap", "kod"[::-1]][:n])
    between = list(itertools.islice(words(6), 5000))[::-1]

    def text(copies: int, characters: int, *, spaces: bool) -> str:
        pieces = [f"{phrase} {between[i]}" for i in range(copies)]
        body = " ".join(pieces)
        used = len(body) if spaces else len(body.replace(" ", ""))
        return body + " " + filler(characters - used - spaces, spaces=spaces)

    plain, joined = 3 * n, 3 * n + n - 1
    for variants, unit, spaces, later in (
        ((DT,), joined if top else plain, True, not top),
        ((DCLM, PAPER), plain, False, False),
        ((DOLMA,), plain, False, False),
    ):
        if DOLMA in variants and not top:
            continue  # a share of all n-grams: found by search in the test
        copies = next(c for c in range(3, 200) if (unit * (c - later)) * 100 % percent == 0)
        characters = unit * (copies - later) * 100 // percent
        pair(
            rule,
            text(copies, characters, spaces=spaces),
            text(copies, characters - 1, spaces=spaces),
            *variants,
        )


def dolma_ngrams() -> None:
    """The last count of filler words at which Dolma's measure still drops, and one more."""
    from reference import repeated_share

    between = list(itertools.islice(words(6), 2000))
    for n, share in ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.1)):
        phrase = [
            a + b
            for a, b in zip(
                "kdfgpvzbkd", ("ab", "od", "ug", "iv", "az", "of", "ub", "iz", "ap", "on"), strict=True
            )
        ][:n]
        base = [*phrase, between[0], *phrase, between[1], *phrase]
        count = next(
            k for k in range(2000) if repeated_share([*base, *between[2 : 2 + k]], n, dolma=True) <= share
        )
        keep, drop = ([*base, *between[2 : 2 + k]] for k in (count, count - 1))
        pair(f"dup_{n}_gram", " ".join(keep), " ".join(drop), DOLMA)


def fineweb() -> None:
    pool = list(itertools.islice(words(8), 2000))
    long = [" ".join(pool[4 * i : 4 * i + 4]) for i in range(100)]  # 35 characters
    add("terminal_lines", "\n".join(line + "." if i < 3 else line for i, line in enumerate(long[:25])),
        datatrove="keep", paper="drop")  # fmt: skip
    add("terminal_lines", "\n".join(line + "." if i < 13 else line for i, line in enumerate(long)),
        datatrove="keep", paper="keep")  # fmt: skip
    add("terminal_lines", "\n".join(line + "." if i < 11 else line for i, line in enumerate(long)),
        datatrove="drop", paper="drop")  # fmt: skip
    add("terminal_lines", "\n".join(line + '."' for line in long), datatrove="drop", paper="drop")
    add("terminal_lines", "\n".join(line + ". " for line in long), datatrove="drop", paper="drop")
    add("terminal_lines", "\n".join(line + "。" for line in long), datatrove="keep", paper="keep")
    for short, datatrove, paper in ((66, "keep", "keep"), (67, "keep", "drop"), (68, "drop", "drop")):
        lines = [line[:30].replace(" ", "x") if i < short else line for i, line in enumerate(long)]
        add("short_lines", "\n".join(lines), datatrove=datatrove, paper=paper)
    add(
        "short_lines", "\n".join(line[:31].replace(" ", "x") for line in long), datatrove="keep", paper="keep"
    )
    for copy, total, datatrove, paper in (
        (10, 1000, "keep", "keep"), (10, 999, "drop", "keep"), (10, 100, "drop", "drop"), (10, 101, "drop", "keep"),
    ):  # fmt: skip
        rest = filler(total - 2 * copy, spaces=True)
        add("dup_line_chars", "\n".join(["b" * copy, rest, "b" * copy]), datatrove=datatrove, paper=paper)
    for feeds, datatrove in ((30, "keep"), (31, "drop")):
        add("newlines", "\n" * feeds + " ".join(pool[:100]), datatrove=datatrove)


C4_LINE = "this line is good enough to stay with {}."


def c4() -> None:
    pool = list(itertools.islice(words(5), 100))
    good = [C4_LINE.format(word) for word in pool]
    keep, drop = "\n".join(good[:5]), "\n".join(good[:4])
    pair("min_sentences", keep, drop, DT, "fineweb")
    pair("min_sentences", "\n".join(good[:3]), "\n".join(good[:2]), "tfds", "dclm")
    sides = {DT: "drop", "fineweb": "keep", "tfds": "drop", "dclm": "drop"}
    add("min_sentences", "\n".join(line[:-1] for line in good[:9]), **sides)
    add("min_sentences", "\n".join(line + ".." for line in good[:9]), **sides)
    add("min_sentences", "\n".join(line + "..." for line in good[:9]), **sides)
    for mark in '?!"':
        add(
            "min_sentences",
            "\n".join(line[:-1] + mark for line in good[:5]),
            datatrove="keep",
            tfds="keep",
            dclm="keep",
        )
    add(
        "min_sentences",
        "\n".join(line[:-1] + "'" for line in good[:5]),
        datatrove="keep",
        tfds="drop",
        dclm="drop",
    )
    add(
        "min_sentences",
        "\n".join(line + " [1]" for line in good[:5]),
        datatrove="drop",
        tfds="drop",
        dclm="keep",
    )
    add("min_sentences", "\n".join(line[:-1] + "[12][edit][citation needed]." for line in good[:5]),
        datatrove="keep", tfds="keep", dclm="keep")  # fmt: skip
    add(
        "min_sentences",
        "\n".join(f"{word} it is." for word in pool[:5]),
        datatrove="keep",
        tfds="drop",
        dclm="drop",
    )
    add(
        "min_sentences",
        "\n".join(f"{word} it." for word in pool[:5]),
        datatrove="drop",
        tfds="drop",
        dclm="drop",
    )
    add("min_sentences", "\n".join(f"{word} it was so good." for word in pool[:5]), tfds="keep", dclm="keep")
    add("min_sentences", [["a" * 1000 + " is the word.\n", 5]], datatrove="keep")
    add("min_sentences", [["a" * 1001 + " is the word.\n", 5]], datatrove="drop")
    for phrase in ("terms of use", "Privacy Policy", "cookie policy", "uses cookies", "use of cookies", "use cookies",
                   "JavaScript"):  # fmt: skip
        lines = [f"our {phrase} {line}" for line in good[:5]]
        add("min_sentences", "\n".join(lines), **dict.fromkeys((DT, "fineweb", "tfds", "dclm"), "drop"))
    add(
        "min_sentences", "\n".join(good[:2]) + "\nIt ends. It begins (again). Then it ends?", datatrove="keep"
    )
    for rule, phrase in (("lorem_ipsum", "Lorem Ipsum"), ("curly_bracket", "a {")):
        sides = dict.fromkeys((DT, "fineweb", "tfds", "dclm", DOLMA), "drop")
        add(rule, "\n".join([*good[:5], f"and {phrase} {good[6]}"]), **sides)
        add(rule, keep, **dict.fromkeys(sides, "keep"))
        add(rule, "\n".join([*good[:5], phrase]), **{**dict.fromkeys(sides, "keep"), DOLMA: "drop"})
    add("javascript", keep, dolma="keep")
    add("javascript", keep + "\nmyJavaScripts", dolma="drop")
    pair("min_paragraphs", [["b" * 200 + "\n", 3]], [["b" * 200 + "\n", 2], ["b" * 199, 1]], "mc4")
    pair("max_chars", [["b", 190_000]], [["b", 190_001]], "tfds", "dclm")


def dclm_and_dolma() -> None:
    pool = list(itertools.islice(words(5), 400))
    lines = [" ".join(pool[10 * i : 10 * i + 10]) for i in range(19)]
    pair("removed_words", "\n".join([*lines[:19], " ".join(pool[-10:]).upper()]),
         "\n".join([*lines[:18], " ".join(pool[-10:]).upper()]), DCLM)  # fmt: skip
    pair(
        "repeats",
        " ".join([*pool[:50], *["baba dodo"] * 32]),
        " ".join([*pool[:50], *["baba dodo"] * 33]),
        "cccc",
    )


def main() -> None:
    for build in (gopher_quality, gopher_repetition, dolma_ngrams, fineweb, c4, dclm_and_dolma):
        start = len(documents)
        build()
        family = {"dolma_ngrams": "gopher_repetition", "dclm_and_dolma": "dclm_dolma"}.get(
            build.__name__, build.__name__
        )
        for document in documents[start:]:
            document["family"] = family
    body = ",\n".join(json.dumps(document, ensure_ascii=False) for document in documents)
    (HERE / "documents.json").write_text(f"[\n{body}\n]\n", encoding="utf-8")
    print(len(documents), "documents")


if __name__ == "__main__":
    main()
