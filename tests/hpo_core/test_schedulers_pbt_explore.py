"""How a member of a population explores: perturbation, resampling, and the model of PB2."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo_core import (
    Categorical,
    Float,
    Int,
    LogNormal,
    Normal,
    Parameter,
    SearchSpace,
)
from hpo_core.schedulers._explore import _moved, mutable_columns, perturbed, resampled
from hpo_core.schedulers._pbt import _level
from hpo_core.schedulers._pbt_bandit import Intervals, _kernel, best_by_bound

MIXED = SearchSpace(
    {
        "rate": Float(1e-5, 1e-1, log=True),
        "ratio": Float(-1.0, 1.0),
        "grid": Float(0.0, 1.0, step=0.25),
        "layers": Int(1, 64),
        "units": Int(1, 4096, log=True),
        "size": Categorical(["s", "m", "l"], ordered=True),
        "opt": Categorical(["sgd", "adam"]),
        "momentum": Float(0.0, 0.99).when("opt", "sgd"),
        "warm": Int(1, 9).when("opt", "sgd"),
        "decay": LogNormal(-5.0, 1.0),
        "shift": Normal(0.0, 1.0),
    },
    constraints=["ratio <= 0.9"],
)


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6))
def test_perturbation_stays_in_the_space_and_moves(seed: int) -> None:
    """Canonical and allowed; parameters that may not change are left alone."""
    rng = np.random.default_rng(seed)
    u = MIXED.sample(rng, 1)[0]
    every = mutable_columns(MIXED, None).tolist()
    new = perturbed(MIXED, u, every, rng)
    assert np.array_equal(MIXED.snap(new[None])[0], new, equal_nan=True)
    assert MIXED.allowed(new[None])[0]
    params = MIXED.decode(u)
    assert not np.array_equal(new, u, equal_nan=True)
    assert not len(mutable_columns(MIXED, []))
    fixed = perturbed(MIXED, u, mutable_columns(MIXED, ["rate"]).tolist(), rng)
    kept = [n for n in MIXED.decode(fixed) if n != "rate"]
    assert all(MIXED.decode(fixed)[n] == params[n] for n in kept)


def test_perturbation_by_the_papers_factors() -> None:
    """Three in four are moved by 0.8 or 1.2, half of them each; every discrete value can leave its cell."""
    space = SearchSpace({"a": Float(1e-6, 1e6, log=True), "n": Int(1, 9), "s": Float(0.0, 1.0, step=0.25)})
    rng = np.random.default_rng(0)
    u = space.encode({"a": 1.0, "n": 2, "s": 0.5})
    draws = [space.decode(perturbed(space, u, [0, 1, 2], rng)) for _ in range(400)]
    factors = np.array([d["a"] for d in draws])
    up, down = np.isclose(factors, 1.2).mean(), np.isclose(factors, 0.8).mean()
    # Binomial(400, 3/8), five standard deviations: 0.12.
    assert abs(up - 0.375) < 0.12
    assert abs(down - 0.375) < 0.12
    assert {1, 3} <= {d["n"] for d in draws}
    assert {0.25, 0.75} <= {d["s"] for d in draws}


@pytest.mark.parametrize(
    ("parameter", "value", "down", "up"),
    [
        (Float(-10.0, -1.0), -5.0, -6.0, -4.0),  # up is towards zero
        (Float(-1.0, 1.0), 0.0, -0.2, 0.2),  # a zero has no fifth
        (Float(0.0, 1.0), 0.9, 0.72, 1.0),  # at the edge it stays
        (Int(0, 100), 10, 8, 12),
        (Int(1, 1000, log=True), 2, 1, 3),  # a fifth is less than a step
        (Int(0, 100, step=10), 20, 10, 30),
        (Int(0, 10**12, step=10), 20, 10, 30),
        (Int(0, 100), 7, 6, 8),  # the nearest
        (Float(0.0, 1.0, step=0.1), 0.2, 0.1, 0.3),
        (Float(0.0, 1.0), 0.0, 0.0, 0.1),
        (Categorical(list("abcd"), ordered=True), "b", "a", "c"),
        (Categorical(list("abcd"), ordered=True), "a", "a", "b"),
        (Categorical(list("abcd")), "b", "b", "b"),  # which of the others is up?
    ],
)
def test_a_perturbation_of_each_kind(parameter: Parameter, value: Any, down: Any, up: Any) -> None:
    moved = [parameter.decode(_moved(parameter, parameter.encode(value), way)) for way in (False, True)]
    assert moved == ([down, up] if isinstance(value, str) else pytest.approx([down, up]))


def test_what_a_perturbation_makes_active_is_drawn() -> None:
    """Once the branch changes; its parameter began at the middle of its range each time."""
    kinds = Categorical(["with", "without"])
    space = SearchSpace({"kind": kinds, "rate": Float(0.0, 1.0).when("kind", "with")})
    u = space.encode({"kind": "without"})
    rng = np.random.default_rng(0)
    draws = [space.decode(perturbed(space, u, [0, 1], rng)) for _ in range(400)]
    rates = np.array([d["rate"] for d in draws if d["kind"] == "with"])
    # A quarter is drawn anew, half of that with the other kind: 50, and never less than 20.
    assert len(rates) > 20
    assert rates.min() < 0.2
    assert rates.max() > 0.8
    assert all("rate" not in d for d in draws if d["kind"] == "without")


def test_constraints_that_leave_nothing_keep_the_old_configuration() -> None:
    """Rather the source's own configuration than a forbidden one."""
    space = SearchSpace({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)}, constraints=["x == 0.5"])
    u = space.encode({"x": 0.5, "y": 0.5})
    rng = np.random.default_rng(0)
    assert np.array_equal(perturbed(space, u, [0], rng), u)
    assert np.array_equal(resampled(space, u, [0], rng, 3), np.tile(u, (3, 1)))
    assert not np.array_equal(resampled(space, u, [1], rng)[0], u)
    half = SearchSpace({"x": Float(0.0, 1.0)}, constraints=["x <= 0.5"])
    point = half.encode({"x": 0.25})
    draws = [resampled(half, point, [0], rng)[0] for _ in range(20)]
    assert not any(np.array_equal(draw, point) for draw in draws), "there was more than one try"


def test_the_model_prefers_what_has_improved_most() -> None:
    """Gains peak at u = 0.8: after twenty intervals the model's choice lies near, unless others try
    just that.
    """
    rng = np.random.default_rng(0)
    u = rng.random((40, 1))
    gain = np.exp(-(((u[:, 0] - 0.8) / 0.2) ** 2)) + 0.02 * rng.standard_normal(40)
    seen = Intervals(np.repeat(np.arange(8.0), 5), np.full(40, 0.5), u, gain)
    candidates = np.linspace(0.0, 1.0, 101)[:, None]
    chosen, expected = best_by_bound(seen, np.empty((0, 1)), candidates, 8.0, 0.5)
    assert abs(candidates[chosen, 0] - 0.8) < 0.15
    assert expected == pytest.approx(1.0, abs=0.3)


def test_the_model_takes_gains_that_are_all_alike() -> None:
    seen = Intervals(np.zeros(9), np.full(9, 0.5), np.linspace(0.0, 1.0, 9)[:, None], np.full(9, 0.25))
    _, expected = best_by_bound(seen, np.empty((0, 1)), seen.u, 1.0, 0.5)
    assert expected == pytest.approx(0.25)


def test_what_the_model_knows_fades_with_time() -> None:
    """By (1 - omega)^(dt / 2), PB2's equation 4; of the same time it is the kernel of the rest."""
    here = np.array([[0.5, 0.2]])
    then, now = (np.array([0.0]), here), (np.array([6.0]), here)
    assert _kernel(then, then, 0.3, 0.2)[0, 0] == pytest.approx(1.0)
    assert _kernel(then, now, 0.3, 0.2)[0, 0] == pytest.approx(0.8**3)
    beside = (np.array([0.0]), np.array([[0.5, 0.5]]))
    assert _kernel(then, beside, 0.3, 0.2)[0, 0] == pytest.approx(math.exp(-0.5))


def test_scores_are_seen_by_their_rank() -> None:
    """They may span decades; of none that was seen the middle is as good a guess as any."""
    none = np.empty(0)
    assert _level(Intervals(none, none, np.empty((0, 1)), none), 3.0) == 0.5
    seen = Intervals(np.zeros(4), np.array([1e-9, 1.0, 1e3, 1e12]), np.zeros((4, 1)), np.zeros(4))
    assert [_level(seen, score) for score in (0.0, 1.0, 10.0, 1e13)] == [0.0, 0.25, 0.5, 1.0]


def test_the_model_keeps_away_from_what_others_are_trying() -> None:
    """Nothing is known of u > 0.5: the bound is largest there, but not where thirty members are already."""
    u = np.linspace(0.0, 0.5, 40)[:, None]
    gain = 0.1 * np.sin(25.0 * u[:, 0])
    seen = Intervals(np.full(40, 7.0), np.full(40, 0.5), u, gain)
    candidates = np.linspace(0.0, 1.0, 101)[:, None]
    alone, _ = best_by_bound(seen, np.empty((0, 1)), candidates, 8.0, 0.5)
    assert candidates[alone, 0] > 0.6
    crowd = np.full((30, 1), candidates[alone, 0])
    crowded, _ = best_by_bound(seen, crowd, candidates, 8.0, 0.5)
    assert crowded != alone
