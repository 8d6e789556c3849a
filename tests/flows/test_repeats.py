"""Every configuration with several seeds: means, spread, what is saved, stopped and shown."""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows import tune
from flows._plan import plan_callable
from flows._provenance import provenance
from flows._repeats import Repeated, with_spread
from flows._request import Request
from flows._rerun import rerun
from flows._trial import LiveTrial
from flows.runners import _messages as m
from hpo_core import (
    Float,
    Infeasible,
    InputError,
    SearchSpace,
    Study,
    StudyExistsError,
    TrialPruned,
    TrialState,
    make_strategy,
)
from hpo_core._trial import repeat_seed, trial_seed
from hpo_core.folds import fold_results
from tests.flows.conftest import Place
from tests.flows.studies_of_repeats import run_all, run_one

SPACE = {"x": Float(0.0, 1.0)}
LOSS = {"loss": "min"}


def repeated(objective: Callable[[Any], Any], repeats: int = 3, **more: Any) -> Repeated:
    return Repeated(**{"objective": objective, "repeats": repeats, "objectives": LOSS, **more})


def made(trials: int = 1, repeats: int = 3, strategy: str = "random", **more: Any) -> Study:
    fields: dict[str, Any] = {
        "objectives": LOSS, "seed": 7, "limits": {"trials": trials}, "settings": {"max_steps": repeats},
    }  # fmt: skip
    return Study(SPACE, strategy=strategy, **{**fields, **more})


class Counting:
    """Noise that depends on the seed, the same in every trial, and who was called."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def __call__(self, trial: Any) -> float:
        self.calls.append((trial.number, trial.seed))
        noise = np.random.default_rng(trial.seed).normal()
        own = np.random.default_rng([trial.seed, trial.number]).normal()
        return float(trial.params["x"] + 10.0 * noise + 0.05 * own)


# -- mean and spread -----------------------------------------------------------------------------


def test_repeats_that_diverge_have_a_mean() -> None:
    """Their sum, and the square of how far they lie apart, are more than any float: the trial failed."""
    found = with_spread([{"loss": 1.7e308}, {"loss": 1.7e308}, {"loss": 0.5}], LOSS)
    assert found == {"loss": pytest.approx(1.7e308 / 1.5), "loss_std": pytest.approx(1.7e308 / 3**0.5)}


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6), st.booleans())
def test_the_mean_is_the_result_and_the_sample_deviation_its_spread(values: list[float], more: bool) -> None:
    """Against numpy; a metric that one repeat lacks has no mean."""
    done = [{"loss": v, "size": 2 * v, **({"first": v} if i == 0 else {})} for i, v in enumerate(values)]
    done[-1]["last"] = 0.0
    found = with_spread(done, LOSS)
    assert ("last" in found) == (len(values) == 1)
    assert found["loss"] == pytest.approx(np.mean(values), rel=1e-12, abs=1e-9)
    assert found["size"] == pytest.approx(2 * np.mean(values), rel=1e-12, abs=1e-9)
    assert ("first" in found) == (len(values) == 1)
    assert ("loss_std" in found) == (len(values) > 1)
    if len(values) > 1:
        assert found["loss_std"] == pytest.approx(np.std(values, ddof=1), rel=1e-9, abs=1e-9)


def test_each_step_reports_the_mean_so_far_the_repeat_alone_and_the_spread(tmp_path: Path) -> None:
    objective = Counting()
    study = run_all(made(trials=2), repeated(objective), tmp_path)
    seeds = [repeat_seed(7, i) for i in (1, 2, 3)]
    assert objective.calls == [(trial, seed) for trial in (0, 1) for seed in seeds]
    for trial in study.trials:
        alone = fold_results(study, trial.number)
        values = list(alone.values())
        assert list(alone) == [1, 2, 3]
        means = study.history.reports.metric_of(trial.number, "loss")
        assert means == pytest.approx([np.mean(values[:k]) for k in (1, 2, 3)])
        assert trial.values == {"loss": pytest.approx(np.mean(values))}
        assert trial.metrics == {"loss_std": pytest.approx(statistics.stdev(values))}


def test_a_repeat_that_begins_anew_with_each_budget_has_the_whole_one(tmp_path: Path) -> None:
    budgets: list[int] = []

    def anew(trial: Any) -> float:
        budgets.extend(trial.budgets(9))
        return float(trial.seed % 5)

    study = run_all(made(strategy="random+median"), repeated(anew), tmp_path)
    assert budgets == [9, 9, 9]
    assert study.trials[0].state is TrialState.COMPLETE


@given(st.integers(0, 2**40), st.integers(1, 50))
def test_a_seed_of_a_repeat_is_that_of_no_trial_and_of_no_other_repeat(seed: int, repeat: int) -> None:
    """Up to chance: of 31 bits, among two dozen."""
    others = {trial_seed(seed, n) for n in range(20)} | {repeat_seed(seed, n) for n in (repeat + 1, 51)}
    assert repeat_seed(seed, repeat) not in others
    assert repeat_seed(seed, repeat) != repeat_seed(seed + 1, repeat)


def test_all_that_is_returned_of_several_objectives_is_averaged(tmp_path: Path) -> None:
    objectives = {"loss": "min", "size": "max"}

    def both(trial: Any) -> dict[str, float]:
        noise = np.random.default_rng(trial.seed).normal()
        return {"loss": noise, "size": -noise, "seconds": 2 * noise}

    study = made(objectives=objectives)
    run_all(study, repeated(both, objectives=objectives), tmp_path)
    noise = [np.random.default_rng(repeat_seed(7, i)).normal() for i in (1, 2, 3)]
    mean, spread = pytest.approx(np.mean(noise)), pytest.approx(np.std(noise, ddof=1))
    assert study.trials[0].values == {"loss": mean, "size": -mean.expected}
    assert study.trials[0].metrics == {
        "seconds": pytest.approx(2 * np.mean(noise)), "loss_std": spread, "size_std": spread,
    }  # fmt: skip


@pytest.mark.parametrize(("rule", "expected"), [("last", 4.0), ("best", 1.0), ("average-2", 3.0)])
def test_steps_inside_a_repeat_are_curves_and_count_by_the_rule(
    tmp_path: Path, rule: str, expected: float
) -> None:
    def trains(trial: Any) -> None:
        assert trial.checkpoint is None
        for step, value in zip(trial.steps(4), (3.0, 1.0, 2.0, 4.0), strict=True):
            trial.save(step, b"nobody goes on from here")
            trial.report(step, loss=value)

    study = made(repeats=2)
    outcome, line = run_one(study, repeated(trains, 2, rule=rule), tmp_path) or pytest.fail("nothing ran")
    assert study.trials[0].values == {"loss": expected}
    curve = [(1, 3.0), (2, 1.0), (3, 2.0), (4, 4.0)]
    assert line.curves == {"loss/repeat-1": curve, "loss/repeat-2": curve}
    assert "does the objective use trial.seed" in outcome.note
    assert sorted(study.trials[0].checkpoints) == [1, 2], "only those of whole repeats"


@pytest.mark.parametrize(("rule", "expected"), [("last", 3.0), ("best", 1.0), ("average-2", 2.5)])
@pytest.mark.parametrize("reported", [(1.0, 2.0), (1.0, 2.0, 3.0)])
def test_what_a_repeat_returns_is_the_last_of_its_results(
    tmp_path: Path, rule: str, expected: float, reported: tuple[float, ...]
) -> None:
    def trains(trial: Any) -> float:
        for step, value in zip(trial.steps(len(reported)), reported, strict=True):
            trial.report(step, loss=value)
        return 3.0

    study = run_all(made(repeats=2), repeated(trains, 2, rule=rule), tmp_path)
    assert study.trials[0].values == {"loss": expected}


@pytest.mark.parametrize("stepping", [True, False])
def test_a_stop_ends_a_repeat_between_its_steps_or_at_its_next_report(tmp_path: Path, stepping: bool) -> None:
    """A body that loops over the steps comes to its end, as with a trial's own."""
    done: list[int] = []

    def trains(trial: Any) -> float:
        trial._trial._signals.stop.set()
        for step in trial.steps(3) if stepping else range(1, 4):
            trial.report(step, loss=1.0)
            done.append(step)
        return 1.0

    study = made()
    outcome, line = run_one(study, repeated(trains), tmp_path) or pytest.fail("nothing ran")
    assert outcome.kind == m.STOPPED
    assert done == [1] * stepping
    assert line.curves == {"loss/repeat-1": [(1, 1.0)]}
    assert fold_results(study, 0) == {}


def test_a_repeat_that_has_come_to_its_last_step_counts(tmp_path: Path) -> None:
    """A verdict that arrives then saves nothing of it."""

    def trains(trial: Any) -> float:
        for step in trial.steps(3):
            trial.report(step, loss=1.0)
            if step == 3:
                trial._trial._signals.stop.set()
        return 1.0

    study = made()
    outcome, _ = run_one(study, repeated(trains), tmp_path) or pytest.fail("nothing ran")
    assert outcome.kind == m.STOPPED
    assert fold_results(study, 0) == {1: 1.0}


def test_only_a_verdict_that_can_save_a_repeat_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a moment each time: not after the last one, and of a scheduler that stops nobody not at all."""
    waits: list[float] = []
    monkeypatch.setattr(LiveTrial, "hear", lambda self, seconds: waits.append(seconds))
    for judged, count in ((True, 2), (False, 0)):
        waits.clear()
        run_all(made(), repeated(Counting(), judged=judged), tmp_path / str(judged))
        assert len(waits) == count


def test_nothing_is_said_of_an_objective_that_uses_its_seed_or_has_had_one(tmp_path: Path) -> None:
    outcome, _ = run_one(made(), repeated(Counting()), tmp_path / "noisy") or pytest.fail("nothing ran")
    assert outcome.note == ""
    pausing = made(trials=9, strategy="random+successive_halving")
    outcome, _ = run_one(pausing, repeated(lambda trial: 1.0), tmp_path) or pytest.fail("nothing ran")
    assert (outcome.kind, outcome.note) == (m.PAUSED, "")


def test_a_metric_of_a_repeat_is_checked_as_one_of_a_trial_is(tmp_path: Path) -> None:
    """What is no number ended in Python's own words, and an array of one that a trial takes in a warning."""

    def trains(trial: Any) -> float:
        trial.report(1, loss=np.array([0.5]))
        trial.report(2, loss="much")
        return 1.0

    study = run_all(made(), repeated(trains), tmp_path)
    assert "the value of 'loss' must be a number, got 'much'" in study.trials[0].reason


def test_a_define_by_run_objective_is_asked_for_one_configuration(tmp_path: Path) -> None:
    seen: list[tuple[float, Any]] = []

    def asks(trial: Any) -> float:
        kind = trial.suggest_categorical("kind", ["a", "b"])
        seen.append((trial.suggest_float("z", 0.0, 1.0), kind))
        return seen[-1][0] + np.random.default_rng(trial.seed).normal()

    study = Study(None, objectives=LOSS, strategy="random", limits={"trials": 4}, settings={"max_steps": 3})
    run_all(study, repeated(asks), tmp_path)
    assert len(seen) == 12
    for trial in study.trials:
        assert trial.state is TrialState.COMPLETE
        assert set(seen[3 * trial.number : 3 * trial.number + 3]) == {
            (trial.params["z"], trial.params["kind"])
        }


def test_what_an_objective_sees_of_its_trial_in_a_repeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the second attempt, which takes up the MLflow runs of the first."""
    seen: list[tuple[int, dict[str, Any], str]] = []
    logged: list[Any] = []
    taken_up: list[tuple[int, bool]] = []

    @contextlib.contextmanager
    def below(repeat: int, seed: int, *, again: bool) -> Iterator[Callable[[Any], None]]:
        taken_up.append((repeat, again))
        yield lambda values: None

    monkeypatch.setattr("tracking.repeat_run", below)
    monkeypatch.setattr(
        LiveTrial, "log_model", lambda self, model, **options: logged.append((model, options))
    )

    def asks(trial: Any) -> float:
        z = trial.suggest_int("z", 3, 3)
        seen.append((trial.attempt, trial.params, repr(trial)))
        trial.log_model("m", name="n")
        return float(z)

    study = Study(None, objectives=LOSS, strategy="random", limits={"trials": 1}, settings={"max_steps": 2})
    run_one(study, repeated(asks, 2), tmp_path, dies=1)
    run_all(study, repeated(asks, 2), tmp_path)
    assert seen == [(i, {"z": 3}, f"Trial(0, repeat {i}, {{'z': 3}})") for i in (1, 2)]
    assert logged == [("m", {"name": "n"})] * 2
    assert taken_up == [(1, False), (2, True)]


# -- interruptions -------------------------------------------------------------------------------


@pytest.mark.parametrize("finished", [1, 2, 3])
def test_a_lost_worker_costs_no_repeat_that_was_finished(tmp_path: Path, finished: int) -> None:
    """Whatever repeat it dies in, the result is the one of an unbroken trial."""
    whole, broken = Counting(), Counting()
    expected = run_all(made(), repeated(whole), tmp_path / "whole").trials[0]
    study = made()
    run_one(study, repeated(broken), tmp_path / "broken", dies=finished)
    assert study.trials[0].state is TrialState.WAITING
    assert broken.calls == whole.calls[:finished]
    run_all(study, repeated(broken), tmp_path / "broken")
    assert broken.calls == whole.calls
    assert (study.trials[0].values, study.trials[0].metrics) == (expected.values, expected.metrics)
    assert fold_results(study, 0).keys() == {1, 2, 3}


def test_a_scheduler_that_pauses_goes_on_with_the_next_repeat(tmp_path: Path) -> None:
    objective = Counting()
    study = run_all(made(trials=9, strategy="random+successive_halving"), repeated(objective), tmp_path)
    assert len(objective.calls) == len(set(objective.calls)), "no repeat of a trial is run twice"
    assert 9 < len(objective.calls) < 27
    assert study.history.count(TrialState.COMPLETE) >= 1


def test_a_race_saves_repeats_of_bad_configurations(tmp_path: Path) -> None:
    """The noise of a seed is ten times what there is to be won, and the same for all: it does not matter."""
    racing, patient = Counting(), Counting()
    study = run_all(made(40, 5, "random+race"), repeated(racing, 5), tmp_path / "race")
    full = run_all(made(40, 5), repeated(patient, 5), tmp_path / "full")
    assert len(patient.calls) == 200
    assert len(racing.calls) < 120
    assert study.best.params == full.best.params
    stopped = [t for t in study.trials if t.state is TrialState.PRUNED]
    assert min(t.params["x"] for t in stopped) > study.best.params["x"]


# -- repeats that end badly ----------------------------------------------------------------------


def failing(error: Exception, at: int) -> Callable[[Any], float]:
    def objective(trial: Any) -> float:
        if trial.repeat == at:
            raise error
        return float(trial.params["x"])

    return objective


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (ValueError("boom"), TrialState.FAILED, "ValueError: boom (in repeat 2 of 3, seed {seed})"),
        (Infeasible("no such net"), TrialState.INFEASIBLE, "no such net (in repeat 2 of 3, seed {seed})"),
        (TrialPruned("hopeless"), TrialState.PRUNED, "hopeless (in repeat 2 of 3, seed {seed})"),
        (MemoryError(), TrialState.OUT_OF_MEMORY, "MemoryError: (in repeat 2 of 3, seed {seed})"),
    ],
)
def test_what_ends_a_repeat_ends_the_trial_and_says_which(
    tmp_path: Path, error: Exception, state: TrialState, reason: str
) -> None:
    study = run_all(made(), repeated(failing(error, 2)), tmp_path)
    assert study.trials[0].state is state
    assert study.trials[0].reason == reason.format(seed=repeat_seed(7, 2))


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (math.nan, "gave no finite value for 'loss', got nan"),
        ({"size": 1.0}, "gave no value for 'loss'; return it (it gave size)"),
        (None, "gave no value for 'loss'; return it (it gave nothing)"),
        ("much", "returns a number"),
    ],
)
def test_a_repeat_without_a_result_fails_the_trial_at_once(tmp_path: Path, returned: Any, said: str) -> None:
    seeds = []

    def objective(trial: Any) -> Any:
        seeds.append(trial.seed)
        return returned

    study = run_all(made(), repeated(objective), tmp_path)
    assert study.trials[0].state is TrialState.FAILED
    assert said in study.trials[0].reason
    assert "in repeat 1 of 3" in study.trials[0].reason
    assert len(seeds) == 1


def test_a_repeat_that_heeds_a_stop_does_not_count(tmp_path: Path) -> None:
    """As a worker that is told to end in the middle of its second repeat."""
    study = made()

    def heeds(trial: Any) -> float:
        if trial.repeat == 2:
            trial._trial._signals.stop.set()
            return 0.0 if trial.should_stop else math.inf
        return 1.0

    outcome, _ = run_one(study, repeated(heeds), tmp_path) or pytest.fail("nothing ran")
    assert outcome.kind == m.STOPPED
    assert fold_results(study, 0) == {1: 1.0}


# -- plans and journals --------------------------------------------------------------------------


def noisy(trial: Any) -> float:
    return float(trial.params["x"] + np.random.default_rng(trial.seed).normal())


def planned(strategy: Any = "auto", **asked: Any) -> Any:
    more = {name: asked.pop(name) for name in ("settings", "objectives") if name in asked}
    request = Request(**{"name": "mine", "isolation": "thread", "workers": 1, **asked})
    fields = {"objectives": LOSS, **more}
    return plan_callable(noisy, request=request, space=SearchSpace(SPACE), strategy=strategy, **fields)


def test_what_nobody_chose_otherwise_races_over_the_repeats() -> None:
    terms = planned(repeats=4).terms
    assert (terms.strategy.name, terms.settings.max_steps) == ("auto+race", 4)
    assert terms.meta["step_unit"] == "repeat"
    assert planned("tpe", repeats=4).terms.strategy.name == "tpe"
    assert planned(repeats=4, objectives={"a": "min", "b": "min"}).terms.strategy.name == "auto"
    asha = planned("random+asha", repeats=9, max_steps=9).terms
    assert (asha.strategy.name, asha.settings.max_steps) == ("random+asha", 9)
    once = planned(repeats=1)
    assert once.objective is noisy
    assert (once.terms.strategy.name, once.terms.settings.max_steps) == ("auto", None)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"repeats": 0}, "repeats must be a whole number of at least 1, got 0"),
        ({"repeats": 2.5}, "got 2.5"),
        ({"repeats": True}, "got True"),
        ({"repeats": 3, "max_steps": 9}, "leave max_steps out"),
        ({"repeats": 3, "strategy": "pbt"}, "leave repeats out"),
        ({"repeats": 3, "settings": {"rule": "best"}}, "their mean is what counts"),
    ],
)
def test_what_makes_no_sense_with_repeats_is_refused(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        planned(**asked)


def test_a_ready_objective_has_folds_for_that(place: Place) -> None:
    with pytest.raises(InputError, match="leave repeats out, or ask for more folds"):
        tune("lgbm", data="sklearn:breast_cancer", repeats=3)


def test_the_objectives_code_is_what_results_depend_on() -> None:
    assert provenance(repeated(noisy)) == provenance(noisy)


def test_a_trial_is_run_once_more_with_all_its_repeats(tmp_path: Path) -> None:
    study = run_all(made(trials=3), repeated(noisy), tmp_path)
    again = rerun(study, 1, repeated(noisy), identity={})
    assert again.same()
    assert again.reports == (3, 3)


def test_a_study_keeps_its_repeats_and_refuses_others(tracked: Place) -> None:
    """The same call again goes on with them."""
    fields: dict[str, Any] = {
        "space": SPACE, "strategy": "random", "workers": 2, "name": "mine", "tell": lambda line: None,
    }  # fmt: skip
    first = tune(noisy, trials=2, repeats=3, isolation="thread", **fields)
    study = first.study
    assert study.created.meta["request"]["repeats"] == 3
    for other in (4, None):
        with pytest.raises(StudyExistsError, match=f"run with 3 repeats, not {other or 1}"):
            tune(noisy, trials=4, repeats=other, isolation="thread", **fields)
    more = tune(noisy, trials=3, repeats=3, isolation="thread", **fields)
    assert len(more.study.trials) == 3
    for trial in more.study.trials:
        noise = [np.random.default_rng(repeat_seed(0, i)).normal() for i in (1, 2, 3)]
        assert trial.values["loss"] == pytest.approx(trial.params["x"] + np.mean(noise))
        assert trial.metrics["loss_std"] == pytest.approx(np.std(noise, ddof=1))


def logging(trial: Any) -> float:
    import mlflow

    mlflow.log_param("inner", trial.seed)
    mlflow.log_metric("own", trial.repeat)
    if trial.repeat == 2 and trial.number == 1:
        raise ValueError("no")
    return noisy(trial)


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_what_repeats_log_lies_in_runs_of_their_own_below_the_trials(tracked: Place, isolation: str) -> None:
    from mlflow import MlflowClient

    result = tune(
        logging,
        space=SPACE,
        strategy="random",
        trials=2,
        workers=2,
        repeats=2,
        name="mine",
        isolation=isolation,
        tell=lambda line: None,
    )
    client = MlflowClient(f"sqlite:///{tracked.database}")
    assert result.run_id is not None
    experiment = client.get_run(result.run_id).info.experiment_id

    def below(run_id: str) -> list[Any]:
        query = f"tags.`mlflow.parentRunId` = '{run_id}'"
        return sorted(client.search_runs([experiment], query), key=lambda run: str(run.info.run_name))

    trials = below(result.run_id)
    assert [run.info.run_name for run in trials] == ["trial-0000", "trial-0001"]
    for number, trial in enumerate(trials):
        assert set(trial.data.metrics) <= {"loss", "loss_fold", "loss_std"}
        runs = below(trial.info.run_id)
        assert [run.data.metrics["own"] for run in runs] == [1.0, 2.0]
        assert [run.data.params["inner"] for run in runs] == [str(repeat_seed(0, i)) for i in (1, 2)]
        assert [run.data.tags["hpo.role"] for run in runs] == ["repeat", "repeat"]
        assert [run.info.status for run in runs] == ["FINISHED", "FAILED" if number else "FINISHED"]
    assert trials[0].data.metrics["loss"] == result.study.trials[0].values["loss"]
    alone = fold_results(result.study, 0)
    assert [run.data.metrics["loss"] for run in below(trials[0].info.run_id)] == list(alone.values())


def test_a_strategy_goes_by_its_name_whatever_its_scheduler() -> None:
    """A scheduler that never stops a trial needs no time to be heard."""
    assert not planned("gp", repeats=2).objective.judged
    assert planned(make_strategy({"scheduler": "race"}), repeats=2).objective.judged
