"""A first study: a declared space, twenty trials, two at a time.

    python examples/first_study.py
    mlflow server --app-name hpo --backend-store-uri sqlite:///mlflow.db     # then /hpo

Run it again: the study is finished, so nothing runs. Raise ``trials`` and it goes on.
"""

from __future__ import annotations

from typing import Any

from flows import tune
from hpo_core import Categorical, Float, Int

SPACE = {
    "rate": Float(1e-4, 1.0, log=True),
    "layers": Int(1, 5),
    "kind": Categorical(["plain", "residual"]),
}


def loss(trial: Any) -> float:
    """Stands for a training: any function that returns a number to make small."""
    p = trial.params
    depth = p["layers"] - (3 if p["kind"] == "residual" else 2)
    return (p["rate"] - 0.03) ** 2 + 0.1 * depth**2


if __name__ == "__main__":
    result = tune(loss, space=SPACE, trials=20, workers=2, name="first-study")
    print("best", result.best.values, "with", result.best.params)
