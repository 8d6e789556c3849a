"""Plain MLflow inside an objective: the trial's nested run is the active run, whatever runs beside it."""

from __future__ import annotations

from typing import Any

import mlflow

from flows import tune
from hpo_core import Float


def loss(trial: Any) -> float:
    """Tags, further metrics, files and models land in this trial's run."""
    x = trial.params["x"]
    mlflow.set_tag("author", "me")
    mlflow.log_metric("distance", abs(x - 0.3))
    mlflow.log_text(f"x was {x}", "notes.txt")
    for step in trial.steps(3):
        trial.report(step, loss=(x - 0.3) ** 2 + 1 / step)
    return float((x - 0.3) ** 2)


if __name__ == "__main__":
    result = tune(loss, space={"x": Float(0.0, 1.0)}, trials=6, workers=2, name="custom-logging")
    best = mlflow.search_runs(
        experiment_names=["custom-logging"],
        filter_string=f"tags.`hpo.trial` = '{result.best.number}'",
    )
    print(best[["run_id", "metrics.loss", "metrics.distance", "tags.author"]].to_string(index=False))
