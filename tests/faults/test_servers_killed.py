"""MLflow and Prefect servers killed in the middle of a study: training goes on, MLflow catches up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import copy_database
from tests.faults.checks import check_whole
from tests.faults.conftest import MakeDriver
from tests.faults.harness import Driver, ServerProcess, mlflow_server, prefect_server


@pytest.fixture
def mlflow(tmp_path: Path, driver: Driver) -> Iterator[ServerProcess]:
    """The server that tracks the driver's study, on its database."""
    server, driver.tracking_uri = mlflow_server(tmp_path)
    server.start()
    yield server
    server.kill()


def test_an_mlflow_server_that_dies_and_comes_back_gets_everything(
    driver: Driver, mlflow: ServerProcess
) -> None:
    """Training goes on without it; what it missed is there when the study ends, nobody has to ask."""
    driver.hold(8)
    driver.start()
    driver.wait_for(2)
    mlflow.kill()
    driver.wait_for(8)
    mlflow.start()
    driver.release()
    driver.finish()
    check_whole(driver)


@pytest.mark.faults
def test_what_mlflow_missed_at_the_end_is_delivered_by_hpo_sync(
    driver: Driver, mlflow: ServerProcess
) -> None:
    driver.hold(4)
    driver.start()
    driver.wait_for(4)
    mlflow.kill()
    driver.release()
    assert driver.finish()["complete"] == driver.trials
    mlflow.start()
    assert driver.hpo("sync", "study").code == 0
    check_whole(driver)


def test_a_prefect_server_that_dies_takes_no_study_along(
    make_driver: MakeDriver, empty_prefect: Path, tmp_path: Path
) -> None:
    home = tmp_path / "prefect"
    copy_database(empty_prefect, home / "prefect.db")
    server, url = prefect_server(home)
    server.start()
    driver = make_driver(prefect=url)
    try:
        driver.hold(4)
        driver.start()
        driver.wait_for(4)
        server.kill()
        driver.release()
        assert driver.finish()["complete"] == driver.trials
        check_whole(driver)
    finally:
        server.kill()
