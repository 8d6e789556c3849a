"""From what a user asked for to what a session needs; every mistake is found here, before anything runs."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows._execute import Objective
from flows._runner import TrialLimits
from flows._session import Execution, TrackingTerms
from flows._workspace import Terms
from hpo_core import InputError, Limits, ObjectiveError, SearchSpace, Settings, make_strategy
from hpo_core._errors import nearest

READY = ("lgbm", "sklearn", "torch")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user can ask of a study, in plain JSON types: the command line's and deployments' form.

    ``objective``: ``lgbm``, ``sklearn``, ``torch``, ``PATH.py:function`` or ``package.module:function``.
    ``options``: further settings of a ready objective. ``space``: a file, or JSON text. ``timeout``:
    seconds for the study. ``trial_timeout`` and ``trial_memory`` (MiB): hard limits per attempt.
    ``register_as``: registered model that the best final model goes to, under the alias ``champion``.
    """

    objective: str = "lgbm"
    data: str | None = None
    target: str | None = None
    metric: str | None = None
    task: str | None = None
    space: str | None = None
    strategy: str = "auto"
    trials: int | None = 100
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
    max_failures: int | None = None
    max_steps: int | None = None
    granularity: float = 1.0
    edit_space: bool = False
    gpus_per_trial: float | None = None
    dask: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A checked request, ready to be carried out. ``table`` is set for the ready objectives."""

    terms: Terms
    tracking: TrackingTerms
    execution: Execution
    objective: Objective
    table: Any = None
    register_as: str | None = None
    edit: bool = False
    notes: tuple[str, ...] = ()


def plan_request(request: Request) -> Plan:
    """The plan for a request. Raises :class:`InputError` for anything that cannot work."""
    execution = _execution(request)
    if request.objective in READY:
        return _plan_table(request, execution)
    for name in ("data", "target", "metric", "register_as"):
        if getattr(request, name) is not None:
            raise InputError(
                f"{name}= goes with the ready objectives ({', '.join(READY)}), not with {request.objective!r}"
            )
    function = load_objective(request.objective)
    space = _space_of(function, request.space)
    objectives = getattr(function, "objectives", None) or {"loss": "min"}
    return plan_callable(
        function, request=request, space=space, objectives=objectives, label=request.objective
    )


def plan_callable(
    function: Objective,
    *,
    request: Request,
    space: SearchSpace | None,
    objectives: Mapping[str, str] | None,
    label: str | None = None,
    strategy: Any = None,
    settings: Mapping[str, Any] | None = None,
) -> Plan:
    """The plan for a function of the user's own."""
    label = label or label_of(function)
    chosen = make_strategy(strategy if strategy is not None else request.strategy)
    objectives = dict(objectives or {"loss": "min"})
    execution = _execution(request)
    terms = Terms(
        name=request.name or f"{_slug(label)}-{time.strftime('%Y%m%d-%H%M%S')}",
        space=space,
        objectives=objectives,
        strategy=chosen,
        seed=request.seed,
        limits=_limits(request),
        settings=_settings(execution.workers, request.max_steps, settings or {}),
        identity={"objective": label},
        meta={"request": _plain_request(request, label)},
    )
    chosen.check(space or SearchSpace({}), len(objectives), terms.settings.max_steps)
    return Plan(
        terms=terms,
        tracking=_tracking(request),
        execution=execution,
        objective=function,
        edit=request.edit_space,
    )


def _plan_table(request: Request, execution: Execution) -> Plan:
    from flows.objectives import make_objective

    if request.data is None:
        raise InputError(
            f"{request.objective} needs data: a CSV or Parquet file, or sklearn:NAME (--data ...)"
        )
    threads = max((os.cpu_count() or 1) // execution.workers, 1)
    table = make_objective(
        request.objective,
        data=request.data,
        target=request.target,
        metric=request.metric,
        task=request.task,
        space=request.space,
        options={"threads": threads, **request.options},
    )
    prepared = table.prepare()
    strategy = make_strategy(request.strategy)
    max_steps = request.max_steps or prepared.n_steps
    terms = Terms(
        name=request.name or _table_name(request, prepared.digest),
        space=prepared.space,
        objectives=dict(prepared.objectives),
        strategy=strategy,
        seed=request.seed,
        limits=_limits(request),
        settings=_settings(execution.workers, max_steps, {}),
        identity={"objective": request.objective, "data": prepared.data_digest, "question": prepared.digest},
        meta={
            "request": _plain_request(request, request.objective),
            "description": prepared.description,
            "summary": prepared.summary,
            "step_unit": prepared.step_unit,
        },
    )
    strategy.check(prepared.space, len(prepared.objectives), max_steps)
    return Plan(
        terms=terms,
        tracking=_tracking(request),
        execution=execution,
        objective=table,
        table=table,
        register_as=request.register_as,
        edit=request.edit_space,
        notes=tuple(prepared.notes),
    )


def _table_name(request: Request, digest: str) -> str:
    """The same command gives the same name, so that it resumes; another question gives another."""
    source = (
        (request.data or "").partition(":")[2]
        if str(request.data).startswith("sklearn:")
        else Path(str(request.data)).stem
    )
    words = f"{digest} {request.strategy} {request.seed}"
    return f"{request.objective}-{_slug(source)}-{hashlib.sha256(words.encode()).hexdigest()[:6]}"


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-.")[:60] or "study"


def _plain_request(request: Request, label: str) -> dict[str, Any]:
    """The request as resume needs it; secrets do not belong into a journal."""
    data = {k: v for k, v in vars(request).items() if v not in (None, {}, False)}
    data.pop("tracking_uri", None)
    return {**data, "objective": label}


def _execution(request: Request) -> Execution:
    workers = request.workers if request.workers is not None else (os.cpu_count() or 1)
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise InputError(f"workers must be a whole number of at least 1, got {workers!r}")
    if request.trials is not None and (not isinstance(request.trials, int) or request.trials < 1):
        raise InputError(f"trials must be a whole number of at least 1, got {request.trials!r}")
    for name in ("timeout", "trial_timeout", "trial_memory"):
        value = getattr(request, name)
        if value is not None and not value > 0:
            raise InputError(f"{name} must be above 0, got {value!r}")
    memory = None if request.trial_memory is None else int(request.trial_memory * 2**20)
    return Execution(
        workers=workers,
        runner=request.runner,
        isolation=request.isolation,
        limits=TrialLimits(seconds=request.trial_timeout, memory=memory),
        granularity=request.granularity,
        gpus_per_trial=request.gpus_per_trial,
        dask=request.dask,
    )


def _limits(request: Request) -> Limits:
    return Limits(trials=request.trials, seconds=request.timeout, failures=request.max_failures)


def _settings(workers: int, max_steps: int | None, more: Mapping[str, Any]) -> Settings:
    unknown = [name for name in more if name not in Settings.__slots__]
    if unknown:
        raise InputError(f"unknown setting {unknown[0]!r}{nearest(unknown[0], Settings.__slots__)}")
    return Settings(**{"workers": workers, "max_steps": max_steps, **more})


def _tracking(request: Request) -> TrackingTerms:
    return TrackingTerms(uri=request.tracking_uri, experiment=request.experiment, offline=request.offline)


# -- objectives by name ------------------------------------------------------------------------


def load_objective(reference: str) -> Objective:
    """The function that ``PATH.py:name`` or ``package.module:name`` means.

    Raises :class:`ObjectiveError` with the nearest names.
    """
    place, colon, name = reference.rpartition(":")
    if not colon or not place or not name:
        raise ObjectiveError(
            f"an objective is one of {', '.join(READY)}, PATH.py:function or package.module:function, got "
            f"{reference!r}{nearest(reference, READY)}"
        )
    module = _module_of_file(Path(place)) if place.endswith(".py") else _module(place)
    function = getattr(module, name, None)
    if function is None:
        public = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise ObjectiveError(f"{place} has no function {name!r}{nearest(name, public)}")
    if not callable(function):
        raise ObjectiveError(f"{reference} is {type(function).__name__}, not a function of a trial")
    return function


def _module(name: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ObjectiveError(f"module {name!r} cannot be imported: {error}") from None


def _module_of_file(path: Path) -> Any:
    if not path.is_file():
        raise ObjectiveError(f"there is no file {str(path)!r}; give the path of a Python file")
    name = path.stem
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(path.resolve()):
        return known
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise ObjectiveError(f"{path} cannot be loaded as a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # noqa: BLE001 - whatever the user's file raises is theirs to read
        del sys.modules[name]
        raise ObjectiveError(f"{path} cannot be loaded: {type(error).__name__}: {error}") from None
    return module


def label_of(function: Callable[..., Any]) -> str:
    """``module:name`` of a function, the same in every process that defines it."""
    target = function if inspect.isroutine(function) or inspect.isclass(function) else type(function)
    return f"{target.__module__}:{target.__qualname__}"


def _space_of(function: Objective, given: str | None) -> SearchSpace | None:
    """A space file's content, else what the function carries as ``function.space``, else define-by-run."""
    if given is not None:
        from flows.objectives import read_space

        return read_space(given)
    space = getattr(function, "space", None)
    if space is None or isinstance(space, SearchSpace):
        return space
    return SearchSpace(space)
