"""Posterior of a Gaussian process that grows by rows, with gradients at query points.

| symbol | meaning | shape |
|---|---|---|
| `W` | inverse of the lower Cholesky factor of correlation + noise | (k, k) |
| `V` | W k(X, x), so that 1 - V.V is the posterior variance over s | (n, k) |
| `alpha` | W' W (y - m), a column for each sampled future | (k, S) |
| `m`, `s` | profiled mean and output variance, see `_fit` | scalars |

`W` is kept instead of the factor itself: a query batch is then two matrix products and no triangular
solve, and a new observation is one new row, [-(V W) / l, 1 / l] with l^2 = 1 + noise - V.V, in O(k^2).
Appending is done observation by observation, always by the same calls on the same shapes, so
that a posterior grown during a study and one rebuilt from the journal agree bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from hpo_core._gp._kernel import Scaled, kernel, scale, squared_distance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hpo_core._gp._embed import Points
    from hpo_core._gp._fit import Hyperparameters

# Added to the diagonal of sampled (noise-free) rows, and the least pivot of an appended row.
JITTER = 1e-7


@dataclass(frozen=True)
class Factor:
    """The part of a posterior that does not depend on outcomes: `points` (k) and `W` (k, k)."""

    hyper: Hyperparameters
    points: Points
    inverse: NDArray[np.float64]

    @cached_property
    def scaled(self) -> Scaled:
        """The factor's own points over their length scales."""
        return scale(self.points, self.hyper.numeric_weight)

    def correlation(
        self, left: Points, right: Points | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Kernel values and derivatives by squared distance, (n, m) each.

        Between `left` (n) and `right` (m), which are by default the factor's own points.
        """
        a = scale(left, self.hyper.numeric_weight)
        b = self.scaled if right is None else scale(right, self.hyper.numeric_weight)
        return kernel(self.hyper.kernel, squared_distance(a, b, self.hyper.nominal_weight))

    def extend(self, new: Points, noise: float) -> Factor:
        """This factor with the rows `new` (b) appended, observed with `noise` (ratio to s)."""
        from scipy.linalg import solve_triangular

        cross, _ = self.correlation(new)
        v = cross @ self.inverse.T
        rest = self.correlation(new, new)[0] - v @ v.T
        lower = cholesky(rest, noise)
        b, k = len(new), len(self.points)
        grown = np.zeros((k + b, k + b))
        grown[:k, :k] = self.inverse
        corner = solve_triangular(lower, np.eye(b), lower=True, check_finite=False)
        grown[k:, k:] = corner
        grown[k:, :k] = -corner @ (v @ self.inverse)
        return Factor(self.hyper, self.points.join(new), grown)


def cholesky(matrix: NDArray[np.float64], noise: float) -> NDArray[np.float64]:
    """Lower factor (n, n) of `matrix` + noise I, with as much jitter more as it takes."""
    from scipy.linalg import lapack

    n, extra = len(matrix), max(noise, JITTER * 1e-1)
    while True:
        trial = matrix.copy()
        trial.flat[:: n + 1] += extra
        lower, info = lapack.dpotrf(trial, lower=1, clean=1)
        if info == 0:
            return np.asarray(lower)
        extra *= 10.0  # a correlation matrix is positive definite at the latest at n


def factorise(hyper: Hyperparameters, points: Points) -> Factor:
    """The factor of `points` (k), k >= 1, from scratch."""
    from scipy.linalg import solve_triangular

    scaled = scale(points, hyper.numeric_weight)
    k, _ = kernel(hyper.kernel, squared_distance(scaled, scaled, hyper.nominal_weight))
    k.flat[:: len(points) + 1] = 1.0
    lower = cholesky(k, hyper.noise)
    inverse = solve_triangular(lower, np.eye(len(points)), lower=True, check_finite=False)
    return Factor(hyper, points, np.asarray(inverse))


@dataclass(frozen=True)
class Posterior:
    """A factor with outcomes: `alpha` (k, S), constant `mean`, output `scale` (variance)."""

    factor: Factor
    alpha: NDArray[np.float64]
    mean: float
    scale: float

    def predict(self, query: Points) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Posterior means (n, S) and standard deviations (n,) of the noise-free outcome."""
        k, _ = self.factor.correlation(query)
        v = k @ self.factor.inverse.T
        rest = np.maximum(1.0 - (v * v).sum(axis=1), 1e-12)
        return self.mean + k @ self.alpha, np.sqrt(self.scale * rest)

    def sample(self, query: Points, rng: np.random.Generator, count: int) -> NDArray[np.float64]:
        """(n, count) joint draws of the noise-free outcome; of the first column of `alpha`."""
        k, _ = self.factor.correlation(query)
        v = k @ self.factor.inverse.T
        rest = self.factor.correlation(query, query)[0] - v @ v.T
        lower = cholesky(rest, 0.0)
        white = rng.standard_normal((len(query), count))
        centre = self.mean + k @ self.alpha[:, :1]
        return np.asarray(centre + np.sqrt(self.scale) * (lower @ white))

    def predict_with_pull(self, query: Points) -> Prediction:
        """`predict`, keeping what the gradient needs."""
        k, dk = self.factor.correlation(query)
        v = k @ self.factor.inverse.T
        rest = np.maximum(1.0 - (v * v).sum(axis=1), 1e-12)
        sd = np.sqrt(self.scale * rest)
        return Prediction(self, query, self.mean + k @ self.alpha, sd, dk, v)


@dataclass(frozen=True)
class Prediction:
    """Means (n, S), standard deviations (n,) and what links them to the query points."""

    posterior: Posterior
    query: Points
    mean: NDArray[np.float64]
    sd: NDArray[np.float64]
    dk: NDArray[np.float64]
    v: NDArray[np.float64]

    def gradient(self, by_mean: NDArray[np.float64], by_sd: NDArray[np.float64]) -> NDArray[np.float64]:
        """Gradient (n, p) by the numeric features of a function of the predictions.

        `by_mean` (n, S) and `by_sd` (n,) are that function's derivatives.
        """
        post = self.posterior
        factor = post.factor
        # sd^2 = s (1 - v.v): d sd / d k = -s (v W) / sd
        by_k = by_mean @ post.alpha.T
        by_k -= (by_sd * post.scale / self.sd)[:, None] * (self.v @ factor.inverse)
        pull = by_k * self.dk
        z, x = self.query.numeric, factor.points.numeric
        weight = 2.0 * factor.hyper.numeric_weight
        result: NDArray[np.float64] = weight * (pull.sum(axis=1)[:, None] * z - pull @ x)
        return result


def condition(factor: Factor, outcomes: NDArray[np.float64], prior_weight: float) -> Posterior:
    """The posterior for `outcomes` (k,); mean and scale are profiled as in the fit."""
    ones = factor.inverse.sum(axis=1)
    white = factor.inverse @ outcomes
    mean = float(ones @ white / (ones @ ones))
    white = white - mean * ones
    n, quad = len(outcomes), float(white @ white)
    scale = 1.0 if np.isinf(prior_weight) else (quad + prior_weight) / (n + prior_weight)
    return Posterior(factor, (factor.inverse.T @ white)[:, None], mean, scale)


def imagine(
    posterior: Posterior, points: Points, rng: np.random.Generator | None, samples: int
) -> tuple[Posterior, NDArray[np.float64]]:
    """Joint futures: sample noise-free outcomes at `points` (b) and condition on each of them.

    Returns the posterior with S = `samples` columns of alpha, and the sampled outcomes (b, S).
    Antithetic pairs, so that the mean over the samples is the posterior mean; without `rng`
    every future is the mean itself ("kriging believer").
    """
    factor = posterior.factor
    grown = factor.extend(points, JITTER)
    k, b = len(factor.points), len(points)
    # The corner of W is the inverse of the factor of the conditional correlation at `points`.
    from scipy.linalg import solve_triangular

    shape = (b, (samples + 1) // 2)
    half = np.zeros(shape) if rng is None else rng.standard_normal(shape)
    z = np.concatenate([half, -half], axis=1)[:, :samples]
    white = np.sqrt(posterior.scale) * z
    corner = grown.inverse[k:, k:]
    mean, _ = posterior.predict(points)
    sampled = mean + solve_triangular(corner, white, lower=True, check_finite=False)
    # White residuals of the old rows are those of the old posterior; of the new rows, the draws.
    old = solve_triangular(factor.inverse, posterior.alpha, lower=True, trans=1, check_finite=False)
    residual = np.concatenate([np.repeat(old, samples, axis=1), white])
    return replace(posterior, factor=grown, alpha=grown.inverse.T @ residual), sampled
