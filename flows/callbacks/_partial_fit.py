"""scikit-learn estimators with ``partial_fit``: a step is one pass over the data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flows._retune import retune
from flows._saving import Saving
from flows.callbacks._trial import Trial
from hpo_core import InputError
from hpo_core.inner import check_whole

__all__ = ["partial_fits"]


def partial_fits(
    trial: Trial, n: int, model: Any, X: Any, y: Any, **fit_arguments: Any
) -> Iterator[tuple[int, Any]]:
    """(step, model) after each of ``n`` passes; report the step in the loop's body.

    A resumed trial goes on with the estimator that was saved, set to the parameters of ``model``, so
    that a fork trains on with its own. ``fit_arguments``: more for ``partial_fit``; a classifier's
    ``classes`` are found in ``y`` where they are not given.
    """
    if not hasattr(model, "partial_fit"):
        raise InputError(
            f"{type(model).__name__} has no partial_fit, so it cannot learn in steps; report it once, "
            "without steps"
        )
    check_whole("n", n)
    if hasattr(type(model), "predict") and _is_classifier(model):
        import numpy as np

        fit_arguments.setdefault("classes", np.unique(y))
    if trial.checkpoint is not None:
        own, model = model.get_params(deep=False), trial.checkpoint.load()
        retune(model, own)
    saving = Saving(trial, lambda: model)
    done = 0
    for step in trial.steps(n):
        model.partial_fit(X, y, **fit_arguments)
        done = step
        saving.passed(step, n)
        yield step, model
    saving.ended(done, n)


def _is_classifier(model: Any) -> bool:
    from sklearn.base import is_classifier

    return bool(is_classifier(model))
