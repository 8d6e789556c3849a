"""MLflow for the tests of tracking: one SQLite database and one server for all of them, when needed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.databases import copy_database
from tracking._connection import connect


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What MLflow does to the libraries below it is not ours to mend; our own warnings stay errors."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            for category in ("DeprecationWarning", "PendingDeprecationWarning", "FutureWarning"):
                item.add_marker(pytest.mark.filterwarnings(f"ignore::{category}:mlflow"))


@pytest.fixture(scope="session")
def sqlite_uri(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> str:
    """A database of these tests' own, with an experiment."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    copy_database(empty_database, path)
    connect(f"sqlite:///{path}", "made")
    return f"sqlite:///{path}"


@pytest.fixture
def experiment() -> str:
    """A name that no other test has."""
    return f"e-{uuid.uuid4().hex[:8]}"


def search_path(*first: Path) -> str:
    """``PYTHONPATH`` for a process of a test: these, and where this one was told to look.

    `.ci/versions` lays another MLflow over the installed one that way.
    """
    return os.pathsep.join([*map(str, first), *filter(None, [os.environ.get("PYTHONPATH")])])


class Server:
    """``mlflow server`` on a free port, over a database of its own; can be killed and started again."""

    def __init__(
        self, folder: Path, options: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        self._options = list(options)
        self._environment = dict(environment or {})
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.database = folder / "server.db"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [sys.executable, "-W", "ignore", "-m", "mlflow", "server", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self.database}"]
        command += ["--artifacts-destination", str(self._folder / "artifacts")]
        command += self._options
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **self._environment}
        environment.pop("MLFLOW_TRACKING_URI", None)
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, cwd=self._folder, start_new_session=True
            )
        deadline = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                    return
            except OSError:
                assert self._process.poll() is None, (self._folder / "server.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)

    def kill(self) -> None:
        """Take it away without a word."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture(scope="session")
def server_of_session(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[Server]:
    """Started once."""
    server = Server(tmp_path_factory.mktemp("server"))
    copy_database(empty_database, server.database)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def server(server_of_session: Server) -> Iterator[Server]:
    """A server that answers, whatever the test before has done to it."""
    yield server_of_session
    if server_of_session._process is None:
        server_of_session.start()


class Line:
    """A line to a server that can be cut, which is faster than to kill the server and start it again."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._port = 0
        self.mend()

    @property
    def uri(self) -> str:
        """The server's address by this line."""
        return f"http://127.0.0.1:{self._port}"

    def mend(self) -> None:
        """Accept connections."""
        listener = socket.create_server(("127.0.0.1", self._port))
        self._port = listener.getsockname()[1]
        self._open = [listener]
        self._start(self._accept, listener)

    def cut(self) -> None:
        """Drop every connection and refuse new ones."""
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join()
        self._open, self._threads = [], []

    def _start(self, target: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=target, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self._server.port))
                self._open += [near, far]
                self._start(self._pump, near, far)
                self._start(self._pump, far, near)

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@pytest.fixture
def line(server: Server) -> Iterator[Line]:
    """A line to the server."""
    made = Line(server)
    yield made
    made.cut()
