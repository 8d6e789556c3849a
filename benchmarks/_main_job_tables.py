"""The tables of the main-job benchmark: four that scikit-learn brings, four that are generated.

The generated ones have what real tables have and the bundled ones lack: categories with many levels, two of
which interact, values that are missing for a reason, rare classes, features that say nothing. Their recipes
were fixed before anything was measured on them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TABLES", "MainTable"]


@dataclass(frozen=True, kw_only=True)
class MainTable:
    """One table: what to predict from it and by which metric, and how to make it.

    ``make`` returns the frame with its column ``target``; it is the same in every call.
    """

    task: str
    metric: str
    make: Callable[[], pd.DataFrame]


def _bundled(name: str) -> Callable[[], pd.DataFrame]:
    def make() -> pd.DataFrame:
        import sklearn.datasets

        frame: pd.DataFrame = getattr(sklearn.datasets, f"load_{name}")(as_frame=True).frame
        return frame

    return make


def _numbers(rng: np.random.Generator, rows: int, columns: int) -> pd.DataFrame:
    import pandas as pd

    # Neighbouring columns are correlated, as measurements of one thing are.
    mixing = np.eye(columns) + 0.5 * np.eye(columns, k=1)
    return pd.DataFrame(rng.normal(size=(rows, columns)) @ mixing, columns=[f"x{i}" for i in range(columns)])


def _add_category(frame: pd.DataFrame, rng: np.random.Generator, name: str, levels: int) -> np.ndarray:
    """Add a text column whose frequent levels have most of the rows; returns each row's effect."""
    share = 1 / np.arange(1, levels + 1)
    codes = rng.choice(levels, size=len(frame), p=share / share.sum())
    frame[name] = [f"{name}{c:02d}" for c in codes]
    effects: np.ndarray = rng.normal(size=levels)[codes]
    return effects


def _imbalanced() -> pd.DataFrame:
    """6,000 rows, 3 % positive: a ridge, a product and a threshold among 20 columns."""
    rng = np.random.default_rng(1)
    frame = _numbers(rng, 6000, 20)
    x = frame.to_numpy()
    score = x[:, 0] - 0.7 * x[:, 1] ** 2 + x[:, 2] * x[:, 3] + 1.5 * (x[:, 4] > 1) + rng.normal(size=len(x))
    frame["target"] = (score > np.quantile(score, 0.97)).astype(int)
    return frame


def _categorical() -> pd.DataFrame:
    """5,000 rows, two classes: eight categories of 2 to 60 levels, one pair interacts, six numbers."""
    rng = np.random.default_rng(2)
    frame = _numbers(rng, 5000, 6)
    score = frame["x0"].to_numpy() + 0.5 * np.abs(frame["x1"].to_numpy())
    sizes = (2, 3, 5, 8, 12, 20, 40, 60)
    effects = [_add_category(frame, rng, f"c{i}_", levels) for i, levels in enumerate(sizes)]
    score += 0.6 * sum(effects[i] for i in (1, 3, 5, 7)) + effects[2] * effects[4]
    frame["target"] = np.where(score + rng.logistic(size=len(frame)) > np.median(score), "yes", "no")
    return frame


def _missing() -> pd.DataFrame:
    """5,000 rows, a number to predict: Friedman's function, large values missing more often, ten of noise."""
    rng = np.random.default_rng(3)
    frame = _numbers(rng, 5000, 15)
    u = 1 / (1 + np.exp(-1.5 * frame.to_numpy()))
    y = 10 * np.sin(np.pi * u[:, 0] * u[:, 1]) + 20 * (u[:, 2] - 0.5) ** 2 + 10 * u[:, 3] + 5 * u[:, 4]
    gone = rng.random(frame.shape) < 0.05 + 0.3 * u**2
    frame = frame.mask(gone)
    # What is missing says something by itself in one column, as a question that was not answered does.
    frame["target"] = y + 2 * gone[:, 5] + rng.normal(scale=1.5, size=len(frame))
    return frame


def _mixed() -> pd.DataFrame:
    """8,000 rows, classes of 75, 20 and 5 %: numbers, categories and missing values together."""
    rng = np.random.default_rng(4)
    frame = _numbers(rng, 8000, 10)
    x = frame.to_numpy()
    score = x[:, 0] + np.sin(2 * x[:, 1]) + 0.5 * x[:, 2] * (x[:, 3] > 0)
    frame = frame.mask(rng.random(frame.shape) < 0.1)
    for i, levels in enumerate((4, 10, 30)):
        score = score + 0.5 * _add_category(frame, rng, f"c{i}_", levels)
    score = score + 0.8 * rng.normal(size=len(frame))
    names = np.array(["common", "seldom", "rare"])
    frame["target"] = names[np.searchsorted(np.quantile(score, (0.75, 0.95)), score)]
    return frame


TABLES = {
    "breast_cancer": MainTable(task="binary", metric="auc", make=_bundled("breast_cancer")),
    "wine": MainTable(task="multiclass", metric="logloss", make=_bundled("wine")),
    "digits": MainTable(task="multiclass", metric="logloss", make=_bundled("digits")),
    "diabetes": MainTable(task="regression", metric="rmse", make=_bundled("diabetes")),
    "imbalanced": MainTable(task="binary", metric="auc", make=_imbalanced),
    "categorical": MainTable(task="binary", metric="auc", make=_categorical),
    "missing": MainTable(task="regression", metric="rmse", make=_missing),
    "mixed": MainTable(task="multiclass", metric="logloss", make=_mixed),
}
