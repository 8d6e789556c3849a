"""What the suite asks of Prefect's API."""

from __future__ import annotations

from typing import Any

import httpx

from tests.faults.checks import check_cancelled
from tests.faults.harness import Driver, checkpoint, wait_until

# Else each question, also one without TLS, reads all authorities that there are: who asks until something has
# come true would keep a processor busy with that.
_PLAINLY: Any = {"verify": False, "timeout": 30}


class Api:
    """Prefect's API at a URL."""

    def __init__(self, url: str) -> None:
        self.url = url

    def post(self, path: str, **body: Any) -> Any:
        """The answer's JSON."""
        return httpx.post(f"{self.url}{path}", json=body, **_PLAINLY).raise_for_status().json()

    def get(self, path: str) -> Any:
        """The answer's JSON."""
        return httpx.get(f"{self.url}{path}", **_PLAINLY).raise_for_status().json()

    def order(self, deployment: str, **parameters: Any) -> str:
        """Have a served deployment run, by its name ``FLOW/DEPLOYMENT``; the flow run's id."""
        found = self.get(f"/deployments/name/{deployment}")
        made = self.post(f"/deployments/{found['id']}/create_flow_run", parameters=parameters)
        return str(made["id"])

    def set_state(self, flow_run: str, kind: str, **fields: Any) -> None:
        """What the buttons of the UI do."""
        self.post(f"/flow_runs/{flow_run}/set_state", state={"type": kind, **fields})

    def state(self, flow_run: str) -> str:
        """The name of a flow run's state; empty while it has none, as a new one for a moment."""
        state = self.get(f"/flow_runs/{flow_run}")["state"]
        return str(state["name"]) if state else ""

    def task_states(self, flow_run: str) -> list[str]:
        """The types of the states of its task runs."""
        found = self.post("/task_runs/filter", flow_runs={"id": {"any_": [flow_run]}})
        # Of a task run that is just being made the state may still be missing.
        return [task["state"]["type"] for task in found if task["state"]]


def flow_runs(driver: Driver) -> list[str]:
    """The ids of the flow runs that have driven the study."""
    study = driver.study()
    return [] if study is None else [n.data["id"] for n in study.state.notes if n.topic == "flow_run"]


def cancelled_in_prefect(driver: Driver, api: Api) -> str:
    """Cancel the driver's flow run while trial 3 trains, and see it end so; its id."""
    driver.hold(3, 2)
    driver.start()
    wait_until(lambda: checkpoint(driver, 3) == 2, "a checkpoint of trial 3")
    [flow_run] = flow_runs(driver)
    api.set_state(flow_run, "CANCELLING")
    assert driver.process is not None
    assert driver.process.wait() == 0, driver.process.err
    driver.process = None
    check_cancelled(driver, "cancelled in Prefect")
    return flow_run
