"""Rungs and brackets in integer arithmetic: the one place that every scheduler takes them from.

Notation (Li et al. 2018, "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization")
--------
R       steps of a complete trial
r       fewest steps after which trials may be compared
eta     reduction factor: one in eta goes on, with eta times the steps
s       bracket, from s_max (most configurations, fewest steps each) down to 0 (no halving)
n_i     configurations in rung i of a bracket, r_i their step

Logarithms of floats lose a rung where R / r is a power of eta (floor(log(243, 3)) is 4); loops do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpo_core._errors import StrategyError
from hpo_core._given import check_option
from hpo_core._history import History

__all__ = [
    "Bracket",
    "check_rungs",
    "furthest_behind",
    "halving_sizes",
    "hyperband_brackets",
    "next_bracket",
    "rung_steps",
]


def check_rungs(owner: str, eta: int, min_steps: int, max_steps: int | None) -> None:
    """Raise :class:`StrategyError` for options of rungs that mean nothing; ``max_steps`` may be left open."""
    check_option(owner, "eta", eta, 2)
    check_option(owner, "min_steps", min_steps, 1)
    if max_steps is not None:
        check_option(owner, "max_steps", max_steps, 1)


def rung_steps(max_steps: int, eta: int, min_steps: int = 1) -> tuple[int, ...]:
    """The steps at which trials are compared, ascending; the last is ``max_steps``.

    R, R // eta, R // eta^2, ... for as long as r eta^k <= R. So 243 / 3 gives six and 1000 / 10 four, and
    where R is no power of eta the rungs still lie a factor of eta apart and the last one is R.
    """
    check_rungs("rungs", eta, min_steps, None)
    check_option("rungs", "max_steps", max_steps, 1)
    if min_steps > max_steps:
        raise StrategyError(
            f"rungs: min_steps must not be above max_steps, got min_steps={min_steps}, max_steps={max_steps}"
        )
    steps, divisor = [max_steps], eta
    while min_steps * divisor <= max_steps:
        steps.append(max_steps // divisor)
        divisor *= eta
    return tuple(reversed(steps))


def halving_sizes(trials: int, rungs: int, eta: int) -> tuple[int, ...]:
    """n_i = floor(n / eta^i) for each rung, and one trial at least (Li 2018, algorithm 1, line 6)."""
    return tuple(max(trials // eta**rung, 1) for rung in range(rungs))


@dataclass(frozen=True, slots=True)
class Bracket:
    """One run of successive halving: ``sizes[i]`` configurations are compared at step ``steps[i]``."""

    sizes: tuple[int, ...]
    steps: tuple[int, ...]

    @property
    def budget(self) -> int:
        """Sum of n_i r_i, as the paper counts: every rung trains anew."""
        return sum(n * r for n, r in zip(self.sizes, self.steps, strict=True))

    @property
    def resumed_budget(self) -> int:
        """Steps that are really run when every promotion goes on from its checkpoint."""
        earlier = (0, *self.steps[:-1])
        return sum(n * (r - e) for n, r, e in zip(self.sizes, self.steps, earlier, strict=True))

    def cut(self, trials: int, eta: int) -> Bracket:
        """The same bracket when only ``trials`` configurations could be started."""
        if trials >= self.sizes[0]:
            return self
        return Bracket(halving_sizes(trials, len(self.sizes), eta), self.steps)


def hyperband_brackets(max_steps: int, eta: int, min_steps: int = 1) -> tuple[Bracket, ...]:
    """Hyperband's brackets s = s_max, ..., 0, most configurations first (Li 2018, table 1).

    n = floor((s_max + 1) / (s + 1)) eta^s: what table 1 lists for R = 81, eta = 3 (81, 27, 9, 6, 5),
    and every rung divides evenly. Algorithm 1 as printed, n = ceil((s_max + 1) eta^s / (s + 1)), gives
    34, 15 and 8 in the middle brackets and so disagrees with the table; we follow the table.
    """
    steps = rung_steps(max_steps, eta, min_steps)
    s_max = len(steps) - 1
    brackets = []
    for s in range(s_max, -1, -1):
        n = (s_max + 1) // (s + 1) * eta**s
        brackets.append(Bracket(halving_sizes(n, s + 1, eta), steps[s_max - s :]))
    return tuple(brackets)


def furthest_behind(started: Sequence[int], weights: Sequence[int]) -> int:
    """The bracket that is furthest behind its share of the trials and the next one; the first of equals."""
    total = sum(started) + 1
    behind = [w * total - n * sum(weights) for w, n in zip(weights, started, strict=True)]
    return behind.index(max(behind))


def next_bracket(history: History, weights: Sequence[int]) -> int:
    """The bracket of the next trial, for each to get its share; ``weights`` say how large that is."""
    last = len(weights) - 1
    started = np.bincount(np.minimum(history.brackets, last), minlength=last + 1)
    return furthest_behind(started.tolist(), weights)
