"""Results from elsewhere: what fits is observed once, the rest is counted by reason, mistakes are named."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_core import Categorical, Float, InputError, Int, SearchSpace, Study, Trial, TrialState
from hpo_core.warm_start import Outcome, Past, adopt, fit
from tests.hpo_core.space_strategies import spaces
from tests.hpo_core.studies import recorded, replayed

SPACE = SearchSpace(
    {
        "rate": Float(1e-3, 1.0, log=True),
        "layers": Int(1, 4),
        "kind": Categorical(["a", "b", 3, True, None, 0.5]),
        "inner": Float(0.0, 1.0).when("kind", "a"),
    },
    ["rate + layers <= 4.5"],
)
GOOD: dict[str, Any] = {"rate": 0.1, "layers": 2, "kind": "b"}


def outcome(number: int = 0, state: TrialState = TrialState.COMPLETE, **changes: Any) -> Outcome:
    """A result of a configuration that fits, but for the changes."""
    params = {k: v for k, v in {**GOOD, **changes}.items() if v != "gone"}
    return Outcome(key=f"k{number}", params=params, values={"loss": 0.5}, state=state)


def past(*outcomes: Outcome, **terms: Any) -> Past:
    """A source with a loss to be minimised."""
    return Past(source="old", outcomes=outcomes, **{"directions": {"loss": "min"}, **terms})


@pytest.mark.parametrize(
    "bad, says",
    [
        (outcome(1, rate=2.0), "with 'rate' outside its range"),
        (outcome(1, layers=9), "with 'layers' outside its range"),
        (outcome(1, kind="c"), "with 'kind' outside its range"),
        (outcome(1, kind=1), "with 'kind' outside its range"),
        (outcome(1, layers="gone"), "without 'layers'"),
        (outcome(1, kind="a"), "without 'inner'"),
        (outcome(1, layers=4, rate=1.0), "against the constraints"),
        (outcome(1, state=TrialState.PRUNED), "pruned"),
        (outcome(1, state=TrialState.RUNNING), "without an end"),
        (outcome(1, state=TrialState.CANCELLED), "without an end"),
        (outcome(1, state=TrialState.LOST), "without an end"),
        (Outcome(key="k1", params=GOOD, values={"loss": math.nan}), "with 'loss' not finite"),
        (Outcome(key="k1", params=GOOD, values={"other": 1.0}), "without the metric 'loss'"),
    ],
)
def test_what_does_not_fit_is_counted(bad: Outcome, says: str) -> None:
    """By reason; the others are taken."""
    found = fit(SPACE, {"loss": "min"}, past(outcome(0), bad))
    assert [key for key, _, _ in found.rows] == ["k0"]
    assert dict(found.skipped) == {says: 1}
    assert str(found) == f"warm start from old: 1 result; left out 1: 1 {says}"


@pytest.mark.parametrize(
    "state", [TrialState.FAILED, TrialState.INFEASIBLE, TrialState.TIMED_OUT, TrialState.OUT_OF_MEMORY]
)
def test_failures_are_observed_as_failures(state: TrialState) -> None:
    """They are evidence without a value, whatever number they left."""
    study = Study(SPACE, strategy="random")
    found = fit(SPACE, {"loss": "min"}, past(outcome(0, state=state)))
    assert found.failures == adopt(study, found) == 1
    assert study.history.evidence.states.tolist() == [TrialState.FAILED]
    assert math.isnan(study.history.evidence.values[0, 0])


def test_an_objective_that_has_a_bound_is_still_the_metric_that_it_is_mapped_to() -> None:
    """The source has a metric of the objective's own name, too, also of what failed."""
    outcomes = [
        Outcome(key=state.label, params=GOOD, values={"loss": 0.01, "validation": 0.5}, state=state)
        for state in (TrialState.COMPLETE, TrialState.FAILED)
    ]
    source = past(*outcomes, metrics={"loss": "validation"})
    found = fit(SPACE, {"loss": "min"}, source, bounded=["loss"])
    assert [values["loss"] for _, _, values in found.rows] == pytest.approx([0.5, math.nan], nan_ok=True)


@pytest.mark.parametrize(
    "objectives, terms, value",
    [
        ({"loss": "min"}, {}, 0.5),
        ({"score": "max"}, {"metrics": {"score": "-loss"}}, -0.5),
        ({"error": "min"}, {"metrics": {"error": "loss"}}, 0.5),
        ({"loss": "max"}, {"directions": {}}, 0.5),
        ({"any": "min"}, {"positional": True}, 0.5),
    ],
)
def test_metrics_are_mapped(objectives: dict[str, str], terms: dict[str, Any], value: float) -> None:
    """By name, by place, or with the sign turned; a source without directions is taken at its word."""
    ((_, _, values),) = fit(SPACE, objectives, past(outcome(), **terms)).rows
    assert values == {next(iter(objectives)): value}


@pytest.mark.parametrize(
    "objectives, terms, says",
    [
        ({"loss": "max"}, {}, "minimised there and 'loss' maximised here.*loss=-loss"),
        ({"score": "max"}, {"metrics": {"score": "loss"}}, "score=-loss"),
        ({"error": "min"}, {"metrics": {"error": "-loss"}}, "error=loss"),
        ({"los": "min"}, {}, "no metric 'los'; did you mean 'loss'"),
        ({"a": "min", "b": "min"}, {"positional": True}, "1 objectives .* this study has 2"),
        ({"loss": "min"}, {"params": {"rat": "lr"}}, "'rat' is neither .* 'rate'"),
    ],
)
def test_what_makes_no_sense_is_refused(objectives: dict[str, str], terms: dict[str, Any], says: str) -> None:
    """With what to say instead."""
    with pytest.raises(InputError, match=says):
        fit(SPACE, objectives, past(outcome(), **terms))


def test_a_source_that_gives_nothing_is_refused() -> None:
    """Whoever asks for a warm start is told that there is none, and why."""
    with pytest.raises(InputError, match=r"nothing in old fits .* 2 without 'rate'"):
        fit(SPACE, {"loss": "min"}, past(outcome(0, rate="gone"), outcome(1, rate="gone")))
    with pytest.raises(InputError, match="it has no results"):
        fit(SPACE, {"loss": "min"}, past())


def test_names_are_mapped_and_what_is_more_is_ignored() -> None:
    """An inactive parameter does not come along; unknown ones are named."""
    params = {"lr": 0.1, "layers": 2.0, "kind": "b", "inner": 0.3, "seed": 7}
    source = past(Outcome(key="k", params=params, values={"loss": 1.0}), params={"rate": "lr"})
    found = fit(SPACE, {"loss": "min"}, source)
    assert [row[1] for row in found.rows] == [GOOD]
    assert type(found.rows[0][1]["layers"]) is int
    assert list(found.ignored) == ["seed"]
    assert str(found).endswith("1 result; ignored seed, which the space does not have")
    # What the source calls as this study does is another thing where a name is mapped.
    both = [Outcome(key=f"{lr}", params={**GOOD, **lr}, values={"loss": 1.0}) for lr in ({"lr": 0.2}, {})]
    found = fit(SPACE, {"loss": "min"}, past(*both, params={"rate": "lr"}))
    assert [row[1] for row in found.rows] == [{**GOOD, "rate": 0.2}]
    assert dict(found.skipped) == {"without 'rate'": 1}


@pytest.mark.parametrize("written", ["b", "3", "True", "None", "0.5", "5e-1", "true", "null"])
def test_text_is_read_by_the_parameters_type(written: str) -> None:
    """As ``str`` and as JSON write it."""
    meant = {"b": "b", "3": 3, "True": True, "true": True, "None": None, "null": None}.get(written, 0.5)
    text = {"rate": "1e-1", "layers": "2", "kind": written}
    found = fit(SPACE, {"loss": "min"}, past(Outcome(key="k", params=text, values={"loss": 1.0}, text=True)))
    assert found.rows[0][1] == {"rate": 0.1, "layers": 2, "kind": meant}
    assert type(found.rows[0][1]["kind"]) is type(meant)


@pytest.mark.parametrize("params", [{"rate": "fast"}, {"layers": "2.5"}, {"kind": "c"}, {"rate": "nan"}])
def test_text_that_stands_for_nothing_is_left_out(params: Mapping[str, str]) -> None:
    """Not a guess."""
    text = {"rate": "0.1", "layers": "2", "kind": "b"}
    rows = [{**text, **params}, text]
    outcomes = [Outcome(key=str(i), params=p, values={"loss": 1.0}, text=True) for i, p in enumerate(rows)]
    found = fit(SPACE, {"loss": "min"}, past(*outcomes))
    assert (len(found.rows), sum(found.skipped.values())) == (1, 1)


@given(space=spaces(), seed=st.integers(0, 99))
def test_every_configuration_of_the_space_fits_as_it_is_and_as_text(space: SearchSpace, seed: int) -> None:
    """Drawn from the space, written by ``str``, read again: the same point of the unit cube."""
    import numpy as np

    points = space.sample(np.random.default_rng(seed), 3)
    exact = [Outcome(key=f"{i}", params=space.decode(u), values={"loss": 0.0}) for i, u in enumerate(points)]
    written = [
        Outcome(key=o.key, params={k: str(v) for k, v in o.params.items()}, values=o.values, text=True)
        for o in exact
    ]
    for outcomes in (exact, written):
        found = fit(space, {"loss": "min"}, past(*outcomes))
        assert len(found.rows) == 3
        for (_, params, _), u in zip(found.rows, points, strict=True):
            assert np.allclose(space.encode(params), u, atol=1e-9, equal_nan=True)


def test_the_same_result_is_observed_once(tmp_path: Any) -> None:
    """Again in this process, and in another one that reads the journal."""
    from hpo_core import Journal

    path = tmp_path / "journal.jsonl"
    found = fit(SPACE, {"loss": "min"}, past(outcome(0), outcome(1, rate=0.2)))
    with Journal(path) as journal:
        study = Study(SPACE, strategy="tpe", journal=journal)
        assert (adopt(study, found), adopt(study, found)) == (2, 0)
        unbroken = study.ask().params
    with Journal(path) as journal:
        again = Study.replay(journal.events)
        assert adopt(again, found) == 0
        assert again.history.n_trials == 1
        assert again.trials[0].params == unbroken
        assert again.history.evidence.trials.tolist() == [-1, -1]


def test_a_model_uses_what_it_was_given() -> None:
    """A narrow valley that is known already is where TPE begins, without a random start."""
    space = SearchSpace({"x": Float(0.0, 1.0)})
    outcomes = [
        Outcome(key=str(i), params={"x": i / 40}, values={"loss": abs(i / 40 - 0.7)}) for i in range(41)
    ]
    study = Study(space, strategy="tpe", seed=1)
    adopt(study, fit(space, {"loss": "min"}, past(*outcomes)))
    tried = [study.ask().params["x"] for _ in range(10)]
    assert sum(abs(x - 0.7) < 0.15 for x in tried) >= 8


def ask_for(trial: Trial, *, deep: bool = False) -> float:
    """What an objective asks for: ``depth`` only with one kind."""
    rate = trial.suggest_float("rate", 1e-3, 1.0, log=True)
    layers = trial.suggest_int("layers", 1, 4)
    kind = trial.suggest_categorical("kind", ["a", "b"])
    return rate * layers + (trial.suggest_int("depth", 1, 3) if deep and kind == "b" else 0)


def test_define_by_run_takes_values() -> None:
    """What the objective will ask for is not known yet."""
    study = Study(None, strategy="random")
    adopt(study, fit(None, {"loss": "min"}, past(outcome(0))))
    trial = study.ask()
    study.tell(trial, ask_for(trial))
    assert sorted(study.history.evidence.trials.tolist()) == [-1, 0]


def as_text(key: str, loss: float = 0.5, **params: object) -> Outcome:
    """A run by hand, with a parameter that no objective asks for."""
    given = {name: str(value) for name, value in params.items()}
    return Outcome(key=key, params={**given, "author": "me"}, values={"loss": loss}, text=True)


def test_whole_numbers_beyond_a_floats_digits_are_read_as_they_are() -> None:
    """Text of them went through a float: 2^53 + 1 was taken for its neighbour, or for out of range."""
    first = 2**53 + 1
    space = SearchSpace({"n": Int(first, first + 100)})
    rows = [as_text(str(n), n=n) for n in (first, first + 6, first + 100)]
    found = fit(space, {"loss": "min"}, past(*rows, as_text("float", n=f"{float(first + 7)}")))
    assert [params["n"] for _, params, _ in found.rows] == [first, first + 6, first + 100, first + 7]


def test_define_by_run_reads_text_once_the_objective_has_asked() -> None:
    """MLflow keeps text, which has no type before that; such runs were refused: declare the space."""
    runs = [
        as_text("good", rate=0.1, layers=2.0, kind="a"),
        as_text("renamed", lr=0.2, layers=3, kind="b"),
        as_text("out of range", rate=7, layers=2, kind="a"),
        as_text("of another kind", rate=0.1, layers=2, kind="z"),
        as_text("incomplete", layers=2, kind="a"),
        as_text("no number", rate="auto", layers=2, kind="a"),
    ]
    found = fit(None, {"loss": "min"}, past(*runs[:1], *runs[2:]))
    renamed = fit(None, {"loss": "min"}, past(runs[1], params={"rate": "lr"}))
    assert "matched with those that the objective asks for" in str(found)
    study, journal = recorded(None, strategy="random")
    assert (adopt(study, found), adopt(study, renamed)) == (5, 1)
    assert study.history.evidence.trials.tolist() == []
    trial = study.ask()
    study.tell(trial, ask_for(trial))
    for same in (study, replayed(journal)):
        evidence = same.history.evidence
        known = [same.space.decode(x) for x in evidence.X[evidence.trials < 0]]
        assert known == [
            {"rate": pytest.approx(0.1), "layers": 2, "kind": "a"},
            {"rate": pytest.approx(0.2), "layers": 3, "kind": "b"},
        ]


def test_text_without_a_conditional_parameter_fits_once_the_condition_is_known() -> None:
    study = Study(None, strategy="random", seed=2)
    runs = [
        as_text("shallow", rate=0.1, layers=2, kind="a"),
        as_text("deep", rate=0.2, layers=2, kind="b", depth=3),
    ]
    adopt(study, fit(None, {"loss": "min"}, past(*runs)))
    for _ in range(20):
        trial = study.ask()
        study.tell(trial, ask_for(trial, deep=True))
    assert study.space.parameters["depth"].conditions
    evidence = study.history.evidence
    known = [study.space.decode(x) for x in evidence.X[evidence.trials < 0]]
    assert [set(params) for params in known] == [
        {"rate", "layers", "kind"},
        {"rate", "layers", "kind", "depth"},
    ]


def test_a_sampler_learns_from_text_that_an_objective_has_given_types() -> None:
    outcomes = [as_text(f"k{i}", loss=(i / 30 - 0.7) ** 2, x=i / 30) for i in range(30)]
    study = Study(None, strategy="tpe", seed=1)
    adopt(study, fit(None, {"loss": "min"}, past(*outcomes)))
    tried = []
    for _ in range(11):
        trial = study.ask()
        tried.append(trial.suggest_float("x", 0.0, 1.0))
        study.tell(trial, (tried[-1] - 0.7) ** 2)
    assert sum(abs(x - 0.7) < 0.15 for x in tried[1:]) >= 8


def test_results_that_break_a_constraint_here_are_no_example_to_follow() -> None:
    """Whether they were judged there or not: what they measured is the same."""
    measured = [(0.1, TrialState.COMPLETE), (20.0, TrialState.COMPLETE), (30.0, TrialState.INFEASIBLE)]
    outcomes = [
        Outcome(
            key=f"k{i}", params={**GOOD, "rate": 0.1 + i / 10}, values={"loss": 0.5, "ms": ms}, state=state
        )
        for i, (ms, state) in enumerate(measured)
    ]
    study = Study(SPACE, strategy="random", settings={"outcome_constraints": ["ms <= 10"]})
    adopt(study, fit(SPACE, {"loss": "min"}, past(*outcomes), bounded=["ms", "size"]))
    evidence = study.history.evidence
    np.testing.assert_array_equal(evidence.values.ravel(), [0.5, np.nan, np.nan])
    np.testing.assert_allclose(evidence.excesses.ravel(), [-9.9, 10.0, 20.0])
