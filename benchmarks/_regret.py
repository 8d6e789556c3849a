"""From regrets of single runs to the figures that are reported.

Notation
--------
runs    (optimiser, problem) -> (seeds, checkpoints) normalised regret of the incumbent
cell    geometric mean of ``runs`` over the seeds: one optimiser on one problem at each checkpoint
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

__all__ = ["Estimate", "Runs", "common_problems", "mean_rank", "ratio", "regret"]

Array = NDArray[np.float64]
Runs = Mapping[tuple[str, str], Array]

_DRAWS = 1000


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure at each checkpoint, ``(checkpoints,)``, with a 95 % bootstrap interval."""

    value: Array
    low: Array
    high: Array


def common_problems(runs: Runs, optimisers: Sequence[str]) -> list[str]:
    """The problems on which every one of ``optimisers`` was run, sorted."""
    per = [{problem for o, problem in runs if o == optimiser} for optimiser in optimisers]
    return sorted(set.intersection(*per)) if per else []


def regret(runs: Runs, optimiser: str, problems: Sequence[str]) -> Estimate:
    """Geometric mean over ``problems`` of the cells of one optimiser."""
    draws = _cell_draws(runs, [optimiser], problems)[:, 0]
    return _estimate(_cells(runs, [optimiser], problems)[0].mean(axis=0), draws.mean(axis=1), np.exp)


def ratio(runs: Runs, optimiser: str, reference: str, problems: Sequence[str]) -> Estimate:
    """Geometric mean over ``problems`` of ``optimiser``'s cell over ``reference``'s; 1 is equal."""
    cells = _cells(runs, [optimiser, reference], problems)
    draws = _cell_draws(runs, [optimiser, reference], problems)
    return _estimate((cells[0] - cells[1]).mean(axis=0), (draws[:, 0] - draws[:, 1]).mean(axis=1), np.exp)


def mean_rank(runs: Runs, optimisers: Sequence[str], problems: Sequence[str]) -> list[Estimate]:
    """Average over ``problems`` of each optimiser's rank among all of them; 1 is best, ties share."""
    ranks = rankdata(_cells(runs, optimisers, problems), axis=0).mean(axis=1)
    draws = rankdata(_cell_draws(runs, optimisers, problems), axis=1).mean(axis=2)
    return [_estimate(ranks[i], draws[:, i], lambda x: x) for i in range(len(optimisers))]


def _cells(runs: Runs, optimisers: Sequence[str], problems: Sequence[str]) -> Array:
    """(optimisers, problems, checkpoints) log of every cell."""
    return np.array([[np.log(runs[o, p]).mean(axis=0) for p in problems] for o in optimisers])


def _cell_draws(runs: Runs, optimisers: Sequence[str], problems: Sequence[str]) -> Array:
    """(draws, optimisers, problems, checkpoints) log cells of a two-stage bootstrap.

    Problems are drawn with replacement, the same ones for all optimisers (they are compared problem
    by problem), then each optimiser's seeds on the problem.
    """
    rng = np.random.default_rng(0)
    checkpoints = next(iter(runs.values())).shape[1]
    out = np.empty((_DRAWS, len(optimisers), len(problems), checkpoints))
    resampled = np.empty_like(out)
    for i, optimiser in enumerate(optimisers):
        for j, problem in enumerate(problems):
            logs = np.log(runs[optimiser, problem])
            picks = rng.integers(len(logs), size=(_DRAWS, len(logs)))
            out[:, i, j] = logs[picks].mean(axis=1)
    chosen = rng.integers(len(problems), size=(_DRAWS, len(problems)))
    for k in range(_DRAWS):
        resampled[k] = out[k][:, chosen[k]]
    return resampled


def _estimate(value: Array, draws: Array, back: Callable[[Array], Array]) -> Estimate:
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    return Estimate(value=back(value), low=back(low), high=back(high))
