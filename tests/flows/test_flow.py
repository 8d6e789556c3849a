"""The flows as Prefect's pages and API see them: typed parameters, and going on with a study by its name."""

from __future__ import annotations

import asyncio
import json
from inspect import signature
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.utilities.callables import parameter_schema

from flows._embedded import free_port
from flows._find import flow_runs_of
from flows._flow import _request, resume_flow, tune_flow
from flows._make_runner import RUNNERS
from flows._prefect import expect_nothing_if_away, prefect_api
from flows._request import Request
from flows.cli._serve import deployments
from hpo_core import Study, TrialState
from tests.flows.conftest import Hpo, Place
from tracking import UPLOADED

OBJECTIVE = '''
"""An objective that fails until it is allowed not to."""

import pathlib


def fragile(trial):
    x = trial.suggest_float("x", 0.0, 1.0)
    if trial.number == 1 and not pathlib.Path("mended").exists():
        raise ValueError("not yet")
    return x
'''


@pytest.fixture
def begun(tracked: Place, hpo: Hpo, request: pytest.FixtureRequest) -> Place:
    """A folder with the finished study `mine` of three trials, one of which failed."""
    name = f"flow_objectives_{abs(hash(request.node.nodeid))}.py"
    Path(tracked.folder / name).write_text(OBJECTIVE)
    terms = ["--strategy", "random", "--trials", 3, "--name", "mine", "--isolation", "thread", "--workers", 1]
    assert hpo("tune", f"{name}:fragile", *terms).code == 0
    return tracked


def ended(**parameters: Any) -> Any:
    """The end state of the flow `resume`, run as a deployment would run it."""
    with prefect_api() as ready:
        ready()
        return asyncio.run(resume_flow(**parameters, return_state=True))


@pytest.mark.parametrize("flow", [tune_flow, resume_flow])
def test_every_parameter_says_what_it_is(flow: Any) -> None:
    for name, shown in parameter_schema(flow.fn).properties.items():
        assert shown.get("description"), name
        assert {"type", "anyOf"} & set(shown), name


def test_what_a_form_offers_is_what_a_study_takes() -> None:
    shown = parameter_schema(tune_flow.fn).properties
    assert tuple(shown["runner"]["enum"]) == RUNNERS
    assert tuple(shown["upload_checkpoints"]["enum"]) == UPLOADED
    assert shown["seed"]["minimum"] == 0
    for name in ("trials", "workers"):
        assert {"type": "integer", "minimum": 1} in shown[name]["anyOf"]
    assert {"type": "number", "exclusiveMinimum": 0} in shown["timeout"]["anyOf"]
    assert parameter_schema(resume_flow.fn).required == ["study"]


@pytest.mark.parametrize(
    "flow, parameters, field",
    [
        (tune_flow, {"objective": "lgbm", "trials": 0}, "trials"),
        (tune_flow, {"objective": "lgbm", "trials": "many"}, "trials"),
        (tune_flow, {"objective": "lgbm", "runner": "slurm"}, "runner"),
        (tune_flow, {"objective": "lgbm", "timeout": -1, "trials": 5}, "timeout"),
        (tune_flow, {"trials": 5}, "objective"),  # a function was asked for, and LightGBM begun
        (resume_flow, {"trials": 5}, "study"),
        (resume_flow, {"study": "mine", "retry_failed": "perhaps"}, "retry_failed"),
    ],
)
def test_the_server_refuses_what_does_not_fit_and_names_it(
    prefect_server: None, flow: Any, parameters: dict[str, Any], field: str
) -> None:
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError

    async def order() -> None:
        deployment = await (await flow.ato_deployment("refusing")).aapply()
        async with get_client() as client:
            await client.create_flow_run_from_deployment(deployment, parameters=parameters)

    with prefect_api() as ready:
        ready()
        with pytest.raises(PrefectHTTPStatusError) as refused:
            asyncio.run(order())
    assert refused.value.response.status_code in (409, 422)
    assert field in refused.value.response.json()["detail"]


def test_a_schedule_that_a_user_has_made_outlives_a_restart(prefect_server: None) -> None:
    """They were gone whenever `hpo up` was started again."""
    from datetime import timedelta

    from prefect.client.orchestration import get_client
    from prefect.client.schemas.schedules import IntervalSchedule

    nightly = IntervalSchedule(interval=timedelta(days=1))
    first, again = deployments()[0], deployments()[0]

    async def restarted() -> list[Any]:
        deployment = await first.aapply()
        async with get_client() as client:
            await client.create_deployment_schedules(deployment, [(nightly, True)])
            assert await again.aapply() == deployment
            return await client.read_deployment_schedules(deployment)

    with prefect_api() as ready:
        ready()
        (kept,) = asyncio.run(restarted())
    assert kept.active
    assert kept.schedule.interval == nightly.interval


def test_what_a_form_leaves_empty_is_not_asked_for() -> None:
    """An empty field for data was taken for a file of that name, and an empty name for a bad one."""
    defaults = {name: shown.default for name, shown in signature(tune_flow.fn).parameters.items()}
    del defaults["mlflow_run_id"]
    texts = {name: "" for name, default in defaults.items() if default is None}
    given = {**defaults, **texts, "strategy": "", "objective": "mine.py:f", "trials": 3}
    assert _request(given) == Request(objective="mine.py:f", trials=3)


def test_a_study_goes_on_by_its_name_and_takes_nothing_back(begun: Place) -> None:
    assert ended(study="mine", trials=5).is_completed()
    assert len(begun.study("mine").trials) == 5
    # As when Prefect runs the same flow run again.
    assert ended(study="mine", trials=5).is_completed()
    assert ended(study="mine", trials=4).is_completed()
    study = begun.study("mine")
    assert (len(study.trials), study.state.limits.trials) == (5, 5)
    assert study.history.count(TrialState.FAILED) == 1


def test_a_study_of_another_machine_is_fetched(begun: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `hpo resume` does it; from Prefect's pages there was no such study."""
    monkeypatch.setenv("HPO_HOME", str(begun.folder / "elsewhere"))
    monkeypatch.setattr("flows._workspace.driver_label", lambda: "elsewhere:1")
    assert ended(study="mine", trials=4).is_completed()
    monkeypatch.setenv("HPO_HOME", str(begun.folder / ".hpo"))
    monkeypatch.setattr("flows._workspace.driver_label", lambda: "here:1")
    assert len(begun.study("mine").trials) == 3
    state = ended(study="mine", trials=5)
    assert state.is_failed()
    assert "has gone on with this study" in state.message


@pytest.mark.parametrize(
    ("flow", "parameters", "says"),
    [
        (resume_flow, {"study": "mine"}, "there is no study 'mine'"),
        (tune_flow, {"objective": "nowhere.py:f", "trials": 1}, "nowhere.py"),
        (tune_flow, {"objective": "", "trials": 1}, "an objective is one of lgbm"),
    ],
)
def test_what_cannot_be_run_is_a_line_on_the_flow_runs_page(
    tracked: Place, flow: Any, parameters: dict[str, Any], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It was a traceback, below which the line was."""
    with prefect_api() as ready:
        ready()
        state = asyncio.run(flow(**parameters, return_state=True))
    assert state.is_failed()
    assert state.message.startswith(says) or says in state.message
    assert "Traceback" not in caplog.text + state.message
    assert tracked.studies == []


def test_a_flow_run_shows_what_the_study_was_asked_to_be(tracked: Place, hpo: Hpo) -> None:
    """Its page said that there were no data, no options and no limits. A space of megabytes is left out."""
    (tracked.folder / "flow_objectives_shown.py").write_text(OBJECTIVE)
    (tracked.folder / "x.yaml").write_text("x: {type: float, low: 0.0, high: 0.5}")
    choices = {"type": "categorical", "choices": list(range(80_000))}
    long = json.dumps({"x": {"type": "float", "low": 0.0, "high": 0.5}, "k": choices})
    terms = ["--isolation", "thread", "--workers", 1, "--trials", 1, "--rule", "best", "--max-failures", 7]
    for name, space in (("short", "x.yaml"), ("long", long)):
        told = ["--strategy", '{"name": "random"}', "--space", space, "--name", name, *terms]
        said = hpo("tune", "flow_objectives_shown.py:fragile", *told)
        assert (said.code, "without Prefect" in said.out + said.err) == (0, False)
    found, without = (parameters_of(tracked.study(name)) for name in ("short", "long"))
    expected = {"rule": "best", "max_failures": 7, "strategy": '{"name": "random"}', "trials": 1}
    assert {key: found[key] for key in expected} == expected
    assert found["space"] == str(tracked.folder / "x.yaml")
    assert (without["space"], without["rule"]) == (None, "best")


def parameters_of(study: Study) -> dict[str, Any]:
    """Those of the flow run that has driven the study."""
    from prefect.client.orchestration import get_client

    with prefect_api() as ready:
        ready()
        with get_client(sync_client=True) as client:
            (flow_run,) = flow_runs_of(study)
            return dict(client.read_flow_run(UUID(flow_run)).parameters)


def test_what_failed_runs_once_more(begun: Place) -> None:
    (begun.folder / "mended").touch()
    assert ended(study="mine", retry_failed=True).is_completed()
    assert begun.study("mine").history.count(TrialState.COMPLETE) == 3


def test_a_flow_whose_study_had_too_many_failures_has_failed_too(tracked: Place, hpo: Hpo) -> None:
    """A flow that waits for this one must not go on as if nothing had been wrong."""
    (tracked.folder / "flow_objectives_limit.py").write_text(OBJECTIVE)
    terms = ["--strategy", "random", "--trials", 3, "--name", "mine", "--isolation", "thread", "--workers", 1]
    assert hpo("tune", "flow_objectives_limit.py:fragile", *terms, "--max-failures", 1).code == 1
    state = ended(study="mine", retry_failed=True)
    assert (state.is_failed(), state.message) == (True, "1 trial failed, the limit is 1")
    (tracked.folder / "mended").touch()
    assert ended(study="mine", retry_failed=True).is_completed()


@pytest.mark.parametrize(
    "parameters, said",
    [({"study": "min"}, "did you mean 'mine'"), ({"study": "mine", "timeout": 60.0}, "no limit")],
)
def test_a_wrong_order_fails_in_a_line_and_changes_nothing(
    begun: Place, parameters: dict[str, Any], said: str
) -> None:
    before = (begun.folder / ".hpo/studies/mine/journal.jsonl").read_bytes()
    state = ended(**parameters)
    assert state.is_failed()
    assert said in state.message
    assert (begun.folder / ".hpo/studies/mine/journal.jsonl").read_bytes() == before


def test_in_a_flow_of_the_users_a_study_is_shown_on_that_flows_server(
    prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No setting names the server that Prefect starts for a flow; a second one took ten seconds more."""
    from prefect import flow, task
    from prefect.settings import PREFECT_API_URL, temporary_settings

    import flows._prefect

    def where() -> str | None:
        with temporary_settings(restore_defaults={PREFECT_API_URL}), prefect_api() as ready:
            ready()
            return PREFECT_API_URL.value()

    @flow
    def of_the_user() -> list[str | None]:
        return [PREFECT_API_URL.value(), where(), task(where)()]

    with prefect_api() as ready:
        ready()
        monkeypatch.setattr(flows._prefect, "embedded_api", lambda: pytest.fail("a second server"))
        there, *asked = [url and url.rstrip("/") for url in of_the_user()]
    assert there is not None
    assert asked == [there, there]


def test_what_sends_events_is_another_for_the_next_study(prefect_server: None) -> None:
    """The next study may be on another server; its task runs were lost, and the process took 20 s to exit."""
    from prefect.events.worker import EventsWorker

    senders = []
    for _ in range(2):
        with prefect_api() as ready:
            ready()
            senders.append(EventsWorker.instance())
            assert EventsWorker.instance() is senders[-1]
    assert senders[0] is not senders[1]


def test_of_a_prefect_that_went_away_nothing_is_expected_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting for that did not outlive the function: the end of a study took twenty seconds more."""
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    import flows._prefect

    monkeypatch.setattr(flows._prefect, "_AWAY_SECONDS", 0.0)
    said: list[str] = []

    async def end_of_a_flow() -> int:
        await expect_nothing_if_away(said.append)
        return int(PREFECT_CLIENT_MAX_RETRIES.value())

    url = f"http://me:secret@127.0.0.1:{free_port()}/api"
    with temporary_settings({PREFECT_API_URL: url, PREFECT_CLIENT_MAX_RETRIES: 5}):
        assert asyncio.run(end_of_a_flow()) == 0
        assert PREFECT_CLIENT_MAX_RETRIES.value() == 5
    assert len(said) == 1
    assert "does not answer" in said[0]
    assert "secret" not in said[0]
