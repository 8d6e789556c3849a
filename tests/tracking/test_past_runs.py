"""Ordinary MLflow runs as results for a study: real runs in a real database."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from hpo_core import Categorical, Float, InputError, Int, SearchSpace, TrialState
from hpo_core.warm_start import fit
from tests.tracking.studies import SPACE as TRIED
from tests.tracking.studies import Script
from tracking import StudyTracker, connect, past_runs

SPACE = SearchSpace(
    {"rate": Float(1e-3, 1.0, log=True), "depth": Int(1, 9), "bag": Categorical([True, False])}
)


def log(
    client: MlflowClient, experiment: str, status: str, metrics: dict[str, float], **params: object
) -> str:
    """A run as people log it."""
    run = client.create_run(experiment)
    for name, value in params.items():
        client.log_param(run.info.run_id, name, value)
    for name, value in metrics.items():
        client.log_metric(run.info.run_id, name, value + 1.0, step=1)
        client.log_metric(run.info.run_id, name, value, step=2)
    client.set_terminated(run.info.run_id, status)
    return str(run.info.run_id)


def test_ordinary_runs_become_observations(sqlite_uri: str, experiment: str) -> None:
    """Text is read by type, the last value counts, names are mapped; what does not fit is counted."""
    client = MlflowClient(sqlite_uri)
    made = client.create_experiment(experiment)
    good = log(client, made, "FINISHED", {"val_auc": 0.75}, lr=0.01, depth=3, bag=True, seed=1)
    log(client, made, "FINISHED", {"val_auc": float("nan")}, lr=0.01, depth=4, bag=False)
    log(client, made, "FINISHED", {}, lr=0.02, depth=4, bag=False)
    log(client, made, "FINISHED", {"val_auc": 0.5}, lr=5.0, depth=3, bag=True)
    log(client, made, "FINISHED", {"val_auc": 0.5}, depth=3, bag=True)
    log(client, made, "KILLED", {"val_auc": 0.5}, lr=0.1, depth=3, bag=True)
    failed = log(client, made, "FAILED", {}, lr=0.1, depth=9, bag=False)
    deleted = log(client, made, "FINISHED", {"val_auc": 0.9}, lr=0.1, depth=9, bag=False)
    client.delete_run(deleted)
    source = past_runs(sqlite_uri, experiment, params={"rate": "lr"}, metrics={"auc": "val_auc"})
    found = fit(SPACE, {"auc": "max"}, source)
    rows = {key: (params, values) for key, params, values in found.rows}
    assert rows.keys() == {f"run:{good}", f"run:{failed}"}
    assert rows[f"run:{good}"] == ({"rate": 0.01, "depth": 3, "bag": True}, {"auc": 0.75})
    assert found.failures == 1
    assert dict(found.skipped) == {
        "with 'val_auc' not finite": 1,
        "without the metric 'val_auc'": 1,
        "with 'rate' outside its range": 1,
        "without 'rate'": 1,
        "without an end": 1,
    }
    assert list(found.ignored) == ["seed"]


def test_runs_of_trials_count_by_their_trials_state(sqlite_uri: str, experiment: str, tmp_path: Path) -> None:
    """Their exact configuration, not the text; runs of the study itself and of repeats are no results."""
    script = Script(tmp_path, name=experiment)
    script.run(0.5)
    script.finish(script.begin(), state="pruned", reason="late")
    script.finish(script.begin(), state="out_of_memory", reason="big")
    tracker = StudyTracker(script.folder, sqlite_uri, experiment)
    tracker.start()
    assert tracker.close(60.0)
    connection = connect(sqlite_uri, experiment)
    connection.client.create_run(connection.experiment_id, tags={"hpo.role": "repeat"})
    outcomes = past_runs(sqlite_uri, experiment).outcomes
    assert sorted(o.state.label for o in outcomes) == ["complete", "out_of_memory", "pruned"]
    (complete,) = (o for o in outcomes if o.state is TrialState.COMPLETE)
    assert complete.params == script.study.trials[0].params
    assert complete.key == f"{script.study.created.study_id}:0"
    found = fit(SearchSpace(TRIED), {"loss": "min"}, past_runs(sqlite_uri, experiment))
    assert (len(found.rows), found.failures, dict(found.skipped)) == (2, 1, {"pruned": 1})
    script.close()


def test_what_broke_a_bound_of_its_own_study_has_been_measured(
    sqlite_uri: str, experiment: str, tmp_path: Path
) -> None:
    """It counted as a failure in a study without that bound; what the objective itself refused is one."""
    script = Script(tmp_path, name=experiment, constraints=["loss >= 0.5"])
    script.run(0.25)
    script.run(0.75)
    script.finish(script.begin(), state="infeasible", reason="raised")
    tracker = StudyTracker(script.folder, sqlite_uri, experiment)
    tracker.start()
    assert tracker.close(60.0)
    script.close()
    found = fit(SearchSpace(TRIED), {"loss": "min"}, past_runs(sqlite_uri, experiment))
    by_trial = {key.rpartition(":")[2]: values["loss"] for key, _, values in found.rows}
    assert by_trial == pytest.approx({"0": 0.25, "1": 0.75, "2": float("nan")}, nan_ok=True)


def test_a_studys_runs_say_which_way_its_objectives_are_better(
    sqlite_uri: str, experiment: str, tmp_path: Path
) -> None:
    """A study that maximised what these had minimised took their worst for the best, without a word."""

    def project(name: str, direction: str) -> None:
        script = Script(tmp_path / name, name=name, objectives={"loss": direction})
        script.run(0.25)
        tracker = StudyTracker(script.folder, sqlite_uri, experiment)
        tracker.start()
        assert tracker.close(60.0)
        script.close()

    project("one", "min")
    with pytest.raises(InputError, match=r"minimised there and 'score' maximised here; .* say score=-loss"):
        fit(
            SearchSpace(TRIED), {"score": "max"}, past_runs(sqlite_uri, experiment, metrics={"score": "loss"})
        )
    turned = past_runs(sqlite_uri, experiment, metrics={"score": "-loss"})
    ((_, _, values),) = fit(SearchSpace(TRIED), {"score": "max"}, turned).rows
    assert values == {"score": -0.25}
    project("two", "max")
    assert past_runs(sqlite_uri, experiment).directions == {}


def test_an_experiment_that_is_not_there_is_not_made(sqlite_uri: str, tmp_path: Path) -> None:
    """Nor is a database; near names are told."""
    client = MlflowClient(sqlite_uri)
    before = {e.name for e in client.search_experiments()}
    with pytest.raises(InputError, match=r"'mode' does not exist .*did you mean 'made'"):
        past_runs(sqlite_uri, "mode")
    assert {e.name for e in client.search_experiments()} == before
    with pytest.raises(InputError, match="does not exist"):
        past_runs(f"sqlite:///{tmp_path / 'none.db'}", "made")
    assert not list(tmp_path.iterdir())
