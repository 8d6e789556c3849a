"""What a configuration of LightGBM is worth: fitted and scored in the same way whoever chose it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from flows.objectives._base import Setting
from flows.objectives._lgbm_params import training_objective

__all__ = ["Choice", "cross_validated", "held_out", "rounds_of"]

# Fits whose scores are averaged: a configuration that samples rows or columns is luck in part.
_FITS = 3
# Tables with fewer rows are cross-validated this often, each time with other folds.
_FEW_ROWS, _REPEATS, _FOLDS = 1000, 4, 5


@dataclass(frozen=True)
class Choice:
    """A configuration that a search had chosen at some moment.

    ``at``: time of day in seconds. ``rounds``: boosting rounds; ``None``, early stopping is to find them.
    """

    at: float
    params: Mapping[str, Any]
    rounds: int | None


def _settings(setting: Setting, choice: Choice, seed: int) -> dict[str, Any]:
    ours = {"verbosity": -1, "seed": seed, "num_threads": 1, "deterministic": True, "force_row_wise": True}
    return {**training_objective(setting.problem, setting.metric), **choice.params, **ours}


def _data(setting: Setting, rows: Any, params: Mapping[str, Any]) -> Any:
    import lightgbm

    problem = setting.problem
    return lightgbm.Dataset(
        problem.matrix[rows],
        label=problem.y[rows],
        categorical_feature=problem.categorical,
        params=dict(params),
    )


def _score(setting: Setting, choice: Choice, train: Any, test: Any, seed: int) -> float:
    """The metric on ``test`` rows of a model fitted on ``train`` rows."""
    import lightgbm

    params = _settings(setting, choice, seed)
    booster = lightgbm.train(params, _data(setting, train, params), num_boost_round=choice.rounds or 1)
    predicted = booster.predict(setting.problem.matrix[test], num_threads=1)
    return setting.metric(setting.problem.y[test], np.asarray(predicted))


def rounds_of(setting: Setting, choice: Choice, folds: int, patience: int = 100) -> int:
    """The rounds at which cross-validation on the training rows is best, by LightGBM's ``cv``."""
    import lightgbm

    stops = {"auc": "auc", "rmse": "rmse"}.get(
        setting.metric.name, "multi_logloss" if setting.problem.task == "multiclass" else "binary_logloss"
    )
    params = {**_settings(setting, choice, 0), "metric": stops}
    found = lightgbm.cv(
        params,
        _data(setting, setting.split.train, params),
        num_boost_round=1000,
        nfold=folds,
        stratified=bool(setting.problem.classes),
        seed=0,
        callbacks=[lightgbm.early_stopping(patience, verbose=False)],
    )
    return len(next(iter(found.values())))


def held_out(setting: Setting, choice: Choice) -> float:
    """The mean score on the test rows, which no search has seen, of models fitted on all others."""
    split = setting.split
    return float(np.mean([_score(setting, choice, split.train, split.test, s) for s in range(_FITS)]))


def cross_validated(setting: Setting, choice: Choice) -> float:
    """The mean score over folds of all rows that no search has used."""
    return float(np.mean([_score(setting, choice, *fold, s) for s, fold in enumerate(_folds(setting))]))


def _folds(setting: Setting) -> Iterator[tuple[Any, Any]]:
    from sklearn.model_selection import RepeatedKFold, RepeatedStratifiedKFold

    problem = setting.problem
    repeats = _REPEATS if len(problem.y) < _FEW_ROWS else 1
    kind = RepeatedStratifiedKFold if problem.classes else RepeatedKFold
    yield from kind(n_splits=_FOLDS, n_repeats=repeats, random_state=12345).split(problem.matrix, problem.y)
