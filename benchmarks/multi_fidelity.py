"""Schedulers against each other in simulated time, on learning curves of real training.

python -m benchmarks.multi_fidelity --methods random,asha,random+asha --workers 1,8 --seeds 3
python -m benchmarks.multi_fidelity --methods random,asha --workers 1 --complete 48
python -m benchmarks.multi_fidelity --report

Peers by the interpreter that has them: Optuna and SMAC as of ``benchmarks/peers/requirements.txt``, Ray
Tune and DEHB as of ``requirements-multi-fidelity.txt`` beside it.

Every method gets the same virtual workers, the same recorded curves and the same time; its own
decisions cost it none. The score at a time is the best validation loss that any of its trials has
reported by then. A run that the results file has is not repeated; ``--again`` drops the methods' old ones.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import _report as records
from benchmarks._multi_fidelity_peers import PEER_PACKAGES, PEERS, peer_incumbents
from benchmarks.curves import STEPS, Curves, curve_names, load
from hpo_core import Study
from hpo_core.simulate import Table, simulate

OUT = records.RESULTS / "multi-fidelity.csv"

# Complete trials that random search gets done, in all, unless another number is given: its time is
# everybody's time.
BUDGET = {1: 12, 8: 48, 64: 128}
# The anytime curve is read at these shares of the time, evenly spaced in its logarithm.
SHARES = np.geomspace(0.01, 1.0, 41)
_LEAST = 1e-3
# Ours stop when most of a table's thousand configurations have been tried: what is left shows nothing.
_MOST = 700

OURS: dict[str, Any] = {
    "random": "random",
    "auto": "auto",
    "random+asha": "random+asha",
    "tpe+asha": "tpe+asha",
    "asha": "asha",
    "random+hyperband": "random+hyperband",
    "bohb": "bohb",
    "multi_fidelity": "multi_fidelity",
}

KEY = ("benchmark", "workers", "complete", "method", "seed")
COLUMNS = (*KEY, *(f"r{i}" for i in range(len(SHARES))), "trials", "seconds", *records.STAMP_COLUMNS)


def time_limit(curves: Curves, workers: int, complete: int) -> float:
    """Seconds in which the workers run ``complete`` trials of mean length to their ends."""
    return float(curves.seconds.sum(axis=1).mean()) * complete / workers


def our_incumbents(
    strategy: Any, curves: Curves, workers: int, until: float, seed: int
) -> tuple[list[tuple[float, float]], int]:
    """(time, best loss reported so far), and the number of trials, of one of our strategies."""
    study = Study(
        curves.space,
        strategy=strategy,
        seed=seed,
        limits={"trials": _MOST},
        settings={"max_steps": STEPS, "workers": workers, "rule": "best"},
    )
    table = Table({"loss": curves.loss}, curves.seconds, curves.row)
    done = simulate(study, table, workers=workers, steps=STEPS, until=until)
    return [(i.time, i.value) for i in done.incumbents], len(study.trials)


def regrets(found: Sequence[tuple[float, float]], curves: Curves, until: float) -> NDArray[np.float64]:
    """Regret at each of ``SHARES``: 0 is the best loss in the table, 1 the median configuration's."""
    times = np.array([at for at, _ in found])
    values = np.array([math.inf, *(value for _, value in found)])
    best = values[np.searchsorted(times, SHARES * until, side="right")]
    return np.clip((best - curves.optimum) / (curves.median - curves.optimum), _LEAST, 1.0)


def measure(name: str, workers: int, complete: int, method: str, seed: int) -> dict[str, Any]:
    """One run, as a row without the stamp."""
    curves = load(name)
    until, start, trials = time_limit(curves, workers, complete), time.process_time(), ""
    if method in PEERS:
        found = peer_incumbents(method, curves, workers, until, seed)
    else:
        found, count = our_incumbents(OURS[method], curves, workers, until, seed)
        trials = str(count)
    curve = regrets(found, curves, until)
    return {
        "benchmark": name,
        "workers": workers,
        "complete": complete,
        "method": method,
        "seed": seed,
        **{f"r{i}": f"{value:.4g}" for i, value in enumerate(curve)},
        "trials": trials,
        "seconds": f"{time.process_time() - start:.2f}",
    }


# -- what the rows say -------------------------------------------------------------------------


def curves_of(
    rows: Sequence[Mapping[str, str]], workers: int, complete: int
) -> dict[str, dict[str, list[NDArray[np.float64]]]]:
    """method -> benchmark -> regrets ``(41,)`` of each seed."""
    found: dict[str, dict[str, list[NDArray[np.float64]]]] = {}
    for row in rows:
        if (int(row["workers"]), int(row["complete"])) == (workers, complete):
            curve = np.array([float(row[f"r{i}"]) for i in range(len(SHARES))])
            found.setdefault(row["method"], {}).setdefault(row["benchmark"], []).append(curve)
    return found


def mean_curve(of: Mapping[str, Sequence[NDArray[np.float64]]]) -> NDArray[np.float64]:
    """Geometric mean of the regret over seeds and benchmarks, each benchmark counting the same."""
    return np.exp(np.mean([np.mean(np.log(runs), axis=0) for runs in of.values()], axis=0))


def area(of: Mapping[str, Sequence[NDArray[np.float64]]]) -> float:
    """Area under the anytime curve: geometric mean of the regret over the logarithm of time."""
    return float(np.exp(np.log(mean_curve(of)).mean()))


def standard_error(of: Mapping[str, Sequence[NDArray[np.float64]]]) -> float:
    """Relative standard error of the area, NaN with one seed.

    Over seeds and not over runs: a seed draws the same first configurations on every benchmark.
    """
    logs = [np.mean([np.log(run).mean() for run in runs]) for runs in zip(*of.values(), strict=False)]
    return float(np.std(logs, ddof=1) / math.sqrt(len(logs))) if len(logs) > 1 else math.nan


def speed_ups(
    of: Mapping[str, Sequence[NDArray[np.float64]]], random: Mapping[str, Sequence[NDArray[np.float64]]]
) -> dict[str, float]:
    """By benchmark: how many times sooner than random search its final score is there.

    Medians over seeds; 0 where it is never reached.
    """
    found = {}
    for name in sorted(set(of) & set(random)):
        reached = np.flatnonzero(np.median(of[name], axis=0) <= _goal(random[name]))
        found[name] = 1.0 / float(SHARES[reached[0]]) if len(reached) else 0.0
    return found


def _goal(random: Sequence[NDArray[np.float64]]) -> float:
    """Random search's final regret, the median over seeds."""
    return float(np.median([run[-1] for run in random]))


def ceilings(
    random: Mapping[str, Sequence[NDArray[np.float64]]], workers: int, complete: int
) -> dict[str, float]:
    """By benchmark: how many times sooner it could be, had a good configuration been known beforehand.

    Of the configurations that ever reach random search's final score, the one of median speed, started
    at once: nobody who has to search is faster, but by luck.
    """
    found = {}
    for name, runs in random.items():
        curves = load(name)
        goal = curves.optimum + _goal(runs) * (curves.median - curves.optimum)
        spent = np.cumsum(curves.seconds, axis=1)
        reached = np.where(curves.running_best <= goal + 1e-12, spent, math.inf).min(axis=1)
        found[name] = time_limit(curves, workers, complete) / float(np.median(reached[np.isfinite(reached)]))
    return found


def _look(method: str) -> dict[str, Any]:
    """A method's line: the same in every panel, ours whole and peers' dashed."""
    ours = method in OURS
    family = list(OURS if ours else PEERS)
    return {"color": f"C{family.index(method)}", "linestyle": "-" if ours else "--"}


def report(out: Path) -> str:
    """Tables for people, and the plot."""
    rows = records.read_rows(out, KEY)
    parts: list[str] = []
    settings = sorted({(int(row["workers"]), int(row["complete"])) for row in rows})
    figure, axes = records.new_figure(max(len(settings), 1))
    for axis, (w, complete) in zip(axes, settings, strict=False):
        found = curves_of(rows, w, complete)
        title = f"{w} worker{'' if w == 1 else 's'}, time of {complete} complete trials"
        lines = []
        for method in sorted(found, key=lambda m: area(found[m])):
            ups = speed_ups(found[method], found.get("random", {}))
            faster = (
                [f"{statistics.median(ups.values()):.1f}", f"{min(ups.values()):.1f}"] if ups else ["", ""]
            )
            seeds = [len(runs) for runs in found[method].values()]
            final, error = mean_curve(found[method])[-1], standard_error(found[method])
            lines.append(
                [method, f"{area(found[method]):.3f}", "" if math.isnan(error) else f"{error:.0%}",
                 f"{final:.4f}", *faster,
                 f"{len(seeds)} x {min(seeds)}"]
            )  # fmt: skip
            axis.loglog(SHARES, mean_curve(found[method]), label=method, **_look(method))
        header = [
            "method",
            "area",
            "+-",
            "regret at the end",
            "times sooner, median",
            "least",
            "benchmarks x seeds",
        ]
        most = ceilings(found.get("random", {}), w, complete)
        if most:
            median, least = statistics.median(most.values()), min(most.values())
            lines.append(["(known beforehand)", "", "", "", f"{median:.1f}", f"{least:.1f}", f"{len(most)}"])
        parts.append(f"{title}\n\n{records.markdown(header, lines)}")
        axis.set(title=title, xlabel="share of the time", ylabel="regret (0 best, 1 median)")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    if rows:
        records.save_figure(figure, out.with_suffix(".png"), rows[-1])
    return "\n\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing, then report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.multi_fidelity", description=__doc__)
    add = parser.add_argument
    add("--methods", default="", help=f"of {','.join([*OURS, *PEERS])}")
    add("--benchmarks", default="", help="names, default all")
    add("--workers", default="1,8,64")
    add("--complete", type=int, help=f"complete trials of random search; default by workers, {BUDGET}")
    add("--seeds", type=int, default=3)
    add("--again", action="store_true", help="measure once more what the file has")
    add("--report", action="store_true", help="measure nothing")
    add("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    marks = records.stamp(("numpy", "scipy", *PEER_PACKAGES))
    out = options.out
    have = set() if options.again else {tuple(row[k] for k in KEY) for row in records.read_rows(out)}
    names = options.benchmarks.split(",") if options.benchmarks else curve_names()
    for seed in range(0 if options.report else options.seeds):
        for name in names:
            for workers in map(int, options.workers.split(",")):
                complete = options.complete or BUDGET[workers]
                for method in filter(None, options.methods.split(",")):
                    if (name, str(workers), str(complete), method, str(seed)) not in have:
                        row = measure(name, workers, complete, method, seed)
                        records.append_row(out, COLUMNS, {**row, **marks})
    records.compact(
        out,
        KEY,
        lambda row: (
            int(row["workers"]),
            int(row["complete"]),
            row["benchmark"],
            row["method"],
            int(row["seed"]),
        ),
    )
    text = report(out)
    print(text)
    Path(out.with_suffix(".md")).write_text(f"# Schedulers in simulated time\n\n{text}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
