"""Go on with a study that is there: its plan from its journal, higher limits, trials to run once more."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flows._experiment import check_experiment
from flows._find import experiment_of, opened, tracking_of
from flows._frames import whereabouts
from flows._mlproject import is_project
from flows._named import READY, load_objective
from flows._notes import PLACE, newest, request_data
from flows._plan import Plan, plan_request
from flows._request import RULES, TOTALS, Request
from flows._workspace import requeue_failed, study_folder
from hpo_core import InputError, Study
from hpo_core.inner import JOURNAL, read_created


def fetched(name: str, tracking_uri: str | None, experiment: str | None = None) -> str:
    """Bring a study that is not here from MLflow, where that was named; a line for the user if there was one.

    Of several of the name it is the one whose run MLFLOW_RUN_ID names, else the newest. Raises
    :class:`StudyLockedError` while a driver elsewhere holds it.
    """
    if read_created(study_folder(name) / JOURNAL) is not None:
        return ""
    if not (tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")):
        return ""
    from tracking import connect_to_study, fetch_checkpoints, fetch_journal, which_study

    run = os.environ.get("MLFLOW_RUN_ID")
    connection = connect_to_study(tracking_uri, name, experiment, run)
    if connection is None:
        return ""
    journal = fetch_journal(connection, name, study_folder(name), to_drive=True, run=run)
    checkpoints = fetch_checkpoints(connection, journal.parent)
    if checkpoints.missing:
        with opened(name) as study:
            for trial, step in checkpoints.missing:
                study.execution.dropped_checkpoint(trial, step, now=time.time())
            for trial, step, place in checkpoints.older:
                size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
                study.execution.checkpointed(trial, step, str(place), size, now=time.time())
    which = which_study(connection, name, run)
    remedy = "; if another one is meant, delete the folder of this one and set MLFLOW_RUN_ID to its run"
    return (
        f"fetched study {name} and {len(checkpoints.files)} checkpoints from MLflow"
        f"{which and f', {which}{remedy}'}"
    )


def plan_of(study: Study, **changes: Any) -> Plan:
    """The plan that started the study, some of it changed.

    Raises :class:`InputError` for a study that only Python can go on with.
    """
    return plan_request(request_of(study, **changes), strategy=study.strategy, objectives=study.objectives)


def request_of(study: Study, *, remedy: str | None = None, **changes: Any) -> Request:
    """The request that the study goes back to, some of it changed.

    Raises :class:`InputError` for an objective that cannot be loaded by its name; ``remedy`` says what to do
    then. An empty one says that the function is at hand.
    """
    data = request_data(study.created.meta)
    if not data:
        raise InputError(f"study {study.name!r} does not say how it was started; call tune() with its name")
    data |= newest(study, PLACE)
    objective = data["objective"]
    if remedy is None:
        remedy = f"call tune() again with name={study.name!r} where it is defined"
        file, _, function = objective.rpartition(":")
        if file.endswith(".py"):
            found = f"FOLDER/{Path(file).name}:{function}"
            remedy = (
                f"if it was moved, `hpo tune {found} --name {shlex.quote(study.name)}` goes on with it there"
            )
    if remedy and objective not in READY and not is_project(objective):
        try:
            load_objective(objective)
        except InputError as error:
            raise InputError(
                f"the objective {objective!r} of study {study.name!r} cannot be loaded here ({error}); "
                f"{remedy}"
            ) from None
    limits, settings = study.state.limits, study.state.settings
    asked = changes.get("tracking_uri")
    # Where nobody said how many folds: as many as there were, whatever is usual by now.
    folds = (study.created.meta.get("summary") or {}).get("folds")
    fields = {
        **data,
        "options": {**({"folds": folds} if folds else {}), **(data.get("options") or {})},
        "data": whereabouts(data.get("data")),
        "name": study.name,
        **{name: getattr(limits, limit) for name, limit in TOTALS.items()},
        "stop_when": limits.improvement,
        # Python may have said them beside the request, too.
        **{name: getattr(settings, name) for name in (*RULES, "deterministic")},
        "outcome_constraints": settings.outcome_constraints,
        "experiment": experiment_of(study),
        **changes,
        "tracking_uri": asked if changes.get("offline") else tracking_of(study, asked),
    }
    return Request(**{k: v for k, v in fields.items() if k in Request.__dataclass_fields__})


def raised(study: Study, totals: Mapping[str, float | None]) -> dict[str, Any]:
    """The changes for :func:`plan_of` that raise the study's limits; lower ones take nothing back.

    ``totals``: new ones by what a request calls them, ``None`` for those that stay. Raises
    :class:`InputError` for a limit that the study does not have.
    """
    changes: dict[str, Any] = {name: new for name, new in totals.items() if new is not None}
    for name, new in changes.items():
        if limit_of(study, name) is None:
            raise InputError(f"study {study.name!r} has no limit on {name} that could be raised to {new:g}")
    if changes and study.execution.enough() is not None:
        # Who asks for more of a study that has enough by its own rule has overruled the rule.
        changes["stop_when"] = "never"
    return changes


def limit_of(study: Study, name: str) -> float | None:
    """The study's limit that a request calls ``name``."""
    limit: float | None = getattr(study.state.limits, TOTALS[name])
    return limit


def run_again(plan: Plan, *, wanted: Callable[[int], bool]) -> int:
    """Queue the trials of the plan's study that ended badly and are wanted; how many those are."""
    with opened(plan.terms.name) as study:
        check_experiment(plan.tracking, study)
        return requeue_failed(study, time.time(), wanted=wanted)
