"""A result that depends on the seed: each configuration is run with several, and the mean is ranked.

From the command line the same study, and whether its winner is the best with seeds that it was not chosen by:

    hpo tune examples/repeats.py:objective --repeats 5 --trials 30 --name seeds
    hpo confirm seeds
"""

from __future__ import annotations

from typing import Any

from sklearn.datasets import load_digits
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.model_selection import train_test_split

from flows import tune
from hpo_core import Float, Int

space = {
    "features": Float(0.02, 1.0, log=True),
    "leaf": Int(1, 20, log=True),
    "alpha": Float(1e-5, 1e-1, log=True),
}
objectives = {"accuracy": "max"}


def objective(trial: Any) -> float:
    """Few trees on few digits: which rows they learn from and how they grow follow from the seed."""
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, train_size=300, random_state=trial.seed)
    model = ExtraTreesClassifier(
        n_estimators=20,
        max_features=trial.params["features"],
        min_samples_leaf=trial.params["leaf"],
        ccp_alpha=trial.params["alpha"],
        random_state=trial.seed,
    )
    return float(model.fit(X, y).score(X_test, y_test))


objective.space = space  # type: ignore[attr-defined]
objective.objectives = objectives  # type: ignore[attr-defined]

if __name__ == "__main__":
    result = tune(
        objective, space=space, objectives=objectives, trials=12, repeats=3, workers=2, name="seeds"
    )
    best = result.best
    spread = best.metrics["accuracy_std"]
    print(f"{best.values['accuracy']:.3f} +- {spread:.3f} over 3 seeds with {best.params}")
