"""Regret and time per suggestion of our samplers and of the peers, on the same problems.

python -m benchmarks.samplers --samplers random,tpe,gp --peers optuna-tpe --seeds 3 --trials 100

Every run is kept as one row of a CSV file and not repeated while nothing that it depends on
changed: the peer's version, the content of our sampler's source and what it imports, the problem.
An interpreter that lacks a peer's package says so and measures the rest.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks._regret_report import label, report
from benchmarks._report import RESULTS, STAMP_COLUMNS, append_row, compact, read_rows, stamp
from benchmarks._source import source_hash
from benchmarks.peers import PEERS, make_peer, peer_version
from benchmarks.problems import OurStudy, Problem, Trace, drive, problem, problem_names

__all__ = ["CHECKPOINTS", "COLUMNS", "KEY", "Job", "main", "measure"]

# Trials at which the incumbent's regret is kept; the plots need more points than the tables.
CHECKPOINTS = (5, 10, 15, 20, 25, 35, 50, 75, 100, 150, 200)

KEY = ("optimiser", "problem", "seed", "workers", "trials")
COLUMNS = (
    *KEY,
    "version",
    "problem_id",
    *(f"r{n}" for n in CHECKPOINTS),
    "ms_per_trial",
    "ms_at_end",
    "wall_ms_per_trial",
    "seconds",
    *STAMP_COLUMNS,
)

# One thread each, so that processor time is comparable; must be set before numpy is imported.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run: an optimiser on a problem with a seed.

    ``strategy`` is what our study is given, ``None`` for a peer. ``version`` is the peer's version,
    or the hash of the source that our strategy depends on.
    """

    optimiser: str
    strategy: Any
    version: str
    problem: str
    seed: int
    workers: int
    trials: int


def measure(job: Job) -> dict[str, Any]:
    """Run ``job`` and return its row, without the stamp."""
    chosen = problem(job.problem)

    def make() -> Any:
        if job.strategy is None:
            return make_peer(job.optimiser, chosen, job.seed, job.trials)
        return OurStudy(chosen, job.strategy, job.seed, job.trials, job.workers)

    start = time.perf_counter()
    trace = drive(chosen, make, job.seed, job.trials, job.workers)
    return _row(job, chosen, trace, time.perf_counter() - start)


def _row(job: Job, chosen: Problem, trace: Trace, seconds: float) -> dict[str, Any]:
    spent = 1e3 * (trace.ask_cpu + trace.tell_cpu)
    return {
        **{name: getattr(job, name) for name in (*KEY, "version")},
        "problem_id": problem_id(chosen),
        **{f"r{n}": f"{trace.at(n):.4g}" if n <= job.trials else "" for n in CHECKPOINTS},
        "ms_per_trial": f"{spent.mean():.3g}",
        "ms_at_end": f"{spent[-10:].mean():.3g}",
        "wall_ms_per_trial": f"{1e3 * (trace.ask + trace.tell).mean():.3g}",
        "seconds": f"{seconds:.3g}",
    }


def problem_id(chosen: Problem) -> str:
    """Changes when a problem of the same name becomes another problem."""
    text = json.dumps([chosen.space.to_json(), f"{chosen.optimum:.6g}", f"{chosen.median:.6g}"])
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _optimisers(options: argparse.Namespace) -> Iterator[tuple[str, Any, str]]:
    """Name, strategy and version of everything to be measured."""
    for name in filter(None, options.samplers.split(",")):
        yield name, name, source_hash(name)
    for text in options.variant:
        name, _, config = text.partition("=")
        strategy = json.loads(config)
        salt = hashlib.sha256(config.encode()).hexdigest()[:4]
        sampler = strategy.get("sampler", "auto")
        base = sampler if isinstance(sampler, str) else sampler["name"]
        yield name, strategy, f"{source_hash(base)}-{salt}"
    for name in filter(None, options.peers.split(",")):
        if name not in PEERS:
            raise ValueError(f"expected a peer of {', '.join(PEERS)}, got {name!r}")
        installed = peer_version(name)
        if installed is None:
            print(f"{name}: left out, {PEERS[name][3]} is not installed here", file=sys.stderr)
        else:
            yield name, None, installed


def _jobs(options: argparse.Namespace) -> list[Job]:
    """Every run asked for, seed by seed, so that a run cut short has covered all problems."""
    names = problem_names(options.set, options.problems)
    found = list(_optimisers(options))
    return [
        Job(
            optimiser=optimiser,
            strategy=strategy,
            version=version,
            problem=name,
            seed=seed,
            workers=options.workers,
            trials=options.trials,
        )
        for seed in range(options.first_seed, options.first_seed + options.seeds)
        for optimiser, strategy, version in found
        for name in names
    ]


def _todo(jobs: Sequence[Job], rows: Sequence[Mapping[str, str]]) -> list[Job]:
    """The jobs whose result is not there yet, or was measured on something else."""
    have = {tuple(row[k] for k in (*KEY, "version", "problem_id")) for row in rows}
    ids = {name: problem_id(problem(name)) for name in {job.problem for job in jobs}}
    return [
        job
        for job in jobs
        if (*(str(getattr(job, k)) for k in (*KEY, "version")), ids[job.problem]) not in have
    ]


def _run(jobs: Sequence[Job], processes: int, out: Path) -> int:
    """Measure ``jobs`` and append their rows; returns how many failed."""
    os.environ.update(_ONE_THREAD)
    marks = stamp(["numpy", "scipy", "scikit-learn", *sorted({p[3] for p in PEERS.values()})])
    failed = 0
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(measure, job): job for job in jobs}
        for done, future in enumerate(as_completed(waiting), start=1):
            job = waiting[future]
            progress = f"[{done}/{len(jobs)}] {job.optimiser} {job.problem} seed {job.seed}"
            try:
                row = future.result()
            except Exception:  # noqa: BLE001  one run's failure must not cost the others
                failed += 1
                print(f"{progress}: failed\n{traceback.format_exc()}", file=sys.stderr)
                continue
            append_row(out, COLUMNS, {**row, **marks})
            last = row[f"r{max(n for n in CHECKPOINTS if n <= job.trials)}"]
            print(f"{progress}: regret {last}, {row['ms_per_trial']} ms per trial", flush=True)
    return failed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.samplers", description=__doc__)
    add = parser.add_argument
    add("--samplers", default="", help="our strategies, by name: random,tpe,gp")
    add(
        "--variant",
        action="append",
        default=[],
        metavar="NAME=JSON",
        help='a configured strategy: big=\'{"sampler": {"name": "tpe", "candidates": 99}}\'',
    )
    add("--peers", default="", help=f"of {','.join(PEERS)}")
    add("--set", default="dev", choices=("dev", "heldout"), help="tune on dev, judge on heldout")
    add("--problems", default="*", help="families or names with wildcards, or core: bbob5,hpobench")
    add("--seeds", type=int, default=3)
    add("--first-seed", type=int, default=0)
    add("--trials", type=int, default=100)
    add("--workers", type=int, default=1, help="trials in flight")
    add("--jobs", type=int, default=1, help="processes")
    add("--out", type=Path, help="CSV file of runs [benchmarks/results/samplers-SET.csv]")
    add("--against", default="ax,optuna-gp,optuna-tpe,smac", help="peers for the table of ratios")
    add("--only", default="", help="report on these optimisers only: gp, or gp@8 for 8 workers")
    add("--report", action="store_true", help="measure nothing, report what the file holds")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing, then print the report and write it beside the CSV file."""
    options = _parser().parse_args(arguments)
    out = options.out or RESULTS / f"samplers-{options.set}.csv"
    failed = 0
    try:
        if not options.report:
            jobs = _jobs(options)
            todo = _todo(jobs, read_rows(out, KEY))
            print(f"{len(jobs)} runs, {len(jobs) - len(todo)} of them known", flush=True)
            failed = _run(todo, options.jobs, out)
            compact(out, KEY, order=_order)
        names = problem_names(options.set, options.problems)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    only = set(filter(None, options.only.split(",")))
    rows = [
        row
        for row in read_rows(out, KEY)
        if row["problem"] in names
        and row["trials"] == str(options.trials)
        and (not only or label(row) in only)
    ]
    print(report(rows, options.against.split(","), out.with_suffix("")))
    return 1 if failed else 0


def _order(row: Mapping[str, str]) -> tuple[str, str, int, int]:
    return label(row), row["problem"], int(row["trials"]), int(row["seed"])


if __name__ == "__main__":
    raise SystemExit(main())
