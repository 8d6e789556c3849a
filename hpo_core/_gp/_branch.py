"""Now and then a look into the branch of a conditional space that was tried least.

| symbol | meaning |
|---|---|
| `j` | an unordered column without a condition of its own, on which others are conditional |
| `v` | the value of `j` that the fewest trials have |

A branch's own columns are unknown to the model until it has been tried a few times, and what is far
from every trial of a branch is predicted at the mean of all results. So a search that has met a good
branch early can stay there for good: the improvement expected of a branch tried badly a few times is less
than what the last digits of the good one promise. From trial `FIRST` on every `EVERY`-th proposal therefore
is the best one inside `v`; earlier it cost more than it gave (docs/gp.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hpo_core._gp._climb import Layout
    from hpo_core._history import History

EVERY, FIRST = 8, 40


class Branch(NamedTuple):
    """Where `column` `j` has the unit-cube value `v`."""

    column: int
    value: float

    def has(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(...,) which of canonical `points` (..., d) lie in it."""
        return near(points[..., self.column], self.value)


def neglected(history: History, shape: Layout) -> Branch | None:
    """What to stay inside with the next proposal; None for nearly all of them."""
    number = history.n_trials
    if number < FIRST or number % EVERY != EVERY - 1 or not history.space.conditional.any():
        return None
    space = history.space
    deciding = sorted({j for parents in space.parents for j in parents})
    roots = [j for j in deciding if j in shape.nominal and not space.conditional[j]]
    if not roots:
        return None
    column = roots[number // EVERY % len(roots)]
    grid = shape.grids[column]
    counts = [int(near(history.X[:, column], value).sum()) for value in grid]
    return Branch(column, float(grid[int(np.argmin(counts))]))


def near(values: NDArray[np.float64] | np.float64, value: float) -> NDArray[np.bool_]:
    """(n,) whether unit-cube `values` (n,) are `value`, up to rounding; NaN is not."""
    return np.asarray(np.abs(values - value) < 1e-9)
