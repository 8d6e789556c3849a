"""A study as one step of a Prefect flow of your own.

In a flow, ``tune`` is a subflow on the same server. Should Prefect run the flow again, a study that has a
name goes on where it was.
"""

from __future__ import annotations

import pandas as pd
from prefect import flow, task

from flows import Result, tune


@task
def prepare() -> pd.DataFrame:
    """The table of the day."""
    from sklearn.datasets import load_breast_cancer

    return load_breast_cancer(as_frame=True).frame


@task(log_prints=True)
def publish(result: Result, table: pd.DataFrame) -> pd.Series:
    """What the pipeline is for: here, predictions of the new champion."""
    import mlflow

    if result.state != "finished":
        raise RuntimeError(f"nothing to publish: {result.ended}")
    model = mlflow.pyfunc.load_model("models:/tumours@champion")
    predictions = pd.Series(model.predict(table.drop(columns="target")).ravel())
    print(f"{result.model}: {len(predictions)} predictions, {result.best.values}")
    return predictions


@flow
def pipeline(day: str = "2026-11-21") -> pd.Series:
    """Prepare, tune, publish."""
    table = prepare()
    result = tune(
        "lgbm",
        data=table,
        target="target",
        metric="auc",
        folds=3,
        trials=8,
        workers=2,
        max_failures=3,
        register_as="tumours",
        name=f"tumours-{day}",
    )
    return publish(result, table)


if __name__ == "__main__":
    print(pipeline().value_counts())
