"""Outcome warps: monotone maps that make objective values look more like a Gaussian process.

| symbol | meaning | shape |
|---|---|---|
| `y` | minimised values, finite | (k,) |
| `t`, `c` | threshold above which, and scale on which, values are compressed | scalars |
| `z` | warped, then standardised values | (k,) |
| `log_slope` | sum of log dz/dy, up to a constant that all warps share | scalar |
| `unit` | dy/dz below `t`, where nothing is compressed | scalar |

One family serves: identity below `t`, t + c log(1 + (y - t) / c) above it. With `t` at the upper
outlier fence it only tames outliers; at the median it is the "bilog" of Eriksson & Poloczek 2021 on
the bad half; at the best value, with a small `c`, it is a logarithm of the regret. Which of them fits
is decided by the evidence of the model, with the Jacobian of the warp (Snelson et al. 2004, "Warped
Gaussian processes", eq. 6). `c` must not be much smaller: a logarithm that comes within a hundredth of
the median's regret of its pole makes the best point an outlier, and its evidence grows without bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

WarpName = Literal["fence", "half", "log"]
# A value this many scales above the threshold, after the logarithm, is as bad as any other.
CEILING = 4.0
# Regrets this many times as large as an ordinary one are as bad as any other. Where a failure is returned as
# the largest double, the others would differ by less than rounding in its range.
DISASTER = 1e9
# Differences below this (of values scaled to a range of 1) are rounding, not information.
FLAT = 1e-13


@dataclass(frozen=True)
class Outcomes:
    """Warped and standardised values `z` (k,), `log_slope` for comparing warps, and `unit`."""

    z: NDArray[np.float64]
    log_slope: float
    unit: float


def _halved_range(y: NDArray[np.float64]) -> tuple[float, float]:
    """Half of the least of `y` (k,), and of the largest that is no disaster: safe for values of +-1e308."""
    low, high = float(y.min()) / 2, float(y.max()) / 2
    regrets = np.sort(y[y > y.min()] / 2 - low)
    ordinary = float(regrets[len(regrets) // 4]) if len(regrets) else 0.0
    with np.errstate(over="ignore"):
        return low, min(high, float(low + DISASTER * np.float64(ordinary)))


def rescale(y: NDArray[np.float64]) -> NDArray[np.float64]:
    """`y` (k,) moved and scaled to [0, 1]; all zeros if constant."""
    low, high = _halved_range(y)
    spread = high - low
    if not spread > 0.0:
        return np.zeros_like(y)
    with np.errstate(over="ignore"):
        return np.asarray(np.clip((y / 2 - low) / spread, 0.0, 1.0))


def warp(y: NDArray[np.float64], name: WarpName) -> Outcomes:
    """Warp `y` (k,), k >= 1, finite. A constant `y` gives zeros."""
    values = rescale(y)
    t, c = _threshold(values, name)
    excess = np.maximum(values - t, 0.0) / c
    squeezed = _squeezed(values, t, c)
    deviation = float(squeezed.std())
    if deviation < FLAT:
        return Outcomes(np.zeros_like(y), 0.0, 0.0)
    log_slope = -float(np.minimum(np.log1p(excess), CEILING).sum()) - len(y) * np.log(deviation)
    low, high = _halved_range(y)
    unit = 2.0 * deviation * (high - low)
    return Outcomes((squeezed - squeezed.mean()) / deviation, float(log_slope), unit)


def warped(value: float, y: NDArray[np.float64], name: WarpName) -> float | None:
    """Where `warp` puts another `value`, which need not be in the range of `y`; None if `y` is constant."""
    values = rescale(y)
    t, c = _threshold(values, name)
    squeezed = _squeezed(values, t, c)
    deviation = float(squeezed.std())
    if deviation < FLAT:
        return None
    low, high = _halved_range(y)
    place = np.array([(value / 2 - low) / (high - low)])
    return float((_squeezed(place, t, c)[0] - squeezed.mean()) / deviation)


def _squeezed(values: NDArray[np.float64], t: float, c: float) -> NDArray[np.float64]:
    excess = np.maximum(values - t, 0.0) / c
    return np.where(values > t, t + c * np.minimum(np.log1p(excess), CEILING), values)


def _threshold(values: NDArray[np.float64], name: WarpName) -> tuple[float, float]:
    """`t` and `c` for rescaled values."""
    low, mid, high = np.quantile(values, [0.25, 0.5, 0.75])
    spread = float(high - low) or float(values.std()) or 1.0
    if name == "fence":
        t, c = float(high) + 1.5 * spread, spread
    elif name == "half":
        t, c = float(mid), 0.5 * spread
    else:
        t, c = 0.0, 0.1 * (float(mid) or spread)
    return t, max(c, FLAT)  # a scale finer than rounding would overflow, and squeeze all else flat
