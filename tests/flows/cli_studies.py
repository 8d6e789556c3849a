"""What the tests of the command line run, and what MLflow has of it."""

from __future__ import annotations

from typing import Any

from tests.flows.conftest import Place

OBJECTIVES = '''
"""Objectives of the tests, in a file as a user writes it."""

from pathlib import Path


def loss(trial):
    x = trial.suggest_float("x", -5.0, 5.0)
    y = trial.suggest_int("y", 1, 3)
    return x**2 + y


def fragile(trial):
    x = trial.suggest_float("x", 0.0, 1.0)
    if trial.number == 1 and not Path("mended").exists():
        raise ValueError("the first line\\nand the second")
    return {2: float("nan"), 3: float("inf")}.get(trial.number, x)


def hopeless(trial):
    raise RuntimeError("never works")


def both(trial):
    x = trial.suggest_float("x", 0.0, 1.0)
    return {"size": x, "speed": x * x}


both.objectives = {"size": "min", "speed": "max"}


def stepped(trial):
    x = trial.suggest_float("x", 0.0, 1.0)
    for step in trial.steps(3):
        trial.report(step, loss=x)


def slow(trial):
    x = trial.suggest_float("x", 0.0, 1.0)
    return {"loss": x, "ms": 10 * x}


def talks(trial):
    print("talks to standard output")
    return trial.suggest_float("x", 0.0, 1.0)


print("loaded")
'''


def runs(place: Place, study: str = "mine") -> list[Any]:
    """The study's runs in MLflow, its own first."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{place.database}")
    experiment = client.get_experiment_by_name(study)
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    return sorted(found, key=lambda run: int(run.data.tags.get("hpo.trial", -1)))
