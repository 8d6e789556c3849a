"""scikit-learn estimators that learn bit by bit: how, how far, and on which rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flows._retune import retune
from flows.objectives._base import Setting
from flows.objectives._metrics import Array
from hpo_core import ObjectiveError


@dataclass(frozen=True)
class Growth:
    """How an estimator learns step by step: ``way`` is partial_fit, warm_start or nothing; ``size``: the
    parameter that the axis takes the place of.
    """

    way: str
    size: str

    def unit(self, share: float) -> str:
        """What one step is, for people; ``share``: trees or iterations in a step."""
        return "pass over the data" if self.way == "partial_fit" else f"{share:g} of {self.size}"


class Grown:
    """A pipeline whose preprocessing is fitted and whose last step learns bit by bit.

    ``scale``: mean and deviation by which the target is standardised; (0, 1) leaves it as it is.
    """

    def __init__(self, model: Any, growth: Growth, n_classes: int, scale: tuple[float, float]) -> None:
        self.model = model
        self.classes: Any = np.arange(float(n_classes)) if n_classes else None
        self._growth = growth
        self._scale = scale

    def scaled(self, y: Array) -> Array:
        """The target as the estimator learns it."""
        return y if self._scale == (0.0, 1.0) else (y - self._scale[0]) / self._scale[1]

    def unscaled(self, predictions: Array) -> Array:
        """Predictions in units of the target."""
        return predictions if self._scale == (0.0, 1.0) else predictions * self._scale[1] + self._scale[0]

    @property
    def last(self) -> Any:
        """The final estimator, which sees transformed rows."""
        return self.model.steps[-1][1]

    def transform(self, frame: Any) -> Any:
        """Rows as the final estimator sees them."""
        return self.model[:-1].transform(frame)

    def take(self, params: Mapping[str, Any]) -> None:
        """Parameters of a fork, which may differ from those of the trial that it goes on from.

        Raises :class:`ObjectiveError` for another value of what is fitted once, before the first step.
        """
        own = own_parameters(self.model)
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in params.items()}
        there = self.model.get_params()
        fixed = [k for k, v in values.items() if k not in own and there[k] != v]
        if fixed:
            raise ObjectiveError(
                f"{fixed[0]!r} belongs to a step that was fitted before the model began to learn, so a fork "
                "cannot change it; leave it out of the strategy's parameters, or fix it in the space file"
            )
        retune(self.last, {own[k]: v for k, v in values.items() if k in own})

    def advance(self, inputs: Any, labels: Any, size: int) -> None:
        """One more step."""
        if self._growth.way == "warm_start":
            self.last.set_params(**{self._growth.size: size})
            self.last.fit(inputs, labels)
        elif self.classes is not None:
            self.last.partial_fit(inputs, labels, classes=self.classes)
        else:
            self.last.partial_fit(inputs, labels)


def own_parameters(model: Any) -> dict[str, str]:
    """The last step's parameters, by their names in a space: with the step's in front, or without."""
    name, last = model.steps[-1]
    names = last.get_params()
    return {n: n for n in names} | {f"{name}__{n}": n for n in names}


@dataclass
class Run:
    """A trial on the ``steps`` axis so far: what a checkpoint holds. ``best_scores``: on each fold."""

    folds: list[Grown]
    step: int = 0
    best_step: int = 0
    best_value: float = field(default=math.nan)
    best_scores: list[float] = field(default_factory=list)

    def add(self, step: int, value: float, scores: list[float], sign: float) -> None:
        """Note one step, of ``scores`` on the folds and their mean; ``sign * value`` is to be minimised."""
        self.step = step
        if not self.best_step or sign * value < sign * self.best_value:
            self.best_step, self.best_value, self.best_scores = step, value, scores


@dataclass(frozen=True)
class FoldRows:
    """One fold's rows as the final estimator sees them."""

    train: Any
    labels: Any
    valid: Any
    y: Array

    @classmethod
    def of(cls, setting: Setting, fold: Grown, i: int) -> FoldRows:
        """Transform once; every step uses the same rows."""
        problem, (train, valid) = setting.problem, setting.split.folds[i]
        return cls(
            fold.transform(problem.frame.iloc[train]),
            fold.scaled(problem.y[train]),
            fold.transform(problem.frame.iloc[valid]),
            problem.y[valid],
        )
