"""Whether a name means the study that is there already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows._workspace import Terms, check_before, open_study
from hpo_core import Float, Int, Limits, SearchSpace, Settings, StudyExistsError, TrialState, make_strategy

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
