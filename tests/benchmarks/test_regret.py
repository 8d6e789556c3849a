"""The reported figures are the geometric means, ranks and ratios that they say they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from benchmarks._regret import common_problems, mean_rank, ratio, regret


def made(seed, optimisers=("a", "b", "c"), problems=("p", "q", "r"), seeds=4):
    rng = np.random.default_rng(seed)
    return {(o, p): np.exp(rng.normal(-3, 1, (seeds, 2))) for o in optimisers for p in problems}


@given(st.integers(0, 50))
def test_regret_is_the_geometric_mean_over_seeds_and_problems(seed):
    runs = made(seed)
    estimate = regret(runs, "a", ["p", "q", "r"])
    flat = np.concatenate([runs["a", p] for p in "pqr"])
    assert estimate.value == pytest.approx(np.exp(np.log(flat).mean(axis=0)))
    assert (estimate.low < estimate.value).all()
    assert (estimate.value < estimate.high).all()


def test_each_problem_weighs_the_same_however_many_seeds_it_has():
    runs = {("a", "p"): np.full((9, 1), 0.1), ("a", "q"): np.full((1, 1), 0.001)}
    assert regret(runs, "a", ["p", "q"]).value == pytest.approx([0.01])


@given(st.integers(0, 50))
def test_ranks_are_the_average_over_problems_and_sum_to_a_constant(seed):
    runs = made(seed)
    ranks = mean_rank(runs, ["a", "b", "c"], ["p", "q", "r"])
    cells = np.array([[np.log(runs[o, p]).mean(axis=0) for p in "pqr"] for o in "abc"])
    by_hand = np.array([[rankdata(cells[:, j, k]) for k in range(2)] for j in range(3)]).mean(axis=0)
    assert pytest.approx(by_hand) == np.array([r.value for r in ranks]).T
    assert sum(r.value[0] for r in ranks) == pytest.approx(6.0)


def test_ties_share_a_rank():
    runs = {(o, "p"): np.full((2, 1), 0.5) for o in "ab"}
    assert [r.value[0] for r in mean_rank(runs, ["a", "b"], ["p"])] == [1.5, 1.5]


def test_a_ratio_compares_problem_by_problem():
    """Twice as bad on every problem is a ratio of 2 with no doubt, though problems differ a hundredfold."""
    easy, hard = np.full((3, 1), 1e-3), np.full((3, 1), 0.1)
    runs = {("a", "p"): 2 * easy, ("a", "q"): 2 * hard, ("b", "p"): easy, ("b", "q"): hard}
    found = ratio(runs, "a", "b", ["p", "q"])
    assert [found.value[0], found.low[0], found.high[0]] == pytest.approx([2.0, 2.0, 2.0])


@pytest.mark.parametrize("truth", [0.5, 1.5])
def test_the_interval_of_a_ratio_covers_its_truth_about_as_often_as_it_says(truth):
    """40 repetitions, 30 problems: a 95 % interval misses 2 on average and 8 or more once in 1,500."""
    rng = np.random.default_rng(5)
    missed = 0
    for _ in range(40):
        level = rng.normal(-4, 1.5, 30)
        runs = {}
        for j in range(30):
            gap = np.log(truth) + rng.normal(0, 0.4)
            runs["a", str(j)] = np.exp(level[j] + gap + rng.normal(0, 0.3, (3, 1)))
            runs["b", str(j)] = np.exp(level[j] + rng.normal(0, 0.3, (3, 1)))
        found = ratio(runs, "a", "b", [str(j) for j in range(30)])
        missed += not found.low[0] <= truth <= found.high[0]
    assert missed < 8


def test_only_problems_that_all_have_run_are_compared():
    runs = made(0, optimisers=("a",), problems=("p", "q")) | made(0, optimisers=("b",), problems=("q", "r"))
    assert common_problems(runs, ["a", "b"]) == ["q"]
    assert common_problems(runs, []) == []
