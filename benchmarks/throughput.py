"""Trials per second of a no-op objective with tracking on, beside Optuna's two processes and Ray Tune.

    python -m benchmarks.throughput --trials 400 --workers 2 --repeats 3 --peers ~/schedulers/bin/python

``--peers`` is a Python that has them, if this one has not, such as that of
``benchmarks/peers/requirements-multi-fidelity.txt``. Sides take turns in one run, each in a fresh folder.
Ours is :func:`flows.tune`, Prefect included, every trial a finished MLflow run. Optuna has no tracking here:
its two processes share a study in SQLite. Ray Tune has its defaults: a process per trial, CSV, JSON and
TensorBoard logs, no MLflow; its dashboard is off, as nothing needs it. It is slow enough to be given a number
of trials of its own, ``--ray-trials``.

``start_s`` is from the process's start to the first trial's start, imports included. ``trials_per_s`` counts
from there to the last trial's end, ``steady_ms`` is the time per trial once each worker has ended its first,
and ``delivered_per_s`` counts until the call returns: with us, until MLflow has all of it and the report.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks._report import RESULTS, STAMP_COLUMNS, append_row, stamp
from benchmarks.overhead import OURS, run

# Each prints what `OURS` does.
OPTUNA = """
import json, multiprocessing, sys, time
began = time.time()
import optuna
optuna.logging.disable_default_handler()

def objective(trial):
    return sum(trial.suggest_float(f"p{i}", 0, 1) for i in range(5))

def work(url, count):
    study = optuna.load_study(study_name="noop", storage=url, sampler=optuna.samplers.RandomSampler())
    study.optimize(objective, n_trials=count)

if __name__ == "__main__":
    trials, workers, url = int(sys.argv[1]), int(sys.argv[2]), "sqlite:///peer.db"
    optuna.create_study(study_name="noop", storage=url)
    counts = [trials // workers + (i < trials % workers) for i in range(workers)]
    processes = [multiprocessing.get_context("spawn").Process(target=work, args=(url, n)) for n in counts]
    for p in processes: p.start()
    for p in processes: p.join()
    over = time.time() - began
    done = [t for t in optuna.load_study(study_name="noop", storage=url).trials if t.state.name == "COMPLETE"]
    print(json.dumps({"start": min(t.datetime_start for t in done).timestamp() - began, "over": over,
                      "ends": [t.datetime_complete.timestamp() - began for t in done]}))
"""

RAY = """
import json, os, sys, time
began = time.time()
import ray
from ray import tune

def objective(config):
    started = time.time()
    loss = sum(config.values())
    return {"loss": loss, "started": started, "ended": time.time()}

if __name__ == "__main__":
    trials, workers, here = int(sys.argv[1]), int(sys.argv[2]), os.getcwd()
    loss = {"metric": "loss", "mode": "min"}
    ray.init(include_dashboard=False, num_cpus=workers, _temp_dir=here + "/ray")
    tuner = tune.Tuner(
        objective,
        param_space={f"p{i}": tune.uniform(0, 1) for i in range(5)},
        tune_config=tune.TuneConfig(**loss, num_samples=trials, max_concurrent_trials=workers),
        run_config=tune.RunConfig(storage_path=here + "/results", name="noop"),
    )
    done = [result.metrics for result in tuner.fit() if result.error is None]
    over = time.time() - began
    ray.shutdown()
    print(json.dumps({"start": min(m["started"] for m in done) - began, "over": over,
                      "ends": [m["ended"] - began for m in done]}))
"""


def installed(python: str, package: str) -> str | None:
    """The version of a package in another Python; ``None`` where it has none."""
    asked = f"from importlib.metadata import version; print(version({package!r}))"
    done = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def peer(python: str, code: str, trials: int, workers: int) -> dict[str, Any]:
    """Run a peer's script in a folder that is its home, too; its last line is JSON."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "script.py")
        script.write_text(code)
        quiet = {"PYTHONWARNINGS": "ignore", "RAY_USAGE_STATS_ENABLED": "0"}
        done = subprocess.run(
            [python, str(script), str(trials), str(workers)],
            cwd=folder,
            env={**os.environ, **quiet, "HOME": folder},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def rates(got: dict[str, Any], trials: int, workers: int) -> dict[str, float]:
    """What is reported of one run; ``got``: seconds as the scripts print them."""
    ends = sorted(got["ends"])
    if len(ends) != trials:
        raise SystemExit(f"expected {trials} finished trials, got {len(ends)}")
    return {
        "trials_per_s": trials / (ends[-1] - got["start"]),
        "steady_ms": 1e3 * (ends[-1] - ends[workers - 1]) / (trials - workers),
        "delivered_per_s": trials / (got["over"] - got["start"]),
        "start_s": got["start"],
        "whole_s": got["over"],
    }


def main() -> None:
    """Take turns, print the rates and their ratios, keep the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--ray-trials", type=int, default=40)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peers", default=sys.executable, help="a Python that has the peers")
    parser.add_argument("--keep", action="store_true", help="append to benchmarks/results/throughput.csv")
    options = parser.parse_args()
    marks = stamp(("mlflow", "prefect", "numpy"))
    sides: dict[str, tuple[str, int, str]] = {"ours": (OURS, options.trials, marks["versions"])}
    for side, code, trials in (("optuna", OPTUNA, options.trials), ("ray", RAY, options.ray_trials)):
        if (version := installed(options.peers, side)) is None:
            print(f"{side}: not installed in {options.peers}")
        else:
            sides[side] = (code, trials, f"{side} {version}")
    found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for repeat in range(options.repeats):
        for side, (code, trials, versions) in sides.items():
            load = os.getloadavg()[0]  # before the side adds to it
            if side == "ours":
                got = run(code, trials, options.workers)
            else:
                got = peer(options.peers, code, trials, options.workers)
            measured = rates(got, trials, options.workers)
            found[side].append(measured)
            row = {"side": side, "repeat": repeat, "trials": trials, "workers": options.workers, **measured}
            row["load"] = load
            print(row, flush=True)
            if options.keep:
                row = {**row, **marks, "versions": versions}
                columns = ("side", "repeat", "trials", "workers", *measured, "load", *STAMP_COLUMNS)
                append_row(RESULTS / "throughput.csv", columns, row)
    for side, rows in found.items():
        for kind in ("trials_per_s", "delivered_per_s"):
            ratio = statistics.median(o[kind] / r[kind] for o, r in zip(found["ours"], rows, strict=True))
            median = statistics.median(r[kind] for r in rows)
            print(f"{side}: median {median:.3g} {kind}; ours is {ratio:.3g} times that")


if __name__ == "__main__":
    main()
