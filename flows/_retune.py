"""Other parameters for a scikit-learn estimator that has begun to learn, as a fork brings them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpo_core import ObjectiveError

__all__ = ["retune", "settled"]

# What the optimiser of a perceptron is made with.
_OPTIMIZER = frozenset(
    {
        *("learning_rate_init", "learning_rate", "power_t", "momentum", "nesterovs_momentum"),
        *("beta_1", "beta_2", "epsilon"),
    }
)

# By class name without Classifier or Regressor.
_SETTLED = {
    "MLP": ("hidden_layer_sizes", "activation", "solver"),
    "SGD": ("average", "loss", "fit_intercept"),
    # Its trees are scaled when it predicts, all of them by the newest rate.
    "GradientBoosting": ("learning_rate", "loss", "init"),
    # Its trees are gone through by the numbers of bins.
    "HistGradientBoosting": ("loss", "max_bins"),
    # It takes off the newest value what it has put on by the one before.
    "GaussianNB": ("var_smoothing",),
}


def settled(kind: str) -> tuple[str, ...]:
    """Parameters that an estimator cannot learn on with, once it has learned with others."""
    return _SETTLED.get(kind.removesuffix("Classifier").removesuffix("Regressor"), ())


def retune(estimator: Any, params: Mapping[str, Any]) -> None:
    """Set parameters so that what it learns from now on is learned with them.

    Raises :class:`ObjectiveError` for another value of what it cannot learn on with.
    """
    before, kind = estimator.get_params(deep=False), type(estimator).__name__
    for name in settled(kind):
        if name in params and params[name] != before.get(name):
            raise ObjectiveError(
                f"a {kind} that has begun to learn with {name}={before.get(name)!r} cannot go on with "
                f"{params[name]!r}, so a fork cannot change it; leave {name!r} out of the strategy's "
                "parameters"
            )
    changed = [name for name in _OPTIMIZER & params.keys() if before.get(name) != params[name]]
    estimator.set_params(**params)
    if changed and hasattr(estimator, "_optimizer"):
        # A perceptron makes its optimiser once, with the settings of then. Without it, it makes another.
        del estimator._optimizer
