"""Where to explore next, by a model of how much a configuration improves a member in one interval.

Parker-Holder, Nguyen & Roberts (2020), "Provably Efficient Online Hyperparameter Optimization with
Population-Based Bandits" (PB2): a time-varying Gaussian process over (time, score, hyperparameters),
and an upper confidence bound over it; what other members are trying counts as observed without news
(section 4.2).

Notation
--------
n        intervals that members have trained, the newest :data:`MOST` of them
x        (q + 2,) time in intervals, score before (rank in [0, 1]), q numeric hyperparameters in the unit cube
y        (n,) improvement over the interval, standardised
omega    forgetting: correlation (1 - omega)^(|t - t'| / 2) between intervals t and t'
K        (n, n) correlation of the observed intervals plus noise on the diagonal
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Intervals", "best_by_bound"]

Array = NDArray[np.float64]

# The model sees this many intervals; older ones describe networks that no longer exist.
MOST = 160
# The kernel takes the likeliest of this grid: some tens of noisy differences say no more than that, and a
# grid has no start to depend on.
_SCALES = (0.15, 0.3, 0.6, 1.2)
_NOISES = (0.05, 0.3, 1.0)
_OMEGAS = (0.0, 0.05, 0.2)
# sqrt(beta) of the upper confidence bound.
_BETA = 1.5


@dataclass(frozen=True)
class Intervals:
    """What has been seen: ``time`` (n,), ``score`` (n,) in [0, 1], ``u`` (n, q), ``gain`` (n,)."""

    time: Array
    score: Array
    u: Array
    gain: Array


def _points(time: Array, score: Array, u: Array) -> tuple[Array, Array]:
    return time, np.column_stack([score, u])


def _kernel(a: tuple[Array, Array], b: tuple[Array, Array], scale: float, omega: float) -> Array:
    """(n, m) squared-exponential in score and hyperparameters, times the decay in time."""
    square = ((a[1][:, None, :] - b[1][None, :, :]) ** 2).sum(axis=2)
    apart = np.abs(a[0][:, None] - b[0][None, :])
    return np.asarray(np.exp(-0.5 * square / scale**2) * (1.0 - omega) ** (apart / 2.0))


def _likeliest(points: tuple[Array, Array], y: Array) -> tuple[float, float, float]:
    """Scale, noise and omega of the largest marginal likelihood on the grid."""
    best, chosen = -np.inf, (_SCALES[1], _NOISES[1], _OMEGAS[1])
    for scale, omega in itertools.product(_SCALES, _OMEGAS):
        base = _kernel(points, points, scale, omega)
        for noise in _NOISES:
            lower = np.linalg.cholesky(base + (noise + 1e-8) * np.eye(len(y)))
            white = np.linalg.solve(lower, y)
            variance = max(float(white @ white) / len(y), 1e-12)  # at its optimum
            value = -0.5 * len(y) * np.log(variance) - float(np.log(np.diag(lower)).sum())
            if value > best + 1e-9:
                best, chosen = value, (scale, noise, omega)
    return chosen


def best_by_bound(
    seen: Intervals, pending: Array, candidates: Array, time: float, score: float
) -> tuple[int, float]:
    """Index of the candidate with the largest upper confidence bound of its improvement, and its mean.

    ``pending`` (p, q): what other members are training with at this time; ``candidates`` (c, q).
    """
    spread = float(seen.gain.std()) or 1.0
    y = (seen.gain - seen.gain.mean()) / spread
    points = _points(seen.time, seen.score, seen.u)
    scale, noise, omega = _likeliest(points, y)
    here = _points(np.full(len(candidates), time), np.full(len(candidates), score), candidates)
    lower = np.linalg.cholesky(_kernel(points, points, scale, omega) + (noise + 1e-8) * np.eye(len(y)))
    cross = np.linalg.solve(lower, _kernel(points, here, scale, omega))
    mean = cross.T @ np.linalg.solve(lower, y)
    # The variance alone shrinks around what others are trying (PB2, section 4.2; Desautels et al. 2014).
    others = _points(np.full(len(pending), time), np.full(len(pending), score), pending)
    everything = (np.concatenate([points[0], others[0]]), np.concatenate([points[1], others[1]]))
    grown = np.linalg.cholesky(
        _kernel(everything, everything, scale, omega) + (noise + 1e-8) * np.eye(len(everything[0]))
    )
    cross = np.linalg.solve(grown, _kernel(everything, here, scale, omega))
    deviation = np.sqrt(np.maximum(1.0 - (cross**2).sum(axis=0), 0.0))
    chosen = int(np.argmax(mean + _BETA * deviation))
    return chosen, float(mean[chosen] * spread + seen.gain.mean())
