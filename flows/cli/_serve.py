"""Serve the deployments; run by ``hpo up`` in a process of its own."""

from __future__ import annotations

from prefect import serve
from prefect.deployments.runner import EntrypointType, RunnerDeployment

from flows._flow import resume_flow, tune_flow
from flows._named import READY

_ABOUT = {
    "lgbm": "Tune a LightGBM model on a table",
    "sklearn": "Tune a scikit-learn estimator or pipeline on a table",
    "torch": "Tune a neural network on a table",
}


def main() -> None:
    """Serve the deployments until the process ends."""
    serve(*deployments())


def deployments() -> list[RunnerDeployment]:
    """``tune/`` each ready objective, ``tune/function`` and ``resume/study``.

    Of schedules they say nothing: to say that there are none would take away those that users have made on
    Prefect's pages, each time that they are served.
    """
    ready = [
        tune_flow.to_deployment(
            name,
            description=_ABOUT[name],
            parameters={"objective": name, "data": "sklearn:breast_cancer"},
            tags=["hpo"],
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        for name in READY
    ]
    own = tune_flow.to_deployment(
        "function",
        description="Tune a function of yours, or an MLflow project: say which as the objective",
        tags=["hpo"],
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    going_on = resume_flow.to_deployment(
        "study",
        description="Go on with a study: resume it, extend it, or run again what failed",
        tags=["hpo"],
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    served = [going_on, own, *ready]
    for deployment in served:
        deployment.model_fields_set.discard("schedules")
    return served
