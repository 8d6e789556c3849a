"""What a trial's result is and which trial is best: one rule, used by everyone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hpo_core._errors import StudyStateError
from hpo_core._fold import Fold
from hpo_core._records import TrialRecord
from hpo_core._states import TrialState


def value_by_rule(fold: Fold, trial: TrialRecord, returned: Mapping[str, float]) -> dict[str, float]:
    """The trial's objectives from its reports and from what the objective returned (the last result).

    ``last``: the returned value, else the last report. ``best``: the best of all of them.
    ``average-k``: the mean of the last k. Non-finite results are skipped except by ``last``.
    """
    rule = fold.settings.rule
    values: dict[str, float] = {}
    for name, direction in fold.created.objectives.items():
        if rule == "last" and name in returned:
            values[name] = float(returned[name])
            continue
        series = fold.history.reports.metric_of(trial.number, name)
        if name in returned:
            series = np.append(series, float(returned[name]))
        if not len(series):
            continue
        finite = series[np.isfinite(series)]
        if rule == "last" or not len(finite):
            values[name] = float(series[-1])
        elif rule == "best":
            values[name] = float(finite.min() if direction == "min" else finite.max())
        else:
            values[name] = float(finite[-int(rule[8:]) :].mean())
    return values


def best_trial(fold: Fold) -> TrialRecord:
    """The best complete trial by the first objective; the earliest of equals."""
    history = fold.history
    complete = np.flatnonzero(history.states == TrialState.COMPLETE)
    if not len(complete):
        raise StudyStateError(
            f"study {fold.created.name!r} has no complete trial yet, so there is no best one"
        )
    return fold.trials[int(complete[np.argmin(history.values[complete, 0])])]


def front(fold: Fold) -> list[TrialRecord]:
    """The complete trials that no other complete trial dominates, by number."""
    history = fold.history
    complete = np.flatnonzero(history.states == TrialState.COMPLETE)
    values = history.values[complete]
    order = np.lexsort(values.T[::-1])
    kept: list[int] = []
    for row in order:
        # Sorted by the first objective, so only rows already kept can dominate this one.
        if not any(_dominates(values[other], values[row]) for other in kept):
            kept.append(int(row))
    return [fold.trials[int(complete[row])] for row in sorted(kept)]


def _dominates(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((a <= b).all() and (a < b).any())
