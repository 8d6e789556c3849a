"""Tree-structured Parzen estimator: propose what good configurations have and bad ones have not.

Notation
--------
k, d, m    results, columns, objectives
gamma(k)   how many of the k results count as good
l, g       densities of the good and of the other configurations, relative to the prior
C          candidates drawn from l; the one with the largest l / g is proposed

Bergstra 2011 shows that l / g orders candidates as their expected improvement over the worst of the
good does. One product kernel per configuration over all columns (Falkner 2018; Watanabe 2023 calls
this multivariate and finds it the one choice that matters on every kind of problem), so that what
goes together in good configurations is proposed together. What was tried, what it gave and why the
constants below are what they are: docs/tpe.md.
"""

from __future__ import annotations

import math
from bisect import insort
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hpo_core._errors import StrategyError
from hpo_core._history import History
from hpo_core._pareto import order_by_quality
from hpo_core._space import NOMINAL, SearchSpace
from hpo_core._strategy import Proposal
from hpo_core.samplers._parzen import Mixture, neighbour_bandwidths
from hpo_core.samplers._random import draw_new
from hpo_core.samplers._rungs import Curves, training_set
from hpo_core.samplers._shared import FoldMemo, first_new

__all__ = ["TPE"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

# Good configurations at most (Optuna's and Hyperopt's 25); with several objectives the front needs
# more kernels to be covered.
_MOST_GOOD, _MOST_GOOD_OF_FRONT = 25, 50
# What l and g see at most: this many of the best results and as many of the newest.
_KEPT = 256
# Kernels are never narrower than this, nor than 1 / (1 + their number) ("magic clipping"), so that
# a cluster of good results cannot shut the search in.
_NARROWEST = 0.01
# On a discrete column, a kernel narrower than a fraction of a cell is a point mass in any case.
_NARROWEST_CELLS = 0.25


@dataclass
class _Best:
    """The best rows of the evidence so far, as ``(value, row)`` ascending; one objective."""

    rows: int = 0
    best: list[tuple[float, int]] = field(default_factory=list)


@dataclass
class _Archive:
    """Rows that may still be among the best of several objectives; halved whenever it is full."""

    rows: int = 0
    kept: list[int] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class TPE:
    """Tree-structured Parzen estimator for any space and any number of objectives.

    ``startup``: results from the prior before the model is used. ``candidates``: draws from l per
    proposal. ``good``: fraction of the results that l is made of. ``prior``: weight of the prior
    in either density, one result weighing 1.

    Conditions, several objectives (Ozaki 2022: good by domination, then by hypervolume), failed
    trials (never good), trials in flight (counted among the bad, so that workers spread: "constant
    liar") and trials stopped early (ranked among those that reached their step) are all handled.
    """

    startup: int = 10
    candidates: int = 24
    good: float = 0.1
    prior: float = 1.0
    _best: FoldMemo[_Best] = field(default_factory=FoldMemo, init=False, repr=False, compare=False)
    _archive: FoldMemo[_Archive] = field(default_factory=FoldMemo, init=False, repr=False, compare=False)
    _curves: FoldMemo[Curves] = field(default_factory=FoldMemo, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("startup", "candidates"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise StrategyError(f"tpe: {name} must be a whole number >= 1, got {value!r}")
        if not 0.0 < self.good < 1.0:
            raise StrategyError(f"tpe: good must be a fraction between 0 and 1, got {self.good!r}")
        if not 0.0 < self.prior < math.inf:
            raise StrategyError(f"tpe: prior must be positive, got {self.prior!r}")

    def check(self, space: SearchSpace, n_objectives: int) -> None:
        """Any space and any number of objectives will do."""

    def sample(self, history: History, rng: np.random.Generator) -> Proposal:
        """The candidate from l with the largest l / g."""
        space = history.space
        data = training_set(history, space.dims + 1, self._curves)
        if len(data.values) < self.startup or not space.dims:
            return Proposal(u=draw_new(history, rng), note="not enough results for a model: prior")
        if data.step:
            good, other = self._split(data.values)
        else:
            good, other = self._split_evidence(history)
        likely = self._density(space, data.X[good], np.ones(len(good)))
        X = np.concatenate([data.X[other], data.pending])
        unlikely = self._density(space, X, _fading(len(X)))
        candidates = space.snap(likely.draw(rng, self.candidates))
        candidates = candidates[space.allowed(candidates)]
        score = likely.log_density(candidates) - unlikely.log_density(candidates)
        u = first_new(history, candidates[np.argsort(-score, kind="stable")])
        if u is None:
            return Proposal(u=draw_new(history, rng), note="every candidate was tried before: prior")
        among = f"{len(good)} good and {len(X)} other results"
        return Proposal(u=u, note=f"most like the good of {among}" + _at(data.step))

    def _n_good(self, k: int, m: int) -> int:
        return min(math.ceil(self.good * k), _MOST_GOOD if m == 1 else _MOST_GOOD_OF_FRONT)

    def _split(self, values: Array) -> tuple[Ints, Ints]:
        """Rows of the good and of the other results, each in their order of arrival."""
        k, m = values.shape
        order = order_by_quality(values, most=self._n_good(k, m) + _KEPT)
        return self._divide(order, k, m)

    def _divide(self, order: Ints, k: int, m: int) -> tuple[Ints, Ints]:
        """``order``: the best rows, best first. The others: the next best, and the newest."""
        good = np.sort(order[: self._n_good(k, m)])
        others = np.union1d(order[len(good) :], np.arange(max(k - _KEPT, 0), k))
        return good, np.setdiff1d(others, good, assume_unique=True)

    def _split_evidence(self, history: History) -> tuple[Ints, Ints]:
        """:meth:`_split` of the evidence, at a cost that does not grow with it."""
        values = history.evidence.values
        k, m = values.shape
        if m == 1:
            best = self._best.state(history, _Best)
            _fold_best(best, values[:, 0])
            most = self._n_good(k, 1) + _KEPT
            return self._divide(np.array([row for _, row in best.best[:most]], dtype=np.int64), k, 1)
        archive = self._archive.state(history, _Archive)
        _fold_archive(archive, values)
        kept = np.array(archive.kept, dtype=np.int64)
        order = kept[order_by_quality(values[kept], most=self._n_good(k, m))]
        return self._divide(order, k, m)

    def _density(self, space: SearchSpace, X: Array, weights: Array) -> Mixture:
        return Mixture(space, X, _bandwidths(space, X, self.prior), weights, self.prior)


def _at(step: int) -> str:
    return f" at step {step}" if step else ""


def _fold_best(best: _Best, values: Array) -> None:
    """Fold the rows of ``values`` ``(k,)`` that are new; failures are no candidates for the best."""
    limit = _MOST_GOOD + _KEPT
    if len(values) - best.rows > limit:
        # Many at once (a replay): sort instead of inserting. The result is the same list.
        rows = np.flatnonzero(~np.isnan(values))
        rows = rows[np.argsort(values[rows], kind="stable")][:limit]
        best.best = [(float(values[row]), int(row)) for row in rows]
    else:
        for row in range(best.rows, len(values)):
            value = float(values[row])
            if not math.isnan(value):
                insort(best.best, (value, row))
        del best.best[limit:]
    best.rows = len(values)


def _fold_archive(archive: _Archive, values: Array) -> None:
    """Keep what may still be good: the best half, each time that twice as many have come together."""
    for row in range(archive.rows, len(values)):
        if not np.isnan(values[row]).any():
            archive.kept.append(row)
        if len(archive.kept) == 2 * _KEPT:
            kept = np.array(archive.kept)
            best = order_by_quality(values[kept], most=_KEPT)
            archive.kept = np.sort(kept[best]).tolist()
    archive.rows = len(values)


def _fading(k: int) -> Array:
    """(k,) weights of the others, oldest first: the newest 25 count fully, older ones ever less."""
    if k < _MOST_GOOD:
        return np.ones(k)
    return np.concatenate([np.linspace(1.0 / k, 1.0, k - _MOST_GOOD), np.ones(_MOST_GOOD)])


def _bandwidths(space: SearchSpace, X: Array, prior: float) -> Array:
    """(K, d) bandwidths for kernels at ``X`` ``(K, d)``, see :mod:`hpo_core.samplers._parzen`."""
    K = len(X)
    narrowest = np.full(space.dims, max(1.0 / min(100.0, 2.0 + K), _NARROWEST))
    cells = space.cardinality
    discrete = cells > 0
    narrowest[discrete] = np.maximum(narrowest[discrete], _NARROWEST_CELLS / cells[discrete])
    H = np.clip(neighbour_bandwidths(X), narrowest, 1.0)
    H[np.isnan(X)] = 1.0
    nominal = space.kinds == NOMINAL
    # One pseudo-count per category, shared by all kernels.
    counts = prior / (K + 1) * cells[nominal]
    H[:, nominal] = counts / (1.0 + counts)
    return H
