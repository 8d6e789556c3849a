"""Rungs that are not those at which trials paused: some were left out since, or the strategy is another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from hpo_core import Study, TrialState
from hpo_core._strategies import compose
from hpo_core._strategy import Close, Resume, Scheduler
from hpo_core.samplers import Random
from hpo_core.schedulers import ASHA, ASHAStopping, Full, Levels
from hpo_core.schedulers._criterion import Criterion
from hpo_core.schedulers._ladder import Ladder, why_paused
from tests.hpo_core.scheduler_loop import ask, make_study


def reported(study: Study, reports: Mapping[int, float]) -> int:
    """A trial with these results by step, still running."""
    trial = study.ask()
    for step, value in reports.items():
        study.report(trial, step, value)
    return trial.number


def ladder_of(study: Study, steps: Sequence[int]) -> Ladder:
    return Ladder(study.history, [steps], Criterion().bind(study.history))


def test_a_complete_trial_stands_at_each_rung_by_what_it_reported_there() -> None:
    """Wherever it has got to without a pause; one that only returned its result stands by that."""
    study, _ = make_study(Full())
    for reports, result in (
        ({1: 5.0, 3: 1.0}, 9.0),
        ({1: 4.0, 3: 2.0}, 0.5),
        ({1: 6.0, 3: 1.5}, 0.1),
        ({}, 0.7),
    ):
        study.execution.finish(reported(study, reports), result)
    low, high = reversed(ladder_of(study, (1, 3, 9)).descending)
    assert low.ranking.first(4) == [3, 1, 0, 2]
    # The last one says at which step it ended as little as at which it was how good.
    assert high.ranking.first(4) == [3, 0, 2, 1]


def test_a_trial_that_ran_beyond_its_target_to_its_end_stands_at_the_rungs_on_its_way() -> None:
    study, _ = make_study(ASHA(timed=False))
    trial = reported(study, {1: 0.5, 3: 0.4})
    study.tell(trial, 0.3, step=3)
    assert (study.trials[trial].state, study.trials[trial].target) == (TrialState.COMPLETE, 1)
    assert [rung.ranking.first(2) for rung in ladder_of(study, (1, 3, 9)).descending] == [[trial], [trial]]
    assert [len(rung.ranking) for rung in ladder_of(study, (1, 4, 9)).descending] == [0, 1]


def test_where_a_trial_waits_whose_rung_was_left_out_can_be_asked() -> None:
    study, _ = make_study(ASHA(timed=False, min_steps=3))
    for value in (0.5, 0.4):
        study.tell(study.ask(), value)

    def why(*steps: int) -> str:
        return why_paused(ladder_of(study, steps), study.history, 0, lambda rung, rank: "")

    assert why(1, 3, 9).startswith("it is paused at step 3 (bracket 0, rung 1), ranked 2 of 2")
    assert why(1, 9).startswith("it is paused at step 3 (bracket 0, rung 0, compared at step 1)")
    assert why(5, 9) == "it is paused at step 3, which is no rung; it ends when the study does"


def test_that_no_more_trials_will_come_is_said_once_none_runs() -> None:
    study, _ = make_study(ASHA(timed=False), limits={"trials": 3})
    study.tell(study.ask(), 0.5)
    for _ in range(2):
        study.ask()
    assert "no more trials" not in study.why(0)
    for trial in (1, 2):
        study.tell(trial, state="failed")
    assert study.ask().number == 0, "of three it is the best"
    study.execution.finish(0, state="failed")
    study.extend(trials=4)
    study.tell(study.ask(), 0.5)
    assert study.why(3).endswith("; no more trials will come")


@pytest.mark.parametrize(
    ("scheduler", "fewer"),
    [
        (ASHA(eta=2, brackets=3), ASHA(eta=2)),
        (ASHAStopping(eta=2, brackets=3), ASHAStopping(eta=2, brackets=2)),
    ],
    ids=["promotion", "stopping"],
)
def test_a_study_goes_on_with_fewer_brackets_than_it_had(scheduler: Scheduler, fewer: Scheduler) -> None:
    """Trials of a bracket that there is no more are compared with those of the last one."""
    study, journal = make_study(scheduler)
    trials = [study.ask() for _ in range(6)]
    assert max(t.bracket for t in study.trials) == 2
    again = Study.replay(journal.events(), strategy=compose(Random(), fewer))
    for trial in trials:
        again.report(trial.number, 4, 0.5)
    assert not isinstance(ask(again), Close)
    assert again.why(5)
    for trial in trials:
        if trial.target == 4:
            again.execution.paused(trial.number)
            assert "bracket 0, rung 2" in again.why(trial.number)


def test_a_single_level_runs_trials_to_their_ends() -> None:
    """One that was paused under another strategy, or when it was cancelled, goes on first."""
    study, journal = make_study(ASHA(timed=False), limits={"trials": 2})
    study.tell(study.ask(), 0.5)
    again = Study.replay(journal.events(), strategy=compose(Random(), Levels(levels=(1.0,), shares=(1.0,))))
    assert ask(again) == Resume(0)
    again.tell(again.ask(), 0.4)
    again.tell(again.ask(), 0.3)
    assert "all 2 trials have been started" in repr(again.execution.next())
