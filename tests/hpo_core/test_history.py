"""The columns that strategies read: prefix-stable, read-only, right after every event and every new space."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_core import Categorical, Float, Int, SearchSpace, SpaceError, Study, TrialState
from hpo_core._columns import Column
from hpo_core._memo import Memo
from hpo_core.testing import Script
from tests.hpo_core.studies import LINE, recorded, replayed, snapshot, started

WIDE = SearchSpace({"x": Float(0.0, 10.0), "opt": Categorical(["a", "b", "c"]), "n": Int(1, 9)})


def driven(space: SearchSpace = WIDE, events: int = 150, **kwargs: Any) -> Study:
    tuned = Study(space, strategy="random", settings={"max_steps": 9, "workers": 3}, **kwargs)
    Script(trouble=0.3).play(tuned, events)
    return tuned


@given(st.lists(st.integers(0, 100), max_size=60), st.none() | st.integers(0, 3))
def test_columns_are_growing_arrays(values: list[int], width: int | None) -> None:
    column = Column(np.int64, width=width, fill=-1)
    for value in values:
        column.append(value)
    expected = values if width is None else [[v] * width for v in values]
    assert column.view.tolist() == expected
    assert len(column) == len(values)
    if values:
        column[len(values) - 1] = 7
        assert (column.view[-1] == 7).all()
        with pytest.raises(ValueError, match="read-only"):
            column.view[0] = 1
    for outside in (len(values), -1):
        with pytest.raises(IndexError):
            column[outside] = 0


def test_everything_a_strategy_reads_is_read_only() -> None:
    history = driven().history
    for name in ("X", "states", "values", "steps", "targets", "brackets", "parents", "starts"):
        assert not getattr(history, name).flags.writeable, name
    for name in ("X", "values", "states", "steps", "trials"):
        assert not getattr(history.evidence, name).flags.writeable, name
    for name in ("trials", "steps", "values", "given"):
        assert not getattr(history.reports, name).flags.writeable, name


def test_a_study_without_new_trials_has_the_same_past_and_no_budget() -> None:
    """A scheduler is asked with it once the sampler has nothing left; nothing is set on the study's own."""
    tuned = driven(limits={"trials": 500})
    history, ending = tuned.history, tuned.history.without_new_trials()
    assert (ending.trials_left, ending.max_trials, ending.n_trials) == (0, 500, history.n_trials)
    assert np.array_equal(ending.X, history.X, equal_nan=True)
    assert history.trials_left == 500 - history.n_trials
    memo: Memo[list[int]] = Memo()
    assert memo.of(ending, list) is memo.of(history, list)


def test_the_columns_agree_with_the_records_after_every_event() -> None:
    tuned = Study(WIDE, strategy="random", settings={"max_steps": 9, "workers": 3})
    script = Script(trouble=0.4, asides=0.2)
    for _ in range(250):
        script.act(tuned)
        check_columns(tuned)
    assert {t.state for t in tuned.trials} >= {TrialState.COMPLETE, TrialState.FAILED, TrialState.RUNNING}


def check_columns(tuned: Study) -> None:
    history = tuned.history
    assert history.n_trials == len(tuned.trials)
    for record in tuned.trials:
        n = record.number
        assert np.array_equal(history.X[n], history.space.encode(record.params), equal_nan=True)
        assert history.params_of(n) == record.params
        assert history.states[n] == record.state
        assert history.steps[n] == record.step
        assert history.targets[n] == (-1 if record.target is None else record.target)
        valued = record.state in (TrialState.COMPLETE, TrialState.PRUNED) and record.values
        assert history.values[n, 0] == record.values["loss"] if valued else np.isnan(history.values[n, 0])
        assert history.seen(history.X[n]) is not None
        rows = history.reports_of(n)
        assert history.reports.trials[rows].tolist() == [n] * len(rows)
        assert (np.diff(history.reports.steps[rows]) > 0).all()
    open_states = [TrialState.WAITING, TrialState.RUNNING, TrialState.PAUSED]
    assert sorted(history.pending.tolist()) == np.flatnonzero(np.isin(history.states, open_states)).tolist()
    assert np.array_equal(history.pending_X, history.X[history.pending], equal_nan=True)
    for state in TrialState:
        assert history.count(state) == (history.states == state).sum()
        if not state.finished:
            assert (
                sorted(history.in_state(state).tolist()) == np.flatnonzero(history.states == state).tolist()
            )


def test_evidence_and_reports_only_grow() -> None:
    """A memo may be keyed by their length: earlier rows of one log never change."""
    tuned = Study(WIDE, strategy="random", settings={"max_steps": 9, "workers": 3})
    script = Script(trouble=0.4, asides=0.2)
    before: dict[str, np.ndarray] = {}
    logs: list[object] = []
    for _ in range(200):
        script.act(tuned)
        history = tuned.history
        now = {n: getattr(history.evidence, n).copy() for n in ("X", "values", "states", "steps", "trials")}
        now |= {n: getattr(history.reports, n).copy() for n in ("trials", "steps", "values")}
        assert (history.evidence in logs) == (history.reports in logs), "run again, a trial is in neither"
        for name, rows in before.items() if history.reports in logs else ():
            assert np.array_equal(now[name][: len(rows)], rows, equal_nan=True)
        before, logs = {f"{n}": a for n, a in now.items()}, [history.evidence, history.reports]


def test_evidence_has_what_teaches_and_nothing_else() -> None:
    tuned = Study(LINE, strategy="random")
    for state in ("failed", "infeasible", "timed_out", "out_of_memory", "cancelled", "lost", "pruned"):
        trial = tuned.ask()
        tuned.report(trial, 2, 0.5)
        tuned.tell(trial, state=state)
    tuned.tell(tuned.ask(), 0.25)
    tuned.observe({"x": 0.5}, 0.75)
    tuned.observe({"x": 0.6}, math.nan)
    evidence = tuned.history.evidence
    assert [TrialState(s).label for s in evidence.states] == [
        "failed", "infeasible", "timed_out", "out_of_memory", "pruned", "complete", "complete", "failed",
    ]  # fmt: skip
    assert evidence.trials.tolist() == [0, 1, 2, 3, 6, 7, -1, -1]
    assert evidence.steps.tolist() == [2, 2, 2, 2, 2, 0, 0, 0]
    nan = math.nan
    assert np.array_equal(evidence.values[:, 0], [nan, nan, nan, nan, 0.5, 0.25, 0.75, nan], equal_nan=True)


def test_metrics_can_be_read_by_report_and_by_trial() -> None:
    tuned = Study(LINE, {"loss": "min", "acc": "max"}, strategy="random")
    a, b = started(tuned), started(tuned)
    tuned.report(a.trial, 1, {"loss": 1.0, "acc": 0.1, "norm": 7.0})
    tuned.report(b.trial, 1, {"loss": math.inf, "lr": 0.5})
    tuned.report(a.trial, 2, {"acc": 0.2})
    reports = tuned.history.reports

    def column(name: str) -> list[float | None]:
        return [None if v != v else v for v in reports.metric(name).tolist()]

    assert column("loss") == [1.0, None, None]
    assert column("acc") == [0.1, None, 0.2]
    assert column("norm") == [7.0, None, None]
    assert column("nothing") == [None, None, None]
    assert reports.metric_of(a.trial, "acc").tolist() == [0.1, 0.2]
    assert reports.metric_of(a.trial, "norm").tolist()[0] == 7.0
    assert reports.metric_of(99, "acc").tolist() == []
    assert reports.values.tolist()[0] == [1.0, -0.1]
    assert reports.value(1, "loss") != reports.value(1, "loss")  # said, but not finite
    assert reports.value(2, "loss") is None  # not said


@pytest.mark.parametrize("state", ["failed", "infeasible", "timed_out", "pruned"])
def test_what_a_trial_showed_is_forgotten_where_it_is_run_again(state: str) -> None:
    """Beside the result of the second attempt the failure of the first went on counting."""
    tuned = Study(LINE, strategy="random")
    tuned.observe({"x": 0.5}, 3.0)
    first, other = tuned.ask(), tuned.ask()
    tuned.report(first, 1, {"loss": 9.0, "size": 1.0})
    tuned.report(other, 1, {"loss": 1.0, "size": 2.0})
    tuned.report(first, 2, {"loss": float("nan"), "size": 3.0})
    tuned.report(other, 4, {"loss": 2.0})
    tuned.tell(first, state=state)
    history, before = tuned.history, tuned.history.evidence
    tuned.requeue(0)
    assert sorted(history.pending.tolist()) == [0, 1]
    assert history.evidence.trials.tolist() == [-1]
    assert before.trials.tolist() == [-1, 0], "whoever still reads the log that was sees it as it was"
    assert [history.reports.rows(trial) for trial in (0, 1)] == [[], [0, 1]]
    assert history.reports.metric("size").tolist()[0] == 2.0
    assert history.reports.has("size")
    assert tuned.trials[0].step == history.steps[0] == 0
    again = tuned.ask()
    assert tuned.report(again, 1, 0.25) is None
    assert tuned.tell(again, 0.5) is TrialState.COMPLETE
    assert history.evidence.trials.tolist() == [-1, 0]
    assert history.reports.trials.tolist() == [1, 1, 0]
    assert history.reports.rows(0) == [2]
    assert (tuned.state.steps_spent, tuned.best.values) == (2 + 4 + 1, {"loss": 0.5})
    change(tuned, y=Float(0.0, 1.0))
    change(tuned, y=None)
    assert history.evidence.trials.tolist() == [-1, 0], "nor does it come back with an edit"


def test_what_a_trial_had_shown_by_its_checkpoint_stays() -> None:
    """It is not run again; what was lost with a worker, or cancelled, was no word of the objective."""
    tuned = Study(LINE, strategy="random")
    for trial, end in ((tuned.ask(), "failed"), (tuned.ask(), "cancelled")):
        for step in (1, 2, 3):
            tuned.report(trial, step, float(step))
        tuned.execution.checkpointed(trial, 2, "at 2")
        tuned.tell(trial, state=end)
        tuned.requeue(trial)
    assert [tuned.history.reports.metric_of(t, "loss").tolist() for t in (0, 1)] == [[1, 2], [1, 2, 3]]
    assert tuned.history.steps.tolist() == [t.step for t in tuned.trials] == [2, 3]
    assert not len(tuned.history.evidence)


@pytest.mark.parametrize("rule", ["last", "best", "average-2"])
def test_the_result_of_a_trial_that_was_run_again_is_none_of_the_attempt_that_failed(rule: str) -> None:
    """A loss of 0.001 that a mistake in the objective had reported was the best of the study for good."""
    tuned = Study(LINE, strategy="random", settings={"rule": rule})
    trial = tuned.ask()
    for step in (1, 2, 3):
        tuned.report(trial, step, 0.001)
    tuned.tell(trial, state="failed")
    tuned.requeue(0)
    trial = tuned.ask()
    for step in (1, 2):
        tuned.report(trial, step, 1.0)
    tuned.tell(trial, 1.0)
    assert tuned.best.values == {"loss": 1.0}


# -- versions of the space -------------------------------------------------------------------------


def change(tuned: Study, **parameters: Any) -> None:
    merged = {n: p for n, p in {**tuned.space.parameters, **parameters}.items() if p is not None}
    tuned.change_space(SearchSpace(merged))


def fits(space: SearchSpace, params: dict[str, Any]) -> bool:
    return all(n in space.parameters and space.parameters[n].contains(v) for n, v in params.items())


@pytest.mark.parametrize(
    "changes",
    [
        {"x": Float(-5.0, 20.0)},
        {"x": Float(2.0, 6.0)},
        {"opt": Categorical(["b", "c", "d"])},
        {"opt": Categorical(["c", "b", "a"])},
        {"n": Int(3, 20)},
        {"n": Int(1, 9, log=True)},
        {"new": Int(0, 3)},
        {"n": None},
        {"x": Float(0.0, 10.0).when("opt", "a")},
    ],
)
def test_old_trials_that_still_fit_are_kept(changes: dict[str, Any]) -> None:
    tuned, journal = recorded(WIDE, settings={"max_steps": 9, "workers": 3})
    Script(trouble=0.2, asides=0.0).play(tuned, 150)
    observed = [{"x": 1.0, "opt": "b", "n": 5}, {"x": 5.0, "opt": "c", "n": 5}]
    for params in observed:
        tuned.observe(params, 0.5)
    old = tuned.history.evidence
    known = [tuned.trials[t].params for t in old.trials.tolist() if t >= 0] + observed
    change(tuned, **changes)
    new = tuned.history.evidence
    space = tuned.space
    expected = [(i, p) for i, p in enumerate(known) if fits(space, p)]
    assert len(new) == len(expected)
    for row, (i, params) in enumerate(expected):
        assert np.array_equal(new.X[row], space.encode(params), equal_nan=True)
        assert np.array_equal(new.values[row], old.values[i], equal_nan=True)
        assert (new.states[row], new.steps[row], new.trials[row]) == (
            old.states[i],
            old.steps[i],
            old.trials[i],
        )
    assert tuned.history.X.shape == (len(tuned.trials), space.dims)
    for record in tuned.trials:
        row = tuned.history.X[record.number]
        assert np.isnan(row).all() if not fits(space, record.params) else not np.isnan(row).all()
    Script(trouble=0.2).play(tuned, tuned.history.length + 60)
    assert snapshot(replayed(journal)) == snapshot(tuned)


def test_what_was_left_out_comes_back_when_the_space_does() -> None:
    tuned, journal = recorded(WIDE)
    for _ in range(20):
        trial = tuned.ask()
        tuned.tell(trial, trial.params["x"])
    tuned.observe({"x": 9.0, "opt": "b", "n": 5}, 0.5)
    before = tuned.history.evidence
    change(tuned, x=Float(0.0, 5.0))
    assert len(tuned.history.evidence) < len(before)
    narrow = tuned.ask()
    tuned.tell(narrow, 0.0)
    tuned.change_space(WIDE)
    after = tuned.history.evidence
    assert np.allclose(after.X[:21], before.X)
    assert after.trials.tolist() == [*before.trials.tolist(), 20]
    assert tuned.space.version == 2
    assert snapshot(replayed(journal)) == snapshot(tuned)


def test_a_trial_that_no_longer_fits_may_end_and_is_no_evidence() -> None:
    tuned, journal = recorded(LINE)
    while (trial := tuned.ask()).params["x"] < 0.5:
        tuned.tell(trial, 1.0)
    tuned.change_space(SearchSpace({"x": Float(0.0, 0.5)}))
    kept = len(tuned.history.evidence)
    tuned.tell(trial, 0.0)
    assert len(tuned.history.evidence) == kept
    assert tuned.best.number == trial.number  # until another one is complete
    assert all(tuned.ask().params["x"] <= 0.5 for _ in range(20))
    assert snapshot(replayed(journal)) == snapshot(tuned)


@pytest.mark.parametrize("rule", ["x >= 5", lambda p: p["x"] >= 5], ids=["expression", "function"])
def test_what_breaks_an_input_constraint_of_the_edited_space_is_no_evidence(rule: Any) -> None:
    """Proposals were measured against a best that none could have, and went where least was known."""
    tuned, journal = recorded(WIDE, strategy="random")
    for _ in range(20):
        trial = tuned.ask()
        tuned.tell(trial, trial.params["x"])
    for x in (2.0, 9.0):
        tuned.observe({"x": x, "opt": "b", "n": 5}, 0.5)
    before = tuned.history.evidence
    tuned.change_space(SearchSpace(WIDE.parameters, rule))
    fit = [t.number for t in tuned.trials if t.params["x"] >= 5]
    assert 0 < len(fit) < 20
    assert tuned.history.evidence.trials.tolist() == [*fit, -1]
    with pytest.raises(SpaceError, match="does not meet the constraints"):
        tuned.observe({"x": 2.0, "opt": "a", "n": 5}, 0.5)
    # A reader without the function cannot tell of observations; of trials the journal says it.
    unknown = [-1] if callable(rule) else []
    assert replayed(journal).history.evidence.trials.tolist() == [*fit, -1, *unknown]
    tuned.change_space(WIDE)
    assert np.allclose(tuned.history.evidence.X, before.X)


@pytest.mark.parametrize("strategy", ["gp", "tpe", "forest", "auto"])
def test_a_search_goes_on_within_the_new_constraints(strategy: str) -> None:
    """With the old optimum as its incumbent, half of GP's proposals were far from the new one."""
    space = {"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)}
    told = []
    for seed in range(3):
        tuned = Study(space, strategy=strategy, seed=seed)
        for bound in (None, "x >= 0.6"):
            if bound:
                tuned.change_space(SearchSpace(space, bound))
            for _ in range(20):
                trial = tuned.ask()
                tuned.tell(trial, sum((v - 0.3) ** 2 for v in trial.params.values()))
        told.append([t.values["loss"] for t in tuned.trials[-10:]])
    assert np.median(told) < {"gp": 0.13, "auto": 0.13, "forest": 0.17, "tpe": 0.28}[strategy]


def test_untried_knows_trials_and_observations() -> None:
    tuned = Study(SearchSpace({"n": Int(1, 6)}), strategy="random")
    tuned.enqueue({"n": 2})
    tuned.ask()
    tuned.observe({"n": 5}, 1.0)
    points = tuned.space.enumerate()
    assert tuned.history.untried(points).tolist() == [True, False, True, True, False, True]
