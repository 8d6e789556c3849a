"""MLflow and Prefect on PostgreSQL: it restarts, and their servers die, in the middle of a study."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.faults.checks import check_went_on, check_whole, runs_of
from tests.faults.conftest import MakeDriver
from tests.faults.harness import (
    Driver,
    ServerProcess,
    mlflow_server,
    prefect_server,
    wait_until,
)
from tests.faults.postgres import Postgres, binaries
from tests.faults.prefect_api import Api, cancelled_in_prefect, flow_runs
from tracking._server_clock import ServerClock
from tracking._writes import REFUSED

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A running server."""
    programs = binaries()
    driver = importlib.util.find_spec("psycopg2")
    if programs is None or driver is None:
        wanting = "PostgreSQL's programs" if programs is None else "the Python package psycopg2-binary"
        reason = f"NOTHING WAS TESTED ON POSTGRESQL: {wanting} cannot be found on this machine"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    assert programs is not None
    made = Postgres(programs)
    made.start()
    yield made
    made.remove()


@pytest.fixture(scope="module")
def prefect(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Prefect server whose database is PostgreSQL's."""
    url = f"postgresql+asyncpg://{postgres.database('prefect')}"
    folder = tmp_path_factory.mktemp("prefect")
    server, api = prefect_server(folder, {"PREFECT_API_DATABASE_CONNECTION_URL": url})
    server.start()
    yield api
    server.kill()


@pytest.fixture
def driver(make_driver: MakeDriver, prefect: str) -> Driver:
    """A study that Prefect keeps in PostgreSQL."""
    return make_driver(prefect=prefect)


@pytest.fixture
def mlflow(
    request: pytest.FixtureRequest, postgres: Postgres, driver: Driver, tmp_path: Path
) -> Iterator[ServerProcess]:
    """The server that tracks the study, in PostgreSQL too."""
    name = request.node.name.replace("test_", "")[:40]
    server, driver.tracking_uri = mlflow_server(tmp_path, f"postgresql+psycopg2://{postgres.database(name)}")
    server.start()
    yield server
    server.kill()


def test_a_restart_of_postgresql_costs_no_study_anything(
    driver: Driver, mlflow: ServerProcess, postgres: Postgres, prefect: str
) -> None:
    """Its connections are cut as by a crash; training goes on, and both servers have all at the end."""
    driver.hold(8)
    driver.start()
    driver.wait_for(3)
    postgres.stop()
    driver.wait_for(6)
    postgres.start()
    driver.release()
    driver.finish()
    check_whole(driver)
    api = Api(prefect)
    wait_until(lambda: api.state(flow_runs(driver)[0]) == "Completed", "Prefect to have its end")


def test_a_postgresql_that_takes_no_writes_for_a_while_gets_all_of_them(
    driver: Driver, mlflow: ServerProcess, postgres: Postgres
) -> None:
    """MLflow's server answers that the requests are bad; nothing is given up for it."""
    driver.hold(8)
    driver.start()
    driver.wait_for(3)
    postgres.read_only(True)
    driver.wait_for(6)
    postgres.read_only(False)
    driver.release()
    driver.finish()
    check_whole(driver)
    assert not [run for run in runs_of(driver.tracking_uri) if REFUSED in run.data.tags]


def test_an_mlflow_server_on_postgresql_that_is_killed_gets_everything(
    driver: Driver, mlflow: ServerProcess
) -> None:
    driver.hold(8)
    driver.start()
    driver.wait_for(3)
    mlflow.kill()
    driver.wait_for(6)
    mlflow.start()
    driver.release()
    driver.finish()
    check_whole(driver)


def test_a_flow_run_that_postgresql_keeps_is_cancelled_and_the_study_resumed(
    driver: Driver, prefect: str
) -> None:
    api = Api(prefect)
    flow_run = cancelled_in_prefect(driver, api)
    assert api.state(flow_run) == "Cancelled"
    driver.release()
    driver.finish()
    check_went_on(driver)
    resumed = flow_runs(driver)[1]
    wait_until(lambda: api.state(resumed) == "Completed", "Prefect to have the study's end")
    wait_until(lambda: "RUNNING" not in api.task_states(resumed), "its task runs to be closed")


def test_drivers_that_track_straight_to_a_database_go_by_its_clock(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a driver whose clock is an hour ahead would take a study from one that lives."""
    monkeypatch.setattr("tracking._server_clock.time", SimpleNamespace(time=lambda: time.time() + 3600.0))
    clock = ServerClock(f"postgresql+psycopg2://{postgres.database('clock')}")
    assert abs(clock.now() - time.time()) < 60.0
