"""Input constraints: expressions that cannot run code, functions, and what either may get wrong."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_core import Categorical, Float, Int, SearchSpace, SpaceError, Study

PARAMETERS = {
    "a": Float(-1, 1),
    "b": Int(0, 5),
    "opt": Categorical(["sgd", "adam"]),
    "momentum": Float(0, 1).when("opt", "sgd"),
}


def holds(expression: str, **params: Any) -> bool:
    return SearchSpace(PARAMETERS, [expression]).meets_constraints(params)


@given(st.floats(-1, 1), st.integers(0, 5))
def test_expressions_mean_what_they_mean_in_python(a: float, b: int) -> None:
    for expression, expected in [
        ("a + b <= 1", a + b <= 1),
        ("-a < b and not b == 3", -a < b and b != 3),
        ("abs(a) ** 2 <= max(b, 1) / 4", abs(a) ** 2 <= max(b, 1) / 4),
        ("0 <= b % 3 < 2", 0 <= b % 3 < 2),
        ("b in [1, 2, 3] or opt == 'sgd'", b in [1, 2, 3]),
        ("(a if b > 2 else -a) >= 0", (a if b > 2 else -a) >= 0),
        ("log2(b + 1) <= sqrt(4) or b // 2 == 2", np.log2(b + 1) <= 2 or b // 2 == 2),
    ]:
        assert holds(expression, a=a, b=b, opt="adam") is bool(expected)


def test_a_constraint_on_an_inactive_parameter_holds() -> None:
    assert holds("momentum < 0.5", a=0.0, b=1, opt="adam")
    assert not holds("momentum < 0.5", a=0.0, b=1, opt="sgd", momentum=0.7)
    space = SearchSpace(PARAMETERS, [lambda p: p["momentum"] < 0.5])
    assert space.meets_constraints({"a": 0.0, "b": 1, "opt": "adam"})
    assert not space.meets_constraints({"a": 0.0, "b": 1, "opt": "sgd", "momentum": 0.7})


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("a +", "cannot be read"),
        ("a + b", "compares nothing; write one such as"),
        ("c < 1", "names 'c', which is not in the space"),
        ("momentun < 1", "did you mean 'momentum'"),
        ("__import__('os').system('x') == 0", "calls something other than"),
        ("open('x') == 0", "calls something other than"),
        ("(lambda: 1)() == 1", "calls something other than|uses Lambda"),
        ("[x for x in (1,)] == 0", "uses ListComp"),
        ("a.real < 1", "uses Attribute"),
        ("max(a, key=b) < 1", "calls something other than"),
        ("f'{a}' == 'x'", "uses JoinedStr"),
        ("(x := a) < 1", "uses NamedExpr"),
    ],
)
def test_a_bad_expression_is_refused_when_it_is_declared(expression: str, words: str) -> None:
    with pytest.raises(SpaceError, match=words) as caught:
        SearchSpace(PARAMETERS, [expression])
    assert "\n" not in str(caught.value)


def test_what_cannot_be_evaluated_names_the_configuration() -> None:
    for expression in ("1 / b < 1", "log(b) < 1", "opt < 1"):
        with pytest.raises(SpaceError, match=r"cannot be evaluated for .*guard it"):
            holds(expression, a=0.0, b=0, opt="adam")
    for function in (lambda p: p["opt"].rate < 1, lambda p: [][p["b"]]):
        with pytest.raises(SpaceError, match=r"cannot be evaluated for .*guard it"):
            SearchSpace(PARAMETERS, [function]).sample(np.random.default_rng(0), 1)
    assert holds("b == 0 or 1 / b < 1", a=0.0, b=0, opt="adam")


def test_a_mistyped_key_in_a_function_is_no_inactive_parameter() -> None:
    """KeyError of an inactive parameter means that the constraint holds; any other is a mistake."""
    space = SearchSpace(PARAMETERS, [lambda p: p["momentun"] < 1])
    with pytest.raises(SpaceError, match=r"asks for 'momentun', .*did you mean 'momentum'"):
        space.sample(np.random.default_rng(0), 1)


def test_one_constraint_needs_no_list() -> None:
    assert [c.source for c in SearchSpace(PARAMETERS, "a < b").constraints] == ["a < b"]
    assert len(SearchSpace(PARAMETERS, lambda p: p["a"] < 1).constraints) == 1
    with pytest.raises(SpaceError, match="must be an expression or a function, got 3"):
        SearchSpace(PARAMETERS, [3])  # type: ignore[list-item]


def test_sampling_meets_constraints_and_fills_what_is_left_evenly() -> None:
    """Half of the square: 4000 draws, the mean of each third within 5 sigma."""
    space = SearchSpace({"a": Float(0, 1), "b": Float(0, 1)}, ["a + b <= 1"])
    points = space.sample(np.random.default_rng(0), 4000)
    assert len(points) == 4000
    assert (points.sum(axis=1) <= 1).all()
    left = (points[:, 0] < 1 / 3).mean()
    assert abs(left - 5 / 9) < 5 * np.sqrt(5 / 9 * 4 / 9 / 4000)


def test_a_rare_configuration_of_a_finite_space_is_found() -> None:
    """One in 10,000: rejection alone would fail four times out of five."""
    space = SearchSpace({"a": Int(1, 100), "b": Int(1, 100)}, ["a == 17 and b == 93"])
    assert space.decode(space.sample(np.random.default_rng(0), 2)[1]) == {"a": 17, "b": 93}
    assert len(space.enumerate()) == 1


def test_listing_draws_from_the_prior_too() -> None:
    """Deep configurations and large integers are as rare as without constraints: 5 sigma of 4000 draws."""
    space = SearchSpace({"a": Int(0, 1), "b": Int(0, 1).when("a", 1), "n": Int(1, 8, log=True)}, ["n != 3"])
    expected = {
        (a, b, n): 0.5 * (0.5 if a else 1.0) * np.log((n + 0.5) / (n - 0.5))
        for a, b in [(0, None), (1, 0), (1, 1)]
        for n in (1, 2, 4, 5, 6, 7, 8)
    }
    total = sum(expected.values())
    points = [space.decode(u) for u in space.sample(np.random.default_rng(1), 4000)]
    found = Counter((p["a"], p.get("b"), p["n"]) for p in points)
    assert set(found) == set(expected)
    for point, mass in expected.items():
        share = mass / total
        assert abs(found[point] - 4000 * share) < 5 * np.sqrt(4000 * share * (1 - share))


@pytest.mark.parametrize("a", [Float(0, 1), Int(0, 9)])
def test_constraints_that_nothing_meets_are_an_error(a: Float | Int) -> None:
    space = SearchSpace({"a": a}, ["a > 2 and a < 1"])
    with pytest.raises(SpaceError, match=r"rejected .* of .* configurations; loosen them or narrow"):
        space.sample(np.random.default_rng(0), 1)


def test_names_shadow_functions() -> None:
    space = SearchSpace({"log": Float(0, 1), "max": Float(0, 1)}, ["log + max <= 1"])
    assert space.meets_constraints({"log": 0.2, "max": 0.3})
    assert not space.meets_constraints({"log": 0.8, "max": 0.3})


def below(name: str, bound: float) -> Any:
    return lambda params: params[name] < bound


def test_functions_of_one_name_are_all_kept() -> None:
    """All lambdas of a function have one name, and of those only the last counted in a study."""
    space = SearchSpace({"a": Float(0, 1), "b": Float(0, 1)}, [below("a", 0.2), "a + b < 1", below("b", 0.3)])
    study = Study(space, strategy="random")
    journal = [study.created]
    for again in (study, Study.replay(journal, space=space)):
        assert [again.space.meets_constraints({"a": a, "b": b}) for a, b in OUT] == [False, False, True]
    assert all(study.ask().params["a"] < 0.2 for _ in range(10))


def test_the_functions_of_an_edit_are_those_that_count() -> None:
    study = Study(SearchSpace({"a": Float(0, 1), "b": Float(0, 1)}, [below("a", 0.2), below("b", 0.3)]))
    study.change_space(SearchSpace({"a": Float(0, 1), "b": Float(0, 1)}, [below("a", 0.9)]))
    assert [study.space.meets_constraints({"a": a, "b": b}) for a, b in OUT] == [True, True, True]
    study.change_space(SearchSpace({"a": Float(0, 1), "b": Float(0, 1)}, [below("b", 0.5), below("a", 0.1)]))
    assert [study.space.meets_constraints({"a": a, "b": b}) for a, b in OUT] == [False, False, False]


OUT = [(0.5, 0.1), (0.1, 0.5), (0.15, 0.15)]
