"""NSGA-II: fronts, inheritance, generations."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import pytest

from hpo_core._errors import StrategyError
from hpo_core._pareto import hypervolume
from hpo_core._space import Categorical, Float, SearchSpace
from hpo_core.samplers import NSGA2, Random
from hpo_core.samplers._nsga2 import _crossed, _mutated, _Parents, _select, _tournament
from tests.hpo_core.sampler_loop import Loop, mixed_space

NOTHING = np.empty((5, 0))
"""Excesses of results without a constraint."""


def zdt1(params: dict[str, Any]) -> list[float]:
    """Zitzler, Deb and Thiele 2000, T1: a convex front at f2 = 1 - sqrt(f1)."""
    x = np.array(list(params.values()))
    g = 1.0 + 9.0 * x[1:].mean()
    return [float(x[0]), float(g * (1.0 - math.sqrt(x[0] / g)))]


def test_it_comes_closer_to_the_front_than_random_search() -> None:
    space = SearchSpace({f"x{i}": Float(0.0, 1.0) for i in range(6)})
    volumes = {}
    for sampler in (NSGA2(), Random()):
        loop = Loop(sampler, space, objectives=("f1", "f2"))
        loop.run(zdt1, 300)
        volumes[type(sampler).__name__] = hypervolume(loop.history.values, np.array([1.1, 6.0]))
    # The front itself has 6.27 of the box's 6.6.
    assert volumes["NSGA2"] > 5.4 > 5.0 > volumes["Random"]


def test_children_of_one_parent_value_keep_it_but_for_mutation() -> None:
    """Crossover of equal columns is that column, so categories and settled values survive."""
    rng = np.random.default_rng(0)
    x = np.linspace(0.0, 1.0, 7)
    assert _crossed(x, x, 15.0, rng) == pytest.approx(x)


def test_crossover_and_mutation_stay_in_the_cube_and_near_the_parents() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random(4000), rng.random(4000)
    child = _crossed(a, b, 15.0, rng)
    assert ((child >= 0) & (child <= 1)).all()
    # Simulated binary crossover keeps the mean of the parents (error 0.3 / sqrt(4000) = 0.005).
    assert (child - (a + b) / 2).mean() == pytest.approx(0.0, abs=0.03)
    moved = _mutated(a, 20.0, rng)
    assert ((moved >= 0) & (moved <= 1)).all()
    assert np.median(np.abs(moved - a)) < 0.05
    for edge in (0.0, 1.0):
        assert np.isfinite(_crossed(np.full(99, edge), rng.random(99), 15.0, rng)).all()
        assert np.isfinite(_mutated(np.full(99, edge), 20.0, rng)).all()


def test_a_fold_from_the_start_agrees_with_one_that_grew() -> None:
    grown = Loop(NSGA2(population=4), mixed_space(), seed=1, objectives=("a", "b"))
    for trial in range(30):
        again = Loop(NSGA2(population=4), mixed_space(), objectives=("a", "b"))
        again.history = grown.history
        assert np.array_equal(grown.due(), again.due(), equal_nan=True)
        params = grown.ask()
        assert params is not None
        grown.tell(trial, params["lr"], math.nan if trial % 7 == 0 else params["layers"])
    assert grown.notes[-1] == "child of generation 7"


def test_an_unordered_choice_is_inherited_from_either_parent() -> None:
    space = SearchSpace({"c": Categorical(list("abcdefghij")), "x": Float(0.0, 1.0)})
    loop = Loop(NSGA2(population=8), space)
    loop.run(lambda p: "abcdefghij".index(p["c"]) + p["x"], 200)
    late = [loop.history.params_of(t)["c"] for t in range(150, 200)]
    assert late.count("a") > 15


def test_options_are_checked() -> None:
    with pytest.raises(StrategyError, match="population must be a whole number of at least 2, got 1"):
        NSGA2(population=1)
    with pytest.raises(StrategyError, match="swap must be in"):
        NSGA2(swap=2.0)
    with pytest.raises(StrategyError, match="eta_mutation must be positive"):
        NSGA2(eta_mutation=0.0)


class Draws:
    """Random numbers as a test wants them, one array for each call."""

    def __init__(self, *arrays: float) -> None:
        self._arrays = list(arrays)

    def random(self, n: int) -> np.ndarray:
        return np.full(n, self._arrays.pop(0))


def draws(*arrays: float) -> np.random.Generator:
    return cast(np.random.Generator, Draws(*arrays))


@pytest.mark.parametrize("x", [0.0, 0.25, 0.9, 1.0])
def test_a_mutation_reaches_both_ends_and_its_median_is_no_move(x: float) -> None:
    """Deb's bounded form: the smallest draw leads to 0, the largest to 1."""
    ends = [_mutated(np.array([x]), 5.0, draws(u))[0] for u in (0.0, 0.5, 1.0 - 1e-15)]
    assert ends == pytest.approx([0.0, x, 1.0], abs=1e-2)


def test_a_pair_of_children_never_leaves_the_cube() -> None:
    """The wider child of 0.6 and 0.8 may reach 1, so the other one of the pair no less than 0.4."""
    a, b = np.array([0.6]), np.array([0.8])
    assert _crossed(a, b, 15.0, draws(1.0 - 1e-15, 0.0)) == pytest.approx([0.4], abs=1e-6)
    assert _crossed(a, b, 15.0, draws(1.0 - 1e-15, 0.9)) == pytest.approx([1.0], abs=1e-6)
    assert _crossed(1.0 - a, 1.0 - b, 15.0, draws(1.0 - 1e-15, 0.9)) == pytest.approx([0.6], abs=1e-6)


def test_the_tournament_goes_by_front_and_then_by_room() -> None:
    """Two draws of two parents: the better one loses only where it is not drawn, once in four times."""
    rng = np.random.default_rng(0)
    X, values = np.zeros((2, 1)), np.zeros((2, 1))
    cases = ([1, 0], [9.0, 1.0], 1), ([0, 0], [1.0, np.inf], 1), ([0, 1], [0.0, 9.0], 0)
    for ranks, crowding, best in cases:
        parents = _Parents(X, values, NOTHING, np.array(ranks), np.array(crowding))
        won = np.mean([_tournament(parents, rng) == best for _ in range(4000)])
        assert won == pytest.approx(0.75, abs=0.04)  # five deviations of Binomial(4000, 3/4)


def test_of_a_front_those_with_room_around_them_stay() -> None:
    """And of a later front nobody, while the first one has some left."""
    values = np.array([[0.0, 4.0], [1.0, 3.0], [1.1, 2.9], [4.0, 0.0], [5.0, 5.0]])
    kept = _select(np.arange(5.0)[:, None], values, NOTHING, 3)
    assert sorted(kept.X[:, 0].tolist()) == [0.0, 2.0, 3.0]
    assert _select(np.arange(5.0)[:, None], values, NOTHING, 5).ranks.tolist() == [0, 0, 0, 0, 1]


def test_few_of_those_that_break_a_constraint_are_parents() -> None:
    """Those that break it least, and only where fewer keep it than a quarter of the population."""
    values = np.array([[0.3], [0.2], *[[np.nan]] * 8])
    excess = np.array([[-1.0], [-2.0], *([x] for x in (9.0, 3.0, 4.0, 2.0, 5.0, 6.0, 7.0, np.nan))])
    X = np.arange(10.0)[:, None]
    for population, expected in ((16, [1, 0, 5, 3]), (8, [1, 0]), (1, [1])):
        parents = _select(X, values, excess, population)
        assert parents.X[:, 0].tolist() == expected
        assert (np.diff(parents.ranks) > 0).all()
    assert _select(X[2:], values[2:], excess[2:], 4).X[:, 0].tolist() == [5, 3]


def test_what_one_parent_lacks_comes_from_the_other() -> None:
    """Of two parents, one with the column: a child gets it new only where both draws were the other one."""
    space = SearchSpace({"a": Float(0.0, 1.0), "b": Float(0.0, 1.0)})
    parents = _Parents(
        np.array([[0.2, math.nan], [0.2, 0.3]]), np.zeros((2, 1)), NOTHING, np.zeros(2), np.zeros(2)
    )
    sampler = NSGA2(crossover=1.0, swap=0.0, eta_mutation=1e9)
    rng = np.random.default_rng(0)
    children = np.array([sampler._child(space, parents, rng) for _ in range(4000)])
    inherited = np.isclose(children[:, 1], 0.3, atol=1e-6).mean()
    assert inherited == pytest.approx(0.75, abs=0.04)


def test_each_column_mutates_once_in_as_many_children_as_there_are_columns() -> None:
    space = SearchSpace({f"x{i}": Float(0.0, 1.0) for i in range(4)})
    parents = _Parents(np.full((1, 4), 0.5), np.zeros((1, 1)), NOTHING, np.zeros(1), np.zeros(1))
    rng = np.random.default_rng(0)
    children = np.array([NSGA2()._child(space, parents, rng) for _ in range(2000)])
    assert (children != 0.5).mean(axis=0) == pytest.approx(0.25, abs=0.05)


def test_a_failed_trial_is_nobodys_parent() -> None:
    loop = Loop(NSGA2(population=4), SearchSpace({"x": Float(0.0, 1.0)}))
    for trial, value in enumerate((math.nan, 0.5, math.nan, math.nan)):
        loop.start({"x": trial / 4})
        loop.tell(trial, value)
    assert NSGA2(population=4)._evolved(loop.history).parents.X.tolist() == [[0.25]]
    loop.run(lambda p: p["x"], 4)
    assert loop.notes[0] == "child of generation 1"
