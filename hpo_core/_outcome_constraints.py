"""Bounds on what trials measure: ``latency_ms <= 10``. A complete trial that breaks one is infeasible.

Constraints of the space are known before a trial runs, these when it has ended. They are judged then and not
on the way: what breaks a bound after one epoch may keep it after thirty.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpo_core._errors import InputError

__all__ = [
    "OutcomeConstraint",
    "behind_the_kept",
    "broken_by",
    "broken_least",
    "checked_outcome_constraints",
    "excesses",
]

_FORM = re.compile(r"\s*(?P<metric>\S(?:.*\S)?)\s*(?P<sign><=|>=)\s*(?P<bound>\S+)\s*")


@dataclass(frozen=True, slots=True)
class OutcomeConstraint:
    """``metric`` must be at most (``upper``) or at least ``bound``."""

    metric: str
    upper: bool
    bound: float

    @classmethod
    def of(cls, text: str) -> OutcomeConstraint:
        """Read ``NAME <= NUMBER`` or ``NAME >= NUMBER``. Raises :class:`InputError` for anything else."""
        found = _FORM.fullmatch(text) if isinstance(text, str) else None
        try:
            bound = float(found["bound"]) if found else math.nan
        except ValueError:
            bound = math.nan
        if found is None or not math.isfinite(bound):
            raise InputError(
                f"a constraint on outcomes is 'METRIC <= NUMBER' or 'METRIC >= NUMBER', got {text!r}"
            )
        return cls(found["metric"], found["sign"] == "<=", bound)

    def __str__(self) -> str:
        short = f"{self.bound:g}"
        bound = short if float(short) == self.bound else repr(self.bound)
        return f"{self.metric} {'<=' if self.upper else '>='} {bound}"

    def excess(self, value: float) -> float:
        """By how much ``value`` breaks the bound; not above 0 where it keeps it."""
        return value - self.bound if self.upper else self.bound - value


def checked_outcome_constraints(given: object) -> tuple[str, ...]:
    """The constraints in their own words. Raises :class:`InputError` for what are none."""
    if isinstance(given, str):
        given = [given]
    if not isinstance(given, Sequence):
        raise InputError(f"outcome_constraints is a list such as ['latency_ms <= 10'], got {given!r}")
    return tuple(str(OutcomeConstraint.of(text)) for text in given)


def excesses(constraints: Sequence[OutcomeConstraint], metrics: Mapping[str, float]) -> NDArray[np.float64]:
    """``(c,)`` by how much ``metrics`` break each constraint; NaN where one of them is not known."""
    found = np.array([c.excess(metrics.get(c.metric, math.nan)) for c in constraints], dtype=np.float64)
    return found if np.isfinite(found).all() else np.full(len(constraints), np.nan)


def broken_by(constraints: Sequence[OutcomeConstraint], metrics: Mapping[str, float]) -> float:
    """How badly ``metrics`` break the constraints; 0 where they keep all that is known.

    The number of broken ones, and between numbers the sum of what they are broken by, each in units of its
    bound. It does not depend on other results, so that a place in a rung never has to be worked out again.
    """
    known = [(c, c.excess(metrics[c.metric])) for c in constraints if c.metric in metrics]
    broken = [excess / (abs(c.bound) or 1.0) for c, excess in known if excess > 0.0]
    total = sum(broken)
    return len(broken) + (total / (1.0 + total) if total < math.inf else 1.0) if broken else 0.0


def broken_least(excess: NDArray[np.float64]) -> NDArray[np.intp]:
    """Which rows of ``excess`` ``(k, c)`` break a constraint, ascending in how much they do so.

    Of equals the earlier; see :func:`_total`.
    """
    rows = np.flatnonzero((excess > 0.0).any(axis=1))
    return np.asarray(rows[np.argsort(_total(excess[rows]), kind="stable")])


def behind_the_kept(values: NDArray[np.float64], excess: NDArray[np.float64]) -> NDArray[np.float64]:
    """``values`` ``(k,)``, minimised, with a number for what breaks a constraint by ``excess`` ``(k, c)``.

    They lie behind the worst that keeps them, in equal steps up to once more the range of those: the more a
    result breaks, the further. That is the order of Deb (2000). Other rows, failures (NaN) too, stay.
    """
    rows = np.flatnonzero((excess > 0.0).any(axis=1))
    if not len(rows):
        return values
    kept = values[np.isfinite(values)]
    # Halves: the range of two values near the largest double is no double.
    low, high = (float(kept.min()) / 2, float(kept.max()) / 2) if len(kept) else (0.0, 0.0)
    levels, place = np.unique(_total(excess[rows]), return_inverse=True)
    share = (place + 1.0) / len(levels)
    # Where all are the same there is no range, but there has to be a difference.
    span = high - low if high - low > 1e-9 * abs(high) else max(abs(high), 0.5)
    with np.errstate(over="ignore"):
        numbers = 2.0 * (high + span * share)
    out = values.copy()
    out[rows] = np.minimum(numbers, np.finfo(np.float64).max)
    return out


def _total(excess: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(k,)`` the sum over constraints, each in units of the most that it is broken by.

    Deb (2000), "An efficient constraint handling method for genetic algorithms".
    """
    broken = np.maximum(excess, 0.0)
    most = broken.max(axis=0, initial=0.0)
    return np.asarray((broken / np.where(most > 0.0, most, 1.0)).sum(axis=1))
