"""How good the scorers of educational value are on groups they have not seen, and how fast they are.

    python benchmarks/edu_scorer.py [--models static minilm] [--repeats 5] [--lake lake]

The labels are those of headwater/educational; their texts are looked for among the installed packages and the
standard library (how many were found is printed). Folds split no package, and no package of the standard library; the
strength of the penalty is chosen within the training folds; calibration curves are fitted on other folds. All
models have the same folds. The peer is scikit-learn's HashingVectorizer (words and pairs of words, 2**16 buckets,
its own tokens) with Ridge, its alpha chosen in the same way. Speed is text per CPU second, one thread, after a
warm-up. With --lake the highest and lowest scored files of its table edu_scores are printed: those that were not
trained on.

Needs the extra embeddings for the embedding models and for scikit-learn; without it they are left out.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.educational.texts import labeled_files
from headwater.errors import HeadwaterError, MissingExtra
from headwater.kernels.hashed_ngrams import ngram_counts
from headwater.operators import operator
from headwater.scoring.folds import group_names
from headwater.scoring.regression import DenseFeatures, Features, SparseFeatures
from headwater.scoring.training import BITS, FOLDS, cross_calibrated, cross_validated, quality_of

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
MIN_SECONDS = 1.0


def vectorizer() -> Any:
    """The peer's features."""
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(n_features=1 << BITS, ngram_range=(1, 2), alternate_sign=False, norm="l2")


def statistics(texts: pa.Array) -> Floats:
    """Sizes, shares and counts of text_stats and code_stats, scaled: what a scorer without words could know."""
    words, code = operator("text_stats")(texts), operator("code_stats")(texts)
    columns = []
    for name in (
        "num_words",
        "num_lines",
        "stop_word_count",
        "mean_word_length",
        "alphanumeric_share",
        "duplicate_line_share",
    ):
        columns.append(words.field(name).to_numpy(zero_copy_only=False).astype(float))
    for name in ("num_functions", "num_classes", "num_imports", "comment_line_share", "comment_char_share"):
        columns.append(code.field(name).to_numpy(zero_copy_only=False).astype(float))
    found = np.log1p(np.stack(columns, axis=1))
    return (found - found.mean(axis=0)) / np.maximum(found.std(axis=0), 1e-9) / np.sqrt(found.shape[1])


def validate(
    name: str, features: Features, labels: Floats, groups: Sequence[str], repeats: int
) -> list[tuple[Floats, Floats, Ints]]:
    """Raw and calibrated scores of each repeat; prints the row."""
    runs, lambdas = [], []
    for seed in range(repeats):
        fold, raw, chosen = cross_validated(features, labels, groups, FOLDS, seed)
        runs.append((raw, cross_calibrated(raw, labels, fold), fold))
        lambdas += chosen
    show(name, runs, labels, groups)
    return runs


def show(name: str, runs: list[tuple[Floats, Floats, Ints]], labels: Floats, groups: Sequence[str]) -> None:
    """One row of the table."""
    q = quality_of([(raw, calibrated) for raw, calibrated, _ in runs], labels, groups, FOLDS, 0)
    f1 = " | ".join("–" if t["f1"] is None else f"{t['f1']:.2f}" for t in q.thresholds)
    auc = " | ".join("–" if t["auc"] is None else f"{t['auc']:.2f}" for t in q.thresholds)
    spread = q.spread["rank_correlation"]
    print(
        f"| {name} | {q.rank_correlation:.3f} ± {spread:.3f} | {q.rmse:.3f} | "
        f"{q.expected_calibration_error:.3f} | {f1} | {auc} |",
        flush=True,
    )


def rate(work: Callable[[], object], size: int) -> float:
    """Bytes per CPU second."""
    work()
    began, done = time.process_time(), 0
    while time.process_time() - began < MIN_SECONDS:
        work()
        done += 1
    return done * size / (time.process_time() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", nargs="*", default=["static", "minilm"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--lake")
    options = parser.parse_args()

    files = labeled_files()
    found = [file for file in files if file.text is not None]
    print(f"{len(found)} of {len(files)} labeled texts are on this machine")
    texts = pa.array([file.text for file in found], pa.large_string())
    labels = np.array([float(file.score) for file in found])
    groups = group_names([file.source for file in found], [file.path for file in found])
    counts = np.bincount(labels.astype(int), minlength=6)
    print(
        f"labels 0 to 5: {counts.tolist()}; {len(set(groups))} groups; RMSE of the mean label {labels.std():.3f}\n"
    )

    print("| model | rank correlation | RMSE | ECE | F1 ≥1 | ≥2 | ≥3 | ≥4 | AUC ≥1 | ≥2 | ≥3 | ≥4 |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    words = validate(
        "hashed words and pairs (edu_score)",
        SparseFeatures.of(ngram_counts(texts, BITS), BITS),
        labels,
        groups,
        options.repeats,
    )
    validate(
        "text_stats and code_stats alone", DenseFeatures(statistics(texts)), labels, groups, options.repeats
    )
    for name in options.models:
        try:
            from headwater.embedding import load_model

            model = load_model(name)
        except (MissingExtra, HeadwaterError) as error:
            print(f"| embedding {name} | {error.message} |")
            continue
        vectors = np.asarray(model.encode(texts), dtype=np.float64)
        head = validate(f"head on {model.id}", DenseFeatures(vectors), labels, groups, options.repeats)
        both = []
        for (a, _, fold), (b, _, _) in zip(words, head, strict=True):
            raw = (a + b) / 2
            both.append((raw, cross_calibrated(raw, labels, fold), fold))
        show(f"mean of words and {name}", both, labels, groups)
    peer = None
    try:
        made = vectorizer()
        list_of_texts = texts.to_pylist()
        peer = made.transform(list_of_texts)
        # Ridge with an intercept, solved exactly through the similarities: the same optimum, much sooner.
        same = SparseFeatures(ngram_counts(texts, BITS), np.empty(0), (peer @ peer.T).toarray(), BITS)
        validate("HashingVectorizer + Ridge", same, labels, groups, options.repeats)
    except ImportError:
        print("| scikit-learn is not installed |")

    size = sum(len(file.text.encode()) for file in found if file.text is not None)
    print(f"\nspeed on the {len(found)} texts ({size / 1e6:.1f} MB), one thread, MB of text per CPU second:")
    score = operator("edu_score")
    read = sum(min(len(file.text.encode()), 12_000) for file in found if file.text is not None)
    ours = rate(lambda: score(texts), size)
    print(
        f"  edu_score: {ours / 1e6:.1f} MB/s ({ours * read / size / 1e6:.1f} of what it reads: both ends of a long text)"
    )
    if peer is not None:
        from sklearn.linear_model import Ridge

        fitted = Ridge(alpha=0.1, solver="sparse_cg").fit(peer, labels)
        theirs = rate(lambda: fitted.predict(made.transform(list_of_texts)), size)
        print(f"  HashingVectorizer + Ridge: {theirs / 1e6:.1f} MB/s")
    if options.lake:
        show_ends(options.lake)


def show_ends(uri: str) -> None:
    """The highest and the lowest scored files of a lake that were not trained on."""
    import headwater as hw
    from headwater.scoring.report import report_facts

    facts = report_facts(hw.Lake(uri), "python")
    print(f"\n{facts.scores}: {', '.join(f'{k} {v:.2f}' for k, v in facts.quantiles.items())}")
    print(f"{facts.num_labeled} documents were trained on or are near-copies of such; of the others")
    for title, rows in (("highest", facts.highest), ("lowest", facts.lowest)):
        print(f"\n| {title} | score | raw | bytes |\n|---|---|---|---|")
        for row in rows:
            print(
                f"| {row['source']}/{row['path']} | {row['score']:.2f} | {row['raw']:.2f} | {row['text_bytes']:,} |"
            )


if __name__ == "__main__":
    main()
