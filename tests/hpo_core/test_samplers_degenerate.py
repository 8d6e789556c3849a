"""Every sampler, on spaces and results that have nothing to teach: no warning, no loop, no crash."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpo_core import Study
from hpo_core._errors import StrategyError
from hpo_core._pareto import hypervolume
from hpo_core._space import Categorical, Constant, Float, Int, LogNormal, Normal, SearchSpace
from hpo_core._states import TrialState
from hpo_core._strategy import Sampler
from hpo_core.samplers import CMAES, NSGA2, TPE, Forest, Grid, Halton, Random, Sobol
from hpo_core.samplers._trees import Trees
from tests.hpo_core.sampler_loop import Loop, mixed_space, small_space

MAKERS: dict[str, Callable[[], Sampler]] = {
    "cmaes": CMAES,
    "forest": lambda: Forest(startup=4, trees=Trees(number=4)),
    "grid": lambda: Grid(resolution=3),
    "halton": Halton,
    "nsga2": lambda: NSGA2(population=4),
    "random": Random,
    "sobol": Sobol,
    "tpe": lambda: TPE(startup=4),
}

SPACES: dict[str, SearchSpace] = {
    "empty": SearchSpace({}),
    "constants": SearchSpace({"a": Constant(1), "b": Constant("x")}),
    "one point": SearchSpace({"a": Float(2.0, 2.0), "b": Int(3, 3), "c": Categorical(["x"])}),
    "one float": SearchSpace({"a": Float(0.0, 1.0)}),
    "huge choice": SearchSpace({"a": Categorical([f"v{i}" for i in range(5000)]), "b": Float(0, 1)}),
    "long range": SearchSpace({"a": Int(0, 10**9), "b": Int(1, 10**6, log=True)}),
    "wide": SearchSpace({f"x{i}": Float(-1e300, 1e300) for i in range(200)}),
    "wide choices": SearchSpace({f"c{i}": Categorical(["a", "b"]) for i in range(100)}),
    "tails": SearchSpace({"a": Normal(0.0, 1.0), "b": LogNormal(0.0, 3.0)}),
    "small": small_space(),
    "mixed": mixed_space(),
    "deep": SearchSpace(
        {"c0": Categorical(["x", "y"])}
        | {f"c{i}": Categorical(["x", "y"]).when(f"c{i - 1}", "y") for i in range(1, 8)}
    ),
    "tied": SearchSpace({"a": Float(0, 1), "b": Float(0, 1)}, constraints=["a + b <= 0.2"]),
}

RESULTS: dict[str, Callable[[int, dict[str, Any]], float]] = {
    "constant": lambda t, p: 1.0,
    "failed": lambda t, p: math.nan,
    "huge": lambda t, p: (-1.0) ** t * 1.7e308,
    "two values": lambda t, p: float(t % 2),
    "mostly failed": lambda t, p: math.nan if t % 6 else float(t),
    "tiny": lambda t, p: 5e-324 * (t % 3),
    "outlier": lambda t, p: 1e300 if t == 3 else float(t),
}


def sampler_for(name: str, space: SearchSpace, objectives: int) -> Sampler | None:
    """The sampler, or ``None`` where it says beforehand that it cannot handle this."""
    sampler = MAKERS[name]()
    try:
        sampler.check(space, objectives)
    except StrategyError:
        return None
    return sampler


def valid(space: SearchSpace, u: np.ndarray) -> bool:
    """Canonical (up to rounding) and allowed."""
    row = u[None, :]
    same = np.allclose(space.snap(row), row, rtol=0, atol=1e-9, equal_nan=True)
    return u.shape == (space.dims,) and same and bool(space.allowed(row)[0])


# Every result on two spaces, and the three that differ most on all of them.
PAIRS = [
    (space, result)
    for space in SPACES
    for result in (RESULTS if space in ("mixed", "small") else ("failed", "huge", "two values"))
]


@pytest.mark.parametrize(("space", "result"), PAIRS)
@pytest.mark.parametrize("name", MAKERS)
def test_nothing_to_learn(name: str, space: str, result: str) -> None:
    sampler = sampler_for(name, SPACES[space], 1)
    if sampler is None:
        return
    loop = Loop(sampler, SPACES[space])
    for trial in range(12 if SPACES[space].dims > 50 else 24):
        u = loop.propose()
        if u is None:
            assert name == "grid"
            return
        assert valid(SPACES[space], u)
        params = loop.start(SPACES[space].decode(u))
        loop.tell(trial, RESULTS[result](trial, params))


@pytest.mark.parametrize("disaster", [1e6, 1e20, 1.7e308])
@pytest.mark.parametrize("name", ["auto", "gp", "forest", "tpe", "cmaes"])
def test_one_disaster_does_not_hide_the_others(name: str, disaster: float) -> None:
    """Where an objective returned the largest double for a failure, all else was the same to a model, and the
    default ended farther from the best than random search; a forest went where the disaster was.
    """
    found = []
    for seed in range(3):
        study = Study(SearchSpace({n: Float(0.0, 1.0) for n in "xyz"}), strategy=name, seed=seed)
        for number in range(30):
            trial = study.ask()
            x, y, z = (trial.params[n] for n in "xyz")
            study.tell(trial, disaster if number == 3 else (x - 0.3) ** 2 + (y - 0.6) ** 2 + (z - 0.8) ** 2)
        found.append(study.best.values["loss"])
    assert np.median(found) < 0.01, "random search gets to 0.028"


def test_a_disaster_in_one_objective_does_not_hide_it_from_the_forest() -> None:
    """The second objective was 0 for all the others then, and the forest was no better than random search."""
    covered = []
    for seed in range(3):
        space = SearchSpace({n: Float(0.0, 1.0) for n in "xyz"})
        study = Study(space, objectives={"a": "min", "b": "min"}, strategy="forest", seed=seed)
        for number in range(40):
            trial = study.ask()
            x, worse = trial.params["x"], 1 + 4 * trial.params["y"] + 4 * trial.params["z"]
            study.tell(trial, {"a": x, "b": 1e300 if number == 3 else worse * (1 - math.sqrt(x / worse))})
        values = np.array([[t.values["a"], t.values["b"]] for t in study.pareto_front])
        covered.append(hypervolume(values, np.array([1.1, 2.0])))
    assert np.median(covered) > 1.2, "random search covers 0.7"


@pytest.mark.parametrize("name", MAKERS)
def test_duplicates_everywhere(name: str) -> None:
    """A hundred copies of one configuration, with contradictory results."""
    space = SearchSpace({"a": Float(0, 1), "b": Int(0, 5)})
    loop = Loop(MAKERS[name](), space)
    for trial in range(100):
        loop.start({"a": 0.25, "b": 2})
        loop.tell(trial, float(trial % 3))
    u = loop.propose()
    assert u is not None
    assert valid(space, u)


@pytest.mark.parametrize("name", MAKERS)
def test_hundreds_pending_are_all_different(name: str) -> None:
    space = SearchSpace({"a": Float(0, 1), "b": Float(0, 1), "c": Int(0, 30), "d": Int(0, 9)})
    loop = Loop(MAKERS[name](), space, workers=200)
    for trial in range(40):
        params = loop.ask()
        assert params is not None
        loop.tell(trial, params["a"] + params["c"])
    for _ in range(200):
        loop.ask()
    keys = {space.key(u) for u in loop.history.X}
    assert len(keys) == 240


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    """Random small spaces with conditions."""
    parameters: dict[str, Any] = {}
    for i in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["float", "log", "step", "int", "logint", "cat", "ord", "const"]))
        low = draw(st.integers(-3, 3))
        span = draw(st.integers(0, 6))
        parameter = {
            "float": Float(low, low + span),
            "log": Float(1e-3, 1e-3 * (1 + span)) if span == 0 else Float(1e-3, span, log=True),
            "step": Float(low, low + span, step=0.5),
            "int": Int(low, low + span),
            "logint": Int(1, 1 + span, log=True),
            "cat": Categorical(list(range(span + 1))),
            "ord": Categorical(list("abcdefg"[: span + 1]), ordered=True),
            "const": Constant(low),
        }[kind]
        parents = [n for n, p in parameters.items() if isinstance(p, Categorical)]
        if len(parents) > 0 and draw(st.booleans()):
            parent = draw(st.sampled_from(parents))
            parameter = parameter.when(parent, draw(st.sampled_from(parameters[parent].choices)))
        parameters[f"p{i}"] = parameter
    return SearchSpace(parameters)


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    space=spaces(),
    values=st.lists(
        st.one_of(st.floats(-1e300, 1e300), st.just(math.nan), st.integers(0, 2).map(float)),
        min_size=2,
        max_size=24,
    ),
    seed=st.integers(0, 5),
    late=st.integers(0, 3),
)
def test_any_space_and_any_results(
    name: str, space: SearchSpace, values: list[float], seed: int, late: int
) -> None:
    """Proposals are valid, and the same when asked twice or by a sampler without a memo."""
    sampler = sampler_for(name, space, 1)
    if sampler is None:
        return
    loop = Loop(sampler, space, seed=seed)
    for trial, value in enumerate(values):
        u = loop.propose()
        other = Loop(MAKERS[name](), space, seed=seed)
        other.history = loop.history
        again = other.propose()
        if u is None:
            assert again is None
            return
        assert again is not None
        assert np.array_equal(u, again, equal_nan=True)
        assert valid(space, u)
        loop.start(space.decode(u))
        if trial >= late:
            loop.tell(trial - late, value)


@pytest.mark.parametrize("name", MAKERS)
def test_two_objectives_and_every_end_state(name: str) -> None:
    sampler = sampler_for(name, mixed_space(), 2)
    if sampler is None:
        return
    loop = Loop(sampler, mixed_space(), objectives=("a", "b"))
    ends = [s for s in TrialState if s.finished]
    for trial in range(30):
        params = loop.ask()
        assert params is not None
        state = ends[trial % len(ends)]
        good = state is TrialState.COMPLETE
        value = float(trial) if good else math.nan
        loop.tell(trial, value, -value, state=state)
    assert valid(mixed_space(), loop.due())
