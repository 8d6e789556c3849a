"""What Prefect's users do to a flow run: cancel it, retry it, and find out what became of a dead one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.faults.checks import check_cancelled, check_went_on, check_whole, runs_of
from tests.faults.harness import ROOT, Driver, checkpoint, wait_until
from tests.faults.prefect_api import Api, cancelled_in_prefect, flow_runs

WORK = "tests.faults.objectives:work"


def test_a_flow_run_cancelled_in_prefect_stops_the_work_and_can_be_resumed(driver: Driver, api: Api) -> None:
    """A run in the user's own process: Prefect itself would only note the wish."""
    flow_run = cancelled_in_prefect(driver, api)
    assert api.state(flow_run) == "Cancelled"
    driver.release()
    driver.finish()
    check_went_on(driver)


@pytest.mark.faults
def test_the_flow_run_of_a_killed_driver_is_crashed_once_another_goes_on(driver: Driver, api: Api) -> None:
    driver.hold(3, 2)
    driver.start()
    driver.wait_for(3)
    [flow_run] = flow_runs(driver)
    wait_until(lambda: "RUNNING" in api.task_states(flow_run), "task runs to be recorded")
    driver.kill()
    assert api.state(flow_run) == "Running"
    driver.release()
    driver.finish()
    check_whole(driver)
    assert api.state(flow_run) == "Crashed"
    wait_until(lambda: "RUNNING" not in api.task_states(flow_run), "its task runs to be closed")
    assert api.state(flow_runs(driver)[1]) == "Completed"


@pytest.fixture
def served(driver: Driver, api: Api, tmp_path: Path) -> Iterator[str]:
    """A deployment of the flow, served by a process of its own; its id."""
    environment = {
        **os.environ,
        **driver.environment,
        "MLFLOW_TRACKING_URI": driver.tracking_uri,
        "HPO_HOME": str(driver.folder / "home"),
        "HPO_TEST_TRACE": str(driver.trace),
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
        "PYTHONPATH": str(ROOT),
    }
    with (tmp_path / "serve.log").open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.serving"],
            cwd=ROOT,
            env=environment,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    try:
        found = wait_until(
            lambda: api.post("/deployments/filter", deployments={"name": {"any_": ["probe"]}}), "a deployment"
        )
        yield str(found[0]["id"])
    finally:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
        process.wait()


@pytest.mark.faults
def test_a_served_run_that_is_cancelled_stops_and_a_retry_of_it_is_a_resume(
    driver: Driver, api: Api, served: str
) -> None:
    """And of a retry's flow run no task run of the first time stays Running."""
    driver.hold(3, 2)
    terms = {"objective": WORK, "name": "study", "trials": driver.trials, "workers": 2, "strategy": "tpe"}
    flow_run = api.post(f"/deployments/{served}/create_flow_run", parameters=terms)["id"]
    wait_until(lambda: checkpoint(driver, 3) == 2, "a checkpoint of trial 3")
    api.set_state(flow_run, "CANCELLING")
    wait_until(lambda: api.state(flow_run) == "Cancelled", "the flow run's end")
    wait_until(lambda: runs_of(driver.tracking_uri)[0].info.status != "RUNNING", "MLflow to have all")
    check_cancelled(driver, "cancelled in Prefect")
    # It says Cancelled of the flow run once more when its process is gone, whatever that is by then.
    log = driver.folder / "serve.log"
    wait_until(lambda: "Cancelled flow run" in log.read_text(), "Prefect's runner to see the end")
    driver.release()
    api.set_state(flow_run, "SCHEDULED", name="AwaitingRetry")
    wait_until(lambda: api.state(flow_run) == "Completed", "the retry's end")
    assert set(flow_runs(driver)) == {flow_run}
    check_went_on(driver)
    wait_until(lambda: "RUNNING" not in api.task_states(flow_run), "its task runs to be closed")
