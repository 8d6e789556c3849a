"""What rungs compare, and rungs at which no trial paused: some were left out, or the strategy is another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from hpo_core import Segment, Study, TrialState
from hpo_core._strategies import compose
from hpo_core._strategy import Close, Finish, Resume, Scheduler, Start
from hpo_core.samplers import Random
from hpo_core.schedulers import ASHA, ASHAStopping, Full, Hyperband, Levels, SuccessiveHalving
from hpo_core.schedulers._criterion import Criterion, usable
from hpo_core.schedulers._ladder import Ladder, why_paused
from tests.hpo_core.scheduler_loop import ask, make_study


def reported(study: Study, reports: Mapping[int, float]) -> int:
    """A trial with these results by step, still running."""
    trial = study.ask()
    for step, value in reports.items():
        study.report(trial, step, value)
    return trial.number


def ladder_of(study: Study, steps: Sequence[int], criterion: Criterion | None = None) -> Ladder:
    return Ladder(study.history, [steps], (criterion or Criterion()).bind(study.history))


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
    trial = study.ask()
    study.report(trial, 3, {"seconds": 1.0})
    study.execution.finish(trial, 0.8)
    low, high = reversed(ladder_of(study, (1, 3, 9)).descending)
    assert low.ranking.first(5) == [3, 4, 1, 0, 2]
    assert high.ranking.first(5) == [3, 4, 0, 2, 1]


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


@pytest.mark.parametrize(("left", "says"), [(1, "1 paused trial ranks"), (2, "2 paused trials rank")])
def test_how_many_rank_too_low_is_said_in_good_english(left: int, says: str) -> None:
    study, _ = make_study(ASHA(timed=False), limits={"trials": 3})
    for value in (0.1, 0.2, 0.3)[: left + 1]:
        study.tell(study.ask(), value)
    if left == 1:
        study.tell(study.ask(), state="failed")
    while isinstance(action := ask(study), Resume):
        study.tell(study.ask(), 0.1)
    assert action == Finish(f"every trial of the plan has been started; {says} too low to go on")


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


def test_what_a_rung_compares_by_the_rule_of_the_study() -> None:
    """The rung's own report is one of them, and a trial whose newest is no number has diverged."""
    study, _ = make_study(Full(), settings={"max_steps": 9, "rule": "best"})
    scores = Criterion().bind(study.history)
    for reports, by_step in (
        ({1: 0.5, 3: 0.2, 9: 0.3}, {1: 0.5, 2: 0.5, 3: 0.2, 9: 0.2}),
        ({2: 0.1, 3: 0.4}, {3: 0.1}),
    ):
        trial = reported(study, reports)
        assert {step: scores.by_rule(study.history, trial, step) for step in by_step} == {
            step: (value,) for step, value in by_step.items()
        }
    diverged = reported(study, {1: 0.5, 3: float("nan")})
    assert not usable(scores.by_rule(study.history, diverged, 3))
    assert scores.by_rule(study.history, trial, 1) is None


def test_a_complete_trial_is_ranked_by_its_newest_report_of_another_metric() -> None:
    study, _ = make_study(Full())
    for size in (1.0, 3.0, 2.0):
        trial = study.ask()
        study.report(trial, 1, {"loss": 0.5, "size": size})
        study.execution.finish(trial, 0.5)
    (high, low) = ladder_of(study, (1, 3, 9), Criterion("size", "max")).descending
    assert [rung.ranking.first(3) for rung in (high, low)] == [[1, 2, 0], [1, 2, 0]]


@pytest.mark.parametrize(("result", "going"), [(0.1, [0]), (0.9, [0, 1])])
def test_a_trial_that_ended_before_its_rung_holds_its_place_if_its_result_does(
    result: float, going: list[int]
) -> None:
    """Of four, two go on; the last one came to its end without a pause."""
    study, _ = make_study(SuccessiveHalving(trials=4, eta=2), limits={"trials": 4}, settings={"max_steps": 4})
    for value in (0.2, 0.3, 0.4):
        study.tell(study.ask(), value)
    study.tell(study.ask(), result, step=0)
    sent = []
    while isinstance(study.execution.next(), Segment):
        sent.append(study.ask().number)
    assert sent == going


def test_who_waits_for_a_rung_is_told_how_full_it_is_while_more_will_come() -> None:
    study, _ = make_study(SuccessiveHalving(trials=4, eta=2), limits={"trials": 3}, settings={"max_steps": 4})
    study.tell(study.ask(), 0.5)
    assert study.why(0).endswith("; its rung has 1 of 4 trials")
    for value in (0.3, 0.4):
        study.tell(study.ask(), value)
    assert study.why(0).endswith("; its rung is complete, and it goes on or ends when a worker next asks")


@pytest.mark.parametrize(("rounds", "trials"), [(1, 15), (2, 30), (None, 15)])
def test_a_plan_of_brackets_has_so_many_rounds(rounds: int | None, trials: int) -> None:
    """9, 3 and 3 configurations; without an end the plan is that of one round."""
    hyperband = Hyperband(rounds=rounds)
    plan = hyperband.explain(None, 9)
    assert plan.total_trials == trials
    assert ("and again" in plan.lines[-1]) == (rounds is None)
    assert hyperband.explain(100, 9).total_trials == (trials if rounds else 100)
    study, _ = make_study(hyperband, limits={})
    targets: list[int | None] = []
    while len(targets) < 45 and isinstance(action := ask(study), Start):
        targets.append(action.target)
        study.tell(study.ask(), state="failed")
    assert targets == (rounds or 3) * [*9 * [1], *3 * [3], *3 * [None]]


def test_a_bracket_that_gets_the_rest_of_its_trials_is_not_decided_without_them() -> None:
    """It was cut short, and about to let the best of three go on."""
    study, journal = make_study(
        SuccessiveHalving(trials=4, eta=2), limits={"trials": 3}, settings={"max_steps": 4}
    )
    for value in (0.2, 0.3, 0.4):
        study.tell(study.ask(), value)
    assert ask(study) == Resume(0, 2)
    study.extend(trials=4)
    assert ask(study) == ask(Study.replay(journal.events())) == Start(target=1)
    study.tell(study.ask(), 0.1)
    assert [study.ask().number, study.ask().number] == [3, 0]


def test_of_two_brackets_the_older_one_goes_on_first() -> None:
    study, _ = make_study(SuccessiveHalving(trials=2, eta=2), settings={"max_steps": 2})
    trials = [study.ask() for _ in range(4)]
    assert [t.bracket for t in study.trials] == [0, 0, 1, 1]
    for trial in reversed(trials):
        study.tell(trial, 0.1 * trial.number)
    assert [study.ask().number, study.ask().number] == [0, 2]


def test_a_bracket_begins_with_as_many_as_leave_one() -> None:
    assert [row[2:] for row in SuccessiveHalving().explain(None, 9).rungs] == [(9, 1), (3, 3), (1, 9)]
    assert SuccessiveHalving(max_steps=9).explain(None, 81) == SuccessiveHalving().explain(None, 9), "its own"
