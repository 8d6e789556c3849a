"""Which trial's objective is running here: MLflow's fluent calls are about its run."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, Protocol


class TrialRun(Protocol):
    """A trial's run, as those need it who act on behalf of the trial that is running.

    ``whole_process``: the process runs one trial at a time, so that all its threads have this run.
    ``resolve`` returns the run's id.
    """

    whole_process: bool
    resolve: Callable[[], str]

    @property
    def run(self) -> Any:
        """The run as MLflow has it."""
        ...

    def guarded(self, write: Callable[[], Any]) -> Any:
        """Do the write now, or keep it for later while MLflow is away."""
        ...

    def below(self, resolve: Callable[[], str]) -> TrialRun:
        """Another run that is used as this one is."""
        ...

    def close(self) -> None:
        """The run is needed no more."""
        ...


class _Current:
    """The trial whose objective is running: one for the process, or one for each thread.

    A thread's trial is an attribute of it, and goes on to the threads that it starts.
    """

    def __init__(self) -> None:
        self.of_process: TrialRun | None = None

    def get(self) -> TrialRun | None:
        return _of(threading.current_thread()) or self.of_process

    def enter(self, trial: TrialRun) -> None:
        """In the place of the one that is there."""
        if trial.whole_process:
            self.of_process = trial
        else:
            _pass_on_to_threads()
            _give(threading.current_thread(), trial)

    def leave(self, trial: TrialRun, outer: TrialRun | None = None) -> None:
        """Back to the one around it, in all threads that have it."""
        if trial.whole_process:
            self.of_process = outer
        for thread in threads_of(trial):
            _give(thread, outer)


def _of(thread: threading.Thread) -> TrialRun | None:
    return getattr(thread, "_hpo_trial", None)


def _give(thread: threading.Thread, trial: TrialRun | None) -> None:
    thread._hpo_trial = trial  # type: ignore[attr-defined]  # its own, gone with it


def threads_of(trial: TrialRun) -> list[threading.Thread]:
    """The threads that run the trial, or a part of it."""
    return [thread for thread in threading.enumerate() if _of(thread) is trial]


def _pass_on_to_threads() -> None:
    """Have a thread take over the trial of the one that starts it: Python itself does not tie the two."""
    start = threading.Thread.start
    if hasattr(start, "_hpo_passes_on"):
        return

    @functools.wraps(start)
    def passing_on(thread: threading.Thread) -> None:
        _give(thread, _of(threading.current_thread()))
        start(thread)

    passing_on._hpo_passes_on = True  # type: ignore[attr-defined]  # once for the process
    threading.Thread.start = passing_on  # type: ignore[assignment]  # as above


current = _Current()
