"""A study of ten thousand no-op trials: is the last thousand as cheap as the first, and how does it resume?

    python -m benchmarks.many_trials --trials 10000 --workers 2

Reports the time per trial of the first and of the last thousand, the driver's peak resident memory (without
its children), the time to replay the journal and take the next decision, and the time of MLflow's first page
of a hundred runs. Tracking and Prefect are on.
"""

from __future__ import annotations

import argparse
import os

from benchmarks._report import RESULTS, STAMP_COLUMNS, append_row, stamp
from benchmarks.overhead import run

MANY = """
import json, resource, sys, time
from pathlib import Path
from flows import tune
from hpo_core import Float

def objective(trial):
    return sum(trial.params.values())

if __name__ == "__main__":
    trials, workers = int(sys.argv[1]), int(sys.argv[2])
    space = {f"p{i}": Float(0, 1) for i in range(5)}
    result = tune(objective, space=space, strategy="random", trials=trials, workers=workers, name="many",
                  tell=lambda line: None)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    ends = sorted(t.finished_at for t in result.study.trials)
    part = min(1000, trials // 2)
    from mlflow import MlflowClient
    from flows._workspace import studies_home
    from hpo_core import Study
    from hpo_core.inner import read_journal
    began = time.perf_counter()
    study = Study.replay(e for _, e, _ in read_journal(studies_home() / "many" / "journal.jsonl"))
    study.extend(trials=trials + 1)
    study.execution.next()
    resumed = time.perf_counter() - began
    client = MlflowClient()
    experiment = client.get_experiment_by_name("many").experiment_id
    began = time.perf_counter()
    page = client.search_runs([experiment], max_results=100)
    listed = time.perf_counter() - began
    print(json.dumps({"complete": result.summary["counts"].get("complete", 0), "memory": memory,
                      "first": (ends[part - 1] - ends[0]) / (part - 1) * 1e3,
                      "last": (ends[-1] - ends[-part]) / (part - 1) * 1e3,
                      "resume": resumed, "page": listed}))
"""


def main() -> None:
    """Measure once and keep the row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", action="store_true", help="append to benchmarks/results/many-trials.csv")
    options = parser.parse_args()
    got = run(MANY, options.trials, options.workers)
    if got["complete"] != options.trials:
        raise SystemExit(f"expected {options.trials} trials, got {got}")
    row = {
        "trials": options.trials,
        "workers": options.workers,
        "first_thousand_ms": got["first"],
        "last_thousand_ms": got["last"],
        "ratio": got["last"] / got["first"],
        "driver_mib": got["memory"],
        "resume_s": got["resume"],
        "page_s": got["page"],
        "load": os.getloadavg()[0],
    }
    print(row)
    if options.keep:
        marks = stamp(("mlflow", "prefect", "numpy"))
        append_row(RESULTS / "many-trials.csv", (*row, *STAMP_COLUMNS), {**row, **marks})


if __name__ == "__main__":
    main()
