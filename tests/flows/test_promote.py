"""``hpo promote``: a model gets the alias when it is better, once, and gives it back on request."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest

from flows._notes import FINAL_MODEL, TRACKING, final_model, newest
from flows.cli._promote import has_model
from flows.objectives import make_objective
from hpo_core import Study
from hpo_core.folds import paired_test
from hpo_core.inner import trial_seed
from tests.flows.conftest import Hpo, Place
from tests.flows.small_tables import mixed, written
from tracking import TrackingError, config_sha256, log_model

OBJECTIVE = '''
"""An objective that logs its model."""


def loss(trial):
    from sklearn.dummy import DummyRegressor

    x = trial.suggest_float("x", 0.0, 1.0)
    model = DummyRegressor(strategy="constant", constant=x).fit([[0.0]], [0.0])
    if trial.number != 2:
        trial.log_model(model)
    return x
'''


def tracked_by(place: Place) -> mlflow.MlflowClient:
    """A client of the place's tracking server and registry."""
    return mlflow.MlflowClient(f"sqlite:///{place.database}")


def registered(place: Place, name: str) -> dict[str, Any]:
    """Aliases of a registered model, and the tags of its versions."""
    client = tracked_by(place)
    versions = client.search_model_versions(f"name='{name}'")
    aliases = client.get_registered_model(name).aliases if versions else {}
    return {
        "aliases": {k: str(v) for k, v in aliases.items()},
        "versions": {str(v.version): v for v in versions},
    }


@pytest.fixture
def study(tracked: Place, hpo: Hpo) -> Place:
    """A finished study of three trials whose objective logs models."""
    (tracked.folder / "logs_model.py").write_text(OBJECTIVE)
    said = hpo(
        *("tune", "logs_model.py:loss", "--strategy", "random", "--trials", 3, "--name", "mine"),
        *("--isolation", "thread", "--workers", 1),
    )
    assert (said.code, said.err) == (0, "")
    return tracked


def test_a_logged_model_is_promoted_once_and_given_back(study: Place, hpo: Hpo) -> None:
    found = study.study("mine")
    logged = sorted((t for t in found.trials if t.number != 2), key=lambda t: t.values["loss"])
    best, worse = logged

    would = hpo("promote", "mine", "--trial", worse.number, "--model", "m", "--dry-run")
    assert (would.code, would.err) == (0, "")
    assert would.out.startswith("no version holds m@champion (dry run: the first one, with loss")
    assert registered(study, "m") == {"aliases": {}, "versions": {}}

    first = hpo("promote", "mine", "--trial", worse.number, "--model", "m")
    assert (first.code, first.err) == (0, "")
    assert first.out.startswith("m@champion is version 1 (the first one, with loss")
    again = hpo("promote", "mine", "--trial", worse.number)
    assert again.out == "m@champion is version 1 (it already holds the alias)\n"
    # It said that the model had no version yet.
    other = hpo("promote", "mine", "--trial", worse.number, "--alias", "staging", "--dry-run")
    assert other.out.startswith("no version holds m@staging (dry run: the first one, with loss")
    version = registered(study, "m")["versions"]["1"]
    assert version.tags["hpo.trial"] == str(worse.number)
    assert version.tags["hpo.study"] == "mine"
    loss = worse.values["loss"]
    assert f"Trial {worse.number} of study **mine**: `loss` = **{loss:.6g}**." in version.description
    assert f"| x | {loss:.6g} |" in version.description
    tracked_by(study).update_model_version("m", "1", "What somebody wrote by hand")
    hpo("promote", "mine", "--trial", worse.number)
    assert registered(study, "m")["versions"]["1"].description == "What somebody wrote by hand"

    better = json.loads(hpo("promote", "mine", "--trial", best.number, "--json").out)
    assert (better["promoted"], better["champion"], better["alias"]) == (True, "2", "champion")
    refused = hpo("promote", "mine", "--trial", worse.number)
    assert refused.code == 1
    assert "m@champion is version 2 (not better: loss" in refused.out
    back = hpo("promote", "mine", "--rollback")
    assert (back.code, back.out) == (0, "m@champion is version 1 (rolled back from version 2)\n")
    assert hpo("promote", "mine", "--rollback").code == 2
    assert registered(study, "m")["aliases"]["champion"] == "1"


def test_the_alias_the_metric_and_the_margin_are_the_users(study: Place, hpo: Hpo) -> None:
    trial = next(t for t in study.study("mine").trials if t.number != 2)
    said = hpo("promote", "mine", "--trial", trial.number, "--alias", "staging", "--metric", "loss")
    assert "mine@staging is version 1" in said.out
    wrong = hpo("promote", "mine", "--trial", trial.number, "--metric", "los")
    assert (wrong.code, wrong.out) == (2, "")
    assert "must be one of loss, got 'los'" in wrong.err


def test_promotion_is_offered_only_where_there_is_a_model(study: Place, hpo: Hpo) -> None:
    """`hpo confirm` ended with a command that could only fail."""
    found = study.study("mine")
    assert [has_model(found, trial, None) for trial in range(3)] == [True, True, False]
    said = hpo("confirm", "mine", "--top", 1, "--repeats", 2)
    best = found.best.number
    assert (f"hpo promote mine --trial {best}" in said.out) is (best != 2)


def test_a_trial_without_a_model_says_what_to_do(study: Place, hpo: Hpo) -> None:
    said = hpo("promote", "mine", "--trial", 2)
    assert (said.code, said.out) == (2, "")
    assert "trial 2 logged no model; call trial.log_model(model)" in said.err


def test_a_model_outlives_the_run_that_it_was_logged_to(study: Place, hpo: Hpo) -> None:
    """After its run was deleted by hand and made again, the trial had logged no model, it was said."""
    first = hpo("promote", "mine", "--trial", 0, "--model", "m")
    version = registered(study, "m")["versions"]["1"]
    tracked_by(study).delete_run(version.run_id)
    assert hpo("resync", "mine").code == 0
    assert has_model(study.study("mine"), 0, None)
    other = hpo("promote", "mine", "--trial", 0, "--model", "other")
    assert (other.code, other.err) == (0, "")
    assert other.out == first.out.replace("m@", "other@")
    assert hpo("promote", "mine", "--trial", 0, "--model", "m").out.endswith("(it already holds the alias)\n")


def test_what_was_deleted_by_hand_is_registered_by_the_same_command(tracked: Place, hpo: Hpo) -> None:
    """It said that the alias was at a version that was gone, for ever."""
    table = written(tracked.folder, mixed(120))
    command = [
        *("tune", "lgbm", "--data", table, "--target", "y", "--strategy", "random", "--trials", 1),
        *("--isolation", "thread", "--workers", 1, "--folds", 2, "--option", "max_rounds=10"),
        *("--name", "mine", "--register", "churn"),
    ]
    assert hpo(*command).code == 0
    client = tracked_by(tracked)
    version = registered(tracked, "churn")["versions"]["1"]
    client.delete_registered_model_alias("churn", "champion")
    assert hpo(*command).code == 0
    assert registered(tracked, "churn")["aliases"] == {"champion": "1"}
    client.delete_registered_model("churn")
    assert hpo(*command).code == 0
    assert registered(tracked, "churn")["versions"]["1"].tags["hpo.model_id"] == version.tags["hpo.model_id"]

    client.delete_registered_model("churn")
    client.delete_logged_model(version.tags["hpo.model_id"])
    client.delete_run(version.run_id)
    said = hpo(*command)
    assert (said.code, "was deleted in MLflow" in said.err, "`hpo resync" in said.err) == (2, True, True)
    assert hpo("resync", "mine").code == 0
    assert hpo(*command).code == 0
    made = registered(tracked, "churn")
    assert made["aliases"] == {"champion": "1"}
    assert made["versions"]["1"].run_id != version.run_id


def served(model: str, place: Place, rows: pd.DataFrame) -> list[str]:
    """What ``mlflow models serve`` answers to a request with these rows."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "mlflow", "models", "serve", "-m", model]
    command += ["--port", str(port), "--host", "127.0.0.1", "--env-manager", "local", "--workers", "1"]
    # MLflow calls uvicorn by its name, and this interpreter's programs need not be on the path.
    program = place.folder / "bin" / "uvicorn"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m uvicorn "$@"\n')
    program.chmod(0o755)
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{place.database}",
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
    }
    log = place.folder / "serve.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, stdout=sink, stderr=sink, env=environment, cwd=place.folder, start_new_session=True
        )
    body = '{"dataframe_split": ' + rows.to_json(orient="split", date_format="iso", index=False) + "}"
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", body.encode(), {"Content-Type": "application/json"}
    )
    deadline = time.monotonic() + 120
    try:
        while True:
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return [str(label) for label in json.load(answer)["predictions"]]
            except urllib.error.HTTPError as error:
                with error:
                    raise AssertionError(error.read().decode()) from None
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.parametrize("cut_at", ["the note", "the registry"])
def test_a_driver_that_ends_while_it_registers_leaves_one_model_and_one_version(
    cut_at: str, tracked: Place, hpo: Hpo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The study that went on logged the model once more and registered it as version 2."""
    from flows import _final

    class Killed(BaseException):
        """Nothing runs after it."""

    def note(self: Study, topic: str, data: Any, now: float) -> None:
        if topic == FINAL_MODEL:
            raise Killed
        whole(self, topic, data, now)

    def after(*arguments: Any) -> Any:
        register(*arguments)
        raise Killed

    whole, register = Study.note, _final.register
    table = written(tracked.folder, mixed(120))
    command = [
        *("tune", "lgbm", "--data", table, "--target", "y", "--strategy", "random", "--trials", 2),
        *("--isolation", "thread", "--workers", 1, "--folds", 2, "--option", "max_rounds=10"),
        *("--name", "mine", "--register", "churn"),
    ]
    with monkeypatch.context() as broken:
        if cut_at == "the note":
            broken.setattr(Study, "note", note)
        else:
            broken.setattr(_final, "register", after)
        with pytest.raises(Killed):
            hpo(*command)
    assert hpo(*command).code == 0
    assert set(registered(tracked, "churn")["versions"]) == {"1"}
    client = tracked_by(tracked)
    experiment = client.get_experiment_by_name("mine")
    assert experiment is not None
    assert len(client.search_logged_models([experiment.experiment_id])) == 1


@pytest.mark.slow
def test_a_confirmation_of_a_ready_objective_has_no_model_to_promote(tracked: Place, hpo: Hpo) -> None:
    """It ended in a traceback, and then in a command that names two studies where a name has a space."""
    hpo(
        *("tune", "sklearn", "--data", "sklearn:wine", "--estimator", "decision_tree", "--trials", 2),
        *("--isolation", "thread", "--workers", 1, "--folds", 2, "--name", "my trees"),
    )
    assert hpo("confirm", "my trees", "--top", 2, "--repeats", 2).code == 0
    said = hpo("promote", "my trees-confirm")
    assert said.code == 2
    assert said.err.endswith("promote those: hpo promote 'my trees'\n")
    # Nor has it a summary of a table, which those that go on with a study look into.
    again = hpo("resume", "my trees-confirm")
    assert (again.code, again.err) == (0, "")


CODES = """
from sklearn.linear_model import LogisticRegression


class Codes(LogisticRegression):
    def fit(self, X, y):
        assert set(y) == {0, 1}, "like XGBoost, which takes no labels"
        return super().fit(X, y)
"""


@pytest.mark.slow
def test_a_holder_that_knows_classes_by_number_is_measured_on_new_rows(tracked: Place, hpo: Hpo) -> None:
    """They were looked up among the labels: it kept the alias, or was judged upside down."""
    (tracked.folder / "xgboost_alike.py").write_text(CODES)
    command = [
        *("tune", "sklearn", "--estimator", "xgboost_alike:Codes", "--space", "{C: {low: 0.1, high: 1.0}}"),
        *("--target", "y", "--strategy", "random", "--trials", 1, "--isolation", "thread", "--workers", 1),
        *("--folds", 2, "--register", "churn"),
    ]
    frame = mixed(300)
    for name, rows, positive in (("first", frame, 0), ("second", frame.iloc[:250], 1)):
        table = written(tracked.folder, rows.assign(y=(rows["y"] == "yes").astype(int)), f"{name}.csv")
        said = hpo(*command, "--data", table, "--name", name, "--option", f"positive={positive}")
        assert (said.code, said.err) == (0, "")
    found = re.search(r"auc [0-9.]+ against ([0-9.]+) of version 1", said.out)
    assert found is not None, said.out
    assert float(found[1]) > 0.7


@pytest.mark.slow
@pytest.mark.torch
def test_a_network_predicts_rows_and_is_measured_on_those_of_another_study(tracked: Place, hpo: Hpo) -> None:
    """It took matrices that only its own study could make, so it held its alias whatever came after it."""
    table = written(tracked.folder, mixed(300))
    command = [
        *("--data", table, "--target", "y", "--strategy", "random", "--trials", 1, "--register", "churn"),
        *("--isolation", "thread", "--workers", 1, "--folds", 2),
    ]
    said = hpo("tune", "torch", *command, "--name", "net", "--option", "max_epochs=2")
    assert (said.code, said.err) == (0, "")
    rows = pd.read_csv(Path(table), parse_dates=["when"]).drop(columns="y")
    labels = served("models:/churn@champion", tracked, rows)
    assert set(labels) <= {"no", "yes"}
    assert len(labels) == 300
    written(tracked.folder, mixed(400, seed=1))
    newer = hpo("tune", "lgbm", *command, "--name", "trees", "--option", "max_rounds=20")
    assert newer.code == 0
    assert re.search(r"auc [\d.]+ against [\d.]+ of version 1\)", newer.out)


@pytest.mark.slow
def test_a_ready_objective_is_refitted_and_measured_on_the_rows_held_out(tracked: Place, hpo: Hpo) -> None:
    table = written(tracked.folder, mixed(400))
    command = [
        *("tune", "lgbm", "--data", table, "--target", "y", "--strategy", "random", "--trials", 3),
        *("--isolation", "thread", "--workers", 1, "--folds", 2, "--option", "max_rounds=20"),
    ]
    said = hpo(*command, "--name", "mine", "--register", "churn")
    assert (said.code, said.err) == (0, "")
    assert "churn@champion is version 1 (the first one, with auc" in said.out
    study = tracked.study("mine")
    other = next(t.number for t in study.trials if t.number != study.best.number)

    promoted = hpo("promote", "mine", "--trial", other, "--metric", "accuracy", "--margin", 0.5)
    assert promoted.code == 1
    assert "not more than 0.5 better: accuracy" in promoted.out
    versions = registered(tracked, "churn")["versions"]
    assert len(versions) == 2
    assert {v.tags["hpo.trial"] for v in versions.values()} == {str(other), str(study.best.number)}
    tested = f"On test rows that no trial saw: `auc` = **{float(versions['1'].tags['hpo.score.auc']):.6g}**, "
    assert tested in versions["1"].description
    client = tracked_by(tracked)
    parent = client.get_run(newest(study, TRACKING)["run_id"])
    shown = {output.model_id for output in parent.outputs.model_outputs}
    assert shown == {version.tags["hpo.model_id"] for version in versions.values()}

    by_folds = hpo("promote", "mine", "--trial", other, "--gate", "folds")
    assert by_folds.code == 1
    assert "not better beyond doubt (p <= 0.05): auc worse by" in by_folds.out
    assert "over 2 folds" in by_folds.out
    assert hpo("promote", "mine", "--gate", "fold").err.endswith("did you mean 'folds'?\n")

    mlflow.set_tracking_uri(f"sqlite:///{tracked.database}")
    try:
        model = mlflow.pyfunc.load_model("models:/churn@champion")
        rows = pd.read_csv(Path(table), parse_dates=["when"]).drop(columns="y")
        expected = [str(label) for label in model.predict(rows)]
    finally:
        mlflow.set_tracking_uri(None)
    assert served("models:/churn@champion", tracked, rows) == expected
    assert len(expected) == 400

    # More data is another question: the champion is measured on the new rows before it keeps the alias.
    written(tracked.folder, mixed(500, seed=1))
    newer = hpo(*command, "--name", "newer", "--register", "churn")
    assert newer.code == 0
    assert " of version 1)" in newer.out
    study = tracked.study("newer")
    other = next(t.number for t in study.trials if t.number != study.best.number)
    by_folds = hpo("promote", "newer", "--trial", other, "--gate", "folds", "--json")
    holder = registered(tracked, "churn")["aliases"]["champion"]
    reason = json.loads(by_folds.out)["reason"]
    assert "over 2 folds" in reason
    assert reason.endswith(f"against version {holder}")

    # Whatever stands in the way of a comparison is named, and the holder keeps its alias.
    run = registered(tracked, "churn")["versions"][holder].run_id
    wrong = {"learning_rate": "fast"}
    for objective, digest, says in (
        ("torch", "", "its configuration is one of the objective 'torch', not of 'lgbm'"),
        ("lgbm", "", "the configuration in its run is not the one that it was registered with"),
        ("lgbm", config_sha256(wrong), "its configuration fails on these folds: "),
    ):
        client.set_tag(run, "hpo.params", json.dumps(wrong))
        tags = {"hpo.objective": objective, "hpo.config_sha256": digest, "hpo.folds_digest": "of other folds"}
        for key, value in tags.items():
            client.set_model_version_tag("churn", holder, key, value)
        refused = json.loads(hpo("promote", "newer", "--trial", other, "--gate", "folds", "--json").out)
        assert (refused["promoted"], refused["champion"]) == (False, holder)
        assert refused["reason"].startswith(f"cannot be compared with version {holder}: {says}")


def test_a_gate_on_folds_evaluates_each_configuration_as_it_was_made(tracked: Place, hpo: Hpo) -> None:
    """The holder's was with the other study's options, its estimator even, and both with 100 trees."""
    table = written(tracked.folder, mixed(160, task="regression"))
    command = [
        *("tune", "sklearn", "--data", table, "--target", "y", "--folds", 3, "--trials", 1),
        *("--isolation", "thread", "--workers", 1),
    ]
    forest = {"estimator": "random_forest", "budget": "steps", "n_steps": 3, "max_size": 6}
    trees = {"estimator": "extra_trees", "budget": "steps", "n_steps": 2, "max_size": 4}
    given = [[f"--option={key}={value}" for key, value in options.items()] for options in (forest, trees)]
    assert hpo(*command, *given[0], "--name", "first", "--register", "m").code == 0
    assert hpo(*command, *given[1], "--name", "second").code == 0
    said = hpo("promote", "second", "--model", "m", "--gate", "folds", "--json")
    first, second = (tracked.study(name).best for name in ("first", "second"))
    own = trial_seed(tracked.study("second").created.seed, second.number)
    old, new = (
        make_objective("sklearn", data=table, target="y", folds=3, options=options).on_folds(params, seed)
        for options, params, seed in ((forest, first.params, 0), (trees, second.params, own))
    )
    assert sum(new.values()) / 3 == pytest.approx(second.values["rmse"])
    assert f"rmse {paired_test(new, old, 'min')}, against version 1" in json.loads(said.out)["reason"]

    client = tracked_by(tracked)
    client.delete_model_version_tag("m", "1", "hpo.objective_options")
    client.set_model_version_tag("m", "1", "hpo.folds_digest", "of other folds")
    said = hpo("promote", "second", "--model", "m", "--gate", "folds", "--json")
    assert "does not say with which options of the objective it was made" in json.loads(said.out)["reason"]


def test_a_final_model_that_mlflow_has_no_room_for_is_made_by_the_same_command(
    hpo: Hpo, tracked: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was an error of the input, exit code 2, that named neither the study nor what to do."""
    monkeypatch.setattr("flows._final.log_model", _no_room)
    estimator = ("--estimator", "sklearn.linear_model.Ridge", "--data", "sklearn:diabetes")
    command = ("tune", "sklearn", *estimator, "--trials", 1, "--workers", 1, "--name", "mine")
    said = hpo(*command)
    assert said.code == 1
    assert "its final model is not made: no room; the same command again makes it" in said.err
    monkeypatch.setattr("flows._final.log_model", log_model)
    assert hpo(*command).code == 0
    assert "model_uri" in final_model(tracked.study("mine"))


def _no_room(*_: Any, **__: Any) -> Any:
    raise TrackingError("no room")
