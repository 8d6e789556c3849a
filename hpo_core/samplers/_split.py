"""Which results are good: the split that TPE's two densities are made of.

While fewer than that keep the study's outcome constraints, those that break them least are good as well.

Notation
--------
k, m      results, objectives
gamma     how many of the k results count as good
w         (gamma,) weights of the good: how far each is better than the best that is not

For one objective the best rows are kept sorted as results arrive; for several an archive keeps what
may still be good. Both are folds over the evidence, so that a split costs the same after 100,000
results as after 1,000.
"""

from __future__ import annotations

import math
from bisect import insort
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hpo_core._history import History
from hpo_core._memo import Memo
from hpo_core._outcome_constraints import broken_least
from hpo_core._pareto import order_by_quality

__all__ = ["KEPT", "MOST_GOOD", "Split", "Splitter", "improvement"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

# Good configurations at most, as in Hyperopt and Optuna; with several objectives the front needs
# more kernels to be covered.
MOST_GOOD, MOST_GOOD_OF_FRONT = 25, 50
# The others that are seen: so many of the next best, and of the newest.
KEPT = 256
# Of results that break a constraint the newest that are looked at, so that the cost stays flat.
NEWEST = 1024
# A good configuration counts at least this much of an average one, so that none is forgotten.
_LEAST = 1e-3


@dataclass(frozen=True)
class Split:
    """Rows of the ``good`` results with their ``weights`` (mean 1), and of the ``other`` ones.

    Both in the order in which they arrived.
    """

    good: Ints
    weights: Array
    other: Ints


@dataclass
class Best:
    """The best rows of the evidence so far, as ``(value, row)`` ascending; one objective."""

    rows: int = 0
    best: list[tuple[float, int]] = field(default_factory=list)

    def grow(self, values: Array) -> None:
        """Fold the new rows of ``values`` ``(k,)``; a failure is none of the best."""
        limit = MOST_GOOD + KEPT
        if len(values) - self.rows > limit:
            # Many at once (a replay): sort instead of inserting. The result is the same list.
            rows = np.flatnonzero(~np.isnan(values))
            rows = rows[np.argsort(values[rows], kind="stable")][:limit]
            self.best = [(float(values[row]), int(row)) for row in rows]
        else:
            for row in range(self.rows, len(values)):
                value = float(values[row])
                if not math.isnan(value):
                    insort(self.best, (value, row))
            del self.best[limit:]
        self.rows = len(values)


@dataclass
class Archive:
    """Rows that may still be among the best of several objectives; halved whenever it is full."""

    rows: int = 0
    kept: list[int] = field(default_factory=list)

    def grow(self, values: Array) -> None:
        """Fold the new rows of ``values`` ``(k, m)``."""
        for row in range(self.rows, len(values)):
            if not np.isnan(values[row]).any():
                self.kept.append(row)
            if len(self.kept) == 2 * KEPT:
                kept = np.array(self.kept)
                self.kept = np.sort(kept[order_by_quality(values[kept], most=KEPT)]).tolist()
        self.rows = len(values)


class Splitter:
    """Splits results at a fraction; keeps the folds of one study between calls."""

    def __init__(self) -> None:
        self._best: Memo[Best] = Memo()
        self._archive: Memo[Archive] = Memo()

    def split(self, values: Array, fraction: float) -> Split:
        """Split any results ``(k, m)``."""
        gamma = n_good(fraction, values)
        return _divide(values, order_by_quality(values, most=gamma + KEPT), gamma)

    def split_evidence(self, history: History, fraction: float) -> Split:
        """Split the evidence, at a cost that does not grow with it."""
        values = history.evidence.values
        gamma = n_good(fraction, values)
        if values.shape[1] == 1:
            best = self._best.of(history, Best)
            best.grow(values[:, 0])
            order = np.array([row for _, row in best.best[: gamma + KEPT]], dtype=np.int64)
        else:
            archive = self._archive.of(history, Archive)
            archive.grow(values)
            kept = np.array(archive.kept, dtype=np.int64)
            order = kept[order_by_quality(values[kept], most=gamma)]
        if history.outcome_constraints and len(order) < gamma:
            newest = max(len(values) - NEWEST, 0)
            nearly = newest + broken_least(history.evidence.excesses[newest:])
            order = np.concatenate([order, nearly[: gamma - len(order)]])
        return _divide(values, order, gamma)


def n_good(fraction: float, values: Array) -> int:
    """gamma for ``values`` ``(k, m)``."""
    k, m = values.shape
    return min(math.ceil(fraction * int(k)), MOST_GOOD if m == 1 else MOST_GOOD_OF_FRONT)


def _divide(values: Array, order: Ints, gamma: int) -> Split:
    """``order``: the best rows, best first. The others: the next best, and the newest."""
    k, m = values.shape
    good = np.sort(order[:gamma])
    weights = np.ones(len(good))
    if m == 1 and len(order) > gamma:
        weights = improvement(values[good, 0], float(values[order[gamma], 0]))
    other = np.union1d(order[len(good) :], np.arange(max(k - KEPT, 0), k))
    return Split(good, weights, np.setdiff1d(other, good, assume_unique=True))


def improvement(good: Array, threshold: float) -> Array:
    """(gamma,) weights with mean 1, proportional to how far ``good`` is below ``threshold``.

    With them the good density is that of improvement and not of mere membership (Song 2022, "A
    general recipe for likelihood-free Bayesian optimization", eq. 11; "EI" in Watanabe 2023).
    """
    # Halves: the difference of two values near the largest double is no double.
    gain = threshold / 2 - good / 2
    largest = gain.max(initial=0.0)
    if not largest > 0:
        return np.ones(len(good))
    gain = gain / largest
    return np.asarray(np.maximum(gain / gain.mean(), _LEAST))
