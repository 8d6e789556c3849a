"""What it costs to show a trial in MLflow: the projector against a bare MLflow loop, in one run.

    python -m benchmarks.tracking_cost --trials 300 --repeats 3 [--server]

The study's journal is written beforehand; the projector then shows it from its first trial to its last:
wall time from the first read to the last write. ``client`` is the same by MLflow's client, as for any
server; ``direct`` is how a SQLite file on this machine is written. The bare loop is what a user writes by
hand: ``start_run(nested=True)``, ``log_params`` of five, ``log_metric``. All track to one database with a
write-ahead log (which the projector switches on) and take turns. With ``--server``
they talk to an ``mlflow server`` that is started for it.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from unittest.mock import patch

from benchmarks._report import RESULTS, STAMP_COLUMNS, append_row, stamp
from hpo_core import Float, Journal, Study
from tracking._connection import connect
from tracking._options import TrackerOptions
from tracking._projector import Projector
from tracking._sqlite_writer import SqliteWriter

SPACE = {f"p{i}": Float(0, 1) for i in range(5)}


def bare(uri: str, trials: int) -> float:
    """Seconds of the loop that users write."""
    import mlflow

    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("bare")
    with mlflow.start_run():
        began = time.perf_counter()
        for number in range(trials):
            with mlflow.start_run(nested=True):
                mlflow.log_params(dict.fromkeys(SPACE, number / trials))
                mlflow.log_metric("loss", number / trials)
        return time.perf_counter() - began


def projected(uri: str, trials: int, *, direct: bool) -> float:
    """Seconds of projecting a study of as many trials."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        at = time.time()
        with Journal(folder / "journal.jsonl") as journal:
            study = Study(SPACE, strategy="random", limits={"trials": trials}, journal=journal, now=at)
            for _ in range(trials):
                trial = study.ask(now=at)
                study.tell(trial, sum(trial.params.values()), now=at)
        connection = connect(uri, "projected")
        with nullcontext() if direct else patch.object(SqliteWriter, "over", return_value=None):
            projector = Projector(folder, connection, TrackerOptions(flush=0.0))
        began = time.perf_counter()
        projector.open(time.monotonic())
        projector.finish(time.monotonic())
        seconds = time.perf_counter() - began
        projector.close()
        if projector.pending_events:
            raise SystemExit("the projector left something behind")
        return seconds


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a fresh server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "mlflow",
        "server",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'server.db'}"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder)
    try:
        for _ in range(1200):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Take turns, print milliseconds per trial, keep the rows if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--server", action="store_true", help="through an mlflow server")
    parser.add_argument("--keep", action="store_true", help="append the rows to benchmarks/results")
    options = parser.parse_args()
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    with tempfile.TemporaryDirectory() as name:
        if options.server:
            with serving(Path(name)) as uri:
                measure(uri, "server", options)
        else:
            measure(f"sqlite:///{name}/mlflow.db", "sqlite", options)


def measure(uri: str, store: str, options: argparse.Namespace) -> None:
    """Warm up, then measure each way in turn."""
    ways: dict[str, Callable[[int], float]] = {
        "bare": lambda n: bare(uri, n),
        "client": lambda n: projected(uri, n, direct=False),
    }
    if store == "sqlite":
        ways["direct"] = lambda n: projected(uri, n, direct=True)
    for way in reversed(ways.values()):
        way(5)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.repeats):
        for name, way in ways.items():
            seconds[name].append(way(options.trials))
    for name, values in seconds.items():
        per_trial = 1e3 * statistics.median(values) / options.trials
        ratios = [v / b for v, b in zip(values, seconds["bare"], strict=True)]
        print(f"{name:7} {per_trial:8.2f} ms per trial, {statistics.median(ratios):.2f} of the bare loop")
        if options.keep:
            row = {"store": store, "way": name, "trials": options.trials, "ms_per_trial": per_trial}
            marks = stamp(("mlflow", "sqlalchemy"))
            append_row(RESULTS / "tracking_cost.csv", (*row, *STAMP_COLUMNS), {**row, **marks})


if __name__ == "__main__":
    main()
