"""Wilcoxon rule: steps are folds or seeds, and a trial that loses to the best one on them is not worth
the rest.

F. Wilcoxon (1945), "Individual comparisons by ranking methods"; zeros as in J. W. Pratt (1959): they
take their ranks, which are then left out. The p-value is exact, ties included: under the null every
sign pattern of the differences is as likely, and the distribution of the rank sum over them is a
convolution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hpo_core._given import check_option
from hpo_core._history import History
from hpo_core._memo import Memo
from hpo_core._strategy import CONTINUE, Action, Plan, Stop
from hpo_core.schedulers._champion import Champion, check_single, check_threshold
from hpo_core.schedulers._common import plan_to_the_end, run_to_the_end, why_by_state
from hpo_core.schedulers._criterion import Criterion
from hpo_core.schedulers._window import all_done

__all__ = ["Wilcoxon", "signed_rank_p"]

# Up to this many differences the p-value is exact; it takes n additions of arrays of n (n + 1) numbers.
_EXACT = 60
# To how many digits of the largest one differences are compared.
_DIGITS = 12


def signed_rank_p(differences: NDArray[np.float64]) -> float:
    """P(the rank sum of the positive differences is at least this large), were signs a fair coin.

    ``differences`` is ``(n,)``, finite. Small p: the differences tend to be positive. 1.0 when all are zero.
    """
    size = np.abs(differences)
    # Equal differences, of accuracies say, that differ in the last digit of a double are ties all the same.
    size = np.round(size / (size.max(initial=0.0) or 1.0), _DIGITS)
    order = np.sort(size)
    # Twice the mid-rank is a whole number: ranks first ... last of the ties add up to first + last.
    doubled = np.searchsorted(order, size, side="left") + 1 + np.searchsorted(order, size, side="right")
    doubled = doubled[size > 0]
    observed = int(doubled[differences[size > 0] > 0].sum())
    if not len(doubled):
        return 1.0
    if len(doubled) > _EXACT:
        mean, sd = doubled.sum() / 2, math.sqrt(float((doubled.astype(float) ** 2).sum()) / 4)
        # Sums are two apart without ties, so a continuity correction of one.
        return 0.5 * math.erfc((observed - 1 - mean) / sd / math.sqrt(2))
    probability = np.zeros(int(doubled.sum()) + 1)
    probability[0] = 1.0
    for rank in doubled.tolist():
        shifted = np.zeros_like(probability)
        shifted[rank:] = probability[: len(probability) - rank]
        probability = (probability + shifted) / 2
    return float(min(probability[observed:].sum(), 1.0))


@dataclass(frozen=True, kw_only=True)
class Wilcoxon:
    """Stop a trial that is worse than the best complete one on the folds or seeds evaluated so far.

    The trial reports one result for each fold or seed, with its number as the step; where what it
    reports as its objective is the mean so far, it reports the result of the fold beside it, as
    ``NAME_fold`` (the ready objectives do), and these are compared. It is stopped when
    a one-sided signed-rank test against the best complete trial, on the steps both have, gives p <
    ``p_threshold``, and its mean there is the worse one. ``startup_steps``: results that a trial must
    have first; with n of them p is at least 2^-n, so with the default threshold no trial is stopped
    before its fourth.
    """

    p_threshold: float = 0.1
    startup_steps: int = 2
    metric: str | None = None
    direction: str | None = None
    _memo: Memo[Champion] = field(default_factory=Memo, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_threshold("wilcoxon", self.p_threshold)
        check_option("wilcoxon", "startup_steps", self.startup_steps, 1)
        Criterion(self.metric, self.direction).check("wilcoxon")

    def check(self, n_objectives: int, max_steps: int | None) -> None:
        """One objective, or a metric by name: the test compares single numbers."""
        check_single("wilcoxon", n_objectives, self.metric)

    def _champion(self, history: History) -> Champion:
        return self._memo.of(history, lambda: Champion(Criterion(self.metric, self.direction), history))

    def next(self, history: History, rng: np.random.Generator) -> Action:
        """Another trial, to its end."""
        self._champion(history)
        return run_to_the_end(history)

    def judge(self, history: History, trial: int) -> Stop | None:
        """Stop the trial if the test says so."""
        champion = self._champion(history)
        champion.catch_up(history)
        behind = champion.behind(champion.of(history, trial))
        if all_done(history, trial) or len(behind) < self.startup_steps:
            return CONTINUE
        p = signed_rank_p(behind)
        if p >= self.p_threshold or behind.mean() <= 0:
            return CONTINUE
        return Stop(
            f"on {len(behind)} steps it is worse than trial {champion.trial} by {behind.mean():.6g} on "
            f"average (p = {p:.3g})"
        )

    def why(self, history: History, trial: int) -> str:
        """Why a trial is where it is."""
        return why_by_state(history, trial)

    def explain(self, trials: int | None, max_steps: int | None) -> Plan:
        """All trials, all steps, at most."""
        rule = f"worse than the best complete trial on the steps so far, p < {self.p_threshold:g}"
        return plan_to_the_end(trials, max_steps, rule)
