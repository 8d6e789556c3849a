"""Search spaces that between them have every kind of parameter, condition and degeneracy."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from hpo_core._space import Categorical, Constant, Float, Int, LogNormal, Normal, SearchSpace

__all__ = ["SPACES"]

SPACES: Mapping[str, SearchSpace] = MappingProxyType(
    {
        "continuous": SearchSpace({"x": Float(-5.0, 5.0), "y": Float(1e-6, 1.0, log=True)}),
        "mixed": SearchSpace(
            {
                "lr": Float(1e-5, 1e-1, log=True, default=1e-3),
                "ratio": Float(0.0, 1.0, step=0.25),
                "layers": Int(1, 4),
                "units": Int(1, 512, log=True),
                "size": Categorical(["s", "m", "l"], ordered=True),
                "opt": Categorical(["sgd", "adam", "lamb"]),
                "epochs": Constant(3),
            }
        ),
        "conditional": SearchSpace(
            {
                "nesterov": Categorical([False, True]).when("momentum", ge=0.5),
                "opt": Categorical(["sgd", "adam", "lamb"]),
                "momentum": Float(0.0, 0.99).when("opt", "sgd"),
                "beta": Normal(0.9, 0.05, low=0.0, high=1.0).when("opt", "adam", "lamb"),
                "decay": LogNormal(-5.0, 1.0),
            }
        ),
        "constrained": SearchSpace(
            {"a": Float(0.0, 1.0), "b": Float(0.0, 1.0), "n": Int(1, 9)}, ["a + b <= 0.5"]
        ),
        "categorical": SearchSpace({f"c{i}": Categorical(list("abcde")[: i + 2]) for i in range(4)}),
        "small": SearchSpace(
            {
                "a": Int(0, 2),
                "b": Categorical(["x", "y"]),
                "c": Float(0.0, 1.0, step=0.5).when("b", "y"),
            }
        ),
        "one point": SearchSpace({"a": Int(3, 3), "b": Constant("x")}),
        "wide": SearchSpace({f"x{i}": Float(-1e300, 1e300) for i in range(40)}),
    }
)  # fmt: skip
