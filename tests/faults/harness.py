"""Real processes and servers for the fault suite, on the loopback interface, ended by process id."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows._embedded import SERVER_ENVIRONMENT, free_port
from flows._workspace import read_study
from hpo_core import Study, TrialState
from tests.faults import objectives

ROOT = Path(__file__).resolve().parents[2]
# Generous: it ends what hangs. What is waited for comes in seconds on a machine that is not overloaded.
PATIENCE = float(os.environ.get("HPO_TEST_PATIENCE", "240"))


def wait_until(condition: Callable[[], Any], what: str, *, patience: float = PATIENCE) -> Any:
    """Poll until the condition holds; fails with ``what`` when it never does."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {patience:g} s in vain for {what}")
        time.sleep(0.02)  # between two looks, not instead of one
    return value


# What a journal's file was like when it was read, and the study that it held.
Known = tuple[tuple[int, int], Study]


def read_again(folder: Path, known: Known | None) -> Known | None:
    """The study in a folder as it is now, if there is one yet; what is ``known`` of it while nothing changes.

    To replay a journal at every look keeps a processor busy that those who are waited for could use.
    """
    path = folder / "journal.jsonl"
    if not path.exists() or not path.stat().st_size:
        return None
    now = path.stat().st_mtime_ns, path.stat().st_size
    return known if known is not None and known[0] == now else (now, read_study(folder))


class ServerProcess:
    """A server that can be killed and started again on the same port."""

    def __init__(self, command: list[str], health: str, environment: dict[str, str], log: Path) -> None:
        self._command, self._health, self._log = command, health, log
        self._environment = environment
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
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
        """Whether it answers."""
        with contextlib.suppress(OSError), urllib.request.urlopen(self._health, timeout=2) as answer:
            return bool(answer.status == 200)
        return False

    def kill(self) -> None:
        """Kill its process group."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


def prefect_server(folder: Path, environment: dict[str, str] | None = None) -> tuple[ServerProcess, str]:
    """A Prefect server with a home of its own, on SQLite unless told otherwise; not started yet."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1"]
    variables = {**SERVER_ENVIRONMENT, "PREFECT_HOME": str(folder), "PREFECT_UI_ENABLED": "false"}
    server = ServerProcess(
        [*command, "--port", str(port)],
        f"{url}/health",
        {**variables, **(environment or {})},
        folder / "server.log",
    )
    return server, url


def mlflow_server(folder: Path, backend: str | None = None) -> tuple[ServerProcess, str]:
    """An MLflow server, on SQLite unless told otherwise; not started yet."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", backend or f"sqlite:///{folder}/mlflow.db", "--workers", "1"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return ServerProcess(command, f"{url}/health", environment, folder / "mlflow.log"), url


class Process:
    """What the launcher forked."""

    def __init__(self, pid: int, out: Path, err: Path, left: Path) -> None:
        self.pid, self._out, self._err, self._left = pid, out, err, left

    @property
    def code(self) -> int | None:
        """The exit code, ``None`` while it runs."""
        return int(self._left.read_text()) if self._left.exists() else None

    @property
    def out(self) -> str:
        """What it has printed."""
        return self._out.read_text() if self._out.exists() else ""

    @property
    def err(self) -> str:
        """What it has complained of."""
        return self._err.read_text() if self._err.exists() else ""

    def wait(self) -> int:
        """Wait for its end; returns the exit code."""
        wait_until(lambda: self.code is not None, f"the end of process {self.pid}, see {self._err}")
        return int(self.code or 0)

    def send(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Launcher:
    """Forks drivers and commands from a process that has imported everything."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.launcher"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self._ready = False

    def launch(
        self, call: str, arguments: list[str], environment: dict[str, str], folder: Path = ROOT
    ) -> Process:
        """Run ``module:function`` on the arguments in a process of its own, in ``folder``."""
        stem = self._folder / f"{next(self._numbers)}"
        files = {kind: f"{stem}.{kind}" for kind in ("out", "err", "exit")}
        order = {
            "call": call,
            "arguments": arguments,
            "environment": environment,
            "cwd": str(folder),
            **files,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if not self._ready:
            assert self._process.stdout.readline() == "ready\n"
            self._ready = True
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        pid = int(self._process.stdout.readline())
        return Process(pid, *(Path(files[kind]) for kind in ("out", "err", "exit")))

    def close(self) -> None:
        """End it; what it forked lives on."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


class Driver:
    """A study run by a process of its own, in ``folder``; ``terms`` are arguments of :func:`flows.tune`."""

    def __init__(
        self, launcher: Launcher, folder: Path, *, prefect: str, database: Path | None = None, **terms: Any
    ) -> None:
        self.folder = folder
        self.terms = {"name": "study", "trials": 12, "workers": 2, "strategy": "tpe", **terms}
        self.trace = folder / "trace"
        self.trace.mkdir(exist_ok=True)
        self.tracking_uri = f"sqlite:///{folder}/mlflow.db"
        if database is not None:
            shutil.copyfile(database, folder / "mlflow.db")
        self.environment = {"PREFECT_API_URL": prefect}
        self.process: Process | None = None
        self._read: Known | None = None
        self.torn = 0  # how often the journal's last line was torn off
        self._launcher = launcher

    @property
    def name(self) -> str:
        """The study's."""
        return str(self.terms["name"])

    @property
    def trials(self) -> int:
        """The planned total."""
        return int(self.terms["trials"])

    @property
    def study_folder(self) -> Path:
        """Where the journal lies."""
        return self.folder / "home" / "studies" / self.name

    def start(self) -> Process:
        """Start a driver, the study's first or a later one."""
        self.process = self.second()
        return self.process

    def second(self) -> Process:
        """Start a driver beside the one that there may be."""
        return self.run("tests.faults.study_process:main", json.dumps(self.terms))

    def hpo(self, *arguments: str) -> Process:
        """Run a command of ``hpo`` on the study to its end."""
        process = self.run("flows.cli:main", *arguments)
        process.wait()
        return process

    def run(self, call: str, *arguments: str) -> Process:
        """Run something in the study's surroundings."""
        environment = {
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            "HPO_HOME": str(self.folder / "home"),
            "HPO_TEST_TRACE": str(self.trace),
            **self.environment,
        }
        return self._launcher.launch(call, list(arguments), environment)

    def finish(self) -> dict[str, Any]:
        """Wait for the driver's end, starting one if there is none; returns what it printed last."""
        process = self.process or self.start()
        code, self.process = process.wait(), None
        assert code == 0, process.err[-3000:]
        return dict(json.loads(process.out.strip().splitlines()[-1]))

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Signal the driver and wait for its end."""
        assert self.process is not None
        self.process.send(number)
        self.process.wait()
        self.process = None

    def tear(self, size: int) -> None:
        """Cut the last bytes off the journal, as a power cut may."""
        journal = self.study_folder / "journal.jsonl"
        os.truncate(journal, journal.stat().st_size - size)
        self.torn += 1

    def hold(self, number: int, step: int = 0) -> None:
        """Keep a trial from going beyond a step, and later trials from their first one."""
        objectives.hold(self.trace, number, step)

    def release(self) -> None:
        """Let them go on."""
        objectives.release(self.trace)

    def study(self) -> Study | None:
        """The study as its journal has it now, if there is one yet. Read it; whoever waits gets it again."""
        self._read = read_again(self.study_folder, self._read)
        return None if self._read is None else self._read[1]

    def token(self) -> int:
        """How many drivers the study has had."""
        study = self.study()
        return 0 if study is None else study.state.token

    def lead(self) -> None:
        """Start a driver and wait until it has the study, or has died."""
        before = self.token()
        self.start()
        wait_until(lambda: self.token() > before or self.died(), "a driver")

    def finished(self) -> int:
        """How many trials have ended."""
        study = self.study()
        return 0 if study is None else sum(study.history.count(s) for s in TrialState if s.finished)

    def wait_for(self, finished: int) -> None:
        """Wait until that many trials have ended, or all of them."""
        wanted = min(finished, self.trials)
        wait_until(lambda: self.finished() >= wanted or self.died(), f"{wanted} finished trials")
        assert self.finished() >= wanted, self.process and self.process.err[-3000:]

    def died(self) -> bool:
        """Whether the driver that was started has ended."""
        return self.process is not None and self.process.code is not None

    def trial_pids(self) -> set[int]:
        """The processes that have run trials."""
        return {int(text) for path in self.trace.glob("pid-*") if (text := path.read_text())}

    def clean_up(self) -> None:
        """Leave nothing running."""
        self.release()
        if self.process is not None:
            self.kill()


def checkpoint(driver: Driver, number: int) -> int:
    """The step of a trial's newest checkpoint, 0 without one."""
    study = driver.study()
    if study is None or len(study.trials) <= number:
        return 0
    return max(study.trials[number].checkpoints, default=0)
