"""How right and how fast language identification is on Debian's translated manual pages.

    apt-get install manpages-{cs,da,de,el,es,fi,fr,hu,id,it,ja,mk,nb,nl,pl,pt-br,ro,ru,sr,sv,tr,uk,vi,zh} manpages
    python benchmarks/language_identification.py [--man /usr/share/man] [--per-language 400] [--half test]

The truth is the language of the page. A paragraph is what stands between two breaking requests of the
page's man(7) source, without its markup; mdoc pages, displays, tables, synopses and tags of lists are left out.
Left out as well, by rules that ask no identifier:

* a paragraph of an English page, of pages in two languages, or half of whose word triples are in English
  pages; one where at least 15 % of the words are the, of, and, is, to: untranslated;
* on pages in another script, one with less than 30 % of its letters outside Latin: untranslated;
* fewer than 40 letters (20 in Chinese, Japanese, Korean); letters under half of the characters; more than
  half of the words with digits, brackets, slashes, two capitals in a row and the like: code;
* a repetition.

Pages are split in two by their name. What was chosen (lower case, the weight of the two models) was chosen on ``dev``.
One truth for Norwegian (no, nb, nn), one for Croatian and Bosnian (hr, bs, sh); Serbian may be sh too.
Peers are measured where they can be imported (all come with the extras language and web). Speed is documents a CPU second, after one
warm-up run, one thread.
"""

from __future__ import annotations

import argparse
import collections
import gzip
import hashlib
import importlib.metadata
import random
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa

from headwater.languages.natural import bundled_model
from headwater.operators import operator

_BREAKS = {
    "PP",
    "P",
    "LP",
    "TP",
    "IP",
    "HP",
    "SH",
    "SS",
    "sp",
    "br",
    "RS",
    "RE",
    "TQ",
    "TH",
    "in",
    "UR",
    "MT",
    "ti",
}
_FONTS = {"B", "I", "BR", "BI", "RB", "RI", "IR", "IB", "SM", "SB", "R"}
_SYNOPSIS = re.compile(
    "SYNOPSIS|ÜBERSICHT|SINOPSIS|書式|SKŁADNIA|СИНТАКСИС|用法|OVERZICHT|SINOSSI|SINOPSE|SYNTAX"
)
_SPECIAL = dict(
    zip(
        ["aq", "dq", "oq", "cq", "lq", "rq", "em", "en", "rs", "ha", "ti", "hy", "Fo", "Fc", "ss", "oa", "oA", "/o", "ae"],
        ["'", '"', "‘", "’", "“", "”", "—", "–", "\\", "^", "~", "-", "«", "»", "ß", "å", "Å", "ø", "æ"],
        strict=True,
    )
) | {mark + letter: (letter + accent) for mark, accent in zip("'`^:~,", "\u0301\u0300\u0302\u0308\u0303\u0327", strict=True) for letter in "aeiouncAEIOUNC"}  # fmt: skip
_CODE = re.compile(r"[\d\[\]{}<>=/\\_$|@#*~^+`]|^-|\w\(\d|\.\w|[A-Z]{2}")
_OTHER_SCRIPTS = {"ja", "zh", "ko", "ru", "uk", "el", "mk"}
_FOLD = {"nb": "no", "nn": "no", "hr": "sh", "bs": "sh"}


def plain(text: str) -> str:
    """man(7) source without fonts, sizes and special characters."""
    text = re.sub(r"\\f(?:\[[^\]]*\]|\(..|.)|\\s[-+]?\d+|\\m\[[^\]]*\]|\\\*(?:\[[^\]]*\]|\(..|.)", "", text)
    text = re.sub(r"\\\[u([0-9A-F]{4,5})\]", lambda m: chr(int(m[1], 16)), text)
    text = re.sub(r"\\\((..)|\\\[([^\]]*)\]", lambda m: _SPECIAL.get(m[1] or m[2], ""), text)
    text = re.sub(r"\\[&/,|^:%cdu]|\\[hvwDL]'[^']*'", "", text)
    text = text.replace("\\-", "-").replace("\\e", "\\")
    return re.sub(r"\\(.)", lambda m: " " if m[1] in " ~0" else m[1], text)


def paragraphs(page: str) -> list[str]:
    if re.search(r"^\.(Dd|so)\b", page, re.MULTILINE):
        return []
    out: list[str] = []
    current: list[str] = []
    until, section, display, tag = None, "", False, False

    def flush() -> None:
        text = re.sub(r"\s+", " ", plain(" ".join(current))).strip()
        current.clear()
        if text:
            out.append(text)

    for line in page.split("\n"):
        if until:
            until = None if line.startswith(until) else until
            continue
        request = re.match(r"^[.']\s*([A-Za-z]{1,4})\s*(.*)$", line)
        if request:
            name, rest = request.groups()
            if name in ("nf", "EX"):
                flush()
                display = True
            elif name in ("fi", "EE"):
                current.clear()
                display = False
            elif name in ("TS", "de", "ig", "de1"):
                flush()
                until = ".TE" if name == "TS" else ".."
            elif name in _BREAKS:
                flush() if not display else current.clear()
                tag = name in ("TP", "TQ")
                section = rest.strip('"').upper() if name in ("SH", "SS") else section
            elif name in _FONTS:
                if tag:
                    tag = False
                elif not display and not _SYNOPSIS.search(section):
                    words = [a or b for a, b in re.findall(r'"((?:[^"]|"")*)"|(\S+)', rest)]
                    current.append(("" if len(name) == 2 and name not in ("SM", "SB") else " ").join(words))
        elif tag:
            tag = False
        elif not line.strip():
            flush()
        elif line[0] not in ".' \t" and not display and not _SYNOPSIS.search(section):
            current.append(line)
    flush()
    return out


def pages(folder: Path) -> Iterator[tuple[str, list[str]]]:
    for path in sorted(folder.glob("man*/*.gz")):
        if not path.is_symlink():
            try:
                yield path.name.removesuffix(".gz"), paragraphs(gzip.decompress(path.read_bytes()).decode())
            except UnicodeDecodeError:
                continue


def triples(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + 3]) for i in range(len(words) - 2)}


def labeled(man: Path) -> tuple[list[tuple[str, str, str]], collections.Counter[str]]:
    """(language, half, paragraph), and how many each rule left out."""
    english: set[str] = set()
    english_triples: set[tuple[str, ...]] = set()
    for _, found in pages(man):
        english.update(found)
        for text in found:
            english_triples |= triples(text)
    rows, of = [], collections.defaultdict(set)
    for folder in sorted(man.iterdir()):
        if folder.is_dir() and not folder.name.startswith("man"):
            language = folder.name.split("_")[0]
            for name, found in pages(folder):
                half = "dev" if hashlib.sha256(name.encode()).digest()[0] < 128 else "test"
                for text in found:
                    rows.append((language, half, text))
                    of[text].add(language)
    out, left, seen = [], collections.Counter(), set()
    for language, half, text in rows:
        reason = left_out(language, text, english, english_triples, len(of[text]))
        if not reason and (language, text) in seen:
            reason = "repetition"
        if reason:
            left[reason] += 1
        else:
            seen.add((language, text))
            out.append((language, half, text))
    return out, left


def left_out(
    language: str, text: str, english: set[str], english_triples: set[tuple[str, ...]], languages: int
) -> str:
    letters = [c for c in text if c.isalpha()]
    words = text.split()
    if text in english or languages > 1:
        return "untranslated: the same in English or in two languages"
    if len(letters) < (20 if language in ("ja", "zh", "ko") else 40):
        return "short"
    if len(letters) < 0.5 * len(text.replace(" ", "")) or sum(
        bool(_CODE.search(w)) for w in words
    ) > 0.5 * len(words):
        return "code"
    if language in _OTHER_SCRIPTS and sum(c > "\u024f" for c in letters) < 0.3 * len(letters):
        return "untranslated: Latin on a page in another script"
    own = triples(text)
    if len(own & english_triples) >= max(1, 0.5 * len(own)):
        return "untranslated: English word triples"
    if len(words) > 3 and sum(w.lower() in ("the", "of", "and", "is", "to") for w in words) >= 0.15 * len(
        words
    ):
        return "untranslated: English function words"
    return ""


def contenders() -> dict[str, Callable[[list[str]], list[str | None]]]:
    language = operator("language")

    def ours(texts: list[str], model: str) -> list[str | None]:
        return [
            row["language"] for row in language(pa.array(texts, pa.large_string()), model=model).to_pylist()
        ]

    found: dict[str, Callable[[list[str]], list[str | None]]] = {
        "headwater language": partial(ours, model="both"),
        "headwater language, model := 'lid.176'": partial(ours, model="lid.176"),
    }
    try:
        import fasttext

        model = fasttext.load_model(bundled_model())
        version = importlib.metadata.version("fasttext-predict")
        found[f"fasttext-predict {version}"] = lambda texts: [
            model.predict(t)[0][0].removeprefix("__label__") for t in texts
        ]
    except ImportError:
        pass
    try:
        import py3langid

        found[f"py3langid {importlib.metadata.version('py3langid')}"] = lambda texts: [
            py3langid.classify(t)[0] for t in texts
        ]
    except ImportError:
        pass
    try:
        from resiliparse.parse.lang import detect_fast

        found[f"resiliparse {importlib.metadata.version('resiliparse')}"] = lambda texts: [
            detect_fast(t)[0] for t in texts
        ]
    except ImportError:
        pass
    return found


def same(truth: str, got: str | None) -> bool:
    if truth == "sr" and got == "sh":
        return True
    return _FOLD.get(truth, truth) == _FOLD.get(got or "", got)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--man", type=Path, default=Path("/usr/share/man"))
    parser.add_argument("--per-language", type=int, default=400)
    parser.add_argument("--half", choices=["dev", "test"], default="test")
    parser.add_argument("--least", type=int, default=10, help="leave out languages with fewer paragraphs")
    given = parser.parse_args()
    rows, left = labeled(given.man)
    print(
        f"{len(rows):,} paragraphs; left out: " + ", ".join(f"{n:,} {why}" for why, n in left.most_common())
    )
    by = collections.defaultdict(list)
    for language, half, text in rows:
        if half == given.half:
            by[language].append(text)
    generator = random.Random(0)
    sample = [
        (language, text)
        for language, texts in sorted(by.items())
        if len(texts) >= given.least
        for text in generator.sample(texts, min(len(texts), given.per_language))
    ]
    texts = [text for _, text in sample]
    size = sum(len(t.encode()) for t in texts)
    languages = sorted({language for language, _ in sample})
    print(
        f"{given.half}: {len(sample):,} paragraphs, {len(languages)} languages, mean {size / len(texts):.0f} bytes"
    )
    print(
        "| identifier | accuracy | macro recall | macro F1 | < 100 bytes | >= 200 bytes | docs/s/core | MB/s/core |"
    )
    print("|---|---|---|---|---|---|---|---|")
    details = {}
    for name, identify in contenders().items():
        got = identify(texts)
        start = time.process_time()
        got = identify(texts)
        seconds = time.process_time() - start
        right = [same(truth, g) for (truth, _), g in zip(sample, got, strict=True)]
        scores, recalls = [], {}
        for language in languages:
            of = [i for i, (truth, _) in enumerate(sample) if truth == language]
            true = sum(right[i] for i in of)
            said = sum(same(language, g) for g in got)
            recalls[language] = true / len(of)
            scores.append(2 * true / (said + len(of)))
        lengths = [len(t.encode()) for t in texts]
        buckets = [
            [r for r, n in zip(right, lengths, strict=True) if low <= n < high]
            for low, high in ((0, 100), (200, 1 << 30))
        ]
        cells = [sum(right) / len(right), sum(recalls.values()) / len(recalls), sum(scores) / len(scores)]
        cells += [sum(b) / max(1, len(b)) for b in buckets]
        print(
            f"| {name} | "
            + " | ".join(f"{c:.4f}" for c in cells)
            + f" | {len(texts) / seconds:,.0f} | {size / seconds / 1e6:.1f} |"
        )
        details[name] = recalls
    for name, recalls in details.items():
        print(
            f"{name}, recall under 0.985: "
            + ", ".join(
                f"{k} {v:.3f} of {sum(t == k for t, _ in sample)}" for k, v in recalls.items() if v < 0.985
            )
        )


if __name__ == "__main__":
    main()
