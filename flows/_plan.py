"""From what a user asked for to what a session needs; every mistake is found here, before anything runs."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flows._chosen import chosen_strategy, forking, on_axis, racing
from flows._execute import Objective
from flows._experiment import TrackingTerms
from flows._find import find
from flows._make_runner import RunnerTerms
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
from flows._request import (
    OF_TABLES,
    RULES,
    Request,
    limits_of,
    plain_request,
    queue_of,
    refuse,
    refuse_beside_project,
    runner_terms_of,
    settings_of,
    tracking_terms_of,
)
from flows._warm_start import read_past
from flows._workspace import Terms
from flows.sources import Source, sources_of
from hpo_core import (
    InputError,
    SearchSpace,
    Settings,
    Strategy,
    Study,
    make_strategy,
)
from hpo_core.folds import REPEAT
from hpo_core.inner import checked_objectives
from hpo_core.samplers import Auto
from hpo_core.warm_start import Fitting


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A checked request, ready to be carried out. ``table`` is set for the ready objectives.

    ``warm_start``: where results to begin with are; ``past``: those, once they have been read.
    """

    terms: Terms
    tracking: TrackingTerms
    runner_terms: RunnerTerms
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
    function of the user's own; by default the request's metric, else what it carries as
    ``function.objectives``.
    """
    if request.objective in READY:
        refuse(request, ("env_manager",))
        if request.confirms is not None:
            return _plan_table_again(request, strategy)
        return _plan_table(request, strategy, settings or {})
    if is_project(request.objective):
        return _plan_project(request, strategy, settings, objectives)
    function = load_objective(request.objective)
    refuse(request, (*OF_TABLES, "env_manager", *request.options))
    space = space_of(function, request.space)
    asked = [code_of(function), space and space.digest(), *_asked(request, strategy, settings)]
    if request.metric is not None:
        wanted = parse_metrics(request.metric, request.objective)
        objectives = objectives or wanted
        asked.append(str([*wanted.items()]))
    named = study_name(label_of(function), *asked) if request.name is None else request.name
    return plan_callable(
        function,
        request=replace(request, name=named, objective=absolute(request.objective)),
        space=space,
        objectives=objectives or getattr(function, "objectives", None),
        strategy=strategy,
        settings=settings,
    )


def _asked(request: Request, strategy: Any, settings: Mapping[str, Any] | None) -> tuple[Any, ...]:
    """What a study is named for besides its question. What is not asked for adds nothing."""
    given = request.strategy if strategy is None else strategy
    plain = isinstance(given, str) and not given.lstrip().startswith("{")
    chosen = given if plain else json.dumps(make_strategy(given).config, sort_keys=True)
    repeats = checked_repeats(request.repeats)
    own = settings_of(request, 1, request.max_steps, settings or {})
    usual = Settings()
    names = (*RULES, "max_steps", "outcome_constraints")
    named = {n: getattr(own, n) for n in names if getattr(own, n) != getattr(usual, n)}
    return (
        *(chosen, request.seed),
        *(() if repeats is None else (f"{repeats} repeats",)),
        *(f"{name}={value}" for name, value in named.items()),
    )


def _plan_project(
    request: Request,
    strategy: Any,
    settings: Mapping[str, Any] | None,
    objectives: Mapping[str, str] | None,
) -> Plan:
    """The plan for an entry point of an MLflow project."""
    from flows.objectives import read_space

    refuse_beside_project(request)
    if request.space is None:
        raise InputError("a project does not say what is to be tuned; give the ranges in a file with --space")
    space = read_space(request.space)
    wanted = dict(objectives or parse_metrics(request.metric, request.objective))
    entry = open_project(
        request.objective,
        space=space,
        metrics=tuple(wanted),
        fixed=request.options,
        env_manager=request.env_manager or "local",
    )
    asked = (entry.digest(), space.digest(), [*wanted.items()], *_asked(request, strategy, settings))
    named = study_name(entry.label, *asked) if request.name is None else request.name
    return plan_callable(
        entry,
        request=replace(request, name=named, objective=f"{entry.folder}#{entry.entry}"),
        space=space,
        objectives=wanted,
        strategy=strategy,
        settings=settings,
    )


def _chosen(request: Request, strategy: Any) -> Strategy:
    return chosen_strategy(
        request.strategy if strategy is None else strategy, may_end_early=request.may_end_early
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
    chosen = _chosen(request, strategy)
    objectives = checked_objectives(objectives or None)
    runner_terms = runner_terms_of(request)
    if runner_terms.isolation == "process":
        check_shippable(function)
    request, settings = replace(request, repeats=checked_repeats(request.repeats)), settings or {}
    work, max_steps = function, request.max_steps
    if request.repeats is not None:
        chosen = over_repeats(chosen, len(objectives))
        max_steps = steps_of(request.repeats, max_steps, settings_of(request, 1, None, settings).rule)
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
        limits=limits_of(request),
        settings=settings_of(request, runner_terms.workers, max_steps, settings),
        identity={"objective": label},
        meta={
            "request": plain_request(request, reference, strategy),
            "made_with": provenance(function),
            **({} if request.repeats is None else {"step_unit": REPEAT}),
        },
        enqueued=queue_of(request),
    )
    _rehearse(terms)
    return Plan(
        terms=terms,
        tracking=tracking_terms_of(request),
        runner_terms=runner_terms,
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
    study = Study(
        terms.space,
        objectives=terms.objectives,
        strategy=terms.strategy,
        seed=terms.seed,
        limits=terms.limits,
        settings=terms.settings,
    )
    for params in terms.enqueued:
        study.enqueue(params)


def _table(request: Request, workers: int) -> Any:
    """The ready objective of the request."""
    from flows.objectives import make_objective, option_names

    known = option_names(request.objective)
    stray = [n for n in request.options if n in Request.__dataclass_fields__ and n not in known]
    if stray:
        raise InputError(
            f"{stray[0]!r} is asked of the study and is no option of the objective {request.objective!r}; "
            f"give it beside the options, as --{stray[0].replace('_', '-')}"
        )
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
    table = _table(request, runner_terms_of(request).workers)
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
    runner_terms = runner_terms_of(request)
    if checked_repeats(request.repeats) is not None:
        raise InputError(
            f"{request.objective} measures each configuration on folds, which serve the same end as repeats; "
            "leave repeats out, or ask for more folds"
        )
    table = _table(request, runner_terms.workers)
    chosen = _chosen(request, strategy)
    table, advice = on_axis(table, chosen, request.options.get("budget"))
    prepared = table.prepare()
    if request.may_end_early and request.trials is None:
        chosen = racing(chosen, prepared)
    chosen = forking(chosen, prepared, strategy)
    max_steps = request.max_steps or prepared.n_steps
    terms = Terms(
        name=request.name or _table_name(request, prepared.digest, *_asked(request, strategy, settings)),
        space=prepared.space,
        objectives=dict(prepared.objectives),
        strategy=chosen,
        seed=request.seed,
        limits=limits_of(request),
        settings=settings_of(request, runner_terms.workers, max_steps, settings),
        identity={"objective": request.objective, "data": prepared.data_digest, "question": prepared.digest},
        meta={
            "request": plain_request(request, request.objective, strategy),
            "made_with": provenance(table),
            "description": prepared.description,
            "summary": prepared.summary,
            "step_unit": prepared.step_unit,
        },
        # A sampler that was asked for by name shall begin in its own way.
        first=prepared.first if isinstance(chosen.sampler, Auto) else (),
        enqueued=queue_of(request),
    )
    _rehearse(terms)
    return Plan(
        terms=terms,
        tracking=tracking_terms_of(request),
        runner_terms=runner_terms,
        objective=table,
        table=table,
        register_as=request.register_as,
        edit=request.edit_space,
        notes=(*advice, *prepared.notes),
        warm_start=sources_of(request.warm_start),
    )


def _table_name(request: Request, *asked: Any) -> str:
    """The same command gives the same name, so that it resumes; another question gives another."""
    source = (
        (request.data or "").partition(":")[2]
        if str(request.data).startswith("sklearn:")
        else Path(str(request.data)).stem
    )
    return study_name(f"{request.objective}-{slug(source)}", *asked)
