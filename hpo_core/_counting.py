"""How many configurations a finite space has, and which: conditions make both more than a product."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hpo_core._activation import Gate
from hpo_core._domain import Parameter

Gates = Mapping[int, Sequence[tuple[int, Gate]]]
"""For each column, parents first, the ``(parent column, gate)`` that must all be open."""

# Beyond these the exact count is given up for the product of the cardinalities.
_MOST_VALUES_OF_PARENT = 1_000_000
_MOST_STATES = 10_000


def list_points(columns: Sequence[Parameter], gates: Gates) -> NDArray[np.float64]:
    """(n, d) every canonical point, in lexicographic order with inactive (``NaN``) first.

    Every row on the way lives on in at least one of the final points, so nothing larger is ever built.
    """
    points = np.full((1, len(columns)), np.nan)
    for column, conditions in gates.items():
        active = np.ones(len(points), dtype=bool)
        for parent, gate in conditions:
            active &= gate.passes(points[:, parent])
        count = columns[column].count or 0
        grown = np.repeat(points[active], count, axis=0)
        grown[:, column] = np.tile(columns[column].units(), int(active.sum()))
        points = np.concatenate([points[~active], grown])
    order = np.lexsort(np.nan_to_num(points, nan=-1.0).T[::-1]) if len(columns) else [0]
    return np.asarray(points[order])


def prior_masses(columns: Sequence[Parameter], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) the prior's mass at each of canonical ``points`` ``(n, d)``: the product over what is active."""
    mass = np.ones(len(points))
    for column, parameter in enumerate(columns):
        active = ~np.isnan(points[:, column])
        value = np.searchsorted(parameter.units(), points[active, column])
        mass[active] *= parameter.masses()[value]
    return mass


def count_points(columns: Sequence[Parameter], gates: Gates) -> int | None:
    """Number of canonical points, ``None`` when infinite.

    Counts by recursion over the columns, where the state is which of the remaining columns are
    already known to be inactive. Values of a parent that open the same children count as one.
    """
    order = list(gates)
    children: dict[int, list[tuple[int, Gate]]] = {}
    for column, conditions in gates.items():
        for parent, gate in conditions:
            children.setdefault(parent, []).append((column, gate))
    if all(columns[c].count is None or (columns[c].count or 0) <= _MOST_VALUES_OF_PARENT for c in children):
        exact = _count(columns, order, children)
        if exact is not None:
            return None if math.isinf(exact) else int(exact)
    if any(p.count is None for p in columns):
        return None
    return math.prod(p.count or 1 for p in columns)


def _count(
    columns: Sequence[Parameter], order: Sequence[int], children: Mapping[int, Sequence[tuple[int, Gate]]]
) -> float | None:
    """The count, infinite or ``None`` where there are too many states to go through."""
    # Ways to reach each set of columns known to be inactive, column by column.
    ways: dict[frozenset[int], float] = {frozenset(): 1}
    for column in order:
        following: dict[frozenset[int], float] = {}
        below = children.get(column, ())
        for closed, n in ways.items():
            if column in closed:
                _add(following, closed - {column} | {child for child, _ in below}, n)
                continue
            for shut, values in _outcomes(columns[column], below).items():
                _add(following, closed | shut, n * values)
        if len(following) > _MOST_STATES:
            return None
        ways = following
    return sum(ways.values())


def _outcomes(parameter: Parameter, below: Sequence[tuple[int, Gate]]) -> dict[frozenset[int], float]:
    """Which children each of the parameter's values shuts, and how many values do so."""
    if parameter.count is None:
        # Each open piece of a continuous range holds infinitely many values.
        return {frozenset(): math.inf}
    if not below:
        return {frozenset(): parameter.count}
    passed = np.array([gate.passes(parameter.units()) for _, gate in below])
    patterns, counts = np.unique(passed, axis=1, return_counts=True)
    out: dict[frozenset[int], float] = {}
    for pattern, n in zip(patterns.T, counts.tolist(), strict=True):
        _add(out, frozenset(child for (child, _), ok in zip(below, pattern, strict=True) if not ok), n)
    return out


def _add(ways: dict[frozenset[int], float], state: frozenset[int], n: float) -> None:
    ways[state] = ways.get(state, 0) + n
