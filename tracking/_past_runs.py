"""The runs of an MLflow experiment as results for a new study, whoever logged them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo_core import InputError, TrialState
from hpo_core.inner import OutcomeConstraint, nearest
from hpo_core.warm_start import Outcome, Past, unjudged
from tracking import _sqlite
from tracking._board import bounds_of, parsed
from tracking._connection import Connection, probe, unusable
from tracking._errors import brief
from tracking._text import safe_key
from tracking.tags import OBJECTIVES, PARAMS, PARENT_RUN_ID, ROLE, STATE, UID

if TYPE_CHECKING:
    from mlflow.entities import Run

_STATES = {
    "FINISHED": TrialState.COMPLETE,
    "FAILED": TrialState.FAILED,
    "KILLED": TrialState.CANCELLED,
}


def past_runs(
    tracking_uri: str | None,
    experiment: str,
    *,
    params: Mapping[str, str] | None = None,
    metrics: Mapping[str, str] | None = None,
) -> Past:
    """The active runs of an experiment: parameters, and each metric's last value.

    Runs of trials count by their trial's state and exact configuration; runs that stand for a whole study, or
    for one repeat of a trial, do not count, but a study's says which way its objectives are better.
    ``params`` and ``metrics``: see :class:`~hpo_core.warm_start.Past`.

    Raises :class:`InputError` when the server does not answer or has no such experiment; makes nothing.
    """
    connection = _open(tracking_uri, experiment)
    try:
        runs = list(connection.runs(""))
        studies = [run for run in runs if _role(run) == "study"]
        bounds = {run.info.run_id: bounds_of(run.data.tags) for run in studies}
        outcomes = [
            _outcome(run, bounds.get(run.data.tags.get(PARENT_RUN_ID, ""), []))
            for run in runs
            if _role(run) not in ("study", "repeat")
        ]
    except Exception as error:
        raise unusable(connection.uri, brief(error)) from error
    return Past(
        source=f"mlflow:{experiment}",
        outcomes=outcomes,
        directions=_directions(studies),
        params=dict(params or {}),
        metrics=dict(metrics or {}),
    )


def _open(tracking_uri: str | None, experiment: str) -> Connection:
    uri = probe(tracking_uri, to_write=False)
    path: Path | None = _sqlite.database_file(uri)
    if path is not None and not path.exists():
        raise InputError(f"there is no experiment {experiment!r}: the database {path} does not exist")
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    try:
        found = client.get_experiment_by_name(experiment)
        known = [] if found is not None else [e.name for e in client.search_experiments()]
    except Exception as error:
        raise unusable(uri, brief(error)) from error
    if found is None or found.lifecycle_stage != "active":
        what = "is deleted" if found is not None else "does not exist"
        raise InputError(f"the experiment {experiment!r} {what} on {uri}{nearest(experiment, known)}")
    return Connection(client, uri, found.experiment_id, path)


def _directions(studies: list[Run]) -> dict[str, str]:
    """Of the objectives on which all of the studies agree; one under another name in MLflow is not known."""
    ways: dict[str, set[str]] = {}
    for run in studies:
        for name, way in parsed(run.data.tags.get(OBJECTIVES)).items():
            ways.setdefault(name, set()).add(way)
    return {name: way.pop() for name, way in ways.items() if len(way) == 1 and safe_key(name) == name}


def _role(run: Run) -> str | None:
    role: str | None = run.data.tags.get(ROLE)
    return role


def _outcome(run: Run, bounds: list[str]) -> Outcome:
    """``bounds``: on outcomes, of the study whose trial it is."""
    tags, metrics = run.data.tags, dict(run.data.metrics)
    exact: dict[str, Any] = parsed(tags.get(PARAMS))
    label = tags.get(STATE)
    state = _STATES.get(run.info.status, TrialState.RUNNING) if label is None else TrialState.of(label)
    return Outcome(
        key=tags.get(UID) or f"run:{run.info.run_id}",
        params=exact or dict(run.data.params),
        values=metrics,
        state=unjudged(state, metrics, map(OutcomeConstraint.of, bounds)),
        text=not exact,
    )
