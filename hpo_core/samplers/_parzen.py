"""Kernel densities over the unit cube: mixtures of products of one kernel per column.

Notation
--------
K, d       kernels, columns
X          (K, d) kernel centres; NaN = the column is inactive in that configuration
H          (K, d) bandwidths: standard deviations of numeric columns; of nominal ones the
           probability with which a kernel forgets its category and draws any
w          (K + 1,) weights of the kernels and, last, of the prior

Every density is relative to the prior, which is uniform on the cube, so the prior's own kernel is
1 everywhere, and so is the kernel of a column that is inactive in the kernel's configuration or in
the point asked about: a missing coordinate says nothing. In this way one mixture serves a
conditional space as a whole: which branch a point is in is told by the kernels of the columns that
decide it, and a branch's own columns are compared among the configurations that have them.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from hpo_core._space import NOMINAL, SearchSpace

__all__ = ["Mixture", "neighbour_bandwidths"]

Array = NDArray[np.float64]

# Up to this many cells a discrete kernel is normalised by summing over them; beyond, the sum and
# the integral agree.
_SUMMED = 64
_LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)


class Mixture:
    """``sum_k w_k prod_j kernel_kj``, to be drawn from and evaluated."""

    def __init__(self, space: SearchSpace, X: Array, H: Array, weights: Array, prior: float) -> None:
        """``X``, ``H`` ``(K, d)``; ``weights`` ``(K,)`` and ``prior`` need not sum to one."""
        self._numeric = np.flatnonzero(space.kinds != NOMINAL)
        self._nominal = np.flatnonzero(space.kinds == NOMINAL)
        self._dims = space.dims
        total = float(weights.sum()) + prior
        self._weights = np.append(weights, prior) / total
        with np.errstate(divide="ignore"):
            self._log_weights = np.log(self._weights)
        self._set_numeric(X[:, self._numeric], H[:, self._numeric], space.cardinality[self._numeric])
        self._set_nominal(X[:, self._nominal], H[:, self._nominal], space.cardinality[self._nominal])

    def _set_numeric(self, X: Array, H: Array, cells: NDArray[np.int64]) -> None:
        from scipy.special import ndtr

        active = ~np.isnan(X)
        mean = np.where(active, X, 0.5)
        self._active, self._mean, self._deviation = active, mean, H
        # Mass of the untruncated normal below 0 and below 1.
        self._below, self._above = ndtr(-mean / H), ndtr((1.0 - mean) / H)
        log_norm = np.log(H) + _LOG_SQRT_2PI + np.log(self._above - self._below)
        for column in np.flatnonzero((cells > 0) & (cells <= _SUMMED)):
            centres = (np.arange(cells[column]) + 0.5) / cells[column]
            z = (centres - mean[:, column, None]) / H[:, column, None]
            log_norm[:, column] = np.log(np.exp(-0.5 * z * z).mean(axis=1))
        # The log of a product of normals is a quadratic form in the point, so that all kernels at
        # all points are one matrix product: -(x - m)^2 p = -p x^2 + 2 p m x - p m^2, p = 1 / (2 h^2)
        p = np.where(active, 0.5 / (H * H), 0.0)
        constant = np.where(active, -p * mean * mean - log_norm, 0.0)
        self._form = np.concatenate([-p, 2.0 * p * mean, constant], axis=1).T

    def _set_nominal(self, X: Array, H: Array, cells: NDArray[np.int64]) -> None:
        self._forget = np.where(np.isnan(X), 1.0, H)
        self._category = X
        # Relative to the prior's 1 / cells: another category has density H, its own this much more.
        self._log_other = np.log(self._forget)
        self._log_gain = np.log(self._forget + (1.0 - self._forget) * cells) - self._log_other

    def log_density(self, U: Array) -> Array:
        """(n,) log density relative to the prior at canonical ``U`` ``(n, d)``."""
        x = U[:, self._numeric]
        here = ~np.isnan(x)
        x = np.where(here, x, 0.0)
        log_kernels = np.zeros((len(U), len(self._weights)))
        log_kernels[:, :-1] = np.concatenate([x * x, x, here], axis=1) @ self._form
        for column, index in enumerate(self._nominal):
            category = U[:, index, None]
            same = np.abs(category - self._category[:, column]) < 1e-9
            log_factor = self._log_other[:, column] + same * self._log_gain[:, column]
            log_kernels[:, :-1] += np.where(np.isnan(category), 0.0, log_factor)
        log_kernels += self._log_weights
        largest = log_kernels.max(axis=1)
        return np.asarray(largest + np.log(np.exp(log_kernels - largest[:, None]).sum(axis=1)))

    def draw(self, rng: np.random.Generator, n: int) -> Array:
        """(n, d) draws; discrete columns still need :meth:`SearchSpace.snap`."""
        from scipy.special import ndtri

        kernel = np.searchsorted(np.cumsum(self._weights)[:-1], rng.random(n), side="right")
        U, forget = rng.random((n, self._dims)), rng.random((n, len(self._nominal)))
        chosen = np.flatnonzero(kernel < len(self._weights) - 1)
        k = kernel[chosen]
        u = U[np.ix_(chosen, self._numeric)]
        below, above = self._below[k], self._above[k]
        z = ndtri(below + u * (above - below))
        moved = np.clip(self._mean[k] + self._deviation[k] * z, 0.0, 1.0)
        U[np.ix_(chosen, self._numeric)] = np.where(self._active[k], moved, u)
        kept = forget[chosen] >= self._forget[k]
        u = U[np.ix_(chosen, self._nominal)]
        U[np.ix_(chosen, self._nominal)] = np.where(kept, self._category[k], u)
        return U


def neighbour_bandwidths(X: Array) -> Array:
    """(K, d) for each coordinate of ``X`` ``(K, d)`` the distance to the farther of its neighbours.

    Bergstra 2011, section 4; the outermost points look inwards only. So kernels are narrow where
    points lie close in a column and wide where they are far apart, column by column.
    """
    K, d = X.shape
    if not K:
        return np.empty((0, d))
    order = np.argsort(X, axis=0, kind="stable")  # NaN last
    ordered = np.take_along_axis(X, order, axis=0)
    present = (~np.isnan(X)).sum(axis=0)
    ends = np.concatenate([np.zeros((1, d)), np.where(np.isnan(ordered), 1.0, ordered), np.ones((1, d))])
    gaps = np.diff(ends, axis=0)
    widest = np.maximum(gaps[:-1], gaps[1:])
    several = np.flatnonzero(present >= 2)
    last = present[several] - 1
    widest[0, several] = gaps[1, several]
    widest[last, several] = gaps[last, several]
    out = np.empty((K, d))
    np.put_along_axis(out, order, widest, axis=0)
    return out
