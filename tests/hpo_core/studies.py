"""Small studies for tests, and a scheduler that does as it is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hpo_core import Float, SearchSpace, Segment, Study, StudyFinished
from hpo_core._history import History
from hpo_core._plan import Plan
from hpo_core._strategies import compose
from hpo_core._strategy import Action, Start, Stop, Strategy
from hpo_core.samplers import Random
from hpo_core.testing import Recorder

LINE = SearchSpace({"x": Float(0.0, 1.0)})


@dataclass(frozen=True)
class Scripted:
    """Takes the given actions one after the other, then starts trials; stops at reports that are too bad."""

    actions: list[Action] = field(default_factory=list)
    stop_above: float = np.inf

    def check(self, n_objectives: int, max_steps: int | None) -> None:
        """Anything goes."""

    def next(self, history: History, rng: np.random.Generator) -> Action:
        """The action with the number of those taken so far: trials, and resumptions of paused ones."""
        resumed = (history.pauses > history.starts) & (history.targets != history.pauses)
        done = history.n_trials + int(resumed.sum())
        return self.actions[done] if done < len(self.actions) else Start()

    def judge(self, history: History, trial: int) -> Stop | None:
        """Stop what is above the limit."""
        value = history.reports.values[history.reports_of(trial)[-1], 0]
        return Stop(f"{value} is above {self.stop_above}") if value > self.stop_above else None

    def why(self, history: History, trial: int) -> str:
        """Because."""
        return "the script says so"

    def explain(self, trials: int | None, max_steps: int | None) -> Plan:
        """Nothing to tell."""
        return Plan(lines=("a script",))


def scripted(*actions: Action, stop_above: float = np.inf) -> Strategy:
    """Random configurations under a :class:`Scripted` scheduler."""
    scheduler = Scripted(stop_above=stop_above)
    strategy = compose(Random(), scheduler)
    scheduler.actions.extend(actions)
    return strategy


def started(study: Study, now: float = 0.0) -> Segment:
    """The next segment, begun."""
    due = study.execution.next(now)
    assert isinstance(due, Segment), due
    study.execution.started(due, worker="w", now=now)
    return due


def recorded(*args: Any, **kwargs: Any) -> tuple[Study, Recorder]:
    """A study and its journal in memory."""
    journal = Recorder()
    kwargs.setdefault("strategy", "random")
    return Study(*args, journal=journal, **kwargs), journal


def replayed(journal: Recorder, **kwargs: Any) -> Study:
    """The study that the journal describes."""
    return Study.replay(journal.events(), **kwargs)


def snapshot(study: Study) -> dict[str, Any]:
    """Everything that can be seen of a study, for comparing two of them."""
    history, fold = study.history, study.state
    arrays = {
        name: getattr(history, name).tolist()
        for name in ("X", "states", "values", "steps", "targets", "brackets", "parents", "starts", "pauses")
    }
    evidence = {
        n: getattr(history.evidence, n).tolist() for n in ("X", "values", "states", "steps", "trials")
    }
    return {
        "trials": [str(t) + str(vars_of(t)) for t in study.trials],
        "arrays": str(arrays),
        "evidence": str(evidence),
        "reports": str([history.reports.trials.tolist(), history.reports.values.tolist()]),
        "queue": list(fold.queue),
        "limits": fold.limits.to_json(),
        "spent": (fold.steps_spent, fold.seconds_spent, fold.cost_spent, fold.last_at, fold.token),
        "stopped": fold.stopped,
        "space": study.space.to_json(),
        "length": history.length,
        "pending": history.pending.tolist(),
        "left": history.trials_left,
        "counts": [history.count(s) for s in type(study.trials[0].state)] if study.trials else [],
    }


def vars_of(record: Any) -> Mapping[str, Any]:
    """The fields of a record with slots."""
    return {name: getattr(record, name) for name in record.__slots__}


def run_to_the_end(study: Study, most: int = 1000, value: float = 1.0) -> int:
    """Ask and tell until the study finishes; the number of trials run."""
    for count in range(most):
        try:
            trial = study.ask()
        except StudyFinished:
            return count
        study.tell(trial, value)
    raise AssertionError(f"no end after {most} trials: {study!r}")
