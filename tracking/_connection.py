"""The way to one experiment on one tracking server, opened once and checked before anything is made."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import sqlite3
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo_core import InputError
from tracking import _settings, _sqlite
from tracking._errors import Away, Denied, brief, is_denied, is_forbidden, is_permanent
from tracking._http import status_of
from tracking._text import redacted, safe_key
from tracking._versions import check_version
from tracking.tags import PARENT_RUN_ID, ROLE, STUDY, STUDY_ID, UID, trial_uid

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, LoggedModel, Run

_CONNECT_SECONDS = 5.0
_PAGE = 1000
# While somebody else sets up a database file it answers with one error after another. One that comes this
# often, a second apart, is meant.
_SAME_ERROR, _AGAIN_SECONDS = 5, 1.0
_LOGIN = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
_RIGHT = "ask for the right to edit the experiment, choose one of your own with --experiment NAME"
_TRUST = (
    "set MLFLOW_TRACKING_SERVER_CERT_PATH to the certificate of whoever has signed it (or "
    "MLFLOW_TRACKING_INSECURE_TLS=true, and trust whoever answers)"
)
# Tracking URIs of one word that are no folders.
_PLACES = ("databricks", "databricks-uc", "uc")


@dataclass(frozen=True, slots=True)
class Connection:
    """``client`` talks to ``uri``; ``sqlite``: the database file, where it is one on this machine."""

    client: MlflowClient
    uri: str
    experiment_id: str
    sqlite: Path | None = None

    @property
    def over_http(self) -> bool:
        """Whether it is to a server, which may be far and is not ours alone."""
        return is_over_http(self.uri)

    def runs(self, query: str, *, most: int | None = None, deleted: bool = False) -> Iterator[Run]:
        """All active runs of the experiment that match, oldest first, each once; or those ``deleted``."""
        from mlflow.entities import ViewType

        search = functools.partial(
            self.client.search_runs,
            [self.experiment_id],
            query,
            run_view_type=ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY,
            max_results=min(_PAGE, most or _PAGE),
            order_by=["attributes.start_time ASC"],
        )
        seen: set[str] = set()
        for run in paged(search):
            # Pages are offsets: a run that appears meanwhile shifts the others into the next page.
            if run.info.run_id in seen:
                continue
            seen.add(run.info.run_id)
            yield run
            if len(seen) == most:
                return

    def models(self, query: str | None = None) -> Iterator[LoggedModel]:
        """The experiment's models that match, as MLflow knows them, newest first."""
        newest = [{"field_name": "creation_time", "ascending": False}]
        search = functools.partial(
            self.client.search_logged_models, [self.experiment_id], query, order_by=newest
        )
        return paged(search)

    def runs_of(self, study_id: str, role: str) -> Iterator[Run]:
        """The study's runs that stand for a ``"study"``, a ``"trial"`` or a ``"repeat"`` of one."""
        return self.runs(f"tags.`{STUDY_ID}` = '{study_id}' AND tags.`{ROLE}` = '{role}'")

    def study_runs(self, study_id: str) -> list[Run]:
        """The runs that stand for this study: one, or none, or ghosts of a creation that was repeated."""
        return list(self.runs_of(study_id, "study"))

    def trial_runs(
        self, study_id: str, trial: int, *, most: int | None = None, deleted: bool = False
    ) -> Iterator[Run]:
        """The runs that stand for this trial of the study: one, or none, or ghosts; or those ``deleted``."""
        return self.runs(f"tags.`{UID}` = '{trial_uid(study_id, trial)}'", most=most, deleted=deleted)

    def named_studies(self, name: str, *, anywhere: bool = False) -> list[Run]:
        """The runs of all studies of that name, newest first; ``anywhere``: in whatever experiment."""
        here = [self.experiment_id]
        experiments = [e.experiment_id for e in self.client.search_experiments()] if anywhere else here
        newest = ["attributes.start_time DESC"]
        search = functools.partial(self.client.search_runs, experiments, _named(name), order_by=newest)
        # Of several with one id, ghosts of a creation that was repeated, the oldest is the study's.
        return list({run.data.tags.get(STUDY_ID, run.info.run_id): run for run in paged(search)}.values())

    def children(self, parent: str, extra: str = "") -> Iterator[Run]:
        """The runs directly below ``parent``."""
        return self.runs(f"tags.`{PARENT_RUN_ID}` = '{parent}'{extra}")

    def url(self, run_id: str) -> str | None:
        """Where a browser shows the run, for a server that has pages."""
        if not self.over_http:
            return None
        parts = urllib.parse.urlsplit(self.uri)
        # A browser asks for the password itself; a link is printed and kept.
        base = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")
        return f"{base}/#/experiments/{self.experiment_id}/runs/{run_id}"


def paged(search: Callable[..., Any]) -> Iterator[Any]:
    """All that a search of MLflow's finds; it answers one page at a time, by ``page_token``."""
    token: str | None = None
    while True:
        page = search(page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def quoted(text: str) -> str:
    """The text as a literal in a filter of MLflow's."""
    escaped = text.replace("'", "\\'")
    return f"'{escaped}'"


def _named(study: str) -> str:
    return f"tags.`{STUDY}` = {quoted(study)} AND tags.`{ROLE}` = 'study'"


def is_over_http(uri: str) -> bool:
    """Whether a tracking URI is a server's address; the others are databases and folders."""
    return uri.lower().startswith(("http://", "https://"))


def resolve_uri(tracking_uri: str | None) -> str:
    """The URI itself, or where MLflow would write by default in this process; the same in every folder."""
    if tracking_uri:
        return absolute_uri(tracking_uri)
    named = os.environ.get("MLFLOW_TRACKING_URI")
    if named and "mlflow" not in sys.modules:
        return absolute_uri(named)
    import mlflow

    uri = mlflow.get_tracking_uri()
    return absolute_uri(uri if mlflow.is_tracking_uri_set() else _sqlite.default_uri(uri))


def absolute_uri(uri: str) -> str:
    """The URI with the whole path of a file or folder on this machine: an objective may change folders."""
    if uri.startswith("sqlite"):
        path = _sqlite.database_file("sqlite" + uri[uri.find(":") :])
        scheme, query = uri.partition(":")[0], uri.partition("?")[2]
        return uri if path is None else f"{_sqlite.database_uri(path, scheme)}{'?' * bool(query)}{query}"
    if not uri or ":" in uri or uri in _PLACES:
        return uri
    return str(Path(uri).absolute())


def connect(tracking_uri: str | None, experiment: str, run: str | None = None) -> Connection:
    """Open the experiment, which is created if need be.

    ``run``: one that was in it; should somebody have renamed the experiment, it is found by that.

    Raises :class:`InputError`, one line, when the server does not answer, when the URI makes no sense,
    or when the experiment was deleted.
    """
    uri, path = _found(tracking_uri)
    from mlflow import MlflowClient

    try:
        if path is None:
            client = MlflowClient(uri)
            return Connection(client, uri, _experiment(client, experiment, None, run))
        _check_place(uri, path)
        _check_writable(uri, path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with _sqlite.alone(path):
            return _open_file(uri, path, experiment, run)
    except InputError:
        raise
    except Exception as error:
        raise refused(uri, error) from error


def _found(tracking_uri: str | None) -> tuple[str, Path | None]:
    """The URI in full, and the file where it is a database on this machine.

    Raises :class:`InputError` for another MLflow than we know, and where nothing answers.
    """
    check_version("mlflow")
    _settings.set_up_process()
    uri = resolve_uri(tracking_uri)
    _check_reachable(uri)
    return uri, _sqlite.database_file(uri)


def _open_file(uri: str, path: Path, experiment: str, run: str | None) -> Connection:
    """A server or another tool may be setting up the same database: then it is tried again."""
    from mlflow import MlflowClient

    _sqlite.prepare_sqlite(path)
    said: dict[str, int] = {}
    while True:
        try:
            client = MlflowClient(uri)
            return Connection(client, uri, _experiment(client, experiment, path, run), path)
        except Exception as error:
            said[brief(error)] = times = said.get(brief(error), 0) + 1
            if not _sqlite.is_half_made(error) or times == _SAME_ERROR:
                raise
        time.sleep(_AGAIN_SECONDS)


def connect_to_study(
    tracking_uri: str | None, study: str, experiment: str | None = None, run: str | None = None
) -> Connection | None:
    """Open the experiment that has the newest study of that name, or ``None``; makes nothing.

    ``experiment``: look only there. ``run``: the study's, which is meant and no newer one, where it is there;
    that, and :class:`InputError`, as for :func:`connect` too.
    """
    uri = probe(tracking_uri, to_write=False)
    path = _sqlite.database_file(uri)
    if path is not None and not path.exists():
        return None
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    try:
        found = (
            client.search_experiments() if experiment is None else [_named_or_with(client, experiment, run)]
        )
        ids = [e.experiment_id for e in found if e is not None]
        newest = ["attributes.start_time DESC"]
        runs = client.search_runs(ids, _named(study), order_by=newest) if ids else []
    except Exception as error:
        raise _answered(uri, error) from error
    return Connection(client, uri, meant(runs, run).info.experiment_id, path) if runs else None


def meant(runs: Sequence[Run], run: str | None) -> Run:
    """Of the runs of studies of one name the one with that id, else the first, which is the newest."""
    return next((found for found in runs if found.info.run_id == run), runs[0])


def probe(tracking_uri: str | None, *, to_write: bool = True) -> str:
    """Check that the tracking server answers, and make nothing; without MLflow, which loads for seconds.

    ``to_write``: a database on this machine has to be one that can be written to. Returns the server's URI.
    Raises :class:`InputError`, one line, when it does not.
    """
    uri, path = _found(tracking_uri)
    try:
        if path is not None:
            _check_file(uri, path, to_write=to_write)
        elif not _answers_plainly(uri):
            from mlflow import MlflowClient

            MlflowClient(uri).search_experiments(max_results=1)
    except InputError:
        raise
    except Exception as error:
        raise _answered(uri, error) from error
    return uri


def _check_place(uri: str, path: Path) -> None:
    """Whether SQLite can be trusted with the file where it is, and MLflow can make it from where we are."""
    if kind := _sqlite.network_of(path):
        raise InputError(
            f"cannot track to {redacted(uri)!r}: it is on a network file system ({kind}), where SQLite loses "
            "locks and data; give a file on a disk of this machine, PostgreSQL, or the address of an MLflow "
            "server that has one of these (--tracking-uri, or MLFLOW_TRACKING_URI)"
        )
    here = ""
    with contextlib.suppress(FileNotFoundError):  # it was removed
        here = str(Path.cwd())
    if not path.exists() and {"'", '"'} <= set(here):
        # It writes this folder's path into a statement as Python would print it.
        why = f"MLflow cannot set up a database in a folder with both kinds of quotes in its path, {here}"
        raise unusable(uri, why, remedy="work in another folder")


def _check_file(uri: str, path: Path, *, to_write: bool) -> None:
    _check_place(uri, path)
    if to_write:
        _check_writable(uri, path)
    if path.exists():
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA schema_version")


def _check_writable(uri: str, path: Path) -> None:
    """MLflow would make a database that is not there; whether it can is all there is to know."""
    if path.exists():
        what, can = f"the file {path}", os.access(path, os.W_OK)
    else:
        folder = next(p for p in path.parents if p.exists())
        what, can = f"the folder {folder}", folder.is_dir() and os.access(folder, os.W_OK)
    if not can:
        raise unusable(uri, f"{what} cannot be written to", remedy="see who may write there")


def _answers_plainly(uri: str) -> bool:
    """Whether the server lists its experiments to anybody; credentials are MLflow's own business."""
    if not is_over_http(uri) or "@" in urllib.parse.urlsplit(uri).netloc:
        # urllib takes name and password for a part of the host's name, and would ask the DNS for them.
        return False
    query = f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/search?max_results=1"
    return status_of(query, _CONNECT_SECONDS) == 200


def _check_reachable(uri: str) -> None:
    """A quick no is better than MLflow's patient one."""
    if not is_over_http(uri):
        return
    parts = urllib.parse.urlsplit(uri)
    proxy = f"{parts.scheme}_proxy"
    proxied = os.environ.get(proxy) or os.environ.get(proxy.upper())
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        why = "the port is not a number from 0 to 65535"
        hint = "; in a name or password write / as %2F, : as %3A and @ as %40" if "@" in uri else ""
        raise unusable(uri, f"{why}{hint}") from None
    if not parts.hostname:
        raise unusable(uri, "it names no host")
    if proxied:
        return
    try:
        socket.create_connection((parts.hostname, port), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        why = f"nothing answers at {parts.hostname}:{port} ({brief(error)})"
        raise unusable(uri, why, Away) from None


def refused(uri: str, error: Exception) -> InputError:
    """The error for what the tracking server said: no for good, or that it is away."""
    if not is_over_http(uri) or is_permanent(error):
        return _answered(uri, error)
    return _answered(uri, error, Denied if is_denied(error) else Away)


def _answered(uri: str, error: Exception, kind: type[InputError] = InputError) -> InputError:
    """The error for what a server said that is there, or seems to be."""
    if is_denied(error):
        return unusable(uri, brief(error), kind, _RIGHT if is_forbidden(error) else _LOGIN)
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        # What MLflow says of it is long, and ends in the cause.
        why = str(error).partition("certificate verify failed: ")[2].partition(" (")[0]
        return unusable(uri, f"its certificate is not trusted ({why})", kind, _TRUST)
    return unusable(uri, brief(error), kind)


def unusable(
    uri: str, why: str, kind: type[InputError] = InputError, remedy: str = "start the server"
) -> InputError:
    """The error for a tracking server that cannot be used, with what to do about it."""
    return kind(
        f"cannot track to {redacted(uri)!r}: {redacted(why)}; {remedy}, give another tracking URI, "
        "or run offline (the journal keeps everything and can be projected later)"
    )


def _named_or_with(client: MlflowClient, name: str, run: str | None) -> Experiment | None:
    """The experiment of that name, else the one that has the run, if this server knows it."""
    if (found := client.get_experiment_by_name(name)) is not None or run is None:
        return found
    try:
        return client.get_experiment(client.get_run(run).info.experiment_id)
    except Exception as error:
        if not is_permanent(error):
            raise
        return None


def _experiment(client: MlflowClient, name: str, database: Path | None, run: str | None) -> str:
    from mlflow.exceptions import MlflowException

    found = _named_or_with(client, name, run)
    if found is None:
        # MLflow's own default would be a folder in whatever happens to be the working directory.
        location = None if database is None else (database.parent / "mlartifacts" / safe_key(name)).as_uri()
        try:
            made: str = client.create_experiment(
                name, artifact_location=location, tags={"mlflow.experimentKind": "custom_model_development"}
            )
            return made
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)
    if found is None:
        raise InputError(
            f"MLflow says that there is an experiment {name!r}, but does not show it to you; ask who may see "
            "it, or choose another experiment"
        )
    if found.lifecycle_stage == "deleted":
        raise InputError(
            f"the experiment {name!r} was deleted in MLflow, which keeps its name; restore it with `mlflow "
            f"experiments restore --experiment-id {found.experiment_id}`, or choose another experiment, for "
            "a study that is there with `hpo sync STUDY --experiment NAME`"
        )
    experiment_id: str = found.experiment_id
    return experiment_id


def set_primary_metric(connection: Connection, metric: str, *, maximise: bool) -> None:
    """Tell MLflow's pages which metric matters, unless somebody has said so already."""
    client, experiment_id = connection.client, connection.experiment_id
    if "mlflow.experiment.primaryMetric.name" in client.get_experiment(experiment_id).tags:
        return
    client.set_experiment_tag(experiment_id, "mlflow.experiment.primaryMetric.name", metric)
    client.set_experiment_tag(
        experiment_id, "mlflow.experiment.primaryMetric.greaterIsBetter", str(maximise).lower()
    )
