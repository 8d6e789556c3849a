"""What one suggestion costs as a study grows: ours against Optuna's, 10 floats.

python -m benchmarks.ask_cost --samplers auto,tpe,gp,forest,cmaes --peers optuna-tpe

The study is filled with finished random trials up to each size; then trials are asked for and told one
at a time. The first suggestion, for which a model must be built from nothing (as after a resume), is
kept apart from the mean over the following ones. Processor time on one thread.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import _report as records
from hpo_core import Float, SearchSpace, Study, make_strategy

__all__ = ["COLUMNS", "main", "time_ours", "time_peer"]

KEY = ("optimiser", "dimensions", "finished")
COLUMNS = (*KEY, "first_ms", "mean_ms", "median_ms", "max_ms", "tell_ms", "asks", *records.STAMP_COLUMNS)

_SIZES = (100, 1_000, 10_000, 100_000)
_PEERS = ("optuna-tpe", "optuna-random", "optuna-gp", "optuna-cmaes")


def loss(params: Mapping[str, float]) -> float:
    """A curved valley with its least value, 0, where every parameter is 0.7."""
    x = np.array(list(params.values())) - 0.7
    return float(np.sum(10.0 * (x[1:] - x[:-1] ** 2) ** 2) + np.sum(x**2))


class _Events:
    """A journal in memory."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def append(self, event: Any) -> int:
        self.kept.append(event)
        return len(self.kept) - 1


def _space(dimensions: int) -> SearchSpace:
    return SearchSpace({f"x{i}": Float(0.0, 1.0) for i in range(dimensions)})


def filled(dimensions: int, finished: int) -> list[Any]:
    """The events of a study of ``finished`` random trials."""
    events = _Events()
    study = Study(_space(dimensions), objectives={"loss": "min"}, strategy="random", seed=0, journal=events)
    for _ in range(finished):
        trial = study.ask()
        study.tell(trial, loss(trial.params))
    return events.kept


def time_ours(name: str, events: Sequence[Any], asks: int) -> dict[str, Any]:
    """Time ``asks`` suggestions of the strategy ``name`` on the study that ``events`` describe."""
    study = Study.replay(events, strategy=make_strategy(name))

    def tell(trial: Any) -> None:
        study.tell(trial, loss(trial.params))

    return _timed(study.ask, tell, asks)


def time_peer(name: str, dimensions: int, finished: int, asks: int) -> dict[str, Any]:
    """Time ``asks`` suggestions of an Optuna sampler in a study of ``finished`` random trials."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    samplers: dict[str, Callable[..., Any]] = {
        "optuna-tpe": optuna.samplers.TPESampler,
        "optuna-random": optuna.samplers.RandomSampler,
        "optuna-gp": optuna.samplers.GPSampler,
        "optuna-cmaes": optuna.samplers.CmaEsSampler,
    }
    study = optuna.create_study(sampler=samplers[name](seed=0))
    ranges = {f"x{i}": optuna.distributions.FloatDistribution(0.0, 1.0) for i in range(dimensions)}
    rng = np.random.default_rng(0)
    for _ in range(finished):
        params = {n: float(rng.random()) for n in ranges}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=ranges, value=loss(params)))

    def ask() -> Any:
        trial = study.ask()
        for n in ranges:
            trial.suggest_float(n, 0.0, 1.0)
        return trial

    return _timed(ask, lambda trial: study.tell(trial, loss(trial.params)), asks)


def _timed(ask: Callable[[], Any], tell: Callable[[Any], None], asks: int) -> dict[str, Any]:
    asked, told = [], []
    for _ in range(asks + 1):
        start = time.process_time()
        trial = ask()
        middle = time.process_time()
        tell(trial)
        asked.append(1e3 * (middle - start))
        told.append(1e3 * (time.process_time() - middle))
    later = np.array(asked[1:])
    figures = {
        "first_ms": asked[0],
        "mean_ms": later.mean(),
        "median_ms": np.median(later),
        "max_ms": later.max(),
        "tell_ms": np.mean(told[1:]),
    }
    return {**{k: f"{v:.3g}" for k, v in figures.items()}, "asks": asks}


def _measure(options: argparse.Namespace, out: Path) -> None:
    marks = records.stamp(["numpy", "scipy", "scikit-learn", "optuna"])
    ours = list(filter(None, options.samplers.split(",")))
    for name in ours:  # what is imported on first use is no part of any suggestion's cost
        time_ours(name, filled(options.dimensions, 40), asks=1)
    for size in options.sizes:
        events = filled(options.dimensions, size) if ours else []
        for name in [*ours, *filter(None, options.peers.split(","))]:
            # Optuna's suggestions take seconds once a study is large: a few show how many.
            asks = options.asks if size <= 10_000 or name in ours else 2
            if name in ours:
                found = time_ours(name, events, asks)
            else:
                found = time_peer(name, options.dimensions, size, asks)
            row = {"optimiser": name, "dimensions": options.dimensions, "finished": size, **found, **marks}
            records.append_row(out, COLUMNS, row)
            print(f"{name} at {size}: {found['mean_ms']} ms, the first {found['first_ms']} ms", flush=True)


def _report(out: Path, dimensions: int) -> str:
    rows = [r for r in records.read_rows(out, KEY) if r["dimensions"] == str(dimensions)]
    if not rows:
        return "nothing measured yet"
    sizes = sorted({int(r["finished"]) for r in rows})
    means = {(r["optimiser"], int(r["finished"])): r for r in rows}
    names = sorted({r["optimiser"] for r in rows})
    lines = [
        [
            name,
            *(
                f"{means[name, n]['mean_ms']} ({means[name, n]['first_ms']})" if (name, n) in means else ""
                for n in sizes
            ),
        ]
        for name in names
    ]
    figure, (axis,) = records.new_figure(1)
    for name in names:
        points = [(n, float(means[name, n]["mean_ms"])) for n in sizes if (name, n) in means]
        axis.plot(*zip(*points, strict=True), marker="o", label=name)
    axis.set(xscale="log", yscale="log", xlabel="finished trials", ylabel="processor time per suggestion, ms")
    axis.legend(fontsize=7)
    records.save_figure(figure, out.with_suffix(".png"), rows[-1])
    title = f"Milliseconds per suggestion (the first one), {dimensions} floats, by finished trials"
    return f"{title}\n\n{records.markdown(['optimiser', *(f'{n:,}' for n in sizes)], lines)}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, then print the table and write the plot beside the CSV file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ask_cost", description=__doc__)
    add = parser.add_argument
    add("--samplers", default="auto,tpe,gp,forest,cmaes,random", help="our strategies")
    add("--peers", default="", help=f"of {','.join(_PEERS)}")
    add("--sizes", type=lambda text: [int(n) for n in text.split(",")], default=list(_SIZES))
    add("--dimensions", type=int, default=10)
    add("--asks", type=int, default=20, help="suggestions that are averaged, after the first")
    add("--out", type=Path, default=records.RESULTS / "ask-cost.csv")
    add("--report", action="store_true", help="measure nothing, report what the file holds")
    options = parser.parse_args(arguments)
    unknown = set(filter(None, options.peers.split(","))) - set(_PEERS)
    if unknown:
        print(f"error: expected peers of {', '.join(_PEERS)}, got {sorted(unknown)}", file=sys.stderr)
        return 2
    if not options.report:
        _measure(options, options.out)
        records.compact(
            options.out, KEY, order=lambda r: (r["optimiser"], int(r["dimensions"]), int(r["finished"]))
        )
    print(_report(options.out, options.dimensions))
    return 0


if __name__ == "__main__":
    # Threads are counted when numpy is imported, so the one-thread rule needs a process of its own.
    if os.environ.get("OMP_NUM_THREADS") != "1":
        limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        command = [sys.executable, "-m", "benchmarks.ask_cost", *sys.argv[1:]]
        raise SystemExit(subprocess.run(command, env={**os.environ, **limits}, check=False).returncode)
    raise SystemExit(main())
