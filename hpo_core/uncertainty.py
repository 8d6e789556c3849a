"""How far a result may lie from what the same configuration would give again: the band around the best.

Where the best trials reported results on folds (:mod:`hpo_core.folds`), it is one standard error of their
mean, corrected for the rows that training sets share; of results with several seeds, which are independent,
it is not corrected. Elsewhere it is the standard deviation of one
result's noise, as the Gaussian process sees it that also decides when a study has enough
(``Limits.improvement``): what it cannot explain by the configuration counts as noise, so a jagged objective
looks noisy. Neither says that the best of many noisy results is an optimistic one, which it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpo_core._result import column_of, with_value
from hpo_core._stopping import enough_results, result_noise
from hpo_core._study import Study
from hpo_core.folds import fold_results, repeats_of, standard_error

__all__ = ["Band", "band"]

# A band of less than this part of the results' spread would be a line.
_VISIBLE = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """``half``: half the width at each of the trials asked for, ``(k,)``; ``what`` it is, in words."""

    half: NDArray[np.float64]
    what: str


def band(study: Study, trials: Sequence[int], *, objective: str | None = None) -> Band | None:
    """The uncertainty of these trials' results; ``None`` where nothing can be said of it.

    Raises :class:`InputError` for an unknown objective.
    """
    column = column_of(study.history, objective)
    name = list(study.objectives)[column]
    repeats = repeats_of(study)
    errors = np.array(
        [standard_error(_folds(study, trial, name), independent=repeats > 1) for trial in trials]
    )
    known = np.isfinite(errors)
    if len(errors) and known.mean() >= 0.5:
        # A trial that was stopped after a fold or two is as uncertain as the others are on average.
        half = np.where(known, errors, np.median(errors[known]))
        over = f"{repeats} seeds" if repeats > 1 else "folds"
        return Band(half=half, what=f"± standard error over {over}") if half.any() else None
    noise = _noise(study, column)
    if not math.isfinite(noise):
        return None
    return Band(half=np.full(len(trials), noise), what="± noise of one result (model)")


def _folds(study: Study, trial: int, name: str) -> NDArray[np.float64]:
    return np.array(list(fold_results(study, trial, name).values()))


def _noise(study: Study, column: int) -> float:
    evidence, space = study.history.evidence, study.space
    known = with_value(study.history, column)
    X, y = evidence.X[known], evidence.values[known, column]
    if not space.dims or not enough_results(len(y), space) or not y.max() > y.min():
        return math.nan
    noise = result_noise(space, X, y)
    low, high = np.percentile(y, [5.0, 95.0]).tolist()
    return noise if noise > _VISIBLE * (high - low) else math.nan
