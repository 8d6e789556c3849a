"""What this package knows of MLflow's insides: its stack of active runs, and the store behind a URI.

One object stands for the trial's run on the stack of each thread. Code that was written to run by itself
begins with ``mlflow.end_run()`` or wraps what it logs in ``with mlflow.start_run():``; in a trial both leave
the trial's run active, as they would a run that MLFLOW_RUN_ID names.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import logging
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from tracking import _sqlite
from tracking._current_trial import current, threads_of
from tracking._errors import brief
from tracking.tags import NOTE

FLUENT = "mlflow.tracking.fluent"
_RUN_NAME = "mlflow.runName"
_GUARDED = ("log_batch", "log_metric", "log_param", "set_tag", "log_inputs")
_log = logging.getLogger("tracking")


class AfterImport(importlib.abc.MetaPathFinder):
    """Calls back once MLflow's fluent module has been imported, whoever imports it."""

    def __init__(self, then: Callable[[ModuleType], None]) -> None:
        self._then = then

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None,  # noqa: ARG002 - the protocol's
        target: ModuleType | None = None,  # noqa: ARG002 - the protocol's
    ) -> importlib.machinery.ModuleSpec | None:
        if name != FLUENT or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        execute, then = spec.loader.exec_module, self._then

        def exec_module(module: ModuleType) -> None:
            execute(module)
            then(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]  # this one loader only
        return spec


def _lazy_run(fluent: ModuleType) -> Any:
    """The one object that stands for the current trial on every stack; made once for the process."""
    made = getattr(fluent, "_hpo_lazy_run", None)
    if made is not None:
        return made

    class LazyRun(fluent.ActiveRun):  # type: ignore[name-defined]  # of the module given
        """The active run of the current trial; looks it up when somebody wants to know more."""

        def __init__(self) -> None:
            pass

        def __getattr__(self, name: str) -> Any:
            # Run's own fields: _info, _data, _inputs, _outputs.
            if name in ("_info", "_data", "_inputs", "_outputs"):
                trial = current.get()
                if trial is None:
                    raise RuntimeError("no trial is running in this process")
                return getattr(trial.run, name)
            raise AttributeError(name)

        def __exit__(self, *_: object) -> None:
            """It goes on for as long as the trial does."""

        def __repr__(self) -> str:
            return "<the run of this trial>"

    made = LazyRun()
    fluent._hpo_lazy_run = made  # type: ignore[attr-defined]  # for whoever asks next
    return made


def _keep_open(fluent: ModuleType) -> None:
    """Have ``start_run`` hand out the trial's run where that is the active one, and ``end_run`` leave it so.

    MLflow would refuse the one, and the other would end a run that the driver goes on with. What is said of
    the run to be started (``run_name``, ``tags``, ``description``) is said of the trial's, as MLflow does
    with a run that MLFLOW_RUN_ID names.
    """
    start, end = fluent.start_run, fluent.end_run
    if hasattr(start, "_hpo_keeps_open"):
        return
    run, stack, arguments = _lazy_run(fluent), known_stack(fluent), inspect.signature(start)

    def is_trials() -> bool:
        here = stack.get()
        return current.get() is not None and bool(here) and here[-1] is run

    @functools.wraps(start)
    def start_run(*args: Any, **kwargs: Any) -> Any:
        given = arguments.bind(*args, **kwargs).arguments
        other = given.get("nested") or given.get("parent_run_id")
        named = given.get("run_id")
        if not is_trials() or other or (named and named != run.info.run_id):
            return start(*args, **kwargs)
        said = {_RUN_NAME: given.get("run_name"), NOTE: given.get("description"), **(given.get("tags") or {})}
        if tags := {name: value for name, value in said.items() if value is not None}:
            fluent.set_tags(tags)
        return run

    @functools.wraps(end)
    def end_run(*args: Any, **kwargs: Any) -> None:
        if not is_trials():
            end(*args, **kwargs)

    start_run._hpo_keeps_open = True  # type: ignore[attr-defined]  # once for the process
    package = sys.modules.get("mlflow")
    for name, before, now in (("start_run", start, start_run), ("end_run", end, end_run)):
        for module in (fluent, package):
            if getattr(module, name, None) is before:
                setattr(module, name, now)


def known_stack(fluent: ModuleType) -> Any:
    """The stack of active runs of each thread; ``None`` where it is not as we know it."""
    stack = getattr(fluent, "_active_run_stack", None)
    usable = all(hasattr(stack, n) for n in ("get", "default_factory", "get_all_thread_values"))
    return stack if usable and hasattr(fluent, "ActiveRun") else None


def push(fluent: ModuleType) -> None:
    """Make the current trial's run the active one."""
    stack = known_stack(fluent)
    if stack is None:
        # Another MLflow than we know: it adopts the run of this variable when it needs one.
        trial = current.get()
        if trial is not None:
            os.environ["MLFLOW_RUN_ID"] = trial.resolve()
        return
    _keep_open(fluent)
    run = _lazy_run(fluent)
    # Threads that the objective starts find the run as well.
    stack.default_factory = lambda: [run] if current.get() is not None else []
    here = stack.get()
    if run not in here:
        here.append(run)


def pop(fluent: ModuleType) -> None:
    """Take it away again, from all threads that have it."""
    stack = known_stack(fluent)
    if stack is None:
        os.environ.pop("MLFLOW_RUN_ID", None)
        fluent.end_run("RUNNING")
        return
    run = _lazy_run(fluent)
    for runs in _stacks(fluent):
        runs[:] = [r for r in runs if r is not run]


def _stacks(fluent: ModuleType) -> list[list[Any]]:
    """Of the threads that may run the current trial: of all where that has the process to itself."""
    stack = known_stack(fluent)
    trial = current.get()
    if stack is None or trial is None:
        return []
    used: dict[int, list[Any]] = stack.get_all_thread_values()
    if trial.whole_process:
        return list(used.values())
    return [used[t.ident] for t in threads_of(trial) if t.ident in used]


def others(fluent: ModuleType) -> list[Any]:
    """The active runs that are not a trial's own."""
    stacks = _stacks(fluent)
    lazy = _lazy_run(fluent) if stacks else None
    return [run for runs in stacks for run in runs if run is not lazy]


def end_strays(fluent: ModuleType, callers: list[Any]) -> None:
    """End the runs that the objective has left open, as MLflow does at the end of a process.

    Trial processes are killed, so MLflow never gets to it, and what the next trial logs would go there.
    """
    strays = [run for run in others(fluent) if run not in callers]
    for runs in _stacks(fluent):
        runs[:] = [run for run in runs if run not in strays]
    for run in strays:
        try:
            fluent.MlflowClient().set_terminated(run.info.run_id)
        except Exception as error:  # noqa: BLE001 - the trial itself is fine
            _log.warning("run %s, which the objective left open, stays so: %s", run.info.run_id, brief(error))


def prepare_store() -> None:
    """Let the store behind the current tracking URI survive outages in threads that run a trial."""
    try:
        from mlflow.tracking import get_tracking_uri
        from mlflow.tracking._tracking_service.utils import _get_store

        path = _sqlite.database_file(get_tracking_uri())
        if path is not None:
            _sqlite.prepare_sqlite(path)
        store = _get_store()
        if getattr(store, "_hpo_guarded", False):
            return
        for name in _GUARDED:
            setattr(store, name, _guard(getattr(store, name)))
        store._hpo_guarded = True
    except (ImportError, AttributeError):
        _log.debug("MLflow has no such store; writes are not guarded", exc_info=True)


def _guard(write: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(*args: Any, **kwargs: Any) -> Any:
        trial = current.get()
        if trial is None:
            return write(*args, **kwargs)
        return trial.guarded(lambda: write(*args, **kwargs))

    return guarded
