"""scikit-learn estimators: found by name or import path, prepared for the table, with default spaces."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows._importing import make_importable
from flows.objectives._data import Problem
from flows.objectives._encode import dense_encoder, ordinal_encoder
from flows.objectives._metrics import Needs
from flows.objectives._splits import Rows
from hpo_core import Categorical, Constant, Float, InputError, Int, Parameter
from hpo_core.inner import nearest

# Short names; {} becomes Classifier or Regressor.
SHORT = {
    "hist_gradient_boosting": "sklearn.ensemble.HistGradientBoosting{}",
    "random_forest": "sklearn.ensemble.RandomForest{}",
    "extra_trees": "sklearn.ensemble.ExtraTrees{}",
    "gradient_boosting": "sklearn.ensemble.GradientBoosting{}",
    "ada_boost": "sklearn.ensemble.AdaBoost{}",
    "decision_tree": "sklearn.tree.DecisionTree{}",
    "knn": "sklearn.neighbors.KNeighbors{}",
    "sgd": "sklearn.linear_model.SGD{}",
    "mlp": "sklearn.neural_network.MLP{}",
    "xgboost": "xgboost.XGB{}",
}
# Families whose two estimators do not share a name.
_PAIRS = {
    "svm": ("sklearn.svm.SVC", "sklearn.svm.SVR"),
    "linear": ("sklearn.linear_model.LogisticRegression", "sklearn.linear_model.Ridge"),
}
# Set by the objective, with what to do instead.
RESERVED = {
    "random_state": "the trial's own seed is used",
    "n_jobs": "set threads",
    "verbose": "estimators are kept quiet",
    "warm_start": "set budget='steps'",
}
# HistGradientBoosting takes at most 255 levels of a category.
_HIST_LEVELS = 250


@dataclass(frozen=True)
class Estimator:
    """An estimator as the user named it.

    ``make()`` gives a fresh one; ``ready`` is ``True`` when it is a pipeline of the user's own, which
    gets the table as it is.
    """

    path: str
    make: Callable[[], Any]
    ready: bool

    @property
    def kind(self) -> str:
        """The class name of the estimator (for a pipeline, of its last step)."""
        return type(last_step(self.make())).__name__


def last_step(model: Any) -> Any:
    """The final estimator of a pipeline, or the model itself."""
    from sklearn.pipeline import Pipeline

    return model.steps[-1][1] if isinstance(model, Pipeline) else model


def find(name: str, problem: Problem) -> Estimator:
    """The estimator of a short name or an import path (``package.module.Class`` or ``module:function``).

    A function has to return an unfitted estimator or pipeline. Raises :class:`InputError` for what
    cannot be imported, is no estimator, or is made for another kind of target.
    """
    path = _path_of(name, problem)
    thing = _import(name, path)
    estimator = Estimator(path, lambda: _made(path, thing), False)
    model = estimator.make()
    _check_task(path, model, problem)
    from sklearn.pipeline import Pipeline

    return Estimator(path, estimator.make, isinstance(model, Pipeline))


def _path_of(name: str, problem: Problem) -> str:
    regression = problem.task == "regression"
    if name in SHORT:
        return SHORT[name].format("Regressor" if regression else "Classifier")
    if name in _PAIRS:
        return _PAIRS[name][regression]
    if "." not in name and ":" not in name:
        known = sorted([*SHORT, *_PAIRS])
        raise InputError(
            f"unknown estimator {name!r}{nearest(name, known)} (one of {', '.join(known)}, or an import "
            "path such as sklearn.ensemble.RandomForestClassifier or my_package.my_module:make_pipeline)"
        )
    return name


def _import(name: str, path: str) -> Any:
    """What the path names. The working directory counts as importable, as for ``python -m``."""
    module_name, _, attribute = path.partition(":") if ":" in path else path.rpartition(".")
    make_importable(Path.cwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        remedy = f"install {error.name}" if error.name != module_name else "check the spelling"
        raise InputError(f"estimator {name!r}: there is no module {error.name!r}; {remedy}") from None
    except Exception as error:  # noqa: BLE001 - whatever a user's module raises on import
        reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise InputError(
            f"estimator {name!r}: importing {module_name} raised {type(error).__name__}: {reason}"
        ) from None
    if not hasattr(module, attribute):
        hint = nearest(attribute, [a for a in dir(module) if not a.startswith("_")])
        raise InputError(f"estimator {name!r}: module {module_name} has no {attribute!r}{hint}")
    return getattr(module, attribute)


def _made(path: str, thing: Any) -> Any:
    """A fresh estimator from a class, a function or an instance."""
    from sklearn.base import BaseEstimator, clone

    if isinstance(thing, BaseEstimator):
        return clone(thing)
    if not callable(thing):
        raise InputError(
            f"estimator {path!r} is {thing!r}; expected an estimator class or a function that makes one"
        )
    try:
        model = thing()
    except TypeError as error:
        raise InputError(
            f"estimator {path!r} cannot be made without arguments ({error}); write a function that makes "
            "it and give module:function"
        ) from None
    if not (hasattr(model, "fit") and hasattr(model, "predict") and hasattr(model, "get_params")):
        raise InputError(
            f"estimator {path!r} gave {type(model).__name__}, which lacks fit, predict or get_params; "
            "expected a scikit-learn estimator or pipeline"
        )
    return model


def _check_task(path: str, model: Any, problem: Problem) -> None:
    from sklearn.base import is_classifier, is_regressor

    wrong = is_regressor(model) if problem.classes else is_classifier(model)
    if wrong:
        other = ("Regressor", "Classifier") if problem.classes else ("Classifier", "Regressor")
        instead = path.replace(*other) if other[0] in path else f"a {other[1].lower()}"
        raise InputError(
            f"estimator {path!r} is not for a {problem.task} target; use {instead}, or force the task"
        )


def with_preprocessing(estimator: Estimator, problem: Problem, rows: Rows) -> Any:
    """An unfitted pipeline that takes the table: the user's own, or ours with the steps prepare, model.

    ``rows``: those that it will be fitted on.
    """
    from sklearn.pipeline import Pipeline

    model = estimator.make()
    if estimator.ready:
        return model
    if estimator.kind.startswith("HistGradientBoosting"):
        # It has no bins for a column without a value, and raises (scikit-learn 1.9).
        problem = problem.known_in(rows)
        model.set_params(categorical_features=problem.categorical or None)
        return Pipeline([("prepare", ordinal_encoder(problem, max_levels=_HIST_LEVELS)), ("model", model)])
    tags = model.__sklearn_tags__().input_tags
    scale = None if _is_tree(model) else ("unit" if tags.positive_only else "standard")
    encoder = dense_encoder(problem, impute=not tags.allow_nan, scale=scale)
    return Pipeline([("prepare", encoder), ("model", model)])


def _is_tree(model: Any) -> bool:
    module = type(model).__module__
    boosted = module.split(".")[0] in ("xgboost", "lightgbm", "catboost")
    return boosted or any(part in module for part in ("sklearn.tree", "sklearn.ensemble"))


def scales_target(estimator: Estimator, problem: Problem) -> bool:
    """Whether the target is standardised: not for trees, nor for what needs it positive.

    Penalties, tolerances and step sizes of the other regressors act in units of the target.
    """
    if problem.classes or estimator.ready:
        return False
    model = estimator.make()
    return not _is_tree(model) and not model.__sklearn_tags__().target_tags.positive_only


def offers(model: Any, problem: Problem) -> set[Needs]:
    """What the model can give a metric."""
    if not problem.classes:
        return {"value"}
    if hasattr(model, "predict_proba"):
        return {"class", "ranking", "probability"}
    return {"class", "ranking"} if hasattr(model, "decision_function") else {"class"}


# -- default spaces ------------------------------------------------------------------------------


def default_space(kind: str, problem: Problem, n_train: int) -> dict[str, Parameter] | None:
    """The default space of an estimator class, ``None`` for a class that has none.

    ``n_train``: training rows, a third of which every fold has at least.
    """
    family = kind.removesuffix("Classifier").removesuffix("Regressor")
    make = _SPACES.get(kind) or _SPACES.get(family)
    return None if make is None else make(problem, n_train)


Space = dict[str, Parameter]


def _weights(problem: Problem) -> Space:
    # None cannot be declared as a default; the second of two choices is the centre of the space.
    return {"class_weight": Categorical(["balanced", None])} if problem.classes else {}


def _leaf(n_train: int, default: int) -> Parameter:
    most = int(min(100, max(2, n_train // 4)))
    return Int(1, most, log=True, default=min(default, most))


def _hist(problem: Problem, n: int) -> Space:
    return {
        "learning_rate": Float(0.01, 0.5, log=True, default=0.1),
        "max_iter": Int(30, 500, log=True, default=100),
        "max_leaf_nodes": Int(4, 128, log=True, default=31),
        "min_samples_leaf": _leaf(n, 20),
        "l2_regularization": Float(1e-8, 10.0, log=True, default=1e-8),
        "max_features": Float(0.2, 1.0, default=1.0),
        **_weights(problem),
    }


def _forest(problem: Problem, n: int) -> Space:
    criteria = ["gini", "entropy"] if problem.classes else ["squared_error", "poisson"]
    if not problem.classes and (problem.y < 0).any():
        criteria = ["squared_error"]  # Friedman's came to the same here, and scikit-learn 1.9 has it no more
    return {
        "n_estimators": Int(50, 400, log=True, default=100),
        "max_features": Float(0.05, 1.0, default=0.5),
        "min_samples_leaf": _leaf(n, 1),
        "min_samples_split": Int(2, 40, log=True, default=2),
        "max_leaf_nodes": Int(8, int(max(16, n // 2)), log=True, default=int(max(16, n // 2))),
        "criterion": Categorical(criteria, default=criteria[0]),
        **_weights(problem),
    }


def _gradient_boosting(problem: Problem, n: int) -> Space:
    del problem
    return {
        "learning_rate": Float(0.01, 0.5, log=True, default=0.1),
        "n_estimators": Int(30, 400, log=True, default=100),
        "max_depth": Int(2, 8, default=3),
        "subsample": Float(0.4, 1.0, default=1.0),
        "min_samples_leaf": _leaf(n, 1),
        "max_features": Float(0.1, 1.0, default=1.0),
    }


def _tree(problem: Problem, n: int) -> Space:
    return {
        "max_depth": Int(2, 24, log=True, default=8),
        "min_samples_leaf": _leaf(n, 1),
        "min_samples_split": Int(2, 40, log=True, default=2),
        "ccp_alpha": Float(1e-6, 0.1, log=True, default=1e-6),
        "max_features": Float(0.2, 1.0, default=1.0),
        **_weights(problem),
    }


def _ada(problem: Problem, n: int) -> Space:
    del problem, n
    return {
        "n_estimators": Int(20, 300, log=True, default=50),
        "learning_rate": Float(0.01, 2.0, log=True, default=1.0),
    }


def _logistic(problem: Problem, n: int) -> Space:
    del n
    return {
        "C": Float(1e-4, 1e3, log=True, default=1.0),
        "fit_intercept": Categorical([True, False], default=True),
        "max_iter": Constant(1000),
        **_weights(problem),
    }


def _ridge(problem: Problem, n: int) -> Space:
    del problem, n
    return {
        "alpha": Float(1e-4, 1e4, log=True, default=1.0),
        "fit_intercept": Categorical([True, False], default=True),
    }


def _lasso(problem: Problem, n: int) -> Space:
    del problem, n
    return {
        "alpha": Float(1e-4, 1.0, log=True, default=0.01),
        "selection": Categorical(["cyclic", "random"], default="cyclic"),
        "max_iter": Constant(5000),
    }


def _elastic_net(problem: Problem, n: int) -> Space:
    return {**_lasso(problem, n), "l1_ratio": Float(0.05, 1.0, default=0.5)}


def _sgd(problem: Problem, n: int) -> Space:
    del n
    losses = ["log_loss", "modified_huber"] if problem.classes else ["squared_error", "huber"]
    return {
        "loss": Categorical(losses, default=losses[0]),
        "alpha": Float(1e-7, 1e-1, log=True, default=1e-4),
        "penalty": Categorical(["l2", "l1", "elasticnet"], default="l2"),
        "l1_ratio": Float(0.05, 0.95, default=0.15).when("penalty", "elasticnet"),
        "learning_rate": Categorical(["optimal", "invscaling", "adaptive"], default="optimal"),
        "eta0": Float(1e-4, 0.3, log=True, default=0.01).when("learning_rate", "invscaling", "adaptive"),
        "average": Categorical([False, True], default=False),
    }


def _svm(problem: Problem, n: int) -> Space:
    del n
    gamma = min(max(1.0 / len(problem.columns), 1e-4), 10.0)
    space: Space = {
        "C": Float(1e-3, 1e3, log=True, default=1.0),
        "kernel": Categorical(["rbf", "poly", "linear"], default="rbf"),
        "gamma": Float(1e-4, 10.0, log=True, default=gamma).when("kernel", "rbf", "poly"),
        "degree": Int(2, 4, default=3).when("kernel", "poly"),
    }
    if not problem.classes:
        space["epsilon"] = Float(1e-3, 1.0, log=True, default=0.1)
    return {**space, **_weights(problem)}


def _neighbors(problem: Problem, n: int) -> Space:
    del problem
    most = int(min(100, max(2, n // 3)))
    return {
        "n_neighbors": Int(1, most, log=True, default=min(5, most)),
        "weights": Categorical(["uniform", "distance"], default="uniform"),
        "p": Categorical([1, 2], ordered=True, default=2),
    }


def _mlp(problem: Problem, n: int) -> Space:
    del problem, n
    return {
        "hidden_layer_sizes": Categorical([[32], [64], [128], [32, 32], [64, 64], [128, 64]], default=[64]),
        "alpha": Float(1e-7, 1.0, log=True, default=1e-4),
        "learning_rate_init": Float(1e-4, 0.1, log=True, default=1e-3),
        "activation": Categorical(["relu", "tanh"], default="relu"),
        "beta_1": Float(0.8, 0.99, default=0.9),
        "max_iter": Constant(200),
    }


def _naive_bayes(problem: Problem, n: int) -> Space:
    del problem, n
    return {"var_smoothing": Float(1e-12, 1.0, log=True, default=1e-9)}


def _xgb(problem: Problem, n: int) -> Space:
    del problem, n
    return {
        "n_estimators": Int(30, 1000, log=True, default=100),
        "learning_rate": Float(0.005, 0.5, log=True, default=0.3),
        "max_depth": Int(2, 12, default=6),
        "min_child_weight": Float(0.1, 100.0, log=True, default=1.0),
        "subsample": Float(0.4, 1.0, default=1.0),
        "colsample_bytree": Float(0.3, 1.0, default=1.0),
        "gamma": Float(1e-8, 10.0, log=True, default=1e-8),
        "reg_alpha": Float(1e-8, 10.0, log=True, default=1e-8),
        "reg_lambda": Float(1e-3, 100.0, log=True, default=1.0),
    }


# Ranges of penalties and of epsilon are for a standardised target, see scales_target.
# By class name, or by class name without Classifier or Regressor.
_SPACES: dict[str, Callable[[Problem, int], Space]] = {
    "HistGradientBoosting": _hist,
    "RandomForest": _forest,
    "ExtraTrees": _forest,
    "GradientBoosting": _gradient_boosting,
    "AdaBoost": _ada,
    "DecisionTree": _tree,
    "ExtraTree": _tree,
    "LogisticRegression": _logistic,
    "Ridge": _ridge,
    "Lasso": _lasso,
    "ElasticNet": _elastic_net,
    "SGD": _sgd,
    "SVC": _svm,
    "SVR": _svm,
    "KNeighbors": _neighbors,
    "MLP": _mlp,
    "GaussianNB": _naive_bayes,
    "XGB": _xgb,
}
