"""TPE: its densities, its split into good and other, and what it learns."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from hpo_core._errors import StrategyError
from hpo_core._pareto import hypervolume, nondominated_rank
from hpo_core._space import Categorical, Float, Int, SearchSpace
from hpo_core._states import TrialState
from hpo_core.samplers import TPE, Random
from hpo_core.samplers._parzen import Mixture, neighbour_bandwidths
from hpo_core.samplers._split import KEPT, MOST_GOOD, Archive, Best, improvement, n_good
from hpo_core.samplers._tpe import _bandwidths, _fading
from tests.hpo_core.sampler_loop import Loop, small_space

Array = NDArray[np.float64]


def mixture(space: SearchSpace, X: Array) -> Mixture:
    return Mixture(space, X, _bandwidths(space, X, 1.0), np.arange(1.0, len(X) + 1.0), 1.0)


def test_a_density_over_cells_sums_to_one() -> None:
    space = SearchSpace(
        {
            "a": Int(0, 6),
            "b": Categorical(["x", "y", "z"]),
            "c": Categorical(["s", "m", "l"], ordered=True),
        }
    )
    X = space.sample(np.random.default_rng(0), 9)
    every = space.enumerate()
    # Relative to the prior, which gives every configuration the same mass.
    assert np.exp(mixture(space, X).log_density(every)).mean() == pytest.approx(1.0)


def test_a_continuous_density_integrates_to_one() -> None:
    space = SearchSpace({"a": Float(0, 1)})
    density = mixture(space, np.array([[0.0], [0.02], [0.7], [1.0]]))
    u = (np.arange(20_000) + 0.5) / 20_000
    assert np.exp(density.log_density(u[:, None])).mean() == pytest.approx(1.0, rel=1e-6)


def test_draws_follow_the_density() -> None:
    space = SearchSpace({"a": Float(0, 1), "b": Categorical(["x", "y", "z"]), "c": Int(0, 4)})
    X = space.snap(np.array([[0.1, 0.1, 0.1], [0.15, 0.5, 0.9], [0.8, 0.5, 0.9]]))
    density = mixture(space, X)
    n = 40_000
    drawn = space.snap(density.draw(np.random.default_rng(1), n))
    prior = space.sample(np.random.default_rng(2), n)
    weight = np.exp(density.log_density(prior))
    for column in range(3):
        for low, high in ((0.0, 0.2), (0.4, 0.6), (0.75, 1.0)):
            found = ((drawn[:, column] >= low) & (drawn[:, column] < high)).mean()
            inside = (prior[:, column] >= low) & (prior[:, column] < high)
            # Standard errors below 0.005 for either side; five of both together. Integer cells
            # are drawn by integral and weighed at their centre, which is worth another 0.02.
            assert found == pytest.approx((weight * inside).mean(), abs=0.05)


def test_an_inactive_column_says_nothing() -> None:
    space = small_space()
    X = space.snap(np.array([[0.9, 0.9, 0.1], [0.9, 0.9, 0.1], [0.1, 0.1, 0.5]]))
    density = mixture(space, X)
    without = space.snap(np.array([[0.1, 0.1, np.nan]]))
    assert np.isnan(without[0, 2])
    only = SearchSpace({n: space.parameters[n] for n in ("a", "b")})
    H = _bandwidths(space, X, 1.0)
    reduced = Mixture(only, X[:, :2], H[:, :2], np.arange(1.0, 4.0), 1.0)
    assert density.log_density(without) == pytest.approx(reduced.log_density(without[:, :2]))


@given(
    arrays(float, st.tuples(st.integers(1, 8), st.integers(1, 3)), elements=st.floats(0, 1)),
    st.integers(0, 3),
)
def test_bandwidths_are_distances_to_the_farther_neighbour(X: Array, missing: int) -> None:
    X = X.copy()
    X[:missing, 0] = np.nan
    H = neighbour_bandwidths(X)
    for j in range(X.shape[1]):
        x = X[:, j]
        present = np.sort(x[~np.isnan(x)])
        for i, value in enumerate(x):
            if math.isnan(value):
                continue
            lower = [v for v in present if v < value]
            upper = [v for v in present if v > value]
            if (present == value).sum() > 1:
                continue  # which of equal values gets which gap does not matter
            if len(present) == 1:
                expected = max(value, 1.0 - value)
            elif not lower:
                expected = upper[0] - value
            elif not upper:
                expected = value - lower[-1]
            else:
                expected = max(value - lower[-1], upper[0] - value)
            assert H[i, j] == pytest.approx(expected)


@given(st.lists(st.one_of(st.integers(0, 9).map(float), st.just(math.nan)), max_size=700))
@settings(max_examples=20, deadline=None)
def test_the_best_are_the_same_however_the_evidence_arrived(values: list[float]) -> None:
    y = np.array(values)
    slow, fast = Best(), Best()
    for k in range(len(y) + 1):
        slow.grow(y[:k])
    fast.grow(y)
    assert slow == fast
    expected = sorted((v, i) for i, v in enumerate(values) if not math.isnan(v))
    assert fast.best == expected[: MOST_GOOD + KEPT]


def test_the_archive_of_several_objectives_keeps_the_front() -> None:
    rng = np.random.default_rng(0)
    V = rng.random((3 * KEPT, 2))
    slow, fast = Archive(), Archive()
    for k in range(len(V) + 1):
        slow.grow(V[:k])
    fast.grow(V)
    assert slow == fast
    assert len(fast.kept) < 2 * KEPT
    assert set(np.flatnonzero(nondominated_rank(V, most=1) == 0)) <= set(fast.kept)


def test_good_results_weigh_what_they_improve_by() -> None:
    assert improvement(np.array([1.0, 3.0, 4.0]), 5.0) == pytest.approx(np.array([4, 2, 1]) * 3 / 7)
    assert improvement(np.array([2.0, 2.0]), 2.0).tolist() == [1.0, 1.0]
    huge = improvement(np.array([-1.7e308, 1.7e308]), 1.7e308)
    assert huge == pytest.approx([2.0, 1e-3])


def test_a_front_is_covered_by_more_good_results_than_one_objective_needs() -> None:
    assert [n_good(0.1, np.zeros((k, 1))) for k in (0, 1, 95, 1000)] == [0, 1, 10, 25]
    assert [n_good(0.1, np.zeros((k, 2))) for k in (0, 1, 95, 1000)] == [0, 1, 10, 50]


def test_the_newest_of_the_others_count_fully_and_older_ones_ever_less() -> None:
    assert _fading(24).tolist() == [1.0] * 24
    weights = _fading(100)
    assert weights[75:].tolist() == [1.0] * 25
    assert weights[:75] == pytest.approx(np.linspace(0.01, 1.0, 75))


def test_kernels_have_their_least_widths() -> None:
    """A quarter of a cell, where a column has cells; of unordered choices one pseudo-count is shared out."""
    space = SearchSpace({"n": Int(0, 3), "c": Categorical(list("abcd")), "x": Float(0.0, 1.0)})
    X = space.snap(np.tile([0.4, 0.4, 0.4], (199, 1)))
    assert _bandwidths(space, X, 1.0)[1] == pytest.approx([0.25 / 4, 1 / 51, 0.01])
    assert _bandwidths(space, X, 3.0)[1, 1] == pytest.approx(3 / 53)


def test_what_a_kernel_lacks_is_drawn_from_the_prior() -> None:
    """However narrow the kernel is in what it has."""
    space = SearchSpace({"a": Float(0.0, 1.0), "b": Float(0.0, 1.0)})
    X, H = np.array([[0.2, math.nan]]), np.full((1, 2), 0.01)
    drawn = Mixture(space, X, H, np.ones(1), 1e-9).draw(np.random.default_rng(0), 4000)
    assert np.abs(drawn[:, 0] - 0.2).max() < 0.1
    # Uniform: quarters hold 1000 each, with a deviation of 27; five of them.
    assert np.abs(np.histogram(drawn[:, 1], bins=4, range=(0.0, 1.0))[0] - 1000).max() < 140


def test_the_densities_see_a_bounded_number_of_results() -> None:
    loop = Loop(TPE(), SearchSpace({"x": Float(0, 1)}))
    for trial in range(1500):
        loop.start({"x": (trial * 0.618) % 1.0})
        loop.tell(trial, float((trial * 7) % 1000))
    loop.propose()
    numbers = [int(w) for w in loop.notes[-1].split() if w.isdigit()]
    assert numbers[0] == MOST_GOOD
    assert 0 < numbers[1] <= 2 * KEPT


def test_it_learns_a_conditional_space() -> None:
    space = SearchSpace(
        {
            "opt": Categorical(["sgd", "adam", "lamb"]),
            "lr": Float(1e-5, 1.0, log=True),
            "momentum": Float(0.0, 1.0).when("opt", "sgd"),
            "layers": Int(1, 8).when("opt", "adam"),
            "dropout": Float(0.0, 1.0).when("layers", ge=4),
        }
    )

    def objective(p: dict[str, Any]) -> float:
        loss = (math.log10(p["lr"]) + 2.0) ** 2 + {"sgd": 2.0, "adam": 0.0, "lamb": 3.0}[p["opt"]]
        loss += abs(p.get("layers", 8) - 6) + 3.0 * abs(p.get("dropout", 1.0) - 0.3)
        return float(loss)

    results = {}
    for sampler in (TPE(), Random()):
        best = []
        for seed in range(3):
            loop = Loop(sampler, space, seed=seed)
            loop.run(objective, 100)
            best.append(np.nanmin(loop.history.values))
        results[type(sampler).__name__] = float(np.mean(best))
    assert results["TPE"] < 0.5 * results["Random"]


def test_trials_in_flight_spread() -> None:
    loop = Loop(TPE(), SearchSpace({"x": Float(0, 1), "y": Float(0, 1)}), workers=16)
    loop.run(lambda p: (p["x"] - 0.4) ** 2 + (p["y"] - 0.6) ** 2, 40)
    start = loop.history.n_trials
    for _ in range(16):
        loop.ask()
    points = loop.history.X[start:]
    # Each counts among the bad ones, from which the next keeps away.
    others = [int(re.findall(r"(\d+) other", note)[0]) for note in loop.notes[-16:]]
    assert others == list(range(others[0], others[0] + 16))
    gaps = np.linalg.norm(points[:, None] - points[None], axis=2) + np.eye(16)
    assert gaps.min() > 1e-4
    assert np.ptp(points, axis=0).max() > 0.1


def test_a_region_that_fails_is_left() -> None:
    """Where everything above 0.5 fails, fewer than the prior's half go there."""
    loop = Loop(TPE(), SearchSpace({"x": Float(0, 1), "y": Float(0, 1)}))
    loop.run(lambda p: math.nan if p["x"] > 0.5 else p["y"], 80)
    assert (loop.history.X[30:, 0] > 0.5).mean() < 0.25


def test_several_objectives_spread_along_the_front() -> None:
    space = SearchSpace({f"x{i}": Float(0.0, 1.0) for i in range(4)})

    def zdt1(p: dict[str, Any]) -> list[float]:
        x = np.array(list(p.values()))
        g = 1.0 + 9.0 * x[1:].mean()
        return [float(x[0]), float(g * (1.0 - math.sqrt(x[0] / g)))]

    volumes = {}
    for sampler in (TPE(), Random()):
        loop = Loop(sampler, space, objectives=("f1", "f2"))
        loop.run(zdt1, 200)
        volumes[type(sampler).__name__] = hypervolume(loop.history.values, np.array([1.1, 6.0]))
    assert volumes["TPE"] > volumes["Random"] + 0.4


def test_stopped_trials_count_by_their_rank_at_their_step() -> None:
    """All are stopped at step 1 but the best two in eight; the model still finds the valley."""
    loop = Loop(TPE(), SearchSpace({"x": Float(0, 1), "y": Float(0, 1)}))
    for trial in range(64):
        params = loop.ask()
        assert params is not None
        value = (params["x"] - 0.2) ** 2 + (params["y"] - 0.8) ** 2
        loop.report(trial, 1, 100.0 + value)
        if value < 0.05:
            loop.report(trial, 3, value)
            loop.tell(trial, value)
        else:
            loop.tell(trial, 100.0 + value, state=TrialState.PRUNED)
    late = loop.history.X[44:]
    assert np.median(np.abs(late - [0.2, 0.8]), axis=0).max() < 0.2
    assert "at step" in loop.notes[-1]


def test_options_are_checked() -> None:
    with pytest.raises(StrategyError, match="startup must be a whole number of at least 1, got 0"):
        TPE(startup=0)
    with pytest.raises(StrategyError, match="good must be a fraction"):
        TPE(good=1.0)
    with pytest.raises(StrategyError, match="prior must be positive"):
        TPE(prior=0.0)


@pytest.mark.parametrize(
    ("space", "loss"),
    [
        (
            SearchSpace({"a": Float(0, 1), "b": Float(0, 1)}, "abs(a + b - 1) <= 0.001"),
            lambda p: abs(p["a"] - 0.13) / 2,
        ),
        (
            SearchSpace({n: Categorical(list("abcdefgh")) for n in "pqrst"}, "p == q and r == s"),
            lambda p: sum(p[n] != "d" for n in "pqrst"),
        ),
    ],
    ids=["numbers", "categories"],
)
def test_under_tight_constraints_it_is_the_model_that_proposes(space: SearchSpace, loss: Any) -> None:
    """No candidate met them, and nine proposals of ten were random search under the name of TPE."""
    told = []
    for seed in range(4):
        loop = Loop(TPE(), space, seed=seed)
        loop.run(loss, 40)
        assert not [note for note in loop.notes if "prior" in note]
        told.append(loop.history.evidence.values[-10:, 0])
    assert np.median(told) < {2: 0.05, 5: 3}[space.dims]
