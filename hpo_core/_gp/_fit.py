"""Maximum a posteriori hyperparameters of a Gaussian process, with analytic gradients.

| symbol | meaning | shape |
|---|---|---|
| `theta` | log length scales (d) and log noise ratio | (d + 1,) |
| `C` | correlation matrix plus noise ratio on the diagonal | (n, n) |
| `m`, `s` | constant mean and output variance, both at their optimum for given theta | scalars |
| `alpha` | C^-1 (y - m) | (n,) |

The mean is profiled out (generalised least squares), the output variance too, under a prior worth `weight`
pseudo-observations of variance one: s = (q + weight) / (n + weight), q = (y - m)' C^-1 (y - m).
An infinite weight fixes s = 1. By the envelope theorem neither needs a gradient of its own.

Length-scale prior: log-normal, scaled by dimension, location sqrt(2) + log(d) / 2, scale sqrt(3)
(Hvarfner, Hellsten & Nardi 2024, "Vanilla Bayesian optimization performs great in high dimensions").
The maximum is that of the density of the length scales, not of their logarithms: the two differ
by a shift of the location by -3, and the latter's long scales cost a third of the regret (docs/gp.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hpo_core._gp._kernel import KernelName, kernel, scale, squared_distance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hpo_core._gp._embed import Embedding, Points

# Bounds of the log length scales and of the log noise ratio. Below 1e-8 the factorisation of a
# squared-exponential matrix of some hundred close points starts to fail in double precision.
SCALE_BOUNDS = (float(np.log(5e-3)), float(np.log(1e3)))
NOISE_BOUNDS = (float(np.log(1e-8)), float(np.log(2.0)))
MAX_EVALUATIONS = 60


@dataclass(frozen=True)
class Priors:
    """Log-normal priors of the length scales and of the noise ratio, and of the output variance.

    `scale_loc` is the location before the dimension term; `weight` the pseudo-observations.
    """

    scale_loc: float = float(np.sqrt(2.0))
    scale_width: float = float(np.sqrt(3.0))
    noise_loc: float = -7.0
    noise_width: float = 2.5
    weight: float = 20.0


@dataclass(frozen=True)
class Hyperparameters:
    """A fitted kernel: `numeric_weight` (p,), `nominal_weight` (q,) are inverse squared length scales."""

    kernel: KernelName
    theta: NDArray[np.float64]
    numeric_weight: NDArray[np.float64]
    nominal_weight: NDArray[np.float64]
    noise: float
    log_posterior: float


def hyperparameters(
    name: KernelName, embedding: Embedding, theta: NDArray[np.float64], log_posterior: float
) -> Hyperparameters:
    """Unpack `theta` (d + 1,)."""
    weight = np.exp(-2.0 * theta[:-1])
    return Hyperparameters(
        kernel=name,
        theta=theta,
        numeric_weight=weight[embedding.numeric_scale],
        nominal_weight=weight[embedding.nominal_columns],
        noise=float(np.exp(theta[-1])),
        log_posterior=log_posterior,
    )


def default_theta(n_scales: int, priors: Priors) -> NDArray[np.float64]:
    """The start of every fit: above the mode of the length scales' prior, below its median."""
    scale = 0.5 * np.log(max(n_scales, 1)) - 0.3
    return np.concatenate([np.full(n_scales, scale), [priors.noise_loc]])


class Evidence:
    """The negative log posterior of theta for fixed points and outcomes, as a callable.

    Calling it with `theta` (d + 1,) returns the value and its gradient (d + 1,); a matrix that cannot be
    factorised returns (inf, zeros), which a line search treats as a step too far.
    """

    def __init__(
        self,
        name: KernelName,
        embedding: Embedding,
        points: Points,
        outcomes: NDArray[np.float64],
        priors: Priors,
    ) -> None:
        self.name = name
        self.embedding = embedding
        self.priors = priors
        self.y = outcomes
        centred = points.numeric - points.numeric.mean(axis=0)  # less cancellation in r2
        self.points = type(points)(centred, points.codes)
        self.squares = centred * centred
        self.unequal = [(column[:, None] != column[None, :]).astype(np.float64) for column in points.codes.T]
        # exp(-(t - a)^2 / 2 w^2 - t) is the same normal density in t around a - w^2.
        mode = priors.scale_loc - priors.scale_width**2
        self.loc = mode + 0.5 * np.log(max(embedding.n_scales, 1))

    def _distance(self, weight: NDArray[np.float64]) -> NDArray[np.float64]:
        scaled = scale(self.points, weight[self.embedding.numeric_scale])
        r2 = squared_distance(scaled, scaled, np.empty(0))
        for column, mask in zip(self.embedding.nominal_columns, self.unequal, strict=True):
            r2 += weight[column] * mask
        return r2

    def __call__(self, theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        from scipy.linalg import lapack

        n, weight = len(self.y), np.exp(-2.0 * theta[:-1])
        noise = np.exp(theta[-1])
        k, dk = kernel(self.name, self._distance(weight))
        k.flat[:: n + 1] = 1.0 + noise
        factor, info = lapack.dpotrf(k.T, lower=1, overwrite_a=1)  # symmetric; .T spares a copy
        if info:
            return np.inf, np.zeros_like(theta)
        logdet = 2.0 * float(np.log(np.diag(factor)).sum())
        inverse, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
        # Only the lower triangle is filled in; adding the transpose doubles the diagonal.
        inverse = np.tril(inverse)
        inverse += np.tril(inverse, -1).T
        ones = inverse.sum(axis=1)
        residual = self.y - (ones @ self.y) / ones.sum()
        alpha = inverse @ residual
        quad = max(float(residual @ alpha), 0.0)
        prior_weight = self.priors.weight
        s = 1.0 if np.isinf(prior_weight) else (quad + prior_weight) / (n + prior_weight)
        value = 0.5 * (n * np.log(s) + quad / s + logdet)
        if np.isfinite(prior_weight):
            value += 0.5 * prior_weight * (np.log(s) + 1.0 / s - 1.0)
        half = 0.5 * (inverse - np.outer(alpha, alpha) / s)  # derivative of the value by C
        gradient = np.empty_like(theta)
        gradient[-1] = noise * np.trace(half)
        gradient[:-1] = self._scale_gradient(half * dk, weight)
        z = (theta[:-1] - self.loc) / self.priors.scale_width
        zn = (theta[-1] - self.priors.noise_loc) / self.priors.noise_width
        gradient[:-1] += z / self.priors.scale_width
        gradient[-1] += zn / self.priors.noise_width
        return float(value + 0.5 * (z @ z + zn * zn)), gradient

    def _scale_gradient(self, pull: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Gradient by the log length scales, given `pull` (n, n) = derivative by r2."""
        z = self.points.numeric
        # sum_ab pull_ab (z_a - z_b)^2 = 2 (rowsum . z^2 - z' pull z), feature by feature
        spread = 2.0 * (pull.sum(axis=1) @ self.squares - (z * (pull @ z)).sum(axis=0))
        total = np.bincount(self.embedding.numeric_scale, weights=spread, minlength=self.embedding.n_scales)
        for column, mask in zip(self.embedding.nominal_columns, self.unequal, strict=True):
            total[column] += np.vdot(pull, mask)
        result: NDArray[np.float64] = -2.0 * weight * total
        return result


def fit(
    name: KernelName,
    embedding: Embedding,
    points: Points,
    outcomes: NDArray[np.float64],
    priors: Priors,
    start: NDArray[np.float64] | None = None,
) -> Hyperparameters:
    """Hyperparameters at a local maximum of the posterior, from `start` (default: `default_theta`).

    `points` (n), `outcomes` (n,) standardised, n >= 1. Bounded L-BFGS, at most 60 evaluations.
    """
    from scipy.optimize import minimize

    begin = default_theta(embedding.n_scales, priors) if start is None else start
    objective = Evidence(name, embedding, points, outcomes, priors)
    bounds = [SCALE_BOUNDS] * embedding.n_scales + [NOISE_BOUNDS]
    found = minimize(
        objective,
        begin,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxfun": MAX_EVALUATIONS, "maxcor": 10, "ftol": 1e-6, "gtol": 1e-3},
    )
    return hyperparameters(name, embedding, np.asarray(found.x), -float(found.fun))
