"""How a population's new configuration is made from that of a better member.

Jaderberg et al. (2017), "Population Based Training of Neural Networks", section 4.1.1: perturb each
hyperparameter by a factor of 1.2 or 0.8, or resample it from its prior.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hpo_core._parameters import Categorical, Parameter
from hpo_core._space import SearchSpace

__all__ = ["mutable_columns", "perturbed", "resampled"]

Array = NDArray[np.float64]

FACTORS = (0.8, 1.2)
# Chance that a perturbed hyperparameter is drawn from its prior, so that a population can leave a corner.
RESAMPLE = 0.25
# New configurations that violate a constraint are drawn again this often; then the old one is kept.
_TRIES = 32


def mutable_columns(space: SearchSpace, names: Sequence[str] | None) -> NDArray[np.int64]:
    """Columns of the parameters that may change during training; of all when ``names`` is ``None``."""
    wanted = set(space.column_names if names is None else names)
    return np.flatnonzero([name in wanted for name in space.column_names])


def perturbed(space: SearchSpace, u: Array, columns: Sequence[int], rng: np.random.Generator) -> Array:
    """``u`` ``(d,)`` with each active column of ``columns`` moved a little, or drawn anew with chance 1/4.

    What becomes active with that is drawn, too.
    """
    for _ in range(_TRIES):
        new = u.copy()
        for column in columns:
            fresh, up = rng.random(), bool(rng.integers(2))
            if np.isnan(u[column]):
                # For what becomes active as another parameter changes the branch; `snap` knows the others.
                new[column] = fresh
            elif rng.random() < RESAMPLE:
                new[column] = fresh
            else:
                parameter = space.parameters[space.column_names[column]]
                new[column] = _moved(parameter, float(u[column]), up)
        new = space.snap(new[None, :])[0]
        if space.allowed(new[None, :])[0]:
            return np.asarray(new)
    return u


def resampled(
    space: SearchSpace, u: Array, columns: Sequence[int], rng: np.random.Generator, count: int = 1
) -> Array:
    """``(count, d)``: ``u`` ``(d,)`` with ``columns`` drawn from their priors, ``count`` times."""
    new = np.tile(u, (max(count, _TRIES), 1))
    new[:, columns] = rng.random((len(new), len(columns)))
    new = space.snap(new)
    new = new[space.allowed(new)][:count]
    return np.concatenate([new, np.tile(u, (count - len(new), 1))])


def _moved(parameter: Parameter, u: float, up: bool) -> float:
    """One column after a perturbation; at the edge of its range it stays there."""
    cells = parameter.cardinality
    if isinstance(parameter, Categorical):
        return _beside(u, up, cells) if parameter.ordered else u
    value = parameter.decode(u)
    wanted = value * FACTORS[up]
    if wanted == value:  # a zero has no fifth
        return min(max(u + (0.1 if up else -0.1), 0.0), 1.0)
    if (wanted > value) != up:  # negative values grow towards zero
        wanted = value * FACTORS[not up]
    moved = _unit_of(parameter, wanted)
    if parameter.count is None or parameter.decode(moved) != value:
        return moved
    # A fifth is less than a step of the grid, so it is one step.
    if cells:
        return _beside(u, up, cells)
    beside = value + (1 if up else -1)  # whole numbers on a log scale, whose cells are unequal
    return parameter.encode(beside) if parameter.contains(beside) else u


def _beside(u: float, up: bool, cells: int) -> float:
    """The next cell up or down, where there is one."""
    return min(max(u + (1 if up else -1) / cells, 0.5 / cells), 1 - 0.5 / cells)


def _unit_of(parameter: Parameter, wanted: float) -> float:
    """The ``u`` whose value is nearest to a number, which need not be in range or on the grid.

    By bisection, as every numeric parameter ascends with ``u``.
    """
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if parameter.decode(middle) < wanted:
            low = middle
        else:
            high = middle
    return low if wanted - parameter.decode(low) < parameter.decode(high) - wanted else high
