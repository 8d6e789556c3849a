"""What a user may well do and nobody planned for: odd results, copies, mix-ups, rare configurations."""

from __future__ import annotations

import copy
import pickle
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hpo_core import (
    Float,
    InputError,
    Int,
    Journal,
    SearchSpace,
    SpaceError,
    StrategyError,
    Study,
    StudyFinished,
    StudyStateError,
    make_strategy,
    strategy_names,
)
from hpo_core._events import Event
from hpo_core._journal import read_journal
from hpo_core._strategy import Wait
from hpo_core.compare import compare
from hpo_core.importance import importances
from hpo_core.samplers._trees import compressed


def _study(**given: Any) -> Study:
    space = SearchSpace({"x": Float(0.0, 1.0), "n": Int(1, 500)}, constraints="x + n > 0.5")
    return Study(space, **{"strategy": "random", "limits": {"improvement": "noise"}, **given})


def _advanced(study: Study, trials: int) -> Study:
    for i in range(trials):
        trial = study.ask()
        study.tell(trial, float(i % 5))
    return study


@pytest.mark.parametrize("strategy", sorted({*strategy_names()} - {"cmaes", "threshold"}))
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda study: pickle.loads(pickle.dumps(study))])
def test_a_copied_study_goes_on_by_itself_as_the_original_would(strategy: str, copied: Any) -> None:
    study = _advanced(_study(strategy=strategy, settings={"max_steps": 9}), 12)
    other = copied(study)
    asked = other.ask()
    other.tell(asked, 1.0)
    other.enqueue({"n": 7})
    other.note("copy", {})
    assert not study.state.queue
    assert not study.state.notes
    assert other.ask().params["n"] == 7
    assert len(other.state.notes) == 1
    again = study.ask()
    assert (again.number, again.params) == (asked.number, asked.params)


@pytest.mark.parametrize("step", ["4", 4.5, -1, True])
def test_a_step_that_is_none_is_refused_before_it_is_written(tmp_path: Any, step: Any) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        study = _study(journal=journal)
        trial = study.ask()
        with pytest.raises(InputError, match="whole number"):
            study.tell(trial, 1.0, step=step)
        study.tell(trial, 1.0, step=np.int64(4))
    replayed = Study.replay(event for _, event, _ in read_journal(path))
    assert replayed.trials[0].step == 4
    assert replayed.best.values == {"loss": 1.0}


def test_an_array_of_one_number_is_a_number() -> None:
    study = _study()
    study.tell(study.ask(), {"loss": np.array([0.5]), "more": np.array([[1]])})
    assert study.best.values == {"loss": 0.5}
    with pytest.raises(InputError, match="must be a number"):
        study.tell(study.ask(), np.array(["0.5"]))


def test_a_trial_of_another_study_is_refused() -> None:
    mine, other = _study(), _study()
    mine.ask()
    stray = other.ask()
    with pytest.raises(StudyStateError, match="another study"):
        mine.tell(stray, 1.0)
    with pytest.raises(StudyStateError, match="another study"):
        mine.report(stray, 1, 1.0)
    other.tell(pickle.loads(pickle.dumps(stray)), 1.0)


def test_whole_numbers_of_a_table_are_whole_numbers() -> None:
    study = _study()
    study.enqueue({"x": 0.5, "n": 2.0})
    asked = study.ask().params
    assert asked == {"x": 0.5, "n": 2}
    assert isinstance(asked["n"], int)


@pytest.mark.parametrize("given", [None, [], "x"])
def test_a_configuration_that_is_no_dict_is_refused(given: Any) -> None:
    with pytest.raises(SpaceError, match="a dict of names and values"):
        _study().enqueue(given)
    with pytest.raises(SpaceError, match="a dict of names and values"):
        _study().observe(given, 1.0)


@pytest.mark.parametrize("given", ["loss", ["loss"], 5])
def test_objectives_that_are_no_dict_are_refused(given: Any) -> None:
    with pytest.raises(InputError, match="a dict of names and directions"):
        _study(objectives=given)


def test_constraints_that_are_none_are_refused() -> None:
    with pytest.raises(SpaceError, match="expressions or functions"):
        SearchSpace({"x": Float(0.0, 1.0)}, constraints=5)  # type: ignore[arg-type]


def test_a_stopped_study_says_so_where_nobody_gave_a_reason() -> None:
    study = _study()
    study.stop()
    with pytest.raises(StudyFinished, match="stopped as finished"):
        study.ask()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sampler": 5}, "a sampler is a name"),
        ({"sampler": {}}, "a sampler is a name"),
        ({"scheduler": None}, "a scheduler is a name"),
        ("asha+tpe", "write 'tpe\\+asha'"),
        ("tpe+gp", "both samplers"),
    ],
)
def test_a_strategy_put_together_wrongly_is_refused_with_the_right_way(given: Any, message: str) -> None:
    with pytest.raises(StrategyError, match=message):
        make_strategy(given)


def test_a_strategy_of_a_name_alone_is_the_one_of_that_name() -> None:
    assert make_strategy({"name": "tpe"}) == make_strategy("tpe")


@pytest.mark.parametrize("strategy", ["gp", "forest", "tpe"])
def test_constraints_that_leave_one_in_a_thousand_end_no_study(strategy: str) -> None:
    space = SearchSpace(
        {"a": Float(0.0, 1.0), "b": Float(0.0, 1.0)}, constraints=["a < 0.0316", "b < 0.0316"]
    )
    study = Study(space, strategy=strategy, seed=1)
    for i in range(12):
        trial = study.ask()
        assert max(trial.params.values()) < 0.0316
        study.tell(trial, float(i % 5))
    study.enqueue({})
    assert max(study.ask().params.values()) < 0.0316


def test_the_widest_logarithmic_range_has_its_values() -> None:
    widest = Float(5e-324, 1.7e308, log=True)
    values = [widest.decode(u) for u in (0.0, 0.25, 0.5, 0.75, 0.999, 1.0)]
    assert values == sorted(set(values))
    assert values[0] == 5e-324
    assert values[-1] == 1.7e308
    assert np.isclose(values[2], np.sqrt(5e-324) * np.sqrt(1.7e308), rtol=1e-6)


def test_results_near_the_largest_number_leave_rules_a_number_to_judge_by() -> None:
    assert np.isfinite(compressed(np.array([-1e308, -1e308, 1.7e308, 1.7e308]))).all()
    for strategy in ("race", "wilcoxon"):
        study = Study({"x": Float(0.0, 1.0)}, strategy=strategy, settings={"max_steps": 5})
        stopped = []
        for number in range(8):
            trial = study.ask()
            results = [1.7e308 * (number % 2 * 2 - 1), float(number), 1e308, -1e308, 1.0]
            verdicts = [study.report(trial, step, value) for step, value in enumerate(results, start=1)]
            stopped += [v.reason for v in verdicts if v is not None]
            study.tell(trial, 0.0)
        assert not [reason for reason in stopped if "nan" in reason or "inf" in reason]


def test_a_trial_that_its_rung_was_decided_without_and_that_is_run_again_holds_it_up() -> None:
    """So does a replay, which finds it on its way when the rung is to be decided."""
    events: list[Event] = []

    class Kept:
        def append(self, event: Event) -> int:
            events.append(event)
            return len(events)

    study = Study(
        {"x": Float(0.0, 1.0)},
        strategy="random+successive_halving",
        settings={"max_steps": 9},
        limits={"trials": 9},
        journal=Kept(),
    )
    for value in range(8):
        study.tell(study.ask(), float(value))
    failed = study.ask().number
    study.tell(failed, state="failed")
    assert study.ask().number == 0
    study.requeue(failed)
    assert study.ask().number == failed
    replayed = Study.replay(list(events))
    assert isinstance(study.execution.next(), Wait)
    assert isinstance(replayed.execution.next(), Wait)
    study.tell(failed, 3.0)
    assert study.ask().number == 1


def odd(value: object) -> Any:
    """What a type checker would not let through."""
    return value


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: _study(name=[1, 2]), "name must be a non-empty string, got \\[1, 2\\]"),
        (lambda: _study(meta=["a"]), "meta must be a dict"),
        (lambda: _study(journal="j.jsonl"), "journal must be a Journal\\(path\\)"),
        (lambda: _study(limits={"trials": 10**400}), "limit trials must be a positive number"),
        (lambda: _study(settings={"on_duplicate": np.zeros(2)}), "on_duplicate must be"),
        (lambda: _study(strategy={"scheduler": {"name": "asha", "metric": 5}}), "metric must be the name"),
        (lambda: _study(strategy={"sampler": {"name": "forest", "trees": 100}}), "a Trees\\(...\\), got 100"),
        (lambda: _study().ask(odd("x")), "now is a time, .* got 'x'"),
        (lambda: _study().execution.next(odd(None)), "now is a time"),
        (lambda: _study().ask(np.nan), "now is a time, .* got nan"),
        (lambda: _study().ask(10**400), "now is a time"),
        (lambda: (study := _study()).tell(study.ask(), 1.0, now=odd("x")), "now is a time"),
        (lambda: _study().change_space(odd({"x": 1})), "goes on with a SearchSpace"),
        (lambda: _study().note("topic", odd(5)), "data must be a dict"),
        (lambda: Float(0.0, 1.0).when(odd(5), "a"), "takes the name of another parameter first, got 5"),
        (lambda: SearchSpace.from_json({}), "an object with 'parameters'"),
        (lambda: _study().enqueue({"x": np.nan}), "parameter 'x' must be .*, got nan"),
        (lambda: Study.replay(odd("journal.jsonl")), "from events, .* got 'journal.jsonl'"),
        (lambda: Study.replay(odd(None)), "from events, such as Journal.path..events; got None"),
        (lambda: Journal(odd(None)), "path must be text or a Path, got None"),
        (lambda: _study(strategy="multi_fidelity"), "^multi_fidelity compares trials at"),
        (lambda: compare(odd(_study())), "needs at least two studies, got 1"),
        (lambda: compare(odd({"a": _study(), "b": [3]})), "compare reads a Study, got 3"),
        (lambda: compare([_study(), odd("tpe-1")]), "compare reads a Study, got 'tpe-1'"),
        (lambda: compare([_study(), _study()]), "same name .*; give a dict of names and studies"),
        (lambda: importances(odd(SimpleNamespace(study=_study()))), "importances reads .*; give its .study"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(wrong: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        wrong()


def test_a_time_that_is_none_is_refused_before_it_is_written(tmp_path: Any) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        study = _study(journal=journal)
        trial = study.ask()
        with pytest.raises(InputError, match="now is a time"):
            study.tell(trial, 1.0, now=odd("noon"))
        study.tell(trial, 1.0, now=np.float64(4.0))
    assert Study.replay(event for _, event, _ in read_journal(path)).best.values == {"loss": 1.0}


@pytest.mark.parametrize("now", [np.int64(4), np.float32(4.0), np.float64(4.0)])
def test_a_time_of_numpy_is_one_that_a_journal_holds(tmp_path: Any, now: Any) -> None:
    """It was taken by the check and refused by the journal, with half of what `ask` writes in it."""
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        study = _study(journal=journal, now=now)
        study.tell(study.ask(now=now), 1.0, now=now)
    times = [event.at for _, event, _ in read_journal(path)]
    assert len(times) == 4
    assert set(times) == {4.0}
