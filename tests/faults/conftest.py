"""Real processes and servers for the fault suite, on the loopback interface, ended by process id."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows._embedded import SERVER_ENVIRONMENT, free_port
from flows._workspace import read_study
from hpo_core import Study, TrialState

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 180.0


def wait_until(condition: Callable[[], Any], what: str, *, patience: float = PATIENCE) -> Any:
    """Poll until the condition holds; fails with ``what`` when it never does."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {patience:g} s in vain for {what}")
        time.sleep(0.02)  # between two looks, not instead of one
    return value


class ServerProcess:
    """A server that can be killed and started again on the same port."""

    def __init__(self, command: list[str], health: str, environment: dict[str, str], log: Path) -> None:
        self._command, self._health, self._log = command, health, log
        self._environment = environment
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as sink:
            self.process = subprocess.Popen(
                self._command,
                stdout=sink,
                stderr=sink,
                env={**os.environ, **self._environment},
                start_new_session=True,
            )
        wait_until(self.healthy, f"an answer from {self._health}")

    def healthy(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(self._health, timeout=2) as answer:
            return bool(answer.status == 200)
        return False

    def kill(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture(scope="session")
def prefect_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One Prefect server for the whole suite."""
    server, url = prefect_server(tmp_path_factory.mktemp("prefect"))
    server.start()
    yield url
    server.kill()


def prefect_server(folder: Path) -> tuple[ServerProcess, str]:
    """A Prefect server on SQLite with a home of its own, not started yet."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1"]
    environment = {**SERVER_ENVIRONMENT, "PREFECT_HOME": str(folder), "PREFECT_UI_ENABLED": "false"}
    server = ServerProcess(
        [*command, "--port", str(port)], f"{url}/health", environment, folder / "server.log"
    )
    return server, url


def mlflow_server(folder: Path) -> tuple[ServerProcess, str]:
    """An MLflow server on SQLite, not started yet."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--workers", "1"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return ServerProcess(command, f"{url}/health", environment, folder / "mlflow.log"), url


class Driver:
    """A study run by a process of its own, in ``folder``."""

    def __init__(self, folder: Path, prefect_url: str, *, trials: int, workers: int = 2) -> None:
        self.folder = folder
        self.trials, self.workers, self.runner = trials, workers, "local"
        self.trace = folder / "trace"
        self.trace.mkdir(exist_ok=True)
        self.tracking_uri = f"sqlite:///{folder}/mlflow.db"
        self.environment = {"PREFECT_API_URL": prefect_url}
        self.process: subprocess.Popen[str] | None = None

    @property
    def study_folder(self) -> Path:
        return self.folder / "home" / "studies" / "study"

    def start(self) -> subprocess.Popen[str]:
        script = [sys.executable, "-m", "tests.faults.study_process", "study"]
        self.process = subprocess.Popen(
            [*script, str(self.trials), str(self.workers), self.runner],
            cwd=ROOT,
            env={
                **os.environ,
                "MLFLOW_TRACKING_URI": self.tracking_uri,
                "HPO_HOME": str(self.folder / "home"),
                "HPO_TEST_TRACE": str(self.trace),
                **self.environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return self.process

    def finish(self) -> dict[str, Any]:
        """Wait for the process and return what it printed last."""
        process = self.process or self.start()
        out, err = process.communicate(timeout=PATIENCE)
        self.process = None
        assert process.returncode == 0, err[-3000:]
        return dict(json.loads(out.strip().splitlines()[-1]))

    def kill(self, number: int = signal.SIGKILL) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.communicate()
        self.process = None

    def study(self) -> Study | None:
        """The study as its journal has it now, if there is one yet."""
        path = self.study_folder / "journal.jsonl"
        return read_study(self.study_folder) if path.exists() and path.stat().st_size else None

    def finished(self) -> int:
        study = self.study()
        return 0 if study is None else sum(study.history.count(s) for s in TrialState if s.finished)


@pytest.fixture
def driver(tmp_path: Path, prefect_url: str) -> Iterator[Driver]:
    """A study of twelve trials on two workers, not started yet."""
    made = Driver(tmp_path, prefect_url, trials=12)
    yield made
    if made.process is not None:
        made.kill()


def runs_of(tracking_uri: str, experiment: str = "study") -> list[Any]:
    """Every run of the study, its own first."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    runs = list(client.search_runs([found.experiment_id], max_results=1000))
    return sorted(runs, key=lambda run: int(run.data.tags.get("hpo.trial", -1)))


def check_whole(driver: Driver) -> Study:
    """What must hold after every fault: exact totals, nothing twice, nothing RUNNING, three views agree."""
    study = driver.study()
    assert study is not None
    assert study.stopped is not None
    assert study.stopped.state == "finished"
    assert study.history.count(TrialState.COMPLETE) == len(study.trials) == driver.trials
    parent, *children = runs_of(driver.tracking_uri)
    assert parent.info.status == "FINISHED"
    assert [int(run.data.tags["hpo.trial"]) for run in children] == list(range(driver.trials))
    for run, trial in zip(children, study.trials, strict=True):
        assert run.info.status == "FINISHED"
        assert run.data.tags["hpo.state"] == "complete"
        assert run.data.metrics["loss"] == pytest.approx(trial.values["loss"])
        assert trial.values["loss"] == pytest.approx(21 * trial.params["x"])
    assert not (study.history.states == TrialState.RUNNING).any()
    return study
