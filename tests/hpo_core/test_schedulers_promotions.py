"""Promotions equal those of references that look at the whole journal anew each time and keep nothing."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo_core import Study, StudyFinished, Trial, TrialState
from hpo_core import _events as ev
from hpo_core._pareto import order_by_quality
from hpo_core._states import INFORMATIVE
from hpo_core._strategy import Action, Close, Finish, Resume, Scheduler, Start, Stop, Wait
from hpo_core.schedulers import ASHA, ASHAStopping, Hyperband, Levels, SuccessiveHalving
from hpo_core.schedulers._rungs import hyperband_brackets, rung_steps
from hpo_core.testing import Script
from tests.hpo_core.scheduler_loop import Past, Reader, ask, make_study, play

OPEN = (TrialState.WAITING, TrialState.RUNNING)


class By(NamedTuple):
    """What trials are compared by: these objectives, and whether the last of them keeps a bound."""

    names: list[str]
    bound: float | None = None


def ranked(trials: list[Past], members: list[int], step: float, by: By) -> list[int]:
    """The members that have a finite result at a step, best first, earlier ones first among equals.

    Behind those that keep the bound the others, by how much they break it.
    """
    scores = {t: [trials[t].score(step, n) for n in by.names] for t in members}
    for t in members:
        if max(trials[t].paused_at, default=0) < step and trials[t].state is not TrialState.COMPLETE:
            scores[t] = [np.nan] * len(by.names)
    finite = [t for t in sorted(members) if not np.isnan(scores[t]).any()]
    bound = np.inf if by.bound is None else by.bound
    kept = [t for t in finite if scores[t][-1] <= bound]
    broken = sorted((scores[t][-1], scores[t], t) for t in finite if t not in kept)
    if len(by.names) == 1:
        kept.sort(key=lambda t: (scores[t][0], t))
    elif kept:
        kept = [kept[i] for i in order_by_quality(np.array([scores[t] for t in kept]))]
    return [*kept, *(t for *_, t in broken)]


def rung_members(trials: list[Past], bracket: int, step: int) -> list[int]:
    """Who has paused at a rung, or ended on the way to it."""
    found = []
    for t, trial in enumerate(trials):
        if trial.bracket != bracket:
            continue
        got_there = any(p >= step for p in trial.paused_at)
        ended = trial.state.finished and (
            trial.target >= step or (trial.state is TrialState.COMPLETE and trial.step >= step)
        )
        if got_there or ended:
            found.append(t)
    return found


def rungs_of(steps: list[list[int]]) -> list[tuple[int, int, int]]:
    """(step, next step, bracket) of each rung, the highest first."""
    rungs = [(s, above, b) for b, chain in enumerate(steps) for s, above in pairwise(chain)]
    return sorted(rungs, key=lambda r: (-r[0], r[2]))


def asynchronous(trials: list[Past], steps: list[list[int]], by: By, due: Callable[..., bool]) -> int | None:
    """The trial that ought to be promoted, by Li et al. (2020), algorithm 2: the highest rung first."""
    for step, above, bracket in rungs_of(steps):
        members = rung_members(trials, bracket, step)
        order = ranked(trials, members, step, by)
        promoted = [
            t for t in members if trials[t].target >= above and max(trials[t].paused_at, default=0) >= step
        ]
        for place, t in enumerate(order):
            here = trials[t].state is TrialState.PAUSED and step <= trials[t].target < above
            if here and due(step, place, len(members), len(promoted)):
                return t
            if here:
                break
    return None


def check_asynchronous(
    scheduler: Scheduler,
    steps_after: Callable[[list[Any]], list[list[int]]],
    due: Callable[..., bool],
    **case: object,
) -> None:
    """Play a study at random; before everything that happens, compare with the reference.

    ``steps_after`` tells the steps of each bracket from the events so far.
    """
    objectives = {f"o{i}": "min" for i in range(int(case.pop("m", 1)))}  # type: ignore[call-overload]
    by = By(list(objectives), case.pop("bound", None))  # type: ignore[arg-type]
    script = Script(asides=0.1, max_steps=9, **case)  # type: ignore[arg-type]
    settings = {"max_steps": 9, **bounded(by)}
    study, journal = make_study(scheduler, objectives=objectives, seed=script.seed, settings=settings)
    read = Reader(journal)

    def compare() -> None:
        trials = read()
        steps = steps_after(read.events)
        action = ask(study)
        if isinstance(action, Close):
            at, bracket = trials[action.trial].target, trials[action.trial].bracket
            step = max(s for s in steps[bracket] if s <= at)
            assert np.isnan([trials[action.trial].score(step, n) for n in objectives]).any()
            return
        expected = asynchronous(trials, steps, by, due)
        if expected is not None:
            assert isinstance(action, Resume)
            assert action.trial == expected
            chain = steps[trials[expected].bracket]
            higher = [s for s in chain if s > trials[expected].target]
            assert action.target == (higher[0] if len(higher) > 1 else None)
        elif study.history.trials_left:
            assert isinstance(action, Start)
        elif any(t.state in OPEN for t in trials):
            assert isinstance(action, Wait)
        elif any(t.state is TrialState.COMPLETE for t in trials):
            assert isinstance(action, Finish)
        else:
            last_chance(trials, steps, by, action)

    play(study, script, compare)


def last_chance(trials: list[Past], steps: list[list[int]], by: By, action: Action) -> None:
    """Nothing has come to its end: the best of the highest rung goes on, as long as there is one."""
    for step, above, bracket in rungs_of(steps):
        order = ranked(trials, rung_members(trials, bracket, step), step, by)
        here = [t for t in order if trials[t].state is TrialState.PAUSED and step <= trials[t].target < above]
        if here:
            assert isinstance(action, Resume)
            assert action.trial == here[0]
            return
    assert isinstance(action, Finish)


def bounded(by: By) -> dict[str, Any]:
    """The setting of a study with that bound."""
    return {} if by.bound is None else {"outcome_constraints": [f"{by.names[-1]} <= {by.bound}"]}


BOUNDS = st.sampled_from([None, None, 0.5])
RUNS = {
    "seed": st.integers(0, 10**6),
    "workers": st.integers(1, 6),
    "trouble": st.sampled_from([0.0, 0.1, 0.4]),
}


@settings(max_examples=25)
@given(
    eta=st.integers(2, 3),
    brackets=st.integers(1, 3),
    m=st.sampled_from([1, 1, 2]),
    baseline=st.booleans(),
    timed=st.booleans(),
    bound=BOUNDS,
    **RUNS,
)
def test_asha_promotes_what_the_paper_promotes(
    eta: int, brackets: int, m: int, baseline: bool, timed: bool, **case: object
) -> None:
    """The best not yet promoted trial of a rung goes on when it is among the best n / eta there, rounded
    down; a baseline goes on alone. Rungs are left out by the times that the journal has so far.
    """
    steps = list(rung_steps(9, eta))
    chains = [steps[b:] for b in range(brackets)]
    scheduler = ASHA(eta=eta, brackets=brackets, baseline=baseline, timed=timed)

    def steps_after(events: list[Any]) -> list[list[int]]:
        worth = setting_up(events) if timed else None
        return chains if worth is None else [dear_enough(chain, eta, worth) for chain in chains]

    def due(step: int, place: int, n: int, gone: int) -> bool:
        return place < (1 if baseline and n == 1 else n // eta)

    check_asynchronous(scheduler, steps_after, due, m=m, **case)


def setting_up(events: list[Any]) -> float | None:
    """Steps that beginning a trial is worth: the median, from the times of all events anew.

    What a trial that is run again had reported beyond where it goes on from says nothing.
    """
    latest: dict[int, tuple[float, int]] = {}
    timed: dict[int, list[tuple[float, int, int]]] = {}
    kept: dict[int, int] = {}
    ends: dict[int, TrialState] = {}
    for event in events:
        match event:
            case ev.SegmentStarted():
                latest[event.trial] = (event.at, 0)
            case ev.TrialReported():
                at, step = latest[event.trial]
                timed.setdefault(event.trial, []).append((event.at - at, event.step, step))
                latest[event.trial] = (event.at, event.step)
            case ev.CheckpointSaved() | ev.TrialPausedAt():
                kept[event.trial] = max(event.step, kept.get(event.trial, 0))
            case ev.TrialFinished():
                ends[event.trial] = TrialState.of(event.state)
            case ev.TrialRequeued() if ends[event.trial] in INFORMATIVE:
                said = timed.get(event.trial, [])
                timed[event.trial] = [each for each in said if each[1] <= kept.get(event.trial, 0)]
    worth = []
    for said in timed.values():
        further = [(seconds, step - before) for seconds, step, before in said[1:] if before]
        if further:
            each = sum(seconds for seconds, _ in further) / sum(steps for _, steps in further)
            worth.append(max(said[0][0] / each - said[0][1], 0.0))
    return float(np.median(worth)) if worth else None


def dear_enough(chain: list[int], eta: int, worth: float) -> list[int]:
    """The chain without the steps that cost less than the square root of eta times the one before."""
    kept = chain[:1]
    for step in chain[1:-1]:
        kept += [step] * ((worth + step) / (worth + kept[-1]) >= eta**0.5)
    if len(kept) > 1 and (worth + chain[-1]) / (worth + kept[-1]) < eta**0.5:
        kept = kept[:-1]
    return kept + chain[-1:] * (len(chain) > 1)


def test_a_baseline_goes_on_at_once_and_the_others_when_they_are_the_best_of_three() -> None:
    study, _ = make_study(ASHA(baseline=True), limits={"trials": 6})
    values = [0.5, 0.4, 0.6, 0.7, 0.8, 0.9]
    order: list[tuple[int, int | None]] = []
    while (trial := _asked(study)) is not None:
        order.append((trial.number, trial.target))
        study.tell(trial, values[trial.number])
    assert order[:3] == [(0, 1), (0, 3), (0, None)]
    assert order[3:6] == [(1, 1), (2, 1), (1, 3)], "the best of three goes on"
    # Of six two may; they have.
    assert order[6:] == [(3, 1), (4, 1), (5, 1)]


def test_who_goes_on_when_a_worker_is_free_can_be_asked() -> None:
    study, _ = make_study(ASHA(), limits={"trials": 6})
    for value in (0.5, 0.4, 0.6):
        study.tell(study.ask(), value)
    told = [study.why(trial) for trial in range(3)]
    assert [why.endswith("the best 1 go on: as soon as a worker is free") for why in told] == [0, 1, 0]
    assert [why.endswith("the best 1 go on") for why in told] == [1, 0, 1]
    study, _ = make_study(Levels(levels=(0.5, 1.0), shares=(1.0, 0.5)), limits={"trials": 6})
    for value in (0.5, 0.4):
        study.tell(study.ask(), value)
    assert "0 of its level have gone on and there is room for 1 more: the best go first" in study.why(0)
    assert study.ask().number == 1
    assert study.why(0).endswith("1 of its level have gone on, which is its share")
    left_out = "rungs are left out where getting there proves to take hardly longer"
    assert [left_out in ASHA(timed=timed).explain(9, 9).lines[-1] for timed in (True, False)] == [True, False]


def test_stopping_fills_its_brackets_and_lets_what_was_paused_go_on() -> None:
    study, _ = make_study(ASHAStopping(brackets=2), limits={"trials": 6})
    trials = [study.ask() for _ in range(4)]
    assert sorted(study.trials[trial.number].bracket for trial in trials) == [0, 0, 0, 1]
    low = [trial.number for trial in trials if not study.trials[trial.number].bracket]
    assert study.report(low[0], 1, 0.1) is None
    assert study.report(low[1], 1, 0.9) is not None
    study.tell(low[1], 0.05)
    assert study.why(low[1]) == "it ran to its end, at step 1", "though it had been told to stop"
    study.execution.paused(low[2])
    assert ask(study) == Resume(low[2])


def _asked(study: Study) -> Trial | None:
    try:
        return study.ask()
    except StudyFinished:
        return None


@settings(max_examples=25)
@given(m=st.sampled_from([1, 1, 2]), bound=BOUNDS, **RUNS)
def test_levels_promote_their_share(m: int, **case: object) -> None:
    """The best of those waiting goes on while fewer than the level's share have gone on."""
    steps, shares = [1, 4, 9], {1: Fraction(1, 2), 4: Fraction(2, 5)}
    scheduler = Levels(levels=(0.2, 0.5, 1.0), shares=(1.0, 0.5, 0.2))
    check_asynchronous(
        scheduler, lambda _: [steps], lambda step, place, n, gone: gone < int(n * shares[step]), m=m, **case
    )


def synchronous(
    trials: list[Past], sizes: list[int], steps: list[int], by: By
) -> tuple[set[int], set[int]] | None:
    """Who is to go on and who is to end at the first undecided rung, or at the end; ``None``: nobody yet."""
    members = list(range(len(trials)))
    last: int | None = None  # the best of those held, of the highest rung that has any
    for i, step in enumerate(steps[:-1]):
        if any(trials[t].state in OPEN and trials[t].target <= step for t in members):
            return None
        order = ranked(trials, members, step, by)
        top = order[: sizes[i + 1]]
        waiting = [t for t in members if trials[t].state is TrialState.PAUSED and trials[t].target == step]
        gone = [t for t in members if trials[t].target > step]
        early = [t for t in members if t in top and t not in gone and trials[t].state is TrialState.COMPLETE]
        room = max(sizes[i + 1] - len(gone) - len(early), 0)
        going, hopeless = [t for t in top if t in waiting][:room], set(waiting) - set(order)
        if going or hopeless:
            return set(going), hopeless
        last = next((t for t in order if t in waiting), last)
        members = gone + early
    if last is None or any(t.state in OPEN for t in trials):
        return None
    if any(t.state is TrialState.COMPLETE for t in trials):
        return set(), {n for n, t in enumerate(trials) if t.state is TrialState.PAUSED}
    return {last}, set()


@settings(max_examples=25)
@given(eta=st.integers(2, 3), trials=st.integers(1, 14), m=st.sampled_from([1, 1, 2]), bound=BOUNDS, **RUNS)
def test_halving_decides_whole_rungs(
    eta: int, trials: int, m: int, bound: float | None, **case: object
) -> None:
    """When all of a rung have got there or ended, exactly the best n_i+1 go on. The others end when one is
    complete; while none is, and none is on its way, the best of them goes on.
    """
    objectives = {f"o{i}": "min" for i in range(m)}
    script = Script(asides=0.0, max_steps=9, **case)  # type: ignore[arg-type]
    limits = {"trials": trials}
    by = By(list(objectives), bound)
    study, journal = make_study(
        SuccessiveHalving(trials=trials, eta=eta),
        objectives=objectives,
        seed=script.seed,
        limits=limits,
        settings={"max_steps": 9, **bounded(by)},
    )
    steps = list(rung_steps(9, eta))
    sizes = [max(trials // eta**i, 1) for i in range(len(steps))]

    read = Reader(journal)

    def compare() -> None:
        past = read()
        action = ask(study)
        if len(past) < trials:
            assert isinstance(action, Start)
            return
        expected = synchronous(past, sizes, steps, by)
        if expected is None:
            assert isinstance(action, Wait if any(t.state in OPEN for t in past) else Finish)
        elif isinstance(action, Close):
            assert action.trial in expected[1]
        else:
            assert isinstance(action, Resume)
            assert action.trial in expected[0]
            assert not expected[1], "losers end before winners go on"

    play(study, script, compare)
    assert study.history.count(TrialState.PAUSED) == 0


def _usable(trial: Past) -> bool:
    """Whether it is complete, or was held and could have gone on."""
    held = trial.state is TrialState.PRUNED and not np.isnan(trial.score(np.inf, "loss"))
    return held or trial.state is TrialState.COMPLETE


@settings(max_examples=25)
@given(trials=st.integers(1, 60), **RUNS)
def test_hyperband_fills_the_brackets_of_the_table(trials: int, **case: object) -> None:
    """Brackets are begun in order; each holds its trials, or what the budget leaves."""
    script = Script(asides=0.0, max_steps=9, **case)  # type: ignore[arg-type]
    study, journal = make_study(Hyperband(), seed=script.seed, limits={"trials": trials})
    play(study, script)
    pattern = hyperband_brackets(9, 3)
    past, first = Reader(journal)(), 0
    for number in range(max(t.bracket for t in past) + 1):
        whole = pattern[number % len(pattern)]
        members = [t for t in past if t.bracket == number]
        assert len(members) == min(whole.sizes[0], trials - first)
        assert past[first : first + len(members)] == members
        first += len(members)
        sizes = whole.cut(len(members), 3).sizes
        for size, step in zip(sizes[1:], whole.steps[1:], strict=True):
            above = [t for t in members if max(t.target, *t.paused_at, 0) >= step]
            # Others follow only where those before came to nothing.
            assert len([t for t in above if _usable(t)]) <= size
        if not any(t.state is TrialState.COMPLETE for t in members):
            assert not any(map(_usable, members)), "as long as one can go on, its bracket has no end"
    assert study.history.count(TrialState.PAUSED) == 0


@settings(max_examples=25)
@given(eta=st.integers(2, 3), brackets=st.integers(1, 2), m=st.sampled_from([1, 1, 2]), bound=BOUNDS, **RUNS)
def test_stopping_compares_with_those_who_came_before(
    eta: int, brackets: int, m: int, bound: float | None, **case: object
) -> None:
    """A trial is stopped when it was outside the best max(n // eta, 1) of a rung at its arrival."""
    objectives = {f"o{i}": "min" for i in range(m)}
    script = Script(asides=0.0, max_steps=9, **case)  # type: ignore[arg-type]
    by = By(list(objectives), bound)
    study, journal = make_study(
        ASHAStopping(eta=eta, brackets=brackets),
        objectives=objectives,
        seed=script.seed,
        settings={"max_steps": 9, **bounded(by)},
    )
    rungs = {b: rung_steps(9, eta)[b:-1] for b in range(brackets)}

    read = Reader(journal)

    def compare() -> None:
        read()
        stopped: set[int] = set()
        arrived: dict[tuple[int, int], dict[int, dict[str, float]]] = {}
        for event in read.events:
            if event.type != "trial_reported" or event.trial in stopped:
                continue
            t, step = event.trial, event.step
            bracket = read.trials[t].bracket
            for rung in rungs[bracket]:
                here = arrived.setdefault((bracket, rung), {})
                if step < rung or t in here:
                    continue
                here[t] = event.metrics
                past = read.trials[:]
                for k, metrics in here.items():
                    past[k] = Past(0, 9, paused_at=[9], reports=[(0, metrics)])
                allowed = max(len(here) // eta, 1)
                if t not in ranked(past, list(here), rung, by)[:allowed]:
                    stopped.add(t)
                    break
        for t in study.history.in_state(TrialState.RUNNING).tolist():
            verdict = study.strategy.scheduler.judge(study.history, t)
            assert isinstance(verdict, Stop) == (t in stopped), (t, verdict)

    play(study, script, compare)


def test_a_small_study_has_a_result_too() -> None:
    """With fewer trials than a promotion takes, the best one is taken to its end all the same."""
    for scheduler in (ASHA(), Levels(), ASHA(brackets=2), SuccessiveHalving(), Hyperband()):
        for trials in (1, 2, 3):
            study, _ = make_study(scheduler, limits={"trials": trials}, settings={"max_steps": 27})
            play(study, Script(max_steps=27, trouble=0.0, asides=0.0))
            complete = [t for t in study.trials if t.state is TrialState.COMPLETE]
            assert len(complete) >= 1
            best = min(complete, key=lambda t: t.values["loss"])
            assert study.best.number == best.number


def test_failures_inside_a_rung_do_not_hold_it_up() -> None:
    """Of a rung of nine, eight fail: the ninth goes on, and the failed ones are not waited for."""
    study, _ = make_study(SuccessiveHalving(), limits={"trials": 9})
    due = [study.ask() for _ in range(9)]
    for trial in due[:8]:
        study.tell(trial, state="failed")
    assert isinstance(ask(study), Wait)
    study.tell(due[8], 0.5)
    action = ask(study)
    assert isinstance(action, Resume)
    assert (action.trial, action.target) == (8, 3)


@pytest.mark.parametrize("scheduler", [ASHA(min_steps=3), Levels(levels=(0.34, 1.0), shares=(1.0, 0.5)),
                                       SuccessiveHalving(min_steps=3, trials=2)])  # fmt: skip
@pytest.mark.parametrize(("rule", "first"), [("last", 1), ("best", 0), ("average-2", 0), ("average-3", 0)])
def test_rungs_compare_what_the_rule_of_the_study_makes_a_result(
    scheduler: Scheduler, rule: str, first: int
) -> None:
    """The first trial dips and comes back, the second one is better at the rung itself."""
    study, _ = make_study(scheduler, limits={"trials": 2}, settings={"max_steps": 9, "rule": rule})
    curves = ([9.0, 1.0, 4.0], [9.0, 9.0, 3.0])
    trials = [study.ask(), study.ask()]
    for trial, curve in zip(trials, curves, strict=True):
        for step, value in enumerate(curve, start=1):
            study.report(trial.number, step, {"loss": value})
        study.execution.paused(trial.number)
    action = ask(study)
    assert isinstance(action, Resume | Close)
    assert action.trial == (first if isinstance(action, Resume) else 1 - first)


@pytest.mark.parametrize("scheduler", [ASHA(), SuccessiveHalving(), Levels()])
def test_results_that_are_no_numbers_never_go_on(scheduler: Scheduler) -> None:
    """A paused trial whose result was NaN is closed with that reason, and counts as ranked last."""
    study, _ = make_study(scheduler, limits={"trials": 9})
    trials = [study.ask() for _ in range(9)]
    for trial in trials[:-1]:
        assert trial.target is not None
        study.report(trial, trial.target, {"loss": float("nan")})
        study.execution.paused(trial)
    study.tell(trials[-1], 0.5)
    resumed = study.ask()
    assert resumed.number == trials[-1].number
    closed = [t for t in study.trials if t.state is TrialState.PRUNED]
    assert [t.number for t in closed] == list(range(8))
    assert all("finite" in t.reason for t in closed)


@pytest.mark.parametrize("later", [False, True], ids=["on their way", "at the next rung"])
def test_a_rung_that_is_decided_again_sends_no_more_than_its_share(later: bool) -> None:
    """A trial that failed and was run again once the two best of four had gone on is too late to be a third.

    It is held and not forgotten, also where these have got to the next rung (``later``), and closed once a
    trial is complete. Whoever replays the journal decides the same.
    """
    study, journal = make_study(
        SuccessiveHalving(trials=4, eta=2), limits={"trials": 4}, settings={"max_steps": 4}
    )
    trials = [study.ask() for _ in range(4)]
    for trial, loss in zip(trials[:3], (0.3, 0.2, 0.4), strict=True):
        study.tell(trial, loss)
    study.tell(trials[3], state="failed")
    gone_on = [study.ask().number for _ in range(2)]
    assert sorted(gone_on) == [0, 1]
    for number in gone_on * later:
        study.tell(number, 0.2)
    study.requeue(3)
    study.tell(study.ask(), 0.1)
    assert ask(study) == ask(Study.replay(journal.events()))
    for number in gone_on * (not later):
        assert isinstance(ask(study), Wait)
        study.tell(number, 0.2)
    best = study.ask()
    assert best.number in gone_on
    assert isinstance(ask(study), Wait)
    study.tell(best, 0.1)
    assert ask(study) == ask(Study.replay(journal.events()))
    assert isinstance(ask(study), Close)
    with pytest.raises(StudyFinished):
        study.ask()
    assert [t.number for t in study.trials if t.state is TrialState.COMPLETE] == [best.number]
    assert study.trials[3].state is TrialState.PRUNED


@pytest.mark.parametrize(
    "scheduler", [SuccessiveHalving(), ASHA(), Levels(levels=(0.2, 1.0), shares=(1.0, 0.3))]
)
def test_a_trial_is_compared_by_what_it_reports_when_it_is_run_again(scheduler: Scheduler) -> None:
    """It had diverged at the rung: its second attempt was closed there for the NaN of the first."""
    study, journal = make_study(scheduler, limits={"trials": 9})
    first = study.ask()
    study.report(first, 1, float("nan"))
    study.tell(first, state="failed")
    study.requeue(0)
    while (trial := study.ask()).target is not None:
        study.tell(trial, 0.1 * (trial.number + 1))
    assert trial.number == 0
    assert ask(study) == ask(Study.replay(journal.events()))


@pytest.mark.parametrize("end", [{"state": "failed"}, {"values": float("nan")}], ids=["raised", "NaN"])
@pytest.mark.parametrize("scheduler", [SuccessiveHalving(), Hyperband(), ASHA(), Levels()])
def test_a_study_whose_best_trials_fail_at_their_end_has_a_result(
    scheduler: Scheduler, end: dict[str, Any]
) -> None:
    """The others of a bracket were ended when its best went on: where that failed, the study ended empty."""
    study, _ = make_study(scheduler, limits={"trials": 9})
    best: list[int] = []
    while (trial := _asked(study)) is not None:
        if trial.target is None and len(best) < 2:
            best.append(trial.number)
            study.tell(trial, **end)
        else:
            study.tell(trial, float(trial.number))
    assert best == [0, 1]
    assert [t.number for t in study.trials if t.state is TrialState.COMPLETE] == [2]


@pytest.mark.parametrize(
    "scheduler",
    [ASHA(eta=2, min_steps=4), Levels(levels=(0.5, 1.0), shares=(1.0, 0.5))],
    ids=lambda s: type(s).__name__,
)
def test_a_trial_that_failed_and_ended_well_when_run_again_stands_by_its_result(scheduler: Scheduler) -> None:
    """Also where nobody had asked in between, so that its failure was the last that was known of it."""
    study, journal = make_study(scheduler, limits={"trials": 8}, settings={"max_steps": 8})
    study.tell(study.ask(), state="failed")
    second = study.ask()
    study.requeue(0)
    study.tell(second, 5.0)
    study.tell(study.ask(), 1.0, step=2)
    assert study.trials[0].state is TrialState.COMPLETE
    assert "ranked 2 of 2" in study.why(second)
    assert ask(study) == ask(Study.replay(journal.events()))


def test_of_trials_without_a_number_the_first_is_closed_first() -> None:
    """In whatever order they got to their rung, and were looked at there."""
    study, journal = make_study(ASHA(eta=2), settings={"max_steps": 8})
    for trial in reversed([study.ask(), study.ask()]):
        study.report(trial, 1, float("nan"))
        study.execution.paused(trial)
    assert ask(study) == ask(Study.replay(journal.events())) == Close(0, "no finite result at step 1")
