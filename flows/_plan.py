"""From what a user asked for to what a session needs; every mistake is found here, before anything runs."""

from __future__ import annotations

import math
import os
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flows._chosen import chosen_strategy, on_axis, racing
from flows._execute import Objective
from flows._find import find
from flows._mlproject import is_project, open_project, parse_metrics
from flows._named import (
    READY,
    absolute,
    check_callable,
    check_shippable,
    code_of,
    label_of,
    load_objective,
    slug,
    space_of,
    study_name,
)
from flows._provenance import provenance
from flows._repeats import checked_repeats, over_repeats, repeated, steps_of
from flows._runner import TrialLimits
from flows._session import Execution, TrackingTerms
from flows._warm_start import read_past
from flows._workspace import Terms, study_folder
from flows.sources import Source, sources_of
from hpo_core import (
    InputError,
    Limits,
    SearchSpace,
    Settings,
    Study,
)
from hpo_core._errors import nearest
from hpo_core._given import checked_objectives
from hpo_core._records import IMPROVEMENTS
from hpo_core.samplers._auto import Auto
from hpo_core.warm_start import Fitting
from tracking import redacted

RUNNERS = ("local", "dask", "gpu")
ISOLATIONS = ("process", "thread")
OF_TABLES = ("data", "target", "task", "register_as")
# Trials of a study that nothing else would end.
DEFAULT_TRIALS = 100


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user can ask of a study, in plain JSON types: the command line's and deployments' form.

    ``objective``: ``lgbm``, ``sklearn``, ``torch``, ``PATH.py:function``, ``package.module:function``, or
    ``FOLDER#ENTRY`` for an entry point of an MLflow project, whose ``env_manager`` is that of ``mlflow run``.
    ``options``: further settings of a ready objective, parameters of a project that are not tuned.
    ``metric``: of a project ``NAME=min`` or ``NAME=max``. ``space``: a file, or JSON text. ``timeout``:
    seconds for the study. ``trials``: its total; left out, a ``timeout`` or ``stop_when`` alone ends the
    study, and where there is neither, 100 trials do. ``trial_timeout`` and
    ``trial_memory`` (MiB): hard limits per attempt. ``checkpoint_quota``: MiB for all of a study's
    checkpoints on this machine.
    ``stop_when``: ``noise``, ``never`` or a number, see ``hpo_core.Limits.improvement``.
    ``deterministic``: see ``hpo_core.Settings``.
    ``register_as``: registered model that the best final model goes to, under the alias ``champion``.
    ``warm_start``: sources of results to begin with, see :func:`flows.sources.parse_source`.
    ``repeats``: how often each configuration is run, each time with another seed, see :mod:`flows._repeats`.
    ``confirms``: the study whose best configurations these are, see :mod:`flows._confirm`.
    """

    objective: str = "lgbm"
    data: str | None = None
    target: str | None = None
    metric: str | None = None
    task: str | None = None
    space: str | None = None
    strategy: str = "auto"
    trials: int | None = None
    timeout: float | None = None
    workers: int | None = None
    runner: str = "local"
    isolation: str = "process"
    name: str | None = None
    seed: int = 0
    register_as: str | None = None
    experiment: str | None = None
    tracking_uri: str | None = None
    offline: bool = False
    trial_timeout: float | None = None
    trial_memory: float | None = None
    checkpoint_quota: float | None = None
    max_failures: int | None = None
    stop_when: float | str | None = None
    max_steps: int | None = None
    granularity: float = 1.0
    edit_space: bool = False
    gpus_per_trial: float | None = None
    dask: str | None = None
    warm_start: tuple[str, ...] = ()
    env_manager: str | None = None
    deterministic: bool = False
    repeats: int | None = None
    confirms: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A checked request, ready to be carried out. ``table`` is set for the ready objectives.

    ``warm_start``: where results to begin with are; ``past``: those, once they have been read.
    """

    terms: Terms
    tracking: TrackingTerms
    execution: Execution
    objective: Objective
    table: Any = None
    register_as: str | None = None
    edit: bool = False
    notes: tuple[str, ...] = ()
    warm_start: tuple[Source, ...] = ()
    past: tuple[Fitting, ...] | None = None


def plan_request(
    request: Request,
    *,
    strategy: Any = None,
    settings: Mapping[str, Any] | None = None,
    objectives: Mapping[str, str] | None = None,
) -> Plan:
    """The plan for a request. Raises :class:`InputError` for anything that cannot work.

    ``strategy``: an object, where the name in the request does not do. ``objectives``: those of a
    function of the user's own; by default what it carries as ``function.objectives``.
    """
    if request.objective in READY:
        refuse(request, ("env_manager",))
        if request.confirms is not None:
            return _plan_table_again(request, strategy)
        return _plan_table(request, strategy, settings or {})
    if is_project(request.objective):
        return _plan_project(request, strategy, settings, objectives)
    function = load_objective(request.objective)
    refuse(request, (*OF_TABLES, "metric", "env_manager", *request.options))
    space = space_of(function, request.space)
    asked = (code_of(function), space and space.digest(), request.strategy, request.seed, *_often(request))
    named = study_name(label_of(function), *asked) if request.name is None else request.name
    return plan_callable(
        function,
        request=replace(request, name=named, objective=absolute(request.objective)),
        space=space,
        objectives=objectives or getattr(function, "objectives", None),
        strategy=strategy,
        settings=settings,
    )


def _often(request: Request) -> tuple[str, ...]:
    """What repeats add to what a study is named for."""
    repeats = checked_repeats(request.repeats)
    return () if repeats is None else (f"{repeats} repeats",)


def check_used(request: Request) -> None:
    """Raise for what the request asks for and its runner would leave alone.

    Not part of a plan, as a study whose journal says so goes on as it did.
    """
    if request.dask is not None and request.runner != "dask":
        raise InputError(f"the address {request.dask!r} goes with the runner 'dask', got {request.runner!r}")
    if request.gpus_per_trial is not None and request.runner == "local":
        raise InputError("gpus_per_trial goes with the runners 'gpu' and 'dask', got 'local'")
    if request.isolation == "thread" and request.runner in ("dask", "gpu"):
        raise InputError(
            f"isolation 'thread' is for trials in this process, and the runner {request.runner!r} has "
            "processes of its own; leave one of them out"
        )


def refuse(request: Request, names: Iterable[str]) -> None:
    """Raise for fields and options that the objective does not take."""
    for name in names:
        if request.options.get(name, getattr(request, name, None)) is not None:
            takers = (
                "MLflow projects" if name == "env_manager" else f"the ready objectives ({', '.join(READY)})"
            )
            raise InputError(
                f"the option {name.removesuffix('_as')!r} goes with {takers}, not with {request.objective!r}"
            )


def _plan_project(
    request: Request,
    strategy: Any,
    settings: Mapping[str, Any] | None,
    objectives: Mapping[str, str] | None,
) -> Plan:
    """The plan for an entry point of an MLflow project."""
    from flows.objectives import read_space

    refuse(request, OF_TABLES)
    if request.space is None:
        raise InputError("a project does not say what is to be tuned; give the ranges in a file with --space")
    space = read_space(request.space)
    wanted = dict(objectives or parse_metrics(request.metric))
    entry = open_project(
        request.objective,
        space=space,
        metrics=tuple(wanted),
        fixed=request.options,
        env_manager=request.env_manager or "local",
    )
    asked = (entry.digest(), space.digest(), request.strategy, request.seed, *_often(request))
    named = study_name(entry.label, *asked) if request.name is None else request.name
    return plan_callable(
        entry,
        request=replace(request, name=named, objective=f"{entry.folder}#{entry.entry}"),
        space=space,
        objectives=wanted,
        strategy=strategy,
        settings=settings,
    )


def plan_callable(
    function: Objective,
    *,
    request: Request,
    space: SearchSpace | None,
    objectives: Mapping[str, str] | None,
    strategy: Any = None,
    settings: Mapping[str, Any] | None = None,
) -> Plan:
    """The plan for a function of the user's own."""
    check_callable(function)
    label = label_of(function)
    chosen = chosen_strategy(request.strategy if strategy is None else strategy, request.timeout)
    objectives = checked_objectives(objectives or None)
    execution = _execution(request)
    if execution.isolation == "process":
        check_shippable(function)
    request, settings = replace(request, repeats=checked_repeats(request.repeats)), settings or {}
    work, max_steps = function, request.max_steps
    if request.repeats is not None:
        chosen = over_repeats(chosen, len(objectives))
        max_steps = steps_of(request.repeats, max_steps, _settings(request, 1, None, settings).rule)
        # What counts in a repeat is what counted in the study that is confirmed.
        rule = "last" if request.confirms is None else find(request.confirms).state.settings.rule
        work = repeated(function, request.repeats, objectives, chosen, rule)
    by_name = request.objective not in READY or request.confirms is not None
    reference = request.objective if by_name else label
    terms = Terms(
        name=request.name or f"{slug(label)}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}",
        space=space,
        objectives=objectives,
        strategy=chosen,
        seed=request.seed,
        limits=_limits(request),
        settings=_settings(request, execution.workers, max_steps, settings),
        identity={"objective": label},
        meta={
            "request": _plain_request(request, reference, strategy),
            "made_with": provenance(function),
            **({} if request.repeats is None else {"step_unit": "repeat"}),
        },
    )
    _rehearse(terms)
    return Plan(
        terms=terms,
        tracking=_tracking(request),
        execution=execution,
        objective=work,
        edit=request.edit_space,
        warm_start=sources_of(request.warm_start),
    )


def with_past(plan: Plan) -> Plan:
    """The plan with what its study begins with read. Raises :class:`InputError`; makes nothing."""
    if plan.past is not None:
        return plan
    terms = plan.terms
    past = read_past(terms, plan.warm_start, tracking_uri=plan.tracking.uri)
    if terms.space is None or not past:
        return replace(plan, past=past)
    # What is known already need not be tried first.
    known = {_key(terms.space, params) for fitting in past for _, params, _ in fitting.rows}
    first = tuple(params for params in terms.first if _key(terms.space, params) not in known)
    return replace(plan, past=past, terms=replace(terms, first=first))


def _key(space: SearchSpace, params: Mapping[str, Any]) -> bytes:
    return space.key(space.encode(params))


def _rehearse(terms: Terms) -> None:
    """Make the study in memory: it refuses everything that the real one would."""
    Study(
        terms.space,
        objectives=terms.objectives,
        strategy=terms.strategy,
        seed=terms.seed,
        limits=terms.limits,
        settings=terms.settings,
    )


def _table(request: Request, workers: int) -> Any:
    """The ready objective of the request."""
    from flows.objectives import make_objective

    if request.data is None:
        raise InputError(
            f"{request.objective} needs data: a CSV or Parquet file, or sklearn:NAME (--data ...)"
        )
    return make_objective(
        request.objective,
        data=request.data,
        target=request.target,
        metric=request.metric,
        task=request.task,
        space=request.space,
        options={"threads": max((os.cpu_count() or 1) // workers, 1), **request.options},
    )


def _plan_table_again(request: Request, strategy: Any) -> Plan:
    """The plan for confirming a study of a ready objective: each repeat cross-validates, on its own folds."""
    from flows.objectives._fresh import FreshFolds

    original = find(str(request.confirms))
    table = _table(request, _execution(request).workers)
    table, _ = on_axis(table, original.strategy, request.options.get("budget"))
    prepared = table.prepare()
    plan = plan_callable(
        FreshFolds(table),
        request=request,
        space=prepared.space,
        objectives=prepared.objectives,
        strategy=strategy,
    )
    identity = {"objective": request.objective, "data": prepared.data_digest, "question": prepared.digest}
    return replace(plan, terms=replace(plan.terms, identity=identity))


def _plan_table(request: Request, strategy: Any, settings: Mapping[str, Any]) -> Plan:
    execution = _execution(request)
    if checked_repeats(request.repeats) is not None:
        raise InputError(
            f"{request.objective} measures each configuration on folds, which serve the same end as repeats; "
            "leave repeats out, or ask for more folds"
        )
    table = _table(request, execution.workers)
    chosen = chosen_strategy(request.strategy if strategy is None else strategy, request.timeout)
    table, advice = on_axis(table, chosen, request.options.get("budget"))
    prepared = table.prepare()
    if request.timeout is not None and request.trials is None:
        chosen = racing(chosen, prepared)
    max_steps = request.max_steps or prepared.n_steps
    terms = Terms(
        name=request.name or _table_name(request, prepared.digest),
        space=prepared.space,
        objectives=dict(prepared.objectives),
        strategy=chosen,
        seed=request.seed,
        limits=_limits(request),
        settings=_settings(request, execution.workers, max_steps, settings),
        identity={"objective": request.objective, "data": prepared.data_digest, "question": prepared.digest},
        meta={
            "request": _plain_request(request, request.objective, strategy),
            "made_with": provenance(table),
            "description": prepared.description,
            "summary": prepared.summary,
            "step_unit": prepared.step_unit,
        },
        # A sampler that was asked for by name shall begin in its own way.
        first=prepared.first if isinstance(chosen.sampler, Auto) else (),
    )
    _rehearse(terms)
    return Plan(
        terms=terms,
        tracking=_tracking(request),
        execution=execution,
        objective=table,
        table=table,
        register_as=request.register_as,
        edit=request.edit_space,
        notes=(*advice, *prepared.notes),
        warm_start=sources_of(request.warm_start),
    )


def _table_name(request: Request, digest: str) -> str:
    """The same command gives the same name, so that it resumes; another question gives another."""
    source = (
        (request.data or "").partition(":")[2]
        if str(request.data).startswith("sklearn:")
        else Path(str(request.data)).stem
    )
    return study_name(f"{request.objective}-{slug(source)}", digest, request.strategy, request.seed)


def _plain_request(request: Request, label: str, strategy: Any) -> dict[str, Any]:
    """The request as resume needs it; secrets do not belong into a journal.

    ``strategy``: what was given in place of the name in the request; an object goes by none.
    """
    data = {k: v for k, v in vars(request).items() if v is not None and v is not False and v not in ({}, ())}
    for circumstance in ("tracking_uri", "offline", "edit_space"):
        data.pop(circumstance, None)
    if not isinstance(strategy, str | None):
        data.pop("strategy", None)
    for name in ("data", "space"):
        path = Path(data.get(name) or "")
        if path.is_file():
            data[name] = str(path.resolve())
    if "warm_start" in data:
        data["warm_start"] = [redacted(source) for source in data["warm_start"]]
    return {**data, "objective": label}


def _execution(request: Request) -> Execution:
    if request.name is not None:
        study_folder(request.name)
    workers = request.workers if request.workers is not None else (os.cpu_count() or 1)
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise InputError(f"workers must be a whole number of at least 1, got {workers!r}")
    if request.trials is not None and (not isinstance(request.trials, int) or request.trials < 1):
        raise InputError(f"trials must be a whole number of at least 1, got {request.trials!r}")
    seed = request.seed
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or seed < 0):
        raise InputError(f"seed must be a whole number of at least 0, got {seed!r}")
    for name in ("timeout", "trial_timeout", "trial_memory", "checkpoint_quota", "gpus_per_trial"):
        value = getattr(request, name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and 0 < value < math.inf):
            raise InputError(f"{name} must be a number above 0, got {value!r}")
    for name, known in (("runner", RUNNERS), ("isolation", ISOLATIONS)):
        value = getattr(request, name)
        if value not in known:
            raise InputError(
                f"{name} must be one of {', '.join(known)}, got {value!r}{nearest(str(value), known)}"
            )
    memory, quota = (
        None if mib is None else int(mib * 2**20) for mib in (request.trial_memory, request.checkpoint_quota)
    )
    return Execution(
        workers=workers,
        runner=request.runner,
        isolation=request.isolation,
        limits=TrialLimits(seconds=request.trial_timeout, memory=memory),
        granularity=request.granularity,
        quota=quota,
        gpus_per_trial=request.gpus_per_trial,
        dask=request.dask,
    )


def _limits(request: Request) -> Limits:
    improvement = _improvement(request.stop_when)
    # Who gives a time and no number of trials wants the time to be used.
    ends = request.timeout is not None or improvement not in (None, "never")
    return Limits(
        trials=DEFAULT_TRIALS if request.trials is None and not ends else request.trials,
        seconds=request.timeout,
        failures=request.max_failures,
        improvement=improvement,
    )


def _improvement(given: float | str | None) -> float | str | None:
    """The limit that ``stop_when`` means; a command line has numbers as text."""
    if given is None or given in IMPROVEMENTS:
        return given
    try:
        number = float(given)
    except (TypeError, ValueError):
        number = math.nan
    if not 0.0 < number < math.inf:
        words = ", ".join(IMPROVEMENTS)
        raise InputError(f"stop_when must be {words} or a positive number, got {given!r}")
    return number


def _settings(request: Request, workers: int, max_steps: int | None, more: Mapping[str, Any]) -> Settings:
    if not isinstance(more, Mapping):
        raise InputError(f"settings must be a dict of names and values, got {more!r}")
    unknown = [name for name in more if name not in Settings.__slots__]
    if unknown:
        raise InputError(f"unknown setting {unknown[0]!r}{nearest(unknown[0], Settings.__slots__)}")
    given = {"workers": workers, "max_steps": max_steps, "deterministic": request.deterministic}
    return Settings(**{**given, **more})


def _tracking(request: Request) -> TrackingTerms:
    if not isinstance(request.tracking_uri, str | None):
        raise InputError(f"tracking_uri must be text such as 'sqlite:///x.db', got {request.tracking_uri!r}")
    return TrackingTerms(uri=request.tracking_uri, experiment=request.experiment, offline=request.offline)
