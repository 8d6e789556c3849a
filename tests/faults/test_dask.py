"""A cluster whose workers die under a study, and one whose driver dies."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from hpo_core import TrialState
from tests.faults.checks import check_whole, runs_of
from tests.faults.conftest import MakeDriver
from tests.faults.harness import ROOT, checkpoint, free_port, wait_until

pytest.importorskip("distributed")
pytestmark = pytest.mark.faults


class Cluster:
    """A scheduler and workers, each a process of its own."""

    def __init__(self, folder: Path, trace: Path) -> None:
        self._folder, self._trace = folder, trace
        self._numbers = itertools.count()
        self.port = free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with (self._folder / "cluster.log").open("ab") as sink:
            return subprocess.Popen(
                [sys.executable, "-m", "distributed.cli." + arguments[0], *arguments[1:]],
                cwd=ROOT,
                env={**os.environ, "HPO_TEST_TRACE": str(self._trace), "PYTHONPATH": str(ROOT)},
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )

    def start_scheduler(self) -> None:
        """On the same port each time."""
        host = ("--host", "127.0.0.1", "--port", str(self.port), "--dashboard-address", "127.0.0.1:0")
        self.scheduler = self._start("dask_scheduler", *host)

    def kill_scheduler(self) -> None:
        """Workers leave when their scheduler is gone; whoever keeps a cluster starts new ones."""
        assert self.scheduler is not None
        self.scheduler.kill()
        for process in (self.scheduler, *self.workers):
            process.wait()
        self.workers.clear()

    def restart(self) -> None:
        """A scheduler at the same address, and two workers."""
        self.start_scheduler()
        self.add_worker()
        self.add_worker()

    def add_worker(self) -> None:
        """One thread, no nanny: a dead worker stays dead."""
        local = str(self._folder / f"worker-{next(self._numbers)}")
        flags = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", local)
        self.workers.append(self._start("dask_worker", self.address, *flags))

    def close(self) -> None:
        """Kill what runs."""
        for process in [self.scheduler, *self.workers]:
            if process is not None:
                process.kill()
                process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler and two workers."""
    (tmp_path / "trace").mkdir(exist_ok=True)
    made = Cluster(tmp_path, tmp_path / "trace")
    made.restart()
    yield made
    made.close()


def test_a_worker_killed_costs_its_segment_and_one_added_is_used(
    make_driver: MakeDriver, cluster: Cluster
) -> None:
    driver = make_driver(runner="dask", dask=cluster.address)
    driver.hold(3, 2)
    driver.start()
    both = [driver.trace / "pid-3-1", driver.trace / "pid-4-1"]
    wait_until(lambda: all(path.exists() for path in both), "a segment on each worker")
    cluster.add_worker()
    cluster.workers[0].send_signal(signal.SIGKILL)
    wait_until(lambda: any(t.losses for t in driver.study().trials), "the loss to be noticed")
    driver.release()
    driver.finish()
    study = check_whole(driver)
    assert sum(t.losses for t in study.trials) == 1


def test_a_killed_driver_leaves_no_trial_running_on_the_cluster(
    make_driver: MakeDriver, cluster: Cluster
) -> None:
    driver = make_driver(runner="dask", dask=cluster.address)
    driver.hold(3, 2)
    driver.start()
    driver.wait_for(3)
    driver.kill()
    pids = driver.trial_pids()
    wait_until(lambda: not any(map(psutil.pid_exists, pids)), "the trial processes to be gone")
    driver.release()
    driver.finish()
    check_whole(driver)


def test_a_scheduler_that_dies_and_comes_back_costs_what_was_in_flight(
    make_driver: MakeDriver, cluster: Cluster
) -> None:
    driver = make_driver(runner="dask", dask=cluster.address)
    driver.hold(3, 2)
    driver.start()
    wait_until(lambda: checkpoint(driver, 3) == 2, "a checkpoint of trial 3")
    cluster.kill_scheduler()
    pids = driver.trial_pids()
    wait_until(lambda: not any(map(psutil.pid_exists, pids)), "the trial processes to be gone")
    cluster.restart()
    driver.release()
    driver.finish()
    study = check_whole(driver)
    assert study.trials[3].attempt == 2
    assert (driver.trace / "steps-3").read_text() == "1 1\n1 2\n2 3\n2 4\n2 5\n2 6\n"
    assert sum(t.losses for t in study.trials) == 0
    assert study.state.token == 1


def test_a_scheduler_that_stays_away_ends_the_session_and_leaves_a_study_to_resume(
    make_driver: MakeDriver, cluster: Cluster
) -> None:
    driver = make_driver(runner="dask", dask=cluster.address)
    driver.environment["HPO_DASK_PATIENCE"] = "1"
    driver.hold(3, 2)
    driver.start()
    driver.wait_for(3)
    cluster.kill_scheduler()
    assert driver.process is not None
    assert driver.process.wait() == 1
    assert f"the Dask scheduler at {cluster.address} was lost" in driver.process.err
    driver.process = None
    assert driver.study().history.count(TrialState.RUNNING) == 0
    assert [run.info.status for run in runs_of(driver.tracking_uri)].count("RUNNING") == 0
    cluster.restart()
    driver.release()
    driver.finish()
    check_whole(driver)


def test_a_study_can_be_cancelled_while_its_scheduler_is_away(
    make_driver: MakeDriver, cluster: Cluster
) -> None:
    driver = make_driver(runner="dask", dask=cluster.address)
    driver.hold(3, 2)
    driver.start()
    wait_until(lambda: checkpoint(driver, 3) == 2, "a checkpoint of trial 3")
    cluster.kill_scheduler()
    assert driver.hpo("cancel", "study").code == 0
    assert driver.process is not None
    assert driver.process.wait() == 0
    driver.process = None
    runs = [(run.info.status, run.data.tags["hpo.state"]) for run in runs_of(driver.tracking_uri)[1:]]
    assert set(runs) == {("FINISHED", "complete"), ("KILLED", "cancelled")}
    cluster.restart()
    driver.release()
    driver.finish()
    check_whole(driver)
    assert (driver.trace / "steps-3").read_text() == "1 1\n1 2\n2 3\n2 4\n2 5\n2 6\n"
