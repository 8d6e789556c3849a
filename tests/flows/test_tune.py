"""``tune()`` from Python, end to end: Prefect runs it, MLflow shows it, the result answers."""

from __future__ import annotations

import asyncio
import http.server
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from flows import Result, _session, tune
from flows._notes import TRACKING, newest
from flows.cli._end import delete, deliver
from hpo_core import (
    Categorical,
    Float,
    InputError,
    Int,
    Journal,
    JournalError,
    Study,
    StudyLockedError,
    TrialState,
)
from hpo_core.samplers import Random
from tests.databases import copy_database
from tests.flows.conftest import Place
from tests.flows.small_tables import mixed, written
from tracking import Denied, TrackerStatus
from tracking._projector import Projector

SPACE = {"x": Float(-1.0, 1.0), "kind": Categorical(["a", "b"])}


def loss(trial: Any) -> float:
    """A parabola that prefers one kind."""
    return float(trial.params["x"] ** 2 + (trial.params["kind"] == "b"))


def steps(trial: Any) -> float:
    """Nine steps, resumable."""
    total = 0.0 if trial.checkpoint is None else float(trial.checkpoint.load().decode())
    for step in trial.steps(9):
        total += trial.params["x"]
        trial.save(step, repr(total).encode())
        trial.report(step, loss=total)
    return total


def dies_between(trial: Any) -> float:
    """Its first attempt is killed when it has saved its first step and not yet reported it."""
    for step in trial.steps(9):
        trial.save(step, b"")
        if trial.attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        trial.report(step, loss=trial.params["x"])
    return float(trial.params["x"])


def quick(objective: Any = loss, **more: Any) -> Result:
    """Six random trials in two threads."""
    fields: dict[str, Any] = {
        "space": SPACE,
        "strategy": "random",
        "trials": 6,
        "workers": 2,
        "name": "mine",
        "isolation": "thread",
        "tell": lambda line: None,
    }
    return tune(objective, **{**fields, **more})


def test_a_clock_that_was_set_back_before_a_resume_ends_no_run_before_it_began(
    tracked: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    began = quick(trials=2).study.created.at
    real = time.time
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: real() - 7200.0)
        study = quick(trials=4).study
    assert min(trial.started_at for trial in study.trials) >= began
    client = MlflowClient()
    experiment = client.get_experiment_by_name("mine").experiment_id
    runs = [run.info for run in client.search_runs([experiment])]
    assert len(runs) == 5
    assert all(info.end_time >= info.start_time >= int(began * 1000) for info in runs)


def test_a_step_that_was_saved_and_not_reported_when_its_worker_died_is_repeated(tracked: Place) -> None:
    """The trial went on behind it, and was ended for having no result where the scheduler looked for one."""
    settings = {"max_steps": 9}
    study = quick(dies_between, strategy="asha", trials=3, isolation="process", settings=settings).study
    assert {trial.attempt for trial in study.trials} >= {2}
    reports = study.history.reports
    for trial in study.trials:
        steps = reports.steps[reports.trials == trial.number]
        assert set(steps) == set(range(1, trial.step + 1)), trial
    assert not [trial.reason for trial in study.trials if "no finite result" in trial.reason]


def test_the_result_answers(tracked: Place) -> None:
    from mlflow import MlflowClient

    result = quick()
    assert result.name == result.study.name == "mine"
    assert result.ended == "all 6 trials have been started"
    assert result.summary["counts"] == {"complete": 6}
    assert result.best is result.study.best
    assert result.best.values["loss"] == min(t.values["loss"] for t in result.study.trials)
    client = MlflowClient(f"sqlite:///{tracked.database}")
    assert result.run_id is not None
    parent = client.get_run(result.run_id)
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["hpo.study"] == "mine"
    children = client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{result.run_id}'"
    )
    assert len(children) == 6


def test_in_worker_processes(tracked: Place) -> None:
    result = quick(isolation="process")
    assert result.summary["counts"] == {"complete": 6}
    assert {t.worker for t in result.study.trials} <= {"local-0", "local-1"}


def test_the_same_call_again_runs_nothing_and_a_higher_total_goes_on(tracked: Place) -> None:
    lines: list[str] = []
    first = quick()
    again = quick(tell=lines.append)
    assert again.summary["resumed"]
    assert again.study.history.length == first.study.history.length
    assert lines == ["the study is finished: all 6 trials have been started"]
    more = quick(trials=8)
    assert [t.params for t in more.study.trials[:6]] == [t.params for t in first.study.trials]
    assert len(more.study.trials) == 8


def test_progress_is_shown_when_asked_for(tracked: Place, capsys: pytest.CaptureFixture[str]) -> None:
    quick(tell=None)
    assert capsys.readouterr().out == ""
    quick(tell=None, trials=8, progress=True)
    assert "resuming study mine: 6 of 8 trials are done\n" in capsys.readouterr().out


def test_under_a_running_event_loop_as_in_a_notebook(tracked: Place) -> None:
    """The thread that does the work knows our Prefect server: it used to start one of Prefect's own."""
    lines: list[str] = []

    async def cell() -> Result:
        return quick(tell=lines.append)

    assert asyncio.run(cell()).summary["counts"] == {"complete": 6}
    assert not [line for line in lines if "without" in line]


def test_from_another_thread(tracked: Place) -> None:
    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(quick()))
    thread.start()
    thread.join()
    assert results[0].summary["counts"] == {"complete": 6}


def test_objects_for_the_strategy_and_settings(tracked: Place) -> None:
    result = quick(strategy=Random(), settings={"on_duplicate": "repeat"})
    assert result.study.created.strategy["sampler"]["name"] == "random"
    assert result.study.state.settings.on_duplicate == "repeat"


def test_define_by_run_and_closures(tracked: Place) -> None:
    shift = 0.25

    def found(trial: Any) -> float:
        return (trial.suggest_float("x", -1.0, 1.0) - shift) ** 2 + trial.suggest_int("n", 1, 3)

    result = quick(found, space=None, isolation="process")
    assert result.study.space.names == ("x", "n")
    assert result.summary["counts"] == {"complete": 6}


def test_several_objectives(tracked: Place) -> None:
    result = quick(
        lambda trial: {"a": trial.params["x"], "b": -trial.params["x"]}, objectives={"a": "min", "b": "min"}
    )
    assert len(result.study.pareto_front) == 6
    assert result.to_json()["best"]["trial"] == result.best.number


def test_trials_pause_and_go_on_from_their_checkpoints(tracked: Place) -> None:
    result = quick(steps, strategy="random+successive_halving", settings={"max_steps": 9}, trials=9)
    study = result.study
    assert study.history.count(TrialState.COMPLETE) >= 1
    for trial in study.trials:
        if trial.state is TrialState.COMPLETE:
            assert trial.values["loss"] == pytest.approx(9 * trial.params["x"])
    assert sum(t.step for t in study.trials) < 81


def test_a_failing_objective_leaves_a_result_without_a_best(tracked: Place) -> None:
    from mlflow import MlflowClient

    def fails(trial: Any) -> float:
        raise ValueError("no")

    result = quick(fails)
    assert result.summary["counts"] == {"failed": 6}
    assert result.to_json()["best"] is None
    assert result.state == "failed"
    assert result.ended == "no trial is complete: all 6 trials have been started"
    assert result.run_id is not None
    client = MlflowClient(f"sqlite:///{tracked.database}")
    assert client.get_run(result.run_id).info.status == "FAILED"


@pytest.mark.usefixtures("tracked")
def test_a_function_takes_its_space_as_plain_data_too() -> None:
    """A flow's parameter from Prefect's page went to lgbm as it is; for a function Constant was advised."""
    result = quick(space={"x": {"type": "float", "low": -1.0, "high": 1.0}, "kind": ["a", "b"]})
    assert dict(result.study.space.parameters) == SPACE
    with pytest.raises(InputError, match=r"'x'.*'hihg'"):
        quick(space={"x": {"type": "float", "low": -1.0, "hihg": 1.0}})


@pytest.mark.usefixtures("tracked")
def test_what_a_function_carries_holds_in_python_too() -> None:
    """By its name it was maximised, and as itself minimised over another space, without a word."""

    def gain(trial: Any) -> float:
        return float(trial.suggest_float("x", 0.0, 1.0))

    gain.space = {"x": Float(0.2, 0.8)}  # type: ignore[attr-defined]
    gain.objectives = {"gain": "max"}  # type: ignore[attr-defined]
    result = quick(gain, space=None)
    assert dict(result.study.space.parameters) == {"x": Float(0.2, 0.8)}
    assert result.best.values == {"gain": max(t.values["gain"] for t in result.study.trials)}
    given = quick(gain, space={"x": Float(0.0, 0.1)}, objectives={"loss": "min"}, name="given")
    assert dict(given.study.space.parameters) == {"x": Float(0.0, 0.1)}
    assert given.study.objectives == {"loss": "min"}


def test_a_ready_objective_by_its_name(tracked: Place) -> None:
    result = tune(
        "sklearn",
        data=written(tracked.folder, mixed()),
        target="y",
        estimator="sklearn.linear_model.LogisticRegression",
        space={"C": Float(0.01, 10.0, log=True)},
        folds=2,
        trials=2,
        workers=1,
        isolation="thread",
        register_as="mine",
        name="table",
        tell=lambda line: None,
    )
    assert result.summary["counts"] == {"complete": 2}
    assert "auc" in result.scores
    assert result.model is not None
    assert result.model.startswith("mine@champion is version 1")
    assert "C" in result.study.space.names


def test_a_study_ends_when_its_folder_is_removed(tracked: Place) -> None:
    """It ran to its end, said that it had finished, and nothing of it was there."""
    from mlflow import MlflowClient

    folder = tracked.folder / ".hpo" / "studies" / "mine"

    def removes(trial: Any) -> float:
        if trial.number == 3 and trial.attempt == 1:
            folder.rename(tracked.folder / "elsewhere")
        return loss(trial)

    with pytest.raises(JournalError, match="moved, removed or replaced"):
        quick(removes, workers=1)
    client = MlflowClient(f"sqlite:///{tracked.database}")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert "RUNNING" not in [run.info.status for run in runs]
    shutil.rmtree(folder, ignore_errors=True)
    (tracked.folder / "elsewhere").rename(folder)
    assert quick(removes, workers=1).summary["counts"] == {"complete": 6}


def test_a_clock_that_is_set_while_the_first_trial_runs_uses_up_no_time_limit(
    tracked: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is noted about the study's MLflow run comes after that, and is journaled by the same clock."""
    right, jump = time.time, [0.0]
    journal = tracked.folder / ".hpo" / "studies" / "mine" / "journal.jsonl"
    monkeypatch.setattr(time, "time", lambda: right() + jump[0])

    def sets(trial: Any) -> float:
        jump[0] = 86_400.0
        while '"tracking"' not in journal.read_text():
            threading.Event().wait(0.01)  # between two looks
        return loss(trial)

    assert quick(sets, timeout=3600.0).summary["counts"] == {"complete": 6}


def test_a_server_that_goes_away_before_it_has_heard_of_the_study_costs_nothing(tracked: Place) -> None:
    class Once(http.server.BaseHTTPRequestHandler):
        """Answers twice: a study asks before it does anything and before it begins."""

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            answered.append(self.path)

        def log_message(self, *_: object) -> None: ...

    answered: list[str] = []
    server = http.server.HTTPServer(("127.0.0.1", 0), Once)

    def serve() -> None:
        while len(answered) < 2:
            server.handle_request()
        server.server_close()

    thread = threading.Thread(target=serve)
    thread.start()
    lines: list[str] = []
    uri = f"http://127.0.0.1:{server.server_port}"
    result = quick(tracking_uri=uri, experiment="elsewhere", tell=lines.append)
    thread.join()
    assert result.summary["counts"] == {"complete": 6}
    assert result.run_id is None
    assert [line for line in lines if "waits to be shown in MLflow" in line]
    assert [line for line in lines if "`hpo sync mine` delivers everything" in line]
    # Which has to know where, though MLflow was never heard of again.
    assert newest(result.study, TRACKING) == {"uri": uri, "experiment": "elsewhere"}


def test_why_mlflow_has_nothing_is_said_though_the_study_was_over_before_it_answered() -> None:
    """A study of a moment had ended by then, and the reason was left out."""

    async def connected() -> list[str]:
        def start() -> str:
            raise Denied("it lets nobody in")

        lines: list[str] = []
        may, over = asyncio.Event(), asyncio.Event()
        may.set()
        over.set()
        current: Any = SimpleNamespace(
            may_connect=may, over=over, refused=False, resumed=False, study=SimpleNamespace(name="mine"),
            tracker=SimpleNamespace(start=start),
        )  # fmt: skip
        assert await _session._connect(current, lines.append) is None
        return lines

    first, second = asyncio.run(connected())
    assert first == "the study waits to be shown in MLflow: it lets nobody in"
    assert second.startswith("MLflow has not taken the study; `hpo sync mine`")


def test_a_server_that_takes_nothing_from_who_asks_is_not_said_to_be_away(tracked: Place) -> None:
    class Reads(http.server.BaseHTTPRequestHandler):
        """Lists its experiments and no more."""

        def do_GET(self) -> None:
            self.send_response(200 if "experiments/search" in self.path else 403)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    lines: list[str] = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Reads) as server:
        threading.Thread(target=server.serve_forever).start()
        result = quick(tracking_uri=f"http://127.0.0.1:{server.server_port}", tell=lines.append)
        server.shutdown()
    assert result.summary["counts"] == {"complete": 6}
    assert not [line for line in lines if "MLflow is away" in line]
    assert [line for line in lines if "choose one of your own with --experiment NAME" in line]
    assert [line for line in lines if line.startswith("MLflow has not taken the study; `hpo sync mine`")]


def test_an_outage_is_told_when_it_begins_and_when_it_ends(
    tracked: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was seen at the end of the study only, after a night without a line in MLflow."""
    away, back = threading.Event(), threading.Event()
    deliver_now = Projector.deliver

    def deliver_unless_away(projector: Projector, now: float, **how: bool) -> bool:
        if not away.is_set():
            raise OSError("no route to host")
        return deliver_now(projector, now, **how)

    def tell(line: str) -> None:
        for event, words in ((away, "MLflow is away, everything waits"), (back, "MLflow is back")):
            if words in line:
                event.set()

    def objective(trial: Any) -> float:
        return float(away.wait(60) and back.wait(60))

    monkeypatch.setattr(Projector, "deliver", deliver_unless_away)
    assert quick(objective, trials=1, tell=tell).best.values == {"loss": 1.0}


def test_what_mlflow_refuses_for_good_is_told(tracked: Place) -> None:
    """A run that somebody deleted while its trial ran was missing without a word."""
    import mlflow

    def delete_own_run(trial: Any) -> float:
        mlflow.delete_run(mlflow.active_run().info.run_id)
        return 1.0

    lines: list[str] = []
    assert quick(delete_own_run, trials=1, tell=lines.append).summary["counts"] == {"complete": 1}
    (line,) = [line for line in lines if "MLflow refused 1 item, the last was run of trial 0" in line]
    assert line.endswith("; `hpo resync mine` writes all runs anew")


def test_a_study_stays_in_an_experiment_that_was_renamed(tracked: Place) -> None:
    """It was made a second time, in a new experiment of the old name, and `hpo delete` found that one."""
    from mlflow import MlflowClient

    first = quick(trials=2)
    client = MlflowClient(f"sqlite:///{tracked.database}")
    experiment = client.get_run(first.run_id).info.experiment_id
    client.rename_experiment(experiment, "tidied up")
    assert quick(trials=3).run_id == first.run_id
    assert deliver("mine", None, anew=True) == 0
    assert {e.name for e in client.search_experiments()} == {"Default", "tidied up"}
    assert len(client.search_runs([experiment])) == 4
    delete("mine", dry_run=False, keep_runs=False, tracking_uri=None)
    assert client.search_runs([experiment]) == []


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_trial_offline_says_so_where_it_has_no_run_for_a_model(tracked: Place, isolation: str) -> None:
    """The reason was that the tracking server cannot be reached, which nobody had tried."""

    def models(trial: Any) -> float:
        trial.log_model(object())
        return 0.0

    failed = quick(models, trials=1, workers=1, offline=True, isolation=isolation).study.trials[0]
    assert (failed.state, "its study runs offline" in failed.reason) == (TrialState.FAILED, True)


def test_what_was_tracked_offline_is_delivered_to_the_place_that_was_meant(
    tracked: Place, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    copy_database(empty_database, tracked.folder / "meant.db")
    meant = f"sqlite:///{tracked.folder}/meant.db"
    here = MlflowClient()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "of the environment")
    quick(offline=True, trials=2, tracking_uri=meant)
    quick(offline=True, trials=2, tracking_uri=meant, name="said", experiment="said so")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    for study in ("mine", "said"):
        assert deliver(study, None, anew=False) == 0
    client = MlflowClient(meant)
    for experiment in ("of the environment", "said so"):
        found = client.get_experiment_by_name(experiment)
        assert found is not None
        assert len(client.search_runs([found.experiment_id])) == 3
    assert [e.name for e in here.search_experiments()] == ["Default"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"trails": 3}, "tune() has no argument 'trails'; did you mean 'trials'"),
        ({"folds": 3}, "tune() has no argument 'folds'"),
        ({"trials": 0}, "trials must be a whole number of at least 1"),
        ({"trials": 2.5}, "trials must be a whole number of at least 1"),
        ({"workers": True}, "workers must be a whole number of at least 1"),
        ({"strategy": "bohp"}, "did you mean 'bohb'"),
        ({"objectives": {"loss": "least"}}, "least"),
        ({"name": "a/b"}, "study's name"),
        ({"space": {"x": (0, 1)}}, "x"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_runs(
    arguments: dict[str, Any], says: str, place: Place
) -> None:
    with pytest.raises(InputError) as refused:
        quick(**arguments)
    assert says in str(refused.value)
    assert place.studies == []
    assert not place.database.exists()


def test_a_study_that_another_driver_holds_leaves_no_process(tracked: Place) -> None:
    """Worker processes start before the study is opened."""
    before = set(psutil.Process().children())
    folder = tracked.folder / ".hpo" / "studies" / "held"
    with Journal(folder / "journal.jsonl") as journal:
        Study({"x": Float(0.0, 1.0)}, name="held", journal=journal)
        with pytest.raises(StudyLockedError):
            tune(lambda trial: trial.suggest_float("x", 0.0, 1.0), name="held", trials=2, workers=2)
    assert set(psutil.Process().children()) <= before


def test_a_ready_objective_names_its_wrong_option(place: Place) -> None:
    with pytest.raises(InputError, match="did you mean 'folds'"):
        tune("lgbm", data="sklearn:iris", fold=3)


def test_without_a_name_each_call_is_a_study_of_its_own(tracked: Place) -> None:
    quick(name=None, offline=True, trials=2)
    assert tracked.studies[0].startswith("tests.flows.test_tune-loss-")


def test_plain_mlflow_inside_an_objective_lands_in_the_trials_run(tracked: Place) -> None:
    import mlflow

    def logs(trial: Any) -> float:
        mlflow.set_tag("mine", str(trial.number))
        mlflow.log_metric("extra", trial.params["x"])
        return float(trial.params["x"])

    result = quick(logs, trials=4)
    client = mlflow.MlflowClient(f"sqlite:///{tracked.database}")
    assert result.run_id is not None
    experiment = client.get_run(result.run_id).info.experiment_id
    for run in client.search_runs([experiment], "tags.`hpo.role` != 'study'"):
        assert run.data.tags["mine"] == run.data.tags["hpo.trial"]
        assert run.data.metrics["extra"] == run.data.metrics["loss"]


def test_files_and_folders_of_a_study(tracked: Place) -> None:
    quick(steps, space={"x": Float(0.0, 1.0), "n": Int(1, 2)}, trials=2)
    folder = tracked.folder / ".hpo" / "studies" / "mine"
    assert (folder / "journal.jsonl").exists()
    assert not [p for p in Path(tracked.folder).iterdir() if p.name.startswith("mlruns")]


@pytest.mark.parametrize(
    ("events", "files", "left"),
    [(3, 0, "3 events"), (3, 2, "3 events and 2 files"), (0, 0, "the end of the study")],
)
def test_a_long_end_says_what_mlflow_is_still_to_get(
    events: int, files: int, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server with slow passwords was still to get 0 events and 0 files."""
    told = threading.Event()
    lines: list[str] = []

    class Slow:
        """A tracker that takes until somebody has been told."""

        status = TrackerStatus(degraded=None, delivered_seq=0, pending_events=events, pending_files=files)

        def close(self, timeout: float) -> bool:
            """Whether somebody was told in time."""
            return told.wait(timeout)

    def tell(line: str) -> None:
        lines.append(line)
        told.set()

    monkeypatch.setattr(_session, "_SILENT_SECONDS", 0.0)
    slow: Any = Slow()
    assert asyncio.run(_session._delivered(slow, tell))
    assert lines == [f"MLflow is still to get {left}"]
