"""Levels of fidelity: many configurations a little way, fewer further, a few to the end, promoted by rank.

Asynchronous like ASHA, but with levels and shares of one's own choice, and with exact counts: of the n
trials that have been compared at a level, the share that goes on is never exceeded, so the cost is
known before anything runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

import numpy as np

from hpo_core._errors import StrategyError
from hpo_core._given import check_option, is_number
from hpo_core._history import History
from hpo_core._memo import Memo
from hpo_core._states import TrialState
from hpo_core._strategy import CONTINUE, Action, Close, Plan, Resume, Start, Stop, TrainingSteps
from hpo_core._words import many
from hpo_core.schedulers._common import (
    end_step,
    exact,
    lacks_result,
    needs_end,
    run_to_the_end,
    settle,
    why_by_state,
)
from hpo_core.schedulers._criterion import Criterion
from hpo_core.schedulers._ladder import Ladder, Rung, why_paused

__all__ = ["Levels"]


@dataclass(frozen=True, kw_only=True)
class Levels:
    """Compare trials at these fractions of a complete run, and let fixed shares of them go on.

    ``levels``: ascending fractions of ``max_steps``, the last one 1. ``shares``: for each level, the
    share of all trials that is to get there; the first one 1. With 100 trials the defaults start 100 to
    10 % of the steps, take 40 of them to 30 %, 16 to 50 % and 6 to the end. ``max_steps``: the step at
    which a trial is complete, by default the study's. ``metric``, ``direction``: compare by this
    reported metric and not by the objectives.

    A trial goes on when it is the best of those waiting at its level and the level's share leaves room;
    at the end of the budget at least one trial is taken to the end.
    """

    training_steps: ClassVar[TrainingSteps] = "better"

    levels: Sequence[float] = (0.1, 0.3, 0.5, 1.0)
    shares: Sequence[float] = (1.0, 0.4, 0.16, 0.06)
    max_steps: int | None = None
    metric: str | None = None
    direction: str | None = None
    _memo: Memo[Ladder] = field(default_factory=Memo, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for option, given in (("levels", self.levels), ("shares", self.shares)):
            if not isinstance(given, Iterable):
                raise StrategyError(f"multi_fidelity: {option} must be a list of fractions, got {given!r}")
        levels, shares = tuple(self.levels), tuple(self.shares)
        object.__setattr__(self, "levels", levels)
        object.__setattr__(self, "shares", shares)
        for option, values in (("levels", levels), ("shares", shares)):
            if not values or not all(is_number(x) and 0 < x <= 1 for x in values):
                raise StrategyError(
                    f"multi_fidelity: {option} must be fractions above 0 and up to 1, got {values!r}"
                )
        if len(levels) != len(shares):
            raise StrategyError(
                f"multi_fidelity: each level needs its share; got {len(levels)} levels and "
                f"{len(shares)} shares"
            )
        if levels[-1] != 1 or any(a >= b for a, b in pairwise(levels)):
            raise StrategyError(f"multi_fidelity: levels must ascend and end at 1.0, got {levels!r}")
        if shares[0] != 1 or any(a < b for a, b in pairwise(shares)):
            raise StrategyError(f"multi_fidelity: shares must begin at 1.0 and not ascend, got {shares!r}")
        if self.max_steps is not None:
            check_option("multi_fidelity", "max_steps", self.max_steps, 1)
        Criterion(self.metric, self.direction).check("multi_fidelity")

    def _steps(self, end: int) -> tuple[int, ...]:
        """The step of each level, at least 1."""
        return tuple(max(int(end * exact(level)), 1) for level in self.levels)

    def check(self, n_objectives: int, max_steps: int | None) -> None:
        """Needs to know how long a complete trial is, and room for the levels in it."""
        end = needs_end("multi_fidelity", self.max_steps, max_steps)
        steps = self._steps(end)
        if any(a >= b for a, b in pairwise(steps)):
            raise StrategyError(
                f"multi_fidelity: {self.levels!r} of {end} steps are the steps {steps}, which do not ascend; "
                "use fewer levels or a longer max_steps"
            )

    def _ladder(self, history: History) -> Ladder:
        ladder = self._memo.of(history, lambda: self._new_ladder(history))
        ladder.catch_up(history)
        return ladder

    def _new_ladder(self, history: History) -> Ladder:
        scores = Criterion(self.metric, self.direction).bind(history)
        return Ladder(history, [self._steps(end_step(self.max_steps, history))], scores)

    def _room(self, rung: Rung) -> int:
        """How many more may go on from a level, given how many have been compared there."""
        share = exact(self.shares[rung.index + 1]) / exact(self.shares[rung.index])
        return int(len(rung.ranking) * share) - len(rung.promoted)

    def next(self, history: History, rng: np.random.Generator) -> Action:
        """A promotion if one is due, else a new configuration."""
        ladder = self._ladder(history)
        if ladder.hopeless:
            trial = min(ladder.hopeless)
            return Close(trial, ladder.nothing_of(history, trial))
        if not ladder.brackets[0]:
            return run_to_the_end(history)
        for rung in ladder.descending:
            best = rung.ranking.best()
            if best is not None and self._room(rung) > 0:
                return Resume(best, rung.next)
        if history.trials_left != 0:
            return Start(target=ladder.brackets[0][0].step)
        waiting = ladder.best_paused()
        if waiting is not None and lacks_result(history):
            return Resume(waiting[0], waiting[1].next)
        return settle(history, "who goes on")

    def judge(self, history: History, trial: int) -> Stop | None:
        """Trials end at their targets."""
        return CONTINUE

    def why(self, history: History, trial: int) -> str:
        """Why a trial is where it is."""
        if history.states[trial] != TrialState.PAUSED:
            return why_by_state(history, trial)
        return why_paused(self._ladder(history), history, trial, self._rule)

    def _rule(self, rung: Rung, rank: int) -> str:
        gone, room = len(rung.promoted), self._room(rung)
        of_all = f"{gone} of its level have gone on"
        if room > 0:
            return f"{of_all} and there is room for {room} more: the best go first"
        return f"{of_all}, which is its share"

    def explain(self, trials: int | None, max_steps: int | None) -> Plan:
        """Levels, counts and steps, exactly."""
        steps = self._steps(needs_end("multi_fidelity", self.max_steps, max_steps))
        if trials is None:
            lines = [
                f"{share:.0%} of the trials to step {r}" for r, share in zip(steps, self.shares, strict=True)
            ]
            return Plan(lines=tuple(lines))
        sizes = [trials]
        for lower, upper in pairwise(self.shares):
            sizes.append(max(int(sizes[-1] * (exact(upper) / exact(lower))), 1))
        below = (0, *steps[:-1])
        total = sum(n * (r - b) for n, r, b in zip(sizes, steps, below, strict=True))
        return Plan(
            rungs=tuple((0, i, n, r) for i, (n, r) in enumerate(zip(sizes, steps, strict=True))),
            total_trials=trials,
            total_steps=total,
            lines=tuple(f"{many(n, 'trial')} to step {r}" for n, r in zip(sizes, steps, strict=True)),
        )
