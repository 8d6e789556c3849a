"""The reported figures are the geometric means, ranks and ratios that they say they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from benchmarks._regret import common_problems, mean_rank, ratio, regret
from benchmarks._regret_report import report


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


def row(optimiser, problem, regrets, ms, workers="1"):
    columns = {f"r{n}": str(r) for n, r in zip((10, 25), regrets, strict=True)}
    marks = {"commit": "c", "machine": "m", "versions": "v"}
    times = {"ms_per_trial": str(ms), "ms_at_end": str(2 * ms)}
    return {"optimiser": optimiser, "problem": problem, "workers": workers, **columns, **times, **marks}


def test_the_report_orders_by_regret_and_sets_slow_peers_apart(tmp_path):
    pytest.importorskip("matplotlib")
    problems = [f"{family}-{i}" for family in ("p", "q") for i in range(3)]
    rows = [row("fine", p, (0.1, 0.01), 5) for p in problems]
    rows += [row("poor", p, (0.2, 0.04), 1) for p in problems]
    rows += [row("fine", p, (0.2, 0.02), 5, workers="8") for p in problems]
    rows += [row("slow", "p-0", (0.1, 0.02), 500)]
    lines = report(rows, ["slow", "fine"], tmp_path / "out").splitlines()
    assert "over 6 problems" in lines[0]
    assert [line.split(" | ")[0][2:] for line in lines[4:7]] == ["fine", "fine@8", "poor"]
    assert lines[4].startswith("| fine | 0.1000 | 0.0100 | 0.0100 - 0.0100 | 1.0 | 1.0 | 5 | 10 |")
    assert "too few problems for this table: slow" in "\n".join(lines)
    assert "| fine / slow | 1 | 1.00 (1.00 - 1.00) | 0.50 (0.50 - 0.50) | 0.01 |" in lines
    assert "| poor / fine | 6 | 2.00 (2.00 - 2.00) | 4.00 (4.00 - 4.00) | 0.2 |" in lines
    summary = (tmp_path / "out-summary.csv").read_text().splitlines()
    assert "fine,25,0.01,0.01,0.01,1,1,1,5,10" in summary
    assert (tmp_path / "out.png").exists()


def test_a_report_on_nothing_says_so(tmp_path):
    assert report([], ["ax"], tmp_path / "out") == "nothing measured yet"
    rows = [row("a", "p-0", (0.1, 0.1), 1), row("b", "q-0", (0.1, 0.1), 1)]
    assert "restrict --problems or --only" in report(rows, [], tmp_path / "out")
