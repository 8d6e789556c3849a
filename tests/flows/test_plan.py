"""From a request to a plan: names, what a journal keeps of it, and objectives by reference."""

from __future__ import annotations

import inspect
import json
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows import tune
from flows._flow import tune_flow
from flows._named import label_of, load_objective
from flows._plan import Plan, plan_callable, plan_request
from flows._request import Request
from flows.cli._tune import tune as command
from hpo_core import Float, InputError, ObjectiveError, SearchSpace, Settings, StrategyError
from tests.flows import objectives_for_tests as objectives
from tests.flows.conftest import Place
from tests.flows.small_tables import mixed, written

ETA = '{"name": "asha", "eta": 2}'
SPACE = SearchSpace({"x": Float(0.0, 1.0)})


@pytest.fixture
def table(place: Place) -> str:
    """A table, by a relative path."""
    return Path(written(place.folder, mixed())).name


def request_for(table: str, **more: Any) -> Request:
    """A ready objective on the table."""
    return Request(objective="lgbm", data=table, target="y", **more)


def test_the_name_of_a_table_study_follows_the_question(table: str) -> None:
    plain = request_for(table)
    name = plan_request(plain).terms.name
    assert name.startswith("lgbm-table-")
    assert plan_request(replace(plain, trials=7, workers=1, timeout=3.0)).terms.name == name
    for change in ({"metric": "logloss"}, {"strategy": "tpe"}, {"seed": 1}, {"options": {"folds": 3}}):
        assert plan_request(replace(plain, **change)).terms.name != name
    mixed(seed=1).to_csv(table, index=False)
    assert plan_request(plain).terms.name != name


def test_the_name_follows_the_rules_and_the_options_of_the_strategy_too(table: str) -> None:
    """Studies that decide otherwise had one name, so the second was silently answered by the first."""
    plain = request_for(table)
    names = [
        plan_request(request, strategy=strategy, settings=settings).terms.name
        for request, strategy, settings in (
            (plain, None, None),
            (plain, {"sampler": {"name": "gp", "acquisition": "ucb"}}, None),
            (plain, None, {"rule": "best"}),
            (plain, None, {"on_duplicate": "repeat"}),
            (replace(plain, max_steps=3), None, None),
        )
    ]
    assert len(set(names)) == len(names)
    assert plan_request(replace(plain, rule="best")).terms.name == names[2]
    assert plan_request(replace(plain, rule="last")).terms.name == names[0]
    spaced = [plan_request(replace(plain, strategy=s)).terms.name for s in (ETA, f" {ETA} ")]
    assert len({*names, *spaced}) == len(names) + 1


def test_whatever_a_study_can_be_told_a_request_can_say() -> None:
    """Rules that only Python could give were out of reach of the command line and of deployments."""
    asked = {field.name for field in fields(Request)}
    assert {*Settings.__slots__} <= asked
    # What only this package says, or what is said in another way.
    own = {"confirms", "register_as", "options"}
    assert asked - own <= set(inspect.signature(command).parameters)
    assert asked - {"confirms"} <= set(inspect.signature(tune_flow.fn).parameters)


def test_the_rules_of_a_request_become_the_studys(place: Place) -> None:
    Path("ruled.py").write_text("def loss(trial):\n    return trial.suggest_float('x', 0, 1)\n")
    request = Request(objective="ruled.py:loss", rule="average-3", on_duplicate="reuse", max_attempts=2)
    settings = plan_request(replace(request, strategy=ETA, max_steps=9)).terms.settings
    assert (settings.rule, settings.on_duplicate, settings.max_attempts) == ("average-3", "reuse", 2)
    assert plan_request(request, settings={"rule": "best"}).terms.settings.rule == "best"
    with pytest.raises(InputError, match="rule must be 'last', 'best' or 'average-K', got 'first'"):
        plan_request(replace(request, rule="first"))
    with pytest.raises(InputError, match="granularity must be a number of seconds of at least 0, got -1"):
        plan_request(replace(request, granularity=-1))


@pytest.mark.parametrize(("mib", "held"), [(1.5, 3 * 2**19), (2, 2**21), (1e308, int(1e308) * 2**20)])
def test_a_limit_on_memory_is_in_mebibytes_however_large(mib: float, held: int) -> None:
    """The largest numbers were an OverflowError: in bytes they are no floats."""
    limits = plan(trial_memory=mib).runner_terms.limits
    assert limits.memory == held


@pytest.mark.parametrize(
    "given, said",
    [
        ({"x": 0.5}, "enqueue takes a list of configurations"),
        ("{}", "enqueue takes a list of configurations"),
        (7, "enqueue takes a list of configurations"),
        (["x=0.5"], "a configuration is a dict of names and values .*, got 'x=0.5'"),
        ([[1]], r"a configuration is a dict of names and values .*, got \[1\]"),
        ([{"x": object()}], "a configuration is a dict of names and values"),
        ([{"x": 2.0}], "x"),
        ([{"z": 0.5}], "z"),
    ],
)
def test_a_configuration_that_cannot_be_tried_is_refused_before_anything_runs(given: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        plan(enqueue=given)


def test_configurations_come_as_dicts_and_as_text(table: str) -> None:
    given = [{"x": np.float64(0.5)}, '{"x": 0.25}', {}]
    made = plan(enqueue=given)
    assert made.terms.enqueued == ({"x": 0.5}, {"x": 0.25}, {})
    assert "enqueue" not in made.terms.meta["request"]
    assert plan_request(request_for(table, enqueue=({"num_leaves": 9},))).terms.enqueued == (
        {"num_leaves": 9},
    )


def test_the_journal_gets_the_request_and_no_secret(table: str) -> None:
    plan = plan_request(
        request_for(table, tracking_uri="http://me:secret@host", offline=True, seed=0, granularity=0.0)
    )
    kept = plan.terms.meta["request"]
    assert "secret" not in json.dumps(kept)
    assert "offline" not in kept
    assert kept["data"] == str(Path(table).resolve())
    assert kept["granularity"] == 0.0
    again = plan_request(Request(**kept))
    assert again.terms.name == plan.terms.name
    assert again.terms.identity == plan.terms.identity


def test_a_function_in_a_file_is_the_same_by_every_path(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (place.folder / "below").mkdir()
    (place.folder / "below" / "by_path.py").write_text("def loss(trial):\n    return 0.0\n")
    plans = [
        plan_request(Request(objective=f"{path}:loss"))
        for path in ("below/by_path.py", "./below/../below/by_path.py", place.folder / "below/by_path.py")
    ]
    assert len({plan.terms.name for plan in plans}) == 1
    assert plans[0].terms.identity == {"objective": "by_path:loss"}
    kept = plans[0].terms.meta["request"]["objective"]
    assert kept == f"{place.folder / 'below' / 'by_path.py'}:loss"
    assert load_objective(kept) is plans[0].objective
    assert load_objective("by_path:loss") is plans[0].objective


def test_a_space_may_be_longer_than_the_name_of_a_file(place: Place) -> None:
    """From 256 letters on, a space that was no file was a traceback: the text was looked for on the disk."""
    (place.folder / "loss_of_k.py").write_text("def loss(trial):\n    return trial.params['k']\n")
    long = json.dumps({"k": {"type": "categorical", "choices": list(range(200))}})
    plan = plan_request(Request(objective="loss_of_k.py:loss", space=long))
    assert plan.terms.meta["request"]["space"] == long


def test_a_function_carries_its_space_and_objectives(place: Place) -> None:
    (place.folder / "carries.py").write_text(
        "from hpo_core import Float\n\ndef both(trial):\n    return {'a': 0.0, 'b': 1.0}\n\n"
        "both.space = {'x': Float(0.0, 2.0)}\nboth.objectives = {'a': 'min', 'b': 'max'}\n"
    )
    terms = plan_request(Request(objective="carries.py:both")).terms
    assert terms.objectives == {"a": "min", "b": "max"}
    assert terms.space is not None
    assert terms.space.names == ("x",)
    (place.folder / "space.yaml").write_text("y: {type: int, low: 1, high: 3}\n")
    given = plan_request(Request(objective="carries.py:both", space="space.yaml")).terms
    assert given.space is not None
    assert given.space.names == ("y",)


def test_the_request_may_name_a_functions_metrics(place: Place) -> None:
    """It was refused, so that a function without the attribute could not maximise from the command line."""
    Path("plain.py").write_text("def score(trial): return trial.suggest_float('x', 0, 1)\n", encoding="utf-8")
    plain, best, most = (Request(objective="plain.py:score", metric=m) for m in (None, "auc=max", "auc=min"))
    assert plan_request(plain).terms.objectives == {"loss": "min"}
    assert plan_request(best).terms.objectives == {"auc": "max"}
    assert plan_request(best, objectives={"loss": "min"}).terms.objectives == {"loss": "min"}
    assert len({plan_request(request).terms.name for request in (plain, best, most)}) == 3
    with pytest.raises(InputError, match=r"'plain\.py:score' needs the metric to tune and its direction"):
        plan_request(replace(best, metric="auc"))


def test_labels_are_the_same_for_functions_methods_and_callable_objects() -> None:
    class Callable:
        def __call__(self, trial: Any) -> float:
            return 0.0

    assert label_of(objectives.square) == "tests.flows.objectives_for_tests:square"
    assert label_of(Callable()).endswith("<locals>.Callable")
    assert load_objective(label_of(objectives.square)) is objectives.square


def test_a_class_is_no_objective() -> None:
    """Its objects may be; to go on with a study of one, or of a partial function, was a traceback."""
    for name in ("functools:partial", f"{objectives.__name__}:Prepared"):
        with pytest.raises(ObjectiveError, match=f"{name} is a class, .* give an object of it a name"):
            plan_request(Request(objective=name))
    forgotten: Any = objectives.Prepared
    with pytest.raises(ObjectiveError, match=r"class 'Prepared'; hand over an object .* Prepared\(\.\.\.\)"):
        tune(forgotten)


def test_a_built_in_function_has_a_name_though_no_file() -> None:
    """`hpo tune math:sin` was a traceback; its trials say what is wrong with it."""
    assert plan_request(Request(objective="math:sin")).terms.name.startswith("math-sin-")


def plan(**fields: Any) -> Any:
    """The plan for a function with these fields of the request."""
    more: dict[str, Any] = {k: fields.pop(k) for k in ("strategy", "settings", "objectives") if k in fields}
    options: dict[str, Any] = {"space": SPACE, "objectives": None, **more}
    return plan_callable(objectives.square, request=Request(**fields), **options)


def test_settings_reach_the_study_and_wrong_ones_are_named() -> None:
    terms = plan(settings={"rule": "best", "max_steps": 9}, workers=3).terms
    assert (terms.settings.rule, terms.settings.max_steps, terms.settings.workers) == ("best", 9, 3)
    with pytest.raises(InputError, match="unknown setting 'rules'; did you mean 'rule'"):
        plan(settings={"rules": "best"})
    with pytest.raises(InputError, match="rule must be"):
        plan(settings={"rule": "worst"})


@pytest.mark.parametrize(
    ("given", "trials"),
    [
        ({}, 100),
        ({"stop_when": "never"}, 100),
        ({"max_failures": 3}, 100),
        ({"timeout": 60.0}, None),
        ({"max_cost": 60.0}, None),
        ({"max_total_steps": 60}, None),
        ({"stop_when": "noise"}, None),
        ({"timeout": 60.0, "trials": 7}, 7),
    ],
)
def test_trials_are_limited_by_default_only_where_nothing_else_ends_the_study(
    given: dict[str, Any], trials: int | None
) -> None:
    assert plan(**given).terms.limits.trials == trials


@pytest.mark.parametrize("limit", ["timeout", "max_cost", "max_total_steps"])
@pytest.mark.parametrize("strategy", ["asha", "gp+asha", "multi_fidelity", "tpe"])
def test_a_study_that_may_end_early_has_a_complete_trial_early(strategy: str, limit: str) -> None:
    """By the paper's rule ASHA's first complete trial may come too late to come at all."""
    terms = [plan(strategy=strategy, max_steps=9, **{limit: amount}).terms for amount in (None, 60)]
    baselines = [getattr(t.strategy.scheduler, "baseline", None) for t in terms]
    assert baselines == ([False, True] if "asha" in strategy else [None, None])
    assert terms[0].strategy.name == terms[1].strategy.name == strategy
    assert type(terms[0].strategy.sampler) is type(terms[1].strategy.sampler)


def test_a_strategy_that_cannot_handle_the_study_is_refused_in_the_plan() -> None:
    with pytest.raises(StrategyError):
        plan(strategy="cmaes", objectives={"a": "min", "b": "min"})
    with pytest.raises(InputError, match="small"):
        plan(objectives={"a": "small"})
    with pytest.raises(InputError):
        plan(strategy="asha")  # needs to know the last step


def test_what_cannot_be_pickled_goes_to_threads_only() -> None:
    lock = __import__("threading").Lock()

    def holds(trial: Any) -> float:
        with lock:
            return 0.0

    with pytest.raises(ObjectiveError, match="cannot be sent to worker processes"):
        plan_callable(holds, request=Request(), space=SPACE, objectives=None)
    plan_callable(holds, request=Request(isolation="thread"), space=SPACE, objectives=None)


def test_the_default_strategy_begins_with_configurations_of_the_objective(table: str) -> None:
    first = plan_request(request_for(table)).terms.first
    space = plan_request(request_for(table)).terms.space
    assert space is not None
    assert first[0] == space.decode(space.default_unit())
    assert {(c["num_leaves"] == 6, c["extra_trees"]) for c in first} == {
        (small, extra) for small in (False, True) for extra in (False, True)
    }
    for strategy, begins in (("asha", True), ("random", False), ("tpe+median", False)):
        assert bool(plan_request(request_for(table, strategy=strategy)).terms.first) == begins


@pytest.mark.parametrize(
    ("space", "number"),
    [
        ({"num_leaves": {"type": "int", "low": 8, "high": 20}, "learning_rate": 0.03}, 4),
        ({"extra_trees": {"value": False}, "constraints": ["num_leaves >= 7"]}, 1),
        ({"max_bin": {"low": 40, "high": 80, "when": {"extra_trees": False}}}, 4),
        ({"replace": True, "boosting": ["gbdt", "dart"]}, 1),
    ],
)
def test_what_a_space_file_rules_out_is_not_begun_with(table: str, space: Any, number: int) -> None:
    terms = plan_request(request_for(table, space=json.dumps(space))).terms
    assert terms.space is not None
    assert len(terms.first) == number
    for params in terms.first:
        u = terms.space.encode(params)
        assert terms.space.allowed(u[None, :])[0]
        assert terms.space.decode(u) == params


async def waits(trial: Any) -> float:
    return 1.0


def yields(trial: Any) -> Any:
    yield 1.0


class Waiting:
    async def __call__(self, trial: Any) -> float:
        return 1.0


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (0.5, "a function of a trial, or the name of one, got 0.5; hand over the function itself"),
        (None, "got None"),
        (waits, "is an async function"),
        (Waiting(), "is an async function"),
        (yields, "is a generator function"),
        (lambda: 1.0, "cannot be called with a trial alone"),
        (lambda trial, data: 1.0, "cannot be called with a trial alone .* functools.partial"),
    ],
)
def test_what_no_trial_can_be_evaluated_with_is_refused(place: Place, function: Any, words: str) -> None:
    with pytest.raises(ObjectiveError, match=words):
        tune(function, trials=1)
    assert not place.studies


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"timeout": "60"}, "timeout must be a number above 0, got '60'"),
        ({"trial_timeout": True}, "trial_timeout must be a number above 0, got True"),
        ({"objectives": ["loss"]}, "objectives must be a dict of names and directions"),
        ({"settings": 5}, "settings must be a dict"),
        ({"options": 5}, "options must be a dict"),
        ({"options": {"folds": 3}}, "'folds' goes with the ready objectives"),
        ({"metric": "auc=max"}, "named by objectives={'auc': 'max'}, not by metric="),
        ({"data": "table.csv"}, "'data' goes with the ready objectives"),
        ({"env_manager": "uv"}, "'env_manager' goes with MLflow projects"),
        ({"name": 5}, "a study's name has letters"),
        ({"name": "\u65e5" * 90}, "240 bytes"),
        ({"tracking_uri": Path("x.db")}, "tracking_uri must be text"),
        ({"experiment": 2026}, "experiment must be text such as 'churn', got 2026"),
        ({"dask": "tcp://127.0.0.1:1"}, "goes with the runner 'dask', got 'local'"),
        ({"gpus_per_trial": 0.5}, "goes with the runners 'gpu' and 'dask'"),
        ({"isolation": "thread", "runner": "dask"}, "leave one of them out"),
    ],
)
def test_an_argument_that_cannot_be_meant_is_refused_in_one_line(
    place: Place, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        tune(objectives.square, **{"trials": 1, **given})
    assert not place.studies


def test_two_studies_of_a_moment_without_names_are_two() -> None:
    plans = [
        plan_callable(objectives.square, request=Request(), space=None, objectives=None) for _ in range(2)
    ]
    assert plans[0].terms.name != plans[1].terms.name


def test_numbers_of_numpy_are_taken_as_numbers(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they come out of a table: `trials` was no whole number then, and `timeout` ended in a traceback."""
    plans: list[Plan] = []
    monkeypatch.setattr("flows._tune._shown", lambda plan, *_: plans.append(plan))
    given: dict[str, Any] = {
        "trials": np.int64(7), "timeout": np.float64(60.0), "workers": np.int32(2), "seed": np.int64(3),
        "name": np.str_("mine"), "max_failures": np.int64(5), "stop_when": np.float64(0.5),
        "trial_timeout": np.float32(2.5), "offline": np.bool_(True),
    }  # fmt: skip
    tune(objectives.square, **given)
    tune(objectives.square, **{name: value.item() for name, value in given.items()})
    one, other = plans
    assert (one.terms.limits, one.runner_terms, one.tracking) == (
        other.terms.limits,
        other.runner_terms,
        other.tracking,
    )
    assert json.dumps(one.terms.meta["request"]) == json.dumps(other.terms.meta["request"])
    for options in ({"options": {"folds": np.int64(3)}}, {"folds": np.int64(3)}):
        tune("lgbm", data="sklearn:wine", target="target", trials=1, **options)
        assert json.dumps(plans[-1].terms.meta["request"]["options"]) == '{"folds": 3}'
