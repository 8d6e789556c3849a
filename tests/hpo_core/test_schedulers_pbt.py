"""Population based training: who copies whom, what changes, where models come from."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo_core import (
    Float,
    InputError,
    StrategyError,
    Study,
    StudyStateError,
    TrialState,
)
from hpo_core._strategies import compose
from hpo_core._strategy import Finish, Fork, Resume, Start, Wait
from hpo_core.samplers import Random
from hpo_core.schedulers import PBT
from hpo_core.schedulers._criterion import Criterion
from hpo_core.schedulers._pbt import Population, _intervals
from hpo_core.schedulers._pbt_bandit import MOST
from hpo_core.schedules import Recorded, followed, lineage
from hpo_core.simulate import Faults, simulate
from hpo_core.testing import Script
from tests.hpo_core.scheduler_loop import ask, make_study, play


class Toy:
    """Jaderberg 2017, section 4.1: ascend Q = 1.2 - |theta|^2 where a configuration moves only some
    coordinates.
    """

    def start(self, params: Mapping[str, Any], seed: int, state: Any) -> Toy:
        self = Toy()
        self.rate = 0.02 * np.array([params["x"], params["y"]])
        self.theta = np.full(2, 0.9) if state is None else state.copy()
        return self

    def advance(self, step: int) -> tuple[float, float]:
        self.theta = self.theta - self.rate * self.theta
        return 1.0, float((self.theta**2).sum())

    def save(self) -> np.ndarray:
        return self.theta.copy()


def toy_study(scheduler: PBT, trials: int = 8, seed: int = 0, **options: Any) -> Study:
    study, _ = make_study(
        scheduler, seed=seed, limits={"trials": trials}, settings={"max_steps": 100}, **options
    )
    return study


def losses(scheduler: Any, seeds: int = 4, trials: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """(seeds,) the best loss of a population, and (seeds, trials) those of its first members left alone."""
    found, alone = [], []
    for seed in range(seeds):
        study = toy_study(scheduler, trials, seed)
        simulate(study, Toy(), workers=3, steps=100)
        fixed = Study(
            study.space, strategy="random", seed=seed, limits={"trials": trials}, settings={"max_steps": 100}
        )
        simulate(fixed, Toy(), workers=3, steps=100)
        assert study.state.steps_spent <= fixed.state.steps_spent
        found.append(study.best.values["loss"])
        alone.append([t.values["loss"] for t in fixed.trials])
    return np.array(found), np.array(alone)


@pytest.mark.parametrize(
    "options", [{}, {"exploit": "tournament"}, {"explore": "resample"}, {"explore": "model"}]
)
def test_a_population_beats_its_own_configurations(options: dict[str, Any]) -> None:
    """On the paper's toy problem, in at most as many steps, in every variant: by far the mean member.

    By perturbation and by the model, which build on what is good, also the best one.
    """
    found, alone = losses(PBT(interval=10, **options))
    assert (found < alone.mean(axis=1)).all()
    if options.get("explore") != "resample":
        assert np.log(found).mean() < np.log(alone.min(axis=1)).mean()


@pytest.mark.parametrize("straggle", [0.0, 0.5])
def test_forks_start_at_checkpoints_that_exist(straggle: float) -> None:
    """A fork's source had paused, with a checkpoint, at the fork's first step; training never goes
    backwards, though some members are ahead of others.
    """
    study = toy_study(PBT(interval=10))
    simulate(study, Toy(), workers=8, steps=100, faults=Faults(straggle=straggle, slowdown=3.0))
    forks = [t for t in study.trials if t.parent is not None]
    assert forks
    for fork in forks:
        assert fork.parent is not None
        assert fork.start_step in study.trials[fork.parent].checkpoints
        replaced = int(fork.note.split("replaces trial ")[1].split(";")[0].split(",")[0])
        assert study.trials[replaced].step <= fork.start_step
        assert study.trials[replaced].bracket == fork.bracket
        assert study.trials[replaced].state is TrialState.PRUNED
        assert f"replaced by trial {fork.number}" in study.trials[replaced].reason
    complete = [t for t in study.trials if t.state is TrialState.COMPLETE]
    assert len(complete) == 8
    assert sorted(t.bracket for t in complete) == list(range(8))


def test_truncation_replaces_the_worst_by_the_best() -> None:
    """Five members at step 2: the worst becomes a fork of the best, the others go on."""
    study = toy_study(PBT(population=5, interval=2), trials=5)
    trials = [study.ask() for _ in range(5)]
    for trial, value in zip(trials, (0.5, 0.1, 0.9, 0.4, 0.3), strict=True):
        study.tell(trial, value)
    going = [study.ask().number for _ in range(5)]
    assert going == [0, 1, 5, 3, 4]
    fork = study.trials[5]
    assert (fork.parent, fork.start_step, fork.bracket, fork.target) == (1, 2, 2, 4)
    assert study.trials[2].state is TrialState.PRUNED
    assert study.trials[2].reason == "replaced by trial 5, a fork of trial 1"
    assert isinstance(ask(study), Wait)


@pytest.mark.parametrize("exploit", [0.2, "tournament"])
def test_a_fork_that_has_not_trained_yet_keeps_nobody_from_copying_its_source(exploit: Any) -> None:
    """It stands beside its source among the best, and of equals the first place came first."""
    for seed in range(5):
        study = toy_study(PBT(population=3, interval=2, exploit=exploit), trials=3, seed=seed)
        trials = [study.ask() for _ in range(3)]
        for trial, value in zip(trials, (0.9, 0.1, 0.8), strict=True):
            study.tell(trial, value)
        assert study.ask().parent in (1, 2)
        assert study.ask().number == 1
        assert study.ask().parent == 1


@pytest.mark.parametrize(("place", "replaced"), [(70, False), (71, True)])
def test_the_share_that_is_replaced_is_the_decimal_that_was_written(place: int, replaced: bool) -> None:
    """0.29 of 100 members are 29; in doubles it was 28."""
    study = toy_study(PBT(population=100, interval=2, exploit=0.29), trials=100)
    trials = [study.ask() for _ in range(100)]
    for trial in trials:
        study.tell(trial, float(trial.number or place + 0.5))
    assert isinstance(ask(study), Fork if replaced else Resume)


def test_who_was_replaced_and_who_has_no_result_can_be_asked_why() -> None:
    study = toy_study(PBT(population=2, interval=2), trials=2)
    for value in (0.1, 0.9):
        pause(study, 2, loss=value)
    study.ask()
    assert study.ask().parent == 0
    assert study.why(1) == "it was replaced by trial 2 and ends when a worker next asks"
    study = toy_study(PBT(population=2, interval=2, metric="m", direction="min"), trials=2)
    pause(study, 2)
    assert study.why(0).startswith("it has ended an interval at step 2; it goes on, or is")


def test_the_tournament_asks_one_other_member() -> None:
    """The best never copies; the worst always does, whoever it meets."""
    for seed in range(5):
        study = toy_study(PBT(population=4, interval=2, exploit="tournament"), trials=4, seed=seed)
        for value in (0.1, 0.9):
            study.tell(study.ask(), value)
        first, second = study.ask(), study.ask()
        study.tell(first, 0.5)
        study.tell(second, 0.6)
        assert ask(study) == Resume(0, 4)
        study.ask()
        assert isinstance(ask(study), Fork)


def test_a_member_that_fails_is_replaced_once_others_have_a_checkpoint() -> None:
    """First nothing can be copied, so the place stays empty; then a fork takes it; a second failure
    ends it.
    """
    study = toy_study(PBT(population=3, interval=10), trials=3)
    first, second, third = (study.ask() for _ in range(3))
    study.tell(first, state="failed")
    assert isinstance(ask(study), Wait)
    study.tell(second, 0.5)
    study.ask()
    action = ask(study)
    assert isinstance(action, Fork)
    assert (action.source, action.bracket) == (1, 0)
    fork = study.ask()
    assert fork.parent == 1
    # Forks come on top of what was planned; it read "33 of 14 trials".
    assert (study.history.planned, study.history.n_trials, study.history.trials_left) == (4, 4, 0)
    study.tell(fork, state="failed")
    study.tell(third, 0.4)
    assert ask(study) == Resume(third.number, 20)
    study.ask()
    assert isinstance(ask(study), Wait)


def test_a_place_is_given_up_only_where_two_in_a_row_have_come_to_nothing() -> None:
    """A replacement that ended an interval is replaced as well, and not by one that has trained less."""
    study = toy_study(PBT(population=2, interval=10), trials=2)
    first, second = study.ask(), study.ask().number
    study.tell(first, state="failed")
    study.report(second, 10, 0.5)
    study.execution.paused(second)
    study.ask()
    fork = study.ask()
    assert (fork.parent, fork.start_step, fork.target) == (second, 10, 20)
    study.report(fork, 20, 0.4)
    study.execution.paused(fork)
    assert study.ask().number == fork.number
    study.tell(fork.number, state="failed")
    assert isinstance(ask(study), Wait), "the other one is at step 10"
    study.report(second, 20, 0.4)
    study.execution.paused(second)
    study.ask()
    action = ask(study)
    assert isinstance(action, Fork)
    assert (action.source, action.step, action.bracket) == (second, 20, 0)


@pytest.mark.parametrize(("exploit", "able"), [(0.2, {0}), (0.5, {0, 1, 2}), ("tournament", {0, 1, 2})])
def test_a_failed_member_is_replaced_by_one_of_the_best(exploit: Any, able: set[int]) -> None:
    sources = set()
    for seed in range(8):
        study = toy_study(PBT(population=7, interval=2, exploit=exploit), trials=7, seed=seed)
        members = [study.ask().number for _ in range(7)]
        # The worst first, so that nobody is replaced but the one that failed.
        for number in reversed(members[:-1]):
            study.report(number, 2, 0.1 * number)
            study.execution.paused(number)
            assert ask(study) == Resume(number, 4)
            study.ask()
        study.tell(members[-1], state="failed")
        action = ask(study)
        assert isinstance(action, Fork)
        assert "which failed" in action.note
        sources.add(action.source)
    assert sources <= able
    assert len(sources) > 1 or len(able) == 1


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10**6), population=st.integers(2, 9), workers=st.integers(1, 9),
    crash=st.sampled_from([0.0, 0.2, 1.0]), vanish=st.sampled_from([0.0, 0.3]),
)  # fmt: skip
def test_populations_end_whatever_fails(
    seed: int, population: int, workers: int, crash: float, vanish: float
) -> None:
    """Each place costs at most three attempts for each interval, even when every segment crashes."""
    study = toy_study(PBT(interval=20), trials=population, seed=seed)
    faults = Faults(crash=crash, vanish=vanish, nan=crash / 2, seed=seed)
    simulate(study, Toy(), workers=workers, steps=100, faults=faults)
    assert len(study.trials) <= population * 3 * 5
    assert study.history.count(TrialState.PAUSED) == 0
    assert study.state.steps_spent <= population * 3 * 100


def test_lineage_and_the_schedule_that_the_winner_followed() -> None:
    """Stretches join up from step 0 to the end, and replaying the schedule gives the winner's very result."""
    study = toy_study(PBT(interval=5), seed=3)
    simulate(study, Toy(), workers=4, steps=100)
    stretches = lineage(study)
    assert stretches[0].start == 0
    assert stretches[-1].end == 100
    assert len(stretches) > 1
    assert all(a.end == b.start for a, b in itertools.pairwise(stretches))
    assert stretches[-1].trial == study.best.number
    assert stretches[-1].params == study.best.params

    schedule = Recorded.from_json(followed(study).to_json())
    theta = np.full(2, 0.9)
    for step in range(1, 101):
        params = schedule(step)
        assert params["x"] == schedule.of("x")(step)
        theta = theta - 0.02 * np.array([params["x"], params["y"]]) * theta
    assert float((theta**2).sum()) == pytest.approx(study.best.values["loss"], rel=1e-12)

    alone = lineage(study, 0)
    assert [(s.trial, s.start) for s in alone] == [(0, 0)]
    with pytest.raises(InputError, match="'z'"):
        schedule.of("z")
    with pytest.raises(StudyStateError):
        lineage(study, 10_000)


def test_the_best_lineage_is_replayed_from_the_journal_alone() -> None:
    """Lineage survives a restart: it is in the events."""
    study, journal = make_study(PBT(interval=3), limits={"trials": 6})
    play(study, Script(seed=1, trouble=0.0, asides=0.0))
    assert lineage(Study.replay(journal.events())) == lineage(study)


def test_a_member_that_somebody_cancelled_is_not_replaced() -> None:
    study = toy_study(PBT(population=3, interval=10), trials=3)
    first, second, _ = (study.ask() for _ in range(3))
    study.tell(second, 0.5)
    study.tell(first, state="cancelled")
    study.ask()
    assert isinstance(ask(study), Wait)


def pause(study: Study, step: int, **metrics: float) -> int:
    """The next segment, reported and paused at its target; the trial's number."""
    number = study.ask().number
    study.report(number, step, {"loss": 0.5, **metrics})
    study.execution.paused(number)
    return number


def test_the_best_of_two_is_copied_but_not_once_it_is_complete() -> None:
    """Its checkpoint is that of an interval before; what it came to since cannot be gone on from."""
    study = toy_study(PBT(population=2, interval=50), trials=2)
    for value in (0.1, 0.9):
        pause(study, 50, loss=value)
    assert ask(study) == Resume(0, None)
    study.tell(study.ask(), 0.05)
    assert ask(study) == Resume(1, None)
    study = toy_study(PBT(population=2, interval=50), trials=2)
    for value in (0.1, 0.9):
        pause(study, 50, loss=value)
    study.ask()
    assert isinstance(ask(study), Fork)


def test_members_stand_where_their_last_result_puts_them() -> None:
    """A complete one by its end, and one that failed nowhere, whatever it was before."""
    study = toy_study(PBT(population=3, interval=50, exploit=0.5), trials=3)
    first, second, third = (study.ask().number for _ in range(3))
    for number, value in ((first, 0.3), (second, 0.2), (third, 0.1)):
        study.report(number, 50, value)
        study.execution.paused(number)
        if number < third:
            assert study.ask().number == number
    assert "ranked 1 of 3 members" in study.why(third)
    study.tell(first, 0.05)
    assert "ranked 2 of 3 members" in study.why(third)
    study.tell(second, state="failed")
    assert "ranked 2 of 2 members" in study.why(third)


def test_a_member_that_breaks_a_bound_copies_one_that_keeps_it() -> None:
    """Whatever its objective; and a fork stands where its source stood."""
    settings = {"max_steps": 100, "outcome_constraints": ["ms <= 10"]}
    study, _ = make_study(PBT(population=3, interval=50), limits={"trials": 3}, settings=settings)
    for loss, ms in ((0.1, 30.0), (0.9, 5.0), (0.2, 20.0)):
        pause(study, 50, loss=loss, ms=ms)
    assert [study.why(trial).partition("ranked ")[2][0] for trial in range(3)] == ["3", "1", "2"]
    fork = study.ask().number
    assert int(study.history.parents[fork]) == 1
    assert "ranked 3 of 3" in study.why(2)


def test_members_without_a_number_come_last_and_are_never_copied() -> None:
    metric = {"metric": "m", "direction": "max"}
    study = toy_study(PBT(population=3, interval=2, **metric), trials=3)
    for value in (0.5, math.nan, 0.6):
        pause(study, 2, m=value)
    assert ask(study) == Resume(0, 4)
    study.ask()
    fork = ask(study)
    assert isinstance(fork, Fork)
    assert fork.source == 2
    for nothing in ({"m": math.nan}, {}):
        study = toy_study(PBT(population=2, interval=2, exploit=0.5, **metric), trials=2)
        for _ in range(2):
            pause(study, 2, **nothing)
        assert [ask(study), study.ask().number, ask(study)] == [Resume(0, 4), 0, Resume(1, 4)]
    study = toy_study(PBT(population=3, interval=2, exploit=0.5, **metric), trials=3)
    for metrics in ({}, {"m": 0.5}, {"m": 0.6}):
        pause(study, 2, **metrics)
    assert ask(study) == Resume(0, 4), "it was never told"


def test_who_has_trained_least_goes_on_first() -> None:
    study = toy_study(PBT(population=2, interval=2), trials=2)
    slow = study.ask()
    ahead = study.ask().number
    study.report(ahead, 2, 0.5)
    study.execution.paused(ahead)
    assert pause(study, 4, loss=0.5) == ahead
    study.report(slow, 2, 0.1)
    study.execution.paused(slow)
    assert study.history.in_state(TrialState.PAUSED).tolist() == [ahead, slow.number]
    assert ask(study) == Resume(slow.number, 4)


@pytest.mark.parametrize(("population", "limit", "size"), [(None, 20, 20), (2, 5, 2), (4, 2, 2)])
def test_a_population_has_as_many_members_as_were_asked_for_and_the_limit_allows(
    population: int | None, limit: int, size: int
) -> None:
    study = toy_study(PBT(population=population, interval=2), trials=limit)
    for _ in range(size):
        assert isinstance(ask(study), Start)
        pause(study, 2)
    assert study.trials[-1].bracket == size - 1
    assert isinstance(ask(study), Resume)


def test_any_of_the_better_half_is_copied() -> None:
    """By chance, so that a population does not become one family at once."""
    sources = set()
    for seed in range(8):
        study = toy_study(PBT(population=6, interval=2, exploit=0.5), trials=6, seed=seed)
        for value in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6):
            pause(study, 2, loss=value)
        for _ in range(3):
            study.ask()
        fork = ask(study)
        assert isinstance(fork, Fork)
        sources.add(fork.source)
    assert len(sources) > 1
    assert sources <= {0, 1, 2}


def test_the_model_learns_from_every_interval_with_a_result_at_either_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first interval of a fork begins with its source's result; of a fresh trial it has none."""
    study = toy_study(PBT(interval=10))
    simulate(study, Toy(), workers=3, steps=100)
    history = study.history

    def loss(trial: int, step: int) -> float:
        record = study.trials[trial]
        if step <= record.start_step:
            assert record.parent is not None
            return loss(record.parent, step)
        known = {int(history.reports.steps[row]): row for row in history.reports_of(trial)}
        return float(history.reports.values[known[step], 0])

    expected = [
        (step / 10, loss(t.number, step) - loss(t.number, step + 10), *history.X[t.number])
        for t in study.trials
        for step in range(
            max(t.start_step, 0 if t.parent is not None else 10), int(history.pauses[t.number]), 10
        )
    ]
    scores = Criterion().bind(history)
    seen = _intervals(history, Population(scores, 10), [0, 1])
    assert 10 < len(expected) < MOST
    assert any(t.parent is not None for t in study.trials)
    found = np.column_stack([seen.time, seen.gain, seen.u])
    np.testing.assert_allclose(found, np.array(expected))
    monkeypatch.setattr("hpo_core.schedulers._pbt.MOST", 5)
    newest = _intervals(history, Population(scores, 10), [0, 1])
    np.testing.assert_array_equal(newest.gain, seen.gain[-5:])


def test_a_plan_names_members_and_intervals() -> None:
    plan = PBT().explain(4, 100)
    assert plan.lines[0] == "4 members train 100 steps in 10 intervals of 10"
    assert plan.rungs[-1] == (0, 9, 4, 100)
    assert PBT().explain(4, 5).lines[0] == "4 members train 5 steps in 5 intervals of 1"
    assert PBT(population=9).explain(4, 25).total_trials == 4
    assert PBT(population=3).explain(4, 25).total_steps == 75
    assert PBT().explain(None, 100).total_trials == 16
    assert PBT().explain(1, 5).lines[0] == "1 member trains 5 steps in 5 intervals of 1"


@pytest.mark.parametrize(("population", "unused"), [(3, True), (5, False), (9, False)])
def test_a_population_smaller_than_the_limit_says_that_trials_are_left(population: int, unused: bool) -> None:
    """A study of ten trials and a population of five ended at 5 of 10, without a word of the others."""
    study, _ = make_study(PBT(population=population), limits={"trials": 5}, settings={"max_steps": 4})
    said = "2 of 5 trials are not used: the population is 3, and forks do not count"
    assert (said in study.strategy.explain(5, 4).lines) == unused
    play(study, Script(max_steps=4, trouble=0.0, asides=0.0))
    due = study.execution.next()
    assert isinstance(due, Finish)
    assert (
        due.reason
        == f"all {min(population, 5)} members have been trained to their end" + f"; {said}" * unused
    )


def test_what_pbt_takes() -> None:
    assert PBT(parameters=["x"]).parameters == ("x",)
    PBT(explore="model", metric="a").check(2, 100)
    Study(None, strategy=compose(Random(), PBT(parameters=["later"])), settings={"max_steps": 10})


def test_what_pbt_refuses() -> None:
    """Options that mean nothing, unknown parameters, and an interval as long as the run."""
    wrong: list[dict[str, Any]] = [
        *({"exploit": exploit} for exploit in (0.7, 0.0, "best")),
        *({"explore": "guess"}, {"population": 1}, {"interval": 0}, {"direction": "max"}),
    ]
    for options in wrong:
        with pytest.raises(StrategyError):
            PBT(**options)
    with pytest.raises(StrategyError, match="interval"):
        PBT(interval=9).check(1, 9)
    with pytest.raises(StrategyError, match="max_steps"):
        PBT().check(1, None)
    with pytest.raises(StrategyError, match="metric="):
        PBT(explore="model").check(2, 100)
    with pytest.raises(StrategyError, match="did you mean 'x'"):
        Study(
            {"x": Float(0, 1)}, strategy=compose(Random(), PBT(parameters=["X"])), settings={"max_steps": 10}
        )
