"""The torch objective through Prefect and MLflow, with and without ASHA: epochs trained and best score.

python -m benchmarks.real_asha [--trials 27] [--keep]

The same configurations (random search, same seed) run to their ends and under ASHA; nothing is simulated.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from typing import Any

from benchmarks._report import RESULTS, STAMP_COLUMNS, append_row, markdown, stamp


def run(strategy: str, options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One study of its own, and what it cost."""
    from flows import tune

    start = time.perf_counter()
    result = tune(
        "torch",
        data=options.data,
        strategy=strategy,
        trials=options.trials,
        workers=2,
        seed=seed,
        name=f"{strategy.replace('+', '-')}-{seed}",
        max_epochs=options.epochs,
        patience=options.epochs,
        tell=lambda _: None,
    )
    (metric, value), *_ = result.best.values.items()
    return {
        "strategy": strategy,
        "seed": seed,
        "trials": len(result.study.trials),
        "epochs": sum(trial.step for trial in result.study.trials),
        "metric": metric,
        "best": f"{value:.5f}",
        "test": f"{result.scores[metric]:.5f}",
        "seconds": f"{time.perf_counter() - start:.0f}",
    }


def main() -> None:
    """Measure, print, and keep the rows on request."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="sklearn:breast_cancer")
    parser.add_argument("--trials", type=int, default=27)
    parser.add_argument("--epochs", type=int, default=27)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    marks = stamp(("torch", "prefect", "mlflow"))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        rows = [run(s, options, seed) for seed in range(options.seeds) for s in ("random", "random+asha")]
        os.chdir("/")
    print(markdown(list(rows[0]), [[str(v) for v in row.values()] for row in rows]))
    full, asha = (sum(r["epochs"] for r in rows if r["strategy"] == s) for s in ("random", "random+asha"))
    print(f"asha trained {asha / full:.1%} of the epochs")
    if options.keep:
        for row in rows:
            append_row(RESULTS / "real-asha.csv", (*rows[0], *STAMP_COLUMNS), {**row, **marks})


if __name__ == "__main__":
    main()
