"""The trial's run as MLflow's active run, so that plain ``mlflow.log_*`` and autolog land in it.

Lazy in every way: nothing is imported, asked or created unless the objective uses MLflow. Then the run's
id is asked for once, through ``resolve``, which makes the driver create the run.

What happens when MLflow is away:

- Metrics, parameters and tags that the objective logs itself are kept in memory and sent when MLflow is
  back, at the latest once more when the trial ends; then they are dropped with a warning. Training goes on.
  (What it *reports* to the study is in the journal and cannot be lost.)
- If there was no run yet, the objective logs to a database of its own, in ``scratch``; in a thread,
  which shares MLflow's global settings with other trials, what it logs is dropped with a warning.
- Artifacts and models raise, since nobody else has a copy of them.

Where MLflow's stack of active runs is not as expected (:mod:`tracking._fluent`), the run is made active by
``start_run``, eagerly.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tracking import _settings, _sqlite
from tracking._current_trial import current
from tracking._errors import brief, is_permanent
from tracking._fluent import FLUENT, AfterImport, end_strays, known_stack, others, pop, prepare_store, push

# While MLflow is away, one call in so many seconds finds out whether it is back.
_PAUSE = 30.0
_MOST_KEPT = 10_000
# Tells the driver's own process from its children, on any machine.
PROCESS = uuid.uuid4().hex
_log = logging.getLogger("tracking")


class _TrialRun:
    """One trial's run: its id once somebody needs it, and what could not be sent to it yet."""

    def __init__(
        self, resolve: Callable[[], str], scratch: Path | None, *, whole_process: bool, restored: bool
    ) -> None:
        self.resolve = resolve
        self._names_experiment = whole_process or restored
        self._scratch = scratch
        self.whole_process = whole_process
        self._lock = threading.RLock()
        self._run: Any = None
        self._nowhere = False
        self._closed_until = 0.0
        self._kept: deque[Callable[[], Any]] = deque()
        self._dropped = 0
        self._pid = os.getpid()
        self._former: dict[str, str | None] = {}
        self._chosen: str | None = None

    def below(self, resolve: Callable[[], str]) -> _TrialRun:
        """Another run that is used as this one is."""
        return _TrialRun(resolve, self._scratch, whole_process=self.whole_process, restored=False)

    @property
    def run(self) -> Any:
        """The run as MLflow has it; the first use asks the driver."""
        with self._lock:
            if self._run is None and os.getpid() != self._pid:
                raise RuntimeError(
                    "a forked process cannot open the trial's MLflow run; use mlflow before the fork, once"
                )
            if self._run is None:
                self._run = self._found()
            return self._run

    def _found(self) -> Any:
        from mlflow import MlflowClient

        _settings.set_up_process()
        try:
            run_id = self.resolve()
            prepare_store()
            run = MlflowClient().get_run(run_id)
            # Runs that the objective starts below this one belong to its experiment.
            if self._names_experiment and "MLFLOW_EXPERIMENT_ID" not in os.environ:
                os.environ["MLFLOW_EXPERIMENT_ID"] = run.info.experiment_id
                # Trials in threads share it; the last of them brings the former settings back.
                self._former = {"MLFLOW_EXPERIMENT_ID": None} if self.whole_process else {}
            return run
        except Exception as error:  # noqa: BLE001 - whatever it was, training goes on without it
            return self._elsewhere(brief(error))

    def _elsewhere(self, why: str) -> Any:
        """A run in a database of our own; in a thread, one that exists nowhere."""
        if not self.whole_process:
            self._nowhere = True
            prepare_store()
            _log.warning("what this trial logs to MLflow by itself is lost: %s", why)
            return _made_up_run()
        import mlflow

        folder = self._scratch if self._scratch is not None else Path.cwd()
        folder.mkdir(parents=True, exist_ok=True)
        database = folder / "mlflow-offline.db"
        _sqlite.prepare_sqlite(database)
        uri = _sqlite.database_uri(database)
        _log.warning("what this trial logs to MLflow by itself goes to %s: %s", uri, why)
        names = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID")
        self._former = {name: os.environ.get(name) for name in names}
        self._chosen = _settings.chosen_uri()
        mlflow.set_tracking_uri(uri)
        where = (folder / "mlflow-offline-artifacts").absolute().as_uri()
        # All trials of the study share it, and those of several workers begin at once.
        with _sqlite.alone(database):
            client = mlflow.MlflowClient(uri)
            found = client.get_experiment_by_name("offline")
            experiment = (
                found.experiment_id if found else client.create_experiment("offline", artifact_location=where)
            )
        os.environ["MLFLOW_EXPERIMENT_ID"] = experiment
        return client.create_run(experiment)

    # -- writes while MLflow is away -----------------------------------------------------------

    def guarded(self, write: Callable[[], Any]) -> Any:
        """Do the write, or keep it for later. What MLflow refuses for good is raised."""
        if self._nowhere:
            self._dropped += 1
            return None
        with self._lock:
            if time.monotonic() < self._closed_until:
                self._keep(write)
                return None
            try:
                self._resend()
                result = write()
            except Exception as error:
                if is_permanent(error) or not _is_outage(error):
                    raise
                if not self._closed_until:
                    _log.warning("MLflow is away, training goes on: %s", brief(error))
                self._closed_until = time.monotonic() + _PAUSE
                self._keep(write)
                return None
            self._closed_until = 0.0
            return result

    def _keep(self, write: Callable[[], Any]) -> None:
        if len(self._kept) < _MOST_KEPT:
            self._kept.append(write)
        else:
            self._dropped += 1

    def _resend(self) -> None:
        while self._kept:
            try:
                self._kept[0]()
            except Exception as error:
                if not is_permanent(error):
                    raise
                self._dropped += 1
            self._kept.popleft()

    def close(self) -> None:
        """The objective is over: the last chance for what was kept."""
        with self._lock:
            try:
                self._resend()
            except Exception as error:  # noqa: BLE001 - the trial itself is fine
                self._dropped += len(self._kept)
                self._kept.clear()
                _log.warning("%d writes of this trial to MLflow are lost: %s", self._dropped, brief(error))
        if "MLFLOW_TRACKING_URI" in self._former:
            import mlflow

            mlflow.set_tracking_uri(self._chosen)
        _set_environment(self._former)


# -- the context manager -----------------------------------------------------------------------


@contextlib.contextmanager
def trial_run(
    resolve: Callable[[], str],
    *,
    whole_process: bool = True,
    scratch: Path | None = None,
    restored: bool = False,
) -> Iterator[None]:
    """Inside, the trial's run is MLflow's active run. It is neither ended nor changed on leaving.

    ``resolve`` returns the run's id, or raises when there is none to be had; called at most once, from
    the first thread that uses MLflow. ``whole_process``: the process runs one trial at a time, so all its
    threads get the run; otherwise this thread does, and those that it starts. ``scratch``: a folder for what
    is logged while there is no server, see above. ``restored``: the caller brings back MLflow's variables
    that threads share.
    """
    os.environ.pop("MLFLOW_RUN_ID", None)
    trial = _TrialRun(resolve, scratch, whole_process=whole_process, restored=restored)
    current.enter(trial)
    hook = None
    fluent = _loaded(FLUENT)
    callers: list[Any] = []
    if fluent is not None:
        callers = others(fluent)
        push(fluent)
    else:
        hook = AfterImport(push)
        sys.meta_path.insert(0, hook)
    try:
        yield
    finally:
        if hook is not None and hook in sys.meta_path:
            sys.meta_path.remove(hook)
        fluent = _loaded(FLUENT)
        if fluent is not None:
            end_strays(fluent, callers)
            pop(fluent)
        trial.close()
        current.leave(trial)


@contextlib.contextmanager
def run_below(make: Callable[[Any], str]) -> Iterator[Callable[[], str | None]]:
    """Inside, a run of its own below the trial's is MLflow's active run, once somebody uses it.

    ``make`` makes it, given the trial's run, and returns its id. Yields a way to ask for that id, ``None`` as
    long as there is no such run. Outside of a trial, and with an MLflow that we do not know, nothing changes.
    """
    outer, fluent = current.get(), _loaded(FLUENT)
    if outer is None or (fluent is not None and known_stack(fluent) is None):
        yield lambda: None
        return
    ids: list[str] = []

    def made() -> str:
        ids.append(make(outer.run))
        return ids[0]

    inner = outer.below(made)
    current.enter(inner)
    if fluent is not None:
        # The objective may have ended what it took for its own run.
        push(fluent)
    try:
        yield lambda: ids[0] if ids else None
    finally:
        inner.close()
        current.leave(inner, outer)


class TrialRunActivator:
    """``trial_run`` for this process, from :meth:`StudyTracker.worker_settings`; takes ``resolve``.

    In a worker process MLflow's settings are made here, for good. In the driver's own process, where
    trials are threads, they hold while any trial runs or somebody is in :meth:`held`, and the former ones
    come back afterwards.
    """

    def __init__(self, *, environment: Mapping[str, str | None], scratch: str, process: str) -> None:
        self._threads = process == PROCESS
        self._scratch = Path(scratch)
        self._shared = _SharedEnvironment(environment)
        if not self._threads:
            self._shared.enter()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep the settings between two trials as well.

        A thread that reads the environment while another one adds or removes a variable fails, and every
        HTTP request reads it.
        """
        if self._threads:
            self._shared.enter()
        try:
            yield
        finally:
            if self._threads:
                self._shared.leave()

    @contextlib.contextmanager
    def __call__(self, resolve: Callable[[], str]) -> Iterator[None]:
        """Inside, the trial's run is MLflow's active run."""
        whole = not self._threads
        run = trial_run(resolve, whole_process=whole, scratch=self._scratch, restored=self._threads)
        with self.held(), run:
            yield


class _SharedEnvironment:
    """MLflow's settings in this process: the last of all studies to leave brings the former ones back.

    A variable that is to be ``None`` is removed. Each study brings its own; what was there before is kept
    once for all, since a study that begins beside another one would take that one's for the user's.
    """

    _lock = threading.Lock()
    _studies = 0

    def __init__(self, variables: Mapping[str, str | None]) -> None:
        # Set by the first trial that looks up its run, which nobody must find afterwards.
        self._variables = {"MLFLOW_EXPERIMENT_ID": None, **variables}
        self._inside = 0

    def enter(self) -> None:
        with self._lock:
            self._inside += 1
            mlflow = _loaded("mlflow")
            uri = self._variables.get("MLFLOW_TRACKING_URI")
            if self._inside == 1:
                _SharedEnvironment._studies += 1
                _settings.keep_former(self._variables)
                _set_environment(self._variables)
            if mlflow is not None and uri:
                mlflow.set_tracking_uri(uri)

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside:
                return
            _SharedEnvironment._studies -= 1
            if self._studies:
                return
            former, uri = _settings.take_former()
            mlflow = _loaded("mlflow")
            if "MLFLOW_TRACKING_URI" in former and mlflow is not None:
                mlflow.set_tracking_uri(uri)
            _set_environment(former)


def _loaded(name: str) -> Any:
    """The module if anybody has imported it, once the import is over: MLflow's takes seconds."""
    return importlib.import_module(name) if name in sys.modules else None


def _set_environment(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _is_outage(error: Exception) -> bool:
    """Whether MLflow did not answer, or not sensibly; not a mistake in the call."""
    from mlflow.exceptions import MlflowException

    return isinstance(error, MlflowException | OSError)


def _made_up_run() -> Any:
    from mlflow.entities import Run, RunData, RunInfo, RunStatus

    info = RunInfo(
        run_id="0" * 32,
        experiment_id="0",
        user_id="",
        status=RunStatus.to_string(RunStatus.RUNNING),
        start_time=0,
        end_time=None,
        lifecycle_stage="active",
    )
    return Run(info, RunData())
