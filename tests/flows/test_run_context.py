"""The run context provider: tags inside a trial, nothing elsewhere, and no cost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import Any

import pytest

from flows._embedded import embedded_api
from flows._run_context import VARIABLE, TrialContext, running_trial
from tests.flows.conftest import Hpo, Place

TAGS = {"hpo.study": "s", "hpo.trial": "3"}


def test_nothing_outside_of_a_trial() -> None:
    """No tags, no error."""
    assert not TrialContext().in_context()
    assert TrialContext().tags() == {}


def test_one_thread_does_not_see_the_trial_of_another() -> None:
    """Trials that are threads of one process have tags of their own."""
    seen: list[dict[str, str]] = []
    with running_trial(TAGS, whole_process=False):
        assert TrialContext().tags() == TAGS
        thread = threading.Thread(target=lambda: seen.append(TrialContext().tags()))
        thread.start()
        thread.join()
    assert seen == [{}]
    assert TrialContext().tags() == {}


def test_a_trial_with_its_process_to_itself_tags_threads_and_subprocesses() -> None:
    """What the objective starts belongs to it."""
    seen: list[dict[str, str]] = []
    program = "import json; from flows._run_context import TrialContext as T; print(json.dumps(T().tags()))"
    with running_trial(TAGS, whole_process=True):
        thread = threading.Thread(target=lambda: seen.append(TrialContext().tags()))
        thread.start()
        thread.join()
        done = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True, check=True)
    assert seen == [TAGS]
    assert json.loads(done.stdout) == TAGS
    assert VARIABLE not in os.environ


@pytest.mark.parametrize("foreign", ["", "no json", "[1]", "3"])
def test_somebody_elses_variable_is_no_error(foreign: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name may be taken; runs are opened all the same."""
    monkeypatch.setenv(VARIABLE, foreign)
    assert not TrialContext().in_context()


def test_mlflow_pays_nothing_for_it() -> None:
    """Loading the provider imports no library at all."""
    heavy = ("mlflow", "prefect", "numpy", "hpo_core", "tracking", "typer")
    program = f"import flows._run_context, sys; print(*(set(sys.modules) & set({heavy!r})))"
    done = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True, check=True)
    assert done.stdout.split() == []


OBJECTIVE = """
import mlflow

def opens(trial):
    with mlflow.start_run(run_name="mine", nested=True):
        mlflow.log_metric("own", 1.0)
    return trial.suggest_float("x", 0.0, 1.0)
"""


def test_a_run_that_an_objective_opens_is_tagged(tracked: Place, hpo: Hpo) -> None:
    """A nested run of the objective's own carries study, trial, attempt, flow and task run.

    And the flow run has an artifact with the study's summary.
    """
    from mlflow import MlflowClient
    from mlflow.tracking.context import registry

    providers = registry._run_context_provider_registry
    if not any(isinstance(provider, TrialContext) for provider in providers):
        providers.register(TrialContext)  # where this checkout is not installed
    (tracked.folder / "opens_runs.py").write_text(OBJECTIVE)
    said = hpo("tune", "opens_runs.py:opens", "--trials", 1, "--name", "tagged", "--isolation", "thread")
    assert (said.code, said.err) == (0, "")
    client = MlflowClient(f"sqlite:///{tracked.database}")
    experiment = client.get_experiment_by_name("tagged")
    (run,) = client.search_runs([experiment.experiment_id], "attributes.run_name = 'mine'")
    tags = run.data.tags
    assert (tags["hpo.study"], tags["hpo.trial"], tags["hpo.attempt"]) == ("tagged", "0", "1")
    assert len(tags["hpo.flow_run"]) == len(tags["hpo.task_run"]) == 36
    assert "hpo.role" not in tags
    artifact = summary_of("study-tagged")
    assert str(artifact.flow_run_id) == tags["hpo.flow_run"]
    assert "**tagged**: 1 complete in " in artifact.data
    assert "| trial | loss | seconds | x |" in artifact.data


def summary_of(key: str) -> Any:
    """The artifact of that key on the embedded Prefect server."""
    from prefect import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
    from prefect.settings import PREFECT_API_URL, temporary_settings

    wanted = ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
    with embedded_api() as server, temporary_settings({PREFECT_API_URL: server.url()}):
        client = get_client(sync_client=True)
        with client:
            (found,) = client.read_artifacts(artifact_filter=wanted)
    return found
