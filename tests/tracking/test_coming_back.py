"""What a projector makes of what earlier ones have left, and what it spares itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hpo_core import Segment
from hpo_core._events import SegmentStarted, TrialAsked
from tests.tracking.fake_mlflow import FakeMlflow, Killed
from tests.tracking.studies import Script
from tests.tracking.test_projector import OPTIONS, project
from tracking._projector import Projector


def named(mlflow: FakeMlflow, name: str) -> list[Any]:
    """The active runs of that name, oldest first."""
    return [run for run in mlflow.stored.values() if (run.name, run.stage) == (name, "active")]


def opened(folder: Path, mlflow: FakeMlflow) -> Projector:
    """A projector that has written what it found, and goes on."""
    projector = Projector(folder, mlflow.connection(), OPTIONS)
    projector.open(0.0)
    while projector.deliver(0.0):
        pass
    return projector


def shown(folder: Path) -> FakeMlflow:
    """An MLflow that has what the first driver left of the study."""
    mlflow = FakeMlflow()
    project(folder, mlflow)
    return mlflow


def go_on(script: Script) -> None:
    """Begin what is due."""
    due = script.study.execution.next(script.now())
    assert isinstance(due, Segment)
    script.study.execution.started(due, now=script.now())


def test_files_that_an_earlier_driver_could_not_upload_go_to_runs_that_are_written(tmp_path: Path) -> None:
    """Of a trial of this study only, and when it has ended."""
    script = Script(tmp_path)
    script.run(1.0)
    script.begin()
    mlflow = shown(tmp_path)
    for number in ("0", "1", "7", "notes"):
        (tmp_path / "artifacts" / number).mkdir(parents=True)
        (tmp_path / "artifacts" / number / "traceback.txt").write_text("boom")
    project(tmp_path, mlflow)
    script.close()
    sent = [(run, Path(path).name) for run, path in mlflow.artifacts if "artifacts" in Path(path).parts]
    assert sent == [(named(mlflow, "trial-0000")[0].run_id, "0")]


@pytest.mark.parametrize("notes", [True, False])
def test_a_trial_that_goes_on_with_another_driver_is_running_again(notes: bool, tmp_path: Path) -> None:
    """Its run was closed when the driver before left, and not opened again until the trial ended."""
    script = Script(tmp_path)
    trial = script.begin()
    mlflow = shown(tmp_path)
    (run,) = named(mlflow, "trial-0000")
    assert run.status == "KILLED"
    script.study.execution.lost(trial, "its driver ended", counted=False, now=script.now())
    go_on(script)
    if not notes:
        (tmp_path / "runs.jsonl").unlink()
    opened(tmp_path, mlflow).close()
    script.close()
    assert (run.status, run.tags["hpo.state"]) == ("RUNNING", "running")


def test_a_run_that_was_closed_twice_ended_at_the_second_time(tmp_path: Path) -> None:
    """Suspended and later cancelled, it is KILLED either way; it had ended when it was suspended."""
    script = Script(tmp_path)
    trial = script.begin()
    mlflow = shown(tmp_path)
    (run,) = named(mlflow, "trial-0000")
    suspended = run.end_time
    script.finish(trial, state="cancelled")
    at = script.at
    project(tmp_path, mlflow)
    script.close()
    assert run.status == "KILLED"
    assert run.end_time == int(at * 1000) > suspended


def test_where_nothing_is_new_nothing_is_written(tmp_path: Path) -> None:
    """Nor looked for, where the notes of the driver before say where everything is."""
    script = Script(tmp_path)
    for value in range(4):
        script.run(float(value))
    script.begin()
    mlflow = shown(tmp_path)
    script.close()

    def searched(*_: Any, **__: Any) -> Any:
        raise AssertionError("everything is known")

    mlflow.search_runs = searched  # type: ignore[method-assign]
    before = len(mlflow.calls)
    projector = opened(tmp_path, mlflow)
    assert mlflow.calls[before:] == ["log_batch", "update_run"]  # of the study's run, which runs again
    for _ in range(3):
        assert not projector.read(0.0)
        projector.deliver(0.0)
    assert len(mlflow.calls) == before + 2
    projector.close()


def test_a_run_whose_creation_nobody_heard_of_is_found_before_another_is_made(tmp_path: Path) -> None:
    """Not only when the driver leaves, which may be days later."""
    script = Script(tmp_path)
    script.run(1.0)
    mlflow = FakeMlflow()
    made: list[str] = []

    def fault(number: int, name: str) -> Any:
        made.extend([name] * (name == "create_run"))
        return (Killed(), True) if len(made) == 2 else None

    mlflow.fault = fault
    with pytest.raises(Killed):
        project(tmp_path, mlflow)
    mlflow.fault = lambda number, name: None
    opened(tmp_path, mlflow).close()
    script.close()
    assert len(mlflow.stored) == 2


def test_of_two_runs_of_a_study_one_stays(tmp_path: Path) -> None:
    """A creation that was repeated, as nobody had heard of its success, leaves one too many."""
    script = Script(tmp_path)
    script.run(1.0)
    mlflow = shown(tmp_path)
    (original,) = named(mlflow, "toy")
    late = original.start_time + 1
    for _ in range(2):
        mlflow.create_run("1", start_time=late, tags=dict(original.tags), run_name="toy")
    (tmp_path / "runs.jsonl").unlink()
    project(tmp_path, mlflow)
    script.close()
    assert named(mlflow, "toy") == [original]
    assert {run.status for run in mlflow.stored.values() if run.stage == "deleted"} == {"KILLED"}


def test_all_trials_move_below_the_new_run_of_a_study(tmp_path: Path) -> None:
    """Also those that an older copy of the journal does not know."""
    script = Script(tmp_path)
    for value in range(4):
        script.run(float(value))
    script.close()
    mlflow = shown(tmp_path)
    (gone,) = named(mlflow, "toy")
    gone.stage = "deleted"
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:4]))
    project(tmp_path, mlflow)
    (parent,) = named(mlflow, "toy")
    trials = [run for run in mlflow.stored.values() if run.name.startswith("trial")]
    assert len(trials) == 4
    assert {run.tags["mlflow.parentRunId"] for run in trials} == {parent.run_id}


def test_what_is_noted_of_a_trial_after_its_end_is_shown(tmp_path: Path) -> None:
    """As the ids of Prefect's runs are, which come when the trial may have been written."""
    script = Script(tmp_path)
    trial = script.run(1.0)
    mlflow = FakeMlflow()
    projector = opened(tmp_path, mlflow)
    script.study.note("tags", {"trial": trial, "tags": {"prefect.task_run": "abc"}}, now=script.now())
    projector.read(0.0)
    assert projector.pending_events == 1
    projector.deliver(0.0)
    projector.close()
    script.close()
    assert named(mlflow, "trial-0000")[0].tags["prefect.task_run"] == "abc"


def test_the_best_trial_and_where_forks_come_from_are_told(tmp_path: Path) -> None:
    """What is planned has room for the forks, which are trials beyond those that were asked for."""
    script = Script(tmp_path, trials=3)
    best = script.run(0.25)
    asked = TrialAsked(
        at=script.now(), trial=1, params={"lr": 0.01}, origin="fork", parent=best, start_step=7
    )
    script.study._log.append(asked)
    script.study._log.append(SegmentStarted(at=script.now(), trial=1, attempt=1, worker="here"))
    mlflow = shown(tmp_path)
    params = script.study.trials[best].params
    script.close()
    (parent,), (fork,) = named(mlflow, "toy"), named(mlflow, "trial-0001")
    told = {k: fork.tags[f"hpo.{k}"] for k in ("origin", "parent_trial", "start_step", "worker")}
    assert told == {"origin": "fork", "parent_trial": "0", "start_step": "7", "worker": "here"}
    assert parent.tags["hpo.best_run_id"] == named(mlflow, "trial-0000")[0].run_id
    assert json.loads(parent.tags["hpo.best_params"]) == params
    assert parent.tags["hpo.planned"] == "4"
    assert "hpo.parent_trial" not in named(mlflow, "trial-0000")[0].tags
