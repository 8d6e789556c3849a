"""Boosting in steps that can be interrupted, and the LightGBM data sets that all boosting here uses.

Going on exactly. LightGBM does not save its random state, so a booster that goes on with
``init_model`` draws other rows and features than one that was never interrupted. Here every step of the
``rounds`` axis is a booster of its own, seeded by (trial, fold, step), that starts from the raw scores of
the ones before. An interrupted trial repeats the same boosters: its curve is the same bit for bit.
"""

from __future__ import annotations

import json
import math
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from flows.objectives._base import Setting, Trial
from flows.objectives._data import Problem
from flows.objectives._metrics import Array
from flows.objectives._splits import Rows


@dataclass
class Rounds:
    """A trial on the ``rounds`` axis so far: what a checkpoint holds.

    ``models``: per fold, the text of each step's booster.
    """

    models: list[list[str]]
    step: int = 0
    best_loss: float = math.inf
    best_value: float = math.nan
    best_rounds: int = 0

    @classmethod
    def start(cls, trial: Trial, setting: Setting) -> Rounds:
        """From the checkpoint, or from nothing."""
        if trial.checkpoint is None:
            return cls([[] for _ in range(setting.n_folds)])
        return cls(**json.loads(zlib.decompress(trial.checkpoint.load())))

    def add(self, step: int, value: float, loss: float, rounds: int) -> None:
        """Note one step; ``loss`` is what early stopping watches, minimised."""
        self.step = step
        if loss < self.best_loss:
            self.best_loss, self.best_value, self.best_rounds = loss, value, rounds

    def to_bytes(self) -> bytes:
        """For a checkpoint; :meth:`start` reads it."""
        content = {**vars(self), "best_loss": self.best_loss}
        return zlib.compress(json.dumps(content).encode(), level=1)


@dataclass
class FoldCurves:
    """A trial on the ``folds`` axis so far: what a checkpoint holds.

    For each fold, round by round: ``values``, the metric; ``losses``, what early stopping watches, minimised.
    """

    values: list[list[float]]
    losses: list[list[float]]

    @classmethod
    def start(cls, trial: Trial) -> FoldCurves:
        """From the checkpoint, or from nothing."""
        if trial.checkpoint is None:
            return cls([], [])
        return cls(**json.loads(zlib.decompress(trial.checkpoint.load())))

    def add(self, values: list[float], losses: list[float]) -> None:
        """Note one fold."""
        self.values.append(values)
        self.losses.append(losses)

    def newest(self) -> float:
        """The newest fold's value at its own best round, which does not depend on the other folds."""
        losses = np.asarray(self.losses[-1])
        return self.values[-1][0 if np.isnan(losses).all() else int(np.nanargmin(losses))]

    def best(self) -> tuple[list[float], int]:
        """Each fold's value at the one number of rounds that is best for all together, and that number.

        A fold that was stopped earlier stays as it was.
        """
        n = max(map(len, self.losses))
        total = np.sum([fold + [fold[-1]] * (n - len(fold)) for fold in self.losses], axis=0)
        at = 0 if np.isnan(total).all() else int(np.nanargmin(total))
        return [fold[min(at, len(fold) - 1)] for fold in self.values], at + 1

    def to_bytes(self) -> bytes:
        """For a checkpoint; :meth:`start` reads it."""
        return zlib.compress(json.dumps(vars(self)).encode(), level=1)


class FoldBooster:
    """One fold on the ``rounds`` axis: data, the raw scores so far, and the newest step's model."""

    def __init__(self, setting: Setting, fold: int, params: dict[str, Any]) -> None:
        problem, (train_rows, valid_rows) = setting.problem, setting.split.folds[fold]
        self._params = params
        self._metric, self._watch = setting.metric, setting.metric.watch
        self._y = problem.y[valid_rows]
        self._features = (problem.matrix[train_rows], problem.matrix[valid_rows])
        train = dataset(problem, train_rows, params)
        self._data = (train, dataset(problem, valid_rows, params, train))
        self._scores: tuple[Array, Array] | None = None
        self.newest = ""

    def advance(self, rounds: int, seed: int) -> tuple[float, float]:
        """Train ``rounds`` more; the metric and the minimised watched metric on the validation rows."""
        import lightgbm

        if self._scores is not None:
            for data, scores in zip(self._data, self._scores, strict=True):
                data.set_init_score(scores)
        booster = lightgbm.Booster({**self._params, "seed": seed}, self._data[0])
        booster.add_valid(self._data[1], "valid")
        for _ in range(rounds):
            booster.update()
        predictions = valid_predictions(booster)
        self.newest = booster.model_to_string()
        self._add(booster)
        value, watched = self._metric(self._y, predictions), self._watch(self._y, predictions)
        return value, self._watch.sign * watched

    def replay(self, model: str) -> None:
        """Add the scores of a step that was trained before the interruption."""
        import lightgbm

        self.newest = model
        self._add(lightgbm.Booster(model_str=model))

    def _add(self, booster: Any) -> None:
        threads = self._params["num_threads"]
        new = tuple(booster.predict(x, raw_score=True, num_threads=threads) for x in self._features)
        if self._scores is None:
            self._scores = (new[0], new[1])
        else:
            self._scores = (self._scores[0] + new[0], self._scores[1] + new[1])


def dataset(problem: Problem, rows: Rows, params: dict[str, Any], reference: Any = None) -> Any:
    """A constructed LightGBM data set of these rows, binned like ``reference`` if given."""
    import lightgbm

    return lightgbm.Dataset(
        problem.matrix[rows],
        label=problem.y[rows],
        reference=reference,
        categorical_feature=problem.categorical,
        params=params,
    ).construct()


def valid_predictions(booster: Any) -> Array:
    """The booster's running predictions on its validation set, as probabilities or values."""
    kept: list[Array] = []

    def keep(predictions: Array, data: Any) -> tuple[str, float, bool]:
        del data
        kept.append(np.asarray(predictions))
        return "kept", 0.0, False

    booster.eval_valid(keep)
    return kept[0]
