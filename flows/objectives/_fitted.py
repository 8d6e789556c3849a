"""Fitted scikit-learn models: predictions as metrics want them, and what a saved one needs."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import Any

import numpy as np

from flows.objectives._data import Problem
from flows.objectives._estimators import last_step
from flows.objectives._metrics import Array, Needs
from hpo_core import Infeasible


def outputs_of(model: Any, inputs: Any, problem: Problem, needs: Needs, labels: Sequence[Any] = ()) -> Array:
    """Predictions in the form that a metric of this kind wants.

    ``labels``: what the model calls the classes, in code order; without them, the codes themselves.
    Raises :class:`Infeasible` when the model, with these parameters, has no such predictions.
    """
    if not problem.classes:
        return np.asarray(model.predict(inputs), dtype=np.float64).reshape(len(inputs))
    position = {label: code for code, label in enumerate(labels or range(len(problem.classes)))}
    if needs == "class":
        # What its users get: it may draw the line elsewhere than at the likelier class.
        codes = [position[label] for label in np.ravel(model.predict(inputs)).tolist()]
        scores = np.eye(len(problem.classes))[codes]
        return scores[:, 1] if problem.task == "binary" else scores
    known = [position[label] for label in np.asarray(model.classes_).tolist()]
    if hasattr(model, "predict_proba"):
        raw = np.asarray(model.predict_proba(inputs), dtype=np.float64)
    elif needs == "ranking" and hasattr(model, "decision_function"):
        raw = np.asarray(model.decision_function(inputs), dtype=np.float64)
        if raw.ndim == 1:  # two classes: those of the problem, or those that a fold has of more
            raw = np.stack([-raw, raw], axis=1)
    else:
        name = type(last_step(model)).__name__
        raise Infeasible(f"{name} gives no {needed(needs)} with these parameters")
    # A fold may lack a class; its probability is 0.
    scores = np.zeros((len(raw), len(problem.classes)))
    scores[:, known] = raw
    return scores[:, 1] if problem.task == "binary" else scores


def needed(needs: Needs) -> str:
    return "probabilities (predict_proba)" if needs == "probability" else "scores to rank rows by"


def names_codes(model: Any) -> bool:
    """Whether the model calls the classes by their codes and not by the user's labels, as XGBoost does."""
    return type(last_step(model)).__module__.startswith("xgboost")


def unbound(model: Any) -> Any:
    """The model without settings of its training: the server that loads it chooses its threads, and another
    ``fit`` begins anew.
    """
    fitted = model.regressor_ if model is not pipeline_of(model) else model
    name, last = fitted.steps[-1]
    known = last.get_params(deep=False)
    settings = {"n_jobs": None, "warm_start": False}
    fitted.set_params(**{f"{name}__{k}": v for k, v in settings.items() if k in known})
    return model


def pipeline_of(model: Any) -> Any:
    """The pipeline inside the standardised target, or the model, which then is one."""
    from sklearn.compose import TransformedTargetRegressor

    return model.regressor if isinstance(model, TransformedTargetRegressor) else model


def packages_of(model: Any) -> list[str]:
    """The distributions that the model's own classes come from, besides scikit-learn."""
    from sklearn.pipeline import Pipeline

    pipeline = pipeline_of(model)
    steps = pipeline.steps if isinstance(pipeline, Pipeline) else pipeline.estimator.steps
    modules = {type(step).__module__.split(".")[0] for _, step in steps} - {"sklearn", "builtins"}
    return [_distribution(module) for module in sorted(modules)]


def _distribution(module: str) -> str:
    """The distribution that holds a module; most have the module's name, and asking for all is slow."""
    try:
        metadata.version(module)
    except metadata.PackageNotFoundError:
        return metadata.packages_distributions().get(module, [module])[0]
    return module
