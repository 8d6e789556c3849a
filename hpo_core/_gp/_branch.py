"""Now and then a look at a choice that was hardly tried, or into the branch that was tried least.

| symbol | meaning |
|---|---|
| `j` | an unordered column without a condition of its own |
| `v` | a value of `j` that few trials have |

What is far from every trial is predicted at the mean of all results, and the trials gather where results are
much better than that. So a search that has met a good choice early can stay there for good, the more so
under noise: the improvement expected of one that was tried never, or once and badly, is less than what the
last digits of the good one promise. Every `EVERY`-th proposal therefore is the best one inside a `v` that
fewer than `LEAST` trials have, for as long as there is one, in columns of up to `FEW` values.

Where others are conditional on `j`, their columns too are unknown to the model until a branch has been
tried a few times. There `v` is the value that the fewest trials have, however many these are, and that from
trial `FIRST` on; earlier it cost more than it gave (docs/gp.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hpo_core._gp._climb import Layout
    from hpo_core._history import History

EVERY, FIRST = 8, 40
LEAST, FEW = 3, 16


class Branch(NamedTuple):
    """Where `column` `j` has the unit-cube value `v`."""

    column: int
    value: float

    def has(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(...,) which of canonical `points` (..., d) lie in it."""
        return near(points[..., self.column], self.value)


def neglected(history: History, shape: Layout) -> Branch | None:
    """What to stay inside with the next proposal; None for nearly all of them."""
    number, space = history.n_trials, history.space
    if number % EVERY != EVERY - 1:
        return None
    deciding = {j for parents in space.parents for j in parents}
    found: list[tuple[int, int]] = []
    for j in sorted(shape.nominal):
        if space.conditional[j] or (j not in deciding and len(shape.grids[j]) > FEW):
            continue
        counts = [int(near(history.X[:, j], value).sum()) for value in shape.grids[j]]
        if j in deciding:
            found += [(j, int(np.argmin(counts)))] * (number >= FIRST)
        else:
            found += [(j, place) for place, count in enumerate(counts) if count < LEAST]
    if not found:
        return None
    # In turn: what the constraints never allow would be in the way of the others for ever.
    column, place = found[number // EVERY % len(found)]
    return Branch(column, float(shape.grids[column][place]))


def near(values: NDArray[np.float64] | np.float64, value: float) -> NDArray[np.bool_]:
    """(n,) whether unit-cube `values` (n,) are `value`, up to rounding; NaN is not."""
    return np.asarray(np.abs(values - value) < 1e-9)
