"""Random-forest optimisation: expected improvement of a forest, found by local search.

Notation
--------
k, d, m    results, columns, objectives
z          outcomes on a log scale, :func:`hpo_core.samplers._trees.compressed`
mu, s2     the forest's mean and variance
EI         expected improvement over the least predicted mean among the configurations tried

The method of SMAC (Hutter 2011; Lindauer 2022): trees take categories, conditions and odd scales as
they come. Figures: docs/forest.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hpo_core._errors import StrategyError
from hpo_core._given import check_option, check_real
from hpo_core._history import History
from hpo_core._memo import Memo
from hpo_core._outcome_constraints import behind_the_kept
from hpo_core._space import NOMINAL, SearchSpace
from hpo_core._strategy import Proposal
from hpo_core._training import Curves, Training, training_set
from hpo_core.samplers._qmc import load_scipy, start_point
from hpo_core.samplers._random import draw_new
from hpo_core.samplers._trees import Grown, Trees, compressed

__all__ = ["Forest"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

# The trees see this many of the best results and as many of the newest; fewer where outcomes change
# with every trial (several objectives, early stops), so that all trees are grown anew each time.
_KEPT, _KEPT_ANEW = 384, 128
# Local search: starting points, rounds, neighbours of each point in a round.
_STARTS, _ROUNDS, _NEIGHBOURS = 10, 8, 16
# Random points in the pool; fewer where constraints make each one cost many calls in Python.
_RANDOM, _RANDOM_TIED = 256, 32
# So many of the best points are looked through for one that is new and allowed.
_RANKED = 256
# Deviations of the steps that neighbours take in a numeric column.
_STEPS = np.array([0.2, 0.05])


@dataclass
class _Model:
    """The forest grown on the first ``length`` rows; -1 before the first."""

    length: int = -1
    forest: Grown | None = None
    rows: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    scale: Array = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True, kw_only=True)
class Forest:
    """Random-forest search for any space; strong on categories and conditions.

    ``startup``: size of the start design (a Sobol sequence from the space's centre). ``trees``:
    how the forest is grown. ``interleave``: probability that a proposal is a draw from the prior
    instead, which keeps the search from settling on a wrong model.

    Failed trials count as the worst seen, those that break an outcome constraint as worse than all that keep
    them, the more the further. Trials in flight count as what the forest predicts for
    them. Several objectives are scalarised anew for each trial (ParEGO, Knowles 2006).
    """

    startup: int = 8
    trees: Trees = field(default_factory=Trees)
    interleave: float = 0.05
    _memo: Memo[_Model] = field(default_factory=Memo, init=False, repr=False, compare=False)
    _curves: Memo[Curves] = field(default_factory=Memo, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_option("forest", "startup", self.startup, 2)
        if not isinstance(self.trees, Trees):
            raise StrategyError(
                f"forest: trees must say how they are grown, a Trees(...), got {self.trees!r}"
            )
        check_real("forest", "interleave", self.interleave, lambda x: 0.0 <= x < 1.0, "in [0, 1)")

    def check(self, space: SearchSpace, n_objectives: int) -> None:
        """Any space and any number of objectives will do."""

    def warm_up(self) -> None:
        """Import what the first proposals need: see :meth:`hpo_core.Strategy.warm_up`."""
        load_scipy()

    def sample(self, history: History, rng: np.random.Generator) -> Proposal:
        """The configuration with the largest expected improvement that local search finds."""
        space = history.space
        data = training_set(history, space.dims + 1, self._curves)
        if len(data.values) < self.startup or not space.dims:
            return Proposal(u=start_point(history, rng), note="start design")
        if rng.random() < self.interleave:
            return Proposal(u=draw_new(history, rng), note="interleaved: prior")
        forest, tried = self._model(history, data, rng)
        if len(data.pending):
            forest = forest.extended(data.pending, forest.predict(data.pending)[0])
        best = float(forest.predict(tried)[0].min())
        ranked, gains = _maximise(space, forest, best, tried, rng)
        for u, gain in zip(ranked, gains, strict=True):
            if history.is_new(u) and space.allowed(u[None, :])[0]:
                return Proposal(u=u, note=f"expected improvement {gain:.2g} on the log scale")
        return Proposal(u=draw_new(history, rng), note="no candidate is both new and allowed: prior")

    def _model(self, history: History, data: Training, rng: np.random.Generator) -> tuple[Grown, Array]:
        """The forest with every result in it, and the configurations tried, best first."""
        if history.n_objectives > 1:
            y = behind_the_kept(_scalarised(data.values, rng), data.excesses)
            rows = _chosen(y, _KEPT_ANEW)
            forest = self.trees.fit(history.space, data.X[rows], compressed(y[rows]), rng)
            return forest, data.X[rows]
        y = behind_the_kept(data.values[:, 0], data.excesses)
        k = len(y)
        if data.step:
            rows = _chosen(y, _KEPT_ANEW)
            seed = np.random.default_rng([history.seed, 3, k, data.step])
            return self.trees.fit(history.space, data.X[rows], compressed(y[rows]), seed), data.X[rows]
        model = self._memo.of(history, _Model)
        length = _fit_length(k)
        if model.length != length:
            # By what was known then: later results move the numbers of those that break a constraint.
            first = behind_the_kept(data.values[:length, 0], data.excesses[:length])
            model.length, model.rows = length, _chosen(first, _KEPT)
            model.scale = first[model.rows]
            seed = np.random.default_rng([history.seed, 2, length])
            z = compressed(model.scale)
            model.forest = self.trees.fit(history.space, data.X[model.rows], z, seed)
        assert model.forest is not None
        late = np.arange(length, k)
        rows = np.concatenate([model.rows, late])
        if not len(late):
            return model.forest, data.X[rows]
        z = compressed(np.concatenate([model.scale, y[late]]))[len(model.scale) :]
        return model.forest.extended(data.X[late], z), data.X[rows]


def _fit_length(k: int) -> int:
    """At which length of the evidence the trees for ``k`` results were grown.

    Every length up to 128, every second up to 256, every fourth up to 512 and so on, every 32nd
    at last: growing costs ever more until the trees see no further results, and then stays flat.
    """
    step = 1
    while k > 128 * step and step < 32:
        step *= 2
    return k - k % step


def _chosen(y: Array, kept: int) -> Ints:
    """Rows that the trees see, ascending: the ``kept`` best and as many of the newest."""
    k = len(y)
    if k <= 2 * kept:
        return np.arange(k)
    order = np.argsort(np.where(np.isnan(y), np.inf, y), kind="stable")
    return np.union1d(order[:kept], np.arange(k - kept, k))


def _scalarised(values: Array, rng: np.random.Generator) -> Array:
    """(k,) augmented Tchebycheff scalarisation of ``values`` ``(k, m)`` with random weights."""
    V = _comparable(values)
    weights = rng.dirichlet(np.ones(V.shape[1]))
    weighted = V * weights
    return np.asarray(weighted.max(axis=1) + 0.05 * weighted.sum(axis=1))


def _comparable(values: Array) -> Array:
    """``values`` ``(k, m)`` with each objective mapped to [0, 1], NaN for failures.

    1 is the worst, but no farther than four times as far from the best as the median: beside a disaster in
    one objective nothing else would count in it.
    """
    if np.isnan(values).all(axis=0).any():
        return np.zeros_like(values)
    # Quarters: the difference of two values near the largest double is no double.
    distance = values / 4 - np.nanmin(values, axis=0) / 4
    worst, ordinary = np.nanmax(distance, axis=0), np.nanmedian(distance, axis=0)
    with np.errstate(over="ignore"):
        span = np.where(ordinary > 0, np.minimum(worst, 4.0 * ordinary), worst)
        return np.asarray(np.minimum(distance / np.where(span > 0, span, 1.0), 1.0))


def _expected_improvement(mean: Array, variance: Array, best: float) -> Array:
    from scipy.special import ndtr

    s = np.sqrt(np.maximum(variance, 1e-18))
    gap = best - mean
    x = gap / s
    return np.asarray(gap * ndtr(x) + s * np.exp(-0.5 * x * x) / np.sqrt(2.0 * np.pi))


def _maximise(
    space: SearchSpace, forest: Grown, best: float, tried: Array, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Canonical points by descending EI, constraints not yet applied, and their EI.

    Starts from the most promising of what was tried and of random points; every start moves to its
    best neighbour while that improves. All starts and neighbours of a round are one prediction.
    """

    def gain(U: Array) -> Array:
        return _expected_improvement(*forest.predict(U), best)

    pool = np.concatenate([tried, space.sample(rng, _RANDOM_TIED if space.constraints else _RANDOM)])
    value = gain(pool)
    at = np.argsort(-value, kind="stable")[:_STARTS]
    points, values = pool[at], value[at]
    seen, seen_values = [pool[len(tried) :]], [value[len(tried) :]]
    moving = np.arange(len(points))
    for _ in range(_ROUNDS):
        if not len(moving):
            break
        near = _neighbours(space, points[moving], rng)
        near_values = gain(near)
        seen.append(near)
        seen_values.append(near_values)
        by_start = near_values.reshape(len(moving), -1)
        index = np.arange(len(moving)) * by_start.shape[1] + by_start.argmax(axis=1)
        better = near_values[index] > values[moving]
        # A constraint costs a call in Python for each point, so only steps about to be taken are
        # checked; a start whose best neighbour is not allowed stays where it is.
        better[better] = space.allowed(near[index[better]])
        moving, index = moving[better], index[better]
        points[moving], values[moving] = near[index], near_values[index]
    every, every_value = np.concatenate(seen), np.concatenate(seen_values)
    order = np.argsort(-every_value, kind="stable")[:_RANKED]
    return every[order], every_value[order]


def _neighbours(space: SearchSpace, points: Array, rng: np.random.Generator) -> Array:
    """(n * neighbours, d) canonical points that differ from theirs in one column, some in two.

    Numeric columns take a normal step of either size, nominal ones any category.
    """
    base = np.repeat(points, _NEIGHBOURS, axis=0)
    rows = np.arange(len(base))
    fresh = rng.random(base.shape)
    filled = np.where(np.isnan(base), fresh, base)
    for chance in (1.0, 0.2):
        column = _active_columns(base, rng)
        move = rng.random(len(base)) < chance
        x = filled[rows, column]
        step = rng.standard_normal(len(base)) * rng.choice(_STEPS, len(base))
        cells = space.cardinality[column]
        # At least one cell: a smaller step would not leave the point.
        step = np.where(cells > 0, np.sign(step) * np.maximum(np.abs(step), 1.0 / np.maximum(cells, 1)), step)
        value = np.where(space.kinds[column] == NOMINAL, fresh[rows, column], _reflected(x + step))
        filled[rows[move], column[move]] = value[move]
    return space.snap(filled)


def _active_columns(U: Array, rng: np.random.Generator) -> Ints:
    """(n,) a random active column of each row of ``U``."""
    chance = np.where(np.isnan(U), -1.0, rng.random(U.shape))
    return np.asarray(chance.argmax(axis=1))


def _reflected(x: Array) -> Array:
    return np.asarray(np.clip(np.where(x < 0, -x, np.where(x > 1, 2.0 - x, x)), 0.0, 1.0))
