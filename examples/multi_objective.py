"""Several objectives: return one number for each, and read the trials that no other beats."""

from __future__ import annotations

from typing import Any

from flows import tune
from hpo_core import Float, Int


def quality_and_size(trial: Any) -> dict[str, float]:
    """A bigger network is better, up to a point, and costs more."""
    width, dropout = trial.params["width"], trial.params["dropout"]
    return {"accuracy": 1 - 1 / width - (dropout - 0.2) ** 2, "megabytes": 0.01 * width**1.5}


if __name__ == "__main__":
    result = tune(
        quality_and_size,
        space={"width": Int(2, 512, log=True), "dropout": Float(0.0, 0.8)},
        objectives={"accuracy": "max", "megabytes": "min"},
        strategy="nsga2",
        trials=40,
        workers=2,
        name="multi-objective",
    )
    for trial in sorted(result.study.pareto_front, key=lambda t: t.values["megabytes"]):
        print(f"{trial.values['megabytes']:8.3f} MB  {trial.values['accuracy']:.3f}  {trial.params}")
