"""Where in MLflow a study is shown: the server, the experiment, the run that it is shown below."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from flows._notes import TRACKING, newest
from hpo_core import InputError, Study
from tracking import probe


@dataclass(frozen=True, kw_only=True)
class TrackingTerms:
    """Where the study is shown.

    ``adopt_run``: a run to use as the study's own. ``below``: a run of the caller's, to show it below.
    """

    uri: str | None = None
    experiment: str | None = None
    adopt_run: str | None = None
    below: str | None = None
    offline: bool = False


def check_tracking(tracking: TrackingTerms) -> str | None:
    """Where the study will be tracked; ``None`` when offline.

    Raises :class:`InputError` when the tracking server does not answer; nothing is created then.
    """
    return None if tracking.offline else probe(tracking.uri)


def experiment_of_session(tracking: TrackingTerms, adopt: str | None, above: str | None, study: Study) -> str:
    """The one asked for, that which has the study, that of the run to show it below (``above``) or to
    adopt, the environment's, the name.
    """
    shown = newest(study, TRACKING).get("experiment")
    if tracking.experiment or shown:
        return str(tracking.experiment or shown)
    if above:
        return above
    experiment_id = os.environ.get("MLFLOW_EXPERIMENT_ID")
    if (adopt or experiment_id) and not tracking.offline:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        client = MlflowClient(tracking.uri)
        try:
            experiment_id = client.get_run(adopt).info.experiment_id if adopt else experiment_id
            return str(client.get_experiment(experiment_id).name)
        except MlflowException as error:
            variable = "MLFLOW_RUN_ID" if adopt else "MLFLOW_EXPERIMENT_ID"
            raise InputError(
                f"{variable}={adopt or experiment_id} cannot be used ({error}); unset it, or point the "
                "tracking URI to the server that has it"
            ) from None
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or study.name


def experiment_above(tracking: TrackingTerms) -> str | None:
    """The experiment of the caller's run; ``None`` when it cannot be had: it is for looks only."""
    if tracking.below is None or tracking.offline:
        return None
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient(tracking.uri)
    try:
        return str(client.get_experiment(client.get_run(tracking.below).info.experiment_id).name)
    except MlflowException:
        return None


def put_below(run_id: str, study: Study) -> None:
    """Note for the study's run that it is to be shown below the caller's; MLflow nests in one experiment."""
    over = study.stopped is not None and not study.stopped.resumable
    if not over and newest(study, TRACKING).get("run_id") != run_id:
        study.note("tags", {"tags": {"mlflow.parentRunId": run_id}}, now=time.time())
