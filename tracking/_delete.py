"""Take a study out of MLflow: its runs with their artifacts, and the models that nobody has registered.

MLflow keeps a deleted run for ``mlflow gc``, and its artifacts and models for ever. Artifacts go first, the
study's own run last, so that a deletion that was interrupted can be repeated.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracking._connection import Connection, paged

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Run

_VERSIONS = 1000  # in a page


@dataclass(frozen=True, slots=True, kw_only=True)
class Belongings:
    """What MLflow has of a study. ``runs``: those of trials, of repeats and then its own.

    ``models``: those that they logged. ``registered``: ids of models and runs whose files a registered
    version is made of; those stay.
    """

    runs: tuple[Run, ...] = ()
    models: tuple[LoggedModel, ...] = ()
    registered: frozenset[str] = frozenset()

    @property
    def unregistered(self) -> tuple[LoggedModel, ...]:
        """The models that go with their runs."""
        return tuple(model for model in self.models if model.model_id not in self.registered)


def belongings(connection: Connection, study_id: str) -> Belongings:
    """What there is of the study in the connection's experiment."""
    parents = connection.study_runs(study_id)
    children = [run for parent in parents for run in connection.children(parent.info.run_id)]
    runs = (*children, *connection.runs_of(study_id, "repeat"), *parents)
    ids = {run.info.run_id for run in runs}
    models = tuple(model for model in connection.models() if model.source_run_id in ids)
    registered = frozenset(_registered(connection, ids, {model.model_id for model in models}))
    return Belongings(runs=runs, models=models, registered=registered)


def take_out(connection: Connection, found: Belongings) -> None:
    """Delete the runs, their artifacts and the models that are not registered."""
    client = connection.client
    for model in found.unregistered:
        remove_files(connection, model.artifact_location, model.model_id)
        client.delete_logged_model(model.model_id)
    for run in found.runs:
        if run.info.run_id not in found.registered:
            remove_files(connection, run.info.artifact_uri, run.info.run_id)
        client.delete_run(run.info.run_id)


def _registered(connection: Connection, runs: set[str], models: set[str]) -> Iterator[str]:
    """The models and runs that versions are made of.

    A version does not always say which model or run it came from, but its source is the address of files
    or of a model, and either has the id in it. So all versions are read.
    """
    search = functools.partial(connection.client.search_model_versions, max_results=_VERSIONS)
    for version in paged(search):
        parts = {*str(version.source).replace(":", "/").split("/"), version.model_id}
        yield from parts & models or ({*parts, version.run_id} & runs)


def remove_files(connection: Connection, uri: str, owner: str, path: str | None = None) -> None:
    """Delete the artifacts at ``uri``, or those below ``path`` there, of the run or model ``owner``."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    # The address is the server's word: nothing is removed but a folder that is named for the run or model.
    if owner not in uri.rstrip("/").split("/")[-2:]:
        return
    get_artifact_repository(uri, tracking_uri=connection.uri).delete_artifacts(path)
