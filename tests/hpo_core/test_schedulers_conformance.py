"""What must hold of every scheduler, whatever happens to its trials and in whatever order."""

from __future__ import annotations

import copy
import functools
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hpo_core import Float, InputError, SearchSpace, Strategy, StrategyError, Study, TrialState, make_strategy
from hpo_core._strategies import PAIRS, SCHEDULERS, compose
from hpo_core._strategy import Close, Finish, Resume, Scheduler, Start, Wait
from hpo_core.samplers import Grid, Random
from hpo_core.schedulers import (
    ASHA,
    PBT,
    ASHAStopping,
    Full,
    Hyperband,
    Levels,
    Median,
    Patience,
    Percentile,
    Race,
    SuccessiveHalving,
    Threshold,
    Wilcoxon,
)
from hpo_core.testing import Script, check_replays, check_scheduler
from hpo_core.testing._replay import _forgetful, decision
from tests.hpo_core.scheduler_loop import SPACE, ask, make_study, meddle, play

LEVELS: dict[str, Any] = {"levels": (0.2, 0.5, 1.0), "shares": (1.0, 0.5, 0.2)}

MAKERS: dict[str, Callable[[], Scheduler]] = {
    "asha": ASHA,
    "asha with brackets": lambda: ASHA(eta=2, brackets=3, min_steps=1),
    "asha of the paper": lambda: ASHA(timed=False),
    "asha by name": lambda: ASHA(eta=2, metric="objective0"),
    "asha_stopping": lambda: ASHAStopping(eta=2, brackets=2),
    "full": Full,
    "hyperband": Hyperband,
    "hyperband once": lambda: Hyperband(eta=2, rounds=1),
    "levels": lambda: Levels(**LEVELS),
    "median": lambda: Median(startup_trials=2),
    "patience": lambda: Patience(patience=2),
    "pbt": lambda: PBT(population=6, interval=2),
    "pbt tournament": lambda: PBT(interval=3, exploit="tournament", explore="resample", parameters=["x"]),
    "pbt model": lambda: PBT(population=5, interval=1, explore="model"),
    "percentile": lambda: Percentile(percentile=30, startup_trials=2, warmup_steps=1, interval=2),
    "race": lambda: Race(startup_trials=2, p_threshold=0.3),
    "successive_halving": SuccessiveHalving,
    "successive_halving of 5": lambda: SuccessiveHalving(trials=5, eta=2),
    "threshold": lambda: Threshold(metric="objective0", upper=0.5, warmup_steps=1),
    "wilcoxon": Wilcoxon,
}
PAUSING = ("asha", "hyperband", "levels", "pbt", "successive_halving")


@pytest.mark.parametrize("name", MAKERS)
def test_the_shipped_conformance_suite_accepts_it(name: str) -> None:
    """Ends, waits only for what runs, possible actions, one answer, and the same after a replay."""
    check_scheduler(MAKERS[name], elsewhere=0)


def test_another_process_with_another_hash_seed_decides_the_same() -> None:
    """From the journals alone; one process for all schedulers, for most of its time goes into imports."""

    def strategy(name: str) -> Strategy:
        return compose(Random(), MAKERS[name]())

    check_replays(
        {name: functools.partial(strategy, name) for name in MAKERS},
        space=SearchSpace(SPACE),
        objectives={"objective0": "min"},
        trials=20,
        events=150,
        script=Script(max_steps=9),
        every=150,
        elsewhere=3,
    )


@settings(max_examples=100)
@given(
    name=st.sampled_from(sorted(MAKERS)),
    seed=st.integers(0, 10**6),
    workers=st.integers(1, 9),
    trials=st.integers(1, 25),
    max_steps=st.sampled_from([2, 9, 10]),
    m=st.sampled_from([1, 1, 2]),
    trouble=st.sampled_from([0.0, 0.1, 0.5]),
    asides=st.sampled_from([0.0, 0.15]),
    steps=st.sampled_from([None, None, 1, 30, 100]),
)
@example(  # a failed trial that was queued again went beyond the steps that were left
    name="percentile", seed=6, workers=4, trials=5, max_steps=9, m=1, trouble=0.1, asides=0.15, steps=30
)  # fmt: skip
def test_every_study_ends_within_its_budget(
    name: str, seed: int, workers: int, trials: int, max_steps: int, m: int, trouble: float, asides: float,
    steps: int | None,
) -> None:  # fmt: skip
    """Random orders of reports, pauses, failures, NaNs, losses, requeues and enqueued trials."""
    scheduler = MAKERS[name]()
    script = Script(seed=seed, workers=workers, max_steps=max_steps, trouble=trouble, asides=asides)
    try:
        study, _ = make_study(
            scheduler,
            objectives={f"objective{i}": "min" for i in range(m)},
            seed=seed,
            limits={"trials": trials, **({"steps": steps} if steps else {})},
            settings={"max_steps": max_steps, "workers": workers},
        )
    except StrategyError:
        return  # fewer steps than levels, more objectives than it can compare: refused at the start

    def watch() -> None:
        action = ask(study)
        running = study.history.count(TrialState.RUNNING) + study.history.count(TrialState.WAITING)
        assert running or not isinstance(action, Wait), "waits for nothing"
        for trial in study.history.in_state(TrialState.PAUSED).tolist():
            assert study.why(trial)
        if steps is not None:
            assert study.state.steps_spent <= steps

    play(study, script, watch)
    history = study.history
    assert history.n_trials - int((history.parents >= 0).sum()) <= trials
    assert history.count(TrialState.RUNNING) == 0
    # A trial that lost its worker as the last steps were spent is not started again.
    assert steps is not None or history.count(TrialState.WAITING) == 0
    paused = history.in_state(TrialState.PAUSED).tolist()
    assert not paused or name.startswith(("asha", "levels")) or steps is not None
    study.stop()
    assert not len(history.pending)
    assert all(t.reason for t in study.trials if t.state is TrialState.PRUNED)


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_dropping_the_memo_changes_nothing(name: str) -> None:
    """At every decision, a scheduler that has just been made, copied or unpickled says the same."""
    study, _ = make_study(MAKERS[name](), objectives={"objective0": "min"}, limits={"trials": 15})
    own = study.strategy.scheduler
    asked = 0

    def compare() -> None:
        nonlocal asked
        asked += 1
        history = study.history
        rng = [study.created.seed, history.n_trials, 1]
        expected = repr(own.next(history, np.random.default_rng(rng)))
        others = [MAKERS[name](), copy.deepcopy(own)]
        if asked % 10 == 0:
            others.append(pickle.loads(pickle.dumps(own)))
        for other in others:
            assert repr(other.next(history, np.random.default_rng(rng))) == expected
            for trial in history.in_state(TrialState.RUNNING).tolist():
                if history.reports_of(trial):
                    assert repr(other.judge(history, trial)) == repr(own.judge(history, trial))

    play(study, Script(seed=3, trouble=0.2, asides=0.1), compare)


@settings(max_examples=40)
@given(
    name=st.sampled_from(sorted(MAKERS)), seed=st.integers(0, 10**6), m=st.integers(1, 2),
    length=st.integers(20, 200),
)  # fmt: skip
@example(name="asha", seed=230, m=1, length=46)  # failed, queued again and complete before anybody looked
def test_what_is_decided_does_not_depend_on_when_it_was_asked_before(
    name: str, seed: int, m: int, length: int
) -> None:
    """A study that was asked only where its driver had to decides as one that reads of it all at once."""
    objectives = {f"objective{i}": ("max", "min")[i] for i in range(m)}
    script, rng = Script(seed=seed, trouble=0.2, asides=0.0), np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hpo_core.schedulers._percentile._PEERS", 3)
        try:
            study, _ = make_study(MAKERS[name](), objectives=objectives, seed=seed)
        except StrategyError:
            return  # more objectives than it can compare
        while study.history.length < length:
            if rng.random() < 0.25:
                meddle(study, rng)
            if not script.act(study):
                break
        assert decision(study) == decision(_forgetful(study))


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), name=st.sampled_from(PAUSING))
def test_a_budget_that_grows_is_used(seed: int, name: str) -> None:
    """After ``extend`` the study goes on, the bracket that was cut short first, and ends again."""
    scheduler = Levels(**LEVELS) if name == "levels" else MAKERS[name]()
    study, _ = make_study(scheduler, seed=seed, limits={"trials": 5})
    script = Script(seed=seed, trouble=0.1, asides=0.0)
    play(study, script)
    study.extend(trials=17)
    play(study, script)
    configurations = study.history.n_trials - int((study.history.parents >= 0).sum())
    assert configurations == (6 if name == "pbt" else 17)


@settings(max_examples=60)
@given(
    name=st.sampled_from(sorted(MAKERS)), seed=st.integers(0, 10**6), length=st.integers(5, 150),
    reason=st.sampled_from(["", "the time limit of 90 s is used up"]),
    died=st.booleans(), apart=st.booleans(),
)  # fmt: skip
def test_a_study_that_a_limit_has_cut_short_goes_on_where_it_was(
    name: str, seed: int, length: int, reason: str, died: bool, apart: bool
) -> None:
    """Whoever was paused was closed for good: a study extended twice had pruned all, finished none."""
    study, journal = make_study(MAKERS[name](), objectives={"objective0": "min"}, seed=seed)
    script = Script(seed=seed, trouble=0.1)
    while study.history.length < length and script.act(study):
        pass
    paused = study.history.in_state(TrialState.PAUSED).tolist()
    others = {*study.history.pending.tolist()} - {*paused}
    ended = [(t.number, t.state, t.reason) for t in study.trials if t.state.finished]
    for trial in others if apart else ():  # as the driver does before it asks how the study ends
        study.execution.finish(trial, state="cancelled", reason=reason)
    reason = f"no trial is complete: {reason}" if apart else reason
    study.stop(reason=reason)
    assert not len(study.history.pending)
    before = len(journal.lines)
    study.extend(seconds=1e9)
    if died:  # over its first lines, and the next driver ends the study by its old limit
        study = Study.replay(journal.events(before + len(paused) // 2), journal=journal)
        study.stop(reason=reason)
        study.extend(seconds=1e9)
    assert sorted(study.history.in_state(TrialState.PAUSED).tolist()) == sorted(paused)
    assert {*study.history.in_state(TrialState.WAITING).tolist()} == others
    assert [(t.number, t.state, t.reason) for t in study.trials if t.state.finished] == ended
    assert decision(study) == decision(_forgetful(study))
    play(study, script)
    assert isinstance(study.execution.next(), Finish)


@pytest.mark.parametrize("name", ["asha", "hyperband", "levels", "successive_halving", "median", "full"])
def test_an_exhausted_space_ends_like_a_spent_budget(name: str) -> None:
    """A grid of four points under a limit of a hundred: promotions go on, and nothing waits for a fifth."""
    scheduler = Levels(**LEVELS) if name == "levels" else MAKERS[name]()
    space = {"x": Float(0.0, 1.0, step=0.5), "y": Float(0.0, 0.5, step=0.5)}
    study = Study(
        space, strategy=compose(Grid(), scheduler), limits={"trials": 100}, settings={"max_steps": 9}
    )
    play(study, Script(trouble=0.0, asides=0.0))
    assert study.history.n_trials == 6
    assert study.history.count(TrialState.COMPLETE) >= 1
    assert isinstance(study.execution.next(), Finish)


def test_strategies_by_name() -> None:
    """Every registered scheduler is built by its name, alone and with a sampler, and survives JSON."""
    required = {"threshold": {"upper": 1.0}}
    for name in SCHEDULERS:
        options = required.get(name, {})
        strategy = make_strategy({"sampler": "random", "scheduler": {"name": name, **options}})
        assert make_strategy(strategy.config).scheduler == strategy.scheduler
        if not options:
            assert make_strategy(f"random+{name}").scheduler == strategy.scheduler
    for name in PAIRS:
        assert isinstance(make_strategy(name).scheduler, Scheduler)


def test_bohb_is_tpe_over_hyperband() -> None:
    """A composition, not another algorithm: the same decisions as the two parts."""
    bohb = make_strategy("bohb")
    assert type(bohb.scheduler) is Hyperband
    assert type(bohb.sampler).__name__ == "TPE"


def test_a_metric_nobody_can_rank_by_is_refused_before_anything_is_written() -> None:
    """The study's journal stays empty."""
    from hpo_core.testing import Recorder

    for scheduler in (
        ASHA,
        ASHAStopping,
        Hyperband,
        SuccessiveHalving,
        Median,
        Patience,
        Wilcoxon,
        Levels,
        PBT,
    ):
        journal = Recorder()
        with pytest.raises(InputError, match="direction"):
            Study(
                SPACE,
                strategy=compose(Random(), scheduler(metric="accuracy")),
                settings={"max_steps": 10},
                journal=journal,
            )
        assert journal.lines == []


def test_an_objective_is_not_compared_in_the_other_direction() -> None:
    """Named again with its own direction it is what it was."""
    make_study(ASHA(metric="loss", direction="min"), objectives={"loss": "min"})
    with pytest.raises(StrategyError, match="has the other direction than 'max'"):
        make_study(ASHA(metric="loss", direction="max"), objectives={"loss": "min"})


def test_one_named_metric_decides() -> None:
    """Of two metrics in conflict, ASHA promotes by the one it was told to use."""
    study, _ = make_study(ASHA(metric="accuracy", direction="max"), limits={"trials": 3})
    for accuracy in (0.2, 0.9, 0.5):
        trial = study.ask()
        study.tell(trial, {"loss": accuracy, "accuracy": accuracy})
    action = ask(study)
    assert isinstance(action, Resume)
    assert action.trial == 1


def test_reasons_of_paused_trials_tell_their_rank() -> None:
    """``why`` names the rung, the rank and what it would take."""
    study, _ = make_study(ASHA(), limits={"trials": 9})
    for value in (0.3, 0.1, 0.2):
        study.tell(study.ask(), value)
    assert "ranked 3 of 3" in study.why(0)
    assert "best 1 go on" in study.why(0)
    assert "as soon as a worker is free" in study.why(1)
    halving, _ = make_study(SuccessiveHalving(), limits={"trials": 9})
    due = [halving.ask() for _ in range(3)]
    halving.tell(due[0], 0.5)
    assert "2 more trials" in halving.why(0)


def test_nothing_is_closed_or_started_behind_the_studys_back() -> None:
    """Asking a scheduler for its next action leaves the history as it was."""
    study, journal = make_study(Hyperband(), limits={"trials": 9})
    before = len(journal.lines)
    assert isinstance(ask(study), Start)
    assert not isinstance(ask(study), Close)
    assert len(journal.lines) == before
