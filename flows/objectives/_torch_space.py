"""What the torch network can be told: domains of its parameters, and the default search space."""

from __future__ import annotations

from typing import Any

import numpy as np

from flows.objectives._data import Problem
from hpo_core import Categorical, Constant, Float, InputError, Int, Parameter, SearchSpace
from hpo_core.inner import nearest

# What each parameter may be: a range of numbers, or names.
_DOMAINS: dict[str, tuple[float, float] | tuple[Any, ...]] = {
    "layers": (1, 20),
    "width": (1, 8192),
    "embedding_size": (1, 1024),
    "batch_size": (2, 65_536),
    "learning_rate": (1e-12, 100.0),
    "weight_decay": (0.0, 10.0),
    "momentum": (0.0, 0.9999),
    "dropout": (0.0, 0.95),
    "label_smoothing": (0.0, 0.9),
    "clip_norm": (1e-6, 1e6),
    "optimizer": ("adamw", "adam", "sgd"),
    "activation": ("relu", "gelu", "silu"),
    "norm": ("none", "batch", "layer"),
    "schedule": ("constant", "cosine"),
    "class_weight": ("none", "balanced"),
    "squash": (False, True),
}
_WHOLE = ("layers", "width", "embedding_size", "batch_size")
_NAMED = ("optimizer", "activation", "norm", "schedule", "class_weight", "squash")


# What a network is. A checkpoint of another one cannot be loaded, or means something else.
SETTLED = ("layers", "width", "norm", "embedding_size", "activation", "squash")


def default_space(problem: Problem, n_train: int) -> dict[str, Parameter]:
    largest = int(min(512, max(16, n_train // 4)))
    space: dict[str, Parameter] = {
        "learning_rate": Float(1e-4, 3e-2, log=True, default=2e-3),
        "weight_decay": Float(1e-6, 0.3, log=True, default=1e-3),
        "batch_size": Int(16, largest, log=True, default=min(64, largest)),
        "layers": Int(1, 4, default=2),
        "width": Int(16, 256, log=True, default=64),
        "dropout": Float(0.0, 0.5, default=0.1),
        "norm": Categorical(["none", "batch", "layer"], default="none"),
        "activation": Categorical(["relu", "gelu", "silu"], default="relu"),
        "optimizer": Categorical(["adamw", "adam", "sgd"], default="adamw"),
        "momentum": Float(0.5, 0.99, default=0.9).when("optimizer", "sgd"),
        "schedule": Categorical(["constant", "cosine"], default="cosine"),
        "squash": Categorical([False, True], default=False),
    }
    if problem.categories:
        space["embedding_size"] = Int(2, 32, log=True, default=8)
    if problem.classes:
        counts = np.bincount(problem.y.astype(np.int64))
        if counts.max() > 2 * counts.min():
            space["class_weight"] = Categorical(["none", "balanced"], default="none")
    return space


def resolve(name: str) -> str:
    plain = {"lr": "learning_rate", "epochs": "max_epochs", "hidden": "width"}.get(name, name)
    if plain == "max_epochs":
        raise InputError(f"parameter {name!r} is the budget axis; set max_epochs")
    if plain not in _DOMAINS:
        raise InputError(
            f"unknown parameter {name!r} of the torch objective{nearest(plain, _DOMAINS)} (one of "
            f"{', '.join(sorted(_DOMAINS))})"
        )
    return plain


def check_domain(name: str, parameter: Parameter) -> None:
    if isinstance(parameter, Categorical):
        values: tuple[Any, ...] = parameter.choices
    elif isinstance(parameter, Constant):
        values = (parameter.value,)
    else:
        values = (parameter.decode(0.0), parameter.decode(1.0))  # a normal variable may have no bounds
        if name in _NAMED:
            raise InputError(f"parameter {name!r} needs choices out of {list(_DOMAINS[name])!r}, got a range")
        if name in _WHOLE and not isinstance(parameter, Int):
            raise InputError(f"parameter {name!r} is a whole number; give it type: int")
    for value in values:
        _check_value(name, value)


def _check_value(name: str, value: Any) -> None:
    allowed = _DOMAINS[name]
    if name in _NAMED:
        if not any(value is a or (isinstance(value, str) and value == a) for a in allowed):
            raise InputError(f"parameter {name!r}: {value!r} is not one of {list(allowed)!r}")
        return
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not isinstance(value, int | float) or (name in _WHOLE and not whole):
        raise InputError(
            f"parameter {name!r} must be a {'whole ' if name in _WHOLE else ''}number, got {value!r}"
        )
    if not allowed[0] <= value <= allowed[1]:
        raise InputError(f"parameter {name!r}: {value!r} is outside {allowed[0]:g} to {allowed[1]:g}")


def check_together(space: SearchSpace, problem: Problem) -> None:
    """Raise :class:`InputError` for a parameter that means nothing for this table."""
    for name, fits, what in (
        ("class_weight", bool(problem.classes), "classes"),
        ("label_smoothing", problem.task == "multiclass", "more than two classes"),
        ("embedding_size", bool(problem.categories), "categorical columns"),
    ):
        if name in space.parameters and not fits:
            raise InputError(f"parameter {name!r} needs {what}, which this table does not have; remove it")
