"""The command line as a process: a quiet console to the very end, Ctrl-C, and a kill in the middle."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows._embedded import free_port
from hpo_core import Float, Journal, Study, TrialState
from tests.databases import copy_database
from tests.faults.harness import Launcher, Process
from tests.faults.prefect_api import Api
from tests.flows.conftest import Place
from tests.flows.small_tables import mixed, written
from tests.tracking.conftest import search_path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120.0
OBJECTIVE = '''
"""Objectives that take their time."""

import time


def slow(trial):
    x = trial.suggest_float("x", 0.0, 1.0)
    for step in trial.steps(5):
        time.sleep(0.05)
        trial.report(step, loss=x)
    return x


def stuck(trial):
    trial.report(1, loss=trial.suggest_float("x", 0.0, 1.0))
    time.sleep(1000)
'''


def wait_until(condition: Callable[[], Any], what: str, *, every: float = 0.05) -> None:
    """Poll until the condition holds; fails with ``what`` when it never does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(every)  # between two looks


def trials(place: Place) -> list[Any]:
    """Those of the study ``mine`` so far."""
    journal = place.folder / ".hpo" / "studies" / "mine" / "journal.jsonl"
    return list(place.study("mine").trials) if journal.exists() and journal.stat().st_size else []


def finished(place: Place) -> int:
    """How many trials have ended."""
    return sum(trial.state.finished for trial in trials(place))


# In a terminal of its own; the tests may run under nohup.
IN_A_TERMINAL = (
    "import fcntl, signal, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "signal.signal(signal.SIGHUP, signal.SIG_DFL); "
)


class Terminal:
    """A terminal whose window can be closed."""

    def __init__(self) -> None:
        self.window, self.line = pty.openpty()
        self.seen = b""

    def read(self) -> bytes:
        """All that has been written to it; reads on, so that nobody has to wait."""
        os.set_blocking(self.window, False)
        with contextlib.suppress(BlockingIOError):
            while more := os.read(self.window, 65536):
                self.seen += more
        return self.seen

    def close(self) -> None:
        """As the button does it, or a line that breaks."""
        os.close(self.line)
        os.close(self.window)


class Command:
    """``hpo`` in a process of its own, its output in two files, or in a terminal."""

    def __init__(
        self,
        place: Place,
        *arguments: object,
        terminal: Terminal | None = None,
        first: str = "",
        **environment: str,
    ) -> None:
        self.place = place
        self.out, self.err = place.folder / "out.txt", place.folder / "err.txt"
        first += "" if terminal is None else IN_A_TERMINAL
        start = f"{first}import sys; from flows.cli import main; sys.exit(main())"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-u", "-c", start, *map(str, arguments)],
                cwd=place.folder,
                env={**os.environ, "PYTHONPATH": search_path(ROOT), **environment},
                stdin=subprocess.DEVNULL if terminal is None else terminal.line,
                stdout=out if terminal is None else terminal.line,
                stderr=err if terminal is None else terminal.line,
                start_new_session=True,
            )

    def trials(self) -> list[Any]:
        """The study's trials so far."""
        return trials(self.place)

    def finished(self) -> int:
        """How many trials have ended."""
        return finished(self.place)

    def end(self) -> int:
        """Wait for the end; the exit code."""
        return self.process.wait(PATIENCE)


@pytest.fixture
def start(tracked: Place) -> Iterator[Callable[..., Command]]:
    """Start commands in a folder with the objectives; none outlives the test."""
    (tracked.folder / "slowly.py").write_text(OBJECTIVE)
    commands: list[Command] = []

    def begin(*arguments: object, **more: Any) -> Command:
        commands.append(Command(tracked, *arguments, **more))
        return commands[-1]

    yield begin
    for command in commands:
        if command.process.poll() is None:
            # Asked first, since what is killed cannot end the servers that it has started.
            command.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                command.process.wait(30)
            command.process.kill()
            command.process.wait()


Fork = Callable[..., Process]


@pytest.fixture
def fork(tracked: Place, launcher: Launcher) -> Iterator[Fork]:
    """Start commands as ``start`` does, but from a process that has loaded all that they need.

    For the tests that are not about how a command begins and ends: loading is most of its work.
    """
    (tracked.folder / "slowly.py").write_text(OBJECTIVE)
    commands: list[Process] = []

    def begin(*arguments: object) -> Process:
        given = [str(argument) for argument in arguments]
        environment = {"MLFLOW_TRACKING_URI": os.environ["MLFLOW_TRACKING_URI"]}
        commands.append(launcher.launch("flows.cli:main", given, environment, tracked.folder))
        return commands[-1]

    yield begin
    for command in commands:
        command.send(signal.SIGKILL)
        command.wait()


def tune(function: str, trials: int, *more: object) -> list[object]:
    """The command of these tests."""
    return [
        *("tune", f"slowly.py:{function}", "--strategy", "random", "--trials", trials, "--workers", 2),
        *("--name", "mine", *more),
    ]


def test_the_console_is_quiet_to_the_very_end(start: Callable[..., Command]) -> None:
    command = start(*tune("slow", 4))
    assert command.end() == 0
    assert command.err.read_text() == ""
    out = command.out.read_text()
    for noise in ("Traceback", "Warning", "ERROR", "INFO"):
        assert noise not in out
    again = start(*tune("slow", 4, "--json"))
    assert again.end() == 0
    assert json.loads(again.out.read_text())["resumed"]
    assert len(again.trials()) == 4


def test_a_killed_command_goes_on_and_ends_with_the_planned_total(fork: Fork, tracked: Place) -> None:
    first = fork(*tune("slow", 10))
    wait_until(lambda: finished(tracked) >= 3, "three finished trials")
    first.send(signal.SIGKILL)
    first.wait()
    before = {t.number: t.attempt for t in trials(tracked) if t.state.finished}
    second = fork(*tune("slow", 10))
    assert second.wait() == 0
    assert "resuming study mine" in second.out
    now = trials(tracked)
    assert [t.state for t in now] == [TrialState.COMPLETE] * 10
    assert {n: now[n].attempt for n in before} == before


def test_ctrl_c_lets_what_runs_finish(start: Callable[..., Command]) -> None:
    command = start(*tune("slow", 100))
    wait_until(lambda: command.finished() >= 1, "a finished trial")
    command.process.send_signal(signal.SIGINT)
    assert command.end() == 130
    assert command.err.read_text() == ""
    assert "hpo resume mine" in command.out.read_text()
    trials = command.trials()
    assert 1 < len(trials) < 100
    assert {t.state for t in trials} == {TrialState.COMPLETE}


def test_ctrl_c_twice_stops_what_runs(start: Callable[..., Command]) -> None:
    command = start(*tune("stuck", 4))
    wait_until(lambda: sum(t.step == 1 for t in command.trials()) == 2, "two running trials")
    command.process.send_signal(signal.SIGINT)
    wait_until(lambda: "Ctrl-C again stops now" in command.out.read_text(), "the first to be heard")
    assert command.process.poll() is None
    command.process.send_signal(signal.SIGINT)
    assert command.end() == 130
    assert command.err.read_text() == ""
    assert [(t.state, t.losses) for t in command.trials()] == [(TrialState.WAITING, 0)] * 2


def test_a_closed_terminal_ends_the_study_in_good_order(
    start: Callable[..., Command], tracked: Place
) -> None:
    """It ended the driver at once: runs were left RUNNING, and Prefect's flow run too."""
    import mlflow

    terminal = Terminal()
    command = start(*tune("stuck", 4), terminal=terminal)
    wait_until(
        lambda: terminal.read() and sum(t.step == 1 for t in command.trials()) == 2, "two running trials"
    )
    terminal.close()
    assert command.end() == 130
    assert command.out.read_text() == command.err.read_text() == ""
    assert [(t.state, t.losses) for t in command.trials()] == [(TrialState.WAITING, 0)] * 2
    client = mlflow.MlflowClient(f"sqlite:///{tracked.database}")
    experiment = client.get_experiment_by_name("mine")
    runs = client.search_runs([experiment.experiment_id])
    assert [run.info.status for run in runs] == ["KILLED"] * 3


def test_a_study_that_was_told_to_survive_its_terminal_does(start: Callable[..., Command]) -> None:
    ignoring = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); "  # as nohup does
    command = start(*tune("slow", 6), first=ignoring)
    wait_until(lambda: command.finished() >= 1, "a finished trial")
    command.process.send_signal(signal.SIGHUP)
    assert command.end() == 0
    assert command.finished() == 6


def test_cancel_from_another_terminal(fork: Fork, tracked: Place) -> None:
    command = fork(*tune("stuck", 4))
    wait_until(lambda: sum(t.step == 1 for t in trials(tracked)) == 2, "two running trials")
    assert fork("cancel", "mine").wait() == 0
    assert command.wait() == 1
    assert [t.state for t in trials(tracked)] == [TrialState.CANCELLED] * 2


@pytest.mark.slow
def test_up_serves_deployments_and_leaves_nothing_behind(
    start: Callable[..., Command], tracked: Place, empty_prefect: Path, tmp_path: Path
) -> None:
    import psutil

    table = written(tracked.folder, mixed())
    # A home of its own: `hpo up` writes Prefect's profile.
    copy_database(empty_prefect, tmp_path / "prefect" / "prefect.db")
    environment = {"PREFECT_HOME": str(tmp_path / "prefect"), "MLFLOW_TRACKING_URI": ""}
    prefect_port = free_port()
    up = start("up", "--mlflow-port", free_port(), "--prefect-port", prefect_port, **environment)
    wait_until(lambda: "Ctrl-C ends everything" in up.out.read_text(), "the servers")
    group = psutil.Process(up.process.pid).children(recursive=True)
    api = Api(f"http://127.0.0.1:{prefect_port}/api")
    pages = Api(f"http://127.0.0.1:{prefect_port}").get("/ui-settings")
    assert pages["api_url"] == api.url  # they asked the usual port, whatever server was there
    # As the README says it, with little to do.
    options = 'options={"folds": 2, "max_rounds": 20}'
    parameters = ["trials=2", "workers=1", "target=y", "name=mine", f"data={table}", options]
    flow = subprocess.run(
        [
            *(sys.executable, "-m", "prefect", "deployment", "run", "tune/lgbm", "--watch"),
            *(word for parameter in parameters for word in ("-p", parameter)),
        ],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
        check=False,
    )
    assert flow.returncode == 0, flow.stdout + flow.stderr
    assert [t.state for t in up.trials()] == [TrialState.COMPLETE] * 2
    # As Prefect's pages order it.
    resumed = api.order("resume/study", study="mine", trials=3)
    wait_until(lambda: up.finished() == 3, "the resumed study's trial", every=0.5)
    wait_until(lambda: api.state(resumed) in ("Completed", "Failed", "Crashed"), "its end", every=0.5)
    assert api.state(resumed) == "Completed"
    assert [t.state for t in up.trials()] == [TrialState.COMPLETE] * 3
    up.process.send_signal(signal.SIGINT)
    assert up.end() == 0
    assert up.err.read_text() == ""
    assert psutil.wait_procs(group, timeout=10)[1] == []


def test_servers_go_with_the_terminal_that_they_were_started_in(
    start: Callable[..., Command], empty_prefect: Path, tmp_path: Path
) -> None:
    """They stayed, and kept their ports from the next ones."""
    import psutil

    copy_database(empty_prefect, tmp_path / "prefect" / "prefect.db")
    terminal = Terminal()
    ports = ("--mlflow-port", free_port(), "--prefect-port", free_port())
    up = start("up", *ports, terminal=terminal, PREFECT_HOME=str(tmp_path / "prefect"))
    process = psutil.Process(up.process.pid)
    wait_until(lambda: terminal.read() and len(process.children()) == 2, "the servers")
    group = process.children(recursive=True)
    terminal.close()
    assert up.end() == 0
    assert psutil.wait_procs(group, timeout=10)[1] == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")
def test_a_terminal_without_the_signs_and_a_full_disk_are_no_reason_for_a_traceback(place: Place) -> None:
    home = place.folder / ".hpo" / "studies" / "caf\u00e9"
    with Journal(home / "journal.jsonl") as journal:
        Study({"x": Float(0.0, 1.0)}, name="caf\u00e9", journal=journal)
    with Journal(place.folder / ".hpo" / "studies" / "plain" / "journal.jsonl") as journal:
        Study({"x": Float(0.0, 1.0)}, objectives={"verl\u00fcst": "min"}, name="plain", journal=journal)
    # In this locale Python has standard output fail in another way.
    command = Command(place, "show", "plain", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert command.end() == 0, command.err.read_text()
    assert "verl\\xfcst" in command.out.read_text()
    command = Command(place, "show", "caf\u00e9", PYTHONIOENCODING="ascii")
    assert command.end() == 0, command.err.read_text()
    assert "caf\\xe9" in command.out.read_text()
    start = "import sys; from flows.cli import main; sys.exit(main())"
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", start, "list"],
            cwd=place.folder,
            env={**os.environ, "PYTHONPATH": search_path(ROOT)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("hpo: nothing more can be written: [Errno 28]")
    assert len(done.stderr.splitlines()) == 1


def test_a_name_that_python_could_not_read_is_answered_in_readable_letters(place: Place) -> None:
    r"""It was refused as 'caf\udcc3\udca9', for not being made of letters."""
    ascii_only: dict[str, Any] = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = Command(place, "show", "caf\u00e9", **ascii_only)
    assert command.end() == 2
    said = command.err.read_text(encoding="utf-8")
    assert "udc" not in said
    assert "'caf\u00e9' cannot be read as ascii" in said or "'caf\\xe9' cannot be read as ascii" in said
    assert "PYTHONUTF8=1" in said


@pytest.mark.parametrize(
    ("name", "environment", "remedy"),
    [
        ("caf\u00e9", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "PYTHONUTF8=1"),
        ("caf\udce9", {"PYTHONUTF8": "1"}, "in UTF-8"),
    ],
)
@pytest.mark.parametrize("where", ["HPO_HOME", "here"])
def test_a_folder_that_python_could_not_read_is_answered_in_a_line(
    place: Place, name: str, environment: dict[str, Any], remedy: str, where: str
) -> None:
    """A traceback of MLflow ended with surrogates that are not allowed."""
    there = place.folder / name
    there.mkdir()
    here = replace(place, folder=there) if where == "here" else place
    home: dict[str, Any] = {"HPO_HOME": str(there)} if where == "HPO_HOME" else {}
    command = Command(here, "tune", "slow.py:slow", "--trials", "1", **environment, **home)
    assert command.end() == 2
    said = command.err.read_text(encoding="utf-8")
    assert "cannot be read as" in said
    assert remedy in said
    assert len(said.splitlines()) == 1


def test_a_command_does_not_look_for_garbage_at_its_end() -> None:
    """With Prefect and MLflow loaded the terminal came back one to two seconds after the last line."""
    script = (
        "import atexit, gc, sys; atexit.register(lambda: print('exempt', gc.get_freeze_count() >= before)); "
        "sys.argv = ['hpo', '--version']; from flows.cli import main; before = len(gc.get_objects()); main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": search_path(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.stdout.endswith("exempt True\n"), done.stderr
