"""How much of the workers' time trials that sleep get: 1 s and 0.1 s trials on 4 workers, local and Dask.

    python -m benchmarks.utilisation --workers 4 --rounds 10
    python -m benchmarks.utilisation --runners dask,dask-tls,dask-tcp --seconds 1 --repeats 3

Utilisation is the time that trials slept over workers times the span from the first trial's start to the
last one's end. A sleeping trial needs no core, so the figure shows the machinery's own delays even where
there are fewer cores than workers. Tracking and Prefect are on. ``dask`` is the cluster that a study starts
for itself, over TLS; ``dask-tls`` and ``dask-tcp`` are clusters in processes of their own that the study is
given the address of, with certificates from Dask's configuration and without any.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks._report import RESULTS, STAMP_COLUMNS, append_row, stamp
from benchmarks.overhead import HERE, run

SLEEPERS = """
import json, os, sys, time
from flows import tune
from hpo_core import Float

class Sleeper:
    def __init__(self, seconds):
        self.seconds = seconds
    def __call__(self, trial):
        time.sleep(self.seconds)
        return trial.params["x"]

if __name__ == "__main__":
    milliseconds, trials, workers = map(int, sys.argv[1:4])
    address = os.environ["HPO_BENCHMARK_CLUSTER"]
    where = {"runner": "local"} if address == "local" else {"runner": "dask", "dask": address or None}
    result = tune(Sleeper(milliseconds / 1e3), space={"x": Float(0, 1)}, strategy="random", trials=trials,
                  workers=workers, **where, name="sleepers", tell=lambda line: None)
    ran = result.study.trials
    span = max(t.finished_at for t in ran) - min(t.started_at for t in ran)
    print(json.dumps({"complete": result.summary["counts"].get("complete", 0), "span": span}))
"""

CLUSTER = """
import sys
from distributed import LocalCluster

if __name__ == "__main__":
    protocol, workers = sys.argv[1], int(sys.argv[2])
    with LocalCluster(n_workers=workers, threads_per_worker=1, protocol=protocol + "://",
                      dashboard_address="127.0.0.1:0") as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""

RUNNERS = ("local", "dask", "dask-tls", "dask-tcp")


def certificates(folder: Path) -> dict[str, str]:
    """Settings that let Dask's scheduler, workers and clients find a certificate made for this run."""
    from distributed.security import Security

    made = Security.temporary()
    (folder / "cert.pem").write_text(made.tls_scheduler_cert)
    (folder / "key.pem").touch(0o600)
    (folder / "key.pem").write_text(made.tls_scheduler_key)
    settings = {"CA_FILE": folder / "cert.pem"}
    for role in ("SCHEDULER", "WORKER", "CLIENT"):
        settings |= {f"{role}__CERT": folder / "cert.pem", f"{role}__KEY": folder / "key.pem"}
    return {f"DASK_DISTRIBUTED__COMM__TLS__{name}": str(path) for name, path in settings.items()}


@contextmanager
def cluster(runner: str, workers: int) -> Iterator[Mapping[str, str]]:
    """The environment in which a study runs on ``runner``."""
    if not runner.startswith("dask-"):
        yield {"HPO_BENCHMARK_CLUSTER": "local" if runner == "local" else ""}
        return
    with tempfile.TemporaryDirectory() as folder:
        protocol = runner.removeprefix("dask-")
        settings = certificates(Path(folder)) if protocol == "tls" else {}
        script = Path(folder, "cluster.py")
        script.write_text(CLUSTER)
        with subprocess.Popen(
            [sys.executable, str(script), protocol, str(workers)],
            cwd=folder,
            env={**os.environ, **settings, "PYTHONPATH": str(HERE)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            if not address.startswith(f"{protocol}://"):
                raise SystemExit(f"expected a {protocol} address of the cluster, got {address!r}")
            yield {**settings, "HPO_BENCHMARK_CLUSTER": address}
            process.stdin.close()


def main() -> None:
    """Measure each combination, in turns, and keep the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runners", default="local,dask", help=f"of {', '.join(RUNNERS)}")
    parser.add_argument("--seconds", default="1,0.1", help="how long trials sleep")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=10, help="seconds of work for each worker")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="append to benchmarks/results/utilisation.csv")
    options = parser.parse_args()
    runners, lengths = options.runners.split(","), [float(s) for s in options.seconds.split(",")]
    if unknown := set(runners) - set(RUNNERS):
        raise SystemExit(f"expected runners of {', '.join(RUNNERS)}, got {', '.join(sorted(unknown))}")
    marks = stamp(("mlflow", "prefect", "distributed"))
    found: dict[tuple[str, float], list[float]] = {}
    for _ in range(options.repeats):
        for runner in runners:
            for seconds in lengths:
                trials = round(options.rounds / seconds) * options.workers
                load = os.getloadavg()[0]  # before this adds to it
                with cluster(runner, options.workers) as settings:
                    got = run(SLEEPERS, round(seconds * 1000), trials, options.workers, settings=settings)
                if got["complete"] != trials:
                    raise SystemExit(f"expected {trials} trials, got {got}")
                row: dict[str, Any] = {
                    "runner": runner,
                    "trial_s": seconds,
                    "workers": options.workers,
                    "trials": trials,
                    "utilisation": trials * seconds / (options.workers * got["span"]),
                    "load": load,
                }
                found.setdefault((runner, seconds), []).append(row["utilisation"])
                print(row, flush=True)
                if options.keep:
                    append_row(RESULTS / "utilisation.csv", (*row, *STAMP_COLUMNS), {**row, **marks})
    for (runner, seconds), shares in found.items():
        print(f"{runner}, {seconds:g} s: median {statistics.median(shares):.1%}")


if __name__ == "__main__":
    main()
