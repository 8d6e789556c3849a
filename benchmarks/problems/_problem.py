"""One benchmark problem, and the wrappers that make many problems out of few.

Everything is minimised. A problem knows its noise-free value, its optimum and the median over its
space, so a result can be stated as normalised regret: 0 at the optimum, 1 at a median
configuration.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hpo_core import SearchSpace

__all__ = ["REGRET_FLOOR", "Params", "Problem", "crashing", "median_of", "noisy"]

Params = Mapping[str, Any]

# Below this, differences between optimisers are differences in polishing; without a floor one
# problem solved to 1e-12 would decide the geometric mean over all of them.
REGRET_FLOOR = 1e-4


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A function to minimise over a search space.

    name     unique, ``family-detail``; the family selects problems on the command line
    space    the search space that both we and the peers are given
    true     configuration -> noise-free value
    optimum  the least noise-free value over the space
    median   median of the noise-free value over configurations drawn from the space's prior
    observe  (configuration, rng) -> what a trial reports; ``None`` means the noise-free value.
             ``nan`` means that the trial fails.
    """

    name: str
    space: SearchSpace
    true: Callable[[Params], float]
    optimum: float
    median: float
    observe: Callable[[Params, np.random.Generator], float] | None = None

    def evaluate(self, params: Params, rng: np.random.Generator) -> float:
        """What a trial of ``params`` reports: noisy where the problem is, ``nan`` if it fails."""
        return self.true(params) if self.observe is None else self.observe(params, rng)

    def regret(self, params: Params) -> float:
        """(true value - optimum) / (median - optimum) of ``params``, at least the floor of 1e-4."""
        return self.normalised(self.true(params))

    def normalised(self, value: float) -> float:
        """Normalised regret of a noise-free value."""
        return max((value - self.optimum) / (self.median - self.optimum), REGRET_FLOOR)

    @property
    def scale(self) -> float:
        """Distance between the optimum and the median."""
        return self.median - self.optimum


def median_of(space: SearchSpace, true: Callable[[Params], float], draws: int = 2001) -> float:
    """Median of ``true`` over ``draws`` configurations of the prior, always the same ones."""
    points = space.sample(np.random.default_rng(20_240_501), draws)
    return float(np.median([true(space.decode(u)) for u in points]))


def noisy(problem: Problem, deviation: float) -> Problem:
    """``problem`` with Gaussian noise of ``deviation`` times its distance of optimum to median."""
    sigma = deviation * problem.scale

    def observe(params: Params, rng: np.random.Generator) -> float:
        return problem.evaluate(params, rng) + sigma * float(rng.standard_normal())

    return replace(problem, name=f"noisy_{problem.name}", observe=observe)


def crashing(problem: Problem, best: Params, share: float) -> Problem:
    """``problem`` in which about ``share`` of the space fails, away from the optimum ``best``.

    The failing region is a half-space over the continuous parameters, facing away from ``best`` in
    a fixed direction, as when large models do not fit into memory.
    """
    names = [n for n in problem.space.column_names if isinstance(best[n], float)]
    draws = problem.space.sample(np.random.default_rng(7), 2001)
    decoded = [problem.space.decode(u) for u in draws]
    signs = np.where(np.arange(len(names)) % 2 == 0, 1.0, -1.0)

    def excess(params: Params) -> float:
        return float(sum(s * (params[n] - best[n]) for s, n in zip(signs, names, strict=True)))

    # The optimum itself has excess 0 and must not fail, whatever the share asked for.
    limit = max(float(np.quantile([excess(p) for p in decoded], 1.0 - share)), 0.0)

    def observe(params: Params, rng: np.random.Generator) -> float:
        return math.nan if excess(params) > limit else problem.evaluate(params, rng)

    return replace(problem, name=f"crash_{problem.name}", observe=observe)
