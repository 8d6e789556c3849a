"""MLflow and Prefect servers killed in the middle of a study: training goes on, MLflow catches up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import (
    Driver,
    ServerProcess,
    check_whole,
    mlflow_server,
    prefect_server,
    wait_until,
)

pytestmark = pytest.mark.faults


@pytest.fixture
def mlflow(tmp_path: Path) -> Iterator[tuple[ServerProcess, str]]:
    server, url = mlflow_server(tmp_path)
    server.start()
    yield server, url
    server.kill()


def test_an_mlflow_server_that_dies_and_comes_back_gets_everything(
    driver: Driver, mlflow: tuple[ServerProcess, str]
) -> None:
    server, driver.tracking_uri = mlflow
    driver.start()
    wait_until(lambda: driver.finished() >= 2, "two finished trials")
    server.kill()
    at = driver.finished()
    wait_until(lambda: driver.finished() >= min(at + 4, 12), "training to go on without MLflow")
    server.start()
    driver.finish()
    # A slow machine may need more than the session's last half minute; the next command delivers it.
    driver.finish()
    check_whole(driver)


def test_what_mlflow_missed_at_the_end_is_delivered_by_the_next_command(
    driver: Driver, mlflow: tuple[ServerProcess, str]
) -> None:
    server, driver.tracking_uri = mlflow
    driver.start()
    wait_until(lambda: driver.finished() >= 2, "two finished trials")
    server.kill()
    assert driver.finish()["complete"] == driver.trials
    server.start()
    driver.finish()
    check_whole(driver)


def test_a_prefect_server_that_dies_takes_no_study_along(tmp_path: Path) -> None:
    home = tmp_path / "prefect"
    home.mkdir()
    server, url = prefect_server(home)
    server.start()
    driver = Driver(tmp_path, url, trials=12)
    try:
        driver.start()
        wait_until(lambda: driver.finished() >= 2, "two finished trials")
        server.kill()
        assert driver.finish()["complete"] == driver.trials
        check_whole(driver)
    finally:
        server.kill()
        if driver.process is not None:
            driver.kill()
