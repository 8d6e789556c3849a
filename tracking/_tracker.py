"""A study's tracking in MLflow, as the driver sees it: start, notify, ask for a run, close."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpo_core import HpoError, JournalError
from tracking import _settings
from tracking._active_run import PROCESS
from tracking._connection import Connection, connect, refused, resolve_uri
from tracking._cursor import FILE
from tracking._errors import NoRunYet, TrackingError, brief, is_denied, is_permanent
from tracking._lease import Fenced
from tracking._options import TrackerOptions
from tracking._projector import Projector

# How long news gather before the journal is read again; reading line by line would cost the driver.
_GATHER = 0.1
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 60.0
_PAUSE_WHEN_CLOSING = 0.5
# For the study's own run, when the rest is given up.
_LAST_SECONDS = 2.0
# How long a trial that asks for its run waits for a start that is on its way, counted from its beginning.
_START_SECONDS = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerStatus:
    """``degraded``: what is wrong between us and MLflow, in a sentence, or ``None``.

    ``delivered_seq``: MLflow shows all events up to this one. ``pending_events``: how many wait.
    ``pending_files``: uploads that wait. ``away``: why nothing arrives at the moment, in a sentence, or
    ``None``. ``refused``: how many items MLflow will never take.
    """

    degraded: str | None
    delivered_seq: int
    pending_events: int
    pending_files: int = 0
    away: str | None = None
    refused: int = 0


class StudyTracker:
    """Shows the study in ``folder``, which holds ``journal.jsonl``, in MLflow while it runs.

    One thread of the driver's process follows the journal and writes; a second one uploads files. When
    MLflow is away, they try again for ever, and :attr:`status` says so; the journal keeps everything.

    ``tracking_uri``: ``None`` for MLflow's own default. ``adopt_run``: a run that becomes the study's,
    as the one that ``mlflow run`` opens. ``known_run``: the run that showed the study in this experiment, by
    which a renamed one is found. ``offline``: track nothing now; the next tracker that is not offline
    catches up.
    """

    def __init__(
        self,
        folder: Path,
        tracking_uri: str | None,
        experiment: str,
        *,
        adopt_run: str | None = None,
        known_run: str | None = None,
        offline: bool = False,
        options: TrackerOptions | None = None,
    ) -> None:
        self._folder = Path(folder)
        self._uri = tracking_uri
        self._experiment = experiment
        self._adopt_run = adopt_run
        self._known_run = known_run
        self.offline = offline
        self._options = options or TrackerOptions()
        self._changed = threading.Condition()
        self._connection: Connection | None = None
        self._projector: Projector | None = None
        self._thread: threading.Thread | None = None
        self._grown = False
        self._wanted: set[int] = set()
        self._deadline: float | None = None
        self._complete = False
        self._given_up = False
        self._away: str | None = None
        self._degraded: str | None = "tracking is offline" if offline else None
        self._begun: float | None = None  # when the start did, monotonic
        self._started = offline  # or failed to
        self._counts = (-1, 0)
        # Why the driver has to stop: another one has gone on with the study.
        self.fenced: str | None = None

    # -- the driver's calls --------------------------------------------------------------------

    def start(self) -> str | None:
        """Connect, find or make the study's run, and begin to follow the journal.

        Returns the id of the study's run, ``None`` when offline. Raises :class:`InputError` when the
        tracking server does not answer (:class:`Away`: it may be tried again) or the experiment cannot be
        used.
        """
        if self.offline:
            return None
        with self._changed:
            self._begun = time.monotonic()
            self._changed.notify_all()
        try:
            return self._start()
        except BaseException as error:
            self._degraded = brief(error)
            raise
        finally:
            with self._changed:
                self._started = True
                self._changed.notify_all()

    def _start(self) -> str:
        self._connection = connect(self._uri, self._experiment, self._known_run)
        try:
            projector = Projector(self._folder, self._connection, self._options)
            parent = projector.open(time.monotonic(), self._adopt_run)
        except HpoError:
            raise
        except Exception as error:
            raise refused(self._connection.uri, error) from error
        self._projector = projector
        # Whoever starts a run in this process or a child of it must not get the study's.
        if os.environ.get("MLFLOW_RUN_ID") in (parent, self._adopt_run):
            os.environ.pop("MLFLOW_RUN_ID", None)
        self._counts = (projector.delivered_seq, projector.pending_events)
        self._thread = threading.Thread(target=self._run, name="hpo-tracking", daemon=True)
        self._thread.start()
        return parent

    def forget(self) -> None:
        """Forget what was delivered, before :meth:`start`: everything is looked for and written again."""
        (self._folder / FILE).unlink(missing_ok=True)

    def notify(self) -> None:
        """The journal has grown. Costs about a microsecond."""
        if not self._grown:
            with self._changed:
                self._grown = True
                self._changed.notify_all()

    def run_id(self, trial: int, timeout: float) -> str:
        """The id of the trial's run, which is made now if there is none. Any thread may ask.

        :meth:`start` may still be on its way, and is waited for: to a slow server it takes longer than a run
        may. One that hangs holds up training for minutes, once. Raises :class:`NoRunYet`, a
        ``TimeoutError``, when there is no answer within ``timeout`` seconds after it.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._begun is not None or self._started, timeout)
            if self._begun is not None:
                left = self._begun + _START_SECONDS - time.monotonic()
                self._changed.wait_for(lambda: self._started, left)
            if self._projector is None:
                raise NoRunYet(f"trial {trial} has no run: {self._degraded or 'tracking has not started'}")
            deadline = time.monotonic() + timeout
            while True:
                run_id = self._run_of(trial)
                if run_id is not None:
                    return run_id
                left = deadline - time.monotonic()
                if left <= 0 or self._complete:
                    why = self._degraded or "MLflow did not answer in time"
                    raise NoRunYet(f"trial {trial} has no run yet: {why}")
                self._wanted.add(trial)
                self._changed.notify_all()
                self._changed.wait(left)

    @property
    def status(self) -> TrackerStatus:
        """How far the projection is; cheap, any thread may ask."""
        delivered, pending = self._counts
        projector = self._projector
        files = projector.uploads.pending if projector else 0
        degraded = self._degraded or (projector.uploads.trouble if projector else None)
        return TrackerStatus(
            degraded=degraded,
            delivered_seq=delivered,
            pending_events=pending,
            pending_files=files,
            away=self._away,
            refused=len(projector.refusals) if projector else 0,
        )

    def close(self, timeout: float = 30.0) -> bool:
        """Write what is left, close what is open; whether all arrived.

        Gives up when nothing has arrived for ``timeout`` seconds; a long backlog that moves is waited for.
        An unfinished study is shown as suspended. What did not arrive is in the journal: the next
        tracker on this folder delivers it. Calling it twice is harmless.
        """
        if self._thread is None:
            return True
        written, deadline = -1, 0.0
        while self._thread.is_alive():
            now, before, written = time.monotonic(), written, self._written()
            if written != before:
                with self._changed:
                    self._deadline = deadline = now + timeout
                    self._changed.notify_all()
            # A request that hangs cannot be interrupted; its thread dies with the process.
            if self._given_up:
                self._thread.join(_LAST_SECONDS)
            if self._given_up or now >= deadline + _PAUSE_WHEN_CLOSING:
                break
            self._thread.join(_PAUSE_WHEN_CLOSING)
        return self._complete and not self._thread.is_alive()

    def give_up(self) -> None:
        """Have :meth:`close`, which waits in another thread, leave what is left to the next tracker."""
        with self._changed:
            self._given_up = True
            self._deadline = time.monotonic()
            self._changed.notify_all()

    def _written(self) -> int:
        projector = self._projector
        return 0 if projector is None else projector.writes + projector.uploads.done

    @property
    def connection(self) -> Connection:
        """The connection, once started. Raises :class:`TrackingError` before and when offline."""
        if self._connection is None:
            raise TrackingError(f"there is no connection to MLflow: {self._degraded or 'start first'}")
        return self._connection

    @property
    def experiment(self) -> str:
        """The experiment's name."""
        return self._experiment

    def worker_settings(self) -> dict[str, Any]:
        """What :func:`tracking.TrialRunActivator` needs wherever trials run; plain JSON."""
        variables: dict[str, str | None] = dict(_settings.settings_for_trials())
        variables.update(
            MLFLOW_RUN_ID=None,
            MLFLOW_EXPERIMENT_NAME=None,
            MLFLOW_DISABLE_TELEMETRY=os.environ.get("MLFLOW_DISABLE_TELEMETRY", "true"),
            MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT="true",
        )
        if not self.offline:
            variables["MLFLOW_TRACKING_URI"] = resolve_uri(self._uri)
            # Known once the run is, see _active_run.
            variables["MLFLOW_EXPERIMENT_ID"] = None
        return {"environment": variables, "scratch": str(self._folder), "process": PROCESS}

    @property
    def parent_url(self) -> str | None:
        """Where a browser shows the study's run; ``None`` where there is no server with pages."""
        if self._connection is None or self._projector is None:
            return None
        return self._connection.url(self._projector.parent)

    def _run_of(self, trial: int) -> str | None:
        projector = self._projector
        if projector is None or trial >= len(projector.view.trials):
            return None
        view = projector.view.trials[trial]
        # A wanted run counts only once its parameters are in it: the user's own come after them.
        return None if view.wanted else view.run_id

    # -- the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        assert self._projector is not None
        projector, pause, not_before, gathered = self._projector, _FIRST_PAUSE, 0.0, 0.0
        while self._wait(projector, not_before, gathered):
            closing = self._deadline is not None
            try:
                self._round(projector, closing)
                if closing:
                    break
                pause, not_before = _FIRST_PAUSE, 0.0
                self._away, self._degraded = None, self._refusals(projector)
            except Fenced as error:
                self._degraded = self.fenced = str(error)
                break
            except Exception as error:  # noqa: BLE001 - whatever MLflow does, training goes on
                self._away = self._degraded = _trouble(error)
                not_before = time.monotonic() + (_PAUSE_WHEN_CLOSING if closing else pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
            gathered = time.monotonic() + _GATHER
            with contextlib.suppress(RuntimeError):
                self._counts = (projector.delivered_seq, projector.pending_events)
            with self._changed:
                self._changed.notify_all()
        self._end(projector)

    def _round(self, projector: Projector, closing: bool) -> None:
        self._grown = False
        projector.read(time.monotonic())
        if closing:
            if projector.finish(time.monotonic(), lambda: self._given_up):
                projector.upload_journal(time.monotonic(), leaving=True)
                self._complete = True
            return
        with self._changed:
            wanted, self._wanted = self._wanted, set()
        for trial in wanted:
            if not projector.want(trial, time.monotonic()):
                with self._changed:
                    self._wanted.add(trial)
        projector.deliver(time.monotonic())

    def _wait(self, projector: Projector, not_before: float, gathered: float) -> bool:
        """Sleep until there is something to do; ``False`` when the time for closing is over."""
        with self._changed:
            while True:
                now = time.monotonic()
                if self._deadline is not None and now >= self._deadline:
                    return False
                urgent = self._wanted or self._deadline is not None
                due = now if urgent else projector.next_due()
                if self._grown:
                    due = min(due, gathered)
                due = max(due, not_before)
                if self._wanted and self._deadline is None:
                    # A trial that the journal does not know yet: the driver will notify.
                    due = max(due, gathered)
                if due <= now:
                    return True
                if self._deadline is not None:
                    due = min(due, self._deadline)
                self._changed.wait(due - now)

    def _end(self, projector: Projector) -> None:
        if self._deadline is None:
            self._deadline = time.monotonic()  # fenced: nothing more is to be written
        while not projector.uploads.emptied(_PAUSE_WHEN_CLOSING) and time.monotonic() < self._deadline:
            pass  # the deadline moves as long as something arrives
        uploaded = projector.uploads.close(self._deadline)
        if self._complete:
            self._counts = (projector.delivered_seq, projector.pending_events)
            self._degraded = self._refusals(projector)
        self._complete = self._complete and uploaded
        projector.close()
        with self._changed:
            self._changed.notify_all()

    @staticmethod
    def _refusals(projector: Projector) -> str | None:
        if not projector.refusals:
            return None
        number, what, why = projector.refusals[-1]
        where = "the study" if number < 0 else f"trial {number}"
        items = len(projector.refusals)
        return f"MLflow refused {items} item{'s' * (items > 1)}, the last was {what} of {where}: {why}"


def _trouble(error: Exception) -> str:
    if isinstance(error, JournalError):
        return brief(error)
    what = "takes nothing" if is_permanent(error) else "is away"
    if is_denied(error):
        what = "does not let us in"
    return f"MLflow {what}, everything waits in the journal: {brief(error)}"
