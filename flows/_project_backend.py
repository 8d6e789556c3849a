"""``mlflow run PROJECT -b prefect``: the entry point runs as a flow run of a Prefect deployment.

MLflow finds this by the entry point ``mlflow.project_backend``. ``--backend-config`` is JSON, or a file:

    {"deployment": "tune/lgbm",     default: tune/ENTRY, and tune/lgbm for the entry point ``main``
     "api_url": "http://host:4200/api",                  default: what Prefect is configured to use
     "wait": true,                                       default: true on the command line
     "poll": 1.0}                                        seconds between two looks

The project's parameters become the flow's: by name and type where the deployment has such a parameter,
in its ``options`` where it has not. The MLflow run of the project becomes the study's run, unless the
study has one already: then it says which, and the waiting command follows that one.
"""

from __future__ import annotations

import contextlib
import json
import math
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import RunStatus
from mlflow.exceptions import ExecutionException
from mlflow.projects.backend.abstract_backend import AbstractBackend
from mlflow.projects.submitted_run import SubmittedRun
from mlflow.projects.utils import fetch_and_validate_project, get_or_create_run, load_project

from hpo_core.inner import is_number, nearest
from tracking import brief, redacted
from tracking.tags import BEST_VALUES, COUNTS, FLOW_RUN, RESUMED_RUN_ID


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_pause(value: object) -> bool:
    return is_number(value) and 0 < value < math.inf


# What each setting must be, as a test and in words.
_OWN: dict[str, tuple[Callable[[object], bool], str]] = {
    "deployment": (_is_text, "a name such as 'tune/lgbm'"),
    "api_url": (_is_text, "an address such as 'http://127.0.0.1:4200/api'"),
    "wait": (_is_flag, "true or false"),
    "poll": (_is_pause, "a number of seconds above 0"),
}
# MLflow puts its own options beside the user's.
_OF_MLFLOW = {"ENV_MANAGER", "SYNCHRONOUS", "DOCKER_ARGS", "STORAGE_DIR", "build_image", "docker_auth"}
_MAIN = "lgbm"
_CANCEL_SECONDS = 60.0
# Options of `hpo tune` that the flow knows by another name, since a flow may not take them as they are.
_RENAMED = {"register": "register_as"}


class FlowRunOfProject(SubmittedRun):
    """A project that runs as a flow run: wait for it, ask how it stands, cancel it."""

    def __init__(self, run_id: str, flow_run_id: Any, *, api_url: str | None, poll: float) -> None:
        super().__init__()
        self._run_id = run_id
        self._flow_run_id = flow_run_id
        self._api_url = api_url
        self._poll = poll

    @property
    def run_id(self) -> str:
        """The MLflow run."""
        return self._run_id

    def wait(self) -> bool:
        """Follow the flow run to its end, saying how it goes; whether it was a success."""
        said = ""
        with _client(self._api_url) as client:
            while True:
                state = client.read_flow_run(self._flow_run_id).state
                line = f"{state.name if state else 'Pending'}{self._progress()}"
                if line != said:
                    said = line
                    _say(line)
                if state is not None and state.is_final():
                    if state.message:
                        _say(state.message)
                    self._close(state)
                    return bool(state.is_completed())
                time.sleep(self._poll)

    def get_status(self) -> str:
        """MLflow's word for the state of the flow run."""
        with _client(self._api_url) as client:
            return RunStatus.to_string(_status(client.read_flow_run(self._flow_run_id).state))

    def cancel(self) -> None:
        """Cancel the flow run and wait until it has ended."""
        from prefect.states import Cancelling

        with _client(self._api_url) as client:
            client.set_flow_run_state(self._flow_run_id, Cancelling())
            deadline = time.monotonic() + _CANCEL_SECONDS
            while time.monotonic() < deadline:
                state = client.read_flow_run(self._flow_run_id).state
                if state is not None and state.is_final():
                    self._close(state)
                    return
                time.sleep(self._poll)
        raise ExecutionException(
            f"the flow run {self._flow_run_id} was asked to end and has not within {_CANCEL_SECONDS:g} s; "
            "is anybody serving its deployment?"
        )

    def _progress(self) -> str:
        """How far the study is, from its run: another one where the project goes on with a study."""
        client = MlflowClient()
        tags = client.get_run(self._run_id).data.tags
        if (resumed := tags.get(RESUMED_RUN_ID)) is not None:
            tags = client.get_run(resumed).data.tags
        counts = json.loads(tags.get(COUNTS, "{}"))
        listed = ", ".join(f"{n} {state}" for state, n in counts.items())
        best = tags.get(BEST_VALUES)
        return f": {listed}" * bool(listed) + f"; best {best}" * bool(best)

    def _close(self, state: Any) -> None:
        """A run that nobody took over must not stay open."""
        client = MlflowClient()
        if not RunStatus.is_terminated(RunStatus.from_string(client.get_run(self._run_id).info.status)):
            client.set_terminated(self._run_id, RunStatus.to_string(_status(state)))


class PrefectBackend(AbstractBackend):
    """Submits projects to deployments."""

    def run(
        self,
        project_uri: str,
        entry_point: str,
        params: Mapping[str, str] | None,
        version: str | None,
        backend_config: Mapping[str, Any] | None,
        tracking_uri: str,
        experiment_id: str,
    ) -> FlowRunOfProject:
        """Submit, and unless MLflow is going to wait itself, wait; raises ``ExecutionException``."""
        config = dict(backend_config or {})
        _check(config)
        folder = fetch_and_validate_project(project_uri, version, entry_point, params)
        project = load_project(folder)
        declared, extra = project.get_entry_point(entry_point).compute_parameters(params or {}, None)
        given = {_unquoted(name): _unquoted(value) for name, value in {**declared, **extra}.items()}
        api_url = config.get("api_url")
        wanted = config.get("deployment") or f"tune/{_MAIN if entry_point == 'main' else entry_point}"
        with _client(api_url) as client:
            deployment = _deployment(client, wanted)
            parameters = flow_parameters(given, deployment.parameter_openapi_schema or {}, wanted)
            _check_parameters(deployment, parameters, wanted)
            run = get_or_create_run(None, project_uri, experiment_id, folder, version, entry_point, params)
            run_id = run.info.run_id
            with _closed_if_refused(run_id):
                experiment = MlflowClient().get_experiment(run.info.experiment_id).name
                parameters |= _known(deployment, shown_as(tracking_uri, experiment, run_id))
                flow_run = client.create_flow_run_from_deployment(deployment.id, parameters=parameters)
        MlflowClient().set_tag(run_id, FLOW_RUN, str(flow_run.id))
        _say(f"flow run {flow_run.name} of {wanted}, MLflow run {run_id}")
        submitted = FlowRunOfProject(
            run_id, flow_run.id, api_url=api_url, poll=float(config.get("poll", 1.0))
        )
        if not config.get("SYNCHRONOUS") and config.get("wait", _on_command_line()):
            _wait_here(submitted)
        return submitted


def prefect_backend() -> PrefectBackend:
    """What the entry point names: MLflow calls it to get the backend."""
    return PrefectBackend()


def _unquoted(text: str) -> str:
    """What MLflow has quoted for a shell, of which there is none here."""
    return "".join(shlex.split(text))


def shown_as(tracking_uri: str, experiment: str, run_id: str) -> dict[str, str]:
    """The parameters that say where the flow run is to be shown.

    Prefect keeps them for everybody to see: an address with a password is left out, and the deployment's own
    MLFLOW_TRACKING_URI counts.
    """
    shown = {"experiment": experiment, "mlflow_run_id": run_id}
    if redacted(tracking_uri) == tracking_uri:
        return {"tracking_uri": tracking_uri, **shown}
    _say("the tracking address has a password, so the deployment's own MLFLOW_TRACKING_URI is used")
    return shown


def flow_parameters(given: Mapping[str, str], schema: Mapping[str, Any], deployment: str) -> dict[str, Any]:
    """A project's parameters, all text, as the flow takes them.

    Raises ``ExecutionException`` for one that the flow has no place for.
    """
    known: Mapping[str, Any] = schema.get("properties", {})
    parameters: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for name, text in given.items():
        # An option of the command line may be written as there, and as in Python.
        key = _RENAMED.get(name, name if name in known else name.replace("-", "_"))
        if key in known:
            parameters[key] = _typed(str(text), known[key])
        elif "options" in known:
            options[name] = _parsed(str(text))
        else:
            raise ExecutionException(
                f"the deployment {deployment!r} takes no parameter {name!r}{nearest(name, known)}"
            )
    return {**parameters, **({"options": options} if options else {})}


def _known(deployment: Any, parameters: Mapping[str, str]) -> dict[str, str]:
    """Those of the parameters that the deployment's flow has."""
    known = (deployment.parameter_openapi_schema or {}).get("properties", {})
    return {name: value for name, value in parameters.items() if name in known}


def _check_parameters(deployment: Any, parameters: Mapping[str, Any], wanted: str) -> None:
    """Raise ``ExecutionException`` for what the server would refuse, while there is no run yet."""
    from prefect.utilities.schema_tools.validation import ValidationError, validate

    if not deployment.enforce_parameter_schema:
        return
    ours = _known(deployment, dict.fromkeys(("tracking_uri", "experiment", "mlflow_run_id"), "later"))
    try:
        validate(
            {**deployment.parameters, **parameters, **ours},
            deployment.parameter_openapi_schema,
            raise_on_error=True,
        )
    except ValidationError as error:
        raise ExecutionException(
            f"the deployment {wanted!r} does not take these parameters: {error}"
        ) from None


@contextlib.contextmanager
def _closed_if_refused(run_id: str) -> Iterator[None]:
    """A run that nobody is going to take over must not stay open."""
    try:
        yield
    except BaseException:
        MlflowClient().set_terminated(run_id, "FAILED")
        raise


def _typed(text: str, schema: Mapping[str, Any]) -> Any:
    types = {one.get("type") for one in schema.get("anyOf", [schema])}
    if "string" in types:
        return text
    value = _parsed(text)
    whole = isinstance(value, float) and value.is_integer()
    return int(value) if whole and "integer" in types and "number" not in types else value


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _check(config: Mapping[str, Any]) -> None:
    for key, value in config.items():
        if key not in _OWN.keys() | _OF_MLFLOW:
            raise ExecutionException(
                f"--backend-config takes {', '.join(sorted(_OWN))}; got {key!r}{nearest(key, _OWN)}"
            )
        if key in _OWN and not _OWN[key][0](value):
            raise ExecutionException(f"--backend-config: {key} must be {_OWN[key][1]}, got {value!r}")


def _deployment(client: Any, name: str) -> Any:
    from prefect.exceptions import ObjectNotFound

    try:
        return client.read_deployment_by_name(name)
    except (ObjectNotFound, ValueError):
        flows = {flow.id: flow.name for flow in client.read_flows()}
        served = sorted(f"{flows.get(d.flow_id, '?')}/{d.name}" for d in client.read_deployments())
        known = ", ".join(served) or "none"
        raise ExecutionException(
            f"there is no deployment {name!r} at {client.api_url} (there: {known}); `hpo up` serves "
            'those of the ready objectives, --backend-config \'{"deployment": "flow/name"}\' chooses another'
        ) from None


@contextlib.contextmanager
def _client(api_url: str | None) -> Iterator[Any]:
    """Prefect's client for this server, or the configured one. Raises ``ExecutionException``."""
    import httpx
    from prefect import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: api_url} if api_url else {}):
        if PREFECT_API_URL.value() is None:
            raise ExecutionException(
                'no Prefect server is configured; set PREFECT_API_URL, or --backend-config \'{"api_url": '
                '"http://127.0.0.1:4200/api"}\', or start one with `hpo up`'
            )
        try:
            with get_client(sync_client=True) as client:
                yield client
        except httpx.TransportError as error:
            raise ExecutionException(
                f"the Prefect server at {PREFECT_API_URL.value()} does not answer ({error})"
            ) from None
        except httpx.HTTPStatusError as error:
            raise ExecutionException(
                f"the Prefect server at {PREFECT_API_URL.value()} refused what it was asked: {brief(error)}"
            ) from None


def _wait_here(submitted: FlowRunOfProject) -> None:
    try:
        succeeded = submitted.wait()
    except KeyboardInterrupt:
        _say("cancelling ...")
        submitted.cancel()
        raise
    if not succeeded:
        raise ExecutionException(
            f"the flow run did not succeed; MLflow run {submitted.run_id} is {submitted.get_status()}"
        )


def _on_command_line() -> bool:
    """Whether the ``mlflow`` command called; it never waits for other backends than its own."""
    import click

    return click.get_current_context(silent=True) is not None


def _status(state: Any) -> Any:
    if state is None or state.is_scheduled() or state.is_pending():
        return RunStatus.SCHEDULED
    if state.is_completed():
        return RunStatus.FINISHED
    if state.is_cancelled():
        return RunStatus.KILLED
    return RunStatus.FAILED if state.is_final() else RunStatus.RUNNING


def _say(line: str) -> None:
    import click

    click.echo(f"prefect: {line}", err=True)
