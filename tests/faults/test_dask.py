"""A cluster whose workers die under a study, and one whose driver dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.faults.checks import check_whole
from tests.faults.conftest import MakeDriver
from tests.faults.harness import ROOT, free_port, wait_until

pytest.importorskip("distributed")
pytestmark = pytest.mark.faults


class Cluster:
    """A scheduler and workers, each a process of its own."""

    def __init__(self, folder: Path, trace: Path) -> None:
        self._folder, self._trace = folder, trace
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

    def add_worker(self) -> None:
        """One thread, no nanny: a dead worker stays dead."""
        local = str(self._folder / f"worker-{len(self.workers)}")
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
    made.start_scheduler()
    made.add_worker()
    made.add_worker()
    yield made
    made.close()


def test_a_worker_killed_costs_its_segment_and_one_added_is_used(
    make_driver: MakeDriver, cluster: Cluster
) -> None:
    driver = make_driver(runner="dask", dask=cluster.address)
    driver.hold(3, 2)
    driver.start()
    driver.wait_for(3)
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
