"""Gradient boosting on a table of scikit-learn's, logged to MLflow as one does by hand."""

from __future__ import annotations

import argparse

import mlflow
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.model_selection import train_test_split

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--rate", type=float)
parser.add_argument("--depth", type=int)
parser.add_argument("--stages", type=int)
args = parser.parse_args()

X, y = load_diabetes(return_X_y=True)
X_train, X_valid, y_train, y_valid = train_test_split(X, y, random_state=0)
with mlflow.start_run():
    mlflow.log_params(vars(args))
    model = GradientBoostingRegressor(
        learning_rate=args.rate, max_depth=args.depth, n_estimators=args.stages, random_state=0
    )
    model.fit(X_train, y_train)
    for stage, predicted in enumerate(model.staged_predict(X_valid), start=1):
        if stage % 10 == 0:
            mlflow.log_metric("rmse", float(np.sqrt(np.mean((predicted - y_valid) ** 2))), step=stage)
    mlflow.log_text(repr(model), "model.txt")
