"""Rules that look at one trial alone: no improvement for a while, or a metric out of bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from hpo_core._errors import StrategyError
from hpo_core._given import check_option, check_real
from hpo_core._history import History
from hpo_core._memo import Memo
from hpo_core._strategy import CONTINUE, Action, Plan, Stop
from hpo_core.schedulers._common import plan_to_the_end, run_to_the_end, why_by_state
from hpo_core.schedulers._criterion import Criterion, Score, Scores, usable
from hpo_core.schedulers._window import all_done, check_window, is_due

__all__ = ["Patience", "Threshold"]


class _Progress:
    """For each trial its best scores so far, and the step of the last improvement."""

    def __init__(self, scores: Scores, min_delta: float) -> None:
        self._scores = scores
        self._delta = min_delta
        self._seen = 0
        self._front: dict[int, list[Score]] = {}
        self.improved: dict[int, int] = {}
        """Step of the latest improvement; of the first report before any."""

    def catch_up(self, history: History) -> None:
        """Take in the reports that have arrived since."""
        reports = history.reports
        for row in range(self._seen, len(reports)):
            score = self._scores.of_row(history, row)
            if score is None:
                continue
            trial, step = int(reports.trials[row]), int(reports.steps[row])
            self.improved.setdefault(trial, step)
            front = self._front.setdefault(trial, [])
            if usable(score) and not any(self._covers(old, score) for old in front):
                front[:] = [old for old in front if not all(map(_at_most, score, old))]
                front.append(score)
                self.improved[trial] = step
        self._seen = len(reports)

    def _covers(self, old: Score, new: Score) -> bool:
        """Whether ``new`` is nowhere better than ``old`` by more than the delta."""
        return all(a <= b + self._delta for a, b in zip(old, new, strict=True))


def _at_most(a: float, b: float) -> bool:
    return a <= b


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Stop a trial that has not improved for more than ``patience`` steps.

    An improvement is a result better than the last improvement, at first the first result, by more than
    ``min_delta``, so small ones add up; with several objectives, a result that none of these covers.
    ``warmup_steps``: leave trials alone up to this step. ``metric``, ``direction``: watch this reported
    metric and not the objectives.
    """

    patience: int = 10
    min_delta: float = 0.0
    warmup_steps: int = 0
    metric: str | None = None
    direction: str | None = None
    _memo: Memo[_Progress] = field(default_factory=Memo, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_option("patience", "patience", self.patience, 1)
        check_window("patience", self.warmup_steps, 1)
        check_real("patience", "min_delta", self.min_delta, math.isfinite, "a finite number")
        check_real("patience", "min_delta", self.min_delta, lambda x: x >= 0, "at least 0")
        Criterion(self.metric, self.direction).check("patience")

    def check(self, n_objectives: int, max_steps: int | None) -> None:
        """Any number of objectives, any budget."""

    def _progress(self, history: History) -> _Progress:
        criterion = Criterion(self.metric, self.direction)
        return self._memo.of(history, lambda: _Progress(criterion.bind(history), self.min_delta))

    def next(self, history: History, rng: np.random.Generator) -> Action:
        """Another trial, to its end."""
        self._progress(history)
        return run_to_the_end(history)

    def judge(self, history: History, trial: int) -> Stop | None:
        """Stop the trial if it has stood still for too long."""
        progress = self._progress(history)
        progress.catch_up(history)
        step = int(history.steps[trial])
        since = progress.improved.get(trial, step)
        if all_done(history, trial) or step <= self.warmup_steps or step - since <= self.patience:
            return CONTINUE
        return Stop(f"no improvement since step {since}, {step - since} steps ago")

    def why(self, history: History, trial: int) -> str:
        """Why a trial is where it is."""
        return why_by_state(history, trial)

    def explain(self, trials: int | None, max_steps: int | None) -> Plan:
        """All trials, all steps, at most."""
        return plan_to_the_end(trials, max_steps, f"no improvement for more than {self.patience} steps")


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """Stop a trial whose metric leaves ``[lower, upper]``, in the metric's own units, or is not finite.

    At its last step too: what is out of bounds is to be no result.

    ``metric``: any reported metric; ``None``: the objective, where there is one. ``warmup_steps``,
    ``interval``: look at a trial for the first time after more than this many steps, and once per
    interval.
    """

    lower: float | None = None
    upper: float | None = None
    metric: str | None = None
    warmup_steps: int = 0
    interval: int = 1

    def __post_init__(self) -> None:
        for option in ("lower", "upper"):
            if getattr(self, option) is not None:
                check_real("threshold", option, getattr(self, option), math.isfinite, "a finite number")
        if self.lower is None and self.upper is None:
            raise StrategyError(
                "threshold: give lower=, upper= or both, as in {'name': 'threshold', 'upper': 0.5}; without "
                "them nothing is ever stopped"
            )
        if self.lower is not None and self.upper is not None and self.lower > self.upper:
            raise StrategyError(
                f"threshold: lower must not be above upper, got lower={self.lower!r}, upper={self.upper!r}"
            )
        check_window("threshold", self.warmup_steps, self.interval)
        Criterion(self.metric).check("threshold")

    def check(self, n_objectives: int, max_steps: int | None) -> None:
        """One objective, or a metric by name."""
        if self.metric is None and n_objectives > 1:
            raise StrategyError(
                f"threshold: with {n_objectives} objectives, say with metric= which one must stay in bounds"
            )

    def next(self, history: History, rng: np.random.Generator) -> Action:
        """Another trial, to its end."""
        return run_to_the_end(history)

    def judge(self, history: History, trial: int) -> Stop | None:
        """Stop the trial if its newest value is out of bounds."""
        if not is_due(history, trial, self.warmup_steps, self.interval):
            return CONTINUE
        name = self.metric or history.objectives[0]
        value = history.reports.value(history.reports_of(trial)[-1], name)
        if value is None:
            return CONTINUE
        step = int(history.steps[trial])
        if math.isnan(value):
            return Stop(f"{name} is not finite at step {step}")
        if self.lower is not None and value < self.lower:
            return Stop(f"{name} is {value:.6g} at step {step}, below {self.lower:g}")
        if self.upper is not None and value > self.upper:
            return Stop(f"{name} is {value:.6g} at step {step}, above {self.upper:g}")
        return CONTINUE

    def why(self, history: History, trial: int) -> str:
        """Why a trial is where it is."""
        return why_by_state(history, trial)

    def explain(self, trials: int | None, max_steps: int | None) -> Plan:
        """All trials, all steps, at most."""
        low = "" if self.lower is None else f"below {self.lower:g}"
        high = "" if self.upper is None else f"above {self.upper:g}"
        bounds = " or ".join(filter(None, (low, high)))
        return plan_to_the_end(trials, max_steps, f"{self.metric or 'the objective'} {bounds}")
