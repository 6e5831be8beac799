"""Fit a scorer on labeled texts or embeddings, and say how good it is on groups it has not seen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.errors import UsageError
from headwater.kernels.hashed_ngrams import MAX_BITS, MIN_BITS, ngram_counts
from headwater.scoring.artifact import EMBEDDING, HIGHEST, LOWEST, NGRAMS, Scorer
from headwater.scoring.calibration import expected_error, isotonic, reliability
from headwater.scoring.folds import folds
from headwater.scoring.metrics import at_threshold, rank_correlation, rmse
from headwater.scoring.regression import LAMBDAS, DenseFeatures, Features, SparseFeatures

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BITS = 16
FOLDS, REPEATS = 10, 5
MIN_LABELS, MIN_GROUPS = 30, 3
THRESHOLDS = (1, 2, 3, 4)


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Of predictions for rows whose group was not trained on, calibrated by curves that did not see the row.

    Each figure is the mean over the repeats; ``spread`` holds its standard deviation over them.
    """

    num_labels: int
    num_groups: int
    labels: Mapping[str, int]
    """Rows by label, rounded."""
    num_folds: int
    num_repeats: int
    seed: int
    rank_correlation: float
    rmse: float
    rmse_of_the_mean: float
    """Of a scorer that says the mean label of everything: what ``rmse`` is to be compared with."""
    expected_calibration_error: float
    thresholds: tuple[Mapping[str, Any], ...]
    reliability: tuple[Mapping[str, Any], ...]
    """Of the first repeat."""
    spread: Mapping[str, float]
    lambdas: tuple[float, ...]
    """Strengths that the inner cross-validations chose."""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A scorer, its quality, and what the first repeat said of each row it was not trained on."""

    scorer: Scorer
    quality: Quality
    fold: Ints
    out_of_fold: Floats
    """Raw."""
    calibrated: Floats


def train_ngrams(
    texts: pa.Array,
    labels: npt.ArrayLike,
    groups: Sequence[str],
    *,
    name: str,
    bits: int = BITS,
    num_folds: int = FOLDS,
    repeats: int = REPEATS,
    seed: int = 0,
    facts: Mapping[str, Any] | None = None,
) -> Trained:
    """A linear model of hashed words and pairs of words. Its weights are kept in 16 bits."""
    if not MIN_BITS <= bits <= MAX_BITS:
        raise UsageError(f"got 2 ** {bits} buckets", hint=f"{MIN_BITS} to {MAX_BITS} bits")
    truth = _checked(labels, groups)
    features = SparseFeatures.of(ngram_counts(texts, bits), bits)
    return _trained(
        features, truth, groups, num_folds, repeats, seed, facts, name=name, kind=NGRAMS, stored_as="<f2"
    )


def train_embedding_head(
    embeddings: npt.NDArray[np.float32],
    labels: npt.ArrayLike,
    groups: Sequence[str],
    *,
    name: str,
    embedding_model: str,
    num_folds: int = FOLDS,
    repeats: int = REPEATS,
    seed: int = 0,
    facts: Mapping[str, Any] | None = None,
) -> Trained:
    """A linear model of embeddings."""
    truth = _checked(labels, groups)
    if not np.isfinite(embeddings).all():
        raise UsageError("an embedding holds numbers that are not finite", hint="embed these documents again")
    features = DenseFeatures(embeddings.astype(np.float64))
    return _trained(
        features, truth, groups, num_folds, repeats, seed, facts, name=name, kind=EMBEDDING, stored_as="<f4",
        embedding_model=embedding_model,
    )  # fmt: skip


def _plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON reads it back."""
    found: dict[str, Any] = json.loads(json.dumps(facts))
    return found


def _checked(labels: npt.ArrayLike, groups: Sequence[str]) -> Floats:
    truth = np.asarray(labels, dtype=np.float64)
    if len(truth) < MIN_LABELS:
        raise UsageError(f"{len(truth)} labels are too few", hint=f"label at least {MIN_LABELS} texts")
    if not ((truth >= LOWEST) & (truth <= HIGHEST)).all():
        raise UsageError(f"labels are not all from {LOWEST} to {HIGHEST}")
    if len(np.unique(truth)) < 2:
        raise UsageError(f"every label is {truth[0]:g}", hint="a scorer learns from differences")
    if len(set(groups)) < MIN_GROUPS:
        raise UsageError(
            f"the labeled texts are of {len(set(groups))} sources",
            hint="what is measured on texts of the source that was trained on says nothing of others; "
            f"label texts of at least {MIN_GROUPS}",
        )
    return truth


def cross_validated(
    features: Features, labels: Floats, groups: Sequence[str], num_folds: int, seed: int
) -> tuple[Ints, Floats, list[float]]:
    """Fold and raw score of each row from a model that did not see its group; and the lambdas chosen for it.

    The strength of each fold's model is chosen by a cross-validation among its own training folds.
    """
    fold = folds(groups, num_folds, seed)
    count = int(fold.max()) + 1
    rows = [np.flatnonzero(fold == k) for k in range(count)]
    errors = np.zeros((count, len(LAMBDAS)))
    for k in range(count):
        for j in range(k):  # the models without both folds serve the choice for either
            test = np.concatenate([rows[k], rows[j]])
            train = np.flatnonzero((fold != k) & (fold != j))
            wrong = (features.predictions(train, test, labels, LAMBDAS) - labels[test]) ** 2
            errors[j] += wrong[:, : len(rows[k])].sum(axis=1)
            errors[k] += wrong[:, len(rows[k]) :].sum(axis=1)
    out, chosen = np.empty(len(labels)), []
    for k in range(count):
        strength = LAMBDAS[int(np.argmin(errors[k]))]
        chosen.append(strength)
        train = np.flatnonzero(fold != k)
        out[rows[k]] = features.predictions(train, rows[k], labels, [strength])[0]
    return fold, out, chosen


def _strength(features: Features, labels: Floats, fold: Ints) -> float:
    """The lambda of the least squared error over the folds."""
    errors = np.zeros(len(LAMBDAS))
    for k in range(int(fold.max()) + 1):
        train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        said = features.predictions(train, test, labels, LAMBDAS)
        errors += ((said - labels[test]) ** 2).sum(axis=1)
    return LAMBDAS[int(np.argmin(errors))]


def _trained(
    features: Features,
    labels: Floats,
    groups: Sequence[str],
    num_folds: int,
    repeats: int,
    seed: int,
    facts: Mapping[str, Any] | None,
    *,
    name: str,
    kind: str,
    stored_as: str,
    embedding_model: str = "",
) -> Trained:
    """Cross-validated ``repeats`` times, then fitted to all rows. ``stored_as``: type of the weights."""
    runs = []
    for repeat in range(repeats):
        fold, raw, chosen = cross_validated(features, labels, groups, num_folds, seed + repeat)
        runs.append((fold, raw, cross_calibrated(raw, labels, fold), chosen))
    fold, raw, calibrated, _ = runs[0]
    quality = quality_of(
        [(run[1], run[2]) for run in runs], labels, groups, int(fold.max()) + 1, seed,
        tuple(strength for run in runs for strength in run[3]),
    )  # fmt: skip
    strength = _strength(features, labels, fold)
    fitted = features.fit(labels, strength)
    scorer = Scorer(
        name=name,
        kind=kind,
        weights=fitted.weights.astype(stored_as),
        intercept=fitted.intercept,
        calibration=isotonic(raw, labels),
        embedding_model=embedding_model,
        facts=_plain({**(facts or {}), "lambda": strength, "quality": quality.to_json()}),
    )
    return Trained(scorer=scorer, quality=quality, fold=fold, out_of_fold=raw, calibrated=calibrated)


def cross_calibrated(raw: Floats, labels: Floats, fold: Ints) -> Floats:
    """Each fold's raw scores through a curve that was fitted on the other folds' only."""
    out = np.empty(len(raw))
    for k in np.unique(fold):
        out[fold == k] = isotonic(raw[fold != k], labels[fold != k])(raw[fold == k])
    return out


def quality_of(
    runs: Sequence[tuple[Floats, Floats]],
    labels: Floats,
    groups: Sequence[str],
    num_folds: int,
    seed: int,
    lambdas: tuple[float, ...] = (),
) -> Quality:
    """Quality from the ``(raw, calibrated)`` predictions of each repeat.

    Ranks are those of the raw scores: the curve makes ties.
    """
    each = []
    for raw, calibrated in runs:
        bins = reliability(calibrated, labels)
        row: dict[str, float | None] = {
            "rank_correlation": rank_correlation(raw, labels),
            "rmse": rmse(calibrated, labels),
            "expected_calibration_error": expected_error(bins),
        }
        for threshold in THRESHOLDS:
            found = at_threshold(calibrated, labels, threshold)
            found["auc"] = at_threshold(raw, labels, threshold)["auc"]
            row.update(
                {f"{key}@{threshold}": found[key] for key in ("found", "precision", "recall", "f1", "auc")}
            )
        each.append(row)

    def mean(key: str) -> float | None:
        values = [value for row in each if (value := row[key]) is not None]
        return float(np.mean(values)) if values else None

    def spread(key: str) -> float:
        values = [value for row in each if (value := row[key]) is not None]
        return float(np.std(values)) if values else 0.0

    rounded, counts = np.unique(np.round(labels).astype(int), return_counts=True)
    return Quality(
        num_labels=len(labels),
        num_groups=len(set(groups)),
        labels={str(a): int(b) for a, b in zip(rounded, counts, strict=True)},
        num_folds=num_folds,
        num_repeats=len(runs),
        seed=seed,
        rank_correlation=mean("rank_correlation") or 0.0,
        rmse=mean("rmse") or 0.0,
        rmse_of_the_mean=float(labels.std()),
        expected_calibration_error=mean("expected_calibration_error") or 0.0,
        thresholds=tuple(
            {
                "threshold": t,
                "positives": int((labels >= t).sum()),
                **{key: mean(f"{key}@{t}") for key in ("found", "precision", "recall", "f1", "auc")},
            }
            for t in THRESHOLDS
        ),
        reliability=tuple(reliability(runs[0][1], labels)),
        spread={
            key: spread(key)
            for key in ("rank_correlation", "rmse", "expected_calibration_error", "f1@2", "f1@3")
        },
        lambdas=tuple(sorted(set(lambdas))),
    )
