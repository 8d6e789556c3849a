"""Settings of the whole test run: it leaves no trace outside of a temporary folder, and no network."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Prefect and MLflow read their settings when they are first imported, which is before any fixture runs.
_HOME = tempfile.TemporaryDirectory(prefix="hpo-tests-", ignore_cleanup_errors=True)
for _inherited in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "PREFECT_API_URL", "PREFECT_API_KEY"):
    os.environ.pop(_inherited, None)
os.environ.update(
    PREFECT_HOME=str(Path(_HOME.name, "prefect")),
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
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


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the temporary folder while warnings about it can still be heard."""
    _HOME.cleanup()
