"""Maximise an acquisition function over a mixed, conditional, constrained space.

| symbol | meaning | shape |
|---|---|---|
| `U` | canonical configurations | (n, d) |
| `H` | inverse Hessian estimates of the starts | (b, d, d) |

A pool of random and of perturbed good configurations is scored at once; the best few are improved by
gradient steps on the smooth columns, for all starts together (projected BFGS), in turn with
steepest ascent over single changes of discrete columns. The best canonical configuration met
anywhere that was not tried before and meets the constraints is the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hpo_core._space import SearchSpace

# Ordered columns with at most this many values move from value to value, others by gradient.
FEW = 24
# Alternatives tried at each unordered column in one step of the local search.
CHOICES = 16
# Candidates that are improved, and the steps that each may take up the gradient.
STARTS, STEPS = 5, 25
Box = tuple["NDArray[np.float64]", "NDArray[np.float64]"]
SIGMAS = np.array([0.3, 0.1, 0.03, 0.01])


class Scored(Protocol):
    """A function to maximise over the unit cube."""

    def values(self, unit: NDArray[np.float64], /) -> NDArray[np.float64]:
        """(n,) values of `unit` (n, d)."""

    def slopes(self, unit: NDArray[np.float64], /) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(n,) values of `unit` (n, d) and their gradient (n, d) by the smooth columns."""


@dataclass(frozen=True)
class Layout:
    """How columns move: `smooth` (d,) bool by gradient; `grids` {column: canonical values}, the rest.

    `exact` says that every smooth column takes any value (so gradient steps stay canonical).
    """

    smooth: NDArray[np.bool_]
    grids: dict[int, NDArray[np.float64]]
    nominal: frozenset[int]
    exact: bool


def layout(space: SearchSpace) -> Layout:
    """The layout of a space."""
    from hpo_core._parameters import NOMINAL

    smooth = np.zeros(space.dims, dtype=bool)
    grids: dict[int, NDArray[np.float64]] = {}
    nominal, exact = set(), not space.conditional.any()
    for j, name in enumerate(space.column_names):
        parameter = space.parameters[name]
        if space.kinds[j] == NOMINAL:
            nominal.add(j)
            grids[j] = parameter.units()
        elif parameter.count is not None and parameter.count <= FEW:
            grids[j] = parameter.units()
        else:
            smooth[j] = True
            exact = exact and parameter.count is None and not parameter.grainy
    return Layout(smooth, grids, frozenset(nominal), exact)


@dataclass
class Best:
    """The best canonical configuration seen so far in one search that may be proposed."""

    space: SearchSpace
    is_new: Callable[[NDArray[np.float64]], bool]
    u: NDArray[np.float64] | None = None
    value: float = -np.inf
    refused: set[bytes] = field(default_factory=set)

    def offer(self, points: NDArray[np.float64], values: NDArray[np.float64]) -> None:
        """Consider canonical `points` (n, d) with their `values` (n,)."""
        better = np.flatnonzero(values > self.value)
        for row in better[np.argsort(-values[better], kind="stable")]:
            key = self.space.key(points[row])
            if key in self.refused:
                continue
            one = points[row : row + 1]
            if self.is_new(one[0]) and (not self.space.constraints or self.space.allowed(one)[0]):
                self.u, self.value = one[0].copy(), float(values[row])
                return
            self.refused.add(key)


def pool(
    space: SearchSpace,
    shape: Layout,
    anchors: NDArray[np.float64],
    rng: np.random.Generator,
    counts: tuple[int, int],
    box: Box | None = None,
) -> NDArray[np.float64]:
    """(n, d) canonical candidates: `counts` = random ones, and perturbations of `anchors` (a, d).

    Smooth columns stay inside `box`.
    """
    d = space.dims
    low, high = box or (np.zeros(d), np.ones(d))
    # Under constraints the random part comes from the space's own sampler, so that some are allowed.
    wide = space.sample(rng, counts[0]) if space.constraints else rng.random((counts[0], d))
    wide = np.where(shape.smooth & ~np.isnan(wide), low + (high - low) * wide, wide)
    if not len(anchors):
        return space.snap(wide)
    base = anchors[rng.integers(len(anchors), size=counts[1])]
    fresh = rng.random(base.shape)
    base = np.where(np.isnan(base), fresh, base)
    moved = rng.random(base.shape) < max(min(1.0, 6.0 / d), 0.02)
    moved[np.arange(len(base)), rng.integers(d, size=len(base))] = True
    sigma = SIGMAS[rng.integers(len(SIGMAS), size=len(base))][:, None]
    near = base + sigma * rng.standard_normal(base.shape)
    near = low + np.abs(near - low)
    near = np.clip(high - np.abs(high - near), low, high)  # reflected at both faces
    # Discrete columns move less often, and then to any value or, where ordered, to a neighbour.
    rare = rng.random(base.shape) < 0.4
    for j, grid in shape.grids.items():
        step = rng.integers(0, 2, size=len(base)) * 2 - 1
        place = np.searchsorted(grid, np.clip(base[:, j], grid[0], grid[-1])) + step
        neighbour = grid[np.clip(place, 0, len(grid) - 1)]
        jump = (rng.random(len(base)) < 0.5) | (j in shape.nominal)
        near[:, j] = np.where(jump, fresh[:, j], neighbour)
        moved[:, j] &= rare[:, j]
    return space.snap(np.concatenate([wide, np.where(moved, near, base)]))


def ascend(
    score: Scored, start: NDArray[np.float64], free: NDArray[np.bool_], box: Box, steps: int
) -> NDArray[np.float64]:
    """Projected BFGS from `start` (b, d) over the `free` (b, d) columns within `box`, in lock step.

    Every start has its own inverse Hessian and step length; a failed step is shortened, not searched.
    """
    low, high = box
    x = start.copy()
    f, g = score.slopes(x)
    g = np.where(free, g, 0.0)
    b, d = x.shape
    eye = np.eye(d)
    # First step: a twentieth of the cube along the steepest coordinate.
    first = 0.05 / np.maximum(np.abs(g).max(axis=1), 1e-12)
    h = first[:, None, None] * eye
    length = np.ones(b)
    for _ in range(steps):
        blocked = ((x <= low) & (g < 0.0)) | ((x >= high) & (g > 0.0)) | ~free
        slope = np.where(blocked, 0.0, g)
        p = np.where(blocked, 0.0, (h @ slope[:, :, None])[:, :, 0])
        bad = (p * slope).sum(axis=1) <= 0.0
        p[bad] = first[bad, None] * slope[bad]
        p *= np.minimum(1.0, 0.25 / np.maximum(np.abs(p).max(axis=1), 1e-12))[:, None]
        new = np.where(free, np.clip(x + length[:, None] * p, low, high), x)
        s = np.where(free, new - x, 0.0)
        if not (np.abs(s).max(axis=1) > 1e-7).any():
            break
        fn, gn = score.slopes(new)
        gn = np.where(free, gn, 0.0)
        good = fn > f + 1e-4 * (slope * s).sum(axis=1)
        y = g - gn
        sy = (s * y).sum(axis=1)
        update = good & (sy > 1e-12)
        if update.any():
            rho = np.where(update, 1.0 / np.where(update, sy, 1.0), 0.0)
            left = eye - rho[:, None, None] * s[:, :, None] * y[:, None, :]
            h = left @ h @ left.transpose(0, 2, 1) + rho[:, None, None] * s[:, :, None] * s[:, None, :]
        x = np.where(good[:, None], new, x)
        g = np.where(good[:, None], gn, g)
        gain = np.where(good, fn - f, 0.0)
        f = np.where(good, fn, f)
        length = np.where(good, 1.0, 0.3 * length)
        # A thousandth of a log unit of improvement is beyond what the model knows.
        done = np.where(good, gain < 1e-3, length < 1e-2)
        if done.all():
            break
    return x


def neighbours(shape: Layout, u: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """(m, d) single changes of the active discrete columns of `u` (d,), not yet snapped."""
    columns: list[int] = []
    values: list[NDArray[np.float64]] = []
    for j, grid in shape.grids.items():
        if np.isnan(u[j]):
            continue
        here = int(np.abs(grid - u[j]).argmin())
        if j in shape.nominal:
            others = np.flatnonzero(np.arange(len(grid)) != here)
            if len(others) > CHOICES:
                others = rng.choice(others, CHOICES, replace=False)
        else:
            others = np.array([i for i in (here - 1, here + 1) if 0 <= i < len(grid)], dtype=int)
        columns += [j] * len(others)
        values.append(grid[others])
    rows = np.repeat(u[None, :], len(columns), axis=0)
    if columns:
        rows[np.arange(len(columns)), columns] = np.concatenate(values)
    return rows


def hop(
    space: SearchSpace,
    shape: Layout,
    score: Scored,
    points: NDArray[np.float64],
    best: Best,
    rng: np.random.Generator,
    steps: int,
) -> NDArray[np.float64]:
    """Steepest ascent over single discrete changes from each of `points` (b, d), in lock step."""
    points = points.copy()
    values = score.values(points)
    going = list(range(len(points)))
    for _ in range(steps):
        blocks = [neighbours(shape, points[i], rng) for i in going]
        sizes = [len(block) for block in blocks]
        if not sum(sizes):
            break
        candidates = space.snap(np.concatenate(blocks))
        scores = score.values(candidates)
        best.offer(candidates, scores)
        still, offset = [], 0
        for i, size in zip(going, sizes, strict=True):
            part = scores[offset : offset + size]
            if size and part.max() > values[i] + 1e-9:
                top = int(np.argmax(part))
                points[i], values[i] = candidates[offset + top], part[top]
                still.append(i)
            offset += size
        going = still
        if not going:
            break
    return points


def maximise(
    space: SearchSpace,
    shape: Layout,
    score: Scored,
    candidates: NDArray[np.float64],
    is_new: Callable[[NDArray[np.float64]], bool],
    rng: np.random.Generator,
    *,
    box: Box | None = None,
) -> NDArray[np.float64] | None:
    """The best new, allowed configuration found; None if none was.

    `candidates` (n, d) canonical; the best few of them are improved, smooth columns inside `box`.
    """
    best = Best(space, is_new)
    box = box or (np.zeros(space.dims), np.ones(space.dims))
    if space.constraints:
        candidates = candidates[space.allowed(candidates)]
    if not len(candidates):
        return None
    values = score.values(candidates)
    order = np.argsort(-values, kind="stable")
    best.offer(candidates[order], values[order])
    points = _spread(candidates[order], STARTS)
    rounds = 2 if shape.smooth.any() and shape.grids else 1
    for _ in range(rounds):
        if shape.smooth.any():
            free = shape.smooth[None, :] & ~np.isnan(points)
            end = ascend(score, points, free, box, STEPS // rounds)
            if space.constraints:
                path = [points + share * (end - points) for share in (0.25, 0.5, 0.75, 0.9)]
                between = space.snap(np.concatenate(path))
                best.offer(between, score.values(between))
            points = end if shape.exact else space.snap(end)
            best.offer(points, score.values(points))
        if shape.grids:
            points = hop(space, shape, score, points, best, rng, 12)
    return best.u


def _spread(points: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """The first `count` rows that are not all but equal to an earlier one."""
    kept: list[NDArray[np.float64]] = []
    for u in points[: 6 * count]:
        # NaN (inactive in one of the two) compares as false: not closer than that.
        if not any((np.abs(u - v) < 0.02).all() for v in kept):
            kept.append(u)
            if len(kept) == count:
                break
    return np.array(kept)
