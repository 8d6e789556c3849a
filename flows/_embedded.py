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
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from hpo_core import HpoError

_START_SECONDS = 90.0
# A server that idles for a moment serves the next command without a cold start.
_IDLE_SECONDS = 5.0

# The recorder of task runs writes one by one by default, lags behind and loses the rest at exit.
SERVER_ENVIRONMENT = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "0.5",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}


def home() -> Path:
    """Prefect's own folder, where its database lies."""
    return Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()


@contextlib.contextmanager
def embedded_api() -> Iterator[str]:
    """The URL of a running embedded server, for as long as the block lasts.

    Raises :class:`HpoError` when the server does not come up, with the place of its log.
    """
    folder = home()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "hpo-server.users").open("ab") as users:
        yield _shared(folder, users)


def _shared(folder: Path, users: BinaryIO) -> str:
    with (folder / "hpo-server.start").open("ab") as starting:
        # One starter at a time; the keeper cannot leave while we hold the users' lock.
        fcntl.flock(starting, fcntl.LOCK_EX)
        fcntl.flock(users, fcntl.LOCK_SH)
        return _answering(folder) or _started(folder)


def _answering(folder: Path) -> str:
    with contextlib.suppress(OSError, ValueError, KeyError):
        url = str(json.loads((folder / "hpo-server.json").read_text())["url"])
        if _healthy(url):
            return url
    return ""


def _healthy(url: str) -> bool:
    with contextlib.suppress(OSError, ValueError):
        with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    return False


def _started(folder: Path) -> str:
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    log = folder / "hpo-server.log"
    here = str(Path(__file__).resolve().parent.parent)
    start = "import sys; sys.path.insert(0, sys.argv.pop(1)); from flows._embedded import keep; keep()"
    with log.open("wb") as sink:
        keeper = subprocess.Popen(
            [sys.executable, "-c", start, here, str(folder), str(port)],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            env={**SERVER_ENVIRONMENT, **os.environ, "PREFECT_UI_ENABLED": "false"},
            start_new_session=True,
        )
    deadline = time.monotonic() + _START_SECONDS
    while not _healthy(url):
        if keeper.poll() is not None or time.monotonic() > deadline:
            raise HpoError(
                f"Prefect's embedded server did not come up; {log} says why. Start one yourself with "
                "`prefect server start` and set PREFECT_API_URL"
            )
        time.sleep(0.05)
    (folder / "hpo-server.json").write_text(json.dumps({"url": url}))
    return url


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def keep() -> None:
    """The keeper's whole life: ``keep FOLDER PORT``."""
    folder, port = Path(sys.argv[1]), sys.argv[2]
    server = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
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
