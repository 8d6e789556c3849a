"""A journal that the first version wrote is read by this one, and says what it said then.

The file in ``data`` is not to be written anew: who changes the format adds another one beside it.
"""

from __future__ import annotations

from pathlib import Path

from hpo_core import Segment, Study, TrialState
from hpo_core._journal import read_journal

VERSION_1 = Path(__file__).parent / "data" / "journal-version-1.jsonl"
STATES = (
    TrialState.PRUNED,
    TrialState.COMPLETE,
    TrialState.WAITING,  # it failed, and is to be run once more
    TrialState.COMPLETE,
    TrialState.PRUNED,
    TrialState.COMPLETE,
)


def old_study() -> Study:
    """The study of the file, opened as the command line opens one."""
    return Study.replay(event for _, event, _ in read_journal(VERSION_1))


def test_a_journal_of_the_first_version_says_the_same() -> None:
    study = old_study()
    assert (study.name, study.objectives) == ("golden", {"loss": "min"})
    assert study.created.version == 1
    limits = study.state.limits
    assert (limits.trials, limits.seconds) == (6, 100.0)
    assert study.space.names == ("rate", "layers", "kind", "width", "fixed")
    assert [trial.state for trial in study.trials] == list(STATES)
    assert study.trials[0].params == {"rate": 0.01, "layers": 2, "kind": "plain", "fixed": 3}
    assert study.trials[2].params["width"] == 0.75
    assert (study.best.number, study.best.values) == (3, {"loss": 0.2 / 3})
    assert (study.trials[1].attempt, study.trials[1].losses) == (3, 1)
    assert study.history.reports.metric("seconds").sum() == 5.5
    assert sorted(study.trials[5].checkpoints) == [1, 2, 3]
    assert study.trials[0].checkpoints == {}
    assert [note.topic for note in study.state.notes] == ["tracking"]


def test_a_study_of_the_first_version_goes_on() -> None:
    study = old_study()
    segment = study.execution.next()
    assert isinstance(segment, Segment)
    assert (segment.trial, segment.attempt) == (2, 2)
    study.execution.started(segment)
    study.report(segment.trial, 1, {"loss": 0.01})
    study.execution.finish(segment.trial, {"loss": 0.01})
    assert study.best.number == 2
