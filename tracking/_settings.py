"""How MLflow is set up in this process: quiet, impatient, and without telemetry.

MLflow reads some of these when it is imported, so this module is imported before it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Spares a request per run as well as two lines on the console.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    # Between the lines of a command, for a journal of some kilobytes.
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # The projector repeats for ever by itself. MLflow's own default, 7 times for about four minutes,
    # would leave it deaf for that long, and may create a run twice.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    # A proxy may ask for an hour, and nothing could be heard or ended meanwhile.
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
}
# In a trial's process nobody repeats what the user's code does: there MLflow tries for a quarter of a
# minute, not for four, before it is taken to be away.
_FOR_TRIALS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
}
_ours: dict[str, str] = {}
# What variables were before trials in threads of this process set them, and the tracking URI chosen then.
_former: dict[str, str | None] = {}
_former_uri: list[str | None] = []
_lock = threading.Lock()
_inside = 0


def set_up_process() -> None:
    """Set MLflow's environment variables that nobody else has set, and quieten its loggers."""
    set_defaults(_ENVIRONMENT)
    for name in ("alembic", "mlflow.tracking.fluent"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Of what its database says it logs a traceback of eighty lines, and raises it: who asked says it in one.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def set_defaults(variables: Mapping[str, str]) -> None:
    """Set the environment variables that nobody else has set."""
    for name, value in variables.items():
        if name not in os.environ:
            os.environ[name] = value
            _ours[name] = value


@contextlib.contextmanager
def as_found() -> Iterator[None]:
    """What :func:`set_defaults` has set goes when the last of those inside leaves.

    For calls in somebody's process, which goes on afterwards: its own calls of MLflow shall be as patient as
    they were, and the processes that it starts as talkative.
    """
    global _inside
    with _lock:
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                for name, value in _ours.items():
                    if os.environ.get(name) == value:
                        del os.environ[name]
                _ours.clear()


def settings_for_trials() -> dict[str, str]:
    """Variables for the processes that run trials, except those that the user has set."""
    return {name: value for name, value in _FOR_TRIALS.items() if name in _ours or name not in os.environ}


def chosen_uri() -> str | None:
    """What ``mlflow.set_tracking_uri`` was given in this process; ``None`` leaves it to the environment.

    MLflow's own getter mixes the two up, so that to set what it got would pin a passing environment.
    """
    service = sys.modules.get("mlflow.tracking._tracking_service.utils")
    return getattr(service, "_tracking_uri", None)


def keep_former(names: Iterable[str]) -> None:
    """Keep what these variables are before trials in threads set them; what is kept already stays."""
    if not _former:
        _former_uri[:] = [chosen_uri()]
    for name in names:
        _former.setdefault(name, os.environ.get(name))


def take_former() -> tuple[dict[str, str | None], str | None]:
    """What was kept, and the tracking URI that had been chosen; nothing is kept afterwards."""
    former, uri = dict(_former), _former_uri[0] if _former_uri else None
    _former.clear()
    _former_uri.clear()
    return former, uri


def users_variable(name: str) -> str | None:
    """An environment variable as the user has it, whatever trials in threads of this process have set."""
    return _former[name] if name in _former else os.environ.get(name)


os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
