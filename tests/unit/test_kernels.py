"""Kernels against slow, plain references."""

import re
import unicodedata
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headwater.errors import UsageError
from headwater.kernels import characters
from headwater.kernels.flat import flatten
from headwater.kernels.shingles import shingle_sets, signatures
from headwater.kernels.text import text_counts
from headwater.kernels.token_classes import hash_span
from headwater.kernels.xxh3 import digest_array, xxh3_64, xxh3_128

NASTY = [
    "",
    "\0",
    "a\0b c",
    "😀 smile 👩‍👩‍👧‍👦 family",
    "one\r\ntwo\r\n\r\n",
    "\n\n\n\n",
    "e\u0301te\u0301 E\u0301TE\u0301",
    "x" * 1_000_000,
    "İstanbul ΣΊΣΥΦΟΣ straße ǅ",
    "漢字かな交じり文。テスト ไทย ខ្មែរ",
    "हिन्दी में लिखा हुआ पाठ",
    "the be to of and that have with",
    "a b",
    "...\n…\n# # #\n- x\n•y",
    "\ufeffbom \u2028line\u2029para \x0b \x0c \x85",
]


def python_files(limit: int) -> list[str]:
    root = Path(pytest.__file__).parent.parent
    texts = []
    for path in sorted((root / "_pytest").rglob("*.py"))[:limit]:
        texts.append(path.read_text(encoding="utf-8"))
    return texts


# ---------------------------------------------------------------- flat


def test_flatten_layouts_agree() -> None:
    rows = [b"", b"abc", b"\x00\xff", b"12345"]
    texts = ["", "abc", "é", "12345"]
    for values, kinds in (
        (rows, [pa.binary(), pa.large_binary(), pa.binary_view()]),
        (texts, [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]),
    ):
        expected = [v.encode() if isinstance(v, str) else v for v in values]
        for kind in kinds:
            array = pa.array(values, pa.string() if pa.types.is_dictionary(kind) else kind)
            array = array.dictionary_encode() if pa.types.is_dictionary(kind) else array
            for variant in (
                array,
                array.slice(1, 2),
                pa.chunked_array([array, array.slice(1)]),
                array.slice(0, 0),
            ):
                data, offsets = flatten(variant)
                got = [data[a:b].tobytes() for a, b in pairwise(offsets)]
                as_bytes = [v.encode() if isinstance(v, str) else v for v in variant.to_pylist()]
                assert got == as_bytes
                assert not data.flags.writeable and not offsets.flags.writeable
        assert expected


def test_flatten_empty_and_fixed() -> None:
    assert len(flatten(pa.chunked_array([], pa.string())).offsets) == 1
    assert len(flatten(pa.array([None, None], pa.string())).offsets) == 3
    data, offsets = flatten(pa.array([b"ab", b"cd", b"ef"], pa.binary(2)).slice(1))
    assert [data[a:b].tobytes() for a, b in pairwise(offsets)] == [b"cd", b"ef"]
    with pytest.raises(UsageError, match="int64"):
        flatten(pa.array([1]))


# ---------------------------------------------------------------- xxh3

LENGTHS = [*range(300), 511, 512, 513, 1023, 1024, 1025, 1087, 1088, 1089, 2047, 2048, 2049, 3000, 70_000]


def test_xxh3_every_length_class() -> None:
    noise = np.random.default_rng(7).bytes(70_000)
    rows = [noise[:n] for n in LENGTHS]
    array = pa.array(rows)
    words = xxh3_128(array)
    assert [(int(h) << 64) | int(low) for h, low in words] == [xxhash.xxh3_128_intdigest(r) for r in rows]
    assert digest_array(array).to_pylist() == [xxhash.xxh3_128_digest(r) for r in rows]
    for seed in (0, 1, 42, 2**63 + 11, 2**64 - 1):
        assert xxh3_64(array, seed).tolist() == [xxhash.xxh3_64_intdigest(r, seed) for r in rows]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=1500), max_size=6), st.integers(0, 2**64 - 1))
def test_xxh3_any_bytes(rows: list[bytes], seed: int) -> None:
    array = pa.array(rows, pa.large_binary())
    assert digest_array(array).to_pylist() == [xxhash.xxh3_128_digest(r) for r in rows]
    assert xxh3_64(array, seed).tolist() == [xxhash.xxh3_64_intdigest(r, seed) for r in rows]


def test_xxh3_nulls_slices_chunks() -> None:
    array = pa.array(["a", None, "é", "", None])
    expected = [xxhash.xxh3_128_digest(v.encode()) if v is not None else None for v in array.to_pylist()]
    assert digest_array(array).to_pylist() == expected
    assert digest_array(array.slice(1, 3)).to_pylist() == expected[1:4]
    assert digest_array(pa.chunked_array([array.slice(3), array])).to_pylist() == expected[3:] + expected
    assert (xxh3_128(array)[1] == xxh3_128(pa.array([""]))[0]).all()
    assert len(digest_array(pa.array([], pa.string()))) == 0


# ---------------------------------------------------------------- characters and shingles


def test_table_is_unicode_14() -> None:
    table = characters.TABLE
    newer = unicodedata.unidata_version != "14.0.0"
    assert len(table) == 0x110000
    for code in range(0, 0x32000, 1 if not newer else 7):
        if 0xD800 <= code < 0xE000:
            continue
        char = chr(code)
        if newer and not table[code] >> 21:
            continue  # assigned after Unicode 14
        flags = table[code]
        assert bool(flags & characters.ALNUM) == char.isalnum(), hex(code)
        assert bool(flags & characters.ALPHA) == char.isalpha(), hex(code)
        assert bool(flags & characters.SPACE) == char.isspace(), hex(code)
        assert int(flags) & characters.LOWER == ord(char.lower()[0]), hex(code)
        mark = unicodedata.category(char)[0] == "M"
        assert bool(flags & characters.MARK) == mark
        assert bool(flags & characters.WORD) == (char.isalnum() or mark or char == "_")


def reference_words(text: str) -> list[str]:
    """The documented definition of a word, as a regular expression over one letter per class."""
    lowered, classes = [], []
    for char in text:
        flags = int(characters.TABLE[ord(char)])
        lowered.append(chr(flags & characters.LOWER))
        if not flags & characters.WORD:
            classes.append(" ")
        elif flags & characters.SOLO:
            classes.append("S")
        else:
            classes.append("M" if flags & characters.MARK else "W")
    found = re.finditer(r"SM*|[WM]+", "".join(classes))
    return ["".join(lowered)[m.start() : m.end()] for m in found]


def reference_shingles(text: str, ngram: int) -> set[tuple[str, ...]]:
    words = reference_words(text)
    if not words:
        return set()
    if len(words) < ngram:
        return {tuple(words)}
    return {tuple(words[i : i + ngram]) for i in range(len(words) - ngram + 1)}


def split_sets(texts: list[str], ngram: int) -> list[set[int]]:
    values, counts = shingle_sets(pa.array(texts, pa.large_string()), ngram=ngram)
    ends = np.cumsum(counts)
    parts = [values[end - n : end] for end, n in zip(ends, counts, strict=True)]
    for part in parts:
        assert (np.diff(part.astype(object)) > 0).all() if len(part) > 1 else True
    return [set(part.tolist()) for part in parts]


def same_structure(texts: list[str], ngram: int) -> None:
    """Hashes stand for shingles one to one: same counts, and the same overlap of every pair."""
    expected = [reference_shingles(text, ngram) for text in texts]
    got = split_sets(texts, ngram)
    assert [len(s) for s in got] == [len(s) for s in expected]
    for i in range(len(texts)):
        for j in range(i):
            assert len(got[i] & got[j]) == len(expected[i] & expected[j]), (i, j)


def test_shingles_on_nasty_and_real_text() -> None:
    same_structure([*NASTY, *(t.upper() for t in NASTY), *python_files(12)], 5)
    same_structure(NASTY, 1)


words_alphabet = st.text(alphabet="ab AB_1é\u0301漢ไิ \n.-İ", max_size=40)


@settings(max_examples=100, deadline=None)
@given(st.lists(words_alphabet, max_size=5), st.integers(1, 6))
@example(["漢\u0301字a\u0301b", "ab漢", "\u0301a"], 1)
def test_shingles_any_text(texts: list[str], ngram: int) -> None:
    same_structure(texts, ngram)


def test_signatures_estimate_jaccard_and_sets_hash_equal() -> None:
    words = [f"w{i}" for i in range(1200)]
    texts = [" ".join(words[:1000]), " ".join(words[100:1100]), " ".join(words[:1000]).upper(), ""]
    found = signatures(pa.array(texts), num_perm=1024, ngram=1, seed=3)
    agreement = (found.minhash[0] == found.minhash[1]).mean()
    assert agreement == pytest.approx(900 / 1100, abs=4 * (0.82 * 0.18 / 1024) ** 0.5)
    assert (found.minhash[0] == found.minhash[2]).all() and (found.set_hash[0] == found.set_hash[2]).all()
    assert (found.set_hash[0] != found.set_hash[1]).all()
    assert found.num_shingles.tolist() == [1000, 1000, 1000, 0]
    fewer = signatures(pa.array(texts), num_perm=40, ngram=1, seed=3)
    assert (fewer.minhash == found.minhash[:, :40]).all()
    assert (signatures(pa.array(texts), num_perm=40, ngram=1, seed=4).minhash != fewer.minhash).any()


# ---------------------------------------------------------------- text counts


def reference_counts(text: str) -> dict[str, int]:
    terminal = ".!?\"'”’…。！？"
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    lines = [
        x[:-1] if x.endswith("\r") and (i < len(lines) - 1 or text.endswith("\n")) else x
        for i, x in enumerate(lines)
    ]
    words = text.split()
    written = [line for line in lines if line.strip()]
    seen: set[str] = set()
    duplicates = []
    for line in written:
        if line in seen:
            duplicates.append(line)
        seen.add(line)
    stops = set()
    for word in words:
        core = re.sub(r"^[\W_]+|[\W_]+$", "", word)
        if core.lower() in {"the", "be", "to", "of", "and", "that", "have", "with"} and core.isascii():
            stops.add(core.lower())
    return {
        "num_chars": len(text),
        "alnum_chars": sum(c.isalnum() for c in text),
        "alpha_chars": sum(c.isalpha() for c in text),
        "digit_chars": sum(unicodedata.category(c) == "Nd" for c in text),
        "space_chars": sum(c.isspace() for c in text),
        "newlines": text.count("\n"),
        "num_words": len(words),
        "word_chars": sum(map(len, words)),
        "alpha_words": sum(any(c.isalpha() for c in w) for w in words),
        "hashes": text.count("#"),
        "ellipses": text.count("...") + text.count("…"),
        "stop_words": len(stops),
        "num_lines": len(lines),
        "blank_lines": len(lines) - len(written),
        "max_line_length": max(map(len, lines), default=0),
        "line_chars": sum(map(len, lines)),
        "terminal_lines": sum(line.rstrip()[-1] in terminal for line in written),
        "short_lines": sum(len(line) <= 30 for line in written),
        "bullet_lines": sum(line.lstrip()[0] in "•‣◦⁃▪●○-*" for line in written),
        "ellipsis_lines": sum(line.rstrip().endswith(("...", "…")) for line in written),
        "duplicate_lines": len(duplicates),
        "duplicate_line_chars": sum(map(len, duplicates)),
    }


def check_counts(texts: list[str]) -> None:
    got = text_counts(pa.array(texts, pa.large_string()))
    for i, text in enumerate(texts):
        assert {name: int(values[i]) for name, values in got.items()} == reference_counts(text), text[:200]


def test_text_counts_on_nasty_and_real_text() -> None:
    check_counts([*NASTY, *python_files(20), '(The) that\'s\n"be" #of and,\nto... ....... x\r', "a\rb\r\n\r"])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(alphabet="a B.\n\r #-…t\u0301é٣the", max_size=50), max_size=4))
def test_text_counts_any_text(texts: list[str]) -> None:
    check_counts(texts)


def test_kernels_work_where_nothing_can_be_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    """numba raises at decoration when neither the package nor a user folder can be written."""
    from headwater.kernels import jit

    compile_ = jit.numba.njit

    def njit(*args: object, **options: object) -> object:
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return compile_(*args, **options)

    monkeypatch.setattr(jit.numba, "njit", njit)
    assert jit.kernel(lambda x: x + 1)(2) == 3


def test_word_hashes_tell_short_words_apart() -> None:
    words = ["".join(letters) for n in (1, 2, 3, 4) for letters in product("0123abWU(", repeat=n)]
    codes = [np.array([ord(letter) for letter in word], np.uint32) for word in words]
    assert len({int(hash_span(code, 0, len(code))) for code in codes}) == len(words)
