"""A saved final model loads and predicts from raw rows in a process that has never heard of this project."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.objectives import FinalModel, TrialInfo, make_objective
from tests.flows.small_tables import mixed, written
from tracking import CodeModel

pytestmark = pytest.mark.slow

# Loads every model in the folder, without this project on the path, and predicts its example.
LOADER = """
import json, pathlib, sys, warnings
warnings.simplefilter("ignore")
# Also not through MLflow's entry points, where this project is installed.
sys.modules.update(dict.fromkeys(["flows", "tracking", "hpo_core"]))
import mlflow, numpy
out = {}
for folder in sorted(path for path in pathlib.Path(sys.argv[1]).iterdir() if not path.suffix):
    model = mlflow.pyfunc.load_model(str(folder))
    rows = model.input_example
    # A network is traced with two rows, and takes any number of them.
    out[folder.name] = [numpy.asarray(model.predict(part)).ravel().tolist() for part in (rows, rows[:1])]
print(json.dumps(out))
"""


def saved(final: FinalModel, path: Path) -> None:
    """Save a final model the way that the tracking layer logs it."""
    import mlflow

    flavor, argument = {
        "lightgbm": (mlflow.lightgbm, "lgb_model"),
        "sklearn": (mlflow.sklearn, "sk_model"),
        "pyfunc": (mlflow.pyfunc, "python_model"),
    }[final.flavor]
    given = {argument: final.model}
    if isinstance(final.model, CodeModel):
        files = path.with_suffix(".files")
        files.mkdir()
        given = final.model.written(files)
    with warnings.catch_warnings():
        # Those of mlflow and torch.export are not ours.
        warnings.simplefilter("ignore")
        flavor.save_model(
            **given,
            path=str(path),
            signature=mlflow.models.infer_signature(final.example, final.example_output),
            input_example=final.example,
            pip_requirements=list(final.requirements),
            **final.log_options,
        )


def test_saved_models_need_nothing_of_ours(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("torch")
    table = written(tmp_path, mixed())
    cases: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
        "lgbm-plain": ("lgbm", {"data": "sklearn:wine"}, {"num_leaves": 7}),
        "lgbm-mixed": ("lgbm", {"data": table}, {"num_leaves": 7}),
        "sklearn-mixed": ("sklearn", {"data": table, "estimator": "linear"}, {"C": 1.0}),
        "sklearn-target": (
            "sklearn",
            {"data": "sklearn:diabetes", "estimator": "sgd", "budget": "steps"},
            {"alpha": 0.01},
        ),
        "torch-mixed": ("torch", {"data": table}, {"width": 8, "norm": "batch"}),
        "torch-target": ("torch", {"data": "sklearn:diabetes"}, {"width": 8}),
    }
    info = TrialInfo(seed=1, metrics={"rounds": 5.0, "epochs": 2.0, "steps": 3.0})
    models, expected = tmp_path / "models", {}
    models.mkdir()
    for name, (kind, options, params) in cases.items():
        objective = make_objective(kind, **options)
        objective.prepare()
        final = objective.finalise(params, info)
        saved(final, models / name)
        expected[name] = np.asarray(final.example_output).ravel()
    done = subprocess.run(
        [sys.executable, "-c", LOADER, str(models)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    predicted = json.loads(done.stdout.splitlines()[-1])
    for name, values in expected.items():
        for found in predicted[name]:
            if values.dtype.kind in "OU":
                assert found == values[: len(found)].tolist(), name
            else:
                np.testing.assert_allclose(found, values[: len(found)].astype(float), rtol=1e-4, err_msg=name)
