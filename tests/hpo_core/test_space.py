"""The search space: the unit cube, conditions, enumeration, identity, JSON, versions."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hpo_core import Categorical, Constant, Float, Int, Normal, SearchSpace, SpaceError
from tests.hpo_core.space_strategies import spaces

seeds = st.integers(0, 2**32 - 1)


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(a, b, equal_nan=True)


def active_by_definition(space: SearchSpace, params: dict[str, Any]) -> set[str]:
    """Which parameters should be there: those whose conditions hold on parents that are there."""
    present: set[str] = set()
    for _ in space.names:
        for name, parameter in space.parameters.items():
            if all(c.parent in present and c.holds(params[c.parent]) for c in parameter.conditions):
                present.add(name)
    return present


@settings(max_examples=150)
@example(SearchSpace({"p0": Float(0.0, 5e-324)}), 0)
@example(SearchSpace({"p0": Float(1.0, 1.0 + 2**-51, log=True)}), 0)
@given(spaces(), seeds)
def test_configurations_survive_the_unit_cube(space: SearchSpace, seed: int) -> None:
    """sample, decode, encode: the same point, and exactly the active parameters are there."""
    points = space.sample(np.random.default_rng(seed), 5)
    assert points.shape == (5, space.dims)
    assert same(space.snap(points), points)
    for u in points:
        params = space.decode(u)
        assert set(params) == active_by_definition(space, params)
        assert list(params) == [n for n in space.names if n in params]
        again = space.encode(params)
        assert np.array_equal(np.isnan(again), np.isnan(u))
        assert np.allclose(again, u, atol=1e-9, equal_nan=True)
        assert same(space.snap(again[None, :])[0], again)
        assert json.loads(json.dumps(params, allow_nan=False)) == params


@given(spaces(), seeds)
def test_snap_takes_anything_and_is_idempotent(space: SearchSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    wild = rng.normal(0.5, 1.0, (6, space.dims))
    wild[rng.random(wild.shape) < 0.2] = np.nan
    before = wild.copy()
    points = space.snap(wild)
    assert same(wild, before)
    assert same(space.snap(points), points)
    inside = points[~np.isnan(points)]
    assert ((inside >= 0) & (inside <= 1)).all()
    assert not np.isnan(points[:, ~space.conditional]).any()
    for row, params in zip(points, map(space.decode, points), strict=True):
        assert same(space.snap(space.encode(params)[None, :])[0], space.encode(params))
        assert space.decode(row) == params


@given(spaces(finite_only=True, most=4))
def test_enumeration_is_brute_force(space: SearchSpace) -> None:
    """Every combination of values, with what is inactive taken out, each once."""
    values = [
        [p.decode(float(u)) for u in p.units()] if not isinstance(p, Constant) else [p.value]
        for p in space.parameters.values()
    ]
    expected = set()
    for combination in itertools.product(*values):
        params = dict(zip(space.names, combination, strict=True))
        active = active_by_definition(space, params)
        expected.add(json.dumps({n: v for n, v in params.items() if n in active}))
    points = space.enumerate()
    found = [json.dumps(space.decode(u)) for u in points]
    assert set(found) == expected
    assert len(found) == len(expected) == space.size
    assert same(space.snap(points), points)
    assert len(set(space.keys(points))) == len(points)
    filled = np.nan_to_num(points, nan=-1.0)
    assert [tuple(row) for row in filled] == sorted(tuple(row) for row in filled)


@given(spaces(), seeds)
def test_keys_are_equal_exactly_where_configurations_are(space: SearchSpace, seed: int) -> None:
    params = [space.decode(u) for u in space.sample(np.random.default_rng(seed), 8)]
    texts = [json.dumps(p) for p in params]
    keys = [space.key(space.encode(p)) for p in params]
    for (a, key_a), (b, key_b) in itertools.combinations(zip(texts, keys, strict=True), 2):
        if key_a != key_b:
            assert a != b
        elif space.size is not None:
            assert a == b
    assert [space.key(space.encode(json.loads(text))) for text in texts] == keys
    columns = [space.parameters[name] for name in space.column_names]
    exact = [i for i, parameter in enumerate(columns) if parameter.cardinality or parameter.grainy]
    for p in params:
        u = space.encode(p)
        assert same(space.encode(space.decode(u))[exact], u[exact])


def test_neighbours_in_wide_ranges_have_different_keys() -> None:
    space = SearchSpace({"a": Int(0, 2**50 - 1), "b": Int(1, 2**40, log=True)})
    for a, b in [(0, 1), (2**49, 2**39), (2**50 - 2, 2**40 - 1)]:
        here = space.encode({"a": a, "b": b})
        keys = {
            space.key(here), space.key(space.encode({"a": a + 1, "b": b})),
            space.key(space.encode({"a": a, "b": b + 1})),
        }  # fmt: skip
        assert len(keys) == 3
        assert space.decode(here) == {"a": a, "b": b}
    first, inactive = np.array([0.5 / 2**50, 0.5]), np.array([np.nan, 0.5])
    assert space.key(first) != space.key(inactive)  # an objective did not ask for it


@given(spaces())
def test_json_gives_the_same_space(space: SearchSpace) -> None:
    data = json.loads(json.dumps(space.to_json(), allow_nan=False))
    restored = SearchSpace.from_json(data)
    assert restored == space
    assert hash(restored) == hash(space)
    assert restored.digest() == space.digest()
    assert restored.version == space.version
    assert repr(restored) == repr(space)
    rng = [np.random.default_rng(0) for _ in range(2)]
    assert same(restored.sample(rng[0], 3), space.sample(rng[1], 3))


def test_the_digest_sees_every_change() -> None:
    base = {"a": Float(0, 1), "b": Categorical(["x", "y"])}
    spaces = [
        SearchSpace(base), SearchSpace({**base, "a": Float(0, 2)}), SearchSpace(base, ["a < 1"]),
        SearchSpace({**base, "a": Float(0, 1).when("b", "x")}), SearchSpace({**base, "c": Constant(None)}),
        SearchSpace({**base, "c": Constant(False)}), SearchSpace({**base, "c": Constant(0)}),
        SearchSpace({**base, "b": Categorical(["x", "y"], ordered=True)}),
    ]  # fmt: skip
    assert len({s.digest() for s in spaces}) == len(spaces)
    assert SearchSpace(base, version=3).digest() == spaces[0].digest()


def is_small(params: dict[str, Any]) -> bool:
    return bool(params["a"] < 0.5)


def test_a_constraint_function_is_found_by_name_and_missed_when_used() -> None:
    space = SearchSpace({"a": Float(0, 1)}, [is_small])
    data = json.loads(json.dumps(space.to_json()))
    restored = SearchSpace.from_json(data, constraints=[is_small])
    assert restored == space
    assert not restored.meets_constraints({"a": 0.7})
    without = SearchSpace.from_json(data)
    assert without == space
    assert without.decode(without.encode({"a": 0.7})) == {"a": 0.7}
    with pytest.raises(SpaceError, match=r"constraint function '.*is_small', .* pass the same space again"):
        without.sample(np.random.default_rng(0), 1)


# -- conditions ------------------------------------------------------------------------------------


def test_conditions_reach_through_any_depth() -> None:
    depth = 12
    chain = {"p0": Int(0, 1)}
    for i in range(1, depth):
        chain[f"p{i}"] = Int(0, 1).when(f"p{i - 1}", 1)
    for order in (list(chain), list(reversed(chain))):
        space = SearchSpace({name: chain[name] for name in order})
        assert space.size == depth + 1
        assert len(space.enumerate()) == depth + 1
        assert space.decode(space.encode(dict.fromkeys(chain, 1))) == dict.fromkeys(order, 1)
        assert space.decode(np.zeros(depth)) == {"p0": 0}


def test_a_conditional_constant_carries_its_condition() -> None:
    """Whatever the order of declaration, and for its own children too."""
    parts = {
        "opt": Categorical(["sgd", "adam"]),
        "fused": Constant(True).when("opt", "adam"),
        "eps": Float(0, 1).when("fused", True),
    }
    for order in itertools.permutations(parts):
        space = SearchSpace({name: parts[name] for name in order})
        assert space.decode(space.encode({"opt": "sgd"})) == {"opt": "sgd"}
        params = space.decode(space.encode({"opt": "adam", "eps": 0.5}))
        assert params == {"opt": "adam", "fused": True, "eps": 0.5}
        column = space.column_names.index("eps")
        assert space.conditional.tolist() == [n == "eps" for n in space.column_names]
        assert space.parents[column] == (space.column_names.index("opt"),)


def test_a_bound_includes_its_end_whatever_rounding_does() -> None:
    space = SearchSpace({"m": Float(0.1, 0.7), "c": Int(0, 1).when("m", ge=0.3, le=0.6)})
    for m in (0.3, 0.6, 0.45):
        assert "c" in space.decode(space.encode({"m": m, "c": 0}))
    for m in (0.3 - 1e-9, 0.6 + 1e-9):
        assert "c" not in space.decode(space.encode({"m": m, "c": 0}))


@given(st.integers(1, 300), st.integers(0, 299), st.booleans())
def test_ranges_on_integers_of_any_scale_are_exact(high: int, bound: int, log: bool) -> None:
    bound = 1 + bound % high
    space = SearchSpace(
        {
            "n": Int(1, high, log=log),
            "up": Constant(1).when("n", ge=bound),
            "down": Constant(1).when("n", le=bound),
            "at": Constant(1).when("n", bound),
        }
    )
    for n in range(1, high + 1):
        names = set(space.decode(space.encode({"n": n}))) - {"n"}
        assert names == {k for k, t in (("up", n >= bound), ("down", n <= bound), ("at", n == bound)) if t}


def test_a_condition_on_a_wide_range_is_cheap() -> None:
    """No table of two thousand million entries."""
    space = SearchSpace(
        {"n": Int(0, 2**31), "a": Int(0, 1).when("n", ge=2**30), "b": Int(0, 1).when("n", 7, 2**31)}
    )
    assert set(space.decode(space.encode({"n": 2**31, "a": 0, "b": 0}))) == {"n", "a", "b"}
    assert set(space.decode(space.encode({"n": 7, "b": 1}))) == {"n", "b"}
    points = space.sample(np.random.default_rng(0), 100)
    assert 0 < np.isnan(points[:, 1]).sum() < 100


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"a": Int(0, 1).when("b", 1)}, "'a' depends on 'b', which is not in the space"),
        ({"a": Int(0, 1).when("lerning", 1), "learning": Int(0, 1)}, "did you mean 'learning'"),
        ({"a": Int(0, 1).when("b", 1), "b": Int(0, 1).when("a", 1)}, "form a cycle: .*; remove one of them"),
        ({"a": Int(0, 1).when("a", 1)}, "form a cycle"),
        ({"a": Int(0, 1).when("b", 7), "b": Int(0, 3)}, "when 'b' is 7, which it can never be"),
        ({"a": Int(0, 1).when("b", 1), "b": Categorical([True])}, "when 'b' is 1, which it can never be"),
        ({"a": Int(0, 1).when("b", 1), "b": Constant(True)}, "when 'b' is 1, which it can never be"),
        ({"a": Int(0, 1).when("b", ge=9), "b": Int(0, 3)}, r"in \[9, inf\], where it can never be"),
        ({"a": Int(0, 1).when("b", ge=0.8, le=0.2), "b": Float(0, 1)}, "can never be"),
        ({"a": Int(0, 1).when("b", ge=1), "b": Categorical([1, 2])}, "range condition on 'b' has no meaning"),
        ({"a": Int(0, 1).when("b", ge=1), "b": Constant("x")}, "range condition on 'b' has no meaning"),
        ({"a": Int(0, 1).when("b", ge=5), "b": Constant(3)}, "where it can never be"),
        (
            {"a": Int(0, 1).when("b", 0.5), "b": Float(0, 1)},
            "continuous and hits no value exactly; give a range",
        ),
        ({"a": 3}, r"wrap a fixed value as Constant\(3\)"),
        ({"a": [1, 10]}, r"to choose one of them, write Categorical\(\[1, 10\]\)"),
        ({"a": range(3)}, r"write Categorical\(\[0, 1, 2\]\)"),
        ({"": Int(0, 1)}, "name must be a non-empty string, got ''"),
        ({1: Int(0, 1)}, "name must be a non-empty string, got 1"),
        ({"\ud800": Int(0, 1)}, "name must be text that can be written as UTF-8"),
        ([("a", Int(0, 1))], "a search space is a dict of names and parameters"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused_in_one_line(parameters: Any, words: str) -> None:
    with pytest.raises(SpaceError, match=words) as caught:
        SearchSpace(parameters)
    assert "\n" not in str(caught.value)


# -- counting --------------------------------------------------------------------------------------


def test_sizes_too_large_to_list_are_still_exact() -> None:
    million = {f"x{i}": Int(0, 9) for i in range(50)}
    assert SearchSpace(million).size == 10**50
    chain = {"c0": Int(0, 9)} | {f"c{i}": Int(0, 9).when(f"c{i - 1}", 5) for i in range(1, 40)}
    assert SearchSpace(chain).size == 9 * 40 + 1
    assert SearchSpace({**million, "f": Float(0, 1)}).size is None
    assert SearchSpace({"n": Int(0, 10**9), "c": Int(0, 1).when("n", 3)}).size == 2 * (10**9 + 1)  # a bound
    assert SearchSpace({}).size == 1
    assert SearchSpace({"c": Constant(1)}).size == 1


def test_what_cannot_be_listed_says_why() -> None:
    with pytest.raises(SpaceError, match=r"'x' is continuous, .* give it a step"):
        SearchSpace({"x": Float(0, 1)}).enumerate()
    with pytest.raises(SpaceError, match="over a million"):
        SearchSpace({f"x{i}": Int(0, 9) for i in range(50)}).enumerate()


# -- completing ------------------------------------------------------------------------------------


@given(spaces(), seeds, st.data())
def test_completions_keep_what_was_given(space: SearchSpace, seed: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    params = space.decode(space.sample(rng, 1)[0])
    given_names = data.draw(st.sets(st.sampled_from(sorted(params)))) if params else set()
    partial = {n: params[n] for n in given_names}
    u = space.complete(partial, rng)
    assert u is not None
    assert same(space.snap(u[None, :])[0], u)
    decoded = space.decode(u)
    for name, value in partial.items():
        if space.parameters[name].count is not None and name in decoded:
            assert decoded[name] == value
    if all(len(p.conditions) <= 1 for p in space.parameters.values()) and not any(
        isinstance(p, Constant) for p in space.parameters.values()
    ):
        assert set(partial) <= set(decoded)  # parents were chosen to suit


def test_completion_finds_a_rare_parent_and_heeds_constraints() -> None:
    space = SearchSpace(
        {
            "model": Categorical([f"m{i}" for i in range(5000)]),
            "deep": Int(0, 3).when("model", "m4321"),
            "x": Float(0, 1),
        },
        ["x > 0.9"],
    )
    rng = np.random.default_rng(0)
    u = space.complete({"deep": 2}, rng)
    assert u is not None
    params = space.decode(u)
    assert params["model"] == "m4321"
    assert params["deep"] == 2
    assert params["x"] > 0.9
    assert space.complete({"x": 0.5}, rng) is None
    assert space.decode(space.complete({"x": 0.5}, rng, constrained=False))["x"] == 0.5
    with pytest.raises(SpaceError, match="unknown parameter 'y'"):
        space.complete({"y": 1}, rng)


# -- encoding --------------------------------------------------------------------------------------


def test_encoding_drops_what_is_inactive_and_checks_constants() -> None:
    space = SearchSpace(
        {
            "opt": Categorical(["sgd", "adam"]),
            "momentum": Float(0, 1).when("opt", "sgd"),
            "epochs": Constant(3),
        }
    )
    u = space.encode({"opt": "adam", "momentum": 0.5})
    assert np.isnan(u[1])
    assert np.isnan(space.encode({"momentum": 0.5})).all()
    with pytest.raises(SpaceError, match="'epochs' is fixed at 3, got 4"):
        space.encode({"epochs": 4})
    with pytest.raises(SpaceError, match="unknown parameter 'epoch'; did you mean 'epochs'"):
        space.encode({"epoch": 3})


def test_defaults_make_a_canonical_point() -> None:
    space = SearchSpace(
        {
            "a": Float(1e-4, 1, log=True, default=0.01),
            "b": Categorical([False, True], default=False),
            "c": Int(0, 10).when("b", True),
            "n": Normal(3, 1),
        }
    )
    assert space.decode(space.default_unit()) == {"a": pytest.approx(0.01), "b": False, "n": pytest.approx(3)}


# -- versions --------------------------------------------------------------------------------------


def test_an_extended_space_keeps_its_columns_and_counts_versions() -> None:
    space = SearchSpace({"a": Float(0, 1), "k": Constant(3)}, ["a < 0.9"])
    grown = space.extended({"b": Int(0, 3), "a": Float(-1, 0.5), "k": Int(1, 5)})
    assert grown.names == ("a", "k", "b")
    assert grown.parameters["a"] == Float(-1, 1)
    assert grown.parameters["k"] == Constant(3)
    assert grown.version == space.version + 1
    assert [c.source for c in grown.constraints] == ["a < 0.9"]
    assert space.extended({}).digest() == space.digest()
    with pytest.raises(SpaceError, match=r"'a' was .* and is now asked for as"):
        space.extended({"a": Int(0, 1)})


def test_two_hundred_dimensions_of_huge_ranges() -> None:
    space = SearchSpace({f"x{i}": Float(-1e300, 1e300) for i in range(200)})
    points = space.sample(np.random.default_rng(0), 10)
    again = np.array([space.encode(space.decode(u)) for u in points])
    assert np.allclose(points, again)
    assert len(set(space.keys(points))) == 10
