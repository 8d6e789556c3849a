"""What goes from MLflow with a study, and what stays: registered models, and everybody else's runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.artifacts import list_artifacts
from mlflow.entities import LoggedModel
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from tracking import _delete, belongings, connect, take_out
from tracking._connection import Connection
from tracking.tags import PARENT_RUN_ID, ROLE, STUDY_ID


@pytest.fixture
def connection(sqlite_uri: str, experiment: str) -> Connection:
    """An experiment with the study `s`: its own run, two trials with artifact and model, and a repeat."""
    made = connect(sqlite_uri, experiment)
    study = made.client.create_run(made.experiment_id, tags={STUDY_ID: "s", ROLE: "study"})
    for number in range(2):
        tags = {PARENT_RUN_ID: study.info.run_id, ROLE: "trial"}
        trial = made.client.create_run(made.experiment_id, tags=tags).info.run_id
        made.client.log_text(trial, "a tree", "tree.txt")
        model = made.client.create_logged_model(made.experiment_id, name=f"m{number}", source_run_id=trial)
        get_artifact_repository(model.artifact_location).log_artifact(__file__)
    tags = {PARENT_RUN_ID: trial, ROLE: "repeat", STUDY_ID: "s"}
    repeat = made.client.create_run(made.experiment_id, tags=tags).info.run_id
    made.client.log_text(repeat, "a leaf", "leaf.txt")
    return made


def files(connection: Connection, run: str) -> list[str]:
    """The run's artifacts."""
    uri = connection.client.get_run(run).info.artifact_uri
    return [Path(item.path).name for item in list_artifacts(uri, tracking_uri=connection.uri)]


@pytest.mark.parametrize(
    "known", [lambda m: {"run_id": m.source_run_id, "model_id": m.model_id}, lambda m: {}]
)
def test_everything_goes_but_what_is_registered(
    connection: Connection, experiment: str, known: Callable[[LoggedModel], dict[str, Any]]
) -> None:
    client = connection.client
    other = client.create_run(connection.experiment_id)
    client.log_text(other.info.run_id, "mine", "mine.txt")
    first, second = belongings(connection, "s").models
    client.create_registered_model(experiment)
    client.create_model_version(experiment, first.artifact_location, **known(first))
    found = belongings(connection, "s")
    assert len(found.runs) == 4
    assert [model.model_id for model in found.unregistered] == [second.model_id]
    assert found.registered == {first.model_id}
    take_out(connection, found)
    kept = [list_artifacts(model.artifact_location, tracking_uri=connection.uri) for model in (first, second)]
    assert list(map(len, kept)) == [1, 0]
    assert [run.info.run_id for run in connection.runs("")] == [other.info.run_id]
    assert files(connection, other.info.run_id) == ["mine.txt"]
    assert [files(connection, run.info.run_id) for run in found.runs] == [[], [], [], []]
    left = {model.model_id for model in client.search_logged_models([connection.experiment_id])}
    assert left == {first.model_id}
    assert belongings(connection, "s").runs == ()


def test_the_artifacts_that_a_version_is_made_of_stay(connection: Connection, experiment: str) -> None:
    client = connection.client
    trial = belongings(connection, "s").runs[0].info.run_id
    client.create_registered_model(experiment)
    client.create_model_version(
        experiment, f"{client.get_run(trial).info.artifact_uri}/tree.txt", run_id=trial
    )
    found = belongings(connection, "s")
    assert found.registered == {trial}
    take_out(connection, found)
    assert files(connection, trial) == ["tree.txt"]


def test_no_folder_is_removed_that_is_not_the_runs_own(connection: Connection, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("keep me")
    for uri in (tmp_path.as_uri(), f"{tmp_path.as_uri()}/x/../"):
        _delete.remove_files(connection, uri, "0123456789abcdef")
    assert (tmp_path / "precious.txt").exists()
