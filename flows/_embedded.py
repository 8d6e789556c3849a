"""A Prefect API for those who run none: one server for all studies of this user on this machine.

Whoever needs it holds a shared lock. The server's keeper, a process of its own, starts the server,
and ends it when nobody holds the lock any more; the kernel drops the locks of the dead, so nothing is
left behind when a driver is killed. Prefect's own ephemeral server would be one per process on one
database file, and loses task runs at exit.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from flows._importing import python_command
from hpo_core import HpoError, InputError
from tracking import status_of

_START_SECONDS = 180.0
# A server that idles for a moment serves the next command without a cold start.
_IDLE_SECONDS = 5.0

# Loads in six sevenths of the time: what it loads stays, and collecting garbage meanwhile finds none.
_SERVE = (
    "import gc; gc.disable(); import prefect.server.api.server; gc.freeze(); gc.enable(); "
    "from prefect.cli import app; app()"
)

# The recorder of task runs writes one by one by default, lags behind and loses the rest at exit. Prefect
# rounds the interval down to whole seconds: less than one would keep a core busy with sleeping for none.
SERVER_ENVIRONMENT = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}


def home() -> Path:
    """Prefect's own folder, where its database lies."""
    return Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()


class Server:
    """A server that answers already, or is coming up; :meth:`url` waits until it answers."""

    def __init__(self, folder: Path, locks: contextlib.ExitStack) -> None:
        self._folder = folder
        users = locks.enter_context((folder / "hpo-server.users").open("ab"))
        # One starter at a time, until its server answers; the keeper cannot leave while we hold the
        # users' lock.
        self._starting = locks.enter_context((folder / "hpo-server.start").open("ab"))
        fcntl.flock(self._starting, fcntl.LOCK_EX)
        fcntl.flock(users, fcntl.LOCK_SH)
        self._url = _answering(folder)
        self._keeper: subprocess.Popen[bytes] | None = None
        if not self._url:
            self._keeper, self._coming = _spawned(folder)

    @property
    def coming(self) -> bool:
        """Whether it does not answer yet."""
        return not self._url

    def url(self) -> str:
        """The API's URL. Raises :class:`HpoError` when the server does not come up."""
        if not self._url:
            _wait_for(self._coming, self._keeper, self._folder / "hpo-server.log")
            self._url = self._coming
            (self._folder / "hpo-server.json").write_text(json.dumps({"url": self._url}))
        fcntl.flock(self._starting, fcntl.LOCK_UN)
        return self._url

    def let_go(self) -> None:
        """Leave the keeper to itself; Python need not warn that it outlives this process."""
        if self._keeper is not None and self._keeper.poll() is None:
            self._keeper.returncode = 0


@contextlib.contextmanager
def embedded_api() -> Iterator[Server]:
    """An embedded server for as long as the block lasts; it begins to start at once.

    Raises :class:`InputError` where Prefect's folder cannot be written to.
    """
    folder = home()
    with contextlib.ExitStack() as locks:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            server = Server(folder, locks)
        except OSError as error:
            # As in a container whose user has no home.
            raise InputError(
                f"Prefect's folder {folder} cannot be written to ({error.strerror}); set PREFECT_HOME to one "
                "that can, or PREFECT_API_URL to a Prefect server"
            ) from None
        try:
            yield server
        finally:
            server.let_go()


def _answering(folder: Path) -> str:
    with contextlib.suppress(OSError, ValueError, KeyError):
        url = str(json.loads((folder / "hpo-server.json").read_text())["url"])
        if _healthy(url):
            return url
    return ""


def _healthy(url: str) -> bool:
    return status_of(f"{url}/health", 2.0) == 200


def _spawned(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start a keeper with a server; returns it and the URL to be."""
    port = free_port()
    with (folder / "hpo-server.log").open("wb") as sink:
        keeper = subprocess.Popen(
            python_command("from flows._embedded import keep; keep()", folder, port),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            env={**SERVER_ENVIRONMENT, **os.environ, "PREFECT_UI_ENABLED": "false"},
            start_new_session=True,
        )
    return keeper, f"http://127.0.0.1:{port}/api"


def _wait_for(url: str, keeper: subprocess.Popen[bytes] | None, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _healthy(url):
        if (keeper is not None and keeper.poll() is not None) or time.monotonic() > deadline:
            raise HpoError(
                f"Prefect's embedded server did not come up; {log} says why. Start one yourself with "
                "`prefect server start` and set PREFECT_API_URL"
            )
        time.sleep(0.05)


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def keep() -> None:
    """The keeper's whole life: ``keep FOLDER PORT``."""
    folder, port = Path(sys.argv[1]), sys.argv[2]
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVE, "server", "start", "--host", "127.0.0.1", "--port", port]
    )
    with (folder / "hpo-server.users").open("ab") as users:
        while server.poll() is None:
            time.sleep(_IDLE_SECONDS)
            with contextlib.suppress(OSError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
        # While we hold the lock alone, a newcomer waits, finds no answer and starts its own.
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(timeout=15)
        except subprocess.TimeoutExpired:
            server.kill()
