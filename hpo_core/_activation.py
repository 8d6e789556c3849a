"""Conditions tested in the unit cube.

A :class:`Gate` is a condition on the parent's column of canonical points, compiled once, because it is
asked for every point that a model looks at.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hpo_core._conditions import Condition
from hpo_core._domain import Parameter
from hpo_core._errors import SpaceError

__all__ = ["Gate", "check_condition"]

# Up to this many cells a gate is a table; beyond, it is a list of the open cells.
_MOST_IN_TABLE = 100_000
# A bound on a continuous parent is encoded and decoded; both round.
_ROUNDING = 1e-12


class Gate:
    """A condition on a column of canonical points.

    Discrete parents are tested by cell or by the midpoint between neighbouring values, so rounding
    cannot matter; a bound on a continuous parent includes points that rounding put just outside.
    """

    def __init__(self, condition: Condition, parent: Parameter) -> None:
        self._cardinality = parent.cardinality
        self._table: NDArray[np.bool_] | None = None
        self._cells: NDArray[np.int64] | None = None
        self._intervals: list[tuple[float, float]] = []
        if condition.values and parent.cardinality:
            cells = np.array([int(parent.encode(v) * parent.cardinality) for v in condition.values])
            if parent.cardinality <= _MOST_IN_TABLE:
                self._table = np.zeros(parent.cardinality, dtype=bool)
                self._table[cells] = True
            else:
                self._cells = cells
        elif condition.values:
            self._intervals = [_interval(parent, v, v) for v in condition.values]
        else:
            self._intervals = [_interval(parent, condition.ge, condition.le)]

    @property
    def empty(self) -> bool:
        """Whether nothing passes."""
        return self._table is None and self._cells is None and all(a > b for a, b in self._intervals)

    def passes(self, column: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(n,) bool for ``column`` (n,), the parent's canonical coordinates; ``NaN`` never passes."""
        if self._table is None and self._cells is None:
            out = np.zeros(len(column), dtype=bool)
            for low, high in self._intervals:
                out |= (column >= low) & (column <= high)
            return out
        present = ~np.isnan(column)
        cells = (np.where(present, column, 0.0) * self._cardinality).astype(np.int64)
        if self._table is not None:
            return np.asarray(present & self._table[np.minimum(cells, self._cardinality - 1)])
        assert self._cells is not None
        return np.asarray(present & np.isin(cells, self._cells))

    def draw(self, rng: np.random.Generator) -> float:
        """A coordinate that passes, uniform over the cells or over one of the intervals."""
        cells = self._cells if self._table is None else np.flatnonzero(self._table)
        if cells is not None:
            return float((rng.choice(cells) + 0.5) / self._cardinality)
        low, high = self._intervals[rng.integers(len(self._intervals))]
        low, high = max(low, 0.0), min(high, 1.0)
        return float(low + (high - low) * rng.random())


def check_condition(condition: Condition, name: str, parent: Parameter) -> None:
    """Raise :class:`SpaceError` when the condition on ``name`` has no meaning, or can never hold."""
    never = f"parameter {name!r} is to be active when {condition.parent!r} is"
    if not condition.values and not parent.numeric:
        raise SpaceError(
            f"parameter {name!r}: a range condition on {condition.parent!r} has no meaning, as it is no "
            f"number: {parent!r}; name its values, as in .when({condition.parent!r}, VALUE)"
        )
    for value in condition.values:
        if not parent.contains(value):
            raise SpaceError(f"{never} {value!r}, which it can never be: {parent!r}")
        if parent.count is None:
            raise SpaceError(
                f"{never} {value!r}, but it is continuous and hits no value exactly; give a range "
                f"(.when({condition.parent!r}, ge=..., le=...)) or a step"
            )
    if not condition.values and Gate(condition, parent).empty:
        ge = -math.inf if condition.ge is None else condition.ge
        le = math.inf if condition.le is None else condition.le
        raise SpaceError(f"{never} in [{ge:g}, {le:g}], where it can never be: {parent!r}")


def _interval(parent: Parameter, ge: float | None, le: float | None) -> tuple[float, float]:
    """The part of [0, 1] in which the parent's value lies in ``[ge, le]``; ``(inf, -inf)`` when none."""
    if parent.count is not None:
        return _between_values(parent, ge, le, parent.count)
    low, high = parent.decode(0.0), parent.decode(1.0)
    if (ge is not None and ge > high) or (le is not None and le < low):
        return math.inf, -math.inf
    first = -math.inf if ge is None or ge <= low else parent.encode(ge) - _ROUNDING
    last = math.inf if le is None or le >= high else parent.encode(le) + _ROUNDING
    return first, last


def _between_values(parent: Parameter, ge: float | None, le: float | None, count: int) -> tuple[float, float]:
    values: Sequence[int] = range(count)
    first = 0 if ge is None else bisect.bisect_left(values, ge, key=parent.value_at)
    last = count - 1 if le is None else bisect.bisect_right(values, le, key=parent.value_at) - 1
    if first > last:
        return math.inf, -math.inf
    bottom = -math.inf if first == 0 else _middle(parent, first)
    top = math.inf if last == count - 1 else _middle(parent, last + 1)
    return bottom, top


def _middle(parent: Parameter, index: int) -> float:
    return (parent.unit_at(index - 1) + parent.unit_at(index)) / 2
