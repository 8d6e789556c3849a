"""``tune``: the Python face. Runs the Prefect flow in this process and hands back the result."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import importlib
import json
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from flows._result import Result
from flows.sources import sources_of
from hpo_core import HpoError, InputError, SearchSpace
from hpo_core.inner import single

if TYPE_CHECKING:
    from flows._drive_session import Watch
    from flows._flow import Handed
    from flows._plan import Plan
    from flows._relay import Relay

_T = TypeVar("_T")

# Letters of one parameter of a flow run. Prefect refuses runs whose parameters are too long together.
_MOST_SHOWN = 10_000


def tune(
    objective: Callable[[Any], Any] | str,
    *,
    space: SearchSpace | Mapping[str, Any] | str | Path | None = None,
    objectives: Mapping[str, str] | None = None,
    strategy: Any = "auto",
    trials: int | None = None,
    timeout: float | None = None,
    workers: int | None = None,
    runner: str = "local",
    isolation: str = "process",
    name: str | None = None,
    seed: int = 0,
    warm_start: Any = None,
    repeats: int | None = None,
    tell: Callable[[str], None] | None = None,
    progress: bool | None = None,
    **more: Any,
) -> Result:
    """Tune an objective; the study is run by Prefect and tracked in MLflow.

    ``objective``: a function of a trial, returning a number or a dict of numbers; or the name of a
    ready one (``"lgbm"``, with ``data=``, a path or a DataFrame, and so on), ``"package.module:function"``,
    or ``"FOLDER#ENTRY"`` for an entry point of an MLflow project (``options``: its fixed parameters).
    ``space``: the search space; for a ready objective, what narrows or replaces its own. A file, or a dict
    of what a file would say, does for either. ``objectives``: name to ``"min"`` or ``"max"``. Left out, they
    are what a function carries as ``function.space`` and ``function.objectives``; without these, a function
    is define-by-run, and minimises ``loss``.
    ``trials``: the total of the study: calling again with the same ``name`` resumes it, and a finished
    study runs nothing; 100 unless ``timeout`` (seconds) or another limit ends it.
    ``workers``: trials at once, default one per core.
    ``isolation``: ``"process"`` or ``"thread"``. ``warm_start``: results to begin with, one or several of
    :func:`from_study`, :func:`from_mlflow`, :func:`from_csv`, :func:`from_optuna` and
    :func:`from_hyperopt`, or text such as ``"study:old"``; they tell the sampler something and cost no trial.
    ``enqueue``: configurations to try before the sampler is asked, each once, as dicts; they are trials of
    the study, and what one leaves out is sampled.
    ``repeats``: run each configuration so many times, with other values of ``trial.seed``; the mean is
    ranked, its spread kept as ``NAME_std``, and plain ``auto`` stops between repeats what will hardly win.
    ``tell``: takes the lines that are meant for the user. ``progress``: show how far the study is; by default
    on a terminal and in a notebook, unless ``tell`` is given. ``more``: the other fields of a request
    (``experiment``, ``tracking_uri``, ``trial_timeout``, ``max_failures``, ``settings``...); ``stop_when``:
    ``"noise"`` or a number, ends the study once all further trials together are expected to improve by less
    than the noise of one result, or than that number. ``max_cost``, ``max_total_steps``: seconds and
    steps of all trials together.

    Raises :class:`InputError` before anything runs when the terms make no sense.
    """
    from flows._frames import kept
    from flows._prefect import heard_again
    from flows._relay import Relay

    messages = Relay()
    with messages.passed_on(), heard_again(), kept(more.get("data")) as data:
        more = _as_kept(more, data)
        settings = more.pop("settings", None)
        fields = {
            "strategy": strategy if isinstance(strategy, str) else "auto",
            "trials": trials,
            "timeout": timeout,
            "workers": workers,
            "runner": runner,
            "isolation": isolation,
            "name": name,
            "seed": seed,
            "repeats": repeats,
            **_arguments(objective, more),
        }
        # Numbers that come out of a table or an array are numpy's, which no journal holds.
        fields = {field: single(value) for field, value in fields.items()}
        terms = {"objectives": objectives, "strategy": strategy, "settings": settings}
        plan = _plan(objective, fields, space, terms)
        return _shown(replace(plan, warm_start=sources_of(warm_start)), tell, progress, messages)


def _as_kept(more: Mapping[str, Any], data: Any) -> dict[str, Any]:
    """The request's fields with the kept data, whose columns have text for names."""
    if data is more.get("data"):
        return dict(more)
    named = {n: str(more[n]) for n in ("target", "group", "time") if more.get(n) is not None}
    return {**more, "data": data, **named}


def _plan(objective: Any, fields: dict[str, Any], space: Any, terms: dict[str, Any]) -> Plan:
    from flows._named import READY, label_of
    from flows._plan import plan_callable, plan_request
    from flows._request import OF_TABLES, Request, check_used, refuse

    if isinstance(objective, str):
        if terms["objectives"] and objective in READY:
            raise InputError(
                f"{objective} tunes one metric and knows its direction; give metric=, not objectives="
            )
        request = Request(objective=objective, space=_space_text(space), **fields)
        plan = plan_request(request, **terms)
    else:
        request = Request(objective=label_of(objective), **fields)
        if request.metric is not None:
            raise InputError("what a function returns is named by objectives={'auc': 'max'}, not by metric=")
        refuse(request, (*OF_TABLES, "env_manager", *request.options))
        # What the function carries holds from wherever it is tuned.
        carried = {name: getattr(objective, name, None) for name in ("space", "objectives")}
        declared = _declared(carried["space"] if space is None else space)
        terms["objectives"] = terms["objectives"] or carried["objectives"]
        plan = plan_callable(objective, request=request, space=declared, **terms)
    check_used(request)
    return plan


def _shown(plan: Plan, tell: Callable[[str], None] | None, progress: bool | None, messages: Relay) -> Result:
    if progress is None:
        progress = tell is None and (sys.stdout.isatty() or "ipykernel" in sys.modules)
    if not progress:
        return run_plan(plan, tell=tell or print, messages=messages)
    from flows._live import make_view

    with make_view() as view:
        return run_plan(plan, tell=tell or view.tell, watch=view.watch, messages=messages)


def _arguments(objective: Any, more: dict[str, Any]) -> dict[str, Any]:
    """Further fields of the request; what a ready objective has as an option goes to its options."""
    from flows._named import READY
    from flows._request import Request
    from hpo_core.inner import nearest

    if not isinstance(more.get("options") or {}, Mapping):
        raise InputError(f"options must be a dict of names and values, got {more['options']!r}")
    fields, options = {}, dict(more.get("options") or {})
    known = set(Request.__dataclass_fields__) - {"objective", "space"}
    ready: set[str] = set()
    if objective in READY:
        from flows.objectives import option_names

        ready = set(option_names(objective)) - known
    for name, value in more.items():
        if name in ready:
            options[name] = value
        elif name in known:
            fields[name] = value
        else:
            raise InputError(f"tune() has no argument {name!r}{nearest(name, known | ready)}")
    return {**fields, "options": {name: single(value) for name, value in options.items()}}


def _declared(space: Any) -> SearchSpace | None:
    if space is None or isinstance(space, SearchSpace):
        return space
    # Plain data is what a flow's parameter has that was filled in on a page.
    plain = isinstance(space, Mapping) and any(isinstance(value, Mapping) for value in space.values())
    if not (plain or isinstance(space, str | Path)):
        return SearchSpace(space)
    from flows.objectives import read_space

    return read_space(str(_space_text(space)))


def _space_text(space: Any) -> str | None:
    """The space for an objective that goes by a name: a file, or what a file would say."""
    if space is None or isinstance(space, str | Path):
        return None if space is None else str(space)
    given = space.parameters if isinstance(space, SearchSpace) else space
    text = {k: v.to_json() if hasattr(v, "to_json") else v for k, v in given.items()}
    if isinstance(space, SearchSpace) and space.constraints:
        functions = [c.source for c in space.constraints if not isinstance(c.original, str)]
        if functions:
            raise InputError(
                "an objective that goes by a name takes constraints as expressions such as 'a + b <= 1', "
                f"not the functions {functions}"
            )
        text["constraints"] = [c.source for c in space.constraints]
    return json.dumps(text)


def run_plan(
    plan: Plan,
    *,
    tell: Callable[[str], None] = print,
    watch: Watch = lambda session: None,
    messages: Relay | None = None,
) -> Result:
    """Carry out a plan under Prefect, from any thread, with or without a running event loop.

    Leaves the environment as it finds it. ``messages``: says afterwards whether the process was told to end.
    """
    from flows._relay import Relay, relay
    from flows._signals import hangup_ends
    from tracking import active_run_for, as_found

    before = relay.set(messages or Relay())
    try:
        with as_found(), hangup_ends():
            below = None if plan.tracking.offline else active_run_for(plan.tracking.uri)
            return _run(replace(plan, tracking=replace(plan.tracking, below=below)), tell, watch)
    finally:
        relay.reset(before)


def _run(plan: Plan, tell: Callable[[str], None], watch: Watch) -> Result:
    from flows._carry import carry_out, nothing_to_do
    from flows._experiment import check_tracking
    from flows._make_runner import check_runner, crew_for
    from flows._plan import with_past
    from flows._prefect import prefect_api
    from flows._workspace import check_before

    finished = check_before(plan.terms, edit=plan.edit)
    if nothing_to_do(plan, finished=finished):
        return Result(**_in_fresh_loop(lambda: carry_out(plan, tell=tell, watch=watch)))
    plan = with_past(plan)
    with prefect_api(meanwhile=_load_mlflow) as ready:
        check_tracking(plan.tracking)
        if not finished:
            _in_fresh_loop(lambda: check_runner(plan.runner_terms))
        # All that takes seconds to load does so beside the server. A finished study has no trials to run.
        crew = crew_for(plan.objective, plan.runner_terms, plan.terms.limits.trials)
        with contextlib.nullcontext(plan.runner_terms) if finished else crew as runner_terms:
            return _under_prefect(replace(plan, runner_terms=runner_terms), tell, watch, ready)


def _under_prefect(
    plan: Plan, tell: Callable[[str], None], watch: Watch, ready: Callable[[], None]
) -> Result:
    from tracking import uncollected

    with uncollected():
        from flows._flow import Handed, handed, tune_flow

        ready()
    context = Handed(plan, tell, watch)

    async def work() -> dict[str, Any]:
        handed.set(context)
        return await _summary_of_flow(tune_flow, context)

    return Result(**_in_fresh_loop(work))


def _load_mlflow() -> None:
    """It takes seconds to load, and holds up the first trials if it does so beside them."""
    importlib.import_module("mlflow")


async def _summary_of_flow(flow: Any, context: Handed) -> dict[str, Any]:
    """The study's result, even when Prefect cannot be reached, or cannot take the flow run's final state."""
    from flows._carry import carry_out
    from flows._prefect import impatient

    plan = context.plan
    try:
        with impatient():
            await flow(**_shown_in_prefect(plan), return_state=True)
    except Exception as error:  # noqa: BLE001 - raised again unless the study itself came to its end
        if not context.begun:
            context.tell(f"the study runs without Prefect: {type(error).__name__}: {error}")
            return await carry_out(plan, tell=context.tell, watch=context.watch)
        context.error = context.error or error
    if context.summary is None:
        raise context.error or HpoError("Prefect ended the flow run before the study began")
    return dict(context.summary)


def _shown_in_prefect(plan: Plan) -> dict[str, Any]:
    """What was asked for, as the flow's parameters: its page says what the study is."""
    from flows._notes import request_data
    from flows._request import Request
    from tracking import redacted

    terms, asked = plan.terms, request_data(plan.terms.meta)
    names = asked.keys() & Request.__dataclass_fields__.keys() - {"confirms"}
    short = {n: asked[n] for n in names if len(json.dumps(asked[n])) <= _MOST_SHOWN}
    return {
        "strategy": terms.strategy.name,
        **{name: redacted(value) if isinstance(value, str) else value for name, value in short.items()},
        "objective": terms.identity["objective"],
        "trials": terms.limits.trials,
        "timeout": terms.limits.seconds,
        "workers": plan.runner_terms.workers,
        "runner": plan.runner_terms.runner,
        "name": terms.name,
        "seed": terms.seed or 0,
    }


def _in_fresh_loop(main: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    from flows._relay import relay, run_elsewhere

    messages = relay.get()

    async def stoppable() -> _T:
        with messages.within():
            return await main()

    def to_the_end() -> _T:
        try:
            return asyncio.run(stoppable())
        except asyncio.CancelledError:
            if not (messages.interrupted or messages.terminated):
                raise
            raise KeyboardInterrupt from None

    # Prefect's settings, which server to use among them, are in the context; a new thread's is empty.
    context = contextvars.copy_context()

    def work() -> _T:
        return context.run(to_the_end)

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work()
    # A notebook: its loop is busy running us, so the study gets a thread with a loop of its own.
    return run_elsewhere(work, messages)
