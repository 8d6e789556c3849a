"""How much of the workers' time trials that sleep get: 1 s and 0.1 s trials on 4 workers, local and Dask.

    python -m benchmarks.utilisation --workers 4 --rounds 10

Utilisation is the time that trials slept over workers times the span from the first trial's start to the
last one's end. A sleeping trial needs no core, so the figure shows the machinery's own delays even where
there are fewer cores than workers. Tracking and Prefect are on.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

from benchmarks._report import RESULTS, STAMP_COLUMNS, append_row, stamp
from benchmarks.overhead import run

SLEEPERS = """
import json, sys, time
from flows import tune
from hpo_core import Float

class Sleeper:
    def __init__(self, seconds):
        self.seconds = seconds
    def __call__(self, trial):
        time.sleep(self.seconds)
        return trial.params["x"]

if __name__ == "__main__":
    milliseconds, trials, workers, runner = (*map(int, sys.argv[1:4]), ("local", "dask")[int(sys.argv[4])])
    result = tune(Sleeper(milliseconds / 1e3), space={"x": Float(0, 1)}, strategy="random", trials=trials,
                  workers=workers, runner=runner, name="sleepers", tell=lambda line: None)
    ran = result.study.trials
    span = max(t.finished_at for t in ran) - min(t.started_at for t in ran)
    print(json.dumps({"complete": result.summary["counts"].get("complete", 0), "span": span}))
"""


def main() -> None:
    """Measure each combination once and keep the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=10, help="seconds of work for each worker")
    parser.add_argument("--keep", action="store_true", help="append to benchmarks/results/utilisation.csv")
    options = parser.parse_args()
    marks = stamp(("mlflow", "prefect", "distributed"))
    for number, runner in enumerate(("local", "dask")):
        for milliseconds in (1000, 100):
            trials = options.rounds * 1000 // milliseconds * options.workers
            got = run(SLEEPERS, milliseconds, trials, options.workers, number)
            if got["complete"] != trials:
                raise SystemExit(f"expected {trials} trials, got {got}")
            row: dict[str, Any] = {
                "runner": runner,
                "trial_s": milliseconds / 1e3,
                "workers": options.workers,
                "trials": trials,
                "utilisation": trials * milliseconds / 1e3 / (options.workers * got["span"]),
                "load": os.getloadavg()[0],
            }
            print(row)
            if options.keep:
                append_row(RESULTS / "utilisation.csv", (*row, *STAMP_COLUMNS), {**row, **marks})


if __name__ == "__main__":
    main()
