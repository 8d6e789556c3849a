"""Acquisition functions of posterior mean and standard deviation, with their derivatives.

| symbol | meaning | shape |
|---|---|---|
| `mean` | posterior means, one column for each sampled future | (n, S) |
| `sd` | posterior standard deviations (the same for all futures) | (n,) |
| `best` | incumbent of each future, minimised | (S,) |
| `z` | (best - mean) / sd | (n, S) |

Everything here is maximised. Each function returns value (n,), derivative by mean (n, S), by sd (n,).
The improvement is averaged over futures, as in noisy expected improvement (Letham et al. 2019,
"Constrained Bayesian optimization with noisy experiments"), and kept in logarithms (Ament et al.
2023, "Unexpected improvements to expected improvement").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOG_SQRT_2PI = float(0.5 * np.log(2.0 * np.pi))
SQRT_HALF_PI = float(np.sqrt(0.5 * np.pi))
SQRT_HALF = float(np.sqrt(0.5))
# Below this, 1 - |z| sqrt(pi/2) erfcx(|z|/sqrt 2) loses more digits than its series does.
FAR = -100.0


def log_h(z: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """log(phi(z) + z Phi(z)) and its derivative Phi / (phi + z Phi), for any finite z.

    Ament et al. 2023, eq. 9, with the ratio phi + z Phi = phi (1 - |z| m), m the Mills ratio, below -1
    and 1 - |z| m = 1/z^2 - 3/z^4 + 15/z^6 far out.
    """
    from scipy.special import erfcx, ndtr

    value, slope = np.empty_like(z), np.empty_like(z)
    near = z > -1.0
    zn = z[near]
    phi = np.exp(-0.5 * zn * zn - LOG_SQRT_2PI)
    cumulative = ndtr(zn)
    h = phi + zn * cumulative
    value[near] = np.log(h)
    slope[near] = cumulative / h
    zf = z[~near]
    mills = SQRT_HALF_PI * erfcx(-zf * SQRT_HALF)
    u = 1.0 / (zf * zf)
    series = u * (1.0 - u * (3.0 - u * (15.0 - 105.0 * u)))
    ratio = np.where(zf > FAR, 1.0 + zf * mills, series)
    value[~near] = -0.5 * zf * zf - LOG_SQRT_2PI + np.log(ratio)
    slope[~near] = mills / ratio
    return value, slope


Triple = tuple["NDArray[np.float64]", "NDArray[np.float64]", "NDArray[np.float64]"]


def log_ei(mean: NDArray[np.float64], sd: NDArray[np.float64], best: NDArray[np.float64]) -> Triple:
    """Logarithm of the expected improvement, averaged over futures."""
    z = (best - mean) / sd[:, None]
    value, slope = log_h(z)
    if mean.shape[1] == 1:
        by_mean = -slope / sd[:, None]
        return value[:, 0] + np.log(sd), by_mean, (1.0 - (z * slope)[:, 0]) / sd
    top = value.max(axis=1)
    share = np.exp(value - top[:, None])
    total = share.sum(axis=1)
    share /= total[:, None]
    by_mean = -share * slope / sd[:, None]
    by_sd = (1.0 - np.einsum("ij,ij->i", share, z * slope)) / sd
    return top + np.log(total / mean.shape[1]) + np.log(sd), by_mean, by_sd


def ei(mean: NDArray[np.float64], sd: NDArray[np.float64], best: NDArray[np.float64]) -> Triple:
    """Expected improvement itself."""
    value, by_mean, by_sd = log_ei(mean, sd, best)
    plain = np.exp(value)
    return plain, by_mean * plain[:, None], by_sd * plain


def log_pi(mean: NDArray[np.float64], sd: NDArray[np.float64], best: NDArray[np.float64]) -> Triple:
    """Logarithm of the probability of improvement, averaged over futures."""
    from scipy.special import log_ndtr

    z = (best - mean) / sd[:, None]
    value = log_ndtr(z)
    slope = np.exp(-0.5 * z * z - LOG_SQRT_2PI - value)
    top = value.max(axis=1)
    share = np.exp(value - top[:, None])
    total = share.sum(axis=1)
    share /= total[:, None]
    by_mean = -share * slope / sd[:, None]
    by_sd = -np.einsum("ij,ij->i", share, slope * z) / sd
    return top + np.log(total / mean.shape[1]), by_mean, by_sd


def lower_bound(mean: NDArray[np.float64], sd: NDArray[np.float64], beta: float) -> Triple:
    """Upper confidence bound of the minimised outcome, negated: beta sd - mean, futures averaged."""
    futures = mean.shape[1]
    by_mean = np.full_like(mean, -1.0 / futures)
    return beta * sd - mean.mean(axis=1), by_mean, np.full_like(sd, beta)
