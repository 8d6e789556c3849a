"""Functions of the COCO suites ``bbob`` (continuous) and ``bbob-mixint`` (four fifths integer).

Source: Hansen, Finck, Ros and Auger (2009), "Real-parameter black-box optimization benchmarking
2009: noiseless functions definitions", INRIA RR-6829; Tusar, Brockhoff and Hansen (2019),
"Mixed-integer benchmark problems for single- and bi-objective optimization", GECCO.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.problems._problem import Params, Problem
from hpo_core import Float, Int, SearchSpace

__all__ = ["bbob", "bbob_best", "mixint"]

# The mixed-integer suite scales its functions; the package offers their least values only through a
# file that it writes into the working directory, so the factors are kept here, and a test compares.
_MIXINT_FACTOR = {
    1: 1.0, 2: 1e-3, 3: 0.1, 6: 0.01, 8: 0.01, 15: 0.1, 16: 1.0, 17: 10.0, 20: 0.1, 21: 1.0,
}  # fmt: skip

_DRAWS = 4001


def bbob(function: int, dimension: int, instance: int) -> Problem:
    """BBOB ``function`` (1 to 24) on [-5, 5] to the power ``dimension``."""
    import cocoex

    call = cocoex.BareProblem("bbob", function, dimension, instance)
    names = [f"x{i}" for i in range(dimension)]
    points = np.random.default_rng(20_240_501).uniform(-5.0, 5.0, (_DRAWS, dimension))
    return Problem(
        name=f"bbob{dimension}-f{function:02d}-i{instance}",
        space=SearchSpace({n: Float(-5.0, 5.0) for n in names}),
        true=lambda params: float(call(_vector(params, names))),
        optimum=float(call.best_value()),
        median=float(np.median([call(x) for x in points])),
    )


def bbob_best(function: int, dimension: int, instance: int) -> dict[str, float]:
    """The configuration at which :func:`bbob` has its optimum."""
    import cocoex

    best = cocoex.BareProblem("bbob", function, dimension, instance).best_parameter()
    return {f"x{i}": float(x) for i, x in enumerate(best)}


def mixint(function: int, dimension: int, instance: int) -> Problem:
    """``bbob-mixint`` ``function``: integers with 2, 4, 8 and 16 values, the rest continuous."""
    import cocoex

    call = _suite_problem(function, dimension, instance)
    integers = call.number_of_integer_variables
    names = [f"x{i}" for i in range(dimension)]
    lower, upper = call.lower_bounds, call.upper_bounds
    space = SearchSpace(
        {
            n: Int(int(lower[i]), int(upper[i])) if i < integers else Float(float(lower[i]), float(upper[i]))
            for i, n in enumerate(names)
        }
    )
    rng = np.random.default_rng(20_240_501)
    points = rng.uniform(lower, upper, (_DRAWS, dimension))
    points[:, :integers] = rng.integers(
        lower[:integers].astype(int), upper[:integers].astype(int) + 1, (_DRAWS, integers)
    )
    return Problem(
        name=f"mixint{dimension}-f{function:02d}-i{instance}",
        space=space,
        true=lambda params: float(call(_vector(params, names))),
        optimum=_MIXINT_FACTOR[function]
        * float(cocoex.BareProblem("bbob", function, dimension, instance).best_value()),
        median=float(np.median([call(x) for x in points])),
    )


@cache
def _suite_problem(function: int, dimension: int, instance: int) -> Any:
    import cocoex

    suite = cocoex.Suite("bbob-mixint", "", f"dimensions:{dimension} instance_indices:{instance}")
    _SUITES.append(suite)  # freeing a suite frees the memory of its problems
    return suite.get_problem_by_function_dimension_instance(function, dimension, instance)


_SUITES: list[Any] = []


def _vector(params: Params, names: list[str]) -> NDArray[np.float64]:
    return np.array([params[n] for n in names], dtype=np.float64)
