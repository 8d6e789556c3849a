"""The evidence of a study as a model wants it.

| symbol | meaning | shape |
|---|---|---|
| `X` | configurations, unit cube | (k, d) |
| `y` | what was measured, minimised; NaN where nothing was | (k, m) |
| `usable` | rows with a value for every objective that keep the constraints | (k,) |
| `pending` | configurations in flight | (p, d) |
| `excesses` | by how much each outcome constraint is broken, NaN where not known | (k, c) |

Without trials that stopped early, rows are the evidence, which only grows. With them they are the
trials placed at the step at which most can be compared (`hpo_core._training`), and any may change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hpo_core._training import Training


@dataclass(frozen=True)
class Data:
    """See the table above. `step` is the one that values belong to, 0 for final ones."""

    X: NDArray[np.float64]
    y: NDArray[np.float64]
    usable: NDArray[np.bool_]
    pending: NDArray[np.float64]
    step: int
    excesses: NDArray[np.float64]

    @property
    def measured(self) -> NDArray[np.bool_]:
        """(k,) rows that say something of the objectives, whether they keep the constraints or not."""
        return np.asarray(np.isfinite(self.y).all(axis=1))

    @property
    def judged(self) -> NDArray[np.bool_]:
        """(k,) rows of which all constraints are known to be kept or broken; none without constraints."""
        known = np.isfinite(self.excesses).all(axis=1)
        return np.asarray(known & (self.excesses.shape[1] > 0))

    @property
    def failed(self) -> NDArray[np.bool_]:
        """(k,) rows without a value that no constraint accounts for."""
        return ~self.usable & ~self.judged

    @property
    def order(self) -> NDArray[np.float64]:
        """(k,) smaller is better: the value, or the mean rank over objectives; inf if unusable."""
        order = np.full(len(self.y), np.inf)
        y = self.y[self.usable]
        if y.shape[1] == 1:
            order[self.usable] = y[:, 0]
        else:
            order[self.usable] = y.argsort(axis=0).argsort(axis=0).mean(axis=1)
        return order


def data_of(training: Training) -> Data:
    """What a model should learn from, with the rows that it can."""
    usable = np.asarray(np.isfinite(training.values).all(axis=1))
    return Data(training.X, training.measured, usable, training.pending, training.step, training.excesses)
