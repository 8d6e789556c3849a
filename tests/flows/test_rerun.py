"""Running a trial once more: the same result from the same seed, and what is said when it is not."""

from __future__ import annotations

import json
import linecache
import math
import os
import random
import re
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows._provenance import changes_since, provenance
from flows._rerun import rerun
from flows.cli._rerun import _best, as_text
from hpo_core import Float, InputError, SearchSpace, Segment, Study, TrialState

SPACE = SearchSpace({"x": Float(-1.0, 1.0)})


def seeded(trial: Any) -> float:
    """Reports noise that depends on the trial's seed alone."""
    noise = np.random.default_rng(trial.seed)
    value = 0.0
    for step in trial.steps(4):
        value = float(trial.params["x"] + noise.normal())
        trial.report(step, loss=value, seconds=random.random())
    return value


def unseeded(trial: Any) -> float:
    value = random.random()
    trial.report(1, loss=value)
    return value


def broken(trial: Any) -> float:
    raise ValueError(f"no result at {trial.params['x']}")


def anew(trial: Any) -> float:
    loss = 1.0
    for budget in trial.budgets(27):
        loss = trial.params["x"] + 1 / budget
        trial.report(budget, loss=loss)
    return float(loss)


class Recorder:
    """A trial that hands its reports to a study and ends where it is told."""

    def __init__(self, study: Study, segment: Segment, most: int) -> None:
        self.study, self.number, self.most = study, segment.trial, most
        self.params, self.seed = segment.params, segment.seed

    def steps(self, n: int) -> Iterator[int]:
        return iter(range(1, min(n, self.most) + 1))

    def report(self, step: int, **metrics: float) -> None:
        self.study.report(self.number, step, metrics)


def studied(
    objective: Callable[[Any], float], *, stop_at: int = 99, rule: str = "last", **meta: Any
) -> Study:
    """A study of three trials of the objective; one that is stopped early is pruned."""
    study = Study(
        SPACE, objectives={"loss": "min"}, strategy="random", seed=5, settings={"rule": rule}, meta=meta
    )
    for _ in range(3):
        segment = study.execution.next()
        assert isinstance(segment, Segment)
        study.execution.started(segment)
        try:
            value = objective(Recorder(study, segment, stop_at))
        except ValueError as error:
            study.execution.finish(segment.trial, state=TrialState.FAILED, reason=str(error))
            continue
        pruned = stop_at < 4
        study.execution.finish(
            segment.trial, None if pruned else value, state="pruned" if pruned else TrialState.COMPLETE
        )
    return study


@pytest.mark.parametrize("rule", ["last", "best", "average-2"])
def test_the_same_seed_gives_the_same_result_by_the_studys_rule(rule: str) -> None:
    study = studied(seeded, rule=rule)
    for number in range(3):
        found = rerun(study, number, seeded, identity={})
        assert found.then == found.now
        assert found.then[1] == study.trials[number].values != {}
        assert found.reports == (4, 4)
        assert found.first is None, "metrics that are no objective, such as seconds, need not be the same"
        assert found.same()


def test_a_pruned_trial_is_stopped_where_it_was() -> None:
    study = studied(seeded, stop_at=2)
    found = rerun(study, 1, seeded, identity={})
    assert found.now == found.then
    assert found.now[0] is TrialState.PRUNED
    assert found.reports == (2, 2)
    assert found.same()


def test_a_pruned_trial_that_asks_for_no_steps_is_stopped_by_its_report() -> None:
    def plain(trial: Any) -> float:
        noise = np.random.default_rng(trial.seed)
        for step in range(1, 5):
            value = float(trial.params["x"] + noise.normal())
            trial.report(step, loss=value)
        return value

    study = studied(seeded, stop_at=2)
    assert rerun(study, 0, plain, identity={}).same()


def test_a_result_without_a_seed_is_found_out() -> None:
    study = studied(unseeded)
    found = rerun(study, 0, unseeded, identity={})
    assert not found.same()
    assert found.first is not None
    assert found.first[:2] == (1, "loss")
    assert found.same(tolerance=1e12)


def test_a_pruned_trial_with_another_curve_is_not_the_same() -> None:
    study = studied(seeded, stop_at=2)

    def shifted(trial: Any) -> float:
        for step in trial.steps(4):
            trial.report(step, loss=float(step))
        return 0.0

    found = rerun(study, 0, shifted, identity={})
    assert found.then[0] is found.now[0] is TrialState.PRUNED
    assert not found.same()


def test_a_failure_that_comes_again_is_the_same() -> None:
    study = studied(broken)
    found = rerun(study, 2, broken, identity={})
    assert found.now[0] is TrialState.FAILED
    assert "no result at" in found.reason
    assert found.same()
    assert not rerun(study, 2, seeded, identity={}).same()


def test_a_define_by_run_objective_gets_what_it_got() -> None:
    study = Study(None, objectives={"loss": "min"}, strategy="random", seed=3, meta={"define_by_run": True})
    trial = study.ask()
    value = trial.suggest_float("y", 0.0, 1.0)
    study.tell(trial, value)
    found = rerun(study, 0, lambda t: t.suggest_float("y", 0.0, 1.0), identity={})
    assert found.now == (TrialState.COMPLETE, {"loss": value})


@pytest.mark.parametrize("edited", [{"x": Float(8.0, 9.0)}, {**SPACE.parameters, "y": Float(1.0, 2.0)}])
def test_a_trial_from_before_an_edit_of_the_space_gets_what_it_got(edited: dict[str, Any]) -> None:
    """One that is out of range now was refused, and one without a later parameter was completed."""
    study = studied(seeded)
    study.change_space(SearchSpace(edited))

    def objective(trial: Any) -> float:
        assert trial.params == study.trials[1].params
        return seeded(trial)

    assert rerun(study, 1, objective, identity={}).same()


def test_what_cannot_be_run_again_is_refused() -> None:
    study = Study(SPACE, objectives={"loss": "min"}, strategy="random")
    study.ask()
    with pytest.raises(InputError, match="trial 0 has not ended yet"):
        rerun(study, 0, seeded, identity={})
    pbt = Study(
        SPACE, objectives={"loss": "min"}, strategy="pbt", settings={"workers": 4, "max_steps": 20}, seed=1
    )
    while not any(t.parent is not None and t.state.finished for t in pbt.trials):
        segment = pbt.execution.next()
        assert isinstance(segment, Segment)
        pbt.execution.started(segment)
        step = segment.target or 20
        pbt.report(segment.trial, step, {"loss": segment.params["x"]})
        pbt.execution.checkpointed(segment.trial, step, f"c{segment.trial}-{step}")
        if segment.target is None or step >= 20:
            pbt.execution.finish(segment.trial, segment.params["x"])
        else:
            pbt.execution.paused(segment.trial)
    fork = next(t for t in pbt.trials if t.parent is not None and t.state.finished)
    with pytest.raises(
        InputError, match=f"trial {fork.number} began from a checkpoint of trial {fork.parent}"
    ):
        rerun(pbt, fork.number, seeded, identity={})


def test_where_none_is_the_best_a_trial_is_named_that_can_be_run_again() -> None:
    """Of a study that was interrupted in its first trial that one was named, which has not ended."""
    study = Study({"x": Float(0.0, 1.0)}, strategy="random", limits={"trials": 2})
    first, second = study.ask(), study.ask()
    study.execution.lost(first.number, "its driver ended", counted=False)
    with pytest.raises(InputError, match=r"so there is no best one to run again$"):
        _best(study)
    study.tell(second, state="failed")
    with pytest.raises(InputError, match=r"such as `hpo rerun study 1`$"):
        _best(study)


@pytest.mark.parametrize("tolerance", [-1e-6, math.nan, math.inf])
def test_a_tolerance_that_is_none_is_refused_before_anything_runs(tolerance: float) -> None:
    """A negative one was a traceback after the trial had been run; for an infinite one all is the same."""
    study = studied(seeded)
    with pytest.raises(InputError, match="at least 0, got"):
        rerun(study, 0, broken, identity={}, tolerance=tolerance)


def test_what_the_objective_logs_and_saves_goes_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a run that was left open outside nor the user's own server gets anything."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_RUN_ID", "outside")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mine.db'}")
    seen = {}

    def saves(trial: Any) -> float:
        seen.update({n: v for n, v in os.environ.items() if n.startswith("MLFLOW_")})
        trial.save(1, b"state")
        return float(trial.params["x"])

    assert rerun(studied(lambda t: float(t.params["x"])), 0, saves, identity={}).same()
    assert "MLFLOW_RUN_ID" not in seen
    assert str(tmp_path / "mine.db") not in seen["MLFLOW_TRACKING_URI"]
    assert os.environ["MLFLOW_RUN_ID"] == "outside"
    assert list(tmp_path.iterdir()) == []


def test_a_report_that_does_not_come_again_is_no_number_and_still_json() -> None:
    def silent(trial: Any) -> float:
        return float(trial.params["x"])

    found = rerun(studied(seeded), 0, silent, identity={})
    assert found.first is not None
    assert math.isnan(found.first[3])
    assert json.loads(as_text(found, same=False))["first_difference"][3] is None


def test_what_is_logged_again_goes_to_one_run_of_a_temporary_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two models in one trial asked for two experiments of one name; artifacts lay in the working folder."""
    monkeypatch.chdir(tmp_path)
    runs: list[Any] = []

    def logs(trial: Any) -> float:
        import mlflow

        mlflow.log_text("made here", "note.txt")
        mlflow.log_metric("more", 1.0)
        runs.extend(trial._channel.ask_run_id() for _ in range(2))
        runs.append(mlflow.active_run().info.run_id)
        return float(trial.params["x"])

    again = rerun(studied(lambda t: float(t.params["x"])), 0, logs, identity={})
    assert again.same(), again.reason
    assert runs[0] == runs[1] == runs[2] != ""
    assert list(tmp_path.iterdir()) == []


def test_what_has_changed_since_is_said() -> None:
    made = provenance(seeded)
    assert made["packages"]["numpy"] == np.__version__
    assert made["code"]
    assert changes_since(made, made) == []
    older = {**made, "python": "3.2.1", "packages": {**made["packages"], "numpy": "0.1"}, "code": "other"}
    study = studied(seeded, made_with=older, identity={"data": "a", "question": "q"})
    found = rerun(study, 0, seeded, identity={"data": "b", "question": "r"})
    assert found.changed[0] == "the data have changed"
    assert any(line.startswith("Python was 3.2.1 and is 3.") for line in found.changed)
    assert f"numpy was 0.1 and is {np.__version__}" in found.changed
    assert any("the objective's file has changed" in line for line in found.changed)
    same = rerun(studied(seeded, identity={"question": "q"}), 0, seeded, identity={"question": "q"})
    assert same.changed == ()


def test_the_commit_is_kept_and_whether_it_says_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a plus where tracked files have been changed; what is not tracked says nothing."""
    file = tmp_path / "committed.py"
    file.write_text("def objective(trial):\n    return 1.0\n")
    module = types.ModuleType("committed")
    module.__file__ = str(file)
    exec(compile(file.read_text(), str(file), "exec"), vars(module))
    monkeypatch.setitem(sys.modules, "committed", module)
    somebody = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.com")
    for words in (("init", "-q"), ("add", "."), (*somebody, "commit", "-q", "-m", "begin")):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    (tmp_path / "notes.txt").write_text("not tracked")
    commit = provenance(module.objective)["commit"]
    assert re.fullmatch("[0-9a-f]{12}", commit)
    file.write_text("def objective(trial):\n    return 2.0\n")
    assert provenance(module.objective)["commit"] == f"{commit}+"


def test_a_cell_that_was_edited_and_run_again_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook has no file: results of both objectives were ranked together without a word."""
    notebook = types.ModuleType("notebook")
    monkeypatch.setitem(sys.modules, "notebook", notebook)

    def run_cell(number: int, text: str) -> Any:
        name = f"<cell {number}>"
        monkeypatch.setitem(linecache.cache, name, (len(text), None, text.splitlines(keepends=True), name))
        exec(compile(text, name, "exec"), vars(notebook))
        return notebook.objective

    before = provenance(run_cell(1, "def objective(trial):\n    return trial.params['x']\n"))
    same = provenance(run_cell(2, "def objective(trial):\n    return trial.params['x']\n"))
    after = provenance(run_cell(3, "def objective(trial):\n    return trial.params['x'] + 100\n"))
    assert changes_since(before, same) == []
    assert changes_since(before, after) == ["the objective's code has changed"]
    called = "class Objective:\n    def __call__(self, trial):\n        return {}\nobjective = Objective()\n"
    one, two = (provenance(run_cell(n, called.format(n))) for n in (4, 5))
    assert changes_since(one, two) == ["the objective's code has changed"]
    # A study from before it was noted.
    assert changes_since({k: v for k, v in before.items() if k != "source"}, after) == []


def test_what_began_anew_with_each_budget_does_so_again() -> None:
    """A trial that was stopped at a ninth of the budget was run with all of it, and came out differently."""
    study = Study(SPACE, objectives={"loss": "min"}, strategy="random+asha", settings={"max_steps": 27})
    for x in (0.5, 0.25, 0.75, 0.1):
        study.enqueue({"x": x})
    while isinstance(segment := study.execution.next(), Segment) and len(study.trials) < 8:
        study.execution.started(segment)
        budget = segment.target or 27
        study.report(segment.trial, budget, {"loss": segment.params["x"] + 1 / budget})
        if segment.target is None or budget == 27:
            study.execution.finish(segment.trial, segment.params["x"] + 1 / 27)
        else:
            study.execution.paused(segment.trial)
    for trial in study.trials:
        if not trial.state.finished:
            study.execution.finish(trial.number, state="pruned")
    steps = {study.trials[n].step for n in range(4)}
    assert len(steps) > 1
    for number in range(4):
        again = rerun(study, number, anew, identity={})
        assert again.same()
        assert again.first is None
