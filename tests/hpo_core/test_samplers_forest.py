"""The forest: trees, outcomes, and what it learns."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from hpo_core._errors import StrategyError
from hpo_core._space import Categorical, Float, Int, SearchSpace
from hpo_core.samplers import Forest, Random
from hpo_core.samplers._forest import _expected_improvement, _fit_length, _neighbours
from hpo_core.samplers._trees import Trees, compressed
from tests.hpo_core.sampler_loop import Loop, mixed_space

Array = NDArray[np.float64]


@given(
    arrays(
        float,
        st.integers(1, 30),
        elements=st.one_of(st.floats(-1.7e308, 1.7e308), st.just(math.nan), st.integers(0, 3).map(float)),
    )
)
def test_outcomes_keep_their_order_and_failures_are_the_worst(y: Array) -> None:
    z = compressed(y)
    assert np.isfinite(z).all()
    finite = ~np.isnan(y)
    order = np.argsort(y[finite], kind="stable")
    assert (np.diff(z[finite][order]) >= 0).all()
    if finite.any():
        assert (z[~finite] >= z[finite].max()).all()


def test_a_forest_recalls_what_it_saw_and_doubts_what_it_did_not() -> None:
    space = SearchSpace({"a": Float(0, 1), "b": Categorical(list("abcdef")), "c": Int(0, 9)})
    rng = np.random.default_rng(0)
    U = space.sample(rng, 80)
    z = U[:, 0] + (U[:, 1] > 0.5)
    forest = Trees(number=30).fit(space, U, z, rng)
    mean, variance = forest.predict(U)
    assert mean == pytest.approx(z)
    assert variance == pytest.approx(0.0, abs=1e-12)
    fresh = space.sample(rng, 300)
    mean, variance = forest.predict(fresh)
    assert np.corrcoef(mean, fresh[:, 0] + (fresh[:, 1] > 0.5))[0, 1] > 0.9
    assert variance.mean() > 0.005


def test_rows_dropped_into_leaves_change_them_exactly() -> None:
    space = mixed_space()
    rng = np.random.default_rng(1)
    U, late = space.sample(rng, 50), space.sample(rng, 20)
    z, late_z = rng.random(50), rng.random(20)
    forest = Trees(number=5, leaf=3).fit(space, U, z, np.random.default_rng(2))
    grown = forest.extended(late, late_z)
    mean, variance = grown.predict(late)
    both, both_z = np.concatenate([U, late]), np.concatenate([z, late_z])
    leaves, at = forest.leaves(both), forest.leaves(late)
    for row in range(20):
        own = [both_z[leaf == a[row]] for leaf, a in zip(leaves, at, strict=True)]
        means = [x.mean() for x in own]
        assert mean[row] == pytest.approx(np.mean(means))
        assert variance[row] == pytest.approx(np.var(means) + np.mean([x.var() for x in own]))
    # In two steps it is the same, and the original has not changed.
    steps = forest.extended(late[:7], late_z[:7]).extended(late[7:], late_z[7:])
    assert steps.predict(late)[0] == pytest.approx(mean)
    assert not np.allclose(forest.predict(late)[0], mean)


def test_expected_improvement_is_the_integral() -> None:
    mean, variance, best = np.array([0.3, -1.0, 2.0]), np.array([0.5, 0.01, 0.2]), 0.1
    found = _expected_improvement(mean, variance, best)
    t = (np.arange(200_000) + 0.5) / 200_000
    from scipy.special import ndtri

    for i in range(3):
        draws = mean[i] + math.sqrt(variance[i]) * ndtri(t)
        expected = np.maximum(best - draws, 0.0).mean()
        assert found[i] == pytest.approx(expected, rel=1e-2, abs=1e-6)


@given(st.integers(1, 100_000))
def test_the_trees_are_grown_at_fixed_lengths(k: int) -> None:
    length = _fit_length(k)
    assert 0 <= k - length < min(max(k / 64, 1), 32)
    assert _fit_length(length) == length
    assert _fit_length(k + 1) >= length


def test_neighbours_differ_in_one_column_or_two_and_bring_children_along() -> None:
    space = mixed_space()
    rng = np.random.default_rng(0)
    U = space.sample(rng, 6)
    near = _neighbours(space, U, rng)
    origin = np.repeat(U, len(near) // len(U), axis=0)
    kept = np.isclose(near, origin, rtol=0, atol=1e-12, equal_nan=True)
    moved = (~kept & ~np.isnan(near) & ~np.isnan(origin)).sum(axis=1)
    assert moved.max() <= 2
    assert (moved >= 1).mean() > 0.6
    assert np.allclose(space.snap(near), near, rtol=0, atol=1e-9, equal_nan=True)


def test_it_learns_categories_and_conditions() -> None:
    space = SearchSpace(
        {f"c{i}": Categorical(list("abcdefgh")) for i in range(4)}
        | {"lr": Float(1e-4, 1.0, log=True), "m": Float(0, 1).when("c0", "d", "e")}
    )

    def objective(p: dict[str, Any]) -> float:
        wrong = sum(p[f"c{i}"] != "dbgh"[i] for i in range(4))
        return float(wrong + (math.log10(p["lr"]) + 2) ** 2 / 4 + abs(p.get("m", 1.0) - 0.25))

    best = {}
    for sampler in (Forest(), Random()):
        loop = Loop(sampler, space)
        loop.run(objective, 70)
        best[type(sampler).__name__] = float(np.nanmin(loop.history.values))
    assert best["Forest"] < 0.6 * best["Random"]


def test_two_objectives_reach_both_ends() -> None:
    space = SearchSpace({"x": Float(0, 1), "y": Float(0, 1)})
    loop = Loop(Forest(), space, objectives=("a", "b"))
    loop.run(lambda p: [p["x"] + p["y"], 1 - p["x"] + p["y"]], 50)
    late = loop.history.X[20:]
    assert np.median(late[:, 1]) < 0.15
    assert np.ptp(late[:, 0]) > 0.35


def test_options_are_checked() -> None:
    with pytest.raises(StrategyError, match="startup must be a whole number of at least 2, got 1"):
        Forest(startup=1)
    with pytest.raises(StrategyError, match="interleave must be in"):
        Forest(interleave=1.0)


def test_trees_are_grown_anew_ever_more_seldom() -> None:
    """For each result up to 128, for every second up to 256 and so on, for every 32nd at last."""
    lengths = [_fit_length(k) for k in (1, 127, 128, 129, 130, 255, 257, 259, 260, 513, 100_031)]
    assert lengths == [1, 127, 128, 128, 130, 254, 256, 256, 260, 512, 100_000]
