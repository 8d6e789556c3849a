"""How MLflow is set up in this process: quiet, impatient, and without telemetry.

MLflow reads some of these when it is imported, so this module is imported before it.
"""

from __future__ import annotations

import logging
import os

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Spares a request per run as well as two lines on the console.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    # The projector repeats for ever by itself. MLflow's own default, 7 times for about four minutes,
    # would leave it deaf for that long, and may create a run twice.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
# What a trial's child process gets instead: its code is not repeated by anybody else, but it must not
# hang for minutes at each call either.
# A trial's child process repeats by MLflow's means: there, a call that fails fails the user's code.
_DRIVER_ONLY = ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT")
_ours: set[str] = set()


def set_up_process() -> None:
    """Set MLflow's environment variables that nobody else has set, and quieten its loggers."""
    for name, value in _ENVIRONMENT.items():
        if name not in os.environ:
            os.environ[name] = value
            _ours.add(name)
    for name in ("alembic", "mlflow.store.db.utils", "mlflow.tracking.fluent"):
        logging.getLogger(name).setLevel(logging.WARNING)


def impatient_settings() -> frozenset[str]:
    """The variables of this process that its children should not inherit."""
    return frozenset(_ours.intersection(_DRIVER_ONLY))


os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
