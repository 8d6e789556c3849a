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
from hpo_core._propose import sampler_rng
from hpo_core._space import Categorical, Float, Int, SearchSpace
from hpo_core.samplers import Forest, Random
from hpo_core.samplers._forest import _chosen, _expected_improvement, _fit_length, _neighbours, _scalarised
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


def test_no_leaf_has_fewer_rows_than_asked_for() -> None:
    space = SearchSpace({"a": Float(0, 1), "b": Int(0, 9)})
    rng = np.random.default_rng(0)
    forest = Trees(number=10, leaf=4).fit(space, space.sample(rng, 60), rng.random(60), rng)
    leaves = forest.left == np.arange(len(forest.left))
    assert forest.count[leaves].min() >= 4
    assert leaves.sum() > 30


def test_each_tree_numbers_categories_in_an_order_of_its_own() -> None:
    """A threshold then cuts them into any two groups, and not only the first ones from the last."""
    space = SearchSpace({"c": Categorical(list("abcdef")), "x": Float(0, 1)})
    rng = np.random.default_rng(0)
    forest = Trees(number=10).fit(space, space.sample(rng, 30), rng.random(30), rng)
    assert np.array_equal(np.sort(forest.numbering, axis=1), np.tile(np.arange(6.0), (10, 1)))
    assert len(np.unique(forest.numbering, axis=0)) > 5


def test_disasters_are_all_alike() -> None:
    z = compressed(np.array([0.0, 1.0, 1.0, 1.0, 1e7, 1e12, 1e300]))
    assert z[4] == z[5] == z[6] > z[1]


def test_the_trees_see_the_best_and_the_newest() -> None:
    y = np.array([5.0, 1.0, math.nan, 4.0, 2.0, 3.0, 9.0, 8.0])
    assert _chosen(y, 4).tolist() == list(range(8))
    assert _chosen(y, 2).tolist() == [1, 4, 6, 7]
    assert _chosen(np.append(y, math.nan), 3).tolist() == [1, 4, 5, 6, 7, 8]


def test_several_objectives_are_weighed_anew_for_each_trial() -> None:
    """Each end of a front is the best for some of the weights, and so is its middle."""
    V = np.array([[0.0, 1.0], [1.0, 0.0], [0.4, 0.4]])
    best = [int(np.argmin(_scalarised(V, np.random.default_rng(seed)))) for seed in range(40)]
    assert set(best) == {0, 1, 2}


def test_a_step_of_a_discrete_column_leaves_its_cell() -> None:
    space = SearchSpace({"n": Int(0, 4)})
    U = np.full((20, 1), 0.5)
    near = _neighbours(space, U, np.random.default_rng(0))
    # A second move, in one neighbour of five, may lead back.
    assert (near[:, 0] != 0.5).mean() > 0.85


def test_what_is_proposed_is_allowed() -> None:
    """The forest expects most beyond the border, where it may not go."""
    space = SearchSpace({"x": Float(0, 1), "y": Float(0, 1)}, constraints=["x + y <= 1"])
    loop = Loop(Forest(interleave=0.0), space)
    loop.run(lambda p: -p["x"] - p["y"], 40)
    assert (loop.history.X.sum(axis=1) <= 1.0).all()
    assert loop.notes[-1].startswith("expected improvement")


def test_trials_in_flight_spread() -> None:
    """Where one is, less is to be learnt: asked for at once they lie farther apart than one by one."""
    together = alone = 0.0
    for seed in range(6):
        loop = Loop(Forest(interleave=0.0), SearchSpace({"x": Float(0, 1), "y": Float(0, 1)}), seed=seed)
        loop.run(lambda p: (p["x"] - 0.4) ** 2 + (p["y"] - 0.6) ** 2, 30)
        blind = [loop.sampler.sample(loop.history, sampler_rng(loop.history, 30 + i)) for i in range(12)]
        alone += _gap(np.array([proposal.u for proposal in blind if proposal is not None]))
        for _ in range(12):
            loop.ask()
        together += _gap(loop.history.X[30:])
    assert together > 1.4 * alone


def _gap(points: Array) -> float:
    """The median distance to the nearest other one."""
    apart = np.linalg.norm(points[:, None] - points[None], axis=2) + 9.0 * np.eye(len(points))
    return float(np.median(apart.min(axis=1)))


def test_a_split_looks_at_a_part_of_the_columns() -> None:
    """So trees differ: where each looks at one of two, some begin with the one that says nothing."""
    space = SearchSpace({"a": Float(0, 1), "b": Float(0, 1)})
    rng = np.random.default_rng(0)
    U = space.sample(rng, 60)
    roots = {
        features: set(Trees(number=30, features=features).fit(space, U, U[:, 0], rng).feature[:30].tolist())
        for features in (0.5, 1.0)
    }
    assert roots == {0.5: {0, 1}, 1.0: {0}}
