"""Go on with a study, with the terms it was started with or with higher limits."""

from __future__ import annotations

import os
import time
from typing import Any

import typer

from flows._mlproject import is_project
from flows._plan import READY, Plan, Request, load_objective, plan_request
from flows._workspace import requeue_failed, study_folder
from flows.cli._find import experiment_of, find, opened, request_data, tracking_of
from flows.cli._tune import carry_out
from hpo_core import InputError, Study


def resume(name: str, *, as_json: bool, **terms: Any) -> int:
    """See ``hpo resume``; ``terms`` change the request, as ``offline`` and ``tracking_uri`` do."""
    if not (study_folder(name) / "journal.jsonl").exists():
        _fetch(name, terms.get("tracking_uri"), terms.get("experiment"))
    return carry_out(plan_of(find(name), **terms), as_json=as_json)


def _fetch(name: str, tracking_uri: str | None, experiment: str | None) -> None:
    """Bring the study here from MLflow, where that was named; else :func:`find` says what there is."""
    if not (tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")):
        return
    from tracking import connect_to_study, fetch_checkpoints, fetch_journal

    connection = connect_to_study(tracking_uri, name, experiment)
    if connection is None:
        return
    checkpoints = fetch_checkpoints(connection, fetch_journal(connection, name, study_folder(name)).parent)
    typer.echo(f"fetched study {name} and {len(checkpoints)} checkpoints from MLflow", err=True)


def extend(name: str, trials: int | None, timeout: float | None, *, as_json: bool, **terms: Any) -> int:
    """See ``hpo extend``."""
    if trials is None and timeout is None:
        raise InputError("extend needs a new limit: --trials N, or --timeout SECONDS")
    study = find(name)
    limits = study.state.limits
    for limit, new, old in (("trials", trials, limits.trials), ("timeout", timeout, limits.seconds)):
        if new is not None and old is None:
            raise InputError(f"study {name!r} has no limit on {limit} that could be raised to {new:g}")
        if new is not None and old is not None and new <= old:
            raise InputError(f"study {name!r} has {limit} {old:g} already; give more than that, got {new:g}")
    changes = {"trials": trials, "timeout": timeout}
    terms |= {k: v for k, v in changes.items() if v is not None}
    if study.enough() is not None:
        # Who asks for more of a study that has enough by its own rule has overruled the rule.
        terms["stop_when"] = "never"
    return carry_out(plan_of(study, **terms), as_json=as_json)


def retry(name: str, failed: bool, trials: list[int], *, as_json: bool, **terms: Any) -> int:
    """See ``hpo retry``."""
    if not failed and not trials:
        raise InputError("retry needs --failed, or --trial N")
    plan = plan_of(find(name), **terms)
    with opened(name) as study:
        count = requeue_failed(study, time.time(), wanted=lambda number: failed or number in trials)
    if not count:
        raise InputError(f"study {name!r} has no such trial that ended badly; `hpo show {name}` lists them")
    typer.echo(f"{count} trial{'s' if count > 1 else ''} will run once more", err=as_json)
    return carry_out(plan, as_json=as_json)


def plan_of(study: Study, **changes: Any) -> Plan:
    """The plan that started the study, some of it changed.

    Raises :class:`InputError` for a study that only Python can go on with.
    """
    data = request_data(study)
    if not data:
        raise InputError(f"study {study.name!r} does not say how it was started; call tune() with its name")
    objective = data["objective"]
    if objective not in READY and not is_project(objective):
        try:
            load_objective(objective)
        except InputError as error:
            raise InputError(
                f"the objective {objective!r} of study {study.name!r} cannot be loaded here ({error}); call "
                f"tune() again with name={study.name!r} where it is defined"
            ) from None
    limits = study.state.limits
    fields = {
        **data,
        "name": study.name,
        "trials": limits.trials,
        "timeout": limits.seconds,
        "stop_when": limits.improvement,
        "experiment": experiment_of(study),
        **changes,
        "tracking_uri": tracking_of(study, changes.get("tracking_uri")),
    }
    request = Request(**{k: v for k, v in fields.items() if k in Request.__dataclass_fields__})
    return plan_request(request, strategy=study.strategy, objectives=study.objectives)
