"""Results on cross-validation folds or seeds, and the paired test of two configurations on the same folds.

An objective that reports the metric ``NAME_fold`` at step i, NAME being an objective, says that this is its
result on fold i; the ready objectives do so when they tune over folds. In a study of repeats (its ``meta``
says ``"step_unit": "repeat"``) it is the result with seed i.

The test is the corrected resampled t-test (C. Nadeau, Y. Bengio, "Inference for the generalization error",
Machine Learning 52, 2003, section 5, equation 3): training sets of different folds share most of their rows,
so the differences d are not independent, and their variance is taken (1/k + test/train) times instead of 1/k.
For k folds test/train is 1 / (k - 1). Results with different seeds are independent, and need no correction.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpo_core._errors import InputError
from hpo_core._logs import FOLD as FOLD
from hpo_core._logs import SPREAD, sign_of
from hpo_core._moments import deviation, mean
from hpo_core._records import TrialRecord
from hpo_core._result import column_of
from hpo_core._study import Study

__all__ = ["REPEAT", "Paired", "fold_results", "paired_test", "repeats_of", "spread_of", "standard_error"]

# What a step of a study of repeats is called.
REPEAT = "repeat"
_LEVEL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """``gain``: by how much the first is better on average, in the metric's units.

    ``low`` and ``high``: its confidence interval, at ``level``. ``p``: of a gain at least as large, were
    there none (one-sided). ``folds``: how many folds both have, or ``seeds``.
    """

    gain: float
    low: float
    high: float
    p: float
    folds: int
    seeds: bool = False
    level: float = _LEVEL

    def __str__(self) -> str:
        word, turned = ("better", 1) if self.gain >= 0 else ("worse", -1)
        low, high = sorted((turned * self.low, turned * self.high))
        over = f"{self.folds} {'seeds' if self.seeds else 'folds'}"
        return (
            f"{word} by {abs(self.gain):.4g} on average over {over} "
            f"({self.level:.0%} interval {low:.4g} to {high:.4g}; p = {self.p:.3g} for better)"
        )


def fold_results(study: Study, trial: int, objective: str | None = None) -> dict[int, float]:
    """The trial's finite results by fold, as the user gave them; empty where it reported none."""
    name = list(study.objectives)[column_of(study.history, objective)]
    reports = study.history.reports
    rows = study.history.reports_of(trial)
    found = zip(reports.steps[rows].tolist(), reports.metric_of(trial, name + FOLD).tolist(), strict=True)
    return {step: value for step, value in found if math.isfinite(value)}


def repeats_of(study: Study) -> int:
    """With how many seeds each configuration of the study is run; 1 where it is no study of repeats."""
    if study.created.meta.get("step_unit") != REPEAT:
        return 1
    return study.state.settings.max_steps or 1


def spread_of(study: Study, trial: TrialRecord, objective: str) -> float | None:
    """The sample standard deviation of the trial's results with several seeds; ``None`` where it has none."""
    return trial.metrics.get(objective + SPREAD) if repeats_of(study) > 1 else None


def standard_error(results: NDArray[np.float64], *, independent: bool = False) -> float:
    """Of the mean of ``(k,)`` results on folds, corrected as in the test; NaN for a single one.

    ``independent``: they are results with different seeds, which need no correction.
    """
    k = len(results)
    if k < 2:
        return math.nan
    shared = 0.0 if independent else 1.0 / (k - 1)
    return deviation(results.tolist()) * math.sqrt(1.0 / k + shared)


def paired_test(
    first: Mapping[int, float],
    second: Mapping[int, float],
    direction: str,
    *,
    seeds: bool = False,
    level: float = _LEVEL,
) -> Paired:
    """Whether the first is better than the second on the folds, or with the ``seeds``, that both have.

    Raises :class:`InputError` for fewer than two common folds.
    """
    from scipy.special import stdtr, stdtrit

    common = sorted(first.keys() & second.keys())
    if len(common) < 2:
        raise InputError(
            f"a paired test needs results on at least two common {'seeds' if seeds else 'folds'}, got "
            f"{sorted(first)} and {sorted(second)}"
        )
    worse = np.array([first[i] - second[i] for i in common])
    # Of results at either end of all floats the difference is none.
    differences = np.clip(-sign_of(direction) * worse, -sys.float_info.max, sys.float_info.max)
    gain, error = mean(differences.tolist()), standard_error(differences, independent=seeds)
    degrees = len(common) - 1
    reach = float(stdtrit(degrees, 0.5 + level / 2)) * error
    # Where all differences are equal it is certain, if anything differs at all.
    p = float(stdtr(degrees, -gain / error)) if error else float(gain <= 0)
    return Paired(
        gain=gain,
        low=gain - reach,
        high=gain + reach,
        p=p,
        folds=len(common),
        seeds=seeds,
        level=level,
    )
