"""Entry points of MLflow projects as objectives: real ``mlflow run``, in the trial's own run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows import tune
from flows._mlproject import _Log, _Output, open_project, parse_metrics
from flows._plan import plan_request
from flows._request import Request
from hpo_core import Float, InputError, Int, SearchSpace, TrialPruned
from tests.flows.conftest import Hpo, Place
from tests.flows.fake_trial import FakeTrial

MLPROJECT = """
name: probe
entry_points:
  main:
    parameters:
      x: float
      depth: {type: float, default: 2}
    command: "python train.py {x} {depth}"
  other:
    parameters: {x: float, rows: float}
    command: "python train.py {x} {rows}"
"""
SPACE = {"x": Float(0.0, 1.0)}
EXAMPLE = Path(__file__).parents[2] / "examples" / "project"


@pytest.fixture
def project(place: Place) -> Callable[[str], Path]:
    """Makes a project with that training script, by default one that does nothing."""

    def make(script: str = "") -> Path:
        folder = place.folder / "probe"
        folder.mkdir()
        (folder / "MLproject").write_text(MLPROJECT, encoding="utf-8")
        (folder / "train.py").write_text(script, encoding="utf-8")
        return folder

    return make


def plan_for(reference: str, **more: Any) -> Any:
    """What the command line makes of it."""
    given = {"metric": "rmse=min", "space": '{"x": {"low": 0.0, "high": 1.0}}', **more}
    return plan_request(Request(objective=reference, **given))


def test_a_project_is_tuned_as_it_is(tracked: Place) -> None:
    """The example: what it logs is in the trials' runs, and its metric is the study's.

    One worker process for both trials: nothing of the first may reach the second.
    """
    from mlflow import MlflowClient

    result = tune(
        str(EXAMPLE), space=str(EXAMPLE / "space.yaml"), objectives={"rmse": "min"}, options={"stages": 40},
        trials=2, workers=1, tell=lambda line: None,
    )  # fmt: skip
    assert result.summary["counts"] == {"complete": 2}, [t.reason for t in result.study.trials]
    client = MlflowClient()
    study = client.get_run(result.run_id).info
    runs = client.search_runs([study.experiment_id], f"tags.`mlflow.parentRunId` = '{study.run_id}'")
    assert len(runs) == 2
    for run in runs:
        assert run.info.status == "FINISHED"
        assert run.data.params.keys() == {"rate", "depth", "stages"}
        assert [a.path for a in client.list_artifacts(run.info.run_id)].count("model.txt") == 1
        # Written by the project and by the study, it is one curve: no point of it lies anywhere else.
        history = client.get_metric_history(run.info.run_id, "rmse")
        curve = dict(sorted({(m.step, m.value) for m in history}))
        assert list(curve) == [10, 20, 30, 40]
        number = int(run.data.tags["hpo.trial"])
        assert result.study.trials[number].values == {"rmse": curve[40]}
        assert curve == {s: v for t, s, v in _reports(result.study) if t == number}


def _reports(study: Any) -> list[tuple[int, int, float]]:
    reports = study.history.reports
    return list(
        zip(reports.trials.tolist(), reports.steps.tolist(), reports.values[:, 0].tolist(), strict=True)
    )


FOR_EVER = """
import os, subprocess, sys, time
import mlflow

helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("PIDS", os.getpid(), helper.pid, flush=True)
with mlflow.start_run():
    for step in range(10_000):
        mlflow.log_metric("rmse", 1.0, step=step)
        time.sleep(0.1)
"""


class Unwanted(FakeTrial):
    """The study has seen enough after its first report."""

    def report(self, step: int, metrics: Any = None, **more: float) -> None:
        """End it."""
        raise TrialPruned(f"enough at step {step}")


def test_what_the_study_stops_is_ended_with_all_that_it_started(
    tracked: Place, project: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    entry = open_project(str(project(FOR_EVER)), space=SearchSpace(SPACE), metrics=("rmse",))
    with pytest.raises(TrialPruned):
        entry(Unwanted({"x": 0.5}))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("PIDS")]
    assert not [pid for pid in map(int, line.split()[1:]) if psutil.pid_exists(pid)]


def test_a_failure_says_what_the_project_said(tracked: Place, project: Callable[[str], Path]) -> None:
    script = "import sys\nprint('reading')\nsys.exit('no such table: sales')\n"
    entry = open_project(str(project(script)), space=SearchSpace(SPACE), metrics=("rmse",))
    with pytest.raises(
        RuntimeError, match=r"(?s)^no such table: sales \(entry point 'main' .*exit code 1.*reading"
    ):
        entry(FakeTrial({"x": 0.5}))


def test_what_mlflow_refuses_to_run_is_said_with_its_reason(
    tracked: Place, project: Callable[[str], Path]
) -> None:
    """It was said that the project had printed nothing."""
    folder = project("")
    (folder / "MLproject").write_text(MLPROJECT.replace("rows: float", "rows: uri"), encoding="utf-8")
    entry = open_project(
        f"{folder}#other", space=SearchSpace(SPACE), metrics=("rmse",), fixed={"rows": "here.csv"}
    )
    with pytest.raises(RuntimeError, match=r"^Expected URI for parameter rows but got here.csv \(entry"):
        entry(FakeTrial({"x": 0.5}))


class _Says:
    """A process that has printed these lines."""

    def __init__(self, text: str) -> None:
        self.stdout = text.splitlines(keepends=True)


OF_PIP = """
ERROR: No matching distribution found for nowhere==9.9
2026/11/23 19:19:48 WARNING mlflow.utils.virtualenv: Encountered an unexpected error
Traceback (most recent call last):
  File "mlflow/utils/process.py", line 140, in _exec_cmd
    raise ShellCommandException.from_completed_process(comp_process)
mlflow.utils.process.ShellCommandException: Non-zero exit code: 1
Command: ['bash', '-c', 'python -m pip install -r requirements.txt']
"""
OF_DOCKER = """
2026/11/23 19:19:53 ERROR mlflow.cli: === Ran `docker info` and it failed with the following output:
Server:
Cannot connect to the Docker daemon.
 ===
"""
OF_THE_SCRIPT = """
Traceback (most recent call last):
  File "train.py", line 3, in <module>
ValueError: too large
"""


@pytest.mark.parametrize(
    ("text", "last"),
    [
        (OF_PIP, "ERROR: No matching distribution found for nowhere==9.9"),
        (OF_DOCKER, "Cannot connect to the Docker daemon."),
        (OF_THE_SCRIPT, "ValueError: too large"),
    ],
)
def test_why_an_environment_could_not_be_made_is_what_its_tool_said(text: str, last: str) -> None:
    """It was the command that MLflow had given to pip, or the end of MLflow's frame around Docker's words."""
    said = _Output(_Says(text))  # type: ignore[arg-type] # all that it reads of one
    said.join()
    assert said.last == last


def test_a_project_that_is_no_yaml_is_answered_with_the_place(
    place: Place, project: Callable[[], Path]
) -> None:
    (project() / "MLproject").write_text("entry_points: [\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"parsing a flow node; expected .*MLproject.*, line 2, column 1"):
        plan_for("probe")


def test_a_project_that_ends_without_a_word_is_said_to_have_printed_nothing(
    tracked: Place, project: Callable[[str], Path]
) -> None:
    entry = open_project(
        str(project("import sys\nsys.exit(3)\n")), space=SearchSpace(SPACE), metrics=("rmse",)
    )
    with pytest.raises(RuntimeError, match=r"^it printed nothing \(entry"):
        entry(FakeTrial({"x": 0.5}))


def test_a_metric_that_was_never_logged_is_named(tracked: Place, project: Callable[[str], Path]) -> None:
    """Logged to the project's run from here: that a project's own metrics get there is shown above."""
    import mlflow

    entry = open_project(str(project("")), space=SearchSpace(SPACE), metrics=("rmse",))
    with mlflow.start_run():
        mlflow.log_metric("rsme", 1.0)
        with pytest.raises(InputError, match="logged no metric 'rmse'; did you mean 'rsme'"):
            entry(FakeTrial({"x": 0.5}))


def test_only_a_look_that_others_follow_may_find_mlflow_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a trial could be complete without its curve, since nobody would have read it."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    def away(*terms: Any) -> Any:
        raise MlflowException("no answer")

    log = _Log("0" * 32, ("rmse",))
    monkeypatch.setattr(MlflowClient, "get_metric_history", away)
    assert log.glance() == []
    with pytest.raises(MlflowException, match="no answer"):
        list(log.fresh())


# -- before anything runs ------------------------------------------------------------------------


def test_the_same_command_finds_its_study(place: Place, project: Callable[[], Path]) -> None:
    """What a run leaves in the project's folder does not make another study of it; other code does."""
    folder = project()
    first = plan_for(str(folder))
    assert first.terms.identity == {"objective": "probe#main"}
    (folder / "model.bin").write_bytes(b"left behind")
    (folder / "mlruns").mkdir()
    (folder / "mlruns" / "copy.py").write_text("a = 1\n", encoding="utf-8")
    assert plan_for(f"{folder}#main").terms.name == first.terms.name
    assert plan_for(str(folder), options={"depth": 3}).terms.name != first.terms.name
    # It was refused, as the study of the name had another objective.
    assert plan_for(str(folder), metric="other=min").terms.name != first.terms.name
    (folder / "train.py").write_text("a = 1\n", encoding="utf-8")
    assert plan_for(str(folder)).terms.name != first.terms.name


def test_a_resumed_study_runs_the_same_entry_point(place: Place, project: Callable[[], Path]) -> None:
    """The journal's request alone leads to it, from another folder, too."""
    project()
    plan = plan_for("probe#other", options={"rows": 7}, env_manager="uv")
    request = json.loads(json.dumps(plan.terms.meta["request"]))
    again = plan_request(Request(**request))
    assert again.objective == plan.objective
    assert again.terms.name == plan.terms.name
    assert plan.objective.fixed == {"rows": 7}
    assert plan.objective.env_manager == "uv"


@pytest.mark.parametrize(
    ("reference", "more", "message"),
    [
        ("probe#mian", {}, "main"),
        ("probe", {"space": '{"z": {"low": 0.0, "high": 1.0}}'}, r"no parameter 'z' \(it has: x, depth\)"),
        ("probe", {"options": {"dept": 3}}, "no parameter 'dept'; did you mean 'depth'"),
        ("probe", {"options": {"x": 3}}, "'x' is in the space and has a fixed value"),
        ("probe#other", {}, "needs a value for 'rows' in every trial"),
        ("probe", {"metric": None}, "--metric val_rmse=min"),
        ("probe", {"metric": "rmse"}, "got 'rmse'"),
        ("probe", {"space": None}, "--space"),
        ("probe", {"data": "table.csv"}, "'data' goes with .* is given as --option data=table.csv"),
        ("probe", {"env_manager": "condo"}, "env_manager must be one of local, virtualenv, uv, conda"),
        (".", {}, "has no file MLproject"),
        ("lgbm", {"env_manager": "uv", "data": "sklearn:iris"}, "'env_manager' goes with MLflow projects"),
    ],
)
def test_mistakes_are_found_before_anything_runs(
    place: Place, project: Callable[[], Path], reference: str, more: dict[str, Any], message: str
) -> None:
    project()
    with pytest.raises(InputError, match=message):
        plan_for(reference, **more)
    assert place.studies == []


def test_what_is_fixed_on_the_command_line_is_the_text_that_was_typed(
    place: Place, project: Callable[[], Path], hpo: Hpo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with `mlflow run -P`: a version 1.10 became 1.1, true became True, and a list of JSON Python's."""
    planned: list[Any] = []
    monkeypatch.setattr("flows.cli._tune.explain", lambda plan, **how: planned.append(plan))
    command = ("tune", project(), "--space", '{"x": {"low": 0.0, "high": 1.0}}', "--metric", "rmse=min")
    for text in ("1.10", "true", '["a"]', "two words"):
        said = hpo(*command, "--dry-run", "--option", f"depth={text}")
        assert said.code == 0, said.err
        assert planned.pop().objective.given(FakeTrial({"x": 0.5})) == {"x": 0.5, "depth": text}


def test_a_project_may_have_parameters_with_the_names_of_other_options(
    place: Place, project: Callable[[], Path]
) -> None:
    """The commonest of all, `data`, was refused as the ready objectives' own."""
    parameters = "{x: float, data: path, target: string, task: string, register_as: string}"
    text = MLPROJECT.replace("{x: float, rows: float}", parameters)
    (project() / "MLproject").write_text(text, encoding="utf-8")
    fixed = {"data": "my.csv", "target": "y", "task": "t", "register_as": "m"}
    plan = plan_for("probe#other", options=fixed)
    assert plan.objective.given(FakeTrial({"x": 0.5})) == {"x": 0.5, **fixed}
    assert plan.register_as is None


def test_a_parameter_that_only_some_trials_have_needs_a_default(
    place: Place, project: Callable[[], Path]
) -> None:
    space = SearchSpace({"x": Float(0.0, 1.0), "rows": Int(1, 5).when("x", ge=0.5)})
    with pytest.raises(InputError, match="'rows' in every trial"):
        open_project(f"{project()}#other", space=space, metrics=("rmse",))


def test_several_metrics_have_a_direction_each() -> None:
    assert parse_metrics("accuracy = max, seconds=min", "a#b") == {"accuracy": "max", "seconds": "min"}


def test_a_parameter_for_the_seed_is_given_in_repeats(project: Callable[[str], Path]) -> None:
    """Unless somebody has said what it is to be; without repeats the project's own default holds."""
    folder = project("")
    text = MLPROJECT.replace("x: float\n", "x: float\n      seed: {type: float, default: 7}\n", 1)
    (folder / "MLproject").write_text(text, encoding="utf-8")

    def entry(fixed: dict[str, Any], space: dict[str, Any] | None = None) -> Any:
        tuned = SearchSpace(space or SPACE)
        return open_project(str(folder), space=tuned, metrics=("rmse",), fixed=fixed)

    once, repeat = FakeTrial({"x": 0.5}, seed=3), FakeTrial({"x": 0.5}, seed=3)
    repeat.repeat = 2  # type: ignore[attr-defined]
    assert entry({"depth": 4}).given(repeat) == {"depth": 4, "x": 0.5, "seed": 3}
    assert entry({"depth": 4}).given(once) == {"depth": 4, "x": 0.5}
    assert entry({"seed": 1}).given(repeat) == {"seed": 1, "x": 0.5}
    assert not entry({}, {**SPACE, "seed": Int(0, 9)}).seeded
