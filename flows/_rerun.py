"""Run one trial once more, outside its study, and say whether it comes out the same.

The configuration, the seed and the study's rules are those of the journal, and what counts as the result is
worked out by a study of this one trial. Nothing of the study is written, in its folder or in MLflow: what the
objective logs or saves goes to a temporary place.
"""

from __future__ import annotations

import functools
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flows._execute import execute
from flows._notes import identity_of
from flows._provenance import changes_since, provenance
from flows._segment import Running, job_of, settle
from flows._trial import Signals
from flows.runners._port import Message, Report
from hpo_core import InputError, Segment, Study, TrialRecord, TrialState
from hpo_core.folds import FOLD
from hpo_core.inner import trial_seed
from tracking import database_uri, trial_run

__all__ = ["Repetition", "rerun"]

# Environment variables by which MLflow would attach what the objective logs to a run outside.
_OUTSIDE = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repetition:
    """A trial then and now.

    ``then``, ``now``: how it ended and its values. ``reports``: how many it made, then and now; ``first``:
    step and metric at which they first differ. ``changed``: what is not as it was when the study was made.
    """

    trial: int
    then: tuple[TrialState, dict[str, float]]
    now: tuple[TrialState, dict[str, float]]
    reason: str
    reports: tuple[int, int]
    first: tuple[int, str, float, float] | None
    changed: tuple[str, ...]

    def same(self, tolerance: float = 0.0) -> bool:
        """Whether it ended in the same state with values that agree up to the relative ``tolerance``."""
        (state, before), (again, after) = self.then, self.now
        return (
            state is again
            and before.keys() == after.keys()
            and all(close(before[name], after[name], tolerance) for name in before)
            and (bool(before) or self.first is None)
        )


def close(a: float, b: float, tolerance: float) -> bool:
    """Whether two results agree up to the relative tolerance; no number agrees with none."""
    return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=tolerance, abs_tol=0.0)


def rerun(
    study: Study,
    number: int,
    objective: Callable[[Any], Any],
    *,
    identity: Mapping[str, str],
    tolerance: float = 0.0,
) -> Repetition:
    """Run the trial once more. ``identity``: of objective and data, as they are now.

    Raises :class:`InputError` for a trial that has not ended, for one that began from the checkpoint of
    another, which is not a function of its configuration and seed, and for a tolerance that is none.
    """
    if not 0.0 <= tolerance < math.inf:
        raise InputError(f"the tolerance is a relative difference of at least 0, got {tolerance!r}")
    record = study.trials[number]
    if not record.state.finished:
        raise InputError(f"trial {number} has not ended yet, so there is nothing to compare with")
    if record.parent is not None:
        raise InputError(
            f"trial {number} began from a checkpoint of trial {record.parent}; only trials that begin anew "
            "can be run again"
        )
    again = _study_of(study, record)
    segment = again.execution.next()
    if not isinstance(segment, Segment):
        raise InputError(f"trial {number} cannot be run again: {segment.reason}")
    again.execution.started(segment)
    running = Running(segment)
    until = record.step if record.state is not TrialState.COMPLETE and record.step else None
    with tempfile.TemporaryDirectory(prefix="hpo-rerun-") as folder, _elsewhere(Path(folder)):
        job = replace(
            job_of(again, segment, Path(folder)),
            trial=number,
            seed=trial_seed(study.history.seed, number),
            budgets=[*_reports(study, number)],
        )
        signals = Signals()
        line = _Line(again, running, signals, until, record, Path(folder))
        run = functools.partial(trial_run, scratch=Path(folder))
        outcome = execute(objective, job, line, signals, run, whole_process=True)
    settle(again, running, outcome, leaving="", now=0.0)
    now = again.trials[0]
    return Repetition(
        trial=number,
        then=(record.state, dict(record.values)),
        now=(now.state, dict(now.values)),
        reason=now.reason,
        reports=(len(_reports(study, number)), len(_reports(again, 0))),
        first=_first_difference(_reports(study, number), _reports(again, 0), tolerance),
        changed=tuple(_changes(study, objective, identity)),
    )


def _study_of(study: Study, record: TrialRecord) -> Study:
    """A study of the same rules, in memory, whose one trial has the configuration.

    It takes any: the trial may be from before an edit of the space, which would refuse or complete it.
    """
    again = Study(
        None,
        objectives=study.objectives,
        strategy="random",
        seed=study.history.seed,
        limits={"trials": 1},
        settings=replace(study.state.settings, workers=1),
    )
    again.enqueue(record.params)
    return again


class _Line:
    """The trial's line to its driver: what it reports goes into the study, and it is stopped where it was."""

    def __init__(
        self,
        study: Study,
        running: Running,
        signals: Signals,
        until: int | None,
        record: TrialRecord,
        folder: Path,
    ) -> None:
        self._study, self._running, self._signals = study, running, signals
        self._until, self._record, self._folder = until, record, folder

    def send(self, message: Message) -> None:
        if not isinstance(message, Report):
            return
        self._study.report(0, message.step, message.metrics)
        if self._until is not None and message.step >= self._until and not self._running.end:
            self._running.state, self._running.end = self._record.state, self._record.reason
            self._signals.stop.set()

    def ask_run_id(self) -> str:
        return self._run_id

    @functools.cached_property
    def _run_id(self) -> str:
        from mlflow import MlflowClient

        client = MlflowClient()
        # Without a place of its own, artifacts would lie in the working folder.
        where = (self._folder / "artifacts").as_uri()
        return str(client.create_run(client.create_experiment("rerun", where)).info.run_id)


@contextmanager
def _elsewhere(folder: Path) -> Iterator[None]:
    """Let what the objective logs to MLflow by itself end in the folder."""
    before = {name: os.environ.get(name) for name in (*_OUTSIDE, "MLFLOW_TRACKING_URI")}
    for name in _OUTSIDE:
        os.environ.pop(name, None)
    os.environ["MLFLOW_TRACKING_URI"] = database_uri(folder / "mlflow.db")
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _reports(study: Study, trial: int) -> dict[int, dict[str, float]]:
    """The objectives by step, in the user's units; other metrics, such as seconds, need not come again."""
    reports = study.history.reports
    steps = reports.steps[study.history.reports_of(trial)].tolist()
    found: dict[int, dict[str, float]] = {step: {} for step in steps}
    for name in (n for objective in study.objectives for n in (objective, objective + FOLD)):
        for step, value in zip(steps, reports.metric_of(trial, name).tolist(), strict=True):
            if not math.isnan(value):
                found[step][name] = value
    return found


def _first_difference(
    then: Mapping[int, Mapping[str, float]], now: Mapping[int, Mapping[str, float]], tolerance: float
) -> tuple[int, str, float, float] | None:
    for step in sorted({*then, *now}):
        before, after = then.get(step, {}), now.get(step, {})
        for name in sorted({*before, *after}):
            a, b = before.get(name, math.nan), after.get(name, math.nan)
            if not close(a, b, tolerance):
                return step, name, a, b
    return None


def _changes(study: Study, objective: Callable[[Any], Any], identity: Mapping[str, str]) -> Iterator[str]:
    meta = study.created.meta
    known = identity_of(meta)
    if "data" in known and known["data"] != identity.get("data"):
        yield "the data have changed"
    elif "question" in known and known["question"] != identity.get("question"):
        yield "the rows, folds or metric of the objective have changed"
    if meta.get("made_with"):
        yield from changes_since(meta["made_with"], provenance(objective))
