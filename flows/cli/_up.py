"""``hpo up``: an MLflow server, a Prefect server and the served deployments; Ctrl-C ends them all."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import psutil
import typer

from flows._embedded import SERVER_ENVIRONMENT, free_port
from flows._importing import PACKAGES, python_command
from flows._named import READY
from flows._signals import hangup_ends
from flows._workspace import studies_home
from hpo_core import HpoError, InputError
from tracking import check_version, status_of

_READY_SECONDS = 120.0
_STOP_SECONDS = 10.0
_PAGES = "hpo"


class Service:
    """A child process with a log of its own, ended as a process group."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], logs: Path) -> None:
        self.name = name
        self.log = logs / f"{name}.log"
        with self.log.open("wb") as sink:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env={**os.environ, **environment},
                start_new_session=True,
            )

    def signal(self, number: int) -> None:
        """Send a signal to the whole group, if it is still there."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    def children(self) -> list[psutil.Process]:
        """The processes that this one started, the flow runs of deployments among them."""
        with contextlib.suppress(psutil.Error):
            return psutil.Process(self.process.pid).children()
        return []

    def lives(self) -> bool:
        """Whether any process of the group is there, those of flow runs included."""
        self.process.poll()
        try:
            os.killpg(self.process.pid, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def check(self) -> None:
        """Raise :class:`HpoError` when the process has ended."""
        if self.process.poll() is not None:
            raise HpoError(
                f"the {self.name} process ended with code {self.process.returncode}; its log is {self.log}"
            )


def up(mlflow_port: int, prefect_port: int, database: Path, artifacts: Path) -> int:
    """See ``hpo up``."""
    check_version("mlflow")
    check_version("prefect")
    _check_port(mlflow_port, "--mlflow-port")
    _check_port(prefect_port, "--prefect-port")
    if mlflow_port == prefect_port:
        raise InputError(f"MLflow and Prefect need a port each, both were given {mlflow_port}")
    logs = _logs_folder()
    tracking_uri = f"http://127.0.0.1:{mlflow_port}"
    api_url = f"http://127.0.0.1:{prefect_port}/api"
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    services: list[Service] = []
    with hangup_ends(), _ending(services):
        typer.echo("starting MLflow and Prefect ...")
        services.append(_mlflow(mlflow_port, database, artifacts, logs))
        services.append(_prefect(prefect_port, logs))
        up = _ready(services[0], f"{tracking_uri}/health", stop)
        up = up and _ready(services[1], f"{api_url}/health", stop)
        with _profile(api_url) if up else contextlib.nullcontext():
            if up:
                environment = {"PREFECT_API_URL": api_url, "MLFLOW_TRACKING_URI": tracking_uri}
                services.append(_deployments(environment, logs))
                # The last of them to be registered.
                up = _ready(services[2], f"{api_url}/deployments/name/tune/{READY[-1]}", stop)
            if up:
                _announce(tracking_uri, api_url, logs)
            while up and not stop.wait(0.5):
                for service in services:
                    service.check()
    return 0


def _logs_folder() -> Path:
    """Where the servers' logs go: beside the studies, which may be the only place that can be written to."""
    folder = studies_home().parent / "logs"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "mlflow.log").touch()
    except OSError as error:
        raise InputError(
            f"the servers' logs cannot be written to {folder} ({error.strerror}); set HPO_HOME to a folder "
            "where you may write"
        ) from None
    return folder


def _check_port(port: int, option: str) -> None:
    if not 0 < port < 2**16:
        raise InputError(f"{option} takes a port from 1 to 65535, got {port}")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise InputError(
                f"port {port} is in use; choose another, such as {option} {free_port()}"
            ) from None


def _mlflow(port: int, database: Path, artifacts: Path, logs: Path) -> Service:
    from tracking import database_uri, prepare_sqlite, probe

    probe(database_uri(database.absolute()))
    prepare_sqlite(database.absolute())
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", database_uri(database.absolute()), "--workers", "1"]
    command += ["--artifacts-destination", str(artifacts.absolute())]
    if _has_pages():
        command += ["--app-name", _PAGES]
    # Its job runner is seven processes of 200 MB for features that studies do not use.
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return Service("mlflow", command, environment, logs)


def _has_pages() -> bool:
    """Whether MLflow would find the study pages; not where the project runs from its sources alone."""
    return any(point.name == _PAGES for point in entry_points(group="mlflow.app"))


def _prefect(port: int, logs: Path) -> Service:
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1"]
    # Its pages would ask the usual port, or the server of the user's profile, whatever --port says.
    pages = os.environ.get("PREFECT_UI_API_URL") or f"http://127.0.0.1:{port}/api"
    environment = {**SERVER_ENVIRONMENT, "PREFECT_UI_API_URL": pages}
    return Service("prefect", [*command, "--port", str(port)], environment, logs)


def _deployments(environment: dict[str, str], logs: Path) -> Service:
    command = python_command("from flows.cli._serve import main; main()")
    path = os.pathsep.join([str(PACKAGES), *_python_path()])
    more = {"PREFECT_RUNNER_POLL_FREQUENCY": "2", "PYTHONPATH": path}
    return Service("deployments", command, {**environment, **more}, logs)


def _python_path() -> list[str]:
    return [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]


def _ready(service: Service, url: str, stop: threading.Event) -> bool:
    """Wait until the service answers; ``False`` when the user stopped meanwhile."""
    deadline = time.monotonic() + _READY_SECONDS
    while not stop.wait(0.2):
        service.check()
        if status_of(url, 2.0) == 200:
            return True
        if time.monotonic() > deadline:
            raise HpoError(f"{service.name} does not answer at {url}; its log is {service.log}")
    return False


@contextlib.contextmanager
def _profile(api_url: str) -> Iterator[None]:
    """While we are up, Prefect's active profile points at our server, unless it points somewhere already."""
    from prefect.settings import PREFECT_API_URL, get_current_settings, update_current_profile

    present = get_current_settings().api.url
    if present is not None and not _left_behind(present):
        yield
        return
    update_current_profile({PREFECT_API_URL: api_url})
    try:
        yield
    finally:
        update_current_profile({PREFECT_API_URL: None})


def _left_behind(url: str) -> bool:
    """Whether the profile's server is one on this machine that is gone, as after a kill of ``hpo up``."""
    parts = urllib.parse.urlsplit(url)
    if os.environ.get("PREFECT_API_URL") or parts.hostname not in ("127.0.0.1", "localhost"):
        return False
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", parts.port or 80)) != 0


def _announce(tracking_uri: str, api_url: str, logs: Path) -> None:
    typer.echo(f"MLflow   {tracking_uri}")
    if _has_pages():
        typer.echo(f"studies  {tracking_uri}/{_PAGES}")
    typer.echo(f"Prefect  {api_url.removesuffix('/api')}")
    typer.echo("deployments: tune/lgbm, tune/sklearn, tune/torch, tune/function, resume/study")
    typer.echo("  prefect deployment run tune/lgbm -p trials=50")
    typer.echo("to track studies of other shells here:")
    typer.echo(f"  export MLFLOW_TRACKING_URI={tracking_uri} PREFECT_API_URL={api_url}")
    typer.echo(f"logs are in {logs}; Ctrl-C ends everything")


@contextlib.contextmanager
def _ending(services: list[Service]) -> Iterator[None]:
    """End what was started, the last first, so that studies that run can still say where they were."""
    try:
        yield
    finally:
        typer.echo("stopping ...")
        _end(services)


def _end(services: list[Service]) -> None:
    servers, deployments = services[:2], services[2:]
    for service in deployments:
        # Told to end itself, Prefect's runner would kill the flow runs without a word to them.
        runs = service.children()
        for run in runs:
            with contextlib.suppress(psutil.Error):
                run.terminate()
        psutil.wait_procs(runs, timeout=_STOP_SECONDS)
    for stage in (deployments, servers):
        for service in stage:
            service.signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        while time.monotonic() < deadline and any(service.lives() for service in stage):
            time.sleep(0.05)
        for service in stage:
            service.signal(signal.SIGKILL)
            service.process.wait()
