"""How busy schedulers keep a cluster, and how fast the simulator is: virtual workers, log-normal steps.

python -m benchmarks.simulator [--keep]
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Mapping
from typing import Any

from benchmarks._report import RESULTS, STAMP_COLUMNS, append_row, markdown, stamp
from hpo_core import Float, Normal, SearchSpace, Study
from hpo_core.simulate import Curves, Simulation, simulate

STEPS = 81
# Standard deviation of the logarithm of a configuration's step time: one in six takes 2.7 times the median.
SPREAD = 1.0


def _seconds(params: Mapping[str, Any], step: int) -> float:
    """Steps of a configuration take the same time, log-normal over configurations."""
    del step
    return math.exp(SPREAD * params["pace"])


def _loss(params: Mapping[str, Any], step: int) -> float:
    return float((params["x"] - 0.3) ** 2 + (1.0 + params["x"]) / step)


def run(strategy: str, workers: int, trials: int) -> tuple[Simulation, float]:
    """A simulated study, and the processor seconds that it took."""
    space = SearchSpace({"x": Float(0.0, 1.0), "pace": Normal(0.0, 1.0)})
    study = Study(
        space,
        strategy=strategy,
        seed=0,
        limits={"trials": trials},
        settings={"max_steps": STEPS, "workers": workers},
    )
    start = time.process_time()
    curves = Curves(_loss, _seconds)
    done = simulate(study, curves, workers=workers, steps=STEPS, report_every=STEPS)
    return done, time.process_time() - start


def measure(strategy: str, workers: int, trials: int) -> dict[str, Any]:
    """Utilisation while there was something to start, and over the whole study with its idle end."""
    done, spent = run(strategy, workers, trials)
    fed = done.makespan if done.starved_at is None else done.starved_at
    return {
        "strategy": strategy,
        "workers": workers,
        "trials": len(done.study.trials),
        "utilisation_while_fed": f"{done.utilisation(fed):.4f}",
        "fed_seconds": f"{fed:.0f}",
        "utilisation_to_the_end": f"{done.utilisation():.4f}",
        "makespan_seconds": f"{done.makespan:.0f}",
        "processor_seconds": f"{spent:.1f}",
    }


def main() -> None:
    """Measure, print, and keep the rows on request."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    rows = [
        measure("random+asha", 500, 10_000),
        measure("random+hyperband", 500, 10_000),
        measure("random+asha", 1000, 10_000),
    ]
    print(markdown(list(rows[0]), [[str(v) for v in row.values()] for row in rows]))
    if options.keep:
        marks = stamp(("numpy",))
        for row in rows:
            append_row(RESULTS / "simulator.csv", (*rows[0], *STAMP_COLUMNS), {**row, **marks})


if __name__ == "__main__":
    main()
