"""Synthetic problems with conditional parameters, of any number by changing the seed.

Both have a known optimum: every branch is its own least value plus non-negative terms that vanish
at one point of the branch.
"""

from __future__ import annotations

import math

import numpy as np

from benchmarks.problems._problem import Params, Problem, median_of
from hpo_core import Categorical, Float, Int, SearchSpace

__all__ = ["algorithm_choice", "network"]


def algorithm_choice(seed: int, algorithms: int = 3, own: int = 3) -> Problem:
    """Choose one of several algorithms, each with its own parameters, one of them two levels deep.

    ``algorithms`` branches have least values spread over [0, 0.5]; branch k has a log-scaled float,
    an integer, and ``own - 2`` floats of which the last is active only while the branch's switch is
    on. One float is shared by all branches, with its best value differing between them.
    """
    rng = np.random.default_rng([seed, 101])
    names = [f"algo{k}" for k in range(algorithms)]
    floors = rng.permutation(np.linspace(0.0, 0.5, algorithms))
    best = rng.uniform(0.15, 0.85, (algorithms, own + 1))
    weights = rng.uniform(0.3, 2.0, (algorithms, own + 1))
    cost_off = rng.uniform(0.05, 0.3, algorithms)
    parameters: dict[str, Categorical | Float | Int] = {
        "algorithm": Categorical(names),
        "shared": Float(0.0, 1.0),
    }
    for name in names:
        parameters[f"{name}_rate"] = Float(1e-5, 1.0, log=True).when("algorithm", name)
        parameters[f"{name}_size"] = Int(0, 20).when("algorithm", name)
        parameters[f"{name}_switch"] = Categorical(["off", "on"]).when("algorithm", name)
        for j in range(own - 2):
            parameters[f"{name}_extra{j}"] = Float(-1.0, 1.0).when(f"{name}_switch", "on")

    def true(params: Params) -> float:
        k = names.index(params["algorithm"])
        name = names[k]
        # The integer's best value must be one of its values, or the branch's floor is not reached.
        size_best = round(20 * best[k, 1]) / 20
        gaps = [
            1.0 + math.log10(params[f"{name}_rate"]) / 5.0 - best[k, 0],
            params[f"{name}_size"] / 20 - size_best,
            params["shared"] - best[k, own],
        ]
        used = [0, 1, own]
        total = float(floors[k])
        if params[f"{name}_switch"] == "on":
            for j in range(own - 2):
                gaps.append((params[f"{name}_extra{j}"] + 1.0) / 2.0 - best[k, 2 + j])
                used.append(2 + j)
        else:
            total += float(cost_off[k])
        gap = np.array(gaps)
        bowl = float(np.sum(weights[k, used] * gap**2))
        # A product term couples the parameters; a bounded ripple makes the bowl uneven. Both are >=
        # 0.
        coupling = float((gap[0] + gap[1]) ** 2)
        ripple = 0.03 * float(np.sum(1.0 - np.cos(6.0 * np.pi * gap)))
        return total + bowl + coupling + ripple

    space = SearchSpace(parameters)
    return Problem(
        name=f"cond-choice{algorithms}-s{seed}",
        space=space,
        true=true,
        optimum=float(floors.min()),
        median=median_of(space, true),
    )


def network(seed: int, layers: int = 4) -> Problem:
    """Design a network: the number of layers decides which widths exist, the optimiser which knobs.

    Shaped like training results: a steep wall for learning rates that diverge, a flat floor, widths
    that matter less with depth. Reports carry noise of 2 % of the distance from optimum to median.
    """
    rng = np.random.default_rng([seed, 202])
    best_depth = int(rng.integers(2, layers + 1))
    best_width = rng.integers(5, 10, layers)
    best_rate = float(rng.uniform(-3.5, -2.0))
    best_momentum = float(rng.uniform(0.7, 0.95))
    best_beta = float(rng.uniform(0.2, 0.8))
    best_optimizer = str(rng.choice(["sgd", "adam"]))
    parameters: dict[str, Categorical | Float | Int] = {
        "depth": Int(1, layers),
        "rate": Float(1e-5, 1.0, log=True),
        "optimizer": Categorical(["sgd", "adam", "rmsprop"]),
        "momentum": Float(0.0, 0.99).when("optimizer", "sgd"),
        "beta": Float(0.0, 1.0).when("optimizer", "adam"),
        "dropout": Float(0.0, 0.6),
    }
    for i in range(layers):
        parameters[f"width{i}"] = Int(3, 10).when("depth", ge=i + 1)

    def true(params: Params) -> float:
        # sgd wants a ten times larger rate than the others
        shift = 1.0 if params["optimizer"] == "sgd" else 0.0
        gap = math.log10(params["rate"]) - best_rate - shift
        total = 0.1 * gap**2 + (1.5 * gap**2 if gap > 0 else 0.0)
        total += 0.15 * (params["depth"] - best_depth) ** 2
        for i in range(params["depth"]):
            total += 0.04 / (i + 1) * float(params[f"width{i}"] - best_width[i]) ** 2
        total += 1.2 * (params["dropout"] - 0.08 * best_depth / layers) ** 2
        if params["optimizer"] == "sgd":
            total += 1.5 * (params["momentum"] - best_momentum) ** 2
        elif params["optimizer"] == "adam":
            total += 0.5 * (params["beta"] - best_beta) ** 2
        total += {best_optimizer: 0.0, "rmsprop": 0.1}.get(params["optimizer"], 0.05)
        return float(1.0 - math.exp(-total))

    space = SearchSpace(parameters)
    median = median_of(space, true)

    def observe(params: Params, generator: np.random.Generator) -> float:
        return true(params) + 0.02 * median * float(generator.standard_normal())

    return Problem(
        name=f"cond-network{layers}-s{seed}",
        space=space,
        true=true,
        optimum=0.0,
        median=median,
        observe=observe,
    )
