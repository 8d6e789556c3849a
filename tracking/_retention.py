"""Which checkpoints nothing can need any more: a function of the study, and of nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from hpo_core import Study, TrialRecord, TrialState
from hpo_core.inner import BAD, leaders, origin_of

# A trial that ended so may be run again, and then goes on from its last checkpoint.
_RETRIABLE = frozenset({*BAD, TrialState.CANCELLED})


class Removable(NamedTuple):
    """A checkpoint that may be deleted."""

    trial: int
    step: int
    uri: str
    size: int


def removable_checkpoints(study: Study, *, keep_best: int = 1) -> list[Removable]:
    """Checkpoints that no paused trial, retry, fork or promotion can need.

    Kept: the newest of every trial that is not finished, may be retried while the study is open or cancelled,
    or ran when a limit ended it (of a running one the newest two, and the one that its segment began from,
    which the objective may load at any time); of the ``keep_best`` best complete trials the newest and the
    one nearest to their best report; what a fork starts from that has not finished, or may be retried; and,
    where the strategy forks trials, the newest of all trials as long as the study is open.
    """
    best = set(_best_trials(study, keep_best))
    forks = _forks(study)
    needed = {
        origin_of(study.trials, t) for t in study.trials if t.parent is not None and _starts_there(study, t)
    }
    found: list[Removable] = []
    for trial in study.trials:
        if not trial.checkpoints:
            continue
        keep = set(_kept_steps(study, trial, best=trial.number in best, forks=forks))
        for step, (uri, size) in trial.checkpoints.items():
            if step not in keep and (trial.number, step) not in needed:
                found.append(Removable(trial.number, step, uri, size))
    return found


def _starts_there(study: Study, fork: TrialRecord) -> bool:
    """Whether the fork may yet begin from its parent's checkpoint."""
    if fork.state.finished:
        return not fork.checkpoints and _may_be_retried(study, fork)
    return not fork.checkpoints or fork.state is TrialState.RUNNING


def _may_be_retried(study: Study, trial: TrialRecord) -> bool:
    if _is_open(study):
        return trial.state in _RETRIABLE
    # No more than there are workers. Paused trials may be many, and begin anew if the study is extended.
    stopped = study.stopped
    return stopped is not None and stopped.interrupted(trial.state.label, trial.reason)


def _is_open(study: Study) -> bool:
    return study.stopped is None or study.stopped.resumable


def _kept_steps(study: Study, trial: TrialRecord, *, best: bool, forks: bool) -> Iterable[int]:
    steps = sorted(trial.checkpoints)
    if trial.state is TrialState.RUNNING:
        return {*steps[-2:], trial.from_step}
    if not trial.state.finished:
        return steps[-1:]
    if best:
        return {steps[-1], _step_of_best(study, trial, steps)}
    if _may_be_retried(study, trial) or (forks and _is_open(study)):
        return steps[-1:]
    return ()


def _best_trials(study: Study, most: int) -> list[int]:
    best: list[int] = leaders(study.history).tolist()
    return best if len(study.objectives) > 1 else best[:most]


def _step_of_best(study: Study, trial: TrialRecord, steps: list[int]) -> int:
    """The checkpoint at or before the best report of the first objective, or the first one after it."""
    rows = study.history.reports_of(trial.number)
    reports = study.history.reports
    values = reports.values[rows, 0]
    if not len(values) or np.isnan(values).all():
        return steps[-1]
    at = int(reports.steps[rows][np.nanargmin(values)])
    before = [s for s in steps if s <= at]
    return before[-1] if before else steps[0]


def _forks(study: Study) -> bool:
    """Whether the strategy starts trials from others' checkpoints, as one does that trains a population."""
    population = study.strategy.training_steps == "needed"
    return population or any(t.parent is not None for t in study.trials)


def beyond_quota(study: Study, quota: int) -> list[Removable]:
    """Checkpoints to give up so that the study's fit into ``quota`` bytes, the least useful first.

    They are those of paused trials: lowest step first and there the worst first, as these are the least
    likely to go on. One that does all the same begins anew. None where the strategy forks trials: there any
    checkpoint may be copied.
    """
    if _forks(study):
        return []
    over = sum(size for t in study.trials for _, size in t.checkpoints.values()) - quota
    paused = [t for t in study.trials if t.state is TrialState.PAUSED and t.checkpoints]
    found: list[Removable] = []
    for trial in sorted(paused, key=lambda t: (t.step, -_newest(study, t))):
        for step, (uri, size) in trial.checkpoints.items():
            if over <= 0:
                return found
            found.append(Removable(trial.number, step, uri, size))
            over -= size
    return found


def _newest(study: Study, trial: TrialRecord) -> float:
    """The trial's newest report of the first objective, minimised; infinite where it is no number."""
    reports = study.history.reports
    rows = [row for row in study.history.reports_of(trial.number) if reports.given[row, 0]]
    value = float(reports.values[rows[-1], 0]) if rows else np.inf
    return value if np.isfinite(value) else np.inf


def disk_warning(study: Study, free: int, *, quota: int | None = None) -> str | None:
    """A sentence when the checkpoints of the planned trials will not fit, judged by those so far.

    ``free``: bytes free on the disk. ``quota``: bytes that the study's checkpoints may take in all.
    """
    sizes = [size for t in study.trials for _, size in t.checkpoints.values()]
    holders = sum(1 for t in study.trials if t.checkpoints)
    if not sizes or holders < 3:
        return None
    used = sum(sizes)
    planned = study.state.limits.trials
    # What a started trial keeps, times the trials that will be open at once: at most all of them.
    ahead = used / holders * max((planned or holders) - len(study.trials), 0)
    room = free if quota is None else min(free, quota - used)
    if ahead <= room:
        return None
    allowed = "the disk has" if room == free else "the quota leaves"
    return (
        f"checkpoints take {_size(used)} so far and may take {_size(ahead)} more, but {allowed} "
        f"{_size(max(room, 0))}; save fewer or smaller ones, or use a strategy that pauses fewer trials"
    )


def _size(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
