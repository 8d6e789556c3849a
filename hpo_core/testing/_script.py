"""A driver for tests: asks, reports, finishes, fails, loses and pauses in an order drawn at random.

What it does next depends on the study alone and not on what it did before, so a study that was replayed
from its journal can be driven on from any event.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from hpo_core._decide import Segment
from hpo_core._events import Event
from hpo_core._journal import decode_line, encode_line
from hpo_core._records import TrialRecord
from hpo_core._states import TrialState
from hpo_core._strategy import Finish
from hpo_core._study import Study

__all__ = ["Recorder", "Script"]

_BAD_ENDS = (
    TrialState.FAILED,
    TrialState.INFEASIBLE,
    TrialState.TIMED_OUT,
    TrialState.OUT_OF_MEMORY,
    TrialState.CANCELLED,
)


@dataclass
class Recorder:
    """A journal in memory: every event goes through its JSON line."""

    lines: list[bytes] = field(default_factory=list)

    def append(self, event: Event) -> int:
        """Keep the event; returns its sequence number."""
        self.lines.append(encode_line(len(self.lines), event))
        return len(self.lines) - 1

    def events(self, most: int | None = None) -> list[Event]:
        """The first ``most`` events as a reader of the file would get them, or all."""
        return [decode_line(line)[1] for line in self.lines[:most]]


def _by_position(study: Study, trial: TrialRecord, step: int) -> dict[str, float]:
    """A bowl for each objective, over the columns and falling with the steps."""
    u = study.history.X[trial.number]
    u = np.where(np.isnan(u), 0.5, u)
    bowls = [float(((u - c) ** 2).mean()) if len(u) else c for c in (0.3, 0.7, 0.1)]
    return {n: b + 1.0 / (1 + step) for n, b in zip(study.objectives, bowls, strict=False)}


@dataclass(frozen=True, kw_only=True)
class Script:
    """Drives a study with ``workers`` workers; trials end after ``max_steps`` steps.

    ``trouble``: how often a running trial fails, diverges or is lost when it is its turn. ``asides``: how
    often somebody enqueues, observes or requeues. ``metrics(study, trial, step)`` are the results.
    ``before_end(study, trial)`` is called before a trial ends.
    """

    seed: int = 0
    workers: int = 3
    max_steps: int = 9
    trouble: float = 0.15
    asides: float = 0.05
    metrics: Callable[[Study, TrialRecord, int], dict[str, float]] = _by_position
    before_end: Callable[[Study, TrialRecord], None] = lambda study, trial: None

    def play(self, study: Study, events: int) -> bool:
        """Act until the journal has so many events, or nothing is left to do; true in the latter case."""
        while study.history.length < events:
            if not self.act(study):
                return True
        return False

    def act(self, study: Study) -> bool:
        """Do one thing; false when nothing is left to do."""
        history = study.history
        rng = np.random.default_rng([self.seed, history.length])
        now = float(history.length)
        running = history.in_state(TrialState.RUNNING).tolist()
        for number in running:
            verdict = study.strategy.scheduler.judge(history, number) if history.reports_of(number) else None
            if verdict is not None:
                study.execution.finish(number, state=TrialState.PRUNED, reason=verdict.reason, now=now)
                return True
        waiting = history.count(TrialState.WAITING)
        if waiting or (len(running) < self.workers and (not running or rng.random() < 0.4)):
            due = study.execution.next(now)
            if isinstance(due, Segment):
                study.execution.started(due, worker="w", now=now)
                return True
            if not running:
                return False
            if isinstance(due, Finish):
                raise AssertionError(f"the study finished while {len(running)} trials run: {due.reason}")
        if rng.random() < self.asides:
            self._aside(study, rng, now)
        else:
            self._advance(study, study.trials[int(rng.choice(running))], rng, now)
        return True

    def _advance(self, study: Study, trial: TrialRecord, rng: np.random.Generator, now: float) -> None:
        goal = min(trial.target or self.max_steps, self.max_steps)
        if rng.random() < self.trouble:
            self._trouble(study, trial, rng, now)
        elif trial.step < goal:
            step = min(trial.step + int(rng.integers(1, 4)), goal)
            study.report(trial.number, step, self.metrics(study, trial, step), now)
        elif trial.target is not None and trial.target < self.max_steps:
            study.execution.checkpointed(trial.number, trial.step, f"{trial.number}@{trial.step}", now=now)
            study.execution.paused(trial.number, now)
        else:
            self.before_end(study, trial)
            study.execution.finish(trial.number, self.metrics(study, trial, trial.step), now=now)

    def _trouble(self, study: Study, trial: TrialRecord, rng: np.random.Generator, now: float) -> None:
        match int(rng.integers(4)):
            case 0:
                study.execution.lost(trial.number, "gone", counted=bool(rng.integers(2)), now=now)
            case 1:
                values = dict.fromkeys(study.objectives, float(rng.choice([np.nan, np.inf])))
                study.execution.finish(trial.number, values, now=now)
            case 2 if trial.step + 1 < min(trial.target or self.max_steps, self.max_steps):
                values = dict.fromkeys(study.objectives, float("nan"))
                study.report(trial.number, trial.step + 1, values, now)
            case _:
                state = _BAD_ENDS[rng.integers(len(_BAD_ENDS))]
                study.execution.finish(trial.number, state=state, reason="trouble", now=now)

    def _aside(self, study: Study, rng: np.random.Generator, now: float) -> None:
        ended = np.flatnonzero(np.isin(study.history.states, [TrialState.FAILED, TrialState.LOST]))
        u = study.space.sample(rng, 1)[0]
        match int(rng.integers(4)):
            case 0:
                study.enqueue(study.space.decode(u), now)
            case 1:
                study.observe(study.space.decode(u), dict.fromkeys(study.objectives, 0.5), now=now)
            case 2 if len(ended):
                study.requeue(int(rng.choice(ended)), now)
            case _:
                study.note("aside", {"length": study.history.length}, now)
