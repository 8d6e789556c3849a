"""Studies driven in this thread, with the real segments, checkpoints and decisions and no runner."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows._execute import execute
from flows._segment import Running, job_of, settle
from flows._trial import Signals
from flows.runners import _messages as m
from flows.runners._messages import Outcome
from flows.runners._port import Curve, Message, Report, Saved
from hpo_core import Segment, Study, TrialState


class Line:
    """The trial's line to its study: reports are judged at once. It ``dies`` after so many checkpoints."""

    def __init__(self, study: Study, running: Running, signals: Signals, dies: int) -> None:
        self.study, self.running, self.signals, self.dies = study, running, signals, dies
        self.curves: dict[str, list[tuple[int, float]]] = {}

    def send(self, message: Message) -> None:
        trial = self.running.segment.trial
        match message:
            case Saved(step, uri, size):
                self.study.execution.checkpointed(trial, step, uri, size)
                self.dies -= 1
                if not self.dies:
                    raise WorkerDied
            case Report(step, metrics):
                verdict = self.study.report(trial, step, metrics)
                if verdict is not None:
                    self.running.end, self.running.state = verdict.reason, TrialState.PRUNED
                    self.signals.stop.set()
            case Curve(name, steps, points):
                self.curves.setdefault(name, []).extend(zip(steps, points, strict=True))

    def ask_run_id(self) -> str:
        raise AssertionError("nothing is logged to MLflow")


class WorkerDied(BaseException):
    """Stands for a worker process that is killed."""


def run_one(
    study: Study, objective: Callable[[Any], Any], folder: Path, dies: int = 0
) -> tuple[Outcome, Line] | None:
    """Run the next segment; ``None`` when nothing is left. It is lost after ``dies`` checkpoints."""
    segment = study.execution.next()
    if not isinstance(segment, Segment):
        return None
    study.execution.started(segment)
    running, signals = Running(segment), Signals()
    line = Line(study, running, signals, dies)
    outcome = execute(objective, job_of(study, segment, folder), line, signals)
    if outcome.reason.startswith("WorkerDied"):
        outcome = Outcome(kind=m.LOST, reason="killed")
    settle(study, running, outcome, leaving="", now=0.0)
    return outcome, line


def run_all(study: Study, objective: Callable[[Any], Any], folder: Path) -> Study:
    """Run the study to its end."""
    while run_one(study, objective, folder) is not None:
        pass
    return study
