"""The numerics of the Gaussian process: gradients, growth by rows, acquisition functions, warps."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hpo_core._gp._acquire import ei, log_ei, log_h, log_pi, lower_bound
from hpo_core._gp._branch import neglected
from hpo_core._gp._climb import _spread, ascend, layout, pool
from hpo_core._gp._data import Data
from hpo_core._gp._ehvi import log_ehvi, reference
from hpo_core._gp._embed import Embedding, make_embedding
from hpo_core._gp._fit import Evidence, Hyperparameters, Priors, fit, hyperparameters
from hpo_core._gp._kernel import kernel
from hpo_core._gp._outcomes import warp
from hpo_core._gp._posterior import condition, factorise, imagine
from hpo_core._gp._region import LARGEST, SMALLEST, START, SUCCESSES, Region, box
from hpo_core._gp._score import Score, kept, no_failure, single
from hpo_core._gp._several import chebyshev, draw_weights, scalarise
from hpo_core._gp._state import refit
from hpo_core._gp._surrogate import GAP, Kinds, choose_rows, fit_models, last_refit, on_plateau
from hpo_core._pareto import hypervolume
from hpo_core._space import Categorical, Float, SearchSpace
from hpo_core.samplers import Random
from tests.hpo_core.sampler_loop import Loop, mixed_space, small_space

Array = NDArray[np.float64]
KERNELS = ("matern", "gauss")


def slope(function: object, x: Array, step: float = 1e-6) -> Array:
    """Central differences of a scalar function of a vector."""
    result = np.empty_like(x)
    for i in range(len(x)):
        up, down = x.copy(), x.copy()
        up[i] += step
        down[i] -= step
        result[i] = (function(up) - function(down)) / (2.0 * step)  # type: ignore[operator]
    return result


def draw(space: SearchSpace, n: int, seed: int = 0) -> tuple[Embedding, Array, Array]:
    rng = np.random.default_rng(seed)
    unit = space.sample(rng, n)
    return make_embedding(space), unit, rng.standard_normal(n)


def some_hyper(embedding: Embedding, name: str, noise: float = 1e-3) -> Hyperparameters:
    rng = np.random.default_rng(5)
    theta = np.append(rng.uniform(-1.0, 0.5, embedding.n_scales), np.log(noise))
    return hyperparameters(name, embedding, theta, 0.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", KERNELS)
def test_kernel_derivative(name: str) -> None:
    r2 = np.array([1e-3, 0.1, 1.0, 7.0])
    value, by_r2 = kernel(name, r2)  # type: ignore[arg-type]
    assert kernel(name, np.zeros(1))[0] == 1.0  # type: ignore[arg-type]
    ahead, behind = kernel(name, r2 + 1e-6)[0], kernel(name, r2 - 1e-6)[0]  # type: ignore[arg-type]
    assert np.allclose((ahead - behind) / 2e-6, by_r2, rtol=1e-5)
    assert (value > 0.0).all()


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("weight", [np.inf, 20.0, 0.5])
def test_evidence_gradient(name: str, weight: float) -> None:
    embedding, unit, y = draw(mixed_space(), 25)
    evidence = Evidence(name, embedding, embedding(unit), y, Priors(weight=weight))  # type: ignore[arg-type]
    theta = some_hyper(embedding, name, 1e-2).theta
    expected = slope(lambda t: evidence(t)[0], theta)
    assert np.allclose(evidence(theta)[1], expected, rtol=1e-4, atol=1e-5)


def test_evidence_is_the_multivariate_normal_density() -> None:
    from scipy.stats import multivariate_normal

    embedding, unit, y = draw(small_space(), 9)
    priors = Priors(weight=np.inf)
    points = embedding(unit)
    found = []
    for noise in (0.1, 0.3):
        hyper = some_hyper(embedding, "matern", noise)
        factor = factorise(hyper, points)
        matrix = factor.correlation(points, points)[0] + noise * np.eye(len(y))
        ones = np.linalg.solve(matrix, np.ones(len(y)))
        mean = ones @ y / ones.sum()
        density = multivariate_normal(np.full(len(y), mean), matrix).logpdf(y)
        scaled = (np.log(noise) - priors.noise_loc) / priors.noise_width
        found.append(
            Evidence("matern", embedding, points, y, priors)(hyper.theta)[0] + density - 0.5 * scaled**2
        )
    assert found[0] == pytest.approx(found[1])  # they differ by a constant only: prior of the scales, 2 pi


@pytest.mark.parametrize("name", KERNELS)
def test_growing_by_rows_equals_factorising_anew(name: str) -> None:
    embedding, unit, y = draw(mixed_space(), 40)
    points, hyper = embedding(unit), some_hyper(embedding, name, 1e-4)
    grown = factorise(hyper, points.take(slice(0, 10)))
    for i in range(10, 30):
        grown = grown.extend(points.take(slice(i, i + 1)), hyper.noise)
    grown = grown.extend(points.take(slice(30, 40)), hyper.noise)
    anew = factorise(hyper, points)
    assert np.allclose(grown.inverse, anew.inverse, rtol=1e-6, atol=1e-7)
    query = embedding(draw(mixed_space(), 15, seed=1)[1])
    for a, b in zip(
        condition(grown, y, 20.0).predict(query), condition(anew, y, 20.0).predict(query), strict=True
    ):
        assert np.allclose(a, b, rtol=1e-6, atol=1e-8)


def test_posterior_is_the_textbook_one() -> None:
    embedding, unit, y = draw(mixed_space(), 20)
    points, hyper = embedding(unit), some_hyper(embedding, "matern", 1e-2)
    factor = factorise(hyper, points)
    query = embedding(draw(mixed_space(), 6, seed=1)[1])
    posterior = condition(factor, y, np.inf)
    k = factor.correlation(points, points)[0]
    cross = factor.correlation(query, points)[0]
    solve = np.linalg.solve(k + hyper.noise * np.eye(20), cross.T)
    mean, sd = posterior.predict(query)
    assert np.allclose(mean[:, 0], posterior.mean + solve.T @ (y - posterior.mean))
    assert np.allclose(sd**2, 1.0 - np.einsum("ij,ji->i", cross, solve))


def test_duplicated_and_noiseless_rows_do_not_break_the_factor() -> None:
    embedding, unit, y = draw(small_space(), 5)
    points = embedding(np.repeat(unit, 12, axis=0))
    hyper = some_hyper(embedding, "gauss", 1e-8)
    factor = factorise(hyper, points.take(slice(0, 5)))
    for i in range(5, 60):
        factor = factor.extend(points.take(slice(i, i + 1)), hyper.noise)
    mean, sd = condition(factor, np.repeat(y, 12), 20.0).predict(points)
    assert np.isfinite(mean).all()
    assert np.isfinite(sd).all()


def test_inactive_parameters_are_equal_to_each_other_and_unlike_active_ones() -> None:
    embedding = make_embedding(small_space())
    unit = small_space().snap(np.array([[0.1, 0.2, 0.9], [0.1, 0.2, 0.1], [0.7, 0.9, 0.5]]))
    points = embedding(unit)
    hyper = some_hyper(embedding, "matern")
    k = factorise(hyper, points).correlation(points, points)[0]
    assert k[0, 1] == pytest.approx(1.0)
    other = small_space().snap(np.array([[0.7, 0.2, 0.5]]))  # differs in b, whose child c it thereby loses
    only_b = hyper.nominal_weight[0]
    r2 = kernel("matern", np.array([only_b]))[0][0]
    assert factorise(hyper, points).correlation(embedding(other), points)[0][0, 2] < r2


def test_imagined_futures_have_the_posterior_mean_and_no_variance_where_imagined() -> None:
    embedding, unit, y = draw(mixed_space(), 20)
    points, hyper = embedding(unit), some_hyper(embedding, "matern", 1e-2)
    posterior = condition(factorise(hyper, points), y, 20.0)
    ahead = embedding(draw(mixed_space(), 4, seed=3)[1])
    future, sampled = imagine(posterior, ahead, np.random.default_rng(0), 8)
    mean, sd = future.predict(ahead)
    assert np.allclose(mean, sampled, atol=1e-4)
    assert (sd < 2e-3).all()
    assert np.allclose(sampled.mean(axis=1), posterior.predict(ahead)[0][:, 0])
    many = imagine(posterior, ahead, np.random.default_rng(0), 20_000)[1]
    # Standard error of a variance from 10,000 independent pairs is 1.4 %; five of them never fail.
    assert np.allclose(many.std(axis=1), posterior.predict(ahead)[1], rtol=0.07)


# Made with 60 digits: z, log(phi(z) + z Phi(z)), Phi(z) / (phi(z) + z Phi(z)).
EXACT = [
    (-1000000.0, -500000000028.55, 1000000.000002),
    (-1000.0, -500014.73445209116, 1000.001999994),
    (-60.0, -1809.1084601822722, 60.03330560942051),
    (-31.0, -488.2900233978372, 31.06431617810096),
    (-29.0, -428.1570826442731, 29.068721528704252),
    (-10.0, -55.55312203612235, 10.194383033412553),
    (-5.0, -16.74430116266099, 5.361816241288088),
    (-1.5, -3.52993592080571, 2.2795806941564463),
    (-1.0, -2.4851210257126413, 1.9042712333296918),
    (-0.5, -1.6205162643873199, 1.5598731483480797),
    (0.0, -0.9189385332046728, 1.2533141373155003),
    (1.0, 0.08002621884930694, 0.7766387252017393),
    (5.0, 1.6094379231264313, 0.19999994053122006),
    (40.0, 3.6888794541139363, 0.025),
]


@pytest.mark.parametrize(("z", "value", "by_z"), EXACT)
def test_log_h_is_exact_in_the_tails(z: float, value: float, by_z: float) -> None:
    found, found_slope = log_h(np.array([z]))
    assert found[0] == pytest.approx(value, rel=1e-12, abs=1e-13)
    assert found_slope[0] == pytest.approx(by_z, rel=1e-7)


@pytest.mark.parametrize("futures", [1, 3])
@pytest.mark.parametrize("name", ["log_ei", "ei", "log_pi", "ucb"])
def test_acquisition_derivatives(name: str, futures: int) -> None:
    rng = np.random.default_rng(0)
    mean, sd = rng.standard_normal((4, futures)), rng.uniform(0.01, 2.0, 4)
    best = rng.standard_normal(futures)
    plain = {"log_ei": log_ei, "ei": ei, "log_pi": log_pi}

    def value(x: Array) -> tuple[Array, Array, Array]:
        m, s = x[: mean.size].reshape(mean.shape), x[mean.size :]
        return lower_bound(m, s, 1.5) if name == "ucb" else plain[name](m, s, best)

    x = np.concatenate([mean.ravel(), sd])
    for row in range(4):
        expected = slope(lambda t, row=row: value(t)[0][row], x)
        _, by_mean, by_sd = value(x)
        found = np.zeros_like(x)
        found[: mean.size].reshape(mean.shape)[row] = by_mean[row]
        found[mean.size + row] = by_sd[row]
        assert np.allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_log_ei_is_the_expectation() -> None:
    draws = np.random.default_rng(0).standard_normal(400_000)
    value = log_ei(np.array([[0.3]]), np.array([0.7]), np.array([0.1]))[0][0]
    # Relative standard error of the mean is 0.3 %; the tolerance is six of them.
    assert np.exp(value) == pytest.approx(np.maximum(0.1 - 0.3 - 0.7 * draws, 0.0).mean(), rel=0.02)


@pytest.mark.parametrize("case", ["one", "futures", "failure", "several", "front"])
def test_score_gradient(case: str) -> None:
    space = mixed_space()
    embedding, unit, y = draw(space, 20)
    points = embedding(unit)
    factor = factorise(some_hyper(embedding, "matern", 1e-2), points)
    posterior = condition(factor, y, 20.0)
    rng = np.random.default_rng(2)
    if case == "futures":
        posterior, _ = imagine(posterior, points.take(slice(0, 3)), rng, 4)
    best = np.full(posterior.alpha.shape[1], y.min())
    terms = [single(posterior, lambda mean, sd: log_ei(mean, sd, best))]
    if case == "failure":
        terms += [no_failure(posterior, 0.2), kept(posterior, 0.3)]
    if case == "several":
        other = condition(factor, -y, 20.0)
        weights, ideal = draw_weights(np.stack([y, -y], axis=1), rng)
        draws = rng.standard_normal((6, 2))
        terms = [chebyshev((posterior, other), weights, ideal, np.array([0.2]), draws)]
    if case == "front":
        front = np.array([[-1.0, 0.5], [-0.5, 0.0], [0.1, -0.7]])
        terms = [log_ehvi((posterior, condition(factor, -y, 20.0)), front, reference(front))]
    score = Score(embedding, terms)
    smooth = np.flatnonzero(np.asarray(space.kinds) == 0)
    for u in space.sample(np.random.default_rng(9), 5):
        value, gradient = score.slopes(u[None, :])
        assert value == pytest.approx(score.values(u[None, :]))
        for j in smooth[~np.isnan(u[smooth])]:
            column = np.array([u[j]])

            def at(x: Array, u: Array = u, j: int = j) -> float:
                moved = u.copy()
                moved[j] = x[0]
                return float(score.values(moved[None, :])[0])

            assert gradient[0, j] == pytest.approx(slope(at, column)[0], rel=1e-3, abs=1e-5)
        inactive = np.isnan(u)
        assert (gradient[0, inactive] == 0.0).all()


def test_expected_hypervolume_improvement_is_the_expectation() -> None:
    front = np.array([[0.5, 0.4], [0.2, 0.9], [0.8, 0.1]])
    r = reference(front)
    mean, sd = np.array([0.3, 0.5]), np.array([0.2, 0.3])
    value, _, _ = log_ehvi((), front, r).function([mean[:1, None], mean[1:, None]], [sd[:1], sd[1:]])
    base = hypervolume(front, r)
    draws = mean + sd * np.random.default_rng(0).standard_normal((4000, 2))
    gains = [hypervolume(np.vstack([front, f]), r) - base for f in draws]
    # The standard error of the mean gain is about 1.3 %; five of them.
    assert np.exp(value[0]) == pytest.approx(np.mean(gains), rel=0.07)


def test_chebyshev_value_orders_by_domination() -> None:
    values = np.random.default_rng(0).random((50, 3))
    weights, ideal = draw_weights(values, np.random.default_rng(1))
    better = values - 0.01
    assert (scalarise(better, weights, ideal) < scalarise(values, weights, ideal)).all()


@pytest.mark.parametrize("name", ["fence", "half", "log"])
@given(
    y=st.lists(
        st.floats(-1e308, 1e308, allow_nan=False) | st.sampled_from([0.0, 1.0, 1e300]),
        min_size=1,
        max_size=30,
    )
)
@example(y=[0.0, 1.0, 1.7976931348623153e307])  # the median is denormal once the values are scaled
@example(y=[0.0, 1.0, 1e307])
@settings(max_examples=30)
def test_warps_keep_the_order_and_stay_finite(name: str, y: list[float]) -> None:
    values = np.array(y)
    outcome = warp(values, name)  # type: ignore[arg-type]
    assert np.isfinite(outcome.z).all()
    assert np.isfinite(outcome.log_slope)
    order = np.argsort(values, kind="stable")
    assert (np.diff(outcome.z[order]) >= -1e-9).all()
    assert abs(outcome.z.mean()) < 1e-6


def test_warp_slopes_are_jacobians_up_to_a_shared_constant() -> None:
    y = np.linspace(0.0, 1.0, 4001) ** 2 * 50.0  # dense, so that differences are derivatives
    found, expected = [], []
    for name in ("fence", "half", "log"):
        outcome = warp(y, name)
        rates = np.diff(outcome.z) / np.diff(y)
        found.append(outcome.log_slope)
        expected.append(np.log(rates).sum())
    assert np.allclose(np.diff(found), np.diff(expected), rtol=0.01)


def test_refit_schedule_is_monotone_and_its_gaps_bounded() -> None:
    lengths = [last_refit(k) for k in range(1, 3000)]
    assert all(s <= k for k, s in enumerate(lengths, start=1))
    assert all(a <= b for a, b in itertools.pairwise(lengths))
    assert max(k - s for k, s in enumerate(lengths, start=1)) < GAP
    assert all(last_refit(s) == s for s in set(lengths))
    assert 100_000 - last_refit(100_000) < GAP


def test_rows_beyond_the_cap_are_the_best_the_newest_and_a_spread() -> None:
    rng = np.random.default_rng(0)
    order, usable = rng.random(1000), rng.random(1000) < 0.9
    order[~usable] = np.inf
    rows = choose_rows(order, usable, 980, 100)
    assert usable[rows].all()
    assert len(np.unique(rows)) == len(rows)
    assert (rows < 980).sum() == 100
    assert set(980 + np.flatnonzero(usable[980:])) <= set(rows)
    assert set(np.argsort(order[:980])[:30]) <= set(rows)
    assert np.array_equal(choose_rows(order, usable, 40, 100), np.flatnonzero(usable))


@pytest.mark.parametrize(
    ("unit", "values", "said"),
    [
        ([[0.2, 0.25], [0.7, 0.25], [0.9, 0.25]], [1.0, 1.0, 2.0], True),
        ([[0.2, 0.25], [0.7, 0.25], [0.9, 0.25]], [-1e308, -1e308, 1e308], True),
        ([[0.2, 0.25], [0.2, 0.75], [0.9, 0.25]], [1.0, 1.0, 2.0], True),  # two categories
        ([[0.2, 0.25], [0.2, 0.25], [0.9, 0.25]], [1.0, 1.0, 2.0], False),  # reported twice
        ([[0.2, 0.25], [0.7, 0.25], [0.9, 0.25]], [1.0, 1.0 + 1e-9, 2.0], False),
        ([[0.2, 0.25], [0.7, 0.25], [0.9, 0.25]], [1.0, 2.0, 2.0], False),
        ([[0.2, 0.25]], [1.0], False),
    ],
)
def test_where_two_places_share_the_best_value_there_is_no_logarithm_of_the_regret(
    unit: list[list[float]], values: list[float], said: bool
) -> None:
    space = SearchSpace({"x": Float(0.0, 1.0), "c": Categorical(["a", "b"])})
    embedding = make_embedding(space)
    points, y = embedding(np.array(unit)), np.array(values)
    assert on_plateau(points, y) is said
    kinds: Kinds = (("matern", "half"), ("matern", "log"), ("matern", "fence"))
    names = [model.warp for model in fit_models(kinds, embedding, points, y, Priors())]
    assert names == (["half", "fence"] if said else ["half", "log", "fence"])


def test_fit_finds_the_relevant_parameter_and_the_noise() -> None:
    space = SearchSpace({k: p for k, p in mixed_space().parameters.items() if k in ("lr", "units", "opt")})
    rng = np.random.default_rng(0)
    unit = space.sample(rng, 80)
    y = np.sin(6.0 * unit[:, 0]) + 0.1 * rng.standard_normal(80)
    z = (y - y.mean()) / y.std()
    embedding = make_embedding(space)
    hyper = fit("matern", embedding, embedding(unit), z, Priors())
    scales = np.exp(hyper.theta[:-1])
    assert scales[0] < 0.3 * scales[1]
    assert scales[0] < 0.3 * scales[2]
    assert 0.003 < hyper.noise < 0.1


def grow(region: Region, values: Array, patience: int) -> None:
    region.grow(values, np.ones(len(values), dtype=bool), patience)


def test_region_does_not_depend_on_how_results_were_dealt_out() -> None:
    values = np.random.default_rng(0).standard_normal(300)
    values[::7] = np.nan
    whole, parts = Region(), Region()
    grow(whole, values, 5)
    for k in range(0, 301, 3):
        grow(parts, values[:k], 5)
    assert whole == parts


def test_region_grows_with_success_shrinks_with_failure_and_starts_again() -> None:
    region = Region()
    falling = -np.arange(1.0, SUCCESSES + 2.0)
    grow(region, falling, 4)
    assert region.length == min(2.0 * START, LARGEST)
    flat = np.concatenate([falling, np.zeros(4)])
    grow(region, flat, 4)
    assert region.length == START
    grow(region, np.concatenate([flat, np.zeros(4 * 7)]), 4)
    assert region.first > len(flat)
    assert region.length == START
    assert START * 0.5**6 > SMALLEST > START * 0.5**7


def test_results_from_elsewhere_neither_widen_nor_shrink_a_region() -> None:
    """They were looked for in no region; one begins with them all the same, and improves on them."""
    region = Region()
    elsewhere = np.random.default_rng(0).standard_normal(300)
    values = np.concatenate([elsewhere, [np.nan], elsewhere.min() - np.arange(1.0, SUCCESSES + 1.0)])
    own = np.arange(len(values)) > 300
    region.grow(values[:300], own[:300], 4)
    assert region == Region(rows=300, best=elsewhere.min(), worst=elsewhere.max())
    region.grow(values, own, 4)
    assert (region.first, region.length) == (0, min(2.0 * START, LARGEST))


def test_a_region_has_a_largest_side_and_takes_no_notice_of_gains_that_are_none() -> None:
    """A thousandth of what has been gained so far is the least that counts."""
    region = Region()
    grow(region, -np.arange(1.0, 3 * SUCCESSES + 2.0), 4)
    assert region.length == LARGEST
    gained = np.array([1000.0, 500.0, 0.0])
    region = Region()
    grow(region, np.concatenate([gained, -np.arange(0.5, 4.5, 0.5)]), 8)
    assert (region.good, region.bad) == (0, 8 % 8)
    assert region.length == START / 2


def test_region_is_a_box_around_its_centre_inside_the_cube() -> None:
    centre = np.array([0.5, 0.05, np.nan])
    low, high = box(centre, 0.2, np.array([1.0, 1.0, 4.0]))
    assert (low >= 0.0).all()
    assert (high <= 1.0).all()
    assert low[0] < 0.5 < high[0]
    assert low[1] == 0.0
    assert high[2] - low[2] > high[0] - low[0]


def test_rows_of_several_objectives_are_ordered_by_their_mean_rank() -> None:
    """Values may span anything; a trial without all of them comes last."""
    y = np.array([[0.0, 0.0], [1.0, 1e9], [1e9, 1.0], [2.0, np.nan], [2.0, 2.0]])
    usable = np.isfinite(y).all(axis=1)
    data = Data(np.zeros((5, 1)), y, usable, np.empty((0, 1)), 0, np.empty((5, 0)))
    assert data.order.tolist() == [0.0, 2.0, 2.0, np.inf, 2.0]
    skewed = np.array([[0.0, 3.0], [1.0, 0.0], [2.0, 1.0], [3.0, 2.0]])
    data = Data(np.zeros((4, 1)), skewed, np.ones(4, dtype=bool), np.empty((0, 1)), 0, np.empty((4, 0)))
    assert data.order.tolist() == [1.5, 0.5, 1.5, 2.5]


def test_looks_into_branches_take_turns_among_the_columns_that_decide() -> None:
    """Each at the value that the fewest trials have."""
    space = SearchSpace(
        {
            "a": Categorical(["p", "q"]),
            "of_a": Float(0.0, 1.0).when("a", "p"),
            "b": Categorical(["r", "s", "t"]),
            "of_b": Float(0.0, 1.0).when("b", "r"),
        }
    )
    loop = Loop(Random(), space)
    looked = {}
    for number in range(64):
        if (branch := neglected(loop.history, layout(space))) is not None:
            column, value = branch
            name = space.column_names[column]
            looked[number] = name, space.parameters[name].decode(value)
        loop.start({"a": "q", "b": "rs"[number % 2], **({"of_b": 0.5} if number % 2 == 0 else {})})
    assert looked == {47: ("b", "t"), 55: ("a", "p"), 63: ("b", "t")}


def test_choices_that_hardly_any_trial_has_take_turns_from_the_first_model_on() -> None:
    """Those of columns with few of them; one that cannot be had is not in the way of the others."""
    space = SearchSpace(
        {
            "a": Categorical(["p", "q", "r"]),
            "x": Float(0.0, 1.0),
            "many": Categorical([f"v{i}" for i in range(17)]),
            "b": Categorical(["s", "t"]),
        }
    )
    loop, looked = Loop(Random(), space), {}
    for number in range(40):
        if (branch := neglected(loop.history, layout(space))) is not None:
            name = space.column_names[branch.column]
            looked[number] = name, space.parameters[name].decode(branch.value)
        loop.start({"a": "r" if 19 <= number <= 21 else "p", "x": 0.5, "many": "v0", "b": "s"})
    assert looked == {7: ("a", "q"), 15: ("a", "r"), 23: ("a", "q"), 31: ("b", "t"), 39: ("a", "q")}


class Ridge:
    """A function of one column with a kink at 0.3, at which every step overshoots."""

    def values(self, unit: np.ndarray) -> np.ndarray:
        return -np.sqrt(np.abs(unit[:, 0] - 0.3))

    def slopes(self, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        gap = unit - 0.3
        return self.values(unit), -np.sign(gap) * 0.5 / np.sqrt(np.maximum(np.abs(gap), 1e-12))


def test_the_climb_never_ends_below_where_it_began() -> None:
    start = np.array([[0.0], [0.29], [0.3001], [0.31], [0.9]])
    box = np.zeros(1), np.ones(1)
    for steps in range(1, 12):
        end = ascend(Ridge(), start, np.ones_like(start, dtype=bool), box, steps)
        assert (Ridge().values(end) >= Ridge().values(start)).all()
    assert np.abs(end - 0.3).max() < 0.05


def test_the_climb_begins_at_different_places() -> None:
    """Ten copies of the best one would all climb the same hill; what is inactive in one is a difference."""
    points = np.array([[0.5, 0.5], [0.51, 0.5], [0.5, np.nan], [0.6, 0.5], [0.9, 0.9]])
    assert _spread(points, 3).tolist()[::2] == [[0.5, 0.5], [0.6, 0.5]]
    assert len(_spread(points, 9)) == 4


def test_beyond_the_cap_the_model_of_failures_sees_the_failures_first() -> None:
    """However old they are; of the successes only some are left."""
    space = SearchSpace({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})
    X = space.sample(np.random.default_rng(0), 80)
    failed = np.zeros(80, dtype=bool)
    failed[5:15] = True
    y = np.where(failed, np.nan, X[:, 0])[:, None]
    data = Data(X, y, ~failed, np.empty((0, 2)), 0, np.empty((len(X), 0)))
    state = refit(space, data, 80, (("matern", "fence"),), Priors(), 24)
    assert set(np.flatnonzero(failed)) <= set(state.failure_rows.tolist())
    assert len(state.failure_rows) == len(state.rows) == 24
    assert not failed[state.rows].any()


def test_candidates_keep_to_the_box() -> None:
    """Those drawn everywhere and those around the best, in the smooth columns; choices may be any."""
    space = SearchSpace({"x": Float(0.0, 1.0), "c": Categorical(list("abc")), "y": Float(0.0, 1.0)})
    rng = np.random.default_rng(0)
    low, high = np.array([0.2, 0.0, 0.6]), np.array([0.3, 1.0, 0.9])
    anchors = np.array([[0.25, 0.5, 0.7], [0.3, 0.5, 0.6]])
    found = pool(space, layout(space), anchors, rng, (100, 100), (low, high))
    assert len(found) == 200
    assert ((found >= low - 1e-12) & (found <= high + 1e-12)).all()
    assert len(np.unique(found[:, 1])) == 3


def test_an_objective_without_extent_in_the_front_still_has_a_weight() -> None:
    front = np.array([[0.0, 2.0, 5.0], [1.0, 0.0, 5.0]])
    weights, ideal = draw_weights(front, np.random.default_rng(0))
    assert np.isfinite(weights).all()
    assert (weights > 0).all()
    assert ideal.tolist() == [0.0, 0.0, 5.0]
    assert weights @ [1.0, 2.0, 1.0] == pytest.approx(1.0)
