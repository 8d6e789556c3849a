"""NSGA-II: fronts, inheritance, generations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from hpo_core._errors import StrategyError
from hpo_core._pareto import hypervolume
from hpo_core._space import Categorical, Float, SearchSpace
from hpo_core.samplers import NSGA2, Random
from hpo_core.samplers._nsga2 import _crossed, _mutated
from tests.hpo_core.sampler_loop import Loop, mixed_space


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
