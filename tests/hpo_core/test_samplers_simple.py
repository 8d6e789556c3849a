"""Random, Grid, Sobol and Halton."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo_core import Study
from hpo_core._errors import SpaceError, StrategyError
from hpo_core._space import Categorical, Float, Int, Normal, SearchSpace
from hpo_core.samplers import TPE, Grid, Halton, Random, Sobol
from hpo_core.samplers._grid import grid_axes
from hpo_core.samplers._qmc import halton_points, sobol_points
from tests.hpo_core.sampler_loop import Loop, mixed_space, small_space


def configurations(loop: Loop) -> list[dict[str, Any]]:
    return [loop.history.params_of(t) for t in range(loop.history.n_trials)]


def test_grid_is_the_product_in_declared_order_and_then_ends() -> None:
    space = SearchSpace(
        {
            "a": Int(1, 3),
            "b": Categorical(["x", "y"]),
            "c": Float(0.0, 1.0),
            "d": Float(1e-4, 1.0, log=True),
        }
    )
    loop = Loop(Grid(resolution={"c": 2, "d": 3}), space)
    loop.run(lambda p: 0.0, 100)
    expected = list(itertools.product([1, 2, 3], ["x", "y"], [0.0, 1.0], [1e-4, 1e-2, 1.0]))
    found = [(p["a"], p["b"], p["c"], p["d"]) for p in configurations(loop)]
    assert [f[:3] for f in found] == [e[:3] for e in expected]
    assert np.allclose([f[3] for f in found], [e[3] for e in expected])
    assert loop.propose() is None


def test_grid_counts_inactive_parameters_once() -> None:
    loop = Loop(Grid(), small_space())
    loop.run(lambda p: 0.0, 100)
    expected: list[dict[str, object]] = []
    for a, b in itertools.product(range(5), "xy"):
        if b == "y" and a >= 2:
            expected += [{"a": a, "b": b, "c": c} for c in (0.0, 0.5, 1.0)]
        else:
            expected.append({"a": a, "b": b})
    assert configurations(loop) == expected


def test_grid_covers_a_child_that_is_declared_before_its_parent() -> None:
    space = SearchSpace({"c": Int(0, 1).when("b", "y"), "b": Categorical(["x", "y"])})
    loop = Loop(Grid(), space)
    loop.run(lambda p: 0.0, 100)
    found = sorted(map(str, configurations(loop)))
    assert found == sorted(map(str, [{"b": "x"}, {"c": 0, "b": "y"}, {"c": 1, "b": "y"}]))
    assert [note.split()[2] for note in loop.notes] == ["1", "2", "3"]  # none was listed twice


def test_grid_keeps_to_constraints() -> None:
    space = SearchSpace({"a": Int(0, 9), "b": Int(0, 9)}, constraints=["a + b == 9"])
    loop = Loop(Grid(), space)
    loop.run(lambda p: 0.0, 100)
    assert [(p["a"], p["b"]) for p in configurations(loop)] == [(a, 9 - a) for a in range(10)]


def test_grid_skips_what_was_enqueued_or_observed_and_ignores_points_off_the_grid() -> None:
    loop = Loop(Grid(), SearchSpace({"a": Int(0, 2), "b": Float(0.0, 1.0, step=0.5)}))
    loop.start({"a": 0, "b": 0.0})
    loop.observe({"a": 0, "b": 1.0}, 0.3)
    loop.run(lambda p: 0.0, 100)
    left = [(p["a"], p["b"]) for p in configurations(loop)[1:]]
    assert left == [(0, 0.5), *itertools.product([1, 2], [0.0, 0.5, 1.0])]

    fine = Loop(Grid(resolution=2), SearchSpace({"x": Float(0.0, 1.0)}))
    fine.start({"x": 0.25})
    fine.run(lambda p: 0.0, 100)
    assert [p["x"] for p in configurations(fine)] == [0.25, 0.0, 1.0]


def test_grid_says_what_is_wrong_with_its_resolution() -> None:
    space = SearchSpace({"lr": Float(0.0, 1.0), "n": Int(1, 10)})
    with pytest.raises(StrategyError, match=r"'lr' is continuous.*resolution=\{'lr': 5\}"):
        Grid(resolution={"n": 3}).check(space, 1)
    with pytest.raises(StrategyError, match=r"'rl'.*did you mean 'lr'"):
        Grid(resolution={"rl": 3}).check(space, 1)
    with pytest.raises(StrategyError, match="of at least 1, got 0"):
        Grid(resolution={"lr": 0})
    with pytest.raises(StrategyError, match="combinations cannot be covered"):
        Grid().check(SearchSpace({f"x{i}": Float(0.0, 1.0) for i in range(200)}), 1)


def test_grid_thins_a_long_range_by_name_and_has_no_ends_on_an_open_normal() -> None:
    loop = Loop(Grid(resolution={"n": 3, "z": 2}), SearchSpace({"n": Int(0, 100), "z": Normal(0.0, 1.0)}))
    loop.run(lambda p: 0.0, 100)
    assert sorted({p["n"] for p in configurations(loop)}) == [0, 50, 100]
    assert sorted({round(p["z"], 3) for p in configurations(loop)}) == [-0.674, 0.674]
    half, whole = Normal(0.0, 1.0, low=0.0), Normal(0.0, 1.0, low=0.0, high=2.0)
    axes = grid_axes(SearchSpace({"half": half, "whole": whole}), 2)
    assert [axis.tolist() for axis in axes] == [[0.25, 0.75], [0.0, 1.0]]


def test_grid_gives_up_on_constraints_that_nothing_meets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpo_core.samplers._grid._REJECTIONS", 1000)
    space = SearchSpace({f"x{i}": Int(0, 9) for i in range(9)}, constraints=["x0 + x1 > 99"])
    with pytest.raises(SpaceError, match="rejected"):
        Loop(Grid(), space).propose()


def test_rejected_points_count_in_a_row_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """One in 256 is allowed: a grid that is sparse is walked to its end, and a sequence goes on."""
    monkeypatch.setattr("hpo_core.samplers._grid._REJECTIONS", 300)
    sparse = SearchSpace({"a": Int(0, 1023)}, constraints=[lambda p: p["a"] % 256 == 0])
    loop = Loop(Grid(), sparse)
    loop.run(lambda p: 0.0, 100)
    assert [p["a"] for p in configurations(loop)] == [0, 256, 512, 768]

    monkeypatch.setattr("hpo_core.samplers._qmc._REJECTIONS", 128)
    half = SearchSpace({"x": Float(0.0, 1.0)}, constraints=["x <= 0.5"])
    late = Loop(Sobol(), half)
    for _ in range(200):
        late.start({"x": 0.25})
    late.propose()
    assert late.notes[-1].startswith("point 200 of the scrambled")


@pytest.mark.parametrize("sampler", [Sobol(), Halton()])
def test_a_sequence_that_was_given_up_is_not_gone_on_with(
    sampler: Sobol | Halton, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A study that is resumed draws what it would have drawn: one in eighty points is allowed."""
    monkeypatch.setattr("hpo_core.samplers._qmc._REJECTIONS", 64)
    space = SearchSpace({"x": Float(0.0, 1.0)}, constraints=["x <= 0.0125"])
    notes = set()
    for seed in range(8):
        loop = Loop(sampler, space, seed=seed)
        for number in range(6):
            kept, anew = (
                one.sample(loop.history, np.random.default_rng(number)) for one in (sampler, replace(sampler))
            )
            assert (kept.u.tolist(), kept.note) == (anew.u.tolist(), anew.note)
            notes.add(kept.note.split()[0])
            loop.start({"x": float(kept.u[0])})
    assert notes == {"point", "constraints"}


@pytest.mark.parametrize("sampler", [Sobol(), Halton(), Grid(resolution=4)])
def test_one_sampler_serves_two_studies_in_turn(sampler: Sobol | Halton | Grid) -> None:
    """What it has made for the one is not handed to the other: of another seed, or of another space."""
    line, plane = {"x": Float(0.0, 1.0)}, {"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)}
    spaces = [SearchSpace(line), SearchSpace(line), SearchSpace(plane, constraints=["y <= x"])]
    loops = [Loop(sampler, space, seed=seed) for seed, space in enumerate(spaces)]
    fresh = [Loop(replace(sampler), space, seed=seed) for seed, space in enumerate(spaces)]
    for _ in range(4):
        for shared, own in zip(loops, fresh, strict=True):
            shared.tell(shared.history.n_trials - 1, 0.0) if shared.ask() else None
            own.tell(own.history.n_trials - 1, 0.0) if own.ask() else None
    assert [configurations(loop) for loop in loops] == [configurations(loop) for loop in fresh]


def test_a_halton_point_has_all_the_digits_of_a_double() -> None:
    """Digits left at zero would put the points of a long study on a lattice."""
    U = halton_points(0, 3, 0, 64)
    assert ((U * 2.0**20) % 1.0 > 0.0).all()


@pytest.mark.parametrize("seed", range(8))
def test_a_start_design_begins_at_the_default_and_repeats_nothing(seed: int) -> None:
    space = SearchSpace({"a": Int(0, 3, default=2), "b": Categorical(["x", "y"], default="y")})
    loop = Loop(TPE(startup=8), space, seed=seed)
    loop.run(lambda p: 0.0, 8)
    found = configurations(loop)
    assert found[0] == {"a": 2, "b": "y"}
    assert len({str(p) for p in found}) == 8


@pytest.mark.parametrize("sampler", [Random(), Sobol(), Halton()])
def test_a_finite_space_is_finished_before_anything_repeats(
    sampler: Random | Sobol | Halton,
) -> None:
    loop = Loop(sampler, small_space())
    loop.run(lambda p: 0.0, 20)
    first = [loop.history.space.key(u) for u in loop.history.X[:16]]
    assert len(set(first)) == 16


@pytest.mark.parametrize(("points", "limit"), [(sobol_points, 0.35), (halton_points, 0.5)])
def test_sequences_are_more_even_than_random(points, limit) -> None:
    """Worst deviation of counts in dyadic boxes, against what independent draws would give."""
    n = 256
    U = points(3, 6, 0, n)
    assert U.shape == (n, 6)
    assert ((U >= 0) & (U < 1)).all()
    worst = 0.0
    for i, j in itertools.combinations(range(6), 2):
        counts = np.histogram2d(U[:, i], U[:, j], bins=4, range=[[0, 1], [0, 1]])[0]
        worst = max(worst, float(np.abs(counts - n / 16).max()))
    # Binomial(256, 1/16) has a deviation of 3.9; over 240 boxes its worst is about 12.
    assert worst < limit * 12


@pytest.mark.parametrize("points", [sobol_points, halton_points])
@given(start=st.integers(0, 5000), n=st.integers(1, 5), dims=st.integers(0, 12), seed=st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_a_point_depends_on_its_index_alone(points, start: int, n: int, dims: int, seed: int) -> None:
    block = points(seed, dims, start, n)
    single = [points(seed, dims, start + i, 1)[0] for i in range(n)]
    assert np.array_equal(block, np.array(single).reshape(n, dims))
    if dims:
        assert not np.array_equal(block, points(seed + 1, dims, start, n))


def test_halton_columns_stay_when_one_joins_and_high_ones_are_not_in_lockstep() -> None:
    narrow, wide = halton_points(0, 30, 0, 64), halton_points(0, 31, 0, 64)
    assert np.array_equal(narrow, wide[:, :30])
    assert abs(np.corrcoef(wide[:, 29], wide[:, 30])[0, 1]) < 0.5


@pytest.mark.parametrize("sampler", [Sobol(), Halton()])
def test_with_constraints_the_sequence_is_filtered_in_order(sampler: Sobol | Halton) -> None:
    free, tied = (
        SearchSpace({"a": Float(0, 1), "b": Float(0, 1)}),
        SearchSpace({"a": Float(0, 1), "b": Float(0, 1)}, constraints=["a + b <= 1"]),
    )
    one, other = Loop(sampler, free), Loop(sampler, tied)
    one.run(lambda p: 0.0, 60)
    other.run(lambda p: 0.0, 20)
    kept = [p for p in configurations(one) if p["a"] + p["b"] <= 1]
    assert configurations(other) == kept[:20]


@pytest.mark.parametrize("sampler", [Random(), Grid(resolution=2), Sobol(), Halton()])
def test_decisions_do_not_depend_on_memos_or_on_results(sampler) -> None:
    """A second sampler of the same configuration, fresh at every trial, must agree."""
    loop = Loop(sampler, mixed_space(), seed=5)
    for trial in range(12):
        fresh = Loop(type(sampler)(**({"resolution": 2} if isinstance(sampler, Grid) else {})), mixed_space())
        fresh.history = loop.history
        expected = fresh.due()
        found = loop.due()
        assert np.array_equal(found, expected, equal_nan=True)
        loop.ask()
        loop.tell(trial, math.nan if trial % 3 else 1e300)


def test_a_grid_passes_over_what_is_inactive() -> None:
    """Its points are counted once each: of a long branch that is closed there are none to go through."""
    space = SearchSpace({"kind": Categorical(["a", "b"]), "x": Int(1, 3).when("kind", "b")})
    study = Study(space, strategy="grid")
    for _ in range(4):
        study.tell(study.ask(), 1.0)
    assert [trial.params.get("x") for trial in study.trials] == [None, 1, 2, 3]
    assert [trial.note.split()[2] for trial in study.trials] == ["1", "2", "3", "4"]
