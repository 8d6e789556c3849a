"""Hyperband, synchronous (Li et al. 2018, algorithm 1); with TPE as the sampler it is BOHB (Falkner et
al. 2018).
"""

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
from hpo_core.schedulers._rungs import check_rungs, hyperband_brackets

__all__ = ["Hyperband"]


@dataclass(frozen=True, kw_only=True)
class Hyperband:
    """Successive halving in brackets, from many configurations with few steps to few that run to the end.

    ``eta``: reduction factor. ``min_steps``: the lowest rung. ``max_steps``: the step at which a trial
    is complete, by default the study's. ``rounds``: how often to go through all brackets; ``None``:
    until a limit of the study is reached. ``metric``, ``direction``: compare by this reported metric
    and not by the objectives.
    """

    training_steps: ClassVar[TrainingSteps] = "better"

    eta: int = 3
    min_steps: int = 1
    max_steps: int | None = None
    rounds: int | None = None
    metric: str | None = None
    direction: str | None = None
    _memo: Memo[Brackets] = field(default_factory=Memo, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_rungs("hyperband", self.eta, self.min_steps, self.max_steps)
        if self.rounds is not None:
            check_option("hyperband", "rounds", self.rounds, 1)
        Criterion(self.metric, self.direction).check("hyperband")

    def check(self, n_objectives: int, max_steps: int | None) -> None:
        """Needs to know how long a complete trial is."""
        hyperband_brackets(needs_end("hyperband", self.max_steps, max_steps), self.eta, self.min_steps)

    def _brackets(self, history: History) -> Brackets:
        return self._memo.of(history, lambda: self._new_brackets(history))

    def _new_brackets(self, history: History) -> Brackets:
        end = end_step(self.max_steps, history)
        pattern = hyperband_brackets(end, self.eta, self.min_steps)
        scores = Criterion(self.metric, self.direction).bind(history)
        return Brackets(pattern, self.eta, scores, self.rounds)

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
        end = needs_end("hyperband", self.max_steps, max_steps)
        return plan_brackets(hyperband_brackets(end, self.eta, self.min_steps), self.eta, trials, self.rounds)
