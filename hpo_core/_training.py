"""What a model trains on when trials have been stopped at different steps.

Notation
--------
s       the step at which trials are compared: the largest that enough trials have reached
r       the last step of a trial that did not reach s
A       the trials that reached s
d_f     how much harder fold f is than the average fold

Results at different steps are no common scale: a loss after one epoch is not a loss after thirty.
So a trial that was stopped at r < s is placed by its rank. Its value at r is compared with those
that the trials of A had at r, and it gets the value at s of the trial of A in the same place: better
than p of them at r, better than p of them at s. Worse than all of A (what a scheduler that stops the
worst makes of most) is the worst of A. This uses every trial (Falkner 2018, BOHB, only those of the
largest budget) and never compares across steps. A trial's value at a step that it got to is its newest
up to there; where its result is its best or its average by the study's rule, so is that value.

Where steps are folds (or seeds), results differ in scale only by what makes a fold hard for everybody. So a
trial that was stopped is worth the mean of its results so far, each less d_f: the median, over the complete
trials, of their result on fold f minus their mean over all folds. Complete trials keep their own result,
failed ones have none.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hpo_core._columns import Column
from hpo_core._history import History
from hpo_core._logs import FOLD
from hpo_core._memo import Memo
from hpo_core._moments import mean
from hpo_core._rule import counting
from hpo_core._states import TrialState

__all__ = ["Curves", "Training", "training_set"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

# A model sees at most this many trials, the newest: enough for any of ours, and cost stays flat.
_NEWEST = 1024


@dataclass(frozen=True)
class Training:
    """``X`` ``(k, d)``, ``values`` ``(k, m)`` minimised with NaN for failures, and what is pending.

    ``step`` is the one that values belong to, 0 for final results. ``pending`` are the
    configurations ``(p, d)`` in flight that ``X`` does not have yet. ``excesses`` ``(k, c)``: by how much the
    study's outcome constraints are broken, and ``measured`` ``(k, m)``, as in :class:`Evidence`.
    """

    X: Array
    values: Array
    pending: Array
    step: int
    excesses: Array
    measured: Array


@dataclass
class Curves:
    """Reports by step: a fold over the report log, without trials that an edit took out of the space.

    ``trials``, ``report``: by step, who reported every objective there, and in which row. ``reported``,
    ``steps``: by trial, the rows of such reports, and their steps; one that leaves an objective out, as
    between two validations, says nothing of it.
    ``so_far``: for each report, what the trial's result by the study's rule was then, ``(m,)``; kept
    only where that is not the report itself. ``counting``: by trial and objective, the reported values that
    count. ``folds``: the result of the fold alone, minimised, ``(m,)``; kept where steps are folds, as is
    ``begun``: the trials that reported any.
    """

    rows: int = 0
    trials: dict[int, list[int]] = field(default_factory=dict)
    report: dict[int, list[int]] = field(default_factory=dict)
    reported: dict[int, list[int]] = field(default_factory=dict)
    steps: dict[int, list[int]] = field(default_factory=dict)
    so_far: Column | None = None
    counting: dict[int, list[list[float]]] = field(default_factory=dict)
    folds: Column | None = None
    begun: set[int] = field(default_factory=set)

    def grow(self, history: History) -> None:
        """Fold the reports that have arrived since."""
        trials, steps = history.reports.trials, history.reports.steps
        for row in range(self.rows, len(history.reports)):
            step, trial = int(steps[row]), int(trials[row])
            if history.reports.given[row].all() and trial not in history.outside:
                self.trials.setdefault(step, []).append(trial)
                self.report.setdefault(step, []).append(row)
                self.reported.setdefault(trial, []).append(row)
                self.steps.setdefault(trial, []).append(step)
            if history.rule != "last":
                self._by_rule(history, trial, row)
        if by_folds(history):
            self._of_folds(history)
        self.rows = len(history.reports)

    def _of_folds(self, history: History) -> None:
        if self.folds is None:
            self.folds = Column(np.float64, width=history.n_objectives)
        for row in range(len(self.folds), len(history.reports)):
            found = [history.reports.value(row, name + FOLD) for name in history.objectives]
            trial = int(history.reports.trials[row])
            if None not in found and trial not in history.outside:
                self.begun.add(trial)
            alone = np.array([np.nan if value is None else value for value in found])
            self.folds.append(alone * history.signs)

    def _by_rule(self, history: History, trial: int, row: int) -> None:
        if self.so_far is None:
            self.so_far = Column(np.float64, width=history.n_objectives)
        new: list[float] = history.reports.values[row].tolist()
        before = self.counting.get(trial, [[] for _ in new])
        now = [counting([*known, value], history.rule) for known, value in zip(before, new, strict=True)]
        self.counting[trial] = now
        self.so_far.append([mean(values) for values in now])

    def at(self, trial: int, step: int) -> int | None:
        """The row of the trial's newest report up to a step that it has got to."""
        steps = self.steps.get(trial)
        if not steps or steps[-1] < step:
            return None
        place = bisect_right(steps, step)
        return self.reported[trial][place - 1] if place else None

    def values(self, history: History) -> Array:
        """(r, m) of each report, what the trial's result by the study's rule was then."""
        return history.reports.values if self.so_far is None else np.asarray(self.so_far.view)


def by_folds(history: History) -> bool:
    """Whether steps are folds or seeds: every objective's result on each is reported by itself."""
    return all(history.reports.has(name + FOLD) for name in history.objectives)


def training_set(history: History, fewest: int, memo: Memo[Curves]) -> Training:
    """What a model should learn from: final results, or, where trials stop early, values at a step.

    ``fewest`` trials must have reached a step for it to be the one compared at; until then, final
    results are all there is.
    """
    stopped = history.count(TrialState.PRUNED) + history.count(TrialState.PAUSED)
    if not stopped or not len(history.reports):
        return _finals(history)
    curves = memo.of(history, Curves)
    curves.grow(history)
    if curves.folds is not None:
        return _over_folds(history, curves)
    step = _comparison_step(curves, fewest)
    if step is None:
        return _finals(history)
    return _at_step(history, curves, step)


def _finals(history: History) -> Training:
    known = history.evidence
    return Training(known.X, known.values, history.X[_pending(history)], 0, known.excesses, known.measured)


def _pending(history: History) -> Ints:
    """The open trials that the space can have: another would be imagined at the middle of the cube."""
    return history.pending[~np.isin(history.pending, list(history.outside))]


def _comparison_step(curves: Curves, fewest: int) -> int | None:
    """The largest step with ``fewest`` trials."""
    enough = [step for step, trials in curves.trials.items() if len(trials) >= fewest]
    return max(enough, default=None)


def _at_step(history: History, curves: Curves, step: int) -> Training:
    newest = slice(-_NEWEST, None)
    so_far = curves.values(history)
    reached = dict(zip(curves.trials[step][newest], curves.report[step][newest], strict=True))
    ended, results, elsewhere = _ended(history)
    in_flight = [int(t) for t in history.pending if int(t) in curves.reported]
    trials = sorted({*ended, *in_flight, *reached})[-_NEWEST:]
    # Not every trial reports at every step that it gets to.
    passed = {t: row for t in trials if t not in reached and (row := curves.at(t, step)) is not None}
    reached |= passed
    values = np.full((len(trials), history.n_objectives), np.nan)
    waiting: dict[int, list[int]] = {}
    for place, trial in enumerate(trials):
        if trial in ended and np.isnan(results[ended[trial]]).any():
            pass  # failed: no value at any step, however good it was before
        elif trial in reached:
            values[place] = so_far[reached[trial]]
        elif trial in curves.reported:
            waiting.setdefault(curves.steps[trial][-1], []).append(place)
        elif trial in ended:
            values[place] = results[ended[trial]]  # finished without a report: a final result
    anchors = np.fromiter(reached, dtype=np.int64)
    finals = so_far[[reached[int(t)] for t in anchors]]
    for r, places in waiting.items():
        own = so_far[[curves.reported[trials[p]][-1] for p in places]]
        values[places] = _transported(own, *_pairs(so_far, curves, r, anchors, finals))
    known = set(trials)
    unknown = np.array([int(t) for t in _pending(history) if int(t) not in known], dtype=np.int64)
    X = history.X[trials]
    if len(elsewhere):
        own = history.evidence.values[elsewhere]
        if history.max_steps is None or step < history.max_steps:
            own = _transported(own, own, finals)  # final results, at no step: by rank among them
        X = np.concatenate([history.evidence.X[elsewhere], X])
        values = np.concatenate([own, values])
    excesses = _excesses(history, trials, ended, elsewhere)
    return Training(X, values, history.X[unknown], step, excesses, values)


def _over_folds(history: History, curves: Curves) -> Training:
    ended, results, elsewhere = _ended(history)
    in_flight = curves.begun.intersection(history.pending.tolist())
    trials = np.array(sorted({*ended, *in_flight})[-_NEWEST:], dtype=np.int64)
    known = np.zeros((len(trials), history.n_objectives))
    for i, trial in enumerate(trials.tolist()):
        if trial in ended:
            known[i] = results[ended[trial]]
    complete = history.states[trials] == TrialState.COMPLETE
    assert curves.folds is not None
    means, count = _means_over_folds(history, curves.folds.view, trials, known, complete)
    values = np.where(complete[:, None], known, np.nan)
    stopped = ~complete & (count > 0) & np.isfinite(known).all(axis=1)
    values[stopped] = means[stopped]
    pending = _pending(history)
    X = np.concatenate([history.evidence.X[elsewhere], history.X[trials]])
    values = np.concatenate([history.evidence.values[elsewhere], values])
    step = history.max_steps or int(history.reports.steps.max())
    excesses = _excesses(history, trials.tolist(), ended, elsewhere)
    return Training(X, values, history.X[pending[~np.isin(pending, trials)]], step, excesses, values)


def _means_over_folds(
    history: History, alone: Array, trials: Ints, results: Array, complete: NDArray[np.bool_]
) -> tuple[Array, Ints]:
    """(t, m) means of each trial's finite results on folds, each less d_f, and (t,) their number.

    ``alone`` ``(r, m)``: each report's result on its fold, minimised; ``trials`` ``(t,)`` ascending, with
    their ``results`` ``(t, m)`` and which of them are ``complete`` ``(t,)``. 0 is the mean of none.
    """
    rows = np.flatnonzero(np.isin(history.reports.trials, trials))
    place, steps = np.searchsorted(trials, history.reports.trials[rows]), history.reports.steps[rows]
    own = alone[rows]
    for fold in np.unique(steps):
        at = steps == fold
        harder = (own[at] - results[place[at]])[complete[place[at]]]
        if len(harder := harder[np.isfinite(harder).all(axis=1)]):
            own[at] -= np.median(harder, axis=0)
    usable = np.isfinite(own).all(axis=1)
    count = np.bincount(place[usable], minlength=len(trials))
    total = np.stack([np.bincount(place[usable], column, len(trials)) for column in own[usable].T], axis=1)
    return total / np.maximum(count, 1)[:, None], count


def _excesses(history: History, trials: Sequence[int], ended: Mapping[int, int], elsewhere: Ints) -> Array:
    """(e + t, c) the excesses of observations and of ``trials``, NaN for those that have not ended."""
    known = history.evidence.excesses
    own = np.full((len(trials), known.shape[1]), np.nan)
    for place, trial in enumerate(trials):
        if trial in ended:
            own[place] = known[ended[trial]]
    return np.concatenate([known[elsewhere], own])


def _ended(history: History) -> tuple[dict[int, int], Array, Ints]:
    """Evidence row of each finished trial (newest), all evidence values, rows from elsewhere."""
    evidence = history.evidence
    first = max(len(evidence) - _NEWEST, 0)
    trials = evidence.trials[first:]
    ended = {int(t): first + i for i, t in enumerate(trials) if t >= 0}
    return ended, evidence.values, first + np.flatnonzero(trials < 0)


def _pairs(so_far: Array, curves: Curves, r: int, anchors: Ints, finals: Array) -> tuple[Array, Array]:
    """Values at ``r`` and at the comparison step of the trials that have both, ``(a, m)`` each."""
    found = [(i, row) for i, t in enumerate(anchors.tolist()) if (row := curves.at(t, r)) is not None]
    return so_far[[row for _, row in found]], finals[[i for i, _ in found]]


def _transported(own: Array, early: Array, late: Array) -> Array:
    """(q, m) the late value that holds the place among ``late`` that ``own`` has among ``early``.

    ``early`` and ``late`` ``(a, m)`` are of the same trials; where there are more of the one than of the
    other, as of results from elsewhere, a place is the share of them that is better. Without any, or for a
    value that is missing, the result is the worst late value.
    """
    out = np.full(own.shape, np.nan)
    for j in range(own.shape[1]):
        pool = np.sort(late[~np.isnan(late[:, j]), j])
        if not len(pool):
            continue
        before = np.sort(early[~np.isnan(early[:, j]), j])
        better = np.searchsorted(before, own[:, j], side="left") * len(late) // max(len(early), 1)
        place = np.where(np.isnan(own[:, j]) | (not len(before)), len(pool), better)
        out[:, j] = pool[np.minimum(place, len(pool) - 1)]
    return out
