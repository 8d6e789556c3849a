"""A cluster whose workers die under a study, and one whose driver dies."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flows._workspace import read_study
from hpo_core import TrialState
from tests.faults.checks import check_whole, runs_of
from tests.faults.cluster import Cluster
from tests.faults.conftest import MakeDriver
from tests.faults.harness import Driver, checkpoint, wait_until

pytest.importorskip("distributed")
pytestmark = pytest.mark.faults


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler and two workers."""
    (tmp_path / "trace").mkdir(exist_ok=True)
    made = Cluster(tmp_path, tmp_path / "trace")
    try:
        made.restart()
        yield made
    finally:
        made.close()


@pytest.fixture
def driver(make_driver: MakeDriver, cluster: Cluster) -> Driver:
    """A study on the cluster; trial 3 waits after its second step, later trials before their first."""
    made = make_driver(runner="dask", dask=cluster.address)
    made.hold(3, 2)
    return made


@pytest.fixture
def checkpointed(driver: Driver) -> Driver:
    """The same, begun, and waiting there."""
    driver.start()
    wait_until(lambda: checkpoint(driver, 3) == 2, "a checkpoint of trial 3")
    return driver


def test_a_worker_killed_costs_its_segment_and_one_added_is_used(driver: Driver, cluster: Cluster) -> None:
    driver.start()
    both = [driver.trace / "pid-3-1", driver.trace / "pid-4-1"]
    wait_until(lambda: all(path.exists() for path in both), "a segment on each worker")
    cluster.add_workers(1)
    cluster.workers[0].send_signal(signal.SIGKILL)
    wait_until(
        lambda: any(t.losses for t in read_study(driver.study_folder).trials), "the loss to be noticed"
    )
    driver.release()
    driver.finish()
    study = check_whole(driver)
    assert sum(t.losses for t in study.trials) == 1


def test_a_killed_driver_leaves_no_trial_running_on_the_cluster(driver: Driver, cluster: Cluster) -> None:
    driver.start()
    driver.wait_for(3)
    driver.kill()
    pids = driver.trial_pids()
    wait_until(lambda: not any(map(psutil.pid_exists, pids)), "the trial processes to be gone")
    driver.release()
    driver.finish()
    check_whole(driver)


def test_a_scheduler_that_dies_and_comes_back_costs_what_was_in_flight(
    checkpointed: Driver, cluster: Cluster
) -> None:
    driver = checkpointed
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
    driver: Driver, cluster: Cluster
) -> None:
    driver.environment["HPO_DASK_PATIENCE"] = "1"
    driver.start()
    driver.wait_for(3)
    cluster.kill_scheduler()
    assert driver.process is not None
    assert driver.process.wait() == 1
    assert f"the Dask scheduler at {cluster.address} was lost" in driver.process.err
    driver.process = None
    assert read_study(driver.study_folder).history.count(TrialState.RUNNING) == 0
    assert [run.info.status for run in runs_of(driver.tracking_uri)].count("RUNNING") == 0
    cluster.restart()
    driver.release()
    driver.finish()
    check_whole(driver)


def test_a_study_can_be_cancelled_while_its_scheduler_is_away(checkpointed: Driver, cluster: Cluster) -> None:
    driver = checkpointed
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
