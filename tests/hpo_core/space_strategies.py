"""Hypothesis strategies that draw parameters and search spaces of every kind."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from hpo_core import Categorical, Constant, Float, Int, LogNormal, Normal, Parameter, SearchSpace

finite = st.floats(allow_nan=False, allow_infinity=False)
moderate = st.floats(-1e6, 1e6)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-2, 2) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=3,
)


@st.composite
def floats_of_any_size(draw: st.DrawFn) -> Float:
    """Any range of doubles at all, linear or logarithmic."""
    low, high = sorted((draw(finite), draw(finite)))
    log = low > 0 and draw(st.booleans())
    return Float(low, high, log=log)


@st.composite
def stepped_floats(draw: st.DrawFn) -> Float:
    """Grids as people write them."""
    low = draw(st.integers(-1000, 1000)) / draw(st.sampled_from([1, 10, 100, 1000]))
    step = draw(st.integers(1, 999)) / draw(st.sampled_from([1, 10, 1000, 10**6]))
    return Float(low, low + step * draw(st.integers(0, 500)), step=step)


@st.composite
def ints(draw: st.DrawFn) -> Int:
    """Linear, stepped and logarithmic, from one value to as many as there may be."""
    low = draw(st.integers(-(10**12), 10**12) | st.integers(-3, 3))
    width = draw(st.integers(0, 20) | st.integers(0, 2**50 - 1))
    kind = draw(st.sampled_from(["linear", "stepped", "log"]))
    if kind == "log":
        low = draw(st.integers(1, 10) | st.integers(1, 2**30))
        return Int(low, draw(st.integers(low, min(low + width, 2**40))), log=True)
    return Int(low, low + width, step=draw(st.integers(1, 7)) if kind == "stepped" else 1)


@st.composite
def categoricals(draw: st.DrawFn) -> Categorical:
    """JSON values of all types side by side, such as 1, 1.0, True and "1"."""
    choices = draw(st.lists(json_values, min_size=1, max_size=6, unique_by=lambda v: repr(_sorted(v))))
    return Categorical(choices, ordered=draw(st.booleans()))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return sorted((k, repr(_sorted(v))) for k, v in value.items())
    return [_sorted(v) for v in value] if isinstance(value, list) else value


@st.composite
def normals(draw: st.DrawFn) -> Normal:
    """With and without bounds, within four standard deviations."""
    mu, sigma = draw(st.floats(-100, 100)), draw(st.floats(0.01, 10))
    low = draw(st.none() | st.floats(-4, 0)) if draw(st.booleans()) else None
    high = draw(st.none() | st.floats(1, 4))
    bounds = {"low": low, "high": high}
    if draw(st.booleans()):
        return Normal(mu, sigma, **{k: v if v is None else mu + sigma * v for k, v in bounds.items()})
    return LogNormal(mu / 100, sigma / 10)


def parameters() -> st.SearchStrategy[Parameter]:
    """One parameter of any kind that is searched over."""
    return st.one_of(floats_of_any_size(), stepped_floats(), ints(), categoricals(), normals())


def small_parameters() -> st.SearchStrategy[Parameter]:
    """One parameter with few values."""
    return st.one_of(
        st.builds(lambda low, n: Int(low, low + n), st.integers(-2, 2), st.integers(0, 4)),
        st.builds(lambda n: Int(1, n, log=True), st.integers(1, 5)),
        st.builds(lambda n: Float(0.0, 0.1 * n, step=0.1), st.integers(0, 4)),
        st.builds(lambda n, o: Categorical(list("abcde")[:n], ordered=o), st.integers(1, 5), st.booleans()),
    )


@st.composite
def spaces(draw: st.DrawFn, *, finite_only: bool = False, most: int = 6) -> SearchSpace:
    """Spaces with conditions at any depth, children declared before or after their parents."""
    names = [f"p{i}" for i in range(draw(st.integers(1, most)))]
    kinds = small_parameters() if finite_only else parameters() | small_parameters()
    made: dict[str, Parameter] = {}
    for name in names:
        parameter: Parameter = draw(kinds | st.builds(Constant, st.integers(0, 2)))
        for parent in draw(st.lists(st.sampled_from(sorted(made)), max_size=2)) if made else ():
            parameter = _under(draw, parameter, parent, made[parent])
        made[name] = parameter
    return SearchSpace({name: made[name] for name in draw(st.permutations(names))})


def _under(draw: st.DrawFn, child: Parameter, name: str, parent: Parameter) -> Parameter:
    if isinstance(parent, Constant):
        return child.when(name, parent.value)
    u = st.floats(0, 1)
    if parent.numeric and (parent.count is None or draw(st.booleans())):
        low, high = sorted((parent.decode(draw(u)), parent.decode(draw(u))))
        return child.when(name, ge=low, le=draw(st.sampled_from([high, None])))
    return child.when(name, *{repr(v): v for v in (parent.decode(draw(u)), parent.decode(draw(u)))}.values())
