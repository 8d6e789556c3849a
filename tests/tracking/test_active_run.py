"""The trial's run as the active run: lazy, in threads and processes, and not in the way of training."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import fluent

from tests.tracking.conftest import search_path
from tracking import TrialRunActivator, _fluent, trial_run, users_variable
from tracking._active_run import PROCESS
from tracking._connection import Connection, connect

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def connection(sqlite_uri: str, experiment: str) -> Iterator[Connection]:
    """An experiment that is also what plain MLflow calls go to."""
    made = connect(sqlite_uri, experiment)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(sqlite_uri)
    yield made
    mlflow.set_tracking_uri(before)


class Resolver:
    """Makes a run when asked, and counts."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.ids: list[str] = []

    def __call__(self) -> str:
        run = self._connection.client.create_run(self._connection.experiment_id)
        self.ids.append(run.info.run_id)
        return str(run.info.run_id)


@pytest.mark.parametrize("whole_process", [True, False])
def test_plain_calls_land_in_the_trials_run(connection: Connection, whole_process: bool) -> None:
    """Nobody is asked before; the run is neither ended nor left active after."""
    resolve = Resolver(connection)
    with trial_run(resolve, whole_process=whole_process):
        assert mlflow.active_run() is not None
        assert resolve.ids == []
        mlflow.log_metric("m", 1.0)
        mlflow.log_params({"p": 1})
        mlflow.set_tag("t", "x")
        mlflow.log_text("hello", "a.txt")
        active = mlflow.active_run()
        assert active is not None
        assert [active.info.run_id] == resolve.ids
    assert mlflow.active_run() is None
    run = connection.client.get_run(resolve.ids[0])
    assert (run.data.metrics, run.data.params, run.data.tags["t"]) == ({"m": 1.0}, {"p": "1"}, "x")
    assert run.info.status == "RUNNING"
    assert [a.path for a in connection.client.list_artifacts(resolve.ids[0])] == ["a.txt"]


@pytest.mark.parametrize("whole_process", [True, False])
def test_runs_that_the_objective_leaves_open_are_ended_and_the_callers_are_not(
    connection: Connection, whole_process: bool
) -> None:
    """They used to stay RUNNING for ever, and to take what the next trial in that process logged."""
    resolve = Resolver(connection)
    below: list[str] = []
    with mlflow.start_run(experiment_id=connection.experiment_id) as outer:
        for ends_its_own in (False, True):
            with trial_run(resolve, whole_process=whole_process):
                mlflow.log_metric("m", 1.0)
                if ends_its_own:
                    mlflow.end_run()
                left = mlflow.start_run(nested=True, experiment_id=connection.experiment_id)
                below.append(left.info.run_id)
                mlflow.log_metric("left", 1.0)
        active = mlflow.active_run()
        assert active is not None
        assert active.info.run_id == outer.info.run_id
        assert connection.client.get_run(outer.info.run_id).info.status == "RUNNING"
    assert [connection.client.get_run(run).info.status for run in below] == ["FINISHED"] * 2
    assert [connection.client.get_run(run).data.metrics for run in resolve.ids] == [{"m": 1.0}] * 2


def test_an_objective_without_mlflow_costs_no_import_and_no_question(tmp_path: Path) -> None:
    """In a fresh process; and one that imports MLflow later finds its run."""
    program = """
        import sys
        from tracking import trial_run
        def resolve():
            asked.append(1)
            raise RuntimeError("nobody home")
        asked = []
        with trial_run(resolve):
            pass
        assert "mlflow" not in sys.modules
        with trial_run(resolve):
            import mlflow
            assert mlflow.active_run() is not None
            found = []
            import threading
            thread = threading.Thread(target=lambda: found.append(mlflow.active_run()))
            thread.start()
            thread.join()
            assert found == [mlflow.active_run()]
            assert not asked
        assert mlflow.active_run() is None
        print("fine")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, "PYTHONPATH": search_path(Path(__file__).parents[2])},
        cwd=tmp_path,
        text=True,
        capture_output=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("fine\n", 0), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_trials_in_threads_keep_apart(connection: Connection) -> None:
    """https://github.com/optuna/optuna/issues/4088: parallel trials wrote into each other's run."""
    barrier = threading.Barrier(4)

    def trial(number: int) -> str:
        resolve = Resolver(connection)
        with trial_run(resolve, whole_process=False):
            barrier.wait(60)
            for step in range(3):
                mlflow.log_metric("number", number, step=step)
            barrier.wait(60)
        return resolve.ids[0]

    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(trial, range(4)))
    for number, run_id in enumerate(ids):
        history = connection.client.get_metric_history(run_id, "number")
        assert [m.value for m in history] == [number] * 3


def test_threads_of_an_objective_log_to_the_trial_that_started_them(connection: Connection) -> None:
    """Where trials are threads themselves, such calls used to open runs of their own that stayed RUNNING."""
    together = threading.Barrier(2)

    def in_a_thread_of_its_own(log: Callable[..., object], *arguments: object) -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(log, *arguments).result(30)

    def trial(number: int) -> str:
        resolve = Resolver(connection)
        with trial_run(resolve, whole_process=False):
            together.wait(30)
            with ThreadPoolExecutor(2) as pool:
                done: list[Any] = [pool.submit(mlflow.log_metric, f"part-{i}", number) for i in range(2)]
                done.append(pool.submit(in_a_thread_of_its_own, mlflow.log_param, "p", number))
                for future in done:
                    future.result(30)
            together.wait(30)
        return resolve.ids[0]

    with ThreadPoolExecutor(2) as pool:
        ids = list(pool.map(trial, range(2)))
    for number, run_id in enumerate(ids):
        data = connection.client.get_run(run_id).data
        expected = {"part-0": number, "part-1": number}
        assert (data.metrics, data.params) == (expected, {"p": str(number)})
    assert len(connection.client.search_runs([connection.experiment_id])) == 2


def test_runs_of_the_user_nest_below_the_trial(connection: Connection) -> None:
    """And the trial's run is the active one again afterwards."""
    resolve = Resolver(connection)
    with trial_run(resolve):
        with mlflow.start_run(nested=True, experiment_id=connection.experiment_id) as child:
            mlflow.log_metric("inner", 1.0)
        mlflow.log_metric("outer", 2.0)
    assert child.data.tags["mlflow.parentRunId"] == resolve.ids[0]
    outer = connection.client.get_run(resolve.ids[0]).data.metrics
    assert outer == {"outer": 2.0}


def test_a_run_id_in_the_environment_is_not_for_trials(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """https://github.com/mlflow/mlflow/issues/15713: MLFLOW_RUN_ID overrides the parent."""
    other = connection.client.create_run(connection.experiment_id).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", other)
    resolve = Resolver(connection)
    with trial_run(resolve):
        mlflow.log_metric("m", 1.0)
        assert "MLFLOW_RUN_ID" not in os.environ
    assert connection.client.get_run(other).data.metrics == {}
    assert connection.client.get_run(resolve.ids[0]).data.metrics == {"m": 1.0}


def test_a_user_who_ends_the_run_does_not_break_the_next_trial(connection: Connection) -> None:
    """Scripts that begin with ``mlflow.end_run()`` are common."""
    first, second = Resolver(connection), Resolver(connection)
    with trial_run(first):
        mlflow.end_run()
    with trial_run(second):
        mlflow.log_metric("m", 1.0)
    assert connection.client.get_run(second.ids[0]).data.metrics == {"m": 1.0}


@pytest.mark.parametrize("whole_process", [True, False])
def test_code_that_starts_and_ends_a_run_of_its_own_uses_the_trials(
    connection: Connection, whole_process: bool
) -> None:
    """As training code that was written to run by itself does; MLflow refused it in a trial."""
    resolve = Resolver(connection)
    with trial_run(resolve, whole_process=whole_process):
        mlflow.end_run()
        with mlflow.start_run(run_name="mine", tags={"t": "x"}, description="what for") as run:
            mlflow.log_metric("m", 1.0)
            assert [run.info.run_id] == resolve.ids
            with mlflow.start_run(nested=True, experiment_id=connection.experiment_id) as below:
                mlflow.log_metric("below", 1.0)
                with pytest.raises(Exception, match="is already active"):
                    mlflow.start_run()
        mlflow.start_run(run_id=resolve.ids[0])
        mlflow.log_metric("after", 2.0)
        mlflow.end_run("FAILED")
        mlflow.log_metric("later", 3.0)
        with pytest.raises(ZeroDivisionError), mlflow.start_run():
            raise ZeroDivisionError
        with pytest.raises(TypeError, match="colour"):
            mlflow.start_run(colour="red")
    kept = connection.client.get_run(resolve.ids[0])
    assert (kept.info.status, kept.info.run_name) == ("RUNNING", "mine")
    assert kept.data.metrics == {"m": 1.0, "after": 2.0, "later": 3.0}
    assert (kept.data.tags["t"], kept.data.tags["mlflow.note.content"]) == ("x", "what for")
    child = connection.client.get_run(below.info.run_id)
    assert (child.info.status, child.data.metrics) == ("FINISHED", {"below": 1.0})
    assert child.data.tags["mlflow.parentRunId"] == resolve.ids[0]
    assert len(connection.client.search_runs([connection.experiment_id])) == 2


def test_outside_of_trials_runs_start_and_end_as_ever(connection: Connection) -> None:
    with trial_run(Resolver(connection)):
        pass
    with mlflow.start_run(experiment_id=connection.experiment_id) as run:
        with pytest.raises(Exception, match="is already active"):
            mlflow.start_run()
        mlflow.end_run()
        assert mlflow.active_run() is None
    assert connection.client.get_run(run.info.run_id).info.status == "FINISHED"


def nobody() -> str:
    """A driver whose tracking is offline."""
    raise RuntimeError("tracking is offline")


def test_offline_a_worker_process_logs_to_a_database_of_its_own(
    connection: Connection, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Training goes on, nothing is lost, and the next trial is not affected."""
    with trial_run(nobody, scratch=tmp_path), caplog.at_level(logging.WARNING, "tracking"):
        mlflow.log_metric("m", 1.0)
        mlflow.log_text("hello", "a.txt")
        active = mlflow.active_run()
        assert active is not None
        run_id = active.info.run_id
    assert "mlflow-offline.db" in caplog.text
    assert mlflow.get_tracking_uri() == connection.uri
    kept = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow-offline.db'}").get_run(run_id)
    assert kept.data.metrics == {"m": 1.0}


def test_without_a_run_a_thread_goes_on_and_is_told(
    connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """MLflow's settings are shared by all threads, so it cannot log elsewhere."""
    with trial_run(nobody, whole_process=False), caplog.at_level(logging.WARNING, "tracking"):
        mlflow.log_metric("m", 1.0)
        mlflow.log_params({"p": 1})
        mlflow.set_tag("t", "x")
    assert "is lost: tracking is offline" in caplog.text
    assert list(connection.runs("")) == []


class Flaky:
    """A store's method that fails while ``away``."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method
        self.away = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.away:
            raise ConnectionError("connection refused")
        return self._method(*args, **kwargs)


@pytest.fixture
def flaky(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> Flaky:
    """The store of ``connection``, before it is guarded."""
    store: Any = fluent._get_store()
    method = Flaky(type(store).log_batch.__get__(store))
    for name in _fluent._GUARDED:
        store.__dict__.pop(name, None)
    store.__dict__.pop("_hpo_guarded", None)
    monkeypatch.setattr(store, "log_batch", method, raising=False)
    return method


@pytest.mark.parametrize("whole_process", [True, False])
def test_an_outage_during_training_loses_nothing(
    connection: Connection, flaky: Flaky, whole_process: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be sent is kept, and sent when MLflow is back; one warning, no exception."""
    resolve = Resolver(connection)
    with trial_run(resolve, whole_process=whole_process), caplog.at_level(logging.WARNING, "tracking"):
        mlflow.log_metrics({"m": 0.0}, step=0)
        flaky.away = True
        for step in range(1, 5):
            mlflow.log_metrics({"m": float(step)}, step=step)
        assert len(connection.client.get_metric_history(resolve.ids[0], "m")) == 1
        flaky.away = False
    assert caplog.text.count("MLflow is away") == 1
    assert len(connection.client.get_metric_history(resolve.ids[0], "m")) == 5


def test_an_outage_that_does_not_end_costs_what_the_user_logged(
    connection: Connection, flaky: Flaky, caplog: pytest.LogCaptureFixture
) -> None:
    """The trial ends well; a warning says how much is lost."""
    with trial_run(Resolver(connection)), caplog.at_level(logging.WARNING, "tracking"):
        mlflow.log_metrics({"m": 0.0})
        flaky.away = True
        mlflow.log_metrics({"m": 1.0}, step=1)
        mlflow.log_metrics({"m": 2.0}, step=2)
    assert "2 writes of this trial to MLflow are lost" in caplog.text


def test_mistakes_of_the_user_are_raised(connection: Connection) -> None:
    """A guard against outages must not hide bugs."""
    with trial_run(Resolver(connection)):
        mlflow.log_param("p", 1)
        with pytest.raises(MlflowException, match="Changing param values"):
            mlflow.log_param("p", 2)


def test_another_mlflow_falls_back_to_its_environment_variable(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the stack of active runs is not as we know it, the run is adopted by its id."""
    monkeypatch.setattr(_fluent, "known_stack", lambda module: None)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", connection.experiment_id)
    resolve = Resolver(connection)
    with trial_run(resolve):
        mlflow.log_metric("m", 1.0)
    assert mlflow.active_run() is None
    run = connection.client.get_run(resolve.ids[0])
    assert (run.data.metrics, run.info.status) == ({"m": 1.0}, "RUNNING")


def test_settings_of_threads_come_back(sqlite_uri: str, experiment: str, tmp_path: Path) -> None:
    """The study's server is the process's only while a trial runs."""
    before = mlflow.get_tracking_uri(), os.environ.get("MLFLOW_TRACKING_URI")
    variables = {"MLFLOW_TRACKING_URI": sqlite_uri, "MLFLOW_EXPERIMENT_ID": "1", "MLFLOW_RUN_ID": None}
    activate = TrialRunActivator(environment=variables, scratch=str(tmp_path), process=PROCESS)
    with activate(nobody):
        with activate(nobody):
            assert mlflow.get_tracking_uri() == sqlite_uri
        assert os.environ["MLFLOW_EXPERIMENT_ID"] == "1"
    assert (mlflow.get_tracking_uri(), os.environ.get("MLFLOW_TRACKING_URI")) == before
    assert "MLFLOW_EXPERIMENT_ID" not in os.environ


@pytest.mark.parametrize("users", [None, "7"])
def test_studies_in_threads_side_by_side_leave_the_users_settings(
    users: str | None, sqlite_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A study that began beside another one took its experiment for the user's, and left it behind."""
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)
    if users is not None:
        monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", users)
    before = mlflow.get_tracking_uri(), os.environ.get("MLFLOW_TRACKING_URI")
    one, other = (
        TrialRunActivator(environment=variables, scratch=str(tmp_path), process=PROCESS)
        for variables in ({"MLFLOW_TRACKING_URI": sqlite_uri}, {"MLFLOW_TRACKING_URI": f"{sqlite_uri}-2"})
    )
    with contextlib.ExitStack() as first, contextlib.ExitStack() as second:
        first.enter_context(one(nobody))
        os.environ["MLFLOW_EXPERIMENT_ID"] = "1"  # as a trial does that has looked up its run
        assert users_variable("MLFLOW_EXPERIMENT_ID") == users
        second.enter_context(other(nobody))
        assert users_variable("MLFLOW_EXPERIMENT_ID") == users
        first.close()
        assert mlflow.get_tracking_uri() == f"{sqlite_uri}-2"
        second.close()
        assert (mlflow.get_tracking_uri(), os.environ.get("MLFLOW_TRACKING_URI")) == before
        assert os.environ.get("MLFLOW_EXPERIMENT_ID") == users_variable("MLFLOW_EXPERIMENT_ID") == users


# A trial in a thread begins while MLflow is being imported elsewhere, which takes seconds.
WHILE_IMPORTED = """
import sys, threading, warnings
warnings.simplefilter("ignore")
from tracking._active_run import PROCESS, TrialRunActivator
importing = threading.Thread(target=__import__, args=("mlflow",))
importing.start()
while "mlflow" not in sys.modules:
    pass
variables = {"MLFLOW_TRACKING_URI": "sqlite:///" + sys.argv[1] + "/mlflow.db"}
activate = TrialRunActivator(environment=variables, scratch=sys.argv[1], process=PROCESS)
with activate(lambda: "run"):
    import mlflow
    print(mlflow.get_tracking_uri())
importing.join()
"""


def test_a_trial_that_begins_while_mlflow_is_imported_waits_for_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WHILE_IMPORTED, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"sqlite:///{tmp_path}/mlflow.db\n"
