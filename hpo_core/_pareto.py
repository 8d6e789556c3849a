"""Sets of objective vectors: domination, crowding and hypervolume. Everything is minimised.

Notation
--------
n, m    number of points, number of objectives
V       (n, m) objective values
r       (m,) reference point; only points below it in every objective have volume
hv(S)   volume of the union of the boxes [v, r] for v in S
incl(v) volume of the box [v, r]
excl(v) volume that v adds to a set: hv(S + v) - hv(S)

A row with a ``NaN`` (a failed trial) is dominated by every complete row and has no volume.
"""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "crowding_distance",
    "hypervolume",
    "nondominated",
    "nondominated_rank",
    "order_by_quality",
    "scaled",
    "select_by_hypervolume",
]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def nondominated(V: Array) -> Bools:
    """(n,) bool: rows of ``V`` ``(n, m)`` that no other row dominates; equals stand together."""
    return np.asarray(nondominated_rank(V, most=1) == 0)


def nondominated_rank(V: Array, most: int | None = None) -> Ints:
    """(n,) front number of each row of ``V`` ``(n, m)``, 0 = non-dominated (Deb 2002, III.A).

    Stops after the front with which ``most`` rows have been ranked; the rest share the next number.
    Rows with a ``NaN`` come after all others.
    """
    ranks = np.full(len(V), -1, dtype=np.int64)
    complete = ~np.isnan(V).any(axis=1)
    rank = 0
    if complete.any():
        unique, inverse, counts = np.unique(V[complete], axis=0, return_inverse=True, return_counts=True)
        inverse = inverse.reshape(-1)
        unique_ranks = np.full(len(unique), -1, dtype=np.int64)
        left, ranked = np.arange(len(unique)), 0
        while len(left) and (most is None or ranked < most):
            front = _front_of_sorted(unique[left])
            unique_ranks[left[front]] = rank
            ranked += int(counts[left[front]].sum())
            left = left[~front]
            rank += 1
        unique_ranks[left] = rank
        ranks[complete] = unique_ranks[inverse]
        rank += bool(len(left))
    ranks[~complete] = rank
    return ranks


def _front_of_sorted(V: Array) -> Bools:
    """The front of distinct rows in lexicographic order, where none dominates an earlier one."""
    n, m = V.shape
    front = np.zeros(n, dtype=bool)
    if m == 1:
        front[0] = True
        return front
    if m == 2:
        front[0] = True
        front[1:] = V[1:, 1] < np.minimum.accumulate(V[:, 1])[:-1]
        return front
    # Kung-like sieve: the first row left is on the front; drop what it dominates. One numpy pass
    # for each member of the front (not for each pair).
    left = np.arange(n)
    while len(left):
        first = left[0]
        front[first] = True
        left = left[1:]
        left = left[(V[left] < V[first]).any(axis=1)]
    return front


def crowding_distance(V: Array) -> Array:
    """(n,) crowding distance within a front ``V`` ``(n, m)`` (Deb 2002, III.B); ends ``inf``."""
    n, m = V.shape
    distance = np.zeros(n)
    if n <= 2:
        return np.full(n, np.inf)
    U = scaled(V)
    for j in range(m):
        order = np.argsort(U[:, j], kind="stable")
        x = U[order, j]
        if x[-1] > x[0]:
            distance[order[1:-1]] += x[2:] - x[:-2]
            distance[order[[0, -1]]] = np.inf
    return distance


def scaled(V: Array) -> Array:
    """``V`` ``(n, m)`` with each objective mapped to [0, 1] over its finite rows; safe at 1e308."""
    if not len(V) or np.isnan(V).all(axis=0).any():
        return np.zeros_like(V)
    # Halves first: the range of two values near the largest double is no double.
    low, high = np.nanmin(V, axis=0) / 2, np.nanmax(V, axis=0) / 2
    span = np.where(high - low > 0, high - low, 1.0)
    return np.asarray((V / 2 - low) / span)


def hypervolume(V: Array, r: Array) -> float:
    """Volume dominated by ``V`` ``(n, m)`` below the reference point ``r`` ``(m,)``.

    Exact for any m: a sweep for two objectives, slabs for three, WFG (While 2012) for more.
    """
    V = V[~np.isnan(V).any(axis=1)]
    V = V[(r > V).all(axis=1)]
    return _volume(V[nondominated(V)], r) if len(V) else 0.0


def _volume(V: Array, r: Array) -> float:
    """Hypervolume of rows below ``r``; dominated rows are allowed for m <= 3, slow above."""
    m = V.shape[1]
    if not len(V):
        return 0.0
    if len(V) == 1 or m == 1:
        return float(np.prod(r - V.min(axis=0)))
    if m == 2:
        V = V[np.lexsort((V[:, 1], V[:, 0]))]
        steps = np.diff(V[:, 0], append=r[0])
        return float(steps @ (r[1] - np.minimum.accumulate(V[:, 1])))
    if m == 3:
        return _volume_3d(V, r)
    # WFG: hv is the sum of what each point adds to those after it; with the last objective in
    # descending order the sets limited by a point shrink fastest.
    V = V[np.argsort(-V[:, -1], kind="stable")]
    return float(sum(_exclusive(v, V[i + 1 :], r) for i, v in enumerate(V)))


def _volume_3d(V: Array, r: Array) -> float:
    """Slabs between successive third coordinates; the area of each is a sweep along the first."""
    V = V[np.argsort(V[:, 0], kind="stable")]
    levels = np.argsort(V[:, 2], kind="stable")
    z = V[levels, 2]
    # active[i, k]: point k (by first coordinate) lies at or below level i
    active = V[None, :, 2] <= z[:, None]
    y = np.minimum.accumulate(np.where(active, V[None, :, 1], r[1]), axis=1)
    areas = (r[1] - y) @ np.diff(V[:, 0], append=r[0])
    return float(areas @ np.diff(z, append=r[2]))


def _exclusive(v: Array, others: Array, r: Array) -> float:
    """excl(v) against ``others`` ``(k, m)``: incl(v) less the volume of the set limited by v."""
    inclusive = float(np.prod(r - v))
    if not len(others):
        return inclusive
    limited = np.maximum(others, v)
    if limited.shape[1] > 3:
        limited = limited[nondominated(limited)]
    return inclusive - _volume(limited, r)


def select_by_hypervolume(V: Array, k: int, r: Array) -> Ints:
    """Indices of ``k`` rows of ``V`` ``(n, m)``, each adding the most volume to those before it.

    The greedy answer is within 1 - 1/e of the best subset's volume (Guerreiro 2016). Evaluated
    lazily: what a row adds only shrinks as the set grows, so a row whose fresh figure still tops
    the heap needs no comparison with the others. Rows that add nothing fill up in index order.
    """
    k = min(k, len(V))
    inside: Bools = np.asarray((r > V).all(axis=1))
    inclusive = np.where(inside, np.prod(np.where(inside[:, None], r - V, 0.0), axis=1), 0.0)
    heap = [(-float(volume), i) for i, volume in enumerate(inclusive)]
    heapq.heapify(heap)
    chosen: list[int] = []
    computed_at = np.zeros(len(V), dtype=np.int64)
    while len(chosen) < k:
        bound, i = heapq.heappop(heap)
        if bound == 0.0 or computed_at[i] == len(chosen):
            chosen.append(i)
            continue
        computed_at[i] = len(chosen)
        gain = _exclusive(V[i], V[[c for c in chosen if inside[c]]], r)
        heapq.heappush(heap, (-max(gain, 0.0), i))
    return np.array(chosen, dtype=np.int64)


def order_by_quality(V: Array, most: int | None = None) -> Ints:
    """Indices of the complete rows of ``V`` ``(n, m)``, best first; ``most`` of them if given.

    One objective: ascending values, earlier rows first among equals. Several: by front, and within
    a front greedily by hypervolume against a reference point a tenth beyond the worst values.
    """
    rows = np.flatnonzero(~np.isnan(V).any(axis=1))
    most = len(rows) if most is None else min(most, len(rows))
    if V.shape[1] == 1:
        return rows[np.argsort(V[rows, 0], kind="stable")][:most]
    ranks = nondominated_rank(V[rows], most=most)
    order: list[int] = []
    U = scaled(V[rows])
    reference = np.full(V.shape[1], 1.1)
    for rank in range(int(ranks.max(initial=-1)) + 1):
        front = np.flatnonzero(ranks == rank)
        wanted = most - len(order)
        if wanted <= 0:
            break
        order.extend(front[select_by_hypervolume(U[front], min(wanted, len(front)), reference)])
    return rows[np.array(order, dtype=np.int64)]
