"""Trials that ran when a limit ended their study: what becomes of them, and how much more they would need."""

from __future__ import annotations

import math

from hpo_core import Study, TrialRecord
from tracking import duration

# So many are told of one by one.
_TOLD = 3
# One part in so many more than is estimated.
_MARGIN = 10


def cut_off(study: Study) -> list[TrialRecord]:
    """Those that are run again when the study is extended."""
    stopped = study.stopped
    return [t for t in study.trials if stopped is not None and stopped.interrupted(t.state.label, t.reason)]


def told(study: Study) -> list[str]:
    """How far they had got, and where they go on."""
    found, end = cut_off(study), study.state.settings.max_steps
    lines = [_line(trial, end) for trial in found[:_TOLD]]
    return lines + [f"and {len(found) - _TOLD} more"] * (len(found) > _TOLD)


def _line(trial: TrialRecord, end: int | None) -> str:
    step = f" at step {trial.step}" + (f" of {end}" if end else "") if trial.step else ""
    goes_on = (
        f"goes on from its checkpoint at step {_kept(trial)}"
        if _kept(trial)
        else "begins anew, as it has saved no checkpoint"
    )
    took = f" after {duration(trial.busy_seconds)}" if trial.busy_seconds else ""
    return f"trial {trial.number}{step}{took}; once the study is extended it {goes_on}"


def enough_seconds(study: Study, limit: float, spent: float, *, together: bool) -> float:
    """Twice the limit, or what brings those trials to their end as far as is known, if that is more.

    ``together``: the limit is on what all take together, else on wall time.
    """
    end = study.state.settings.max_steps
    needed = [_seconds(trial, end) for trial in cut_off(study)]
    most = sum(needed) if together else max(needed, default=0.0)
    return max(2 * limit, math.ceil(spent + most + most / _MARGIN))


def enough_steps(study: Study, limit: int, spent: int) -> int:
    """The same of steps; there is room for one trial at least."""
    end = study.state.settings.max_steps
    needed = sum(_steps(trial, end) for trial in cut_off(study))
    return max(2 * limit, spent + max(needed, end or 0))


def _seconds(trial: TrialRecord, end: int | None) -> float:
    """By the pace of its last segment; of one whose end nobody knows, twice that long if it begins anew."""
    took = max(trial.finished_at - trial.segment_started_at, 0.0)
    trained = trial.trained_to - trial.from_step
    if end is not None and trained > 0:
        return took / trained * (end - _kept(trial))
    return 0.0 if _kept(trial) else 2 * took


def _steps(trial: TrialRecord, end: int | None) -> int:
    if end is not None:
        return end - _kept(trial)
    return 0 if _kept(trial) else 2 * trial.step


def _kept(trial: TrialRecord) -> int:
    return max(trial.checkpoints, default=0)
