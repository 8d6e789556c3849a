"""Other parameters for a scikit-learn estimator that has begun to learn, as a fork brings them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["retune"]

# What the optimiser of a perceptron is made with.
_OPTIMIZER = frozenset(
    {
        *("learning_rate_init", "learning_rate", "power_t", "momentum", "nesterovs_momentum"),
        *("beta_1", "beta_2", "epsilon"),
    }
)


def retune(estimator: Any, params: Mapping[str, Any]) -> None:
    """Set parameters so that what it learns from now on is learned with them."""
    before = estimator.get_params(deep=False)
    changed = [name for name in _OPTIMIZER & params.keys() if before.get(name) != params[name]]
    estimator.set_params(**params)
    if changed and hasattr(estimator, "_optimizer"):
        # A perceptron makes its optimiser once, with the settings of then. Without it, it makes another.
        del estimator._optimizer
