"""Population based training: weak members go on from a strong one's model, hyperparameters changed.

What the winner's model was trained with over time is a schedule, by which it can be trained from nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from flows import tune
from hpo_core import Float
from hpo_core.schedules import followed

EPOCHS = 20
SPACE = {"rate": Float(1e-5, 0.1, log=True), "alpha": Float(1e-6, 1.0, log=True)}
X, y = load_digits(return_X_y=True)
TRAIN_X, VALID_X, TRAIN_Y, VALID_Y = train_test_split(X, y, random_state=0)


def train(model: SGDClassifier, params: dict[str, Any]) -> float:
    """One epoch; the loss on the validation rows."""
    model.set_params(eta0=params["rate"], alpha=params["alpha"])
    model.partial_fit(TRAIN_X, TRAIN_Y, classes=np.arange(10))
    return float(log_loss(VALID_Y, model.predict_proba(VALID_X)))


def fresh(seed: int) -> SGDClassifier:
    """A model that has not seen anything."""
    return SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.01, random_state=seed)


def loss(trial: Any) -> None:
    """An objective like any other that resumes from its checkpoint, which may be another trial's."""
    model = trial.checkpoint.load() if trial.checkpoint else fresh(trial.seed % 1000)
    for epoch in trial.steps(EPOCHS):
        error = train(model, trial.params)
        trial.save(epoch, model)
        trial.report(epoch, loss=error)


if __name__ == "__main__":
    result = tune(
        loss,
        space=SPACE,
        strategy={"scheduler": {"name": "pbt", "interval": 4}},
        settings={"max_steps": EPOCHS},
        trials=6,  # the population
        workers=2,
        name="pbt-schedule",
    )
    schedule = followed(result.study)
    for after, params in schedule.changes:
        print(f"from epoch {after + 1}:", ", ".join(f"{name} {value:.2g}" for name, value in params.items()))
    model = fresh(0)
    again = [train(model, schedule(epoch)) for epoch in range(1, EPOCHS + 1)]
    print(f"the population's best: {result.best.values['loss']:.3f}; trained again: {again[-1]:.3f}")
