"""Begin with what is known: runs that somebody logged to MLflow by hand count as evidence.

Names that differ are mapped; what the runs have beyond the objective's parameters is ignored. On the command
line: ``--warm-start "mlflow:by-hand?loss=val_loss&x=x0"``.
"""

from __future__ import annotations

from typing import Any

import mlflow

from flows import from_mlflow, tune


def loss(trial: Any) -> float:
    """Best at x = 0.7 with the kind ``b``."""
    x = trial.suggest_float("x", 0.0, 1.0)
    return abs(x - 0.7) + (0.0 if trial.suggest_categorical("kind", ["a", "b"]) == "b" else 0.5)


def by_hand() -> None:
    """What a notebook of last month left behind."""
    if mlflow.get_experiment_by_name("by-hand") is not None:
        return
    experiment = mlflow.create_experiment("by-hand")
    for i in range(20):
        kind, x = "ab"[i % 2], i / 20
        with mlflow.start_run(experiment_id=experiment):
            mlflow.log_params({"x0": x, "kind": kind, "author": "me"})
            mlflow.log_metric("val_loss", abs(x - 0.7) + (0.0 if kind == "b" else 0.5))


if __name__ == "__main__":
    by_hand()
    known = from_mlflow("by-hand", params={"x": "x0"}, metrics={"loss": "val_loss"})
    result = tune(loss, warm_start=known, trials=8, workers=2, strategy="tpe", name="warm-start")
    # The first trial tells what the objective asks for, and the others know the runs.
    near = sum(abs(t.params["x"] - 0.7) < 0.2 and t.params["kind"] == "b" for t in result.study.trials)
    print(f"{near} of 8 trials are near the best; {result.best.params}")
