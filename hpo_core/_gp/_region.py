"""A trust region for many dimensions, as a fold over the results.

| symbol | meaning | shape |
|---|---|---|
| `L` | side of the region before it is shaped by the length scales | scalar |
| `first` | row of evidence with which the present region began | scalar |

After TuRBO (Eriksson et al. 2019, "Scalable global optimization via local Bayesian optimization", section 2):
the side doubles after `SUCCESSES` improvements in a row, halves after a run of failures, and when
it has shrunk below `SMALLEST` a new region begins from nothing. Its state is a function of the results in
the order in which they came, whoever proposed them, so that it needs no storage and no proposal log;
the region's centre is the best result since it began. Results from elsewhere were looked for in no region:
they are something to improve on, and neither success nor failure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

START, LARGEST, SMALLEST = 0.8, 1.6, 0.5**7
SUCCESSES = 3
# An improvement counts if it is this large in proportion to what has been gained so far.
RELATIVE = 1e-3


@dataclass
class Region:
    """The state after `rows` results; mutable, owned by a memo."""

    rows: int = 0
    first: int = 0
    length: float = START
    best: float = np.inf
    worst: float = -np.inf
    good: int = 0
    bad: int = 0

    def grow(self, values: NDArray[np.float64], own: NDArray[np.bool_], patience: int) -> None:
        """Fold the results that came since: `values` (k,), NaN where a trial failed.

        `own` (k,): those of the study's trials. `patience`: failures in a row after which the side halves.
        """
        for row in range(self.rows, len(values)):
            self._tell(float(values[row]), row, bool(own[row]), patience)
        self.rows = len(values)

    def _tell(self, value: float, row: int, own: bool, patience: int) -> None:
        begun = np.isfinite(self.best)
        # Halves, so that the difference of two huge values does not overflow.
        step = RELATIVE * max(self.worst / 2 - self.best / 2, 0.0) if begun else 0.0
        success = value / 2 < self.best / 2 - step
        if not np.isnan(value):
            self.best, self.worst = min(self.best, value), max(self.worst, value)
        if not (begun and own):
            return
        self.good, self.bad = (self.good + 1, 0) if success else (0, self.bad + 1)
        if self.good == SUCCESSES:
            self.length, self.good = min(2.0 * self.length, LARGEST), 0
        elif self.bad >= patience:
            self.length, self.bad = 0.5 * self.length, 0
        if self.length < SMALLEST:
            self.first, self.length, self.best, self.worst = row + 1, START, np.inf, -np.inf
            self.good = self.bad = 0


def box(
    centre: NDArray[np.float64], length: float, scales: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper faces (d,) of the region of side `length` around `centre` (d,), NaN in the middle.

    Longer along columns of longer length `scales` (d,), at equal volume, within the unit cube.
    """
    logs = np.log(scales)
    weights = np.exp(np.clip(logs - logs.mean(), -2.0, 2.0))
    middle = np.where(np.isnan(centre), 0.5, centre)
    half = 0.5 * length * weights
    return np.clip(middle - half, 0.0, 1.0), np.clip(middle + half, 0.0, 1.0)
