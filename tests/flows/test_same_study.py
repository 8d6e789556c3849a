"""Whether a name means the study that is there already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows._workspace import Terms, check_before, open_study
from hpo_core import Float, Int, Limits, SearchSpace, Settings, StudyExistsError, TrialState, make_strategy
from tests.flows.conftest import Hpo, Place

DECLARED = SearchSpace({"x": Float(0.0, 1.0)})


def terms(space: SearchSpace) -> Terms:
    """A study of random search over the space."""
    fields: dict[str, Any] = {"strategy": make_strategy("random"), "limits": Limits(trials=9)}
    return Terms(name="s", space=space, objectives={"loss": "min"}, seed=0, settings=Settings(), **fields)


def test_what_an_objective_asked_for_beyond_the_declared_space_is_no_other_space(tmp_path: Path) -> None:
    """A study that declares one parameter and suggests another one can be resumed."""
    opened = open_study(terms(DECLARED), now=1.0, home=tmp_path)
    trial = opened.study.ask(2.0)
    opened.study.execution.resolved(trial, {**trial.params, "n": 3}, {"n": Int(1, 5)})
    opened.study.tell(trial, 0.5, now=3.0)
    running = opened.study.ask(4.0)
    opened.journal.close()
    assert not check_before(terms(DECLARED), home=tmp_path)
    again = open_study(terms(DECLARED), now=5.0, home=tmp_path)
    again.journal.close()
    assert again.resumed
    assert "n" in again.study.space.parameters
    assert again.study.trials[running.number].state is TrialState.WAITING
    assert again.study.trials[running.number].losses == 0
    wider = SearchSpace({"x": Float(0.0, 2.0)})
    with pytest.raises(StudyExistsError, match="--edit-space"):
        open_study(terms(wider), now=6.0, home=tmp_path)
    edited = open_study(terms(wider), now=7.0, home=tmp_path, edit=True)
    edited.journal.close()
    assert edited.study.state.declared == wider
    third = open_study(terms(wider), now=8.0, home=tmp_path)
    third.journal.close()
    assert third.resumed


def test_the_best_trial_is_one_that_the_edited_space_can_have(hpo: Hpo, tracked: Place) -> None:
    """A bound that was tightened because of what the best trial cost did not change which model was taken."""
    (tracked.folder / "costly.py").write_text("def loss(trial):\n    return trial.params['x']\n")
    command = (
        "tune",
        "costly.py:loss",
        "--name",
        "mine",
        "--strategy",
        "grid",
        "--offline",
        "--workers",
        1,
        "--isolation",
        "thread",
        "--trials",
    )
    wide, narrow, other = (
        f'{{"x": {{"low": {low}, "high": {low + width}, "step": 0.25}}}}'
        for low, width in ((0.0, 1.0), (0.5, 0.5), (3.0, 1.0))
    )
    assert hpo(*command, 5, "--space", wide).code == 0
    assert tracked.study("mine").best.params == {"x": 0.0}
    said = hpo(*command, 6, "--space", narrow, "--edit-space")
    assert "trials that still fit it are kept; 2 complete trials outside of it no longer rank" in said.out
    assert tracked.study("mine").best.params == {"x": 0.5}
    worst = next(trial.number for trial in tracked.study("mine").trials if trial.params == {"x": 0.0})
    assert "since the search space was edited it lies outside of it" in hpo("why", "mine", worst).out
    said = hpo(*command, 7, "--space", other, "--edit-space")
    assert "complete trials outside of it rank until others are complete" in said.out
    assert tracked.study("mine").best.params["x"] >= 3.0
