"""One segment between the study and its runner: the job it makes, and what the journal gets of its end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flows._run_context import prefect_runs
from flows.runners import _messages as m
from flows.runners._messages import Job, Outcome
from hpo_core import InputError, Segment, StrategyError, Study, TrialState
from hpo_core.inner import nearest, parameter_from_json
from hpo_core.schedulers import Full
from tracking import open_artifact
from tracking.tags import ATTEMPT, STUDY, STUDY_ID, TRIAL

_END_STATES = {
    m.PRUNED: TrialState.PRUNED,
    m.INFEASIBLE: TrialState.INFEASIBLE,
    m.RAISED: TrialState.FAILED,
    m.TIMED_OUT: TrialState.TIMED_OUT,
    m.OUT_OF_MEMORY: TrialState.OUT_OF_MEMORY,
}


@dataclass(slots=True)
class Running:
    """A segment in a slot."""

    segment: Segment
    end: str = ""  # why it was asked to end: a verdict, a limit or a cancellation
    state: TrialState | None = None  # the end state that goes with it


def job_of(study: Study, segment: Segment, folder: Path) -> Job:
    """What a worker needs to run the segment."""
    checkpoint = segment.checkpoint.uri if segment.checkpoint else ""
    return Job(
        trial=segment.trial,
        attempt=segment.attempt,
        params=segment.params,
        seed=segment.seed,
        target=segment.target,
        from_step=segment.from_step if checkpoint else 0,
        known_step=study.trials[segment.trial].step,
        checkpoint=checkpoint,
        folder=str(folder),
        tags={
            STUDY: study.name,
            STUDY_ID: study.created.study_id,
            TRIAL: str(segment.trial),
            ATTEMPT: str(segment.attempt),
            **prefect_runs.get({}),
        },
        study_seed=study.history.seed,
        judged=not isinstance(study.strategy.scheduler, Full),
    )


def settle(study: Study, running: Running, outcome: Outcome, *, leaving: str, now: float) -> None:
    """Journal how the segment ended. ``leaving``: why the driver ends what runs, if it does.

    Raises :class:`StrategyError`, the trial having failed by it, where the strategy cannot handle what the
    objective asked for.
    """
    execution, trial = study.execution, running.segment.trial
    if outcome.found:
        try:
            found = {n: parameter_from_json(n, p) for n, p in outcome.found.items()}
            execution.resolved(trial, outcome.params, found)
        except InputError as error:
            execution.finish(trial, state=TrialState.FAILED, reason=str(error), now=now)
            if isinstance(error, StrategyError):
                raise
            return
    match outcome.kind:
        case m.RETURNED:
            execution.finish(trial, outcome.values, now=now)
        case m.PAUSED:
            execution.paused(trial, now=now)
        case m.SUSPENDED:
            execution.lost(trial, "suspended", counted=False, now=now)
        case m.STOPPED | m.LOST | m.CUT_OFF | m.NO_SPACE if running.state is not None:
            execution.finish(trial, state=running.state, reason=running.end, now=now)
        case m.STOPPED | m.LOST | m.CUT_OFF | m.NO_SPACE if leaving:
            execution.lost(trial, leaving, counted=False, now=now)
        case m.CUT_OFF:
            execution.lost(trial, outcome.reason, counted=False, now=now)
        case m.STOPPED | m.LOST:
            execution.lost(trial, outcome.reason or "its worker stopped it unasked", now=now)
        case kind:
            execution.finish(trial, state=_END_STATES[kind], reason=outcome.reason, now=now)


def not_used(study: Study, running: Running, outcome: Outcome) -> str:
    """What of an enqueued configuration an objective that asks as it goes made no use of; mostly nothing."""
    record, given = study.trials[running.segment.trial], running.segment.params
    if record.origin != "enqueued" or outcome.kind != m.RETURNED:
        return ""
    asked, used = study.space.parameters, record.params
    said = [
        f"{name}={value!r}, which {asked[name]} leaves out: it ran with {used[name]!r}"
        for name, value in given.items()
        if name in used and used[name] != value
    ]
    said += [
        f"{name}={value!r}, which the objective has not asked for{nearest(name, asked)}"
        for name, value in given.items()
        if name not in asked
    ]
    return f"was enqueued with {'; and with '.join(said)}" if said else ""


def keep_traceback(folder: Path, trial: int, text: str) -> None:
    """Lay it where the tracker picks up the trial's artifacts."""
    with open_artifact(folder / "artifacts" / str(trial) / "traceback.txt", "wb") as file:
        file.write(text.encode())
