"""Successive halving, synchronous (Jamieson & Talwalkar 2016; Li et al. 2018, algorithm 1, inner loop)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from hpo_core._given import check_option
from hpo_core._history import History
from hpo_core._memo import Memo
from hpo_core._strategy import CONTINUE, Action, Plan, Stop, TrainingSteps
from hpo_core.schedulers._brackets import Brackets, plan_brackets
from hpo_core.schedulers._common import end_step, needs_end
from hpo_core.schedulers._criterion import Criterion
from hpo_core.schedulers._rungs import Bracket, check_rungs, halving_sizes, rung_steps

__all__ = ["SuccessiveHalving"]


@dataclass(frozen=True, kw_only=True)
class SuccessiveHalving:
    """Of ``trials`` configurations the best 1 / eta go on at each rung, with eta times the steps.

    ``trials``: configurations per bracket, by default as many as leave one at the end. ``eta``:
    reduction factor. ``min_steps``: the lowest rung. ``max_steps``: the step at which a trial is
    complete, by default the study's. ``metric``, ``direction``: compare by this reported metric and not
    by the objectives. The bracket is repeated for as long as the study has budget.
    """

    training_steps: ClassVar[TrainingSteps] = "better"

    trials: int | None = None
    eta: int = 3
    min_steps: int = 1
    max_steps: int | None = None
    metric: str | None = None
    direction: str | None = None
    _memo: Memo[Brackets] = field(default_factory=Memo, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_rungs("successive_halving", self.eta, self.min_steps, self.max_steps)
        if self.trials is not None:
            check_option("successive_halving", "trials", self.trials, 1)
        Criterion(self.metric, self.direction).check("successive_halving")

    def _pattern(self, end: int) -> tuple[Bracket, ...]:
        steps = rung_steps(end, self.eta, self.min_steps)
        trials = self.trials or self.eta ** (len(steps) - 1)
        return (Bracket(halving_sizes(trials, len(steps), self.eta), steps),)

    def check(self, n_objectives: int, max_steps: int | None) -> None:
        """Needs to know how long a complete trial is."""
        self._pattern(needs_end("successive_halving", self.max_steps, max_steps))

    def _brackets(self, history: History) -> Brackets:
        return self._memo.of(history, lambda: self._new_brackets(history))

    def _new_brackets(self, history: History) -> Brackets:
        scores = Criterion(self.metric, self.direction).bind(history)
        return Brackets(self._pattern(end_step(self.max_steps, history)), self.eta, scores, None)

    def next(self, history: History, rng: np.random.Generator) -> Action:
        """Promotions and ends of decided rungs, else a new configuration."""
        return self._brackets(history).next(history)

    def judge(self, history: History, trial: int) -> Stop | None:
        """Trials end at their targets."""
        return CONTINUE

    def why(self, history: History, trial: int) -> str:
        """Why a trial is where it is."""
        return self._brackets(history).why(history, trial)

    def explain(self, trials: int | None, max_steps: int | None) -> Plan:
        """Brackets, rungs and steps, exactly."""
        end = needs_end("successive_halving", self.max_steps, max_steps)
        return plan_brackets(self._pattern(end), self.eta, trials, None)
