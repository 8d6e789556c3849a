"""``mlflow run -b prefect``: parameters, waiting, failing and cancelling against a real Prefect server."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import ExecutionException

from flows._embedded import embedded_api
from flows._project_backend import flow_parameters, prefect_backend, shown_as
from tests.flows.conftest import Place

PROJECT = """
name: probe
entry_points:
  main:
    parameters:
      data: {type: string, default: table}
      trials: {type: float, default: 3}
    command: "true"
"""

SCHEMA = {
    "properties": {
        "data": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "trial_timeout": {"type": "number"},
        "trials": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "timeout": {"type": "number"},
        "options": {"type": "object"},
        "register_as": {"type": "string"},
    }
}


def test_parameters_take_the_types_of_the_flow() -> None:
    """A project's parameters are text; numbers become numbers where the flow wants them, and only there."""
    given = {"data": "7", "trials": "3.0", "timeout": "60", "folds": "5", "estimator": "a.B", "register": "m"}
    assert flow_parameters(given, SCHEMA, "tune/lgbm") == {
        "data": "7",
        "trials": 3,
        "timeout": 60,
        "register_as": "m",
        "options": {"folds": 5, "estimator": "a.B"},
    }
    assert flow_parameters({"trial-timeout": "9"}, SCHEMA, "tune/lgbm") == {"trial_timeout": 9}


def test_a_flow_without_options_refuses_what_it_does_not_know() -> None:
    """With the nearest name."""
    with pytest.raises(ExecutionException, match="no parameter 'dat'; did you mean 'data'"):
        flow_parameters({"dat": "x"}, {"properties": {"data": {}}}, "my/flow")


def test_prefect_is_given_no_password(capsys: pytest.CaptureFixture[str]) -> None:
    """Its pages show the parameters of flow runs to everybody."""
    shown = {"experiment": "e", "mlflow_run_id": "r"}
    assert shown_as("http://h:5000", "e", "r") == {"tracking_uri": "http://h:5000", **shown}
    assert shown_as("http://me:secret@h:5000", "e", "r") == shown
    said = capsys.readouterr()
    assert "deployment's own MLFLOW_TRACKING_URI" in said.out + said.err


@pytest.fixture
def api(tracked: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A Prefect server with the deployment ``probe/main`` that nobody serves."""
    from prefect import flow
    from prefect.settings import PREFECT_API_URL, temporary_settings

    @flow(name="probe")
    def probe(data: str, trials: int, mlflow_run_id: str) -> None: ...

    (tracked.folder / "MLproject").write_text(PROJECT)
    with embedded_api() as server, temporary_settings({PREFECT_API_URL: server.url()}):
        probe.to_deployment("main").apply()
        yield server.url()


def submit(api: str, experiment: str, given: dict[str, str] | None = None, **config: Any) -> Any:
    """As ``mlflow run -b prefect`` does."""
    return prefect_backend().run(
        str(Path.cwd()),
        "main",
        given or {"trials": "5"},
        None,
        {"api_url": api, "deployment": "probe/main", "poll": 0.05, "wait": False, **config},
        os.environ["MLFLOW_TRACKING_URI"],
        experiment,
    )


def end(submitted: Any, state: Any) -> None:
    """What a worker would do."""
    from prefect import get_client

    with get_client(sync_client=True) as client:
        client.set_flow_run_state(submitted._flow_run_id, state, force=True)


def test_a_project_runs_as_a_flow_run_and_its_end_is_the_flow_runs(
    api: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Submitted with parameters and the run to adopt; waited for; failure and cancellation are told apart."""
    from prefect import get_client
    from prefect.states import Completed, Failed

    client = MlflowClient()
    experiment = client.create_experiment("projects")
    first = submit(api, experiment, {"trials": "5", "data": "my 'own' table.csv?a=b"})
    with get_client(sync_client=True) as prefect:
        flow_run = prefect.read_flow_run(first._flow_run_id)
    assert flow_run.parameters == {
        "data": "my 'own' table.csv?a=b",
        "trials": 5,
        "mlflow_run_id": first.run_id,
    }
    assert first.get_status() == "SCHEDULED"
    waiting = threading.Thread(target=first.wait)
    waiting.start()
    end(first, Completed(message="5 trials are done"))
    waiting.join()
    assert client.get_run(first.run_id).info.status == "FINISHED"
    assert "prefect: 5 trials are done" in capsys.readouterr().err

    second = submit(api, experiment)
    end(second, Failed(message="no trial is complete"))
    assert second.wait() is False
    assert client.get_run(second.run_id).info.status == "FAILED"

    again = submit(api, experiment)
    study = client.create_run(experiment, tags={"hpo.counts": '{"complete": 5}'}).info.run_id
    client.set_tag(again.run_id, "hpo.resumed_run_id", study)
    end(again, Completed())
    assert again.wait() is True
    assert "prefect: Completed: 5 complete" in capsys.readouterr().err

    third = submit(api, experiment)
    third.cancel()
    assert third.get_status() == "KILLED"
    assert client.get_run(third.run_id).info.status == "KILLED"


def test_mistakes_are_found_before_a_run_is_made(api: str) -> None:
    """An unknown deployment or setting is refused in a line that says what there is."""
    client = MlflowClient()
    experiment = client.create_experiment("nothing")
    with pytest.raises(ExecutionException, match=r"no deployment 'probe/mian'.*\(there: [^)]*probe/main\b"):
        submit(api, experiment, deployment="probe/mian")
    with pytest.raises(ExecutionException, match="got 'deploymnet'; did you mean 'deployment'"):
        submit(api, experiment, deploymnet="probe/main")
    wrong: dict[str, Any] = {"deployment": 5, "api_url": "", "wait": "no", "poll": -1}
    for setting, value in wrong.items():
        with pytest.raises(ExecutionException, match=f"{setting} must be .*, got {value!r}"):
            submit(api, experiment, **{setting: value})
    assert client.search_runs([experiment]) == []


def test_parameters_that_the_flow_does_not_take_are_refused_before_a_run_is_made(api: str) -> None:
    """The server's no was a traceback, and left the run RUNNING for ever."""
    client = MlflowClient()
    experiment = client.create_experiment("nothing")
    with pytest.raises(ExecutionException, match=r"field 'trials'.*'many' is not of type 'integer'"):
        submit(api, experiment, {"trials": "many"})
    assert client.search_runs([experiment]) == []


def test_a_run_is_closed_when_the_server_takes_no_flow_run_after_all(
    api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that was full, or restarted just then."""
    from prefect.client.orchestration import SyncPrefectClient

    def refuses(self: SyncPrefectClient, *_: object, **__: object) -> None:
        self._client.get("/no/such/page").raise_for_status()

    client = MlflowClient()
    experiment = client.create_experiment("nothing")
    monkeypatch.setattr(SyncPrefectClient, "create_flow_run_from_deployment", refuses)
    with pytest.raises(ExecutionException, match=r"refused what it was asked: .*404"):
        submit(api, experiment)
    assert [run.info.status for run in client.search_runs([experiment])] == ["FAILED"]
