"""Tune LightGBM on a table from Python, and register the best model.

The same as ``hpo tune lgbm --data sklearn:breast_cancer --metric auc --trials 10 --register cancer``.
"""

from __future__ import annotations

from flows import tune

if __name__ == "__main__":
    result = tune(
        "lgbm",
        data="sklearn:breast_cancer",  # or a path to CSV or Parquet
        metric="auc",
        space={"num_leaves": {"low": 4, "high": 32}},  # narrows the default space; the rest stays
        folds=3,
        trials=10,
        workers=2,
        register_as="cancer",
        name="lgbm-from-python",
    )
    print("cross-validation:", result.best.values)
    print("on rows that tuning never saw:", result.scores)
    print("model:", result.model)
