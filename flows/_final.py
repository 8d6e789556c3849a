"""Final models: refit a trial's configuration, score it once on held-out rows, log, register, alias."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import math
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from flows._notes import FINAL_MODEL, final_model, identity_of, newest
from flows._plan import Plan
from flows._session import Session
from flows.objectives import FinalModel, TableObjective, TrialInfo
from hpo_core import InputError, Study, TrialRecord
from hpo_core.folds import fold_results
from hpo_core.inner import trial_seed
from hpo_core.schedules import Recorded, followed
from tracking import (
    Candidate,
    Connection,
    Gate,
    LoggedModel,
    NotComparable,
    Promotion,
    TrackingError,
    brief,
    config_sha256,
    find_model,
    is_logged,
    is_registered,
    load_own_model,
    log_model,
    promote,
    version_note,
)
from tracking.tags import CONFIG_SHA256, OBJECTIVE, OPTIONS, PARAMS, PARENT_TRIAL, STUDY, STUDY_ID, TRIAL

_RUN_ID_SECONDS = 60.0
# Tells the final model of a trial from those that its objective may have logged.
_FINAL = {"hpo.final": "true"}
_CONTRACT = "model_contract.json"
_SCHEDULE = "schedule.json"  # hpo_core.schedules.Recorded.from_json reads it


@dataclass(frozen=True, kw_only=True)
class Registration:
    """Where a model is to be registered, and what it must beat to get the alias."""

    name: str
    alias: str = "champion"
    metric: str | None = None
    margin: float = 0.0
    folds: bool = False
    level: float = 0.05
    dry_run: bool = False

    def gate(self, metric: str, direction: str) -> Gate:
        """What it must pass."""
        return Gate(
            metric=metric, direction=direction, margin=self.margin, folds=self.folds, level=self.level
        )


def is_made(study: Study, register_as: str | None) -> bool:
    """Whether the study's present best trial has a final model, under that name if one is asked for."""
    made = final_model(study)
    return bool(made) and register_as in (None, made.get("name"))


def is_kept(current: Session, register_as: str | None) -> bool:
    """Whether it is made, and the registry has not lost it since: what is there may be deleted by hand."""
    if not is_made(current.study, register_as) or register_as is None or current.parent_run is None:
        return is_made(current.study, register_as)
    made = final_model(current.study)
    return is_registered(current.tracker.connection, name=register_as, version=made["version"])


async def make_final_model(current: Session, plan: Plan) -> None:
    """Make the model of the study's best trial; repeating it after a crash changes nothing."""
    best = current.study.best
    try:
        await asyncio.to_thread(_make_and_register, current, plan, best)
    except TrackingError as error:
        raise TrackingError(
            f"all trials of the study have ended, but its final model is not made: {error}; the same command "
            "again makes it"
        ) from error
    current.tracker.notify()


def _make_and_register(current: Session, plan: Plan, trial: TrialRecord) -> None:
    note = known(current, trial)
    if "model_uri" not in note:
        final = fitted(current.study, plan, trial)
        note = described(trial, final)
        if current.parent_run is not None:
            note |= logged(current, trial, final)
            _show_scores(current, final)
        # Before it is registered: whoever goes on after a crash registers this one, not another.
        current.study.note(FINAL_MODEL, note, now=current.now())
    if current.parent_run is not None and plan.register_as is not None:
        registration = Registration(name=plan.register_as)
        promotion = register(current.study, current.tracker.connection, plan, note, registration)
        current.study.note(FINAL_MODEL, {**note, **outcome_of(promotion)}, now=current.now())


def known(current: Session, trial: TrialRecord) -> dict[str, Any]:
    """The note on the trial's final model; empty where there is none, or MLflow has that model no more."""
    note = newest(current.study, FINAL_MODEL, trial=trial.number)
    uri = note.get("model_uri")
    if uri is None or current.parent_run is None:
        return note
    return note if is_logged(current.tracker.connection, uri.removeprefix("models:/")) else {}


def fitted(study: Study, plan: Plan, trial: TrialRecord) -> FinalModel:
    """The trial's configuration trained on all training rows and scored on the test rows.

    A model that came about by forks is trained along their way: the last configuration alone may be one that
    training cannot begin with.
    """
    info = TrialInfo(
        seed=trial_seed(study.created.seed, trial.number),
        number=trial.number,
        metrics={**study.history.reports.last(trial.number), **trial.metrics},
        followed=_way(study, trial),
    )
    model: FinalModel = plan.table.finalise(trial.params, info)
    return model


def _way(study: Study, trial: TrialRecord) -> Recorded | None:
    """The schedule that the trial's model came about by, if that began as another trial's."""
    return None if trial.parent is None else followed(study, trial.number)


def described(trial: TrialRecord, final: FinalModel) -> dict[str, Any]:
    """What the journal keeps of a final model."""
    scores = {name: float(value) for name, value in final.scores.items() if math.isfinite(value)}
    return {"trial": trial.number, "scores": scores, "metric": final.metric, "params": final.params}


def logged(current: Session, trial: TrialRecord, final: FinalModel) -> dict[str, Any]:
    """Log the model to the trial's run; returns where it is, for the note."""
    connection = current.tracker.connection
    run_id = current.tracker.run_id(trial.number, _RUN_ID_SECONDS)
    # One that a driver logged which ended before it could journal that; it is the same to the last digit.
    model = find_model(connection, run_id, _FINAL) or log_model(
        run_id,
        final.model,
        connection=connection,
        flavor=final.flavor,
        pip_requirements=final.requirements,
        signature=_signature(final),
        input_example=final.example,
        tags=_FINAL,
        **final.log_options,
    )
    connection.client.log_dict(run_id, final.contract, _CONTRACT)
    way = _way(current.study, trial)
    if way is not None:
        connection.client.log_dict(run_id, way.to_json(), _SCHEDULE)
    if current.parent_run is not None:
        _show_model(connection, current.parent_run, model.model_id)
    return {"model_uri": model.uri, "run_id": run_id}


def _show_model(connection: Connection, parent: str, model_id: str) -> None:
    """List the model, and the versions registered from it, on the study's run as well."""
    from mlflow.entities import LoggedModelOutput

    outputs = connection.client.get_run(parent).outputs
    if model_id not in {model.model_id for model in (outputs.model_outputs if outputs else ())}:
        connection.client.log_outputs(parent, models=[LoggedModelOutput(model_id, step=0)])


def _signature(final: FinalModel) -> Any:
    """What the model takes and returns: each column, whatever the example's few rows have in it or lack."""
    from mlflow.models import infer_signature
    from mlflow.types import ColSpec, DataType, Schema

    with warnings.catch_warnings():
        # Columns of whole numbers stay such: MLflow suggests doubles, and then refuses an int64 for one.
        warnings.filterwarnings("ignore", ".*Inferred schema contains integer column")
        signature = infer_signature(final.example, final.example_output)
    text = final.contract["categories"]
    # MLflow takes a column with a gap for one that may be left out, and one without any value for any kind.
    signature.inputs = Schema(
        [ColSpec(DataType.string if c.name in text else c.type, c.name) for c in signature.inputs]
    )
    return signature


def _show_scores(current: Session, final: FinalModel) -> None:
    """The best model's scores and what it looks at, on the study's run."""
    client = current.tracker.connection.client
    assert current.parent_run is not None
    for name, value in final.scores.items():
        client.log_metric(current.parent_run, f"test_{name}", value)
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "feature_importance.csv"
        final.importance.to_csv(table, index=False)
        client.log_artifact(current.parent_run, str(table))


# -- the registry ------------------------------------------------------------------------------


def register(
    study: Study, connection: Connection, plan: Plan, note: Mapping[str, Any], wanted: Registration
) -> Promotion:
    """Register the noted model of a ready objective through the gate."""
    from flows.objectives._metrics import get_metric

    metric = wanted.metric or note["metric"]
    if metric not in note["scores"]:
        raise InputError(f"the gate's metric must be one of {', '.join(note['scores'])}, got {metric!r}")
    if wanted.folds and metric not in study.objectives:
        raise InputError(f"folds have the tuned metric only, {', '.join(study.objectives)}; got {metric!r}")
    direction = get_metric(metric, plan.terms.meta["summary"]["task"]).direction
    trial = study.trials[note["trial"]]
    model_id = str(note.get("model_uri", "")).removeprefix("models:/")
    candidate = Candidate(
        model=LoggedModel(model_id, str(note.get("run_id", ""))),
        scores=note["scores"],
        data_digest=plan.terms.identity["question"],
        lineage={**lineage_of(study, trial), OPTIONS: json.dumps(_options(plan.table))},
        description=version_note(
            study.name,
            trial.number,
            trial.values,
            note["params"],
            tested=note["scores"],
            forked=trial.parent is not None,
        ),
        **_on_folds(study, plan, trial, wanted),
    )
    return promote(
        connection,
        candidate,
        name=wanted.name,
        gate=wanted.gate(metric, direction),
        alias=wanted.alias,
        score=_champion_on(plan, connection, metric),
        on_folds=lambda version: _version_on_folds(plan, connection, version),
        dry_run=wanted.dry_run,
    )


def lineage_of(study: Study, trial: TrialRecord) -> dict[str, str]:
    """Where a version comes from, as its tags."""
    return {
        STUDY: study.name,
        STUDY_ID: study.created.study_id,
        TRIAL: str(trial.number),
        CONFIG_SHA256: config_sha256(trial.params),
        OBJECTIVE: str(identity_of(study.created.meta).get("objective", "")),
        **{f"hpo.value.{name}": repr(value) for name, value in trial.values.items()},
    }


def outcome_of(promotion: Promotion) -> dict[str, Any]:
    """A promotion as the journal keeps it, and in words."""
    holder = f"{promotion.name}@{promotion.alias} is version {promotion.champion}"
    text = f"{holder} ({promotion.reason})"
    if promotion.champion is None:
        text = f"no version holds {promotion.name}@{promotion.alias} ({promotion.reason})"
    elif promotion.version not in (None, promotion.champion):
        text = f"registered as version {promotion.version}; {text}"
    return {
        "model": text,
        "name": promotion.name,
        "alias": promotion.alias,
        "version": promotion.version,
        "champion": promotion.champion,
        "promoted": promotion.promoted,
    }


def _on_folds(study: Study, plan: Plan, trial: TrialRecord, wanted: Registration) -> dict[str, Any]:
    """The trial's results on folds, as far as it reported them; all of them where the gate asks for them."""
    known = fold_results(study, trial.number)
    if wanted.folds and len(known) < 2:
        if trial.parent is not None:
            raise InputError(
                f"trial {trial.number} came about by forks, and folds have no models for it to go on from; "
                "promote it by --gate margin"
            )
        known = _evaluated_on_folds(plan.table, trial.params, trial_seed(study.created.seed, trial.number))
    return {"folds": known, "folds_digest": _folds_digest(plan)} if known else {}


def _folds_digest(plan: Plan) -> str:
    """Which rows each fold is measured on, and by what."""
    from flows.objectives._base import load_setting

    setting = load_setting(plan.table.table)
    digest = hashlib.sha256(f"{plan.terms.identity['data']} {setting.metric.name}".encode())
    for _, valid in setting.split.folds:
        digest.update(b"fold")
        digest.update(valid.astype("<i8").tobytes())
    return digest.hexdigest()


def _evaluated_on_folds(table: TableObjective, params: Mapping[str, Any], seed: int) -> dict[int, float]:
    """Cross-validate a configuration once more, fold by fold; empty for an objective without folds."""
    from flows.objectives._base import load_setting

    if load_setting(table.table).n_folds < 2:
        return {}
    return {step: value for step, value in table.on_folds(params, seed).items() if math.isfinite(value)}


def _options(table: TableObjective) -> dict[str, Any]:
    """An objective's own options, with which its configurations have to be evaluated."""
    return {f.name: getattr(table, f.name) for f in fields(table) if f.name != "table"}  # type: ignore[arg-type]  # a protocol of dataclasses


def _version_on_folds(plan: Plan, connection: Connection, version: Any) -> dict[int, float]:
    """A registered model's configuration on this study's folds. Raises :class:`NotComparable`."""
    from mlflow.exceptions import MlflowException

    theirs, ours = version.tags.get(OBJECTIVE), plan.terms.identity["objective"]
    if theirs != ours:
        raise NotComparable(f"its configuration is one of the objective {theirs!r}, not of {ours!r}")
    try:
        tags = connection.client.get_run(version.run_id).data.tags
        text = tags[PARAMS]
    except MlflowException as error:
        raise NotComparable(f"the run of its trial cannot be read: {brief(error)}") from error
    except KeyError:
        raise NotComparable("the run of its trial has no tag with its configuration") from None
    if PARENT_TRIAL in tags:
        raise NotComparable("its trial came about by forks, and folds have no models for it to go on from")
    try:
        params = json.loads(text)
    except ValueError:
        raise NotComparable("the tag of its configuration is no JSON") from None
    if version.tags.get(CONFIG_SHA256) != config_sha256(params):
        raise NotComparable("the configuration in its run is not the one that it was registered with")
    if OPTIONS not in version.tags:
        raise NotComparable("it does not say with which options of the objective it was made")
    try:
        with _comparing("its configuration fails on these folds"):
            table = replace(plan.table, **json.loads(version.tags[OPTIONS]))
            return _evaluated_on_folds(table, params, plan.terms.seed or 0)
    except InputError as error:
        raise NotComparable(f"its configuration cannot be evaluated here: {error}") from error


@contextlib.contextmanager
def _comparing(what: str) -> Iterator[None]:
    """What another's model or configuration runs into here is the reason why it cannot be compared."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # libraries have errors of their own, which need not be ValueErrors
        raise NotComparable(f"{what}: {type(error).__name__}: {brief(error)}") from error


def _champion_on(plan: Plan, connection: Connection, metric: str) -> Callable[[str], Mapping[str, float]]:
    """Scores a registered model on the rows that the study held out; may raise :class:`NotComparable`."""

    def score(uri: str) -> Mapping[str, float]:
        from flows.objectives._base import load_setting
        from flows.objectives._fitted import outputs_of
        from flows.objectives._metrics import get_metric

        setting = load_setting(plan.table.table)
        problem, test = setting.problem, setting.split.test
        wanted = get_metric(metric, problem.task)
        with _comparing("its model cannot be loaded here"):
            model = _unwrapped(load_own_model(connection, uri))
        with _comparing("its model fails on these rows"):
            rows = problem.frame.iloc[test]
            labels = _labels(connection, uri, model, problem.classes)
            predictions = outputs_of(model, rows, problem, wanted.needs, labels)
            return {metric: wanted(problem.y[test], predictions)}

    return score


def _unwrapped(model: Any) -> Any:
    """The model that MLflow's ``pyfunc`` holds, with the methods that scikit-learn's models have."""
    from mlflow.exceptions import MlflowException

    try:
        return model.unwrap_python_model()
    except MlflowException:  # of a library's own flavor
        return model.get_raw_model()


def _labels(connection: Connection, uri: str, model: Any, classes: Sequence[Any]) -> Sequence[Any]:
    """What a registered model calls the ``classes``; codes are those of the study that made it."""
    from flows.objectives._fitted import names_codes

    if not names_codes(model):
        return classes
    run_id = connection.client.get_model_version(*uri.removeprefix("models:/").rsplit("/", 1)).run_id
    with tempfile.TemporaryDirectory() as folder:
        file = connection.client.download_artifacts(run_id, _CONTRACT, folder)
        theirs = json.loads(Path(file).read_text())["classes"]
    return [theirs.index(label) for label in classes]
