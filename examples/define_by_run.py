"""Define-by-run: the objective asks for its parameters as it goes, and the space grows out of that.

What is not asked for is inactive: it is not in the trial's parameters, and not in MLflow.
"""

from __future__ import annotations

from typing import Any

from flows import tune


def loss(trial: Any) -> float:
    """Each branch has parameters of its own."""
    x = trial.suggest_float("x", -5.0, 5.0)
    if trial.suggest_categorical("model", ["tree", "forest"]) == "tree":
        return (x - 1) ** 2 + trial.suggest_int("depth", 1, 8) / 8
    trees = trial.suggest_int("trees", 10, 1000, log=True)
    return (x + 2) ** 2 + 1 / trees


if __name__ == "__main__":
    result = tune(loss, trials=30, workers=2, strategy="tpe", name="define-by-run")
    print("best", result.best.values, "with", result.best.params)
    print("the space as it was found:", ", ".join(result.study.space.names))
