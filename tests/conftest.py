"""Settings of the whole test run: it leaves no trace outside of a temporary folder, and no network."""

from __future__ import annotations

import gc
import importlib.util
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import certifi
import pytest
from hypothesis import HealthCheck, settings

from tests.databases import copy_database, made_once, mlflow_database, prefect_database

if TYPE_CHECKING:
    from tests.faults.harness import Launcher

# Prefect and MLflow read their settings when they are first imported, which is before any fixture runs.
_HOME = tempfile.TemporaryDirectory(prefix="hpo-tests-", ignore_cleanup_errors=True)
# What the processes of this run share; xdist's workers inherit the name from the first one.
_SHARED = Path(os.environ.setdefault("HPO_TESTS_SHARED", _HOME.name))
# Each of Prefect's clients, five for a flow run, reads all authorities that there are, also to talk to a
# server without TLS: a third of the processor time of a small study. One is enough to talk to nobody.
_ONE_AUTHORITY = Path(_HOME.name, "authority.pem")
_END = "-----END CERTIFICATE-----\n"
_ONE_AUTHORITY.write_text(Path(certifi.where()).read_text("utf-8").partition(_END)[0] + _END)
for _inherited in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "PREFECT_API_URL", "PREFECT_API_KEY"):
    os.environ.pop(_inherited, None)
os.environ.update(
    PREFECT_HOME=str(_SHARED / "prefect"),
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    PREFECT_API_SSL_CERT_FILE=str(_ONE_AUTHORITY),
    # A server of Prefect's own, beside ours, would stay behind when a test worker ends.
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE="false",
    MLFLOW_TRACKING_URI=f"sqlite:///{Path(_HOME.name, 'mlflow.db')}",
    MLFLOW_DISABLE_TELEMETRY="true",
    DO_NOT_TRACK="1",
    MPLBACKEND="Agg",
)

# A slow machine is not a failure. CI draws the same examples each time, a developer new ones.
settings.register_profile(
    "default", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what trains networks where PyTorch was left out, see .ci/torch."""
    if importlib.util.find_spec("torch") is not None:
        return
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        if item.get_closest_marker("torch") or "torch" in filter(_is_text, parameters.values()):
            item.add_marker(pytest.mark.skip(reason="needs PyTorch"))


@pytest.fixture(scope="session")
def empty_database() -> Path:
    """MLflow's, to be copied."""
    return made_once(_SHARED / "empty" / "mlflow.db", mlflow_database)


@pytest.fixture(scope="session")
def empty_prefect() -> Path:
    """Prefect's, to be copied to ``prefect.db`` in a home."""
    return made_once(_SHARED / "empty" / "prefect.db", prefect_database)


@pytest.fixture(scope="session")
def prefect_url(empty_prefect: Path) -> Iterator[str]:
    """The embedded server: one for all processes of the run, as for all studies of a user."""
    from flows._embedded import embedded_api, home

    made_once(home() / "prefect.db", lambda path: copy_database(empty_prefect, path))
    with embedded_api() as server:
        yield server.url()


@pytest.fixture(scope="session")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    """Where processes come from that have loaded MLflow and Prefect already."""
    from tests.faults.harness import Launcher

    made = Launcher(tmp_path_factory.mktemp("processes"))
    yield made
    made.close()


@pytest.fixture(scope="module", autouse=True)
def _collected() -> Iterator[None]:
    """A file's garbage ends with the file: the next one's tests are not the ones that left it.

    What is left then is mostly what has been imported, two million objects in the end, and not looked
    through again: that was a twentieth of the processor time of all tests.
    """
    yield
    gc.collect()
    gc.freeze()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the temporary folder while warnings about it can still be heard."""
    _HOME.cleanup()
