"""Several objectives: expected improvement of a random Chebyshev scalarisation of independent models.

| symbol | meaning | shape |
|---|---|---|
| `F` | sampled warped outcomes, minimised | (n, S, m) |
| `w` | weights over objectives, scaled by the range of the front | (m,) |
| `g` | max_j w_j (F_j - ideal_j) + rho sum_j w_j (F_j - ideal_j) | (n, S) |

ParEGO (Knowles 2006, eq. 2) draws new weights for every trial, so that the proposals spread along the
front, and models the scalarised value; here each objective keeps its own model (nothing is refitted when the
weights change) and the expectation is taken over common draws, smoothed and in logarithms so that it
has a gradient everywhere (Ament et al. 2023, section 4). It costs the same for any number of objectives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hpo_core._gp._score import Term

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hpo_core._gp._posterior import Posterior

RHO = 0.05
# Width of the smoothed corner of max(0, improvement), in units of the scalarised front.
SMOOTH = 0.01


def draw_weights(
    front: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights (m,), uniform on the simplex and then divided by the range of `front` (a, m); ideal (m,)."""
    ideal = front.min(axis=0)
    spread = front.max(axis=0) - ideal
    # An objective in which the front has no extent still counts, on the models' own scale of 1.
    spread = np.where(spread > 1e-9, spread, 1.0)
    return rng.dirichlet(np.ones(front.shape[1])) / spread, ideal


def scalarise(
    outcomes: NDArray[np.float64], weights: NDArray[np.float64], ideal: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The augmented Chebyshev value (...,) of `outcomes` (..., m)."""
    scaled = weights * (outcomes - ideal)
    return np.asarray(scaled.max(axis=-1) + RHO * scaled.sum(axis=-1))


def chebyshev(
    posteriors: tuple[Posterior, ...],
    weights: NDArray[np.float64],
    ideal: NDArray[np.float64],
    best: NDArray[np.float64],
    draws: NDArray[np.float64],
) -> Term:
    """The term: log of the expected smoothed improvement of the scalarised value over `best` (S,).

    `draws` (S, m) standard normal, common to all queries. A posterior's means have S columns or one.
    """

    def function(
        means: list[NDArray[np.float64]], sds: list[NDArray[np.float64]]
    ) -> tuple[NDArray[np.float64], list[NDArray[np.float64]], list[NDArray[np.float64]]]:
        pairs = zip(means, sds, draws.T, strict=True)
        sampled = np.stack([mean + sd[:, None] * z for mean, sd, z in pairs], axis=-1)
        scaled = weights * (sampled - ideal)
        worst = scaled.argmax(axis=-1)
        g = np.take_along_axis(scaled, worst[..., None], -1)[..., 0] + RHO * scaled.sum(axis=-1)
        u = (best - g) / SMOOTH
        log_soft = _log_softplus(u)
        top = log_soft.max(axis=1)
        share = np.exp(log_soft - top[:, None])
        total = share.sum(axis=1)
        value = top + np.log(total * (SMOOTH / len(draws)))
        # d log softplus(u) / du = sigmoid(u) / softplus(u), shares of the mean over draws
        slope = share / total[:, None] * np.exp(_log_sigmoid(u) - log_soft) / -SMOOTH
        by_means, by_sds = [], []
        for j, mean in enumerate(means):
            by_sample = slope * weights[j] * ((worst == j) + RHO)
            by_sds.append(by_sample @ draws[:, j])
            wide = mean.shape[1] > 1
            by_means.append(by_sample if wide else by_sample.sum(axis=1, keepdims=True))
        return value, by_means, by_sds

    return Term(posteriors, function)


def _log_sigmoid(u: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(u > 0.0, -np.log1p(np.exp(-np.abs(u))), u - np.log1p(np.exp(-np.abs(u))))


def _log_softplus(u: NDArray[np.float64]) -> NDArray[np.float64]:
    """log(log(1 + exp(u))), whose left tail is u - exp(u) / 2 and right tail log u."""
    small = np.minimum(u, 30.0)
    middle = np.log(np.maximum(np.log1p(np.exp(small)), 1e-300))
    return np.where(u < -30.0, u, np.where(u > 30.0, np.log(np.maximum(u, 1.0)), middle))
