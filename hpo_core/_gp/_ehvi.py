"""Two objectives: expected hypervolume improvement, exactly and with gradients.

| symbol | meaning | shape |
|---|---|---|
| `front` | non-dominated outcomes, first objective ascending, second descending, minimised | (a, 2) |
| `r` | reference point | (2,) |
| `psi(t)` | expected improvement below t, E max(0, t - Y) | (n, a + 1) |

The region that a new point can win is cut into strips by the first objective: strip i spans
[front[i-1, 0], front[i, 0]] and lies below front[i-1, 1], with minus infinity and `r` at the ends.
Outcomes are independent, so EHVI = sum_i (psi_1(upper_i) - psi_1(lower_i)) psi_2(height_i), which is
the formula of Emmerich, Deutz & Klinkenberg 2011 ("Hypervolume-based expected improvement") sorted
by strips (Yang et al. 2019, "Efficient computation of expected hypervolume improvement").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hpo_core._gp._acquire import LOG_SQRT_2PI
from hpo_core._gp._score import Term

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hpo_core._gp._posterior import Posterior

# How far beyond the worst of the front the reference point lies, as a share of the front's extent.
# With the usual tenth the ends of the front were left out in every study tried (docs/gp.md).
MARGIN = 1.0
# Below this the improvement is nil for all purposes; its logarithm and slope stay finite.
LEAST = 1e-250


def reference(front: NDArray[np.float64]) -> NDArray[np.float64]:
    """The reference point (2,) for `front` (a, 2); an extent of zero counts as 1, the models' scale."""
    extent = front.max(axis=0) - front.min(axis=0)
    return np.asarray(front.max(axis=0) + MARGIN * np.where(extent > 1e-9, extent, 1.0))


def _psi(
    levels: NDArray[np.float64], mean: NDArray[np.float64], sd: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """E max(0, level - Y) (n, l) for Y ~ N(mean (n,), sd (n,)), and its derivatives by mean and sd."""
    from scipy.special import ndtr

    z = (levels - mean[:, None]) / sd[:, None]
    below = ndtr(z)
    density = np.exp(-0.5 * z * z - LOG_SQRT_2PI)
    return sd[:, None] * np.maximum(z * below + density, 0.0), -below, density


def log_ehvi(posteriors: tuple[Posterior, ...], front: NDArray[np.float64], r: NDArray[np.float64]) -> Term:
    """The term: log expected hypervolume improvement over `front` (a, 2), any order, below `r` (2,)."""
    ordered = front[np.argsort(front[:, 0], kind="stable")]
    uppers = np.append(ordered[:, 0], r[0])
    heights = np.append(r[1], ordered[:, 1])

    def function(
        means: list[NDArray[np.float64]], sds: list[NDArray[np.float64]]
    ) -> tuple[NDArray[np.float64], list[NDArray[np.float64]], list[NDArray[np.float64]]]:
        # psi at the lower end of a strip is psi at the upper end of the one before, and 0 at minus infinity.
        first = [np.diff(p, axis=1, prepend=0.0) for p in _psi(uppers, means[0][:, 0], sds[0])]
        second = _psi(heights, means[1][:, 0], sds[1])
        total = np.maximum((first[0] * second[0]).sum(axis=1), LEAST)
        by_mean = [(first[1] * second[0]).sum(axis=1), (first[0] * second[1]).sum(axis=1)]
        by_sd = [(first[2] * second[0]).sum(axis=1), (first[0] * second[2]).sum(axis=1)]
        return np.log(total), [(g / total)[:, None] for g in by_mean], [g / total for g in by_sd]

    return Term(posteriors, function)
