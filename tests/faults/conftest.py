"""What the fault suite shares: Prefect's API, and drivers of studies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.harness import Driver, Launcher
from tests.faults.prefect_api import Api


@pytest.fixture
def api(prefect_url: str) -> Api:
    """The suite's own server."""
    return Api(prefect_url)


MakeDriver = Callable[..., Driver]


@pytest.fixture
def make_driver(
    launcher: Launcher, prefect_url: str, empty_database: Path, tmp_path: Path
) -> Iterator[MakeDriver]:
    """Makes drivers of studies in the test's folder, and ends what is left of them."""
    made: list[Driver] = []

    def make(folder: Path = tmp_path, **terms: Any) -> Driver:
        made.append(Driver(launcher, folder, **{"prefect": prefect_url, "database": empty_database, **terms}))
        return made[-1]

    yield make
    for driver in made:
        driver.clean_up()


@pytest.fixture
def driver(make_driver: MakeDriver) -> Driver:
    """A study of twelve trials on two workers, not started yet."""
    return make_driver()
