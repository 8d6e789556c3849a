"""A study that is broken off on one machine and goes on, with what it has learned, on another."""

from __future__ import annotations

import shutil
import time

import pytest

from hpo_core import TrialState
from tests.flows.conftest import Hpo, Place

# On the first machine it asks for its own end once it has saved something, and waits for that.
OBJECTIVE = """
import os, time
from pathlib import Path

def counted(trial):
    began = trial.checkpoint.step if trial.checkpoint else 0
    home = Path(os.environ.get("HPO_HOME", ".hpo"))
    trial.suggest_float("x", 0.0, 1.0)
    assert not began or trial.checkpoint.load() == ["saved"]
    for step in trial.steps(6):
        trial.save(step, ["saved"])
        trial.report(step, loss=1.0 / step)
        if step == 3 and home.name != "elsewhere":
            (home / "studies" / "mine" / "cancel").touch()
            while not trial.should_stop:
                time.sleep(0.01)
    Path(f"began-{trial.number}").write_text(str(began))
    return 0.1
"""


TERMS = ("--strategy", "random", "--workers", 1, "--isolation", "thread")


@pytest.mark.parametrize(("uploaded", "began"), [("kept", 3), ("kept", 2), ("best", 0)])
def test_trials_go_on_elsewhere_from_what_was_uploaded(
    uploaded: str, began: int, tracked: Place, hpo: Hpo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow had the best trials' checkpoints only, and no option to have it get those that are needed."""
    (tracked.folder / "counted_steps.py").write_text(OBJECTIVE)
    terms = [*TERMS, "--trials", 2, "--metric", "loss=min", "--upload-checkpoints", uploaded]
    first = hpo("tune", "counted_steps.py:counted", "--name", "mine", *terms)
    assert "cancelled" in first.out + first.err
    if began == 2:
        # Its driver had time for the journal only, and what it had uploaded before is no longer in that.
        (newest,) = tracked.folder.rglob("mlartifacts/**/checkpoints/step-00000003")
        newest.rename(newest.with_name("step-00000002"))
    monkeypatch.setenv("HPO_HOME", str(tracked.folder / "elsewhere"))
    again = hpo("resume", "mine")
    assert again.code == 0
    assert f"fetched study mine and {int(began > 0)} checkpoints from MLflow" in again.out + again.err
    study = tracked.study("../../elsewhere/studies/mine")
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 2
    assert [(tracked.folder / f"began-{trial}").read_text() for trial in range(2)] == [str(began), "0"]


def test_a_study_moves_to_another_machine_and_the_first_one_must_not_go_on(
    tracked: Place, hpo: Hpo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resume fetches the journal from MLflow; the older copy on the first machine is refused from then on."""
    from mlflow import MlflowClient

    (tracked.folder / "moving_losses.py").write_text(
        "def loss(trial):\n    return trial.suggest_float('x', 0.0, 1.0)\n"
    )
    command = ["tune", "moving_losses.py:loss", "--name", "mine", *TERMS, "--trials"]
    hpo(*command, 6)
    monkeypatch.setenv("HPO_HOME", str(tracked.folder / "elsewhere"))
    assert hpo("resume", "other").code == 2
    said = hpo("resume", "mine")
    assert (said.code, "fetched study mine" in said.err) == (0, True)
    more = hpo(*command, 8)
    assert more.code == 0
    client = MlflowClient(f"sqlite:///{tracked.database}")
    experiment = client.get_experiment_by_name("mine")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (own,) = (run.info.run_id for run in runs if run.info.run_name == "mine")
    assert len(runs) == 9
    monkeypatch.delenv("HPO_HOME")
    lease = f"2 {time.time() + 60:.0f} elsewhere:1"
    client.set_tag(own, "hpo.lease", lease)
    refused = hpo(*command, 9)
    assert refused.code == 2
    assert "driver elsewhere:1 has gone on with this study" in refused.err
    shutil.rmtree(tracked.folder / ".hpo")
    held = hpo("resume", "mine")
    assert held.code == 3
    assert "its lease runs out in" in held.err


def test_which_of_two_studies_of_a_name_is_gone_on_with_is_said_and_can_be_chosen(
    tracked: Place, hpo: Hpo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two people had a study of one name on one server: who moved went on with the other's, unknowingly."""
    from mlflow import MlflowClient

    (tracked.folder / "shared_name.py").write_text(
        "def loss(trial):\n    return trial.suggest_float('x', 0.0, 1.0)\n"
    )
    runs = {}
    for who, trials, more in (("alice", 2, ()), ("bob", 3, ("--experiment", "bobs"))):
        monkeypatch.setenv("HPO_HOME", str(tracked.folder / who))
        terms = [*TERMS, "--trials", trials, *more]
        assert hpo("tune", "shared_name.py:loss", "--name", "mine", *terms).code == 0
        client = MlflowClient(f"sqlite:///{tracked.database}")
        experiment = client.get_experiment_by_name("bobs" if more else "mine")
        assert experiment is not None
        (run,) = client.search_runs([experiment.experiment_id], "tags.`hpo.role` = 'study'")
        runs[who] = run.info.run_id
    for who, run, which in (("bob", None, "the newest"), ("alice", runs["alice"], "one")):
        if run is not None:
            monkeypatch.setenv("MLFLOW_RUN_ID", run)
        monkeypatch.setenv("HPO_HOME", str(tracked.folder / f"{who}-elsewhere"))
        said = hpo("resume", "mine")
        assert said.code == 0
        assert f"{which} of the 2 of that name there, begun" in said.err
        assert f"run {runs[who]};" in said.err
        assert f"trials  {'3 of 3' if who == 'bob' else '2 of 2'} done" in hpo("show", "mine").out
    # A run that is none of the study's, as in an MLflow project that resumes one, chooses nothing.
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    monkeypatch.setenv("HPO_HOME", str(tracked.folder / "third"))
    assert f"run {runs['bob']};" in hpo("resume", "mine").err
