"""Constraints on outcomes: what they say, which trials they make infeasible, and that samplers keep them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo_core import Float, InputError, SearchSpace, Settings, Study, TrialState
from hpo_core._events import TrialFinished
from hpo_core._gp._data import Data
from hpo_core._gp._fit import Priors
from hpo_core._gp._outcomes import warp, warped
from hpo_core._gp._state import refit
from hpo_core._memo import Memo
from hpo_core._outcome_constraints import (
    OutcomeConstraint,
    behind_the_kept,
    broken_by,
    broken_least,
    excesses,
)
from hpo_core._training import training_set
from hpo_core.samplers._auto import choose
from tests.hpo_core.studies import LINE, recorded, replayed, snapshot

FINITE = st.floats(-1e6, 1e6)


# -- what they say ---------------------------------------------------------------------------------


@given(st.sampled_from(["latency_ms", "f1 score", "a<b", "p99"]), st.booleans(), FINITE, FINITE)
def test_a_constraint_means_what_its_text_says(metric: str, upper: bool, bound: float, value: float) -> None:
    constraint = OutcomeConstraint.of(f"{metric}{'<=' if upper else '>='}{bound!r}")
    assert (constraint.metric, constraint.bound) == (metric, bound)
    assert (constraint.excess(value) <= 0.0) == (value <= bound if upper else value >= bound)
    assert OutcomeConstraint.of(str(constraint)).metric == metric


@pytest.mark.parametrize(
    "given", ["latency < 3", "latency", "<= 3", "latency <= much", "latency <= nan", "latency <= inf", 3, [3]]
)
def test_what_is_no_constraint_is_refused(given: Any) -> None:
    with pytest.raises(InputError, match=r"METRIC <= NUMBER|is a list such as"):
        Settings(outcome_constraints=given)


def test_a_single_constraint_needs_no_list() -> None:
    assert Settings(outcome_constraints="ms <= 10").outcome_constraints == ("ms <= 10",)  # type: ignore[arg-type]


def test_a_bound_keeps_all_its_digits() -> None:
    """`%g` has six: a bound of 0.1234567 became another one in the journal."""
    settings = Settings(outcome_constraints=("loss <= 0.123456789012",))
    assert Settings(outcome_constraints=settings.outcome_constraints) == settings
    assert OutcomeConstraint.of(settings.outcome_constraints[0]).bound == 0.123456789012


# -- which trials they make infeasible -------------------------------------------------------------


def constrained(*constraints: str, **more: Any) -> Study:
    """A study of random trials with these constraints."""
    return Study(LINE, strategy="random", settings={"outcome_constraints": constraints}, **more)


@pytest.mark.parametrize(
    ("metrics", "state", "reason"),
    [
        ({"loss": 1.0, "ms": 10.0, "acc": 0.5}, TrialState.COMPLETE, ""),
        (
            {"loss": 1.0, "ms": 10.5, "acc": 0.5},
            TrialState.INFEASIBLE,
            "ms is 10.5, the study wants ms <= 10",
        ),
        (
            {"loss": 1.0, "ms": 11.0, "acc": 0.25},
            TrialState.INFEASIBLE,
            "ms is 11, the study wants ms <= 10; acc is 0.25, the study wants acc >= 0.5",
        ),
        ({"loss": 1.0, "ms": 1.0}, TrialState.FAILED, "no finite value for 'acc', on which the study has"),
        ({"loss": 1.0, "ms": math.nan, "acc": 1.0}, TrialState.FAILED, "no finite value for 'ms'"),
        ({"ms": 11.0, "acc": 1.0}, TrialState.FAILED, "no finite value for 'loss'"),
    ],
)
def test_a_complete_trial_is_judged(metrics: dict[str, float], state: TrialState, reason: str) -> None:
    study = constrained("ms <= 10", "acc >= 0.5")
    assert study.tell(study.ask(), metrics) is state
    assert reason in study.trials[0].reason


def test_what_was_reported_last_counts_where_nothing_is_returned() -> None:
    study = constrained("ms <= 10")
    trial = study.ask()
    for step, ms in enumerate((3.0, 12.0), start=1):
        study.report(trial, step, {"loss": 0.5, "ms": ms})
    assert study.tell(trial, None) is TrialState.INFEASIBLE
    trial = study.ask()
    for step, ms in enumerate((12.0, 3.0), start=1):
        study.report(trial, step, {"loss": 0.5, "ms": ms})
    assert study.tell(trial, None) is TrialState.COMPLETE, (
        "what breaks a bound on the way may keep it in the end"
    )
    assert study.trials[1].metrics == {"ms": 3.0}


def test_a_bounded_metric_counts_as_it_was_last_reported_whatever_was_reported_since() -> None:
    """Reported once, at the beginning, it was taken for not a number at the end."""
    study = constrained("ms <= 10")
    trial = study.ask()
    study.report(trial, 1, {"loss": 0.5, "ms": 3.0})
    study.report(trial, 2, {"loss": 0.4})
    assert study.tell(trial, None) is TrialState.COMPLETE, study.trials[0].reason
    assert study.trials[0].metrics == {"ms": 3.0}
    trial = study.ask()
    study.report(trial, 1, {"loss": 0.5, "ms": 3.0})
    study.report(trial, 2, {"loss": 0.4, "ms": math.nan})
    assert study.tell(trial, None) is TrialState.FAILED, "what was said last is no number"


def test_a_bounded_metric_that_is_never_reported_is_told_beside_those_that_are() -> None:
    study = constrained("ms <= 10")
    trial = study.ask()
    study.report(trial, 1, {"loss": 0.5, "acc": 0.5})
    assert study.tell(trial, None) is TrialState.FAILED
    assert study.trials[0].reason.endswith("'ms <= 10' (got ['loss'])")


def test_an_objective_can_be_bounded() -> None:
    study = constrained("loss <= 0.5")
    assert [study.tell(study.ask(), value) for value in (0.25, 0.75)] == [
        TrialState.COMPLETE,
        TrialState.INFEASIBLE,
    ]


def test_an_infeasible_trial_is_never_the_best_and_no_failure() -> None:
    study, journal = recorded(
        LINE, settings={"outcome_constraints": ["ms <= 10"]}, limits={"failures": 1, "trials": 3}
    )
    study.tell(study.ask(), {"loss": 0.0, "ms": 99.0})
    study.tell(study.ask(), {"loss": 1.0, "ms": 9.0})
    assert study.best.number == 1
    assert study.execution.exhausted() is None
    assert study.trials[0].values == {"loss": 0.0}, "it has been measured"
    assert np.isnan(study.history.evidence.values[0]).all(), "and is not to be followed"
    assert study.history.evidence.excesses.tolist() == [[89.0], [-1.0]]
    assert study.history.evidence.measured.tolist() == [[0.0], [1.0]]
    ended = [e for e in journal.events() if isinstance(e, TrialFinished)]
    assert ended[0].metrics == {"ms": 99.0}
    assert snapshot(replayed(journal)) == snapshot(study)


def test_a_trial_that_was_stopped_is_not_judged() -> None:
    study = constrained("ms <= 10")
    assert study.tell(study.ask(), {"loss": 1.0, "ms": 99.0}, state="pruned") is TrialState.PRUNED
    assert np.isnan(study.history.evidence.excesses).all()


def test_results_from_elsewhere_are_judged_where_they_say_enough() -> None:
    study = constrained("ms <= 10")
    study.observe({"x": 0.1}, {"loss": 1.0, "ms": 20.0})
    study.observe({"x": 0.2}, {"loss": 1.0, "ms": 5.0})
    study.observe({"x": 0.3}, {"loss": 1.0})
    np.testing.assert_array_equal(study.history.evidence.values.ravel(), [np.nan, 1.0, 1.0])
    np.testing.assert_array_equal(study.history.evidence.excesses.ravel(), [10.0, -5.0, np.nan])


def test_another_version_of_the_space_forgets_nothing_of_it() -> None:
    study = constrained("ms <= 10")
    for ms in (20.0, 5.0):
        study.tell(study.ask(), {"loss": ms, "ms": ms})
    study.observe({"x": 0.5}, {"loss": 30.0, "ms": 30.0})
    study.change_space(study.space.extended({"y": Float(0.0, 1.0)}))
    evidence = study.history.evidence
    assert evidence.excesses.ravel().tolist() == [10.0, -5.0, 20.0]
    assert evidence.measured.ravel().tolist() == [20.0, 5.0, 30.0]
    np.testing.assert_array_equal(evidence.values.ravel(), [np.nan, 5.0, np.nan])


def test_who_says_that_there_is_no_result_has_measured_nothing() -> None:
    """What it had reported before is no result that a model could go by."""
    study = constrained("ms <= 10")
    trial = study.ask()
    study.report(trial, 1, {"loss": 0.5, "ms": 3.0})
    study.tell(trial, state="infeasible")
    assert np.isnan(study.history.evidence.measured).all()
    assert np.isnan(study.history.evidence.excesses).all()


# -- that samplers keep them -----------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), max_size=12))
def test_those_that_break_them_least_come_first(rows: list[tuple[int, int]]) -> None:
    excess = np.array(rows, dtype=np.float64).reshape(-1, 2)
    most = [max([1e-300, *(row[c] for row in rows)]) for c in range(2)]
    broken = [(sum(max(e, 0) / m for e, m in zip(row, most, strict=True)), i) for i, row in enumerate(rows)]
    expected = [i for total, i in sorted(broken) if total > 0]
    assert broken_least(excess).tolist() == expected


def test_the_unit_of_a_constraint_does_not_matter() -> None:
    """Each counts by the most that it is broken by: gigabytes beside milliseconds, or seconds."""
    ms_and_mb = np.array([[10.0, 100.0], [1.0, 900.0], [20.0, 50.0], [2.0, 1000.0]])
    order = broken_least(ms_and_mb).tolist()
    assert order == [0, 1, 2, 3]
    for units in ((1e-3, 1e-3), (1e-3, 1.0), (1.0, 1e-3)):
        assert broken_least(ms_and_mb * units).tolist() == order


def test_what_is_not_wholly_known_is_not_known() -> None:
    both = [OutcomeConstraint.of("a <= 1"), OutcomeConstraint.of("b <= 1")]
    assert excesses(both, {"a": 3.0, "b": 0.0}).tolist() == [2.0, -1.0]
    assert np.isnan(excesses(both, {"a": 3.0})).all()


@given(
    st.lists(st.integers(-50, 50), min_size=2, max_size=9, unique=True),
    st.sampled_from(["fence", "half", "log"]),
)
def test_a_bound_is_warped_as_the_results_are(y: list[int], name: Any) -> None:
    values = np.array(y, dtype=np.float64)
    z = warp(values, name).z
    for value, expected in zip(y, z, strict=True):
        assert warped(float(value), values, name) == pytest.approx(expected)
    below, above = warped(min(y) - 1.0, values, name), warped(max(y) + 1.0, values, name)
    assert below is not None
    assert above is not None
    assert below < z.min()
    assert above > z.max() or math.isclose(above, z.max())
    assert warped(0.0, np.ones(3), name) is None


def ball(params: dict[str, Any]) -> dict[str, float]:
    """The best point of a ball that has three thousandths of the space is on its border."""
    point = np.array([params[f"x{i}"] for i in range(4)])
    return {"loss": float(((point - 0.9) ** 2).sum()), "outside": float(np.linalg.norm(point - 0.35) - 0.17)}


CLOSE = {"gp": 0.05, "auto": 0.05, "tpe": 0.5, "forest": 0.2, "cmaes": 0.5, "nsga2": 0.9}


@pytest.mark.parametrize(("strategy", "close"), CLOSE.items())
def test_a_small_region_that_keeps_a_bound_is_found_and_searched(strategy: str, close: float) -> None:
    """Who only hears that a trial is infeasible looks for a needle in a haystack."""
    best = (2 * 0.55 - 0.17) ** 2
    found = []
    for seed in range(2):
        settings = {"outcome_constraints": ["outside <= 0"]}
        study = Study({f"x{i}": Float(0.0, 1.0) for i in range(4)}, None, strategy, seed, settings=settings)
        for _ in range(45):
            trial = study.ask()
            study.tell(trial, ball(trial.params))
        found.append(study.best.values["loss"] - best)
    assert max(found) < close


@pytest.mark.parametrize(
    ("strategy", "objectives"),
    [(s, o) for s in ("gp", "tpe", "forest", "nsga2") for o in (["loss"], ["loss", "ms"])]
    + [("cmaes", ["loss"])],
)
def test_a_replay_proposes_the_same(strategy: str, objectives: list[str]) -> None:
    """Whatever a sampler remembers of excesses is a function of the history."""
    study, journal = recorded(
        {"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)},
        dict.fromkeys(objectives, "min"),
        strategy=strategy,
        settings={"outcome_constraints": ["ms <= 0.6", "size >= 0.25"]},
    )
    for _ in range(16):
        again = replayed(journal)
        trial = study.ask()
        assert again.ask().params == trial.params
        x, y = trial.params["x"], trial.params["y"]
        study.tell(trial, {"loss": (x - 0.8) ** 2 + y, "ms": x, "size": y})


@pytest.mark.parametrize("ms", [99.0, 1.0])
def test_a_metric_that_never_changes_says_nothing(ms: float) -> None:
    study = Study(LINE, strategy="gp", seed=0, settings={"outcome_constraints": ["ms <= 10"]})
    for _ in range(9):
        trial = study.ask()
        study.tell(trial, {"loss": trial.params["x"], "ms": ms})
    assert len({trial.params["x"] for trial in study.trials}) == 9


@pytest.mark.parametrize("folds", [False, True])
def test_where_trials_stop_early_those_that_ended_are_judged(folds: bool) -> None:
    study = constrained("ms <= 10")
    study.observe({"x": 0.5}, {"loss": 1.0, "ms": 4.0})
    for number, ms in enumerate((20.0, 5.0, 7.0)):
        trial = study.ask()
        study.report(trial, 1, {"loss": 1.0, **({"loss_fold": 1.0} if folds else {})})
        pruned = number == 2
        study.tell(trial, {"loss": 1.0, "ms": ms}, state="pruned" if pruned else "complete")
    found = training_set(study.history, 1, Memo())
    assert found.step == 1
    np.testing.assert_array_equal(found.excesses.ravel(), [-6.0, 10.0, -5.0, np.nan])
    assert np.isnan(found.values.ravel()).tolist() == [False, True, False, False]


def test_models_see_what_was_measured_whether_it_counts_or_not() -> None:
    """That of the objective too, and what came after they were fitted; that of failures the rest."""
    space = SearchSpace({"x": Float(0.0, 1.0)})
    rng = np.random.default_rng(0)
    excess = rng.normal(size=(30, 1))
    excess[[3, 25]] = np.nan  # these failed
    y = np.where(np.isnan(excess), np.nan, rng.normal(size=(30, 1)))
    usable = excess[:, 0] <= 0.0
    data = Data(rng.random((30, 1)), y, usable, np.empty((0, 1)), 0, excess)
    early = Data(data.X[:21], y[:21], usable[:21], data.pending, 0, excess[:21])
    state = refit(space, early, 21, (("matern", "half"),), Priors(), 100).grown(data)
    judged = np.delete(np.arange(30), [3, 25]).tolist()
    assert state.bound_rows.tolist() == state.rows.tolist() == judged
    assert state.failure_rows.tolist() == sorted([3, 25, *np.flatnonzero(usable).tolist()])
    assert len(state.bound_terms(data)) == 1
    known = refit(space, early, 3, (("matern", "half"),), Priors(), 100)
    assert known.failure is None, "a broken constraint is no failure"


@pytest.mark.parametrize("kept", [0, 1])
def test_a_trust_region_waits_for_results_that_count(kept: int) -> None:
    space = {f"x{i}": Float(0.0, 1.0) for i in range(22)}
    study = Study(space, strategy="gp", seed=0, settings={"outcome_constraints": ["ms <= -1"]})
    for number in range(9):
        trial = study.ask()
        study.tell(trial, {"loss": 0.0, "ms": -2.0 if number < kept else trial.params["x0"]})
    assert study.history.count(TrialState.COMPLETE) == kept
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 9


def test_auto_counts_what_constraints_cost() -> None:
    """A dozen bounds take as long to model as four objectives."""
    chosen = {}
    for bounds in (0, 12):
        study = constrained(*(f"m{i} <= 1" for i in range(bounds)))
        for _ in range(200):
            study.tell(study.ask(), {"loss": 1.0, **{f"m{i}": 0.0 for i in range(bounds)}})
        chosen[bounds] = choose(study.history)[0]
    assert chosen == {0: "gp", 12: "tpe"}


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(st.sampled_from([math.nan, -1.7e308, -2.0, 0.0, 0.0, 3.0, 1.7e308]), st.floats(-3, 3)),
        min_size=1,
        max_size=12,
    )
)
def test_results_that_break_a_bound_have_numbers_behind_those_that_keep_it(
    results: list[tuple[float, float]],
) -> None:
    """In the order of how far they break it, and finite at any scale."""
    values = np.array([math.nan if excess > 0.0 else value for value, excess in results])
    excess = np.array([[excess] for _, excess in results])
    found = behind_the_kept(values, excess)
    broken = excess[:, 0] > 0.0
    np.testing.assert_array_equal(found[~broken], values[~broken])
    assert np.isfinite(found[broken]).all()
    if np.isfinite(values).any() and broken.any() and np.nanmax(values) < 1e308:
        assert found[broken].min() > np.nanmax(values)
        places = np.unique(excess[broken, 0], return_inverse=True)[1]
        order = np.unique(found[broken], return_inverse=True)[1]
        np.testing.assert_array_equal(order, places)


def test_how_badly_a_trial_breaks_its_bounds() -> None:
    """First by how many, then by how much of each; what is not known breaks none."""
    two = [OutcomeConstraint.of("ms <= 10"), OutcomeConstraint.of("size >= 0")]
    ascending = [
        {"ms": 11.0},
        {"ms": 12.0, "size": 4.0},
        {"size": -1.0},
        {"ms": 1e300, "size": 0.0},
        {"ms": 11.0, "size": -0.1},
        {"ms": 11.0, "size": -0.2},
        {"ms": math.inf, "size": -0.2},
    ]
    amounts = [broken_by(two, metrics) for metrics in ascending]
    assert amounts == sorted(amounts)
    assert len(set(amounts)) == len(amounts)
    assert [broken_by(two, m) for m in ({}, {"ms": 10.0}, {"ms": math.nan}, {"loss": 99.0})] == [0.0] * 4


@pytest.mark.parametrize("strategy", ["forest", "cmaes", "nsga2"])
def test_where_nothing_keeps_a_bound_what_breaks_it_least_leads(strategy: str) -> None:
    """The search comes closer to the region, though no result counts yet."""
    study = Study(
        {"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)},
        strategy=strategy,
        seed=0,
        settings={"outcome_constraints": ["outside <= -1"]},
    )
    outside = []
    for _ in range(80):
        trial = study.ask()
        outside.append(math.hypot(trial.params["x"] - 0.9, trial.params["y"] - 0.2))
        study.tell(trial, {"loss": 0.0, "outside": outside[-1]})
    assert np.median(outside[-15:]) < 0.25 * np.median(outside[:15])
