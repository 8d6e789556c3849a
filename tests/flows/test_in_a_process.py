"""``tune`` in a process that has a life of its own: its signals, its environment and its MLflow runs."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows import Result, tune
from flows._prefect import QUIET
from flows._relay import Relay
from tests.flows.conftest import Place
from tests.tracking.conftest import search_path
from tracking._settings import _ENVIRONMENT

ROOT = Path(__file__).resolve().parents[2]


def parabola(trial: Any) -> float:
    """Anything."""
    return float(trial.suggest_float("x", -1.0, 1.0) ** 2)


def struck(number: int, by: signal.Signals) -> Callable[[Any], float]:
    """The parabola; in that trial, the process gets the signal, and the trial waits until it is stopped."""

    def objective(trial: Any) -> float:
        if trial.number == number:
            os.kill(os.getpid(), by)
            while not trial.should_stop:
                threading.Event().wait(0.01)  # between two looks
        return parabola(trial)

    return objective


def quick(objective: Callable[[Any], float] = parabola, **more: Any) -> Result:
    """Four random trials, one after the other, in a thread."""
    fields: dict[str, Any] = {"name": "mine", "trials": 4, "workers": 1, "strategy": "random"}
    return tune(objective, **{"isolation": "thread", "tell": lambda line: None, **fields, **more})


async def in_a_cell(objective: Callable[[Any], float]) -> Result:
    """As a notebook calls it, or an async flow."""
    return quick(objective)


class Ended(Exception):
    """What the caller's own handler of SIGTERM raises, as Prefect's does."""


@pytest.fixture
def on_sigterm() -> Iterator[None]:
    def handler(*_: object) -> None:
        raise Ended

    before = signal.signal(signal.SIGTERM, handler)
    yield
    signal.signal(signal.SIGTERM, before)


def test_an_interrupted_cell_stops_its_study_and_gives_what_has_come_out(tracked: Place) -> None:
    """The study used to run on in its thread, without anybody to wait for it."""
    told = threading.Event()

    def objective(trial: Any) -> float:
        if trial.number == 1:
            os.kill(os.getpid(), signal.SIGINT)
            assert told.wait(60)
        return parabola(trial)

    def tell(line: str) -> None:
        if line.startswith("stopping"):
            told.set()

    async def cell() -> Result:
        return quick(objective, tell=tell)

    result = asyncio.run(cell())
    assert (result.state, result.ended) == ("interrupted", "interrupted")
    assert result.summary["counts"] == {"complete": 2}


Call = Callable[[Callable[[Any], float]], Result]
either_way = pytest.mark.parametrize(
    "call",
    [lambda objective: quick(objective), lambda objective: asyncio.run(in_a_cell(objective))],
    ids=["script", "async"],
)


@either_way
@pytest.mark.usefixtures("on_sigterm")
def test_a_process_that_is_told_to_end_closes_the_study_and_ends(tracked: Place, call: Call) -> None:
    """``tune`` used to keep the signal to itself, so that a pipeline went on to publish."""
    with pytest.raises(Ended):
        call(struck(1, signal.SIGTERM))
    study = tracked.study("mine")
    assert study.stopped is None
    assert len(study.trials) == 2


@either_way
@pytest.mark.usefixtures("on_sigterm")
def test_a_process_that_is_told_to_end_before_the_first_trial_ends_by_that(
    tracked: Place, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    """It used to end by an asyncio.CancelledError, which no caller expects."""
    from flows import _session
    from flows._workspace import open_study

    def struck_first(*args: Any, **more: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return open_study(*args, **more)

    monkeypatch.setattr(_session, "open_study", struck_first)
    with pytest.raises(Ended):
        call(parabola)


@either_way
@pytest.mark.usefixtures("on_sigterm")
def test_a_process_that_is_told_to_end_after_the_last_trial_leaves_no_run_open(
    tracked: Place, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    """A script died at once by it, and the study's run said RUNNING until somebody resumed the study."""
    import mlflow

    import flows._carry

    async def struck_at_the_end(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # a second one must not keep the first from its work
        await asyncio.sleep(60)
        pytest.fail("nobody heard it")

    monkeypatch.setattr(flows._carry, "attach_report", struck_at_the_end)
    with pytest.raises(Ended):
        call(parabola)
    client = mlflow.MlflowClient(f"sqlite:///{tracked.database}")
    runs = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * 5


def test_the_environment_is_left_as_it_was(tracked: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in {*QUIET, *_ENVIRONMENT}:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "7")
    before = dict(os.environ)
    seen: list[str | None] = []

    def objective(trial: Any) -> float:
        seen.append(os.environ.get("GIT_PYTHON_REFRESH"))
        return parabola(trial)

    quick(objective)
    assert dict(os.environ) == before
    assert seen == ["quiet"] * 4


def test_a_study_is_shown_below_the_run_that_is_active_where_it_is_called(tracked: Place) -> None:
    import mlflow

    mlflow.set_experiment("pipelines")
    parents = {}
    pipelines: dict[str, dict[str, Any]] = {"first": {}, "second": {}, "elsewhere": {"experiment": "other"}}
    try:
        for name, more in pipelines.items():
            with mlflow.start_run() as outer:
                result = quick(name="theirs" if name == "elsewhere" else "mine", **more)
                assert mlflow.active_run().info.run_id == outer.info.run_id
            run = mlflow.get_run(result.run_id)
            parents[name] = (run.data.tags.get("mlflow.parentRunId"), outer.info.run_id)
            same = run.info.experiment_id == outer.info.experiment_id
            assert same == (name != "elsewhere")
            assert mlflow.get_run(outer.info.run_id).info.status == "FINISHED"
    finally:
        os.environ.pop("MLFLOW_EXPERIMENT_ID", None)
        with contextlib.suppress(AttributeError):
            mlflow.tracking.fluent._active_experiment_id = None
    assert parents["first"][0] == parents["first"][1]
    # It was finished: it stays where it was made.
    assert parents["second"][0] == parents["first"][1]
    assert parents["elsewhere"][0] is None


def test_what_a_signal_sets_off_knows_the_flow_run_that_it_is_in() -> None:
    """The handler ran in whichever context the signal met, so a run cancelled in Prefect was `terminated`."""
    flow_run: contextvars.ContextVar[str] = contextvars.ContextVar("flow_run", default="none")
    asked: list[str] = []
    heard = asyncio.Event()

    class Stops:
        def press(self) -> None:
            """Not here."""

        def end(self) -> None:
            asked.append(flow_run.get())
            heard.set()

    async def study() -> None:
        flow_run.set("mine")
        with Relay().trials(Stops()):
            there = contextvars.Context()
            asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGTERM, context=there)
            await heard.wait()

    asyncio.run(asyncio.wait_for(study(), 30))
    assert asked == ["mine"]


def test_prefect_speaks_again_in_a_script_that_had_it_from_us(tracked: Place) -> None:
    """It stayed silent for as long as the process lived, in the script's own flows too; or, once it was not,
    spoke in the next study.
    """
    script = """
from flows import tune

def loss(trial):
    return trial.suggest_float("x", 0.0, 1.0)

def main():
    tune(loss, trials=1, isolation="thread", tell=lambda line: None)
    tune(loss, trials=1, isolation="thread", tell=lambda line: None)
    from prefect.logging import get_logger
    get_logger("mine").info("a line of my own")

if __name__ == "__main__":
    main()
"""
    (tracked.folder / "script.py").write_text(script)
    environment = {k: v for k, v in os.environ.items() if k not in QUIET}
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tracked.folder,
        env={**environment, "PYTHONPATH": search_path(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "a line of my own" in done.stderr
    assert len(done.stderr.splitlines()) == 1
