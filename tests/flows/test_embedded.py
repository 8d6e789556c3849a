"""The Prefect server that studies share when the user runs none."""

from __future__ import annotations

import pytest

from flows._embedded import SERVER_ENVIRONMENT


def test_the_recorder_sleeps_between_its_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefect cuts the interval to whole seconds; 0.5 made every server spin on a core of its own."""
    # Prefect reads its settings for logs when it is imported, so not while tests are collected.
    from prefect.settings.models.server.services import ServerServicesTaskRunRecorderSettings

    for name, value in SERVER_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    settings = ServerServicesTaskRunRecorderSettings()
    assert int(settings.flush_interval) >= 1
    assert settings.batch_size > 1
