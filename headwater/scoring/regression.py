"""Ridge regression, through the similarities of rows or through their columns.

An intercept is fitted beside the weights and not shrunk. Everything is float64 numpy. Few rows are solved in
closed form; beyond ``EXACT_ROWS`` of sparse features by Lanczos' method, which serves every penalty at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from headwater.kernels.hashed_ngrams import Counts, combined, products, similarities

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LAMBDAS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Strengths of the penalty that the inner cross-validation chooses from; rows have length 1."""


class Weights(NamedTuple):
    """A linear model: ``row @ weights + intercept``."""

    weights: Floats
    intercept: float


class Features(Protocol):
    """Rows that a regression can be fitted on."""

    def __len__(self) -> int: ...

    def predictions(self, train: Ints, test: Ints, labels: Floats, lambdas: Sequence[float]) -> Floats:
        """For each lambda what a regression on ``train`` says of ``test``: shape (lambdas, test)."""

    def fit(self, labels: Floats, strength: float) -> Weights:
        """The regression on all rows."""


EXACT_ROWS = 1_000
"""Up to so many rows the matrix of their similarities is made and decomposed: at 2,000 that takes as long as
Lanczos' method, and grows with the third power."""


@dataclass(frozen=True)
class SparseFeatures:
    """Hashed counts: their roots, scaled to length 1. There are far more columns than rows, so the regression
    is solved through the similarities of the rows, which are held only for ``EXACT_ROWS``."""

    counts: Counts
    values: Floats
    gram: Floats | None
    bits: int

    @classmethod
    def of(cls, counts: Counts, bits: int, *, exact_rows: int = EXACT_ROWS) -> SparseFeatures:
        lengths = np.sqrt(np.maximum(counts.totals, 1).astype(np.float64))
        values = np.sqrt(counts.counts.astype(np.float64)) / np.repeat(lengths, np.diff(counts.offsets))
        rows = len(counts.totals)
        gram = None
        if rows <= exact_rows:
            gram = np.zeros((rows, rows), dtype=np.float64)
            similarities(counts.offsets, counts.buckets, values, bits, gram)
        return cls(counts, values, gram, bits)

    def __len__(self) -> int:
        return len(self.counts.totals)

    def predictions(self, train: Ints, test: Ints, labels: Floats, lambdas: Sequence[float]) -> Floats:
        factors, intercepts = self._factors(train, labels, lambdas)
        if self.gram is not None:
            return factors @ self.gram[np.ix_(train, test)] + intercepts[:, None]
        said = [self._similar(train, row)[test] for row in factors]
        return np.stack(said) + intercepts[:, None]

    def fit(self, labels: Floats, strength: float) -> Weights:
        factors, intercepts = self._factors(np.arange(len(self)), labels, [strength])
        weights = np.zeros(1 << self.bits, dtype=np.float64)
        combined(self.counts.offsets, self.counts.buckets, self.values, factors[0], weights)
        return Weights(weights, float(intercepts[0]))

    def _factors(self, train: Ints, labels: Floats, lambdas: Sequence[float]) -> tuple[Floats, Floats]:
        if self.gram is not None:
            return _dual(self.gram[np.ix_(train, train)], labels[train], lambdas)
        return _lanczos(lambda factors: self._similar(train, factors)[train], labels[train], lambdas)

    def _similar(self, train: Ints, factors: Floats) -> Floats:
        """The similarities of all rows to the rows of ``train``, times their factors, summed."""
        spread = np.zeros(len(self), dtype=np.float64)
        spread[train] = factors
        weights = np.zeros(1 << self.bits, dtype=np.float64)
        combined(self.counts.offsets, self.counts.buckets, self.values, spread, weights)
        products(self.counts.offsets, self.counts.buckets, self.values, weights, spread)
        return spread


@dataclass(frozen=True)
class DenseFeatures:
    """Embeddings: few columns, so the regression is solved through those."""

    rows: Floats

    def __len__(self) -> int:
        return len(self.rows)

    def predictions(self, train: Ints, test: Ints, labels: Floats, lambdas: Sequence[float]) -> Floats:
        weights, intercepts = _primal(self.rows[train], labels[train], lambdas)
        return weights @ self.rows[test].T + intercepts[:, None]

    def fit(self, labels: Floats, strength: float) -> Weights:
        weights, intercepts = _primal(self.rows, labels, [strength])
        return Weights(weights[0], float(intercepts[0]))


def _dual(gram: Floats, labels: Floats, lambdas: Sequence[float]) -> tuple[Floats, Floats]:
    """Factors of the rows and the intercept, for each lambda.

    With H the matrix that takes the mean away, the factors solve (H K H + lambda I) a = H y. They sum to 0,
    so that they also are the factors of the rows themselves.
    """
    column = gram.mean(axis=0)
    centered = gram - column[None, :] - column[:, None] + column.mean()
    spectrum, vectors = np.linalg.eigh(centered)
    rotated = vectors.T @ (labels - labels.mean())
    shrunk = rotated[None, :] / (np.maximum(spectrum, 0.0)[None, :] + np.asarray(lambdas)[:, None])
    factors = shrunk @ vectors.T
    factors -= factors.mean(axis=1, keepdims=True)
    return factors, labels.mean() - factors @ column


MAX_STEPS, TOLERANCE = 300, 1e-6


def _lanczos(
    similar: Callable[[Floats], Floats], labels: Floats, lambdas: Sequence[float]
) -> tuple[Floats, Floats]:
    """The same as :func:`_dual` from products with the matrix of similarities alone.

    One basis of H K H, begun with H y and kept orthogonal, holds the solution for every lambda. It grows
    until the residual of the worst is below TOLERANCE of H y, or to MAX_STEPS.
    """

    def centered(vector: Floats) -> Floats:
        found = similar(vector - vector.mean())
        return np.asarray(found - found.mean())

    aim = labels - labels.mean()
    length = float(np.linalg.norm(aim))
    if length == 0:
        return np.zeros((len(lambdas), len(labels))), np.full(len(lambdas), labels.mean())
    basis, diagonal, beside = [aim / length], list[float](), list[float]()
    strengths = np.asarray(lambdas)
    while True:
        next_one = centered(basis[-1])
        diagonal.append(float(next_one @ basis[-1]))
        rows = np.stack(basis)
        for _ in range(2):  # once more, because of rounding
            next_one -= rows.T @ (rows @ next_one)
        size = float(np.linalg.norm(next_one))
        small = np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
        spectrum, vectors = np.linalg.eigh(small)
        shrunk = vectors[0] / (np.maximum(spectrum, 0.0)[None, :] + strengths[:, None])
        inside = shrunk @ vectors.T * length
        residual = size * np.abs(inside[:, -1]).max()
        if residual <= TOLERANCE * length or len(basis) in (MAX_STEPS, len(labels)):
            break
        beside.append(size)
        basis.append(next_one / size)
    factors = inside @ rows
    factors -= factors.mean(axis=1, keepdims=True)
    means = np.array([similar(row).mean() for row in factors])
    return factors, labels.mean() - means


def _primal(rows: Floats, labels: Floats, lambdas: Sequence[float]) -> tuple[Floats, Floats]:
    center = rows.mean(axis=0)
    moved = rows - center
    spectrum, vectors = np.linalg.eigh(moved.T @ moved)
    rotated = vectors.T @ (moved.T @ (labels - labels.mean()))
    shrunk = rotated[None, :] / (np.maximum(spectrum, 0.0)[None, :] + np.asarray(lambdas)[:, None])
    weights = shrunk @ vectors.T
    return weights, labels.mean() - weights @ center
