"""What a trial's result is and which trial is best: one rule, used by everyone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hpo_core import _events as ev
from hpo_core._errors import InputError, nearest
from hpo_core._fold import Fold
from hpo_core._history import History
from hpo_core._logs import sign_of
from hpo_core._outcome_constraints import OutcomeConstraint
from hpo_core._pareto import nondominated
from hpo_core._records import TrialRecord
from hpo_core._rule import result
from hpo_core._states import TrialState

Ints = NDArray[np.int64]


def value_by_rule(fold: Fold, trial: TrialRecord, returned: Mapping[str, float]) -> dict[str, float]:
    """The trial's objectives from its reports and from what the objective returned (the last result).

    ``last``: the returned value, else the last that was reported. ``best``: the best of all of them.
    ``average-k``: the mean of the last k. Non-finite results are skipped except by ``last``. A report that
    leaves an objective out says nothing of it, and an objective that returns what it has reported last has
    said one result, not two.
    """
    rule, reports = fold.settings.rule, fold.history.reports
    rows = np.array(reports.rows(trial.number), dtype=np.int64)
    values: dict[str, float] = {}
    for column, (name, direction) in enumerate(fold.created.objectives.items()):
        reported = reports.values[rows[reports.given[rows, column]], column]
        series = (sign_of(direction) * reported).tolist()
        if name in returned and series[-1:] != [returned[name]]:
            series.append(float(returned[name]))
        if series:
            values[name] = by_rule(series, rule, direction)
    return values


def by_rule(series: Sequence[float], rule: str, direction: str) -> float:
    """What counts of the results, at least one, of one objective in their order."""
    sign = sign_of(direction)
    # Plus nothing: a maximised 0 would be read as -0.
    return sign * result([sign * value for value in series], rule) + 0.0


def column_of(history: History, objective: str | None) -> int:
    """The column of an objective, the first by default. Raises :class:`InputError` for an unknown one."""
    names = list(history.objectives)
    if objective is None:
        return 0
    if objective not in names:
        raise InputError(f"there is no objective {objective!r}{nearest(objective, names)} (known: {names})")
    return names.index(objective)


def ranked(history: History, column: int = 0) -> Ints:
    """Numbers of the complete trials by one objective, the best first; of equals the earlier."""
    complete = _complete(history)
    return complete[np.argsort(history.values[complete, column], kind="stable")]


def best_number(history: History) -> int | None:
    """The first of :func:`leaders`, which need not be sorted for it; ``None`` where no trial is complete."""
    complete = _complete(history)
    if not len(complete):
        return None
    first = history.values[complete, 0]
    tied = complete[first == first.min()]
    # What dominates one of them is among them.
    return int(tied[nondominated(history.values[tied])][0])


def front(history: History) -> Ints:
    """Numbers of the complete trials that no other complete trial dominates, ascending; equals together."""
    complete = _complete(history)
    return complete[nondominated(history.values[complete])]


def leaders(history: History) -> Ints:
    """Numbers of the trials to show first: all complete ones, the best first.

    Of several objectives the Pareto front alone, in the order of the first of them.
    """
    order = ranked(history)
    return order if history.n_objectives == 1 else order[np.isin(order, front(history))]


def ranks(history: History) -> NDArray[np.bool_]:
    """(n,) bool: which trials may be the best: the complete ones that the space can have.

    An edit leaves the others out as soon as there is one that it does not; until then the study keeps the
    result that it has.
    """
    complete = np.asarray(history.states == TrialState.COMPLETE)
    if not history.outside:
        return complete
    inside = complete.copy()
    inside[list(history.outside)] = False
    return inside if inside.any() else complete


def _complete(history: History) -> Ints:
    return np.flatnonzero(ranks(history))


def with_value(history: History, column: int) -> NDArray[np.bool_]:
    """(k,) bool: rows of evidence with a finite value of a complete trial or of an observation."""
    evidence = history.evidence
    counts = (evidence.states == TrialState.COMPLETE) | (evidence.trials < 0)
    return np.asarray(counts & np.isfinite(evidence.values[:, column]))


def ended(
    fold: Fold,
    trial: TrialRecord,
    returned: Mapping[str, float],
    state: TrialState,
    *,
    step: int | None = None,
    reason: str = "",
    now: float = 0.0,
) -> ev.TrialFinished:
    """The event that ends a trial, with its values by the study's rule.

    A complete trial without a finite value for every objective, and for every metric that the study has a
    constraint on, is failed; one that breaks a constraint is infeasible. The reason says so.
    """
    objectives = fold.created.objectives
    values = value_by_rule(fold, trial, returned)
    if state is TrialState.COMPLETE:
        missing = [n for n in objectives if not np.isfinite(values.get(n, np.nan))]
        if missing:
            state = TrialState.FAILED
            reason = reason or _why_missing(missing, values, returned)
    known = {**returned, **values}
    if state is TrialState.COMPLETE and fold.outcome_constraints:
        known |= _last_reported(fold, trial, known)
        state, reason = _judged(fold.outcome_constraints, known, reason)
    return ev.TrialFinished(
        at=now,
        trial=trial.number,
        state=state.label,
        values=values,
        metrics={k: v for k, v in known.items() if k not in objectives},
        step=trial.step if step is None else step,
        reason=reason,
    )


def _last_reported(fold: Fold, trial: TrialRecord, known: Mapping[str, float]) -> dict[str, float]:
    """Metrics with a constraint that the trial did not return, as it last reported them."""
    reports, found = fold.history.reports, {}
    for name in dict.fromkeys(c.metric for c in fold.outcome_constraints if c.metric not in known):
        given = (reports.value(row, name) for row in reports.rows(trial.number))
        said = [value for value in given if value is not None]
        if said:
            found[name] = said[-1]
    return found


def _judged(
    constraints: Sequence[OutcomeConstraint], known: Mapping[str, float], reason: str
) -> tuple[TrialState, str]:
    for constraint in constraints:
        value = known.get(constraint.metric)
        if value is None or not np.isfinite(value):
            got = f"got {value}" if value is not None else f"got {list(known)}"
            return TrialState.FAILED, (
                f"the objective gave no finite value for {constraint.metric!r}, on which the study has the "
                f"constraint {str(constraint)!r} ({got})"
            )
    broken = [c for c in constraints if c.excess(known[c.metric]) > 0.0]
    if not broken:
        return TrialState.COMPLETE, reason
    said = "; ".join(f"{c.metric} is {known[c.metric]:g}, the study wants {c}" for c in broken)
    return TrialState.INFEASIBLE, said


def _why_missing(missing: Sequence[str], values: Mapping[str, float], returned: Mapping[str, float]) -> str:
    bad = {n: values[n] for n in missing if n in values}
    others = [n for n in returned if n not in missing]
    got = f" (got {bad})" if bad else f" (got {others})" if others else ""
    hint = nearest(missing[0], others) if not bad else ""
    # Who has named no objectives has one, the loss.
    words = ",".join(f"{n}=min" for n in others[:2])
    own = ", ".join(f"{n!r}: 'min'" for n in others[:2])
    named = f", or name the objectives (--metric {words}, objectives={{{own}}})" if others else ""
    remedy = "" if bad else hint or f"; return it, or report it{named}"
    return f"the objective gave no finite value for {', '.join(map(repr, missing))}{got}{remedy}"
