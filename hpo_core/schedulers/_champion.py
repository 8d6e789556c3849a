"""The complete trial to beat, where steps are folds or seeds, and how far others are behind it on each."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from hpo_core._disasters import FAR
from hpo_core._errors import StrategyError
from hpo_core._given import is_number
from hpo_core._history import History
from hpo_core._logs import FOLD
from hpo_core.schedulers._criterion import Criterion, usable

__all__ = ["Champion", "check_single", "check_threshold"]


def check_threshold(owner: str, p_threshold: float) -> None:
    """Raise :class:`StrategyError` for a number that is no probability."""
    if not is_number(p_threshold) or not 0 < p_threshold < 1:
        raise StrategyError(f"{owner}: p_threshold must lie between 0 and 1, got {p_threshold!r}")


def check_single(owner: str, n_objectives: int, metric: str | None) -> None:
    """Raise :class:`StrategyError` where it is not one number that is compared."""
    if n_objectives > 1 and metric is None:
        raise StrategyError(
            f"{owner}: its test compares single numbers and the study has {n_objectives} objectives; say "
            "with metric= which one to test, or use median or asha_stopping, which rank by domination"
        )


class Champion:
    """The complete trial with the best mean over its steps, and its result at each.

    Of an objective that reports the mean so far, and the result of the fold beside it as ``NAME_fold``,
    the latter is what counts.
    """

    def __init__(self, criterion: Criterion, history: History) -> None:
        self._scores = criterion.bind(history)
        self._fold = history.objectives[0] + FOLD if criterion.metric is None else None
        self._seen = 0
        self.trial: int | None = None
        self.mean = math.inf
        self.results: dict[int, float] = {}

    def catch_up(self, history: History) -> list[dict[int, float]]:
        """Take in the trials that have become complete since; their results, in that order."""
        fresh = [trial for trial in history.completed(self._seen) if trial not in history.outside]
        complete = {trial: self.of(history, trial) for trial in fresh}
        for trial, results in complete.items():
            mean = sum(results.values()) / len(results) if results else math.inf
            # The lower number among equals, so that the order of arrival does not matter.
            if mean < self.mean or (mean == self.mean and self.trial is not None and trial < self.trial):
                self.trial, self.mean, self.results = trial, mean, results
        self._seen = len(history.moves)
        return list(complete.values())

    def of(self, history: History, trial: int) -> dict[int, float]:
        """The trial's usable results by step, less being better."""
        found = {}
        for row in history.reports_of(trial):
            alone = None if self._fold is None else history.reports.value(row, self._fold)
            score = self._scores.of_row(history, row) if alone is None else (alone * self._scores.signs[0],)
            if score is not None and usable(score):
                found[int(history.reports.steps[row])] = score[0]
        return found

    def behind(self, results: dict[int, float]) -> NDArray[np.float64]:
        """``(k,)`` by how much the results are worse than the champion's, on the steps that both have."""
        own = self.results
        behind = np.array([value - own[step] for step, value in results.items() if step in own])
        return np.asarray(np.clip(behind, -FAR, FAR))
