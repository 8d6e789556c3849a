"""The Prefect server that studies share when the user runs none."""

from __future__ import annotations

import pytest

from flows._embedded import SERVER_ENVIRONMENT, embedded_api
from hpo_core import InputError


def test_the_recorder_sleeps_between_its_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefect cuts the interval to whole seconds; 0.5 made every server spin on a core of its own."""
    # Prefect reads its settings for logs when it is imported, so not while tests are collected.
    from prefect.settings.models.server.services import ServerServicesTaskRunRecorderSettings

    for name, value in SERVER_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    settings = ServerServicesTaskRunRecorderSettings()
    assert int(settings.flush_interval) >= 1
    assert settings.batch_size > 1


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container, say; it was a traceback."""
    monkeypatch.setenv("PREFECT_HOME", "/dev/null/.prefect")
    refused = r"/dev/null/\.prefect cannot be written to \(Not a directory\); set PREFECT_HOME"
    with pytest.raises(InputError, match=refused), embedded_api():
        pass
