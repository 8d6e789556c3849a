"""A study that is broken off on one machine and goes on, with what it has learned, on another."""

from __future__ import annotations

import pytest

from hpo_core import TrialState
from tests.flows.conftest import Hpo, Place

# On the first machine it asks for its own end once it has saved something, and waits for that.
OBJECTIVE = """
import os, time
from pathlib import Path

def counted(trial):
    began = trial.checkpoint.load()[0] if trial.checkpoint else 0
    home = Path(os.environ.get("HPO_HOME", ".hpo"))
    trial.suggest_float("x", 0.0, 1.0)
    for step in trial.steps(6):
        trial.save(step, [step])
        trial.report(step, loss=1.0 / step)
        if step == 3 and home.name != "elsewhere":
            (home / "studies" / "mine" / "cancel").touch()
            while not trial.should_stop:
                time.sleep(0.01)
    Path(f"began-{trial.number}").write_text(str(began))
    return 0.1
"""


@pytest.mark.parametrize(("uploaded", "began"), [("kept", 3), ("best", 0)])
def test_trials_go_on_elsewhere_from_what_was_uploaded(
    uploaded: str, began: int, tracked: Place, hpo: Hpo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow had the best trials' checkpoints only, and no option to have it get those that are needed."""
    (tracked.folder / "counted_steps.py").write_text(OBJECTIVE)
    terms = ["--strategy", "random", "--trials", 2, "--workers", 1, "--isolation", "thread"]
    terms += ["--metric", "loss=min", "--upload-checkpoints", uploaded]
    first = hpo("tune", "counted_steps.py:counted", "--name", "mine", *terms)
    assert "cancelled" in first.out + first.err
    monkeypatch.setenv("HPO_HOME", str(tracked.folder / "elsewhere"))
    again = hpo("resume", "mine")
    assert again.code == 0
    assert f"fetched study mine and {int(began > 0)} checkpoints from MLflow" in again.out + again.err
    study = tracked.study("../../elsewhere/studies/mine")
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 2
    assert [(tracked.folder / f"began-{trial}").read_text() for trial in range(2)] == [str(began), "0"]
