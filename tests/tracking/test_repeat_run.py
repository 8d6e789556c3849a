"""The run of a repeat: how it ends, and that MLflow's trouble is none of the trial's."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from hpo_core import TrialPaused, TrialPruned
from tracking import repeat_run


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What MLflow was told of the repeat's run, which is there unless ``run`` is ``None``."""
    found: dict[str, Any] = {"run": "r", "error": None}

    @contextlib.contextmanager
    def below(make: Callable[[Any], str]) -> Iterator[Callable[[], str | None]]:
        found["make"] = make
        yield lambda: found["run"]

    def write(what: str) -> Callable[..., None]:
        def written(run: str, value: Any) -> None:
            if found["error"] is not None:
                raise found["error"]
            found[what] = run, value

        return written

    def made(experiment: str, *, tags: dict[str, str], run_name: str) -> Any:
        found["made"] = experiment, tags, run_name
        return SimpleNamespace(info=SimpleNamespace(run_id="new"))

    earlier = SimpleNamespace(info=SimpleNamespace(run_id="earlier"))
    client = SimpleNamespace(
        set_terminated=write("status"),
        log_batch=write("metrics"),
        update_run=write("taken up"),
        search_runs=lambda experiments, query, max_results: [earlier],
        create_run=made,
    )
    monkeypatch.setattr("tracking._repeat_run.run_below", below)
    monkeypatch.setattr("mlflow.MlflowClient", lambda: client)
    return found


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "FINISHED"),
        (ValueError("boom"), "FAILED"),
        (TrialPruned("stopped by the study"), "KILLED"),
        (TrialPaused("suspended"), "KILLED"),
    ],
)
def test_the_run_ends_as_its_repeat_did(told: dict[str, Any], error: Exception | None, status: str) -> None:
    with contextlib.suppress(ValueError, TrialPruned, TrialPaused), repeat_run(1, 7, again=False) as result:
        if error is not None:
            raise error
        result({"loss": 0.5})
    assert told["status"] == ("r", status)
    run, metrics = told.get("metrics", ("r", []))
    assert (run, [(m.key, m.value) for m in metrics]) == ("r", [("loss", 0.5)] if error is None else [])


def test_where_nothing_was_logged_there_is_no_run_to_end(told: dict[str, Any]) -> None:
    told["run"] = None
    with repeat_run(1, 7, again=False) as result:
        result({"loss": 0.5})
    assert not {"status", "metrics"} & told.keys()


def test_what_mlflow_does_not_take_is_said_and_training_goes_on(
    told: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    told["error"] = OSError("the server is away")
    with caplog.at_level(logging.WARNING, "tracking"), repeat_run(1, 7, again=False) as result:
        result({"loss": 0.5})
    assert [record.getMessage() for record in caplog.records] == [
        "the run of a repeat could not be completed: the server is away"
    ] * 2


def test_another_attempt_takes_up_the_run_of_the_one_before(told: dict[str, Any]) -> None:
    """A first one makes it, with what says whose it is and nothing else of the trial's."""
    tags = {"hpo.study": "mine", "hpo.trial": "3", "hpo.state": "running", "mlflow.user": "me"}
    parent = SimpleNamespace(
        info=SimpleNamespace(experiment_id="1", run_id="above", run_name="trial-0003"),
        data=SimpleNamespace(tags=tags),
    )
    with repeat_run(2, 7, again=True):
        assert told["make"](parent) == "earlier"
    assert told["taken up"] == ("earlier", "RUNNING")
    assert "made" not in told
    with repeat_run(2, 7, again=False):
        assert told["make"](parent) == "new"
    experiment, kept, name = told["made"]
    assert (experiment, name) == ("1", "trial-0003 repeat 2")
    own = {"mlflow.parentRunId": "above", "hpo.role": "repeat", "hpo.repeat": "2", "hpo.seed": "7"}
    assert kept == {"hpo.study": "mine", "hpo.trial": "3", "mlflow.user": "me", **own}
