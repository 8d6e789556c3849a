"""A forest of randomised regression trees with a mean and a variance, over the unit cube.

Notation
--------
n, d, T   rows, columns, trees
N         nodes of all trees together; node t < T is the root of tree t
z         (n,) transformed outcomes, see :func:`compressed`
S         samples: pairs of a tree and a row, those in one node side by side

All trees grow together, one level at a time, in a handful of array operations for each level. That
is several times faster than a library's tree at the sizes of a study (a few hundred rows), needs no
import of seconds, and draws the same trees in every version of every library, so that a journal
replays to the same decisions.

Each tree numbers the categories of nominal columns in a random order of its own, so that a
threshold cuts them into two random groups; an inactive column lies below all values. Trees are grown
on the rows at hand and then keep their shape: rows that come later, and pending ones, are dropped
into the leaves they fall into and change means and variances there exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hpo_core._space import NOMINAL, SearchSpace

__all__ = ["Grown", "Trees", "compressed"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_INACTIVE = -1.0
# In the logarithm of outcomes: how far, in units of best-to-median, the scale starts below the best.
_SOFT = 0.1
# Outcomes beyond this many units are as bad as any. Farther out a disaster would be all that a leaf it shares
# with others says, and that all the uncertainty, after which the search goes.
_WORST = 10.0


def compressed(y: Array) -> Array:
    """(n,) finite ``y`` on a log scale that starts a little below the best, failures (NaN) as worst.

    The distance from the best to the median is one unit before the logarithm is taken, so that a
    few disasters do not flatten the part of the scale where the search happens.
    """
    failed = np.isnan(y)
    if failed.all():
        return np.zeros(len(y))
    # Quarters: the difference of two values near the largest double is no double, nor is the sum of two
    # such halves, of which a median is the mean.
    distance = y / 4 - np.nanmin(y) / 4
    unit = float(np.nanmedian(distance)) or float(np.nanmax(distance))
    if not unit > 0:
        return np.where(failed, 1.0, 0.0)
    with np.errstate(over="ignore"):
        z = np.log(np.minimum(distance / unit, _WORST) + _SOFT)
    return np.where(failed, np.nanmax(z), z)


@dataclass(frozen=True)
class Grown:
    """Trees, and for each of their nodes what has fallen into it.

    ``feature``, ``threshold``, ``left`` ``(N,)``: larger values go to ``left + 1``; a leaf is its own
    child. ``count``, ``total``, ``squares`` ``(N,)``: number of rows, sums of z and of its square.
    ``numbering`` ``(T, most categories)``.
    """

    space: SearchSpace
    numbering: Array
    feature: Ints
    threshold: Array
    left: Ints
    depth: int
    count: Array
    total: Array
    squares: Array

    def leaves(self, U: Array) -> Ints:
        """(T, n) the leaf of each tree that each row of canonical ``U`` ``(n, d)`` falls into."""
        X = _numbered(self.space, U, self.numbering)
        T, n, d = X.shape
        flat = X.reshape(-1)
        base = np.arange(T * n) * d
        node = np.repeat(np.arange(T), n)
        for _ in range(self.depth):
            right = flat[base + self.feature[node]] > self.threshold[node]
            node = self.left[node] + right
        return node.reshape(T, n)

    def extended(self, U: Array, z: Array) -> Grown:
        """These trees with further rows in their leaves."""
        leaves = self.leaves(U)
        size, at = len(self.count), leaves.reshape(-1)
        each = np.tile(z, len(leaves))
        return replace(
            self,
            count=self.count + np.bincount(at, minlength=size),
            total=self.total + np.bincount(at, each, minlength=size),
            squares=self.squares + np.bincount(at, each * each, minlength=size),
        )

    def predict(self, U: Array) -> tuple[Array, Array]:
        """Mean and variance ``(n,)`` each, by the law of total variance (Hutter 2014, eq. 4.2)."""
        leaves = self.leaves(U)
        n = np.maximum(self.count, 1.0)
        mean = self.total / n
        within = np.maximum(self.squares / n - mean * mean, 0.0)
        means = mean[leaves]
        return means.mean(axis=0), means.var(axis=0) + within[leaves].mean(axis=0)


@dataclass(frozen=True, kw_only=True)
class Trees:
    """How trees are grown: extremely randomised (Geurts 2006), thresholds uniform in a node's range.

    ``number`` of trees; ``features``: fraction of the columns tried at a split; ``leaf``: fewest
    rows in a leaf; ``bootstrap``: whether each tree sees a resample of the rows.
    """

    number: int = 24
    features: float = 5.0 / 6.0
    leaf: int = 1
    bootstrap: bool = False

    def fit(self, space: SearchSpace, U: Array, z: Array, rng: np.random.Generator) -> Grown:
        """Trees on canonical rows ``U`` ``(n, d)`` with outcomes ``z`` ``(n,)``."""
        n, T = len(z), self.number
        most = int(space.cardinality[space.kinds == NOMINAL].max(initial=1))
        numbering = rng.permuted(np.tile(np.arange(float(most)), (T, 1)), axis=1)
        rows = rng.integers(n, size=(T, n)) if self.bootstrap else np.tile(np.arange(n), (T, 1))
        X = _numbered(space, U, numbering)[np.arange(T)[:, None], rows].reshape(T * n, space.dims)
        z_all = z[rows.reshape(-1)]
        # A tree of n rows has at most 2 n - 1 nodes; what is never reached stays a leaf.
        room = T * (2 * n - 1)
        feature, left = np.zeros(room, dtype=np.int64), np.arange(room)
        threshold = np.full(room, np.inf)
        node, sample = np.repeat(np.arange(T), n), np.arange(T * n)
        size, depth = T, 0
        while len(sample):
            splits = _best_splits(X.take(sample, axis=0), z_all[sample], node[sample], self, rng)
            if not len(splits.node):
                break
            feature[splits.node], threshold[splits.node] = splits.column, splits.threshold
            left[splits.node] = size + 2 * np.arange(len(splits.node))
            sample, child = sample[splits.child >= 0], splits.child[splits.child >= 0]
            node[sample] = size + child
            sample = sample[np.argsort(child, kind="stable")]
            size += 2 * len(splits.node)
            depth += 1
        count = np.bincount(node, minlength=size).astype(np.float64)
        total = np.asarray(np.bincount(node, z_all, minlength=size), dtype=np.float64)
        squares = np.asarray(np.bincount(node, z_all * z_all, minlength=size), dtype=np.float64)
        return Grown(
            space,
            numbering,
            feature[:size],
            threshold[:size],
            left[:size],
            depth,
            count,
            total,
            squares,
        )


@dataclass(frozen=True)
class _Splits:
    """``node``, ``column``, ``threshold`` ``(P,)`` of the nodes that split, and for every sample the
    number of its child, counted from the first new node; -1 where the node became a leaf.
    """

    node: Ints
    column: Ints
    threshold: Array
    child: Ints


def _best_splits(X: Array, z: Array, node: Ints, options: Trees, rng: np.random.Generator) -> _Splits:
    """One split for each node that can have one: of a random threshold in each of some random
    columns, the one that leaves the least squared error.

    ``X`` ``(S, d)``, ``z`` and ``node`` ``(S,)``, samples of a node side by side.
    """
    starts = np.flatnonzero(np.diff(node, prepend=-1))
    count = np.diff(starts, append=len(node))
    low, high = np.minimum.reduceat(X, starts), np.maximum.reduceat(X, starts)
    pure = np.minimum.reduceat(z, starts) == np.maximum.reduceat(z, starts)
    usable = (high > low) & ~pure[:, None] & (count >= 2 * options.leaf)[:, None]
    usable = _some(usable, options.features, rng)
    threshold = low + rng.random(low.shape) * (high - low)
    to_right = np.repeat(threshold, count, axis=0) < X
    on_right = np.add.reduceat(to_right, starts, dtype=np.int64)
    on_left = count[:, None] - on_right
    usable &= np.minimum(on_left, on_right) >= options.leaf
    # Centred, so that the sums lose no digits to a common offset.
    centred = z - z.mean()
    sum_right = np.add.reduceat(to_right * centred[:, None], starts)
    sum_left = np.add.reduceat(centred, starts)[:, None] - sum_right
    gain = sum_left**2 / np.maximum(on_left, 1) + sum_right**2 / np.maximum(on_right, 1)
    gain = np.where(usable, gain, -1.0)
    best = gain.argmax(axis=1)
    here = np.arange(len(best))
    splits = gain[here, best] >= 0.0
    number = np.where(splits, np.cumsum(splits) - 1, -1)
    column = np.repeat(best, count)
    child = 2 * np.repeat(number, count) + to_right[np.arange(len(z)), column]
    return _Splits(
        node=node[starts][splits],
        column=best[splits],
        threshold=threshold[here, best][splits],
        child=np.where(np.repeat(splits, count), child, -1),
    )


def _some(usable: Bools, fraction: float, rng: np.random.Generator) -> Bools:
    """``usable`` ``(A, d)`` cut down to that fraction of the d columns, at random, at least one."""
    d = usable.shape[1]
    wanted = max(int(np.ceil(fraction * d)), 1)
    if wanted >= d:
        return usable
    lot = np.where(usable, rng.random(usable.shape), 2.0)
    limit = np.partition(lot, wanted - 1, axis=1)[:, wanted - 1]
    return np.asarray(usable & (lot <= limit[:, None]))


def _numbered(space: SearchSpace, U: Array, numbering: Array) -> Array:
    """(T, n, d) what each tree sees of canonical ``U`` ``(n, d)``."""
    T, n = len(numbering), len(U)
    inactive = np.isnan(U)
    X = np.broadcast_to(np.where(inactive, _INACTIVE, U), (T, n, space.dims))
    nominal = np.flatnonzero(space.kinds == NOMINAL)
    if not len(nominal):
        return X
    cells = np.where(inactive, 0.0, U)[:, nominal] * space.cardinality[nominal]
    X = X.copy()
    numbered = numbering[:, np.floor(cells).astype(np.int64)]
    X[:, :, nominal] = np.where(inactive[:, nominal], _INACTIVE, numbered)
    return X
