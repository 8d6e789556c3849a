"""Domination, crowding and hypervolume against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from hpo_core._pareto import (
    crowding_distance,
    hypervolume,
    nondominated,
    nondominated_rank,
    order_by_quality,
    scaled,
    select_by_hypervolume,
)

Array = NDArray[np.float64]


@st.composite
def fronts(draw: st.DrawFn, most: int = 9) -> Array:
    """Small integer vectors, so that ties and repeats are common."""
    n, m = draw(st.integers(1, most)), draw(st.integers(2, 4))
    return draw(arrays(float, (n, m), elements=st.integers(0, 5).map(float)))


def volume_by_cells(V: Array, r: Array) -> float:
    """Counts unit cells: exact for integer coordinates."""
    cells = itertools.product(*(range(int(x)) for x in r))
    return float(sum(any(all(v <= c) for v in V) for c in cells))


@given(fronts())
def test_rank_zero_is_what_nobody_dominates_and_each_front_follows_from_the_one_before(
    V: Array,
) -> None:
    ranks = nondominated_rank(V)
    for i, v in enumerate(V):
        above = [ranks[j] for j, w in enumerate(V) if (w <= v).all() and (w < v).any()]
        assert ranks[i] == (max(above) + 1 if above else 0)
    assert np.array_equal(nondominated(V), ranks == 0)


@given(fronts(), st.integers(1, 5))
def test_ranking_may_stop_early_without_changing_what_it_ranked(V: Array, most: int) -> None:
    full, early = nondominated_rank(V), nondominated_rank(V, most=most)
    cut = early.max() if (early != full).any() else early.max() + 1
    assert np.array_equal(early[early < cut], full[early < cut])
    assert (early < cut).sum() >= min(most, len(V))


@given(fronts())
def test_rows_with_nan_come_last(V: Array) -> None:
    V = np.vstack([V, np.full(V.shape[1], np.nan)])
    ranks = nondominated_rank(V)
    assert ranks[-1] == ranks[:-1].max() + 1
    assert len(V) - 1 not in order_by_quality(V)


@given(fronts())
def test_hypervolume_is_the_volume_of_the_union(V: Array) -> None:
    r = np.full(V.shape[1], 4.0)
    assert hypervolume(V, r) == pytest.approx(volume_by_cells(V, r))


@given(fronts(), st.integers(1, 6))
def test_greedy_selection_adds_the_most_each_time(V: Array, k: int) -> None:
    r = np.full(V.shape[1], 4.0)
    chosen = select_by_hypervolume(V, k, r)
    assert len(set(chosen.tolist())) == len(chosen) == min(k, len(V))
    for step in range(len(chosen)):
        gains = [hypervolume(V[[*chosen[:step], i]], r) for i in range(len(V))]
        assert hypervolume(V[chosen[: step + 1]], r) == pytest.approx(max(gains))


def test_five_objectives_agree_with_monte_carlo() -> None:
    rng = np.random.default_rng(0)
    V = rng.random((12, 5))
    draws = rng.random((200_000, 5))
    hit = np.zeros(len(draws), dtype=bool)
    for v in V:
        hit |= (draws >= v).all(axis=1)
    # standard error below 0.0012, so five of them are a false alarm of 6e-7
    assert hypervolume(V, np.ones(5)) == pytest.approx(hit.mean(), abs=0.006)


@given(fronts())
def test_ends_of_a_front_are_never_crowded(V: Array) -> None:
    distance = crowding_distance(V)
    for j in range(V.shape[1]):
        if V[:, j].max() > V[:, j].min():
            assert np.isinf(distance[V[:, j].argmin()]) or (V[:, j] == V[:, j].min()).sum() > 1
    assert (distance >= 0).all()


def test_crowding_distance_of_a_line() -> None:
    V = np.array([[0.0, 4.0], [1.0, 3.0], [3.0, 1.0], [4.0, 0.0]])
    assert crowding_distance(V).tolist() == [np.inf, 1.5, 1.5, np.inf]


@settings(max_examples=30)
@given(st.integers(1, 3), st.integers(1, 6))
def test_huge_values_do_not_overflow(m: int, n: int) -> None:
    V = np.where(np.arange(n * m).reshape(n, m) % 2, 1.7e308, -1.7e308)
    assert np.isfinite(scaled(V)).all()
    assert sorted(order_by_quality(V)) == list(range(n))


def test_best_first_prefers_fronts_and_then_volume() -> None:
    V = np.array([[1.0, 1.0], [0.0, 4.0], [3.0, 3.0], [4.0, 0.0]])
    assert order_by_quality(V)[0] == 0
    assert order_by_quality(V)[-1] == 2
    assert order_by_quality(V, most=2).tolist()[0] == 0
    assert order_by_quality(np.array([[3.0], [1.0], [np.nan], [1.0]])).tolist() == [1, 3, 0]


def test_the_ends_of_a_front_come_before_a_point_beside_another() -> None:
    """The reference point lies a tenth beyond them, so they have a volume of their own."""
    front = np.array([[0.0, 1.0], [0.4, 0.45], [0.45, 0.4], [1.0, 0.0]])
    assert order_by_quality(front).tolist() == [1, 3, 0, 2]
