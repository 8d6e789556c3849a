"""Median and percentile rules: stop a trial that is worse than most complete trials were at the same step.

The median rule is that of Golovin et al. (2017), "Google Vizier", section 3.2.1, except that both sides
are compared by their best result so far: the paper sets a trial's best against the others' running
averages, which lets a falling loss pass too easily.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from dataclasses import dataclass, field

import numpy as np

from hpo_core._errors import StrategyError
from hpo_core._given import check_option, is_number
from hpo_core._history import History
from hpo_core._memo import Memo
from hpo_core._strategy import CONTINUE, Action, Plan, Stop
from hpo_core.schedulers._common import plan_to_the_end, run_to_the_end, why_by_state
from hpo_core.schedulers._criterion import Criterion, Score, Scores, usable
from hpo_core.schedulers._ranking import in_order
from hpo_core.schedulers._window import all_done, check_window, is_due

__all__ = ["Median", "Percentile"]

# With several objectives, or bounds on outcomes, a trial is ranked among this many complete trials, the
# newest: sorting all of them at every report would cost more than it tells.
_PEERS = 256


class _Curves:
    """Best-so-far curves of all trials, and of the complete ones the values at every step asked about."""

    def __init__(self, scores: Scores) -> None:
        self.scores = scores
        self._rows = 0
        self._moves = 0
        self._steps: dict[int, list[int]] = {}
        self._best: dict[int, list[Score]] = {}
        self.complete: list[int] = []
        """In the order in which they became complete."""
        self._at: dict[int, list[float]] = {}

    def catch_up(self, history: History) -> None:
        """Take in the reports and ends that have arrived since."""
        reports = history.reports
        for row in range(self._rows, len(reports)):
            score = self.scores.of_row(history, row)
            if score is not None:
                trial = int(reports.trials[row])
                bests = self._best.setdefault(trial, [])
                bests.append(_better(bests[-1], score) if bests else score)
                self._steps.setdefault(trial, []).append(int(reports.steps[row]))
        self._rows = len(reports)
        for trial in history.completed(self._moves):
            self.complete.append(trial)
            for step, values in self._at.items():
                self._enter(values, trial, step)
        self._moves = len(history.moves)

    def _enter(self, values: list[float], trial: int, step: int) -> None:
        score = self.at(trial, step)
        if score is not None and usable(score):
            insort(values, score[0])

    def at(self, trial: int, step: int) -> Score | None:
        """The trial's best (several objectives: newest) score up to a step that it has reached."""
        steps = self._steps.get(trial)
        if not steps or steps[-1] < step:
            return None
        place = bisect_right(steps, step)
        return self._best[trial][place - 1] if place else None

    def now(self, trial: int) -> Score | None:
        """The trial's best (several objectives: newest) score of all; ``None`` before its first."""
        bests = self._best.get(trial)
        return bests[-1] if bests else None

    def values_at(self, step: int) -> list[float]:
        """The complete trials' values at a step, ascending."""
        if step not in self._at:
            values: list[float] = []
            for trial in self.complete:
                self._enter(values, trial, step)
            self._at[step] = values
        return self._at[step]

    def peers_at(self, step: int) -> list[tuple[int, Score]]:
        """Trials and scores there of the newest complete ones that got to the step."""
        peers: list[tuple[int, Score]] = []
        for trial in reversed(self.complete):
            score = self.at(trial, step)
            if score is not None and usable(score):
                peers.append((trial, score))
                if len(peers) == _PEERS:
                    break
        return peers


def _better(best: Score, score: Score) -> Score:
    """The better of two single scores; of several objectives the newer, as there is no best."""
    if len(score) > 1 or not usable(best):
        return score
    return min(best, score) if usable(score) else best


def _share_ahead(history: History, curves: _Curves, trial: int, own: Score, step: int) -> tuple[float, int]:
    """How many in a hundred complete trials were ahead at this step, and how many there were."""
    peers = curves.peers_at(step)
    # Of equals the first comes first, and nobody is behind an equal.
    compared = [(trial, own), *peers]
    broken = [curves.scores.broken(history, t, step) for t, _ in compared]
    order = in_order([score for _, score in compared], broken)
    return 100.0 * order.index(0) / max(len(peers), 1), len(peers)


def _quantile(values: list[float], percentile: float) -> float:
    """The linearly interpolated percentile of an ascending list."""
    place = percentile / 100.0 * (len(values) - 1)
    below = math.floor(place)
    above = min(below + 1, len(values) - 1)
    # Halves first: the range of two values near the largest double is no double.
    low, high = values[below] / 2, values[above] / 2
    return 2 * (low + (place - below) * (high - low))


@dataclass(frozen=True, kw_only=True)
class Percentile:
    """Stop a trial that is worse than this ``percentile`` of the complete trials at the same step.

    25 keeps only trials as good as the best quarter, 50 is the median rule, 100 stops those that are
    worse than all. ``startup_trials``: complete trials that there must be to compare with.
    ``warmup_steps``, ``interval``: look at a trial for the first time after more than this many steps,
    and once per interval. ``metric``, ``direction``: compare by this reported metric and not by the
    objectives.
    """

    percentile: float = 25.0
    startup_trials: int = 5
    warmup_steps: int = 0
    interval: int = 1
    metric: str | None = None
    direction: str | None = None
    _memo: Memo[_Curves] = field(default_factory=Memo, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not is_number(self.percentile) or not 0 <= self.percentile <= 100:
            raise StrategyError(f"percentile: must be a number from 0 to 100, got {self.percentile!r}")
        check_option("percentile", "startup_trials", self.startup_trials, 1)
        check_window("percentile", self.warmup_steps, self.interval)
        Criterion(self.metric, self.direction).check("percentile")

    def check(self, n_objectives: int, max_steps: int | None) -> None:
        """Any number of objectives, any budget."""

    def _curves(self, history: History) -> _Curves:
        criterion = Criterion(self.metric, self.direction)
        curves = self._memo.of(history, lambda: _Curves(criterion.bind(history)))
        curves.catch_up(history)
        return curves

    def next(self, history: History, rng: np.random.Generator) -> Action:
        """Another trial, to its end."""
        self._curves(history)
        return run_to_the_end(history)

    def judge(self, history: History, trial: int) -> Stop | None:
        """Stop the trial if it is too far behind."""
        if all_done(history, trial) or not is_due(history, trial, self.warmup_steps, self.interval):
            return CONTINUE
        curves = self._curves(history)
        own = curves.now(trial)
        if own is None or len(curves.complete) < self.startup_trials:
            return CONTINUE
        step = int(history.steps[trial])
        if not usable(own):
            return Stop(f"it has no finite result up to step {step}")
        if len(own) > 1 or curves.scores.constraints:
            ahead, peers = _share_ahead(history, curves, trial, own, step)
            if peers < self.startup_trials or ahead <= self.percentile:
                return CONTINUE
            return Stop(f"{ahead:.0f} % of {peers} complete trials were ahead of it at step {step}")
        values = curves.values_at(step)
        if len(values) < self.startup_trials or own[0] <= _quantile(values, self.percentile):
            return CONTINUE
        sign = curves.scores.signs[0]
        limit = _quantile(values, self.percentile) * sign
        return Stop(
            f"its best {own[0] * sign:.6g} up to step {step} is worse than {limit:.6g}, the "
            f"{self.percentile:g}th percentile of {len(values)} complete trials"
        )

    def why(self, history: History, trial: int) -> str:
        """Why a trial is where it is."""
        return why_by_state(history, trial)

    def explain(self, trials: int | None, max_steps: int | None) -> Plan:
        """All trials, all steps, at most."""
        rule = f"worse than the {self.percentile:g}th percentile of the complete trials at the same step"
        return plan_to_the_end(trials, max_steps, rule)


@dataclass(frozen=True, kw_only=True)
class Median:
    """Stop a trial whose best result so far is worse than the median of the complete trials at the same step.

    Options as of :class:`Percentile`.
    """

    startup_trials: int = 5
    warmup_steps: int = 0
    interval: int = 1
    metric: str | None = None
    direction: str | None = None
    _rule: Percentile = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rule = Percentile(
            percentile=50.0,
            startup_trials=self.startup_trials,
            warmup_steps=self.warmup_steps,
            interval=self.interval,
            metric=self.metric,
            direction=self.direction,
        )
        object.__setattr__(self, "_rule", rule)

    def check(self, n_objectives: int, max_steps: int | None) -> None:
        """Any number of objectives, any budget."""

    def next(self, history: History, rng: np.random.Generator) -> Action:
        """Another trial, to its end."""
        return self._rule.next(history, rng)

    def judge(self, history: History, trial: int) -> Stop | None:
        """Stop the trial if it is worse than the median."""
        return self._rule.judge(history, trial)

    def why(self, history: History, trial: int) -> str:
        """Why a trial is where it is."""
        return self._rule.why(history, trial)

    def explain(self, trials: int | None, max_steps: int | None) -> Plan:
        """All trials, all steps, at most."""
        return self._rule.explain(trials, max_steps)
