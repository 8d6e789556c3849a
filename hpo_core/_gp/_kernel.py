"""Stationary kernels as functions of the squared scaled distance, and that distance.

| symbol | meaning | shape |
|---|---|---|
| `r2` | squared distance, each feature divided by its length scale | (n, m) |
| `k` | kernel value, 1 at distance 0 | (n, m) |
| `dk` | derivative of `k` by `r2`, never positive | (n, m) |

Matern 5/2 (Rasmussen & Williams 2006, eq. 4.17) is the default; the squared exponential is the
smooth alternative that the evidence may prefer. Working in `r2` avoids the division by
a distance of zero that the textbook gradients contain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hpo_core._gp._embed import Points

KernelName = Literal["matern", "gauss"]
SQRT5 = float(np.sqrt(5.0))


def kernel(name: KernelName, r2: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Value and derivative by `r2` of the named kernel, both shaped as `r2`."""
    if name == "gauss":
        value = np.exp(-0.5 * r2)
        return value, -0.5 * value
    s = np.sqrt(r2)
    s *= SQRT5
    decay = np.exp(-s)
    # k = (1 + s + s^2 / 3) exp(-s), and its derivative by r2 is -(5/6) (1 + s) exp(-s).
    s += 1.0
    s *= decay
    decay *= r2
    decay *= 5.0 / 3.0
    decay += s
    s *= -5.0 / 6.0
    return decay, s


@dataclass(frozen=True)
class Scaled:
    """Points with numeric features over their length scales.

    `numeric` (n, p) and its squared norms `square` (n,); `codes` (n, q) as they were.
    """

    numeric: NDArray[np.float64]
    square: NDArray[np.float64]
    codes: NDArray[np.int64]


def scale(points: Points, numeric_weight: NDArray[np.float64]) -> Scaled:
    """`points` (n) under inverse squared length scales `numeric_weight` (p,)."""
    numeric = points.numeric * np.sqrt(numeric_weight)
    return Scaled(numeric, (numeric * numeric).sum(axis=1), points.codes)


def squared_distance(left: Scaled, right: Scaled, nominal_weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared scaled distances (n, m) between `left` (n) and `right` (m).

    `nominal_weight` (q,) are the inverse squared length scales of unordered columns.
    """
    r2 = left.numeric @ right.numeric.T
    r2 *= -2.0
    r2 += left.square[:, None]
    r2 += right.square
    np.maximum(r2, 0.0, out=r2)  # rounding can leave a tiny negative number
    for j, weight in enumerate(nominal_weight):
        r2 += weight * (left.codes[:, j, None] != right.codes[None, :, j])
    return np.asarray(r2)
