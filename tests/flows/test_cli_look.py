"""The commands that only look at a study: list, show, why, and rerun, which leaves no trace."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.cli import main
from hpo_core import TrialState
from tests.databases import copy_database
from tests.flows.cli_studies import OBJECTIVES, runs
from tests.flows.conftest import Hpo, Place


def enter(place: Place, patch: pytest.MonkeyPatch) -> None:
    """Make the place this process's own."""
    patch.chdir(place.folder)
    patch.delenv("HPO_HOME", raising=False)
    patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place.database}")


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, prefect_server: None, empty_database: Path
) -> Iterator[Place]:
    """A folder with a finished study of six trials, three of them failed; for tests that only look."""
    place = Place(tmp_path_factory.mktemp("finished"))
    copy_database(empty_database, place.database)
    (place.folder / "finished_objectives.py").write_text(OBJECTIVES)
    with pytest.MonkeyPatch.context() as patch:
        enter(place, patch)
        command = "tune finished_objectives.py:fragile --trials 6 --name done --strategy random"
        assert main([*command.split(), "--isolation", "thread", "--workers", "2"]) == 0
        yield place


@pytest.fixture
def look(finished: Place, hpo: Hpo, monkeypatch: pytest.MonkeyPatch) -> Hpo:
    """The command line, in the folder with the finished study."""
    enter(finished, monkeypatch)
    return hpo


def test_what_is_not_finite_fails_and_is_never_ranked(look: Hpo, finished: Place) -> None:
    study = finished.study("done")
    states = [t.state for t in study.trials]
    assert states == [TrialState.COMPLETE, *[TrialState.FAILED] * 3, *[TrialState.COMPLETE] * 2]
    assert study.best.number in (0, 4, 5)
    assert study.trials[1].reason == "ValueError: the first line and the second"
    assert "no finite value for 'loss'" in study.trials[2].reason
    listed = json.loads(look("list", "--json").out)
    assert listed[0]["best"] == study.best.values
    assert listed[0]["counts"] == {"complete": 3, "failed": 3}


def test_the_traceback_of_a_failed_trial_is_in_mlflow(look: Hpo, finished: Place, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    run = runs(finished, "done")[2]
    assert run.info.status == "FAILED"
    assert run.data.tags["hpo.state"] == "failed"
    client = MlflowClient(f"sqlite:///{finished.database}")
    path = client.download_artifacts(run.info.run_id, "traceback.txt", str(tmp_path))
    text = Path(path).read_text()
    assert text.startswith("Traceback")
    assert "raise ValueError" in text
    assert "_execute.py" not in text


def test_list_and_show_say_how_it_stands(look: Hpo, finished: Place) -> None:
    listed = look("list")
    assert (listed.code, listed.err) == (0, "")
    assert "done   finished     6/6" in listed.out
    shown = look("show", "done").out
    best = finished.study("done").best
    assert "finished: all 6 trials have been started" in shown
    assert "6 of 6 done: 3 complete, 3 failed" in shown
    assert f"best    trial {best.number}, loss" in shown
    assert "ValueError: the first line and the second (trial 1)" in shown
    assert "mlflow server --app-name hpo --backend-store-uri" in shown
    data = json.loads(look("show", "done", "--json").out)
    assert [t["state"] for t in data["trials"]].count("failed") == 3


def test_the_list_breaks_no_word_wherever_it_is_read(
    look: Hpo, finished: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At forty columns `finished` was `finish` and, below it, `ed`; so was a study's name, in a pipe too."""
    monkeypatch.setenv("COLUMNS", "40")
    head, *rows = (line.split() for line in look("list").out.splitlines())
    assert head == ["study", "state", "trials", "best", "strategy"]
    assert [row[:3] for row in rows] == [["done", "finished", "6/6"]]


@pytest.mark.parametrize("width", ["50", "80", "200"])
def test_the_leaderboard_fits_and_keeps_its_first_columns(
    width: str, look: Hpo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    lines = look("show", "done").out.splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("trial "))
    assert lines[head].split() == ["trial", "loss", "seconds", "configuration"]
    rows = [line.split() for line in lines[head + 1 : head + 4]]
    assert sorted(int(row[0]) for row in rows) == [0, 4, 5]
    assert [float(row[1]) for row in rows] == sorted(float(row[1]) for row in rows)
    assert all(len(line) <= int(width) for line in lines[head : head + 4])


def test_why_speaks_of_the_study_and_of_a_trial(look: Hpo) -> None:
    assert look("why", "done").out == "study done is finished: all 6 trials have been started\n"
    assert "trial 1 is failed: ValueError: the first line and the second; its" in look("why", "done", 1).out
    assert "trial 0 is complete" in look("why", "done", 0).out


def test_a_trial_is_run_once_more_without_a_trace(look: Hpo, finished: Place) -> None:
    before = {path: path.read_bytes() for path in (finished.folder / ".hpo").rglob("*") if path.is_file()}
    said = look("rerun", "done")
    assert (said.code, said.err) == (0, "")
    assert re.match(r"trial \d of done, the best, run once more\n  then: complete, loss 0\.", said.out)
    assert said.out.endswith("\nthe same\n")
    failed = json.loads(look("rerun", "done", 1, "--json").out)
    assert (failed["same"], failed["now"]["state"]) == (True, "failed")
    assert before == {
        path: path.read_bytes() for path in (finished.folder / ".hpo").rglob("*") if path.is_file()
    }
    assert look("rerun", "done", 77).err == "hpo: study 'done' has the trials 0 to 5, got 77\n"
