"""What a user asks for in plain JSON types, and the terms that follow from each part of it alone."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows._experiment import TrackingTerms
from flows._make_runner import RunnerTerms
from flows._named import READY
from flows._workspace import study_folder
from flows.runners._port import TrialLimits
from hpo_core import InputError, Limits, Settings
from hpo_core.inner import IMPROVEMENTS, check_whole, is_number, nearest, single
from tracking import UPLOADED, check_registered, redacted

OF_TABLES = ("data", "target", "task", "register_as")
# Trials of a study that nothing else would end.
DEFAULT_TRIALS = 100
# What a request calls the limits of a study (:class:`hpo_core.Limits`) that can be raised later.
TOTALS = {
    "trials": "trials",
    "timeout": "seconds",
    "max_total_steps": "steps",
    "max_cost": "cost",
    "max_failures": "failures",
}
# Settings that a request has under the same name, and leaves alone with None.
RULES = ("rule", "on_duplicate", "max_attempts")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user can ask of a study, in plain JSON types: the command line's and deployments' form.

    ``objective``: ``lgbm``, ``sklearn``, ``torch``, ``PATH.py:function``, ``package.module:function``, or
    ``FOLDER#ENTRY`` for an entry point of an MLflow project, whose ``env_manager`` is that of ``mlflow run``.
    ``options``: further settings of a ready objective, parameters of a project that are not tuned.
    ``metric``: ``NAME=min`` or ``NAME=max`` for all but ready objectives. ``outcome_constraints``: bounds
    on metrics such as ``latency_ms <= 10``, see :class:`hpo_core.Settings`. ``space``: a file, or JSON text.
    ``timeout``: seconds for the study; ``max_cost``: worker-seconds of all trials together;
    ``max_total_steps``: steps of all trials together; ``max_steps``: the step at which a trial is complete.
    ``trials``: the study's total; left out, any of the others, or ``stop_when``, alone ends the study, and
    where there is none, 100 trials do. ``trial_timeout`` and ``trial_memory`` (MiB): hard limits per attempt.
    ``checkpoint_quota``: MiB for all of a study's checkpoints on this machine. ``upload_checkpoints``: which
    of them MLflow gets, ``none``, ``best`` or ``kept``, see :class:`tracking.TrackerOptions`.
    ``stop_when``: ``noise``, ``never`` or a number, see ``hpo_core.Limits.improvement``.
    ``deterministic``, ``rule``, ``on_duplicate``, ``max_attempts``, ``max_steps``: see ``hpo_core.Settings``.
    ``strategy``: a name, or JSON text such as ``{"name": "asha", "eta": 2}``, see ``hpo_core.make_strategy``.
    ``granularity``: seconds of tiny trials that share one task run of Prefect.
    ``register_as``: registered model that the best final model goes to, under the alias ``champion``.
    ``warm_start``: sources of results to begin with, see :func:`flows.sources.parse_source`.
    ``enqueue``: configurations to try before the sampler is asked, as dicts or their JSON text; what one
    leaves out is sampled.
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
    upload_checkpoints: str = "best"
    max_failures: int | None = None
    max_total_steps: int | None = None
    max_cost: float | None = None
    stop_when: float | str | None = None
    max_steps: int | None = None
    granularity: float = 1.0
    edit_space: bool = False
    gpus_per_trial: float | None = None
    dask: str | None = None
    warm_start: tuple[str, ...] = ()
    enqueue: tuple[Any, ...] = ()
    env_manager: str | None = None
    deterministic: bool = False
    rule: str | None = None
    on_duplicate: str | None = None
    max_attempts: int | None = None
    repeats: int | None = None
    outcome_constraints: tuple[str, ...] = ()
    confirms: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def may_end_early(self) -> bool:
        """Whether time, worker-seconds or steps may be over before the trials are."""
        return any(v is not None for v in (self.timeout, self.max_total_steps, self.max_cost))


def check_used(request: Request) -> None:
    """Raise for what the request asks for and its runner would leave alone.

    Not part of a plan, as a study whose journal says so goes on as it did.
    """
    if request.register_as is not None:
        check_registered(request.register_as)
    if request.dask is not None and request.runner != "dask":
        raise InputError(f"the address {request.dask!r} goes with the runner 'dask', got {request.runner!r}")
    if request.gpus_per_trial is not None and request.runner == "local":
        raise InputError("gpus_per_trial goes with the runners 'gpu' and 'dask', got 'local'")
    if request.isolation == "thread" and request.runner in ("dask", "gpu"):
        raise InputError(
            f"isolation 'thread' is for trials in this process, and the runner {request.runner!r} has "
            "processes of its own; leave one of them out"
        )

    _check_threads(request)


def _check_threads(request: Request) -> None:
    limits = [name for name in ("trial_timeout", "trial_memory") if getattr(request, name) is not None]
    if request.isolation == "thread" and limits:
        raise InputError(
            f"a trial in a thread cannot be killed at a limit such as {limits[0]}; use isolation 'process', "
            "or drop the limits on time and memory per trial"
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


def refuse_beside_project(request: Request) -> None:
    """Raise for fields that an MLflow project does not take. Its parameters, which are the options, may have
    any name.
    """
    for name in OF_TABLES:
        given = getattr(request, name)
        if given is not None:
            term = name.removesuffix("_as")
            raise InputError(
                f"the option {term!r} goes with the ready objectives ({', '.join(READY)}), not with "
                f"{request.objective!r}; a parameter of the project is given as --option {term}={given}"
            )


def plain_request(request: Request, label: str, strategy: Any) -> dict[str, Any]:
    """The request as resume needs it; secrets do not belong into a journal.

    ``strategy``: what was given in place of the name in the request; an object goes by none.
    """
    data = {k: v for k, v in vars(request).items() if v is not None and v is not False and not _empty(v)}
    for circumstance in ("tracking_uri", "offline", "edit_space", "enqueue"):
        data.pop(circumstance, None)
    if not isinstance(strategy, str | None):
        data.pop("strategy", None)
    for name in ("data", "space"):
        if _is_file(text := data.get(name) or ""):
            data[name] = str(Path(text).resolve())
    if "warm_start" in data:
        data["warm_start"] = [redacted(source) for source in data["warm_start"]]
    return {**data, "objective": label}


def _is_file(text: str) -> bool:
    """Whether it is a path of a file. A space may be its own text, and that longer than a name can be."""
    with contextlib.suppress(OSError):
        return Path(text).is_file()
    return False


def _empty(value: Any) -> bool:
    """Whether it is a dict or tuple of nothing; of an array that would be a question for each number."""
    return isinstance(value, dict | tuple) and not value


def runner_terms_of(request: Request) -> RunnerTerms:
    """How and where trials run. Raises :class:`InputError` for what makes no sense."""
    if request.name is not None:
        study_folder(request.name)
    workers = request.workers if request.workers is not None else (os.cpu_count() or 1)
    check_whole("workers", workers)
    if request.trials is not None:
        check_whole("trials", request.trials)
    if request.seed is not None:
        check_whole("seed", request.seed, 0)
    if not (is_number(request.granularity) and 0 <= request.granularity < math.inf):
        raise InputError(
            f"granularity must be a number of seconds of at least 0, got {request.granularity!r}"
        )
    for name in ("timeout", "trial_timeout", "trial_memory", "checkpoint_quota", "gpus_per_trial"):
        value = getattr(request, name)
        if value is not None and not (is_number(value) and 0 < value < math.inf):
            raise InputError(f"{name} must be a number above 0, got {value!r}")
    memory, quota = map(_in_bytes, (request.trial_memory, request.checkpoint_quota))
    return RunnerTerms(
        workers=workers,
        runner=request.runner,
        isolation=request.isolation,
        limits=TrialLimits(seconds=request.trial_timeout, memory=memory),
        granularity=request.granularity,
        quota=quota,
        gpus_per_trial=request.gpus_per_trial,
        dask=request.dask,
    )


def _in_bytes(mib: float | None) -> int | None:
    """Whole numbers have no largest one, and what is asked for may be more bytes than a float can say."""
    return None if mib is None else int(mib) * 2**20 + int(mib % 1 * 2**20)


def limits_of(request: Request) -> Limits:
    """What ends the study."""
    improvement = _improvement(request.stop_when)
    limits = {limit: getattr(request, name) for name, limit in TOTALS.items()}
    # Who gives a time and no number of trials wants the time to be used.
    if request.trials is None and not request.may_end_early and improvement in (None, "never"):
        limits["trials"] = DEFAULT_TRIALS
    return Limits(**limits, improvement=improvement)


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


def settings_of(request: Request, workers: int, max_steps: int | None, more: Mapping[str, Any]) -> Settings:
    """The rules of the study; ``more``: fields of it given as such."""
    if not isinstance(more, Mapping):
        raise InputError(f"settings must be a dict of names and values, got {more!r}")
    unknown = [name for name in more if name not in Settings.__slots__]
    if unknown:
        known = Settings.__slots__
        raise InputError(
            f"unknown setting {unknown[0]!r}{nearest(unknown[0], known)} (known: {', '.join(known)})"
        )
    given = {
        "workers": workers,
        "max_steps": max_steps,
        "deterministic": request.deterministic,
        "outcome_constraints": request.outcome_constraints,
    }
    given |= {name: value for name in RULES if (value := getattr(request, name)) is not None}
    return Settings(**{**given, **more})


def queue_of(request: Request) -> tuple[dict[str, Any], ...]:
    """The configurations that the user wants to be tried first."""
    given = request.enqueue
    if isinstance(given, Mapping | str) or not isinstance(given, Iterable):
        raise InputError(f"enqueue takes a list of configurations such as [{{'lr': 0.1}}], got {given!r}")
    return tuple(map(_configuration, given))


def _configuration(given: Any) -> dict[str, Any]:
    """The configuration in JSON's own types."""
    try:
        content = json.loads(given) if isinstance(given, str) else given
        content = json.loads(json.dumps({name: single(value) for name, value in content.items()}))
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise InputError(
            f'a configuration is a dict of names and values such as {{"lr": 0.1}}, got {given!r}'
        ) from None
    return dict(content)


def tracking_terms_of(request: Request) -> TrackingTerms:
    """Where the study is shown."""
    for term, example in (("tracking_uri", "sqlite:///x.db"), ("experiment", "churn")):
        given = getattr(request, term)
        if not isinstance(given, str | None):
            raise InputError(f"{term} must be text such as {example!r}, got {given!r}")
    uploaded = request.upload_checkpoints
    if uploaded not in UPLOADED:
        raise InputError(
            f"upload_checkpoints must be one of {', '.join(UPLOADED)}, got {uploaded!r}"
            f"{nearest(uploaded, UPLOADED)}"
        )
    return TrackingTerms(
        uri=request.tracking_uri,
        experiment=request.experiment,
        offline=request.offline,
        checkpoints=uploaded,
    )
