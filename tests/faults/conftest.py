"""What the fault suite shares: a launcher, one Prefect server, an empty MLflow database."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flows._embedded import embedded_api
from tests.faults.harness import Driver, Launcher
from tests.faults.prefect_api import Api


@pytest.fixture(scope="session")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    """Where drivers come from."""
    made = Launcher(tmp_path_factory.mktemp("processes"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def prefect_url() -> Iterator[str]:
    """The embedded server, which other tests of the run use too."""
    with embedded_api() as server:
        yield server.url()


@pytest.fixture
def api(prefect_url: str) -> Api:
    """The suite's own server."""
    return Api(prefect_url)


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow takes seconds to make a database; studies start from copies of this one."""
    from tracking import connect

    folder = tmp_path_factory.mktemp("mlflow")
    connection = connect(f"sqlite:///{folder}/made.db", "empty")
    connection.client.delete_experiment(connection.experiment_id)
    source, target = sqlite3.connect(folder / "made.db"), sqlite3.connect(folder / "empty.db")
    with closing(source), closing(target):
        source.backup(target)
    return folder / "empty.db"


MakeDriver = Callable[..., Driver]


@pytest.fixture
def make_driver(launcher: Launcher, prefect_url: str, database: Path, tmp_path: Path) -> Iterator[MakeDriver]:
    """Makes drivers of studies in the test's folder, and ends what is left of them."""
    made: list[Driver] = []

    def make(folder: Path = tmp_path, **terms: Any) -> Driver:
        made.append(Driver(launcher, folder, **{"prefect": prefect_url, "database": database, **terms}))
        return made[-1]

    yield make
    for driver in made:
        driver.clean_up()


@pytest.fixture
def driver(make_driver: MakeDriver) -> Driver:
    """A study of twelve trials on two workers, not started yet."""
    return make_driver()
