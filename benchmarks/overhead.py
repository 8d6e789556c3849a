"""What a trial costs beyond its objective: a no-op study with everything on against a bare MLflow loop.

    python -m benchmarks.overhead --trials 300 --workers 2 --repeats 3

Both sides track to a SQLite file of their own, fresh for each repetition, and take turns in one run. The
bare loop is what a user writes by hand: a parent run, and for each trial ``start_run(nested=True)``,
``log_params`` of five, ``log_metric``. Ours is ``flows.tune``, Prefect included. Start-up is reported apart.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks._report import RESULTS, STAMP_COLUMNS, append_row, stamp

HERE = Path(__file__).resolve().parent.parent

BARE = """
import json, random, sys, time, mlflow
trials = int(sys.argv[1])
mlflow.set_experiment("bare")
with mlflow.start_run():
    began = time.perf_counter()
    for _ in range(trials):
        params = {f"p{i}": random.random() for i in range(5)}
        with mlflow.start_run(nested=True):
            mlflow.log_params(params)
            mlflow.log_metric("loss", sum(params.values()))
    print(json.dumps({"seconds": time.perf_counter() - began}))
"""

# Prints, as its last line: the seconds from its own beginning to the first trial's start, to each trial's
# end, and to the moment in which all is done.
OURS = """
import json, sys, time
began = time.time()
from flows import tune
from hpo_core import Float

def objective(trial):
    return sum(trial.params.values())

if __name__ == "__main__":
    trials, workers = int(sys.argv[1]), int(sys.argv[2])
    space = {f"p{i}": Float(0, 1) for i in range(5)}
    result = tune(objective, space=space, strategy="random", trials=trials, workers=workers, name="noop",
                  tell=lambda line: None)
    over = time.time() - began
    done = [t for t in result.study.trials if t.state.name == "COMPLETE"]
    from mlflow import MlflowClient
    client = MlflowClient()
    runs, token = 0, None
    experiment = client.get_experiment_by_name("noop").experiment_id
    while True:
        page = client.search_runs([experiment], "attributes.status = 'FINISHED'", page_token=token)
        runs, token = runs + len(page), page.token
        if not token:
            break
    if runs != trials + 1:
        raise SystemExit(f"expected {trials} finished runs and the study's, MLflow has {runs}")
    print(json.dumps({"start": min(t.started_at for t in done) - began, "over": over,
                      "ends": [t.finished_at - began for t in done]}))
"""


def run(code: str, *arguments: int, settings: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run a script in a fresh process and folder; its last line is JSON. ``settings``: environment."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script.py"
        script.write_text(code)
        environment = {
            **os.environ,
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
            "PYTHONPATH": str(HERE),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            **(settings or {}),
        }
        done = subprocess.run(
            [sys.executable, str(script), *map(str, arguments)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def main() -> None:
    """Take turns, print medians and the ratio, keep the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--keep", action="store_true", help="append the rows to benchmarks/results/overhead.csv"
    )
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for repeat in range(options.repeats):
        bare = run(BARE, options.trials)
        ours = run(OURS, options.trials, options.workers)
        if len(ours["ends"]) != options.trials:
            raise SystemExit(f"expected {options.trials} finished trials, got {len(ours['ends'])}")
        rows.append(
            {
                "repeat": repeat,
                "trials": options.trials,
                "workers": options.workers,
                "bare_ms": 1e3 * bare["seconds"] / options.trials,
                "ours_ms": 1e3 * (max(ours["ends"]) - ours["start"]) / options.trials,
                "ours_with_delivery_ms": 1e3 * (ours["over"] - ours["start"]) / options.trials,
                "start_s": ours["start"],
            }
        )
        print(rows[-1])
    ratios = [row["ours_ms"] / row["bare_ms"] for row in rows]
    print(f"ours / bare: median {statistics.median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}")
    if options.keep:
        marks = stamp(("mlflow", "prefect", "numpy"))
        for row in rows:
            append_row(RESULTS / "overhead.csv", (*rows[0], *STAMP_COLUMNS), {**row, **marks})


if __name__ == "__main__":
    main()
