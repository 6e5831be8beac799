"""The mathematics of a scorer, its file, and the one that is shipped."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scoring_lake import text_of

from headwater.educational.texts import labeled_files
from headwater.errors import BadInput, UnknownName, UsageError
from headwater.kernels.hashed_ngrams import HEAD_BYTES, MAX_BYTES, TAIL_BYTES, linear_scores, ngram_counts
from headwater.operators import operator
from headwater.scoring.artifact import SHIPPED, Scorer, digest_of, parse, read, write
from headwater.scoring.calibration import Calibration, expected_error, isotonic, reliability
from headwater.scoring.folds import folds, group_names
from headwater.scoring.metrics import at_threshold, kappa, rank_correlation
from headwater.scoring.regression import DenseFeatures, SparseFeatures
from headwater.scoring.training import cross_calibrated, cross_validated, train_embedding_head, train_ngrams


@pytest.fixture
def rng() -> np.random.Generator:
    """The same numbers for each test, whichever ran before it."""
    return np.random.default_rng(7)


# -- words ----------------------------------------------------------------------------------------


def words(text: str) -> list[str]:
    """What the kernel takes for words, spelled in Python."""
    data = text.encode()
    parts = [data] if len(data) <= MAX_BYTES else [data[:HEAD_BYTES], data[-TAIL_BYTES:]]
    pattern = re.compile(
        rb"\s*\n[\s_\x00-\x1f\x7f]*(?=[^\s_\x00-\x1f\x7f])|(?:[a-z\x80-\xff]+)|[0-9]+|[!-/:-@[-^`{-~]+"
    )
    out = []
    for part in parts:
        for found in pattern.finditer(part.lower()):
            word = found[0]
            out.append(("\n" * min(word.count(b"\n"), 2)) if b"\n" in word else word.decode("latin-1"))
        out.append("")  # no pair across the gap
    return out[:-1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("  \n\n ", 0),
        ("HTTPServer_class", 2 + 1),
        ('def f(x):\n    """Doc."""\n', 9 + 8),  # def f ( x ): \n """ doc ."""
        ("x\n\n\ny", 3 + 2),
        ("naïve 漢字", 2 + 1),
        ("a1b22", 4 + 3),
    ],
)
def test_words_and_pairs_are_counted(text: str, expected: int) -> None:
    assert ngram_counts(pa.array([text]), 16).totals.tolist() == [expected]


@given(st.lists(st.text(alphabet="aB_9 \n\t().\"'é", max_size=60), max_size=8))
@settings(max_examples=60, deadline=None)
def test_counts_are_those_of_the_words(texts: list[str]) -> None:
    counts = ngram_counts(pa.array(texts, pa.large_string()), 12)
    for i, text in enumerate(texts):
        spelled = words(text.strip(" \t\n_"))
        lead = 1 if re.match(r"[ \t_]*\n", text) and spelled else 0  # a break before the first word counts
        num = len(spelled) + lead
        assert counts.totals[i] == max(2 * num - 1, 0), (text, spelled)
        part = slice(counts.offsets[i], counts.offsets[i + 1])
        assert counts.counts[part].sum() == counts.totals[i]
        assert len(set(counts.buckets[part].tolist())) == part.stop - part.start


def test_long_texts_are_read_at_both_ends(rng: np.random.Generator) -> None:
    head, tail = "alpha " * (HEAD_BYTES // 6), "omega " * (TAIL_BYTES // 6 + 1)
    texts = [head + "middle " * n + tail for n in (500, 5000)]
    weights = rng.normal(size=1 << 12).astype(np.float32)
    a, b = linear_scores(pa.array(texts, pa.large_string()), weights, 0.5)
    assert len(texts[0]) > MAX_BYTES and a == b
    assert np.isfinite(
        linear_scores(pa.array(["x" * 300_000, "\n" * 300_000, "é" * 20_000]), weights, 0.0)
    ).all()


def test_scores_are_dot_products_of_rooted_counts(rng: np.random.Generator) -> None:
    texts = pa.array([text_of(3, i) for i in range(5)] + [""], pa.large_string())
    weights = rng.normal(size=1 << 10).astype(np.float32)
    counts = ngram_counts(texts, 10)
    features = SparseFeatures.of(counts, 10)
    lengths = [
        np.sum(features.values[a:b] ** 2)
        for a, b in zip(counts.offsets[:-1], counts.offsets[1:], strict=True)
    ]
    assert lengths[:5] == pytest.approx([1.0] * 5)
    dense = np.zeros((6, 1 << 10))
    for i in range(6):
        part = slice(counts.offsets[i], counts.offsets[i + 1])
        dense[i, counts.buckets[part]] = features.values[part]
    assert linear_scores(texts, weights, 0.25) == pytest.approx(dense @ weights + 0.25)
    assert features.gram == pytest.approx(dense @ dense.T)


# -- regression -----------------------------------------------------------------------------------


def test_both_ways_to_solve_give_the_same_regression(rng: np.random.Generator) -> None:
    texts = pa.array([text_of(kind, i) for kind in (0, 1, 3) for i in range(12)], pa.large_string())
    labels = np.repeat([0.0, 1.0, 3.0], 12) + rng.normal(scale=0.1, size=36)
    sparse = SparseFeatures.of(ngram_counts(texts, 8), 8)
    dense = np.zeros((36, 256))
    for i in range(36):
        part = slice(sparse.counts.offsets[i], sparse.counts.offsets[i + 1])
        dense[i, sparse.counts.buckets[part]] = sparse.values[part]
    for strength in (0.01, 1.0):
        ours = sparse.fit(labels, strength)
        theirs = DenseFeatures(dense).fit(labels, strength)
        assert ours.weights == pytest.approx(theirs.weights, abs=1e-8)
        assert ours.intercept == pytest.approx(theirs.intercept)
        # The optimum itself: ridge with an intercept that is not shrunk.
        columns = np.hstack([dense, np.ones((36, 1))])
        penalty = strength * np.eye(257)
        penalty[-1, -1] = 0
        solved = np.linalg.solve(columns.T @ columns + penalty, columns.T @ labels)
        assert ours.weights == pytest.approx(solved[:-1], abs=1e-6)
        assert ours.intercept == pytest.approx(solved[-1])
    train, test = np.arange(30), np.arange(30, 36)
    a = sparse.predictions(train, test, labels, [0.1, 1.0])
    b = DenseFeatures(dense).predictions(train, test, labels, [0.1, 1.0])
    assert a.shape == (2, 6) and a == pytest.approx(b)


def test_many_rows_are_solved_without_their_similarities(rng: np.random.Generator) -> None:
    texts = pa.array([text_of(i % 4 if i % 4 != 2 else 3, i) for i in range(150)], pa.large_string())
    labels = np.array([i % 4 for i in range(150)]) + rng.normal(scale=0.5, size=150)
    counts = ngram_counts(texts, 12)
    exact, steps = SparseFeatures.of(counts, 12), SparseFeatures.of(counts, 12, exact_rows=10)
    assert steps.gram is None and len(steps) == 150
    train, test = np.arange(0, 150, 3), np.arange(1, 150, 3)
    a, b = (f.predictions(train, test, labels, [0.003, 0.1, 10]) for f in (exact, steps))
    assert a == pytest.approx(b, abs=1e-4)
    ours, theirs = exact.fit(labels, 0.01), steps.fit(labels, 0.01)
    assert ours.weights == pytest.approx(theirs.weights, abs=1e-5)
    assert ours.intercept == pytest.approx(theirs.intercept, abs=1e-5)
    flat = steps.fit(np.ones(150), 0.01)
    assert not flat.weights.any() and flat.intercept == 1


# -- calibration ----------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(-3, 8), st.integers(0, 5)), min_size=1, max_size=80))
@settings(max_examples=80, deadline=None)
def test_the_curve_rises_and_stays_within_the_labels(pairs: list[tuple[float, int]]) -> None:
    raw, labels = np.array([a for a, _ in pairs]), np.array([float(b) for _, b in pairs])
    curve = isotonic(raw, labels)
    at = np.sort(np.concatenate([raw, np.linspace(-10, 10, 50)]))
    said = curve(at)
    assert (np.diff(said) >= -1e-12).all()
    assert said.min() >= labels.min() - 1e-12 and said.max() <= labels.max() + 1e-12
    assert (np.diff(curve.knots) > 0).all()


def test_pooling_is_the_best_rising_sequence(rng: np.random.Generator) -> None:
    raw = np.arange(6.0)
    curve = isotonic(raw, np.array([0.0, 2, 1, 3, 3, 2]), min_block=1)
    assert curve.values == pytest.approx([0, 1.5, 8 / 3]) and curve.knots == pytest.approx([0, 1.5, 4])
    assert curve([-5, 0.75, 1.5, 9]) == pytest.approx([0, 0.75, 1.5, 8 / 3])
    sklearn = pytest.importorskip("sklearn.isotonic")
    x, y = rng.normal(size=200), rng.integers(0, 6, 200).astype(float)
    theirs = sklearn.IsotonicRegression().fit(x, y)
    fitted = dict(zip(theirs.X_thresholds_, theirs.y_thresholds_, strict=True))
    ours = isotonic(x, y, min_block=1)
    assert sorted(set(np.round(list(fitted.values()), 9))) == sorted(set(np.round(ours.values, 9)))


def test_a_level_rests_on_enough_labels() -> None:
    raw, labels = np.arange(100.0), np.r_[np.zeros(60), np.ones(39), [5.0]]
    assert isotonic(raw, labels, min_block=1).values[-1] == 5
    curve = isotonic(raw, labels)
    assert curve.values[-1] == pytest.approx(44 / 40)  # the one lucky file joins its neighbors
    assert isotonic(np.ones(5), np.arange(5.0))([0, 1, 2]) == pytest.approx([2, 2, 2])


def test_the_calibration_error_is_a_mean_distance() -> None:
    predicted, labels = np.r_[np.zeros(50), np.ones(50)], np.r_[np.full(50, 0.5), np.ones(50)]
    bins = reliability(predicted, labels, bins=2)
    assert [b["num_rows"] for b in bins] == [50, 50] and expected_error(bins) == pytest.approx(0.25)


# -- metrics and folds ----------------------------------------------------------------------------


def test_metrics(rng: np.random.Generator) -> None:
    assert rank_correlation([1, 2, 3, 4], [1, 4, 9, 16]) == pytest.approx(1)
    assert rank_correlation([1, 1, 1], [1, 2, 3]) == 0
    stats = pytest.importorskip("scipy.stats")
    x, y = rng.integers(0, 5, 60), rng.normal(size=60)
    assert rank_correlation(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    found = at_threshold(np.array([0.0, 1.6, 2.4, 3.0]), np.array([0.0, 1, 3, 2]), 2)
    assert (found["positives"], found["found"], found["precision"], found["recall"]) == (2, 3, 2 / 3, 1)
    assert found["auc"] == 1
    none = at_threshold(np.zeros(3), np.zeros(3), 4)
    assert none["precision"] is None and none["f1"] is None and none["auc"] is None
    assert kappa([1, 2, 3], [1, 2, 3]) == 1 and kappa([1, 1], [1, 1]) is None


def test_no_source_and_no_near_copies_are_split() -> None:
    sources = ["stdlib"] * 40 + [f"pypi:{i % 12}" for i in range(60)]
    paths = [f"{'asyncio' if i < 20 else f'm{i}.py'}/x{i}.py" for i in range(40)] + ["x.py"] * 60
    clusters: list[object | None] = [None] * 100
    clusters[5], clusters[45], clusters[46] = b"c", b"c", b"d"
    groups = group_names(sources, paths, clusters)
    assert groups[5] == groups[45] == groups[0]  # asyncio and one package are joined by a near-copy
    assert groups[20] != groups[21] and "pypi:6" in groups
    for seed in range(3):
        fold = folds(groups, 10, seed)
        for group in set(groups):
            assert len({int(f) for f, g in zip(fold, groups, strict=True) if g == group}) == 1
        assert np.bincount(fold).max() <= 32
    assert (folds(groups, 10, 1) == folds(groups, 10, 1)).all()
    assert (folds(groups, 10, 1) != folds(groups, 10, 2)).any()
    assert group_names(["a"] * 3, [None, "", "x"]) == ["a/row 0", "a/row 1", "a/x"]


def test_what_is_held_out_is_not_seen(rng: np.random.Generator) -> None:
    """Labels that are noise within groups: a validation that leaked would find something."""
    texts = pa.array([text_of(3, i // 4) + f"# {i}" for i in range(240)], pa.large_string())
    labels = np.repeat(rng.integers(0, 6, 60), 4).astype(float)  # four near-copies, one label
    groups = [f"g{i // 4}" for i in range(240)]
    features = SparseFeatures.of(ngram_counts(texts, 10), 10)
    _, apart, _ = cross_validated(features, labels, groups, 5, 0)
    _, leaked, _ = cross_validated(features, labels, [f"r{i}" for i in range(240)], 5, 0)
    assert rank_correlation(leaked, labels) > 0.8 > 0.5 > rank_correlation(apart, labels)


def test_too_little_is_refused() -> None:
    texts = pa.array([text_of(0, i) for i in range(40)], pa.large_string())
    groups = [f"g{i % 5}" for i in range(40)]
    for labels, where, message in (
        ([1] * 10, groups[:10], "too few"),
        ([2] * 40, groups, "every label"),
        ([9] * 40, groups, "0 to 5"),
        ([i % 4 for i in range(40)], ["g"] * 40, "1 sources"),
    ):
        with pytest.raises(UsageError, match=message):
            train_ngrams(texts.slice(0, len(labels)), labels, where, name="x")


# -- the file -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    texts = pa.array([text_of(kind, i) for kind in (0, 1, 3) for i in range(20)], pa.large_string())
    labels = np.repeat([0, 1, 3], 20)
    trained = train_ngrams(texts, labels, [f"g{i % 7}" for i in range(60)], name="tiny", bits=10, repeats=2)
    assert (
        trained.quality.rank_correlation > 0.9 and trained.quality.rmse < trained.quality.rmse_of_the_mean / 2
    )
    assert trained.quality.labels == {"0": 20, "1": 20, "3": 20} and trained.quality.num_groups == 7
    return trained.scorer


def test_a_file_reads_back(scorer: Scorer, tmp_path: Path) -> None:
    path = write(scorer, tmp_path / "deep" / "er")
    assert path.name == f"tiny-{scorer.digest}.safetensors" and [path] == list(path.parent.iterdir())
    again = read(path)
    assert again.to_bytes() == path.read_bytes() == scorer.to_bytes() and again.facts == scorer.facts
    texts = pa.array(["", "x = 1", text_of(3, 99)])
    assert (again.raw(texts) == scorer.raw(texts)).all()
    safetensors = pytest.importorskip("safetensors.numpy")
    assert (safetensors.load_file(path)["weights"] == scorer.weights).all()  # the layout is theirs
    moved = path.rename(path.with_name("tiny-00000000.safetensors"))
    with pytest.raises(BadInput, match="another scorer than its name says"):
        read(moved)
    assert write(scorer, tmp_path / "mine.safetensors").name == "mine.safetensors"


def test_a_damaged_file_is_refused(scorer: Scorer) -> None:
    good = scorer.to_bytes()
    (size,) = struct.unpack_from("<Q", good)
    header = json.loads(good[8 : 8 + size])

    def changed(**arrays: object) -> bytes:
        text = json.dumps({**header, **arrays}).encode()
        return struct.pack("<Q", len(text)) + text + good[8 + size :]

    said = json.loads(header["__metadata__"]["headwater_scorer"])

    def metadata(**values: object) -> bytes:
        return changed(__metadata__={"headwater_scorer": json.dumps({**said, **values})})

    nan, inf = replace(scorer, intercept=float("nan")), scorer.weights.copy()
    inf[3] = np.inf
    falling = Calibration(np.array([0.0, 1.0]), np.array([2.0, 1.0]))
    high = Calibration(np.array([0.0]), np.array([7.0]))
    bad = {
        "empty": b"",
        "zeros": bytes(64),
        "pickle": b"\x80\x04K\x01." * 10,
        "a zip": b"PK\x03\x04" + bytes(200),
        "long header": struct.pack("<Q", 1 << 62) + good[8:],
        "not JSON": good[:8] + b"{" * size + good[8 + size :],
        "cut": good[:-1],
        "longer": good + b"\0",
        "shape": changed(weights={**header["weights"], "shape": [1 << 40]}),
        "negative": changed(weights={**header["weights"], "data_offsets": [-8, 8]}),
        "bool": changed(intercept={**header["intercept"], "shape": [True]}),
        "type": changed(weights={**header["weights"], "dtype": "OBJ"}),
        "extra array": changed(more=header["weights"]),
        "format": metadata(format=2),
        "kind": metadata(kind="forest"),
        "path as a name": metadata(name="../../x"),
        "facts": metadata(facts=[1]),
        "nan": nan.to_bytes(),
        "inf": replace(scorer, weights=inf).to_bytes(),
        "buckets": replace(scorer, weights=scorer.weights[:1000]).to_bytes(),
        "falling": replace(scorer, calibration=falling).to_bytes(),
        "above five": replace(scorer, calibration=high).to_bytes(),
        "embedding of nothing": replace(scorer, kind="embedding").to_bytes(),
        "deep": good[:8] + (b"[" * size) + good[8 + size :],
    }
    for name, content in bad.items():
        with pytest.raises(BadInput, match="is no scorer"):
            parse(content, name)
            pytest.fail(name)


@given(st.integers(0, 3000), st.integers(0, 255))
@settings(max_examples=150, deadline=None)
def test_a_changed_byte_is_refused_or_harmless(scorer: Scorer, place: int, byte: int) -> None:
    content = bytearray(scorer.to_bytes())
    content[place % len(content)] = byte
    try:
        found = parse(bytes(content), "x")
    except BadInput:
        return
    assert np.isfinite(found.raw(pa.array(["def f(): pass"]))).all()


def test_bad_paths_have_a_message(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot read the scorer"):
        read(tmp_path / "none.safetensors")
    with pytest.raises(BadInput, match="cannot read"):
        read(tmp_path)
    with pytest.raises(UnknownName, match="pyton"):
        read("pyton")
    with (tmp_path / "large.safetensors").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(BadInput, match="1,073,741,824 bytes"):
        read(tmp_path / "large.safetensors")


def test_an_embedding_head_learns_a_direction(rng: np.random.Generator) -> None:
    vectors = rng.normal(size=(120, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = np.clip(np.round(2.5 + 6 * vectors[:, 0]), 0, 5)
    trained = train_embedding_head(
        vectors, labels, [f"g{i % 11}" for i in range(120)], name="head", embedding_model="m@1", repeats=1
    )
    assert trained.quality.rank_correlation > 0.9
    again = parse(trained.scorer.to_bytes(), "head")
    assert again.embedding_model == "m@1"
    assert again.raw_of_embeddings(vectors) == pytest.approx(trained.scorer.raw_of_embeddings(vectors))
    assert (cross_calibrated(trained.out_of_fold, labels, trained.fold) == trained.calibrated).all()


# -- the operator ---------------------------------------------------------------------------------


def test_every_call_form_takes_a_file(scorer: Scorer, tmp_path: Path) -> None:
    path = str(write(scorer, tmp_path))
    texts = [text_of(0, 7), None, text_of(3, 7), ""]
    op = operator("edu_score")
    direct = op(pa.array(texts), scorer=path).to_pylist()
    assert direct[1] is None and direct[0] < 0.5 and direct[2] > 2.5
    con = duckdb.connect()
    op.register(con)
    con.register("t", pa.table({"i": range(4), "text": texts}))
    rows = con.execute("select edu_score(text, scorer := $p) from t order by i", {"p": path}).fetchall()
    assert [row[0] for row in rows] == direct
    frame = pl.DataFrame({"text": texts}).select(op.polars("text", scorer=path))
    assert frame.to_series().to_list() == direct
    raw = op(pa.array(texts), scorer=path, calibrated=False).to_pylist()
    assert raw[3] == scorer.intercept and raw[2] > raw[0]
    head = replace(scorer, kind="embedding", embedding_model="m", name="head")
    with pytest.raises(UsageError, match="reads embeddings"):
        op(pa.array(["x"]), scorer=str(write(head, tmp_path)))


def test_a_file_that_changes_is_read_again(scorer: Scorer, tmp_path: Path) -> None:
    path, op = tmp_path / "mine.safetensors", operator("edu_score")
    write(scorer, path)
    before = op(pa.array(["x"]), scorer=str(path), calibrated=False)[0].as_py()
    write(replace(scorer, intercept=scorer.intercept + 1), path)
    assert op(pa.array(["x"]), scorer=str(path), calibrated=False)[0].as_py() == pytest.approx(before + 1)


# -- the shipped scorer ---------------------------------------------------------------------------

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "edu_scores.json").read_text())


def test_the_shipped_scorer_scores_known_texts() -> None:
    """Integer hashing and float64 sums in a fixed order: the same doubles on every machine."""
    texts = pa.array([row["text"] for row in GOLDEN], pa.large_string())
    for column, calibrated in (("edu_score", True), ("edu_score_raw", False)):
        assert operator("edu_score")(texts, calibrated=calibrated).to_pylist() == [
            row[column] for row in GOLDEN
        ]


def test_the_shipped_scorer_is_what_the_script_makes() -> None:
    files = labeled_files()
    found = [file for file in files if file.text is not None]
    assert len(files) == 432
    shipped = read("python")
    assert SHIPPED["python"].stat().st_size < 1 << 20
    assert shipped.facts["labels"]["num_labels"] == 432
    if len(found) < len(files):
        pytest.skip(f"{len(found)} of {len(files)} labeled texts are on this machine")
    texts = pa.array([file.text for file in found], pa.large_string())
    labels = np.array([float(file.score) for file in found])
    groups = group_names([file.source for file in found], [file.path for file in found])
    features = SparseFeatures.of(ngram_counts(texts, shipped.bits), shipped.bits)
    fitted = features.fit(labels, float(shipped.facts["lambda"]))
    assert shipped.weights.astype(float) == pytest.approx(fitted.weights, abs=2e-3)
    assert shipped.intercept == pytest.approx(fitted.intercept, abs=1e-6)
    quality = shipped.facts["quality"]
    _, raw, _ = cross_validated(features, labels, groups, quality["num_folds"], quality["seed"])
    assert rank_correlation(raw, labels) == pytest.approx(quality["rank_correlation"], abs=0.03)
    curve = isotonic(raw, labels)
    at = np.linspace(0, 3, 20)
    assert curve(at) == pytest.approx(shipped.calibration(at), abs=0.05)


def test_digests_name_the_bytes(scorer: Scorer) -> None:
    assert scorer.digest == digest_of(scorer.to_bytes())
