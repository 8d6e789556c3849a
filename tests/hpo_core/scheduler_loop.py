"""Studies driven at random, and what a reader of their journals knows: for tests of schedulers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hpo_core import Float, Study, TrialState
from hpo_core import _events as ev
from hpo_core._journal import decode_line
from hpo_core._strategies import compose
from hpo_core._strategy import Action, Scheduler
from hpo_core.samplers import Random
from hpo_core.testing import Recorder, Script

SPACE = {"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)}


def make_study(scheduler: Scheduler, **options: Any) -> tuple[Study, Recorder]:
    """A study with random sampling, and its journal."""
    journal = Recorder()
    options = {"limits": {"trials": 12}, "settings": {"max_steps": 9}, **options}
    study = Study(SPACE, strategy=compose(Random(), scheduler), journal=journal, **options)
    return study, journal


def ask(study: Study) -> Action:
    """The scheduler's next action; changes nothing."""
    return study.execution.decider.ask_scheduler()


def play(study: Study, script: Script, before: Callable[[], None] = lambda: None, most: int = 20_000) -> None:
    """Drive the study to its end, calling ``before`` ahead of each thing that happens."""
    for _ in range(most):
        before()
        if not script.act(study):
            return
    raise AssertionError(f"the study does not end: {study!r}")


def meddle(study: Study, rng: np.random.Generator) -> None:
    """Do what no scheduler decides: end a trial early, cancel a paused one, queue one that failed again."""
    history = study.history
    running, paused = history.in_state(TrialState.RUNNING), history.in_state(TrialState.PAUSED)
    badly = [t.number for t in study.trials if t.state.finished and t.state is not TrialState.COMPLETE]
    match int(rng.integers(3)):
        case 0 if len(running):
            values = dict.fromkeys(study.objectives, float(rng.integers(6)) / 4)
            study.execution.finish(int(rng.choice(running)), values)
        case 1 if len(paused):
            study.execution.finish(int(rng.choice(paused)), state=TrialState.CANCELLED)
        case 2 if badly:
            study.requeue(int(rng.choice(badly)))


@dataclass
class Past:
    """One trial, as its events tell it."""

    bracket: int
    target: float
    start: int = 0
    parent: int | None = None
    state: TrialState = TrialState.WAITING
    step: int = 0
    paused_at: list[float] = field(default_factory=list)
    reports: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    values: dict[str, float] = field(default_factory=dict)

    def score(self, step: float, name: str) -> float:
        """Minimised; NaN when there is none."""
        known = [m[name] for s, m in self.reports if s <= step and name in m]
        value = known[-1] if known else np.nan
        return value if np.isfinite(value) else np.nan


class Reader:
    """Follows a journal and knows all of its trials, without any of the study's own code."""

    def __init__(self, journal: Recorder) -> None:
        self._journal = journal
        self._read = 0
        self.events: list[Any] = []
        self.trials: list[Past] = []

    def __call__(self) -> list[Past]:
        """The trials after the latest event."""
        for line in self._journal.lines[self._read :]:
            event = decode_line(line)[1]
            self.events.append(event)
            self._fold(event)
        self._read = len(self._journal.lines)
        return self.trials

    def _fold(self, event: Any) -> None:
        trials = self.trials
        match event:
            case ev.TrialAsked():
                target = np.inf if event.target is None else event.target
                trials.append(Past(event.bracket, target, event.start_step, event.parent))
            case ev.TrialResumed():
                trials[event.trial].target = np.inf if event.target is None else event.target
                trials[event.trial].state = TrialState.WAITING
            case ev.SegmentStarted():
                trials[event.trial].state = TrialState.RUNNING
            case ev.AttemptLost() | ev.TrialRequeued():
                trials[event.trial].state = TrialState.WAITING
            case ev.TrialPausedAt():
                trials[event.trial].state = TrialState.PAUSED
                trials[event.trial].paused_at.append(trials[event.trial].target)
            case ev.TrialReported():
                trials[event.trial].reports.append((event.step, event.metrics))
                trials[event.trial].step = event.step
            case ev.TrialFinished():
                trials[event.trial].state = TrialState.of(event.state)
                trials[event.trial].values = event.values
