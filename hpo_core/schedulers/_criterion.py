"""What trials are compared by: all objectives together, or one reported metric by name.

Scores are tuples of floats, all minimised: one float for a single objective or a named metric, m floats
when several objectives are compared by non-dominated rank. A score with a NaN stands for a result that
is no number. A trial outside of the edited space has none: with one, it would hold its place before trials
that can still win.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass

from hpo_core._errors import StrategyError, nearest
from hpo_core._history import History
from hpo_core._logs import sign_of
from hpo_core._outcome_constraints import OutcomeConstraint, broken_by
from hpo_core._rule import result
from hpo_core._states import TrialState

__all__ = ["Criterion", "Score", "Scores", "usable"]

Score = tuple[float, ...]


def usable(score: Score | None) -> bool:
    """Whether a trial can be ranked by this score."""
    return score is not None and not any(map(math.isnan, score))


@dataclass(frozen=True, slots=True)
class Criterion:
    """``metric``: a reported metric by name, or ``None`` for the study's objectives.

    ``direction``, ``"min"`` or ``"max"``, is needed where the metric is no objective of the study.
    """

    metric: str | None = None
    direction: str | None = None

    def check(self, owner: str) -> None:
        """Raise :class:`StrategyError` for options that can mean nothing."""
        if not isinstance(self.metric, str | None):
            raise StrategyError(f"{owner}: metric must be the name of a metric, got {self.metric!r}")
        if self.direction not in (None, "min", "max"):
            raise StrategyError(
                f"{owner}: direction must be 'min' or 'max', got {self.direction!r}"
                f"{nearest(str(self.direction), ('min', 'max'))}"
            )
        if self.direction is not None and self.metric is None:
            raise StrategyError(
                f"{owner}: direction={self.direction!r} says nothing without metric=; name the metric, or "
                "leave direction out to use the objectives' own"
            )

    def bind(self, history: History) -> Scores:
        """The criterion for one study.

        Raises :class:`StrategyError` when the metric's direction is unknown or contradicts the study.
        """
        if self.metric is None:
            return Scores(history.objectives, tuple(history.signs.tolist()), history.outcome_constraints)
        known = dict(zip(history.objectives, history.signs.tolist(), strict=True))
        sign = None if self.direction is None else sign_of(self.direction)
        if sign is None and self.metric not in known:
            raise StrategyError(
                f"metric {self.metric!r} is none of the objectives {list(known)}"
                f"{nearest(self.metric, known)}; add direction='min' or 'max' to compare by it"
            )
        if sign is not None and known.get(self.metric, sign) != sign:
            raise StrategyError(
                f"the study's objective {self.metric!r} has the other direction than {self.direction!r}; "
                "leave direction out"
            )
        own = known[self.metric] if sign is None else sign
        return Scores((self.metric,), (own,), history.outcome_constraints)


@dataclass(frozen=True, slots=True)
class Scores:
    """Reads scores off a history: the values of ``names``, times ``signs`` so that less is better."""

    names: tuple[str, ...]
    signs: tuple[float, ...]
    constraints: tuple[OutcomeConstraint, ...] = ()

    @property
    def width(self) -> int:
        """How many numbers a score has."""
        return len(self.names)

    def of_row(self, history: History, row: int) -> Score | None:
        """The score in one report; ``None`` when the report leaves out any part of it."""
        if history.outside and int(history.reports.trials[row]) in history.outside:
            return None
        found = []
        for name, sign in zip(self.names, self.signs, strict=True):
            value = history.reports.value(row, name)
            if value is None:
                return None
            found.append(value * sign)
        return tuple(found)

    def at(self, history: History, trial: int, step: int) -> Score | None:
        """The trial's newest score at or before a step; ``None`` when it had reported none by then."""
        steps, rows = history.reports.steps, history.reports_of(trial)
        for place in range(bisect_right(rows, step, key=lambda row: int(steps[row])) - 1, -1, -1):
            score = self.of_row(history, rows[place])
            if score is not None:
                return score
        return None

    def by_rule(self, history: History, trial: int, step: int) -> Score | None:
        """The trial's score up to a step by the study's rule: its newest, its best or its last few's mean.

        What a rung compares is then of the same kind as what the trial's result will be. A trial whose
        newest score is no number is compared by that: it has diverged, whatever it was before.
        """
        newest = self.at(history, trial, step)
        if newest is None or history.rule == "last" or not usable(newest):
            return newest
        steps = history.reports.steps
        scores = [self.of_row(history, row) for row in history.reports_of(trial) if steps[row] <= step]
        columns = zip(*(score for score in scores if score is not None), strict=True)
        return tuple(result(column, history.rule) for column in columns)

    def broken(self, history: History, trial: int, step: int) -> float:
        """How far what the trial had reported by a step breaks the study's outcome constraints.

        By that trials are compared while they run, all at the same step, and none is judged: a bound may
        yet be kept. 0 where it keeps those that it has reported, see :func:`broken_by`.
        """
        if not self.constraints:
            return 0.0
        reports, rows = history.reports, history.reports_of(trial)
        known = rows[: bisect_right(rows, step, key=lambda row: int(reports.steps[row]))]
        found: dict[str, float] = {}
        for name in dict.fromkeys(c.metric for c in self.constraints if reports.has(c.metric)):
            values = (reports.value(row, name) for row in reversed(known))
            newest = next((value for value in values if value is not None and math.isfinite(value)), None)
            found |= {} if newest is None else {name: newest}
        return broken_by(self.constraints, found)

    def nothing_by(self, history: History, trial: int, step: int) -> str:
        """Why the trial cannot be ranked at a step."""
        if self.at(history, trial, step) is None:
            return f"no {' and '.join(self.names)} reported up to step {step}"
        return f"no finite result at step {step}"

    def newest(self, history: History, trial: int) -> Score | None:
        """The trial's newest score of all."""
        for row in reversed(history.reports_of(trial)):
            score = self.of_row(history, row)
            if score is not None:
                return score
        return None

    def final(self, history: History, trial: int) -> Score | None:
        """A complete trial's score: its values where these are objectives, else its newest report."""
        complete = history.states[trial] == TrialState.COMPLETE and trial not in history.outside
        if complete and set(self.names) <= set(history.objectives):
            values = history.values[trial]
            return tuple(float(values[history.objectives.index(name)]) for name in self.names)
        return self.newest(history, trial)
