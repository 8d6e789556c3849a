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
goes together in good configurations is proposed together. Where each choice comes from, and figures:
docs/tpe.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hpo_core._given import check_option, check_real
from hpo_core._history import History
from hpo_core._memo import Memo
from hpo_core._space import NOMINAL, SearchSpace
from hpo_core._strategy import Proposal
from hpo_core._training import Curves, training_set
from hpo_core.samplers._parzen import Mixture, neighbour_bandwidths
from hpo_core.samplers._qmc import load_scipy, start_point
from hpo_core.samplers._random import draw_new
from hpo_core.samplers._split import Splitter

__all__ = ["TPE"]

Array = NDArray[np.float64]

# So many of the newest of the other results count fully, older ones ever less.
_FRESH = 25
# Kernels are never narrower than this, nor than 1 / (1 + their number) ("magic clipping"), so that
# a cluster of good results cannot shut the search in.
_NARROWEST = 0.01
# So many of the best candidates are looked through for a new one: each look may be a call in Python.
_LOOKED_AT = 64
# So often are candidates drawn until enough of them meet the constraints.
_ROUNDS = 64
# On a discrete column, a kernel narrower than a fraction of a cell is a point mass in any case.
_NARROWEST_CELLS = 0.25


@dataclass(frozen=True, kw_only=True)
class TPE:
    """Tree-structured Parzen estimator for any space and any number of objectives.

    ``startup``: results of the start design (the space's
    default, then a Sobol sequence) before the model is used. ``candidates``: draws from l per
    proposal. ``good``: fraction of the results that l is made of. ``prior``: weight of the prior
    in either density, one result weighing 1.

    Conditions, several objectives (Ozaki 2022: good by domination, then by hypervolume), failed
    trials (never good), trials in flight (counted among the bad, so that workers spread: "constant
    liar") and trials stopped early (ranked among those that reached their step) are all handled.
    """

    startup: int = 8
    candidates: int = 24
    good: float = 0.1
    prior: float = 1.0
    _splitter: Splitter = field(default_factory=Splitter, init=False, repr=False, compare=False)
    _curves: Memo[Curves] = field(default_factory=Memo, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("startup", "candidates"):
            check_option("tpe", name, getattr(self, name), 1)
        check_real("tpe", "good", self.good, lambda x: 0.0 < x < 1.0, "a fraction between 0 and 1")
        check_real("tpe", "prior", self.prior, lambda x: 0.0 < x < math.inf, "positive")

    def check(self, space: SearchSpace, n_objectives: int) -> None:
        """Any space and any number of objectives will do."""

    def warm_up(self) -> None:
        """Import what the first proposals need: see :meth:`hpo_core.Strategy.warm_up`."""
        load_scipy()

    def sample(self, history: History, rng: np.random.Generator) -> Proposal:
        """The candidate from l with the largest l / g."""
        space = history.space
        data = training_set(history, space.dims + 1, self._curves)
        if len(data.values) < self.startup or not space.dims:
            return Proposal(u=start_point(history, rng), note="start design")
        if data.step:
            split = self._splitter.split(data.values, self.good)
        else:
            split = self._splitter.split_evidence(history, self.good)
        likely = self._density(space, data.X[split.good], split.weights)
        X = np.concatenate([data.X[split.other], data.pending])
        unlikely = self._density(space, X, _fading(len(X)))
        candidates = self._candidates(space, likely, rng)
        score = likely.log_density(candidates) - unlikely.log_density(candidates)
        u = history.first_untried(candidates[np.argsort(-score, kind="stable")[:_LOOKED_AT]])
        if u is None:
            return Proposal(u=draw_new(history, rng), note="every candidate was tried before: prior")
        among = f"{len(split.good)} good and {len(X)} other results"
        return Proposal(u=u, note=f"most like the good of {among}" + _at(data.step))

    def _candidates(self, space: SearchSpace, likely: Mixture, rng: np.random.Generator) -> Array:
        """Draws from ``likely`` that meet the constraints; of the prior where it has hardly any."""
        found = np.empty((0, space.dims))
        for _ in range(_ROUNDS):
            drawn = space.snap(likely.draw(rng, self.candidates))
            found = np.concatenate([found, drawn[space.allowed(drawn)]])[: self.candidates]
            if len(found) == self.candidates:
                return found
        return found if len(found) else space.sample(rng, self.candidates)

    def _density(self, space: SearchSpace, X: Array, weights: Array) -> Mixture:
        return Mixture(space, X, _bandwidths(space, X, self.prior), weights, self.prior)


def _at(step: int) -> str:
    return f" at step {step}" if step else ""


def _fading(k: int) -> Array:
    """(k,) weights of the others, oldest first: the newest count fully, older ones ever less."""
    if k < _FRESH:
        return np.ones(k)
    return np.concatenate([np.linspace(1.0 / k, 1.0, k - _FRESH), np.ones(_FRESH)])


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
