"""FLAML's and Optuna's search for a LightGBM model, as a program of its own for the peers' environment.

PYTHON _lightgbm_search.py TOOL FOLDER SECONDS SEED THREADS

``FOLDER`` has ``train.csv`` with the column ``target``, and ``question.json``: task, metric, folds,
categories. Prints a JSON list of the best configurations in the order they were found: ``at`` (time of day
in seconds), ``params``, ``rounds`` (none: early stopping is to find them).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


def flaml(frame: Any, question: dict[str, Any], seconds: float, seed: int, threads: int) -> list[Any]:
    """``AutoML`` with LightGBM as its only estimator and cross-validation of as many folds."""
    from flaml import AutoML

    metric = {"auc": "roc_auc", "logloss": "log_loss", "rmse": "rmse"}[question["metric"]]
    search = AutoML()
    begun = time.time()
    search.fit(
        frame.drop(columns="target"),
        frame["target"],
        task="regression" if question["task"] == "regression" else "classification",
        metric=metric,
        estimator_list=["lgbm"],
        time_budget=seconds,
        eval_method="cv",
        n_splits=question["folds"],
        n_jobs=threads,
        seed=seed,
        retrain_full=False,
        verbose=0,
    )
    found = []
    for _, config, at in search.config_history.values():
        params = {k: float(v) for k, v in config.items() if k != "FLAML_sample_size"}
        rounds = int(params.pop("n_estimators"))
        params["max_bin"] = 2 ** int(params.pop("log_max_bin")) - 1
        whole = {k: int(params[k]) for k in ("num_leaves", "min_child_samples")}
        found.append({"at": begun + at, "params": {**params, **whole}, "rounds": rounds})
    return found


def optuna(frame: Any, question: dict[str, Any], seconds: float, seed: int, threads: int) -> list[Any]:
    """``LightGBMTunerCV``, which tunes one group of parameters after another and then stops."""
    import lightgbm
    import optuna as library
    from optuna_integration.lightgbm import LightGBMTunerCV

    library.logging.set_verbosity(library.logging.ERROR)
    task, metric = question["task"], question["metric"]
    labels = frame["target"] if task == "regression" else frame["target"].astype("category").cat.codes
    fixed: dict[str, Any] = {"verbosity": -1, "num_threads": threads, "seed": seed}
    fixed |= {
        "binary": {"objective": "binary", "metric": "auc" if metric == "auc" else "binary_logloss"},
        "multiclass": {
            "objective": "multiclass",
            "metric": "multi_logloss",
            "num_class": labels.nunique(),
        },
        "regression": {"objective": "regression", "metric": "rmse"},
    }[task]
    study = library.create_study(direction="maximize" if metric == "auc" else "minimize")
    search = LightGBMTunerCV(
        fixed,
        lightgbm.Dataset(frame.drop(columns="target"), label=labels, params={"verbosity": -1}),
        num_boost_round=1000,
        nfold=question["folds"],
        stratified=task != "regression",
        shuffle=True,
        time_budget=seconds,
        study=study,
        seed=seed,
        optuna_seed=seed,
        show_progress_bar=False,
        callbacks=[lightgbm.early_stopping(100, verbose=False)],
    )
    search.run()
    found: list[Any] = []
    sign, best = (-1.0 if metric == "auc" else 1.0), float("inf")
    for trial in study.trials:
        if trial.value is not None and sign * trial.value < best:
            best = sign * trial.value
            params = json.loads(trial.system_attrs["lightgbm_tuner:lgbm_params"])
            kept = {k: v for k, v in params.items() if k not in fixed}
            found.append({"at": trial.datetime_complete.timestamp(), "params": kept, "rounds": None})
    return found


def main() -> None:
    """Search, and print what was found."""
    import pandas as pd

    tool, folder, seconds, seed, threads = sys.argv[1:6]
    question = json.loads((Path(folder) / "question.json").read_text())
    frame = pd.read_csv(Path(folder) / "train.csv", dtype=dict.fromkeys(question["categories"], "category"))
    search = {"flaml": flaml, "optuna-tuner": optuna}[tool]
    found = search(frame, question, float(seconds), int(seed), int(threads))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
