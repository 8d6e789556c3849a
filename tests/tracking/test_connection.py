"""The way to a tracking server: what is said of one that is away, lets nobody in, or cannot be used."""

from __future__ import annotations

import contextlib
import http.server
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

from hpo_core import InputError
from tests.tracking.conftest import Server
from tests.tracking.studies import Script
from tracking import StudyTracker, connect_to_study, probe, status_of
from tracking._connection import _answers_plainly, connect, refused
from tracking._errors import Denied, brief
from tracking._tracker import _trouble


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """An empty study."""
    return Script(tmp_path / "study")


def test_a_folder_that_mlflow_cannot_make_a_database_in_is_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answered with a syntax error of SQL, and the advice to start the server."""
    folder = tmp_path / 'it\'s "q"'
    folder.mkdir()
    monkeypatch.chdir(folder)
    for ask in (probe, lambda uri: connect(uri, "e")):
        with pytest.raises(InputError, match=r"both kinds of quotes .*; work in another folder"):
            ask("sqlite:///mlflow.db")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("http://127.0.0.1:9", "nothing answers at 127.0.0.1:9"),
        ("http://127.0.0.1:99999", "port"),
        ("http://:80", "names no host"),
        ("nonsense://x", "nonsense"),
        ("sqlite:////etc/passwd/mlflow.db", "/etc/passwd"),
    ],
)
def test_a_server_that_does_not_answer_is_one_line(script: Script, uri: str, why: str) -> None:
    """With what to do about it, and before anything is made."""
    before = sorted(script.folder.iterdir())
    for attempt in (StudyTracker(script.folder, uri, "x").start, lambda: probe(uri)):
        with pytest.raises(InputError, match=why) as caught:
            attempt()
        assert "\n" not in str(caught.value)
        assert "offline" in str(caught.value)
    assert sorted(script.folder.iterdir()) == before
    script.close()


def test_a_database_that_cannot_be_written_to_is_one_line_and_can_be_read(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It was a traceback of MLflow's, and a hint to start the server."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    tracker = StudyTracker(script.folder, uri, "x")
    tracker.start()
    assert tracker.close()
    # To root nothing is read-only: the system is asked, and answers for somebody else.
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    for attempt in (StudyTracker(script.folder, uri, "x").start, lambda: probe(uri)):
        with pytest.raises(
            InputError, match=r"mlflow.db cannot be written to; see who may write there"
        ) as said:
            attempt()
        assert "\n" not in str(said.value)
    assert probe(uri, to_write=False) == uri
    assert connect_to_study(uri, script.study.name) is not None
    assert caplog.text == ""


def test_what_a_database_says_is_not_logged_as_well(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """MLflow logs its traceback and raises it; who asked says it in a line."""
    connection = connect(f"sqlite:///{tmp_path / 'mlflow.db'}", "x")
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("DROP TABLE tags")
        database.commit()
    with pytest.raises(MlflowException, match="no such table"):
        connection.client.create_run(connection.experiment_id, tags={"a": "b"})
    assert caplog.text == ""


def test_passwords_are_not_repeated(script: Script) -> None:
    """An error message ends up in logs."""
    with pytest.raises(InputError) as caught:
        StudyTracker(script.folder, "http://me:secret@127.0.0.1:9", "x").start()
    assert "secret" not in str(caught.value)
    script.close()


def test_a_password_in_the_address_is_not_asked_of_the_dns(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """urllib took it for a part of the host's name, or of the port, and the latter was told in an error."""
    asked: list[str] = []
    resolve = socket.getaddrinfo

    def heard(host: Any, *args: Any, **more: Any) -> Any:
        asked.append(str(host))
        return resolve(host, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", heard)
    assert probe(f"http://me:secret@127.0.0.1:{server.port}")
    assert asked
    assert not [host for host in asked if "secret" in host]
    assert not _answers_plainly("http://me:secret@127.0.0.1")


def test_an_error_in_a_line_has_no_password_even_where_the_line_is_cut() -> None:
    """The 200 characters may end within the address."""
    at = "http://me:secret@127.0.0.1:9/api"
    for before in range(150, 200):
        assert "secre" not in brief(OSError(f"{'x' * before} {at}"))
    assert brief(OSError(f"API request to {at} failed")).startswith("API request to http://me:***@127")


class _Doorkeeper(http.server.BaseHTTPRequestHandler):
    """Asks everybody who they are; below ``/busy`` to come back in an hour, below ``/readers`` knows them."""

    def do_GET(self) -> None:
        busy = self.path.startswith("/busy")
        known = self.path.startswith("/readers")
        self.send_response(503 if busy else 403 if known else 401)
        if busy:
            self.send_header("Retry-After", "3600")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET  # noqa: N815 - the name is http.server's

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def door() -> Iterator[str]:
    """The address of a doorkeeper."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Doorkeeper) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_whatever_is_answered_there_is_somebody(door: str) -> None:
    """From Python 3.14 on, an answer of 401 that nobody closes is a warning, in the user's terminal too."""
    assert status_of(door, 5.0) == 401
    assert status_of(f"{door}/busy", 5.0) == 503
    for nobody in ("http://127.0.0.1:9", "nonsense", "http://127.0.0.1:port"):
        assert status_of(nobody, 5.0) is None


def test_nobody_sleeps_for_an_hour_because_a_proxy_says_so(
    door: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A study that began then said nothing, and one that ran could not be ended."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    with pytest.raises(InputError, match="503"):
        probe(f"{door}/busy")
    assert max(slept, default=0.0) < 60.0


def test_a_server_that_lets_nobody_in_is_told_from_one_that_is_away(door: str) -> None:
    """The advice was to start the server."""
    with pytest.raises(InputError, match=r"401.*set MLFLOW_TRACKING_USERNAME") as caught:
        probe(door)
    assert "start the server" not in str(caught.value)
    assert "does not let us in" in _trouble(MlflowException("no", error_code=PERMISSION_DENIED))


def test_who_may_only_read_is_not_told_to_log_in(door: str) -> None:
    """He was to set a name and a password, with which he had asked."""
    with pytest.raises(Denied, match=r"403.*ask for the right to edit .*--experiment NAME") as caught:
        connect(f"{door}/readers", "of-others")
    assert "MLFLOW_TRACKING_USERNAME" not in str(caught.value)
    with pytest.raises(Denied, match=r"401.*set MLFLOW_TRACKING_USERNAME"):
        connect(door, "of-others")


def test_a_certificate_that_is_not_trusted_is_named() -> None:
    """It stands at the end of what MLflow says, which was cut before that."""
    said = (
        f"API request to https://h/api failed with exception {'x' * 200} (Caused by SSLError("
        "SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-"
        "signed certificate (_ssl.c:1006)')))"
    )
    told = str(refused("https://h", MlflowException(said)))
    assert "its certificate is not trusted (self-signed certificate)" in told
    assert "MLFLOW_TRACKING_SERVER_CERT_PATH" in told


def test_a_deleted_experiment_is_a_clear_choice(sqlite_uri: str, experiment: str, script: Script) -> None:
    """MLflow keeps the name of a deleted experiment: https://github.com/mlflow/mlflow/issues/2690."""
    client = MlflowClient(sqlite_uri)
    client.delete_experiment(client.create_experiment(experiment))
    with pytest.raises(InputError, match=r"was deleted.*restore.*another experiment"):
        StudyTracker(script.folder, sqlite_uri, experiment).start()
    script.close()
