"""Trials per second of a no-op objective with tracking on, beside Optuna's two processes on one SQLite file.

    python -m benchmarks.throughput --trials 200 --workers 2 --repeats 3 --peers /path/to/python-with-optuna

Sides take turns in one run, each with fresh databases. Ours is :func:`flows.tune`, Prefect included, every
trial a finished MLflow run. Optuna has no tracking here: its two processes share a study in SQLite, and
``optuna+mlflow`` adds its own MLflow callback where ``optuna-integration`` is installed. Ray Tune is measured
only where it is installed. The rate is trials over the time from the first trial's start to the last one's
end; ``whole_s`` is from the process's start to its end.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._report import RESULTS, STAMP_COLUMNS, append_row, stamp
from benchmarks.overhead import OURS, run

OPTUNA = """
import json, sys, time, multiprocessing, optuna
optuna.logging.disable_default_handler()
trials, workers, url = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]

def objective(trial):
    return sum(trial.suggest_float(f"p{i}", 0, 1) for i in range(5))

def work(count):
    study = optuna.load_study(study_name="noop", storage=url, sampler=optuna.samplers.RandomSampler())
    study.optimize(objective, n_trials=count)

if __name__ == "__main__":
    optuna.create_study(study_name="noop", storage=url)
    counts = [trials // workers + (i < trials % workers) for i in range(workers)]
    processes = [multiprocessing.get_context("spawn").Process(target=work, args=(n,)) for n in counts]
    for p in processes: p.start()
    for p in processes: p.join()
    done = optuna.load_study(study_name="noop", storage=url).trials
    first, last = min(t.datetime_start for t in done), max(t.datetime_complete for t in done)
    print(json.dumps({"complete": len(done), "seconds": (last - first).total_seconds()}))
"""

RAY = """
import json, sys, time
from ray import tune
trials, workers = int(sys.argv[1]), int(sys.argv[2])
began = time.time()
space = {f"p{i}": tune.uniform(0, 1) for i in range(5)}
tuner = tune.Tuner(lambda config: {"loss": sum(config.values())}, param_space=space,
                   tune_config=tune.TuneConfig(num_samples=trials, max_concurrent_trials=workers))
results = tuner.fit()
print(json.dumps({"complete": len(results), "seconds": time.time() - began}))
"""


def peer(python: str, code: str, trials: int, workers: int) -> dict[str, Any] | None:
    """Run a peer's script; ``None`` where it is not installed."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "script.py")
        script.write_text(code)
        began = time.perf_counter()
        done = subprocess.run(
            [python, str(script), str(trials), str(workers), f"sqlite:///{folder}/peer.db"],
            cwd=folder,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
            capture_output=True,
            text=True,
            check=False,
        )
        if "ModuleNotFoundError" in done.stderr:
            return None
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        return {**json.loads(done.stdout.strip().splitlines()[-1]), "whole": time.perf_counter() - began}


def main() -> None:
    """Take turns, print the rates and their ratios, keep the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peers", default=sys.executable, help="a Python that has the peers")
    parser.add_argument("--keep", action="store_true", help="append to benchmarks/results/throughput.csv")
    options = parser.parse_args()
    marks = stamp(("mlflow", "prefect", "numpy"))
    rates: dict[str, list[float]] = {}
    for repeat in range(options.repeats):
        sides = {
            "ours": run(OURS, options.trials, options.workers),
            "optuna": peer(options.peers, OPTUNA, options.trials, options.workers),
            "ray": peer(options.peers, RAY, options.trials, options.workers),
        }
        for side, got in sides.items():
            if got is None:
                print(f"{side}: not installed")
                continue
            if got["complete"] != options.trials:
                raise SystemExit(f"{side}: expected {options.trials} trials, got {got}")
            row = {
                "side": side,
                "repeat": repeat,
                "trials": options.trials,
                "workers": options.workers,
                "trials_per_s": options.trials / got["seconds"],
                "whole_s": got["whole"],
                "load": os.getloadavg()[0],
            }
            rates.setdefault(side, []).append(row["trials_per_s"])
            print(row)
            if options.keep:
                append_row(RESULTS / "throughput.csv", (*row, *STAMP_COLUMNS), {**row, **marks})
    for side, found in rates.items():
        ratio = statistics.median(a / b for a, b in zip(rates["ours"], found, strict=True))
        print(f"{side}: median {statistics.median(found):.1f} trials/s; ours is {ratio:.2f} times that")


if __name__ == "__main__":
    main()
