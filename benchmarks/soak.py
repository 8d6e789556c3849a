"""Continuous studies under random faults, for a given time; every study is checked in full after its end.

    python -m benchmarks.soak --minutes 120 --seed 0 --log soak.log

Each study draws its strategy, its number of workers, its runner and two to four faults from the seed and
its number, so that a study that failed can be run again by itself with ``--only NUMBER``. One MLflow and one
Prefect server serve all studies and are among what is killed; so are the scheduler and the workers of a
Dask cluster. Needs what the tests need.
"""

from __future__ import annotations

import argparse
import collections
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks._report import stamp
from tests.faults.checks import check_whole
from tests.faults.cluster import Cluster
from tests.faults.harness import Driver, Launcher, ServerProcess, mlflow_server, prefect_server, wait_until
from tests.faults.mischief import PROCESS_FAULTS


@dataclass(frozen=True, kw_only=True)
class Place:
    """What all studies share."""

    folder: Path
    launcher: Launcher
    mlflow: ServerProcess
    mlflow_url: str
    prefect: ServerProcess
    prefect_url: str
    cluster: Cluster


@contextmanager
def place(folder: Path) -> Iterator[Place]:
    """Servers and cluster, ended with the block."""
    with ExitStack() as ending:
        for name in ("mlflow", "prefect", "cluster", "drivers", "trace"):
            (folder / name).mkdir()
        mlflow, mlflow_url = mlflow_server(folder / "mlflow")
        prefect, prefect_url = prefect_server(folder / "prefect")
        cluster = Cluster(folder / "cluster", folder / "trace")
        launcher = Launcher(folder / "drivers")
        for closing in (mlflow.kill, prefect.kill, cluster.close, launcher.close):
            ending.callback(closing)
        mlflow.start()
        prefect.start()
        cluster.restart()
        yield Place(
            folder=folder,
            launcher=launcher,
            mlflow=mlflow,
            mlflow_url=mlflow_url,
            prefect=prefect,
            prefect_url=prefect_url,
            cluster=cluster,
        )


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A running study, where it runs, and what chance has in store for it."""

    place: Place
    driver: Driver
    rng: random.Random


Fault = Callable[[Scene], None]


def hang_driver(scene: Scene) -> None:
    """Stop the driver for a while; then it is killed, or goes on."""
    assert scene.driver.process is not None
    scene.driver.process.send(signal.SIGSTOP)
    time.sleep(scene.rng.uniform(0.1, 1.5))  # the fault's own length
    scene.driver.process.send(signal.SIGCONT)
    if scene.rng.random() < 0.5:
        scene.driver.kill()


def cancel_study(scene: Scene) -> None:
    """``hpo cancel``, in vain where the study has just ended."""
    driver = scene.driver
    if driver.hpo("cancel", driver.name).code == 0 and driver.process is not None:
        driver.process.wait()
        driver.process = None


def mlflow_outage(scene: Scene) -> None:
    """SIGKILL to MLflow's server, and back."""
    _outage(scene.place.mlflow, scene)


def prefect_outage(scene: Scene) -> None:
    """SIGKILL to Prefect's server, and back."""
    _outage(scene.place.prefect, scene)


def _outage(server: ServerProcess, scene: Scene) -> None:
    driver = scene.driver
    server.kill()
    more = min(driver.finished() + scene.rng.randint(0, 2), driver.trials)
    wait_until(lambda: driver.finished() >= more or driver.died(), f"{more} finished trials")
    if driver.died() and driver.process is not None and driver.process.code:
        # A driver that begins without MLflow refuses to, and is started again; any other end is a failure.
        assert "cannot track to" in driver.process.err, driver.process.err[-3000:]
        driver.process = None
    server.start()


def kill_dask_worker(scene: Scene) -> None:
    """SIGKILL to a worker of the cluster; another one joins."""
    scene.place.cluster.kill_worker(scene.rng.randrange(2))
    scene.place.cluster.add_workers(1)


def restart_dask_scheduler(scene: Scene) -> None:
    """SIGKILL to the scheduler, with which its workers go, and back at the same address."""
    scene.place.cluster.kill_scheduler()
    scene.place.cluster.restart()


def _on_driver(fault: Callable[[Driver, random.Random], None]) -> Fault:
    def strike(scene: Scene) -> None:
        fault(scene.driver, scene.rng)

    strike.__name__ = fault.__name__
    return strike


ANYWHERE: tuple[Fault, ...] = (
    *map(_on_driver, PROCESS_FAULTS),
    hang_driver,
    cancel_study,
    mlflow_outage,
    prefect_outage,
)
ON_DASK: tuple[Fault, ...] = (kill_dask_worker, restart_dask_scheduler)


def go_on(driver: Driver, finished: int) -> None:
    """Wait for so many finished trials, with a driver that drives.

    One that began while MLflow's server was away has refused to, and is started again.
    """
    wanted = min(finished, driver.trials)
    while True:
        if driver.process is None:
            driver.lead()
        wait_until(lambda: driver.finished() >= wanted or driver.died(), f"{wanted} finished trials")
        process = driver.process
        assert process is not None
        if not process.code:
            return
        assert "cannot track to" in process.err, process.err[-3000:]
        driver.process = None


def one_study(place: Place, seed: int, number: int, struck: list[str]) -> str:
    """Run a study under its faults, which are added to ``struck``, and check it; returns a line about it."""
    rng = random.Random(f"{seed}/{number}")
    dask = rng.random() < 0.25
    terms: dict[str, Any] = {
        "name": f"soak-{number}",
        "strategy": rng.choice(["random", "tpe", "asha", "hyperband", "gp"]),
        "workers": rng.choice([1, 2, 3]),
        "max_steps": 6,
        "seed": number,
        **({"runner": "dask", "dask": place.cluster.address} if dask else {}),
    }
    # The workers of the cluster write their traces to one place, so it is emptied between studies.
    folder = place.folder / "study"
    folder.mkdir(exist_ok=True)
    driver = Driver(place.launcher, folder, prefect=place.prefect_url, **terms)
    driver.tracking_uri, driver.trace = place.mlflow_url, place.folder / "trace"
    for path in driver.trace.iterdir():
        path.unlink()
    choices = ANYWHERE + ON_DASK * 2 if dask else ANYWHERE
    began = time.monotonic()
    try:
        for _ in range(rng.randint(2, 4)):
            go_on(driver, driver.finished() + rng.randint(0, 3))
            fault = rng.choice(choices)
            struck.append(fault.__name__)
            fault(Scene(place=place, driver=driver, rng=rng))
        go_on(driver, driver.trials)
        driver.finish()
        if "mlflow_outage" in struck:
            # A study that ends during an outage leaves the rest to the next command.
            driver.hpo("sync", driver.name)
        study = check_whole(driver)
    finally:
        driver.clean_up()
    attempts = sum(trial.attempt for trial in study.trials)
    where = f"{terms['strategy']} {'dask' if dask else 'local'} x{terms['workers']}"
    took = time.monotonic() - began
    return f"{where}: {len(study.trials)} trials, {attempts} segments, {took:.0f} s"


def main() -> None:
    """Soak for the time asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, default=Path("soak.log"))
    parser.add_argument("--only", type=int, help="run the study of this number, and no other")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # servers are ended with it
    faults: collections.Counter[str] = collections.Counter()
    failed: list[int] = []
    count = 0
    until = time.monotonic() + options.minutes * 60
    with tempfile.TemporaryDirectory(prefix="hpo-soak-") as folder, options.log.open("a") as log:

        def say(line: str) -> None:
            print(line, flush=True)
            log.write(line + "\n")
            log.flush()

        marks = stamp(("mlflow", "prefect", "distributed"))
        say(f"# seed {options.seed}, {options.minutes:g} minutes; {'; '.join(marks.values())}")
        with place(Path(folder)) as here:
            numbers = range(10**9) if options.only is None else [options.only]
            for number in numbers:
                if time.monotonic() > until:
                    break
                count += 1
                struck: list[str] = []
                try:
                    say(f"{number} ok {one_study(here, options.seed, number, struck)}; {', '.join(struck)}")
                except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - the next study may do better
                    failed.append(number)
                    # An assertion outside of a test module says nothing by itself.
                    what = " ".join(str(error).split())[:600] or traceback.extract_tb(error.__traceback__)[-1]
                    say(f"{number} FAILED {type(error).__name__}: {what}; {', '.join(struck)}")
                    kept = options.log.parent / f"soak-{options.seed}-{number}"
                    shutil.copytree(here.folder, kept, dirs_exist_ok=True)
                    for server in (here.mlflow, here.prefect):
                        if not server.healthy():
                            server.start()
                faults.update(struck)
        say(f"# {count} studies, {len(failed)} failed {failed or ''}; faults: {dict(faults.most_common())}")
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
