"""Pruning, pausing and going on from checkpoints in one line, for the libraries that train in steps.

    booster = lightgbm.train(params, train, valid_sets=[valid], **lightgbm_arguments(trial, rounds=300))
    booster = xgboost.train(params, train, evals=[(valid, "valid")], **xgboost_arguments(trial, rounds=300))

    for epoch in epochs(trial, 30, model=model, optimizer=optimizer):            # PyTorch
        trial.report(epoch, loss=train_one_epoch(model, optimizer))

    for step, model in partial_fits(trial, 30, SGDClassifier(), X, y):           # scikit-learn
        trial.report(step, accuracy=model.score(X_valid, y_valid))

    trainer = Trainer(max_epochs=30, callbacks=[lightning_callback(trial)])      # Lightning
    trainer.fit(module, data, ckpt_path=lightning_checkpoint(trial))

Each loads ``trial.checkpoint`` where there is one, saves every 20 seconds and when the trial is paused,
and ends training when the study stops or pauses the trial. The exception by which the boosting libraries
and Lightning are left must not be caught. Importing this module imports none of the libraries.
"""

from __future__ import annotations

from flows.callbacks._boosting import lightgbm_arguments as lightgbm_arguments
from flows.callbacks._boosting import xgboost_arguments as xgboost_arguments
from flows.callbacks._lightning import lightning_callback as lightning_callback
from flows.callbacks._lightning import lightning_checkpoint as lightning_checkpoint
from flows.callbacks._partial_fit import partial_fits as partial_fits
from flows.callbacks._torch import epochs as epochs

__all__ = [
    "epochs",
    "lightgbm_arguments",
    "lightning_callback",
    "lightning_checkpoint",
    "partial_fits",
    "xgboost_arguments",
]
