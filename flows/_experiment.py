"""Where in MLflow a study is shown: the server, the experiment, the run that it is shown below."""

from __future__ import annotations

import time
from dataclasses import dataclass

from flows._notes import TRACKING, newest, run_in
from hpo_core import InputError, Study
from tracking import connect, probe, users_variable
from tracking.tags import PARENT_RUN_ID


@dataclass(frozen=True, kw_only=True)
class TrackingTerms:
    """Where the study is shown.

    ``adopt_run``: a run to use as the study's own. ``below``: a run of the caller's, to show it below.
    ``checkpoints``: which are uploaded, see :class:`tracking.TrackerOptions`.
    """

    uri: str | None = None
    experiment: str | None = None
    adopt_run: str | None = None
    below: str | None = None
    offline: bool = False
    checkpoints: str = "best"


def check_tracking(tracking: TrackingTerms) -> str | None:
    """Where the study will be tracked; ``None`` when offline.

    Raises :class:`InputError` when the tracking server does not answer; nothing is created then.
    """
    return None if tracking.offline else probe(tracking.uri)


def check_experiment(tracking: TrackingTerms, study: Study) -> None:
    """Raise :class:`InputError` where a study that was shown already cannot be shown there any more, as in an
    experiment that was deleted, before anything of the study is changed.
    """
    experiment = tracking.experiment or newest(study, TRACKING).get("experiment")
    if experiment is not None and not tracking.offline:
        connect(tracking.uri, experiment, run_in(study, experiment))


def settle_experiment(tracking: TrackingTerms, adopt: str | None, study: Study) -> str:
    """Where a session shows the study; noted in it if that is below the caller's run.

    It is the one asked for, that which has the study, that of the caller's run, that of the run to
    ``adopt``, the environment's, or the study's name. MLflow nests runs of one experiment only.
    """
    above = None if adopt else _experiment_above(tracking)
    shown = newest(study, TRACKING)
    asked: str | None = tracking.experiment or shown.get("experiment") or above
    experiment = asked or _experiment_around(tracking, adopt) or study.name
    over = study.stopped is not None and not study.stopped.resumable
    if experiment == above and not over and shown.get("run_id") != tracking.below:
        study.note("tags", {"tags": {PARENT_RUN_ID: tracking.below}}, now=time.time())
    return experiment


def _experiment_around(tracking: TrackingTerms, adopt: str | None) -> str | None:
    """That of the run to adopt, else what the environment says.

    Raises :class:`InputError` where the server does not have it.
    """
    experiment_id = users_variable("MLFLOW_EXPERIMENT_ID")
    if tracking.offline or not (adopt or experiment_id):
        return users_variable("MLFLOW_EXPERIMENT_NAME")
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


def _experiment_above(tracking: TrackingTerms) -> str | None:
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
