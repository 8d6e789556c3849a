"""Every kind of parameter: its map to the unit cube and back, its JSON, its words."""

from __future__ import annotations

import json
import math
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_core import Categorical, Constant, Float, Int, LogNormal, Normal, Parameter, SearchSpace, SpaceError
from hpo_core._parameters import parameter_from_json
from tests.hpo_core.space_strategies import (
    categoricals,
    floats_of_any_size,
    ints,
    json_values,
    normals,
    parameters,
    stepped_floats,
)

unit = st.floats(0, 1)


@given(parameters(), st.lists(unit, min_size=1, max_size=5))
def test_values_survive_the_unit_cube(parameter: Parameter, us: list[float]) -> None:
    """decode, encode, decode: the same value, to the bit where it is discrete."""
    for u in us:
        value = parameter.decode(u)
        again = parameter.decode(parameter.encode(value, "p"))
        if parameter.count is not None:
            assert again == value
            assert type(again) is type(value)
        else:
            assert parameter.encode(again) == pytest.approx(parameter.encode(value), abs=1e-9)


@given(parameters(), unit, unit)
def test_numbers_rise_with_u(parameter: Parameter, a: float, b: float) -> None:
    if parameter.numeric:
        low, high = sorted((a, b))
        assert parameter.decode(low) <= parameter.decode(high)


@given(st.one_of(floats_of_any_size(), stepped_floats(), ints()))
def test_the_ends_are_reached_exactly(parameter: Float | Int) -> None:
    assert parameter.decode(0.0) == parameter.low
    assert parameter.decode(1.0) == parameter.high
    assert parameter.low <= parameter.high


@given(parameters(), st.lists(unit, min_size=1, max_size=5))
def test_canonical_is_idempotent_and_says_the_same(parameter: Parameter, us: list[float]) -> None:
    canonical = parameter.canonical(np.array(us))
    assert np.array_equal(parameter.canonical(canonical), canonical)
    for u, c in zip(us, canonical, strict=True):
        assert parameter.decode(float(c)) == parameter.decode(u)
        if parameter.count is not None:
            assert parameter.encode(parameter.decode(u)) == c


@given(st.one_of(ints(), stepped_floats(), categoricals()))
def test_each_value_has_one_canonical_place(parameter: Parameter) -> None:
    assert parameter.count is not None
    if parameter.count <= 3000:
        units = parameter.units()
        assert len(units) == parameter.count
        assert (np.diff(units) > 0).all()
        values = [parameter.decode(float(u)) for u in units]
        assert len({json.dumps(v, sort_keys=True) for v in values}) == parameter.count
        assert units.tolist() == [parameter.encode(v) for v in values]
        assert units.tolist() == pytest.approx([parameter.unit_at(i) for i in range(parameter.count)], abs=0)
        assert values == [parameter.value_at(i) for i in range(parameter.count)]


@given(ints(), st.integers(-3, 3))
def test_neighbouring_integers_stay_apart_wherever_they_are(parameter: Int, offset: int) -> None:
    """The widest ranges that are allowed still tell every value from the next."""
    middle = (parameter.count - 1) // 2
    for index in {0, middle, min(max(middle + offset, 0), parameter.count - 1), parameter.count - 1}:
        value = parameter.low + index * parameter.step
        assert parameter.decode(parameter.encode(value)) == value


@given(parameters(), st.booleans())
def test_json_gives_the_same_parameter(parameter: Parameter, conditional: bool) -> None:
    if conditional:
        parameter = parameter.when("a", "x", 1).when("b", ge=0.5)
    data = json.loads(json.dumps(parameter.to_json(), allow_nan=False))
    restored = parameter_from_json("p", data)
    assert restored == parameter
    assert hash(restored) == hash(parameter)
    assert repr(restored) == repr(parameter)
    assert restored.conditions == parameter.conditions


@given(json_values)
def test_constants_of_any_json_value_survive(value: Any) -> None:
    """None and False are values too."""
    restored = parameter_from_json("c", json.loads(json.dumps(Constant(value).to_json())))
    assert isinstance(restored, Constant)
    assert json.dumps(restored.value) == json.dumps(Constant(value).value)
    assert type(restored.value) is type(value)


@given(categoricals(), st.data())
def test_a_default_survives_whatever_it_is(parameter: Categorical, data: st.DataObject) -> None:
    default = data.draw(st.sampled_from(parameter.choices))
    declared = Categorical(parameter.choices, ordered=parameter.ordered, default=default)
    restored = parameter_from_json("c", json.loads(json.dumps(declared.to_json())))
    assert json.dumps(restored.default) == json.dumps(default)


def test_repr_reads_as_it_was_written() -> None:
    written = [
        "Float(1e-05, 0.1, log=True)",
        "Float(0.0, 1.0, step=0.25, default=0.5)",
        "Int(1, 5)",
        "Int(0, 100, step=10, default=20)",
        "Int(1, 512, log=True)",
        "Categorical(['a', 1, True, None])",
        "Categorical(['s', 'm'], ordered=True, default='m')",
        "Normal(0.0, 1.0)",
        "Normal(0.0, 1.0, low=-1.0)",
        "LogNormal(-5.0, 1.0, high=1.0)",
        "Constant(3)",
        "Float(0.0, 1.0).when('opt', 'sgd', 'adam').when('depth', ge=2.0, le=4.0)",
    ]
    scope = {c.__name__: c for c in (Float, Int, Categorical, Normal, LogNormal, Constant)}
    for text in written:
        parameter = eval(text, dict(scope))
        assert repr(parameter) == text
    assert len(repr(Categorical(range(100_000)))) < 100


def test_equality_knows_true_from_one() -> None:
    assert Categorical([1, 2]) != Categorical([True, 2])
    assert Float(0, 1) == Float(0.0, 1.0)
    assert Float(0, 1) != Int(0, 1)
    assert Int(0, 5) != Int(0, 5).when("a", 1)
    assert len({Float(0, 1), Float(0.0, 1.0), Float(0, 2)}) == 2


def test_steps_are_counted_in_decimals() -> None:
    """0.3 / 0.1 is 2.9999999999999996 in doubles."""
    grid = Float(0.0, 0.3, step=0.1)
    assert [grid.value_at(i) for i in range(grid.cardinality)] == [0.0, 0.1, 0.2, 0.3]
    assert Float(-1000.0, 1000.0, step=0.1).decode(0.5) == 0.0
    assert Float(1e6, 1e6 + 1, step=1e-7).value_at(3) == 1000000.0000003
    assert Float(0.0, 1.0, step=0.3).high == 0.9
    assert Int(0, 10, step=4).high == 8


def test_values_off_the_grid_are_refused() -> None:
    with pytest.raises(SpaceError, match=r"parameter 'n': 4 is not one of 0, 3, ..., 9; take 3"):
        Int(0, 9, step=3).encode(4, "n")
    with pytest.raises(SpaceError, match=r"0.3 is not one of 0.0, 0.25, ..., 1.0; take 0.25"):
        Float(0, 1, step=0.25).encode(0.3, "f")
    assert Float(0, 1, step=0.1).encode(0.30000000000000004) == Float(0, 1, step=0.1).encode(0.3)
    assert Float(0, 1, step=0.25, default=0.3).default == 0.25
    assert not Int(0, 9, step=3).contains(4)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Float(2, 1), r"low must not be above high, got low=2.0, high=1.0; swap them"),
        (lambda: Float(0, 1, log=True), r"needs low > 0, got low=0.0; raise low or drop log=True"),
        (lambda: Float(cast("Any", "1e-5"), 1), r"low must be a number, got '1e-5'; .*YAML"),
        (lambda: Float(0, math.inf), r"high must be a finite number, got inf"),
        (lambda: Float(0, 10**400), r"high must be a finite number"),
        (lambda: Float(True, 2), r"low must be a number, got True"),
        (lambda: Float(0, 1, default=2), r"default 2.0 is outside \[0.0, 1.0\]"),
        (lambda: Float(0.1, 1, log=True, step=0.1), r"exclude each other; drop one"),
        (lambda: Float(0, 1, step=0), r"step must be positive, got 0.0"),
        (lambda: Float(-1e308, 1e308, step=1e-3), r"too many to tell apart; drop the step or raise it"),
        (lambda: Int(cast("Any", 1.5), 3), r"low must be a whole number, got 1.5"),
        (lambda: Int(0, 5, log=True), r"needs low > 0"),
        (lambda: Int(1, 9, log=True, step=2), r"step must be at least 1, and 1 with log=True, got step=2"),
        (lambda: Int(0, 10**30), r"too many values to tell apart"),
        (
            lambda: Int(10**400, 10**400 + 2),
            r"Int: low must be a whole number that a float can hold, got one",
        ),
        (lambda: Categorical([10**5000, 1]), r"a choice must be a whole number that a float can hold"),
        (lambda: Constant([{"a": -(10**400)}]), r"a choice must be a whole number that a float can hold"),
        (lambda: Categorical(["\ud800"]), r"must be text that can be written as UTF-8, got '\\ud800'"),
        (lambda: Constant({"\udfff": 1}), r"must be text that can be written as UTF-8"),
        (lambda: Int(1, 2**41, log=True), r"values go up to 2\*\*40"),
        (lambda: Int(0, 9, step=3, default=4), r"default 4 is not on the grid 0, 3"),
        (lambda: Categorical([]), r"needs a non-empty list of choices"),
        (lambda: Categorical("abc"), r"needs a non-empty list of choices, got 'abc'"),
        (lambda: Categorical(["a", "b", "a"]), r"the choice 'a' appears twice; list it once"),
        (lambda: Categorical([object()]), r"must be a JSON value"),
        (lambda: Categorical([math.nan]), r"must be a JSON value"),
        (lambda: Categorical(["a"], default="b"), r"default 'b' is not one of \['a'\]"),
        (lambda: Normal(0, 0), r"sigma must be positive"),
        (lambda: Normal(0, 1, low=2, high=1), r"low must be below high"),
        (lambda: Normal(0, 1, low=20), r"next to none of the distribution; widen it"),
        (lambda: Normal(0, 1, low=math.nan), r"low must be a finite number"),
        (lambda: LogNormal(0, 1, low=0), r"values must be positive, got 0.0"),
        (lambda: Constant(object()), r"must be a JSON value"),
        (lambda: Int(0, 3).when("a"), r"either values of 'a' or a range"),
        (lambda: Int(0, 3).when("a", 1, ge=2), r"either values of 'a' or a range"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(make: Any, words: str) -> None:
    with pytest.raises(SpaceError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("x", r"parameter 'p' needs a type"),
        ({"low": 1}, r"needs a type, one of \['categorical'"),
        ({"type": "flaot", "low": 0, "high": 1}, r"'flaot' is not one of .*did you mean 'float'"),
        ({"type": "float", "low": 0}, r"a float needs 'high'"),
        ({"type": "float", "low": 0, "hihg": 1}, r"'hihg' is not a field of float.*did you mean 'high'"),
        ({"type": "float", "low": 2, "high": 1}, r"parameter 'p': Float: low must not be above high"),
        ({"type": "int", "low": 0, "high": 1, "when": {"opt": "x"}}, r"a condition is .*got 'opt'"),
        ({"type": "int", "low": 0, "high": 1, "when": [{"prent": "x"}]}, r"a condition is"),
        ({"type": "int", "low": 0, "high": 1, "_default": 1}, r"'_default' is not a field"),
    ],
)
def test_bad_json_names_the_parameter_and_the_field(data: Any, words: str) -> None:
    with pytest.raises(SpaceError, match=words):
        parameter_from_json("p", data)


def test_a_value_out_of_range_names_the_parameter() -> None:
    for parameter, value in [
        (Float(0, 1), 2), (Float(1e-3, 1, log=True), 0), (Int(1, 5), 6), (Int(1, 5), 2.5), (Int(1, 5), True),
        (Normal(0, 1, high=2), 3), (Constant(1), True), (Float(0, 1), math.nan), (Float(0, 1), "a"),
        (LogNormal(0, 1), -1), (Float(0, 1, step=0.5), 1.5),
    ]:  # fmt: skip
        with pytest.raises(SpaceError, match=r"parameter 'lr'|must be positive"):
            parameter.encode(value, "lr")
        assert not parameter.contains(value)
    with pytest.raises(SpaceError, match=r"'adm' is not one of .*did you mean 'adam'"):
        Categorical(["adam", "sgd"]).encode("adm", "opt")


def test_choices_that_can_be_changed_are_handed_out_as_copies() -> None:
    parameter = Categorical([[1, 2], {"a": [3]}])
    parameter.decode(0.2).append(9)
    parameter.decode(0.8)["a"].append(9)
    assert parameter.choices == ([1, 2], {"a": [3]})
    assert parameter.encode((1, 2)) == 0.25


def test_extreme_ranges_decode_to_finite_numbers() -> None:
    tiny, huge = 5e-324, 1.7976931348623157e308
    for parameter in [
        Float(-huge, huge), Float(tiny, huge, log=True), Float(0.0, tiny), Float(1e300, 1e300 * (1 + 2e-16)),
        Float(1e300, 1e300 * (1 + 2e-16), log=True), LogNormal(700.0, 50.0), LogNormal(-800.0, 50.0),
        Normal(1e308, 1e308), Int(-(2**49), 2**49 - 1), Int(1, 2**40, log=True),
        Float(-1e300, 1e300, step=1e299),
    ]:  # fmt: skip
        for u in np.linspace(0, 1, 11):
            value = parameter.decode(float(u))
            assert math.isfinite(value)
            assert 0 <= parameter.encode(value) <= 1
    grid = Float(1e300, 1e300 * (1 + 2e-16), log=True)
    assert [grid.encode(grid.low), grid.encode(grid.high)] == [0.0, 1.0]


@given(normals())
def test_normals_follow_their_distribution(parameter: Normal) -> None:
    """The prior is uniform in u, so quantiles of decode are quantiles of the distribution."""
    from scipy import stats

    low = -math.inf if parameter.low is None else parameter.low
    high = math.inf if parameter.high is None else parameter.high
    a, b = (low - parameter.mu) / parameter.sigma, (high - parameter.mu) / parameter.sigma
    z = stats.truncnorm(a, b, loc=parameter.mu, scale=parameter.sigma).ppf([0.1, 0.5, 0.9])
    expected = np.exp(z) if isinstance(parameter, LogNormal) else z
    assert [parameter.decode(u) for u in (0.1, 0.5, 0.9)] == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_log_integers_have_log_sized_shares() -> None:
    """Each value v gets the share log((v + 1/2) / (v - 1/2)); 20000 draws, 5 sigma, alarm 1e-6 each."""
    parameter = Int(1, 8, log=True)
    draws = np.random.default_rng(0).random(20_000)
    counts = np.bincount([parameter.decode(float(u)) for u in draws], minlength=9)[1:]
    share = np.diff(np.log(np.arange(9) + 0.5)) / np.log(17)
    sigma = np.sqrt(20_000 * share * (1 - share))
    assert (np.abs(counts - 20_000 * share) < 5 * sigma).all()


def test_widening_takes_the_union_and_keeps_the_conditions() -> None:
    under = Float(0, 1, default=0.5).when("a", 1)
    assert under.widened(Float(-1, 0.5), "x") == Float(-1, 1, default=0.5).when("a", 1)
    assert Int(1, 4).widened(Int(3, 9), "x") == Int(1, 9)
    assert Int(0, 4, step=2).widened(Int(2, 8, step=2), "x") == Int(0, 8, step=2)
    assert Float(0, 1, step=0.1).widened(Float(0.5, 2, step=0.1), "x") == Float(0, 2, step=0.1)
    assert Categorical(["a", "b"]).widened(Categorical(["c", "a"]), "x") == Categorical(["a", "b", "c"])
    ordered = Categorical(["s", "m", "l"], ordered=True)
    assert ordered.widened(Categorical(["m", "l"]), "x") is ordered
    assert Constant(3).widened(Int(1, 5), "x") == Constant(3)
    for known, other in [
        (Float(0, 1), Int(0, 1)), (Float(0, 1), Float(0.1, 1, log=True)),
        (Int(0, 4, step=2), Int(1, 5, step=2)),
        (Float(0, 1, step=0.5), Float(0.25, 1.25, step=0.5)), (ordered, Categorical(["xl"])),
        (Constant(3), Int(4, 5)), (Normal(0, 1), Normal(0, 2)),
    ]:  # fmt: skip
        with pytest.raises(SpaceError, match=r"parameter 'x' was .* and is now asked for as"):
            known.widened(other, "x")


def test_a_huge_categorical_is_quick() -> None:
    """Linear in the number of choices, also to make and to refuse: 100,000 of them."""
    parameter = Categorical(range(100_000))
    assert [parameter.encode(v) for v in (0, 99_999)] == [0.5e-5, 1 - 0.5e-5]
    with pytest.raises(SpaceError, match="appears twice"):
        Categorical([*range(100_000), 99_999])
    with pytest.raises(SpaceError) as caught:
        parameter.encode("x", "c")
    assert len(str(caught.value)) < 200
    space = SearchSpace({"c": parameter, "x": Float(0, 1).when("c", 3, 99_999)})
    points = space.sample(np.random.default_rng(0), 1000)
    assert np.isnan(points[:, 1]).sum() >= 990
