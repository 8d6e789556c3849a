"""``hpo promote``: from a trial to a registered version under an alias, through a gate, and back."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import typer

from flows import _final
from flows._again import plan_of
from flows._find import experiment_of, find, opened, tracker_of, tracking_of, trial_of
from flows._named import READY
from flows._notes import FINAL_MODEL, PROMOTION, newest, request_data, run_in
from flows._plan import Plan
from flows._session import Session
from flows._workspace import study_folder
from hpo_core import HpoError, InputError, Study, TrialRecord, TrialState
from hpo_core.folds import fold_results, repeats_of
from hpo_core.inner import nearest
from tracking import (
    Candidate,
    Gate,
    LoggedModel,
    Promotion,
    check_registered,
    connect_to_study,
    find_trial_model,
    probe,
    version_note,
)
from tracking import promote as through_gate
from tracking import roll_back as give_back

_DELIVER_SECONDS = 60.0
_GATES = ("margin", "folds")


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the user asked for; ``None`` is for the study to say."""

    study: str
    trial: int | None
    model: str | None
    alias: str
    metric: str | None
    margin: float
    gate: str
    level: float
    dry_run: bool


def promote(wish: Wish, *, as_json: bool, tracking_uri: str | None) -> int:
    """See ``hpo promote``."""
    study = find(wish.study)
    uri = tracking_of(study, tracking_uri)
    if wish.gate not in _GATES:
        raise InputError(
            f"gate must be one of {', '.join(_GATES)}, got {wish.gate!r}{nearest(wish.gate, _GATES)}"
        )
    # Refuses a margin or a level that is none before anything is made.
    Gate(metric="", margin=wish.margin, level=wish.level)
    trial = _trial(study, wish.trial)
    request = request_data(study.created.meta)
    ready = request.get("objective") in READY
    if ready and (confirmed := request.get("confirms")):
        raise InputError(
            f"study {study.name!r} confirms trials of {confirmed!r} and makes no models; promote those: "
            f"hpo promote {shlex.quote(confirmed)}"
        )
    plan = plan_of(study, tracking_uri=uri) if ready else None
    registration = _final.Registration(
        name=_checked_model(study, wish),
        alias=wish.alias,
        metric=wish.metric,
        margin=wish.margin,
        folds=wish.gate == "folds",
        level=wish.level,
        dry_run=wish.dry_run,
    )
    with _shown(wish.study, uri) as current:
        if plan is not None:
            promotion = _promote_ready(current, plan, trial, registration)
        else:
            promotion = _promote_logged(current, trial, registration)
        if not wish.dry_run:
            note = {"trial": trial.number, **_final.outcome_of(promotion)}
            current.study.note(PROMOTION, note, now=time.time())
    return _say(promotion, as_json=as_json)


def has_model(study: Study, trial: int, tracking_uri: str | None) -> bool:
    """Whether there is, or can be made, a model of the trial to promote, as far as MLflow answers."""
    request = request_data(study.created.meta)
    if request.get("objective") in READY:
        return not request.get("confirms")
    with suppress(HpoError):
        experiment = experiment_of(study)
        run = run_in(study, experiment)
        connection = connect_to_study(tracking_of(study, tracking_uri), study.name, experiment, run)
        return bool(connection and find_trial_model(connection, study.created.study_id, trial))
    return False


def roll_back(wish: Wish, *, as_json: bool, tracking_uri: str | None) -> int:
    """See ``hpo promote --rollback``."""
    from tracking import connect

    study = find(wish.study)
    uri = tracking_of(study, tracking_uri)
    name = _checked_model(study, wish)
    if wish.dry_run:
        raise InputError("--rollback has no dry run; promoting the version again takes it back")
    probe(uri)
    experiment = experiment_of(study)
    connection = connect(uri, experiment, run_in(study, experiment))
    return _say(give_back(connection, name=name, alias=wish.alias), as_json=as_json)


def _say(promotion: Promotion, *, as_json: bool) -> int:
    outcome = {**_final.outcome_of(promotion), "reason": promotion.reason}
    typer.echo(json.dumps(outcome) if as_json else outcome["model"])
    return 0 if promotion.promoted else 1


def _trial(study: Study, number: int | None) -> TrialRecord:
    if number is None:
        if not study.history.count(TrialState.COMPLETE):
            raise InputError(f"study {study.name!r} has no complete trial to promote")
        return study.best
    trial = trial_of(study, number)
    if trial.state is not TrialState.COMPLETE:
        label = trial.state.label.replace("_", " ")
        raise InputError(f"trial {number} is {label}; only a complete trial can be promoted")
    return trial


def _model_name(study: Study, given: str | None) -> str:
    noted = newest(study, PROMOTION).get("name") or newest(study, FINAL_MODEL).get("name")
    return str(given or noted or request_data(study.created.meta).get("register_as") or study.name)


def _checked_model(study: Study, wish: Wish) -> str:
    """The registered model's name, before anything is made. Raises :class:`InputError` for none."""
    name = _model_name(study, wish.model)
    check_registered(name, wish.alias)
    return name


@contextmanager
def _shown(name: str, tracking_uri: str | None) -> Iterator[Session]:
    """The study opened for writing, and MLflow following it."""
    probe(tracking_uri)
    with opened(name) as study:
        tracker = tracker_of(study, tracking_uri)
        parent = tracker.start()
        try:
            yield Session(
                study=study, folder=study_folder(name), resumed=True, tracker=tracker, parent_run=parent
            )
            tracker.notify()
        finally:
            tracker.close(_DELIVER_SECONDS)


def _promote_ready(
    current: Session, plan: Plan, trial: TrialRecord, registration: _final.Registration
) -> Promotion:
    """The trial's final model, made now unless it was made before."""
    study, connection = current.study, current.tracker.connection
    note = _final.known(current, trial)
    if "model_uri" not in note:
        final = _final.fitted(study, plan, trial)
        note = _final.described(trial, final)
        if not registration.dry_run:
            note |= _final.logged(current, trial, final)
            study.note(FINAL_MODEL, note, now=time.time())
    return _final.register(study, connection, plan, note, registration)


def _promote_logged(current: Session, trial: TrialRecord, registration: _final.Registration) -> Promotion:
    """The model that the objective logged in the trial's run; its scores are the trial's own."""
    study, connection = current.study, current.tracker.connection
    scores = {**trial.metrics, **trial.values}
    metric = registration.metric or next(iter(study.objectives))
    if metric not in study.objectives:
        raise InputError(
            f"the gate's metric must be one of {', '.join(study.objectives)}, got {metric!r}"
            f"{nearest(metric, study.objectives)}"
        )
    candidate = Candidate(
        model=_logged_model(current, trial),
        scores=scores,
        # Scores of one study are measured alike; those of two studies cannot be known to be.
        data_digest=study.created.study_id,
        lineage=_final.lineage_of(study, trial),
        description=version_note(study.name, trial.number, trial.values, trial.params),
        folds=fold_results(study, trial.number, metric),
        folds_digest=f"{study.created.study_id}:{metric}",
        seeds=repeats_of(study) > 1,
    )
    return through_gate(
        connection,
        candidate,
        name=registration.name,
        gate=registration.gate(metric, study.objectives[metric]),
        alias=registration.alias,
        dry_run=registration.dry_run,
    )


def _logged_model(current: Session, trial: TrialRecord) -> LoggedModel:
    study_id = current.study.created.study_id
    found = find_trial_model(current.tracker.connection, study_id, trial.number)
    if found is None:
        raise InputError(
            f"trial {trial.number} logged no model; call trial.log_model(model) in the objective (in an "
            "MLflow project, log_model of MLflow's), or promote a trial that did"
        )
    return found
