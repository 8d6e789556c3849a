"""Grid search: every combination of the parameters' values once, in the declared order.

Notation
--------
axis    the unit-cube values that one column takes on the grid, ascending
digit   index into an axis
rank    mixed-radix number made of a point's digits, first declared column slowest; inactive
        columns have digit 0, so each canonical grid point has one rank
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hpo_core._errors import SpaceError, StrategyError, nearest
from hpo_core._given import check_option
from hpo_core._history import History
from hpo_core._space import Normal, Parameter, SearchSpace
from hpo_core._strategy import Proposal

__all__ = ["Grid", "grid_axes"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

# Ranks are int64. A larger grid could never be covered, and the part of it that a study would see
# leaves all but the last columns at their first value.
_MOST_POINTS = 2**62
# An axis is an array.
_MOST_VALUES = 10**6
_CHUNK = 256
# Grid points that constraints may reject in a row (each costs a call of the predicate).
_REJECTIONS = 1_000_000


@dataclass
class _Listing:
    """Ranks of the allowed grid points found so far, ascending; a pure function of the space."""

    key: tuple[Any, ...] = ()
    ranks: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    rest: Iterator[int] = field(default_factory=lambda: iter(()))
    rejected: int = 0

    def __reduce__(self) -> tuple[type[_Listing], tuple[()]]:
        # A copied or pickled grid lists anew: nobody can copy what a generator has left.
        return _Listing, ()


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Each grid point once, in lexicographic order of the declared parameters; then ``None``.

    Discrete parameters contribute all of their values. ``resolution`` says how many points a
    continuous one gets, evenly spaced on its own scale (log where it is log) with both ends
    included: one number for all, or by name (a name may also thin out a long discrete range).
    An untruncated normal takes the quantiles ``(i + 0.5) / resolution``, as it has no ends.

    Trials that were enqueued or observed before and lie on the grid are not repeated.
    """

    finite: ClassVar[bool] = True

    resolution: int | Mapping[str, int] = 5
    _listing: _Listing = field(default_factory=_Listing, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        values = (
            self.resolution.items()
            if isinstance(self.resolution, Mapping)
            else [("every parameter", self.resolution)]
        )
        for name, value in values:
            check_option("grid", f"resolution of {name}", value, 1)

    def check(self, space: SearchSpace, n_objectives: int) -> None:
        """Raise for a ``resolution`` that names no parameter or misses one, and for a vast grid."""
        if isinstance(self.resolution, Mapping):
            for name in self.resolution:
                if name not in space.column_names:
                    raise StrategyError(
                        f"grid: resolution names {name!r}, which is no parameter to search"
                        f"{nearest(name, space.column_names)} "
                        f"(there are {list(space.column_names)})"
                    )
        total = math.prod(len(axis) for axis in grid_axes(space, self.resolution))
        if total > _MOST_POINTS:
            widest = max(space.column_names, key=lambda n: space.parameters[n].count or 0)
            raise StrategyError(
                f"grid: {total:.1e} combinations cannot be covered; thin out {widest!r} or "
                "others by resolution={name: points}, or use 'sobol', 'random' or 'tpe'"
            )

    def sample(self, history: History, rng: np.random.Generator) -> Proposal | None:
        """The first grid point that is no trial yet; ``None`` when there is none left.

        Raises :class:`SpaceError` when the constraints reject a million grid points in a row.
        """
        space = history.space
        axes = grid_axes(space, self.resolution)
        sizes = [len(axis) for axis in axes]
        evidence = history.evidence
        tried = np.concatenate([history.X, evidence.X[evidence.trials < 0]])
        taken = _ranks(tried, axes, sizes)
        listing = self._listed(space, axes, sizes)
        checked = 0
        while True:
            fresh = ~np.isin(listing.ranks[checked:], taken)
            if fresh.any():
                at = checked + int(np.argmax(fresh))
                u = space.snap(_points(listing.ranks[at : at + 1], axes, sizes))[0]
                return Proposal(u=u, note=f"grid point {at + 1} of at most {math.prod(sizes)}")
            checked = len(listing.ranks)
            if not _extend(listing, space, axes, sizes):
                return None

    def _listed(self, space: SearchSpace, axes: list[Array], sizes: list[int]) -> _Listing:
        listing, key = self._listing, (space.version, space.digest())
        if listing.key != key:
            listing.key, listing.rejected = key, 0
            listing.ranks = np.zeros(0, dtype=np.int64)
            listing.rest = _all_ranks(space, axes, sizes)
        return listing


def grid_axes(space: SearchSpace, resolution: int | Mapping[str, int]) -> list[Array]:
    """For each column the ascending unit-cube values that it takes on the grid.

    Raises :class:`StrategyError` for a continuous parameter that ``resolution`` does not name and
    for a range of over a million values.
    """
    return [_axis(name, space.parameters[name], resolution) for name in space.column_names]


def _axis(name: str, parameter: Parameter, resolution: int | Mapping[str, int]) -> Array:
    named = None if isinstance(resolution, int) else resolution.get(name)
    points = resolution if isinstance(resolution, int) else named
    if parameter.count is not None:
        if named is None or named >= parameter.count:
            if parameter.count > _MOST_VALUES:
                raise StrategyError(
                    f"grid: parameter {name!r} has {parameter.count} values; thin it out as "
                    f"resolution={{{name!r}: 10}}, give it a larger step, or use 'sobol' or 'tpe'"
                )
            return parameter.units()
        index = np.rint(np.linspace(0.0, parameter.count - 1.0, named)).astype(np.int64)
        return parameter.units()[np.unique(index)]
    if points is None:
        raise StrategyError(
            f"grid: parameter {name!r} is continuous; give it a step, or a number of points as "
            f"resolution={{{name!r}: 5}}"
        )
    if points == 1:
        return np.array([0.5])
    endless = isinstance(parameter, Normal) and (parameter.low is None or parameter.high is None)
    return (np.arange(points) + 0.5) / points if endless else np.linspace(0.0, 1.0, points)


def _all_ranks(space: SearchSpace, axes: list[Array], sizes: list[int]) -> Iterator[int]:
    """Ranks of all canonical grid points, ascending."""
    total = math.prod(sizes)
    if not space.conditional.any():
        yield from range(total)
        return
    # Odometer: each step advances the last column that is active and has values left, which skips
    # the combinations of inactive columns without visiting them. A column must come after its
    # parents for that, hence the order; ranks then ascend in that order, not the declared one.
    order = _parents_first(space)
    digits = [0] * len(axes)
    weights = _weights(sizes)
    while True:
        u = np.array([axis[k] for axis, k in zip(axes, digits, strict=True)])
        active = ~np.isnan(space.snap(u[None, :])[0])
        yield int(sum(k * w for k, w, a in zip(digits, weights, active, strict=True) if a))
        for place in reversed(range(len(order))):
            column = order[place]
            if active[column] and digits[column] + 1 < sizes[column]:
                digits[column] += 1
                break
            digits[column] = 0
        else:
            return


def _parents_first(space: SearchSpace) -> list[int]:
    order: list[int] = []
    waiting = list(range(space.dims))
    while waiting:
        ready = [c for c in waiting if all(p in order for p in space.parents[c])]
        order.append(ready[0])
        waiting.remove(ready[0])
    return order


def _extend(listing: _Listing, space: SearchSpace, axes: list[Array], sizes: list[int]) -> bool:
    """List the next chunk of allowed points; false when the grid has ended."""
    chunk = np.fromiter(islice(listing.rest, _CHUNK), dtype=np.int64)
    if not len(chunk):
        return False
    if space.constraints:
        kept = chunk[space.allowed(space.snap(_points(chunk, axes, sizes)))]
        listing.rejected = 0 if len(kept) else listing.rejected + len(chunk)
        if listing.rejected >= _REJECTIONS:
            raise SpaceError(
                f"the constraints rejected {listing.rejected} grid points in a row; loosen them, "
                "lower the resolution, or use 'random'"
            )
        chunk = kept
    listing.ranks = np.concatenate([listing.ranks, chunk])
    return True


def _weights(sizes: list[int]) -> list[int]:
    """Value of one unit of each digit: the first column is slowest."""
    return [math.prod(sizes[column + 1 :]) for column in range(len(sizes))]


def _points(ranks: Ints, axes: list[Array], sizes: list[int]) -> Array:
    """(n, d) unit cube, inactive columns not yet dropped."""
    U = np.empty((len(ranks), len(axes)))
    for column, (axis, weight) in enumerate(zip(axes, _weights(sizes), strict=True)):
        U[:, column] = axis[(ranks // weight) % len(axis)]
    return U


def _ranks(U: Array, axes: list[Array], sizes: list[int]) -> Ints:
    """Ranks of those rows of canonical ``U`` ``(n, d)`` that lie on the grid."""
    ranks = np.zeros(len(U), dtype=np.int64)
    on_grid = np.ones(len(U), dtype=bool)
    for column, (axis, weight) in enumerate(zip(axes, _weights(sizes), strict=True)):
        x = U[:, column]
        active = ~np.isnan(x)
        value = np.where(active, x, axis[0])
        right = np.clip(np.searchsorted(axis, value), 0, len(axis) - 1)
        left = np.maximum(right - 1, 0)
        digit = np.where(np.abs(axis[left] - value) <= np.abs(axis[right] - value), left, right)
        # `snap` may move an end of a log-integer's axis by rounding; the cells are far wider.
        on_grid &= np.abs(axis[digit] - value) < 1e-9
        ranks += np.where(active, digit, 0) * weight
    return ranks[on_grid]
