"""Folds of a cross-validation in which what belongs together stands on one side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

LARGE_SOURCE_SHARE = 0.2
"""A source with more of the rows than this is split by the first part of the path: the standard library is
not one group, but each of its packages is."""


def group_names(
    sources: Sequence[str | None],
    paths: Sequence[str | None],
    clusters: Sequence[object | None] | None = None,
) -> list[str]:
    """The group of each row: its source (a large one in parts), joined where near-copies link two groups.

    A row of a single source without paths is a group of its own.
    """
    names = [source or "" for source in sources]
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    groups = []
    for i, (name, path) in enumerate(zip(names, paths, strict=True)):
        if counts[name] > LARGE_SOURCE_SHARE * len(names):
            head = (path or "").strip("/").partition("/")[0]
            groups.append(f"{name}/{head or f'row {i}'}")
        else:
            groups.append(name)
    return _joined(groups, clusters) if clusters is not None else groups


def _joined(groups: list[str], clusters: Sequence[object | None]) -> list[str]:
    parent = {group: group for group in groups}

    def root(group: str) -> str:
        while parent[group] != group:
            parent[group] = parent[parent[group]]
            group = parent[group]
        return group

    first: dict[object, str] = {}
    for group, cluster in zip(groups, clusters, strict=True):
        if cluster is None:
            continue
        a, b = sorted((root(group), root(first.setdefault(cluster, group))))
        parent[b] = a
    return [root(group) for group in groups]


def folds(groups: Sequence[str], count: int, seed: int) -> npt.NDArray[np.int64]:
    """The fold of each row: ``count`` folds (or as many as there are groups) of about equal size.

    The largest groups are placed first, each into the smallest fold; groups of one size go in an order that
    the seed decides.
    """
    sizes: dict[str, int] = {}
    for group in groups:
        sizes[group] = sizes.get(group, 0) + 1
    names = sorted(sizes)
    np.random.default_rng(seed).shuffle(names)
    names.sort(key=lambda name: -sizes[name])
    load = [0] * min(count, len(names))
    placed: dict[str, int] = {}
    for name in names:
        fold = int(np.argmin(load))
        placed[name] = fold
        load[fold] += sizes[name]
    return np.array([placed[group] for group in groups], dtype=np.int64)
