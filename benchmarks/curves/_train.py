"""The two learners of the learning-curve benchmark and their tables, on one thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["TABLES", "TRAINERS", "Table", "table"]

Array = NDArray[np.float64]

TABLES = ("breast_cancer", "diabetes", "digits", "wine")
# Of digits only the first five classes: a round of boosting grows a tree for each.
_DIGITS = 5
# A loss this many times that of the best constant is as bad as any other.
_WORST = 20.0


@dataclass(frozen=True)
class Table:
    """Standardised features and target, split once; ``classes`` is 0 for a regression."""

    train: tuple[Array, Array]
    valid: tuple[Array, Array]
    classes: int

    def loss(self, outputs: Array) -> float:
        """Loss on the validation rows of probabilities ``(n, classes)`` or values ``(n, 1)``."""
        y = self.valid[1]
        if self.classes:
            picked = outputs[np.arange(len(y)), y.astype(np.int64)]
            found = float(-np.log(np.clip(picked, 1e-12, 1.0)).mean())
            worst = _WORST * float(np.log(self.classes))
        else:
            found, worst = float(((outputs[:, 0] - y) ** 2).mean()), _WORST
        return min(found, worst) if np.isfinite(found) else worst


@cache
def table(name: str) -> Table:
    """One of scikit-learn's tables, 60 % of its rows to train on."""
    from sklearn import datasets

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    if name == "digits":
        x, y = x[y < _DIGITS], y[y < _DIGITS]
    classes = 0 if name == "diabetes" else len(np.unique(y))
    order = np.random.default_rng(0).permutation(len(y))
    train, valid = np.split(order, [int(0.6 * len(y))])
    x = (x - x[train].mean(axis=0)) / np.maximum(x[train].std(axis=0), 1e-9)
    if not classes:
        y = (y - y[train].mean()) / y[train].std()
    y = y.astype(np.float64)
    return Table((x[train], y[train]), (x[valid], y[valid]), classes)


def _lgbm(data: Table, params: dict[str, Any], seed: int) -> Iterator[float]:
    import lightgbm

    objective = {0: "regression", 2: "binary"}.get(data.classes, "multiclass")
    settings = {
        **params, "objective": objective, "num_threads": 1, "verbosity": -1, "metric": "None", "seed": seed,
        "feature_pre_filter": False, "force_row_wise": True,
        **({"num_class": data.classes} if objective == "multiclass" else {}),
    }  # fmt: skip
    train = lightgbm.Dataset(data.train[0], data.train[1], params=settings).construct()
    booster = lightgbm.Booster(settings, train)
    booster.add_valid(train.create_valid(*data.valid, params=settings), "valid")
    kept: list[Array] = []

    def keep(predictions: Array, _: Any) -> tuple[str, float, bool]:
        kept[:] = [np.asarray(predictions)]
        return "kept", 0.0, False

    while True:
        booster.update()
        booster.eval_valid(keep)
        outputs = kept[0].reshape(len(data.valid[1]), -1)
        yield data.loss(np.hstack([1 - outputs, outputs]) if data.classes == 2 else outputs)


def _softmax(x: Array) -> Array:
    x = np.exp(x - x.max(axis=1, keepdims=True))
    return np.asarray(x / x.sum(axis=1, keepdims=True))


def _mlp(data: Table, params: dict[str, Any], seed: int) -> Iterator[float]:
    """One hidden layer of rectifiers, stochastic gradients with Nesterov momentum."""
    rng = np.random.default_rng(seed)
    x, y = data.train
    width, outputs = params["hidden"], data.classes or 1
    wanted = np.eye(outputs)[y.astype(np.int64)] if data.classes else y[:, None]
    finish: Callable[[Array], Array] = _softmax if data.classes else lambda z: z
    weights = [
        rng.normal(0, np.sqrt(2 / x.shape[1]), (x.shape[1], width)), np.zeros(width),
        rng.normal(0, np.sqrt(1 / width), (width, outputs)), np.zeros(outputs),
    ]  # fmt: skip
    speed = [np.zeros_like(w) for w in weights]
    rate, momentum, decay = params["learning_rate"], params["momentum"], params["weight_decay"]
    while True:
        order = rng.permutation(len(y))
        for first in range(0, len(y), params["batch"]):
            rows = order[first : first + params["batch"]]
            hidden = np.maximum(x[rows] @ weights[0] + weights[1], 0.0)
            error = (finish(hidden @ weights[2] + weights[3]) - wanted[rows]) / len(rows)
            back = (error @ weights[2].T) * (hidden > 0)
            slopes = [x[rows].T @ back, back.sum(axis=0), hidden.T @ error, error.sum(axis=0)]
            for w, v, slope in zip(weights, speed, slopes, strict=True):
                v *= momentum
                v -= rate * (slope + decay * w)
                w += momentum * v - rate * (slope + decay * w)
        hidden = np.maximum(data.valid[0] @ weights[0] + weights[1], 0.0)
        yield data.loss(finish(hidden @ weights[2] + weights[3]))


TRAINERS: dict[str, Callable[[Table, dict[str, Any], int], Iterator[float]]] = {"lgbm": _lgbm, "mlp": _mlp}


def curve(learner: str, data: Table, params: dict[str, Any], steps: int, seed: int) -> tuple[Array, Array]:
    """``(steps,)`` losses, and the processor seconds of each step; making the data set goes to the first."""
    run = TRAINERS[learner](data, params, seed)
    losses, seconds = np.empty(steps), np.empty(steps)
    with np.errstate(all="ignore"):
        for step in range(steps):
            start = time.process_time()
            losses[step] = next(run)
            seconds[step] = time.process_time() - start
    return losses, seconds
