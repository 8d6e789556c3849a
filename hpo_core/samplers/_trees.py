"""A forest of randomised regression trees with a mean and a variance, over the unit cube.

Notation
--------
n, d, T   rows, columns, trees
z         (n,) transformed outcomes, see :func:`compressed`
mu, s2    mean and variance of a prediction over the trees (Hutter 2014, section 4.3)

Each tree sees its own numbering of every nominal column's categories, drawn at random, so that a
threshold on it cuts the categories into two random groups; an inactive column lies below all
others. Trees are grown on the rows at hand and then keep their shape: rows that come later, and
pending ones, are dropped into the leaves they fall into and change means and variances there
exactly, at no cost worth mentioning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo_core._space import NOMINAL, SearchSpace

__all__ = ["Forest", "Trees", "compressed"]

Array = NDArray[np.float64]

_INACTIVE = -1.0


def compressed(y: Array) -> Array:
    """(n,) finite ``y`` on a log scale that starts a little below the best, failures (NaN) as worst.

    The distance from the best to the median is worth one unit before the logarithm is taken, so
    that a few disasters do not flatten the part of the scale where the search happens.
    """
    finite = y[~np.isnan(y)]
    if not len(finite):
        return np.zeros(len(y))
    low = float(finite.min()) / 2
    # Halves: the difference of two values near the largest double is no double.
    distance = y / 2 - low
    unit = float(np.median(finite / 2 - low))
    unit = unit if unit > 0 else float((finite / 2 - low).max())
    if not unit > 0:
        return np.where(np.isnan(y), 1.0, 0.0)
    with np.errstate(over="ignore"):
        z = np.log(np.minimum(distance / unit, 1e6) + _SOFT)
    return np.where(np.isnan(y), np.nanmax(z), z)


_SOFT = 0.1


@dataclass
class Forest:
    """Fitted trees, and for each of their leaves what it has seen."""

    space: SearchSpace
    trees: list[Any]
    numbering: list[NDArray[np.float32]]
    count: list[Array]
    total: list[Array]
    squares: list[Array]

    @property
    def n_trees(self) -> int:
        """T."""
        return len(self.trees)

    def leaves(self, U: Array) -> list[NDArray[np.int64]]:
        """For each tree the leaf of every row of canonical ``U`` ``(n, d)``."""
        X, cells = _encoded(self.space, U)
        return [
            tree.apply(_renumbered(self.space, X, cells, numbering))
            for tree, numbering in zip(self.trees, self.numbering, strict=True)
        ]

    def extended(self, U: Array, z: Array) -> Forest:
        """This forest with further rows in its leaves; the shape of the trees is kept."""
        if not len(U):
            return self
        count, total, squares = [], [], []
        for t, leaf in enumerate(self.leaves(U)):
            size = len(self.count[t])
            count.append(self.count[t] + np.bincount(leaf, minlength=size))
            total.append(self.total[t] + np.bincount(leaf, z, minlength=size))
            squares.append(self.squares[t] + np.bincount(leaf, z * z, minlength=size))
        return Forest(self.space, self.trees, self.numbering, count, total, squares)

    def predict(self, U: Array) -> tuple[Array, Array]:
        """Mean and variance ``(n,)`` each: of the trees' means, plus the mean within the leaves."""
        means, within = np.empty((self.n_trees, len(U))), np.empty((self.n_trees, len(U)))
        for t, leaf in enumerate(self.leaves(U)):
            n = np.maximum(self.count[t], 1.0)
            mean = self.total[t] / n
            means[t] = mean[leaf]
            within[t] = np.maximum(self.squares[t] / n - mean * mean, 0.0)[leaf]
        return means.mean(axis=0), means.var(axis=0) + within.mean(axis=0)


@dataclass(frozen=True, kw_only=True)
class Trees:
    """How trees are grown: extremely randomised ones (Geurts 2006).

    ``number`` of trees; ``features``: fraction of the columns tried at a split; ``leaf``: fewest
    rows in a leaf; ``bootstrap``: whether each tree sees a resample of the rows.
    """

    number: int = 24
    features: float = 5.0 / 6.0
    leaf: int = 1
    bootstrap: bool = False

    def fit(self, space: SearchSpace, U: Array, z: Array, rng: np.random.Generator) -> Forest:
        """A forest on canonical rows ``U`` ``(n, d)`` with outcomes ``z`` ``(n,)``."""
        import sklearn
        from sklearn.tree import ExtraTreeRegressor

        X, cells = _encoded(space, U)
        forest = Forest(space, [], [], [], [], [])
        # Validating the options anew for every tree costs more than growing small ones.
        with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
            for _ in range(self.number):
                numbering = rng.permutation(_n_numbers(space)).astype(np.float32)
                rows = np.arange(len(z))
                if self.bootstrap:
                    rows = rng.integers(len(z), size=len(z))
                tree = ExtraTreeRegressor(
                    max_features=self.features,
                    min_samples_leaf=self.leaf,
                    random_state=int(rng.integers(2**31)),
                )
                encoded = _renumbered(space, X[rows], cells[rows], numbering)
                tree.fit(encoded, z[rows], check_input=False)
                size = tree.tree_.node_count
                leaf = tree.tree_.apply(encoded)
                forest.trees.append(tree.tree_)
                forest.numbering.append(numbering)
                forest.count.append(np.bincount(leaf, minlength=size).astype(np.float64))
                forest.total.append(_sums(leaf, z[rows], size))
                forest.squares.append(_sums(leaf, z[rows] ** 2, size))
        return forest


def _sums(leaf: NDArray[np.int64], z: Array, size: int) -> Array:
    return np.asarray(np.bincount(leaf, z, minlength=size), dtype=np.float64)


def _n_numbers(space: SearchSpace) -> int:
    return int(space.cardinality[space.kinds == NOMINAL].max(initial=1))


def _encoded(space: SearchSpace, U: Array) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(n, d) float32 with inactive as -1, and (n, nominal columns) categories, -1 for inactive."""
    inactive = np.isnan(U)
    X = np.where(inactive, _INACTIVE, U).astype(np.float32)
    nominal = np.flatnonzero(space.kinds == NOMINAL)
    cells = np.floor(np.where(inactive, 0.0, U)[:, nominal] * space.cardinality[nominal])
    return X, np.where(inactive[:, nominal], -1, cells).astype(np.int64)


def _renumbered(
    space: SearchSpace,
    X: NDArray[np.float32],
    cells: NDArray[np.int64],
    numbering: NDArray[np.float32],
) -> NDArray[np.float32]:
    nominal = np.flatnonzero(space.kinds == NOMINAL)
    if not len(nominal):
        return X
    out = X.copy()
    # One random numbering serves all columns: its order within a column's categories is random.
    out[:, nominal] = np.where(cells < 0, np.float32(_INACTIVE), numbering[cells])
    return out
