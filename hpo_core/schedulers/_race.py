"""Racing over folds or seeds: a trial that is unlikely to end ahead of the best one is stopped.

| symbol | meaning |
|---|---|
| `n` | steps of a complete trial: folds, or seeds |
| `k` | steps that the trial has behind it |
| `d_f` | result of the trial on fold f minus that of the champion, the best complete trial; less is better |
| `s` | standard deviation of `d_f` about its mean over f, pooled over trials |

Both were measured on the same folds, so what makes a fold hard for everybody cancels out of the differences:
the blocking of A. W. Moore, M. S. Lee (1994), "Efficient algorithms for minimizing cross validation error".
Were the `d_f` independent and normal about a mean of which nothing is known beforehand, then their mean over
all n folds, of which k are known, would be normal about the mean of the k with variance s^2 (1/k - 1/n). A
trial goes on while this gives it a chance of `p_threshold` or more to end ahead, by Student's t with the
degrees of freedom that s has. Because s is pooled one fold can be enough, where a test on one trial's
differences alone (:class:`Wilcoxon`) needs four.

s is that of the better half of the newest complete trials: differences to a bad configuration are large and
vary more, and those that a decision is hard for are close to the champion.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from hpo_core._given import check_option
from hpo_core._history import History
from hpo_core._memo import Memo
from hpo_core._strategy import CONTINUE, Action, Plan, Stop
from hpo_core.schedulers._champion import Champion, check_single, check_threshold
from hpo_core.schedulers._common import needs_end, plan_to_the_end, run_to_the_end, why_by_state
from hpo_core.schedulers._criterion import Criterion

__all__ = ["Race"]

# Complete trials, the newest, over which the spread is pooled: enough to know it, and the cost stays flat.
_NEWEST = 64


class _Field:
    """The champion, and the results of the newest complete trials beside it."""

    def __init__(self, criterion: Criterion, history: History) -> None:
        self.champion = Champion(criterion, history)
        self.complete = 0
        self.spread = math.nan, 0
        """s, and its degrees of freedom; 0 of them where nothing is known of it."""
        self._newest: deque[dict[int, float]] = deque(maxlen=_NEWEST)

    def catch_up(self, history: History) -> None:
        """Take in the trials that have become complete since."""
        fresh = self.champion.catch_up(history)
        if fresh:
            self.complete += len(fresh)
            self._newest.extend(fresh)
            self.spread = self._pooled()

    def _pooled(self) -> tuple[float, int]:
        behind = [d for d in map(self.champion.behind, self._newest) if len(d) > 1 and d.any()]
        behind.sort(key=lambda d: float(d.mean()))
        better = behind[: (len(behind) + 1) // 2]
        freedom = sum(len(d) - 1 for d in better)
        squares = sum(float(((d - d.mean()) ** 2).sum()) for d in better)
        return (math.sqrt(squares / freedom) if freedom else math.nan), freedom


@dataclass(frozen=True, kw_only=True)
class Race:
    """Stop a trial whose chance to end ahead of the best complete one is below ``p_threshold``.

    The trial reports one result for each fold or seed, with its number as the step; where what it reports
    as its objective is the mean so far, it reports the result of the fold beside it, as ``NAME_fold`` (the
    ready objectives do). ``startup_trials``: complete trials that there must be first. ``metric``,
    ``direction``: compare by this reported metric and not by the objective. Needs to know how many steps a
    complete trial has (the study's ``max_steps``).

    It takes results on folds to vary independently, which they do not quite: training sets overlap. So the
    chance is a rule to spend time by, and not a level of significance.
    """

    p_threshold: float = 0.05
    startup_trials: int = 4
    metric: str | None = None
    direction: str | None = None
    _memo: Memo[_Field] = field(default_factory=Memo, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_threshold("race", self.p_threshold)
        check_option("race", "startup_trials", self.startup_trials, 2)
        Criterion(self.metric, self.direction).check("race")

    def check(self, n_objectives: int, max_steps: int | None) -> None:
        """One objective, or a metric by name, and a known number of steps."""
        check_single("race", n_objectives, self.metric)
        needs_end("race", None, max_steps)

    def _field(self, history: History) -> _Field:
        return self._memo.of(history, lambda: _Field(Criterion(self.metric, self.direction), history))

    def next(self, history: History, rng: np.random.Generator) -> Action:
        """Another trial, to its end."""
        self._field(history)
        return run_to_the_end(history)

    def judge(self, history: History, trial: int) -> Stop | None:
        """Stop the trial if it will hardly win."""
        racing = self._field(history)
        racing.catch_up(history)
        champion, n = racing.champion, needs_end("race", None, history.max_steps)
        if racing.complete < self.startup_trials:
            return CONTINUE
        behind = champion.behind(champion.of(history, trial))
        k = len(behind)
        if not 0 < k < n or behind.mean() <= 0:
            return CONTINUE
        chance = _chance(float(behind.mean()), k, n, *racing.spread)
        if chance >= self.p_threshold:
            return CONTINUE
        return Stop(
            f"after {k} of {n} steps it is behind trial {champion.trial} by {behind.mean():.6g} on average; "
            f"its chance to end ahead is {chance:.2g}"
        )

    def why(self, history: History, trial: int) -> str:
        """Why a trial is where it is."""
        return why_by_state(history, trial)

    def explain(self, trials: int | None, max_steps: int | None) -> Plan:
        """All trials, all steps, at most."""
        rule = f"a chance below {self.p_threshold:g} to end ahead of the best complete trial"
        return plan_to_the_end(trials, max_steps, rule)


def _chance(behind: float, k: int, n: int, s: float, freedom: int) -> float:
    """P(the mean over n steps is below 0), that over k of them being ``behind`` > 0."""
    from scipy.special import stdtr

    if not freedom:
        return 1.0
    scale = s * math.sqrt(1.0 / k - 1.0 / n)
    return float(stdtr(freedom, -behind / scale)) if scale > 0.0 else 0.0
