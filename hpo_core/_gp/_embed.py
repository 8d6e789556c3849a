"""From the unit cube of a search space to the points a kernel compares.

| symbol | meaning | shape |
|---|---|---|
| `U` | configurations, unit cube, NaN = inactive | (n, d) |
| `Z` | numeric features | (n, p) |
| `C` | codes of unordered categories, -1 = inactive | (n, q) |
| `g` | length scale (= column of the space) that a feature belongs to | (p,) or (q,) |

Ordered columns become one feature, stretched so that the lowest and highest values are 0 and 1 (cell
centres of a column with two values lie only 0.5 apart, and one length-scale prior serves all columns).
A conditional column gets a second feature under the same length scale, its active mark, and its
inactive rows are placed at the middle: two inactive rows are then at distance 0, and an active and
an inactive one at a positive distance, by an embedding, so that every kernel stays positive definite.
(After the "arc" kernel of Swersky et al. 2014, without its extra parameters.)
Unordered categories are compared by equality (overlap kernel: 0 if equal, else 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hpo_core._parameters import NOMINAL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hpo_core._space import SearchSpace

# Height of the active mark: an active value in the middle is this far from an inactive one.
MARK = 0.5


@dataclass(frozen=True)
class Points:
    """Embedded configurations: `numeric` (n, p) floats and `codes` (n, q) integers."""

    numeric: NDArray[np.float64]
    codes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.numeric)

    def take(self, rows: NDArray[np.intp] | slice) -> Points:
        """The given rows."""
        return Points(self.numeric[rows], self.codes[rows])

    def join(self, other: Points) -> Points:
        """These points followed by `other`."""
        return Points(
            np.concatenate([self.numeric, other.numeric]), np.concatenate([self.codes, other.codes])
        )


@dataclass(frozen=True)
class Embedding:
    """The map from unit-cube columns to `Points`; `n_scales` = d length scales, one a column.

    `numeric_columns` (p0,) and `nominal_columns` (q,) are column indices, `marked` (p - p0,) the
    conditional ordered columns, `low` and `gain` (p0,) the stretch of ordered columns, `cardinality`
    (q,) the number of choices of the nominal ones.
    """

    n_scales: int
    numeric_columns: NDArray[np.intp]
    nominal_columns: NDArray[np.intp]
    marked: NDArray[np.intp]
    low: NDArray[np.float64]
    gain: NDArray[np.float64]
    cardinality: NDArray[np.int64]

    @property
    def numeric_scale(self) -> NDArray[np.intp]:
        """(p,) index of the length scale of each numeric feature."""
        return np.concatenate([self.numeric_columns, self.marked])

    def __call__(self, unit: NDArray[np.float64]) -> Points:
        """Embed `unit` (n, d)."""
        ordered = unit[:, self.numeric_columns]
        # A sum is NaN as soon as one term is: cheaper than looking at every one.
        if np.isnan(ordered.sum()):
            ordered = np.where(np.isnan(ordered), 0.5, ordered)
        features = (ordered - self.low) * self.gain
        if len(self.marked):
            marks = np.where(np.isnan(unit[:, self.marked]), 0.0, MARK)
            features = np.concatenate([features, marks], axis=1)
        nominal = unit[:, self.nominal_columns]
        if not len(self.nominal_columns):
            return Points(features, np.empty((len(unit), 0), dtype=np.int64))
        # Codes count cells, so that two floats of the same cell can never look different.
        cells = np.floor(np.where(np.isnan(nominal), 0.0, nominal) * self.cardinality)
        codes = np.where(np.isnan(nominal), -1, cells).astype(np.int64)
        return Points(features, codes)


def make_embedding(space: SearchSpace) -> Embedding:
    """The embedding of a space."""
    is_nominal = np.asarray(space.kinds) == NOMINAL
    numeric = np.flatnonzero(~is_nominal)
    nominal = np.flatnonzero(is_nominal)
    ends = np.array([0.0, 1.0])
    limits = [space.parameters[space.column_names[j]].canonical(ends) for j in numeric]
    low, high = np.array(limits, dtype=np.float64).reshape(-1, 2).T
    spread = high - low
    return Embedding(
        n_scales=space.dims,
        numeric_columns=numeric,
        nominal_columns=nominal,
        marked=np.flatnonzero(np.asarray(space.conditional) & ~is_nominal),
        low=low,
        gain=np.where(spread > 0.0, 1.0 / np.where(spread > 0.0, spread, 1.0), 1.0),
        cardinality=np.asarray(space.cardinality)[nominal],
    )
