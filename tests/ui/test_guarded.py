"""The pages on a real ``mlflow server --app-name hpo-basic-auth``: users, permissions, nothing made up."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.databases import copy_database
from tests.tracking.conftest import Server, search_path
from tests.tracking.studies import Script
from tests.ui.conftest import ROOT, entry_points
from tracking import StudyTracker

PASSWORD = "correct horse battery staple"
CONFIG = """\
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = sqlite:///{folder}/users.db
admin_username = admin
admin_password = {password}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 600
"""
# What the administrator grants, by user and study.
GRANTS = {"reader": {"open": "READ"}, "editor": {"open": "EDIT"}, "stranger": {}}


class Guarded:
    """A guarded server over two studies, ``open`` and ``secret``, each in its own experiment."""

    def __init__(self, folder: Path) -> None:
        entry_points(folder / "site")
        config = folder / "auth.ini"
        config.write_text(CONFIG.format(folder=folder, password=PASSWORD), encoding="utf-8")
        environment = {
            "PYTHONPATH": search_path(folder / "site", ROOT),
            "HPO_HOME": str(folder / "home"),
            "MLFLOW_AUTH_CONFIG_PATH": str(config),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "secret of this test",
        }
        self.server = Server(folder, ["--app-name", "hpo-basic-auth"], environment)
        self.folder = folder
        self.runs: dict[str, str] = {}
        self.experiments: dict[str, str] = {}

    def fill(self) -> None:
        """Make the studies behind the server's back, then the users through its front door."""
        home = self.folder / "home" / "studies"
        scripts = {name: Script(home / name, name=name) for name in ("open", "secret")}
        for script in scripts.values():
            script.run(0.5)
        scripts["open"].confirmed(scripts["secret"], "it holds")
        for name, script in scripts.items():
            tracker = StudyTracker(script.folder, f"sqlite:///{self.server.database}", name)
            run = tracker.start()
            assert run is not None
            assert tracker.close(60.0)
            self.runs[name], self.experiments[name] = run, tracker.connection.experiment_id
            script.close()
        self.server.start()
        for user, granted in GRANTS.items():
            made = {"username": user, "password": PASSWORD}
            assert self.ask("/api/2.0/mlflow/users/create", "admin", made)[0] == 200
            for name, permission in granted.items():
                grant = {
                    "username": user, "resource_type": "experiment",
                    "resource_id": self.experiments[name], "permission": permission,
                }  # fmt: skip
                status, _ = self.ask("/api/3.0/mlflow/users/permissions/grant", "admin", grant)
                assert status in (200, 204)

    def ask(self, path: str, user: str | None, body: Any = None, password: str = PASSWORD) -> tuple[int, str]:
        """Status and text."""
        request = urllib.request.Request(f"{self.server.uri}{path}")
        if user is not None:
            packed = base64.b64encode(f"{user}:{password}".encode()).decode()
            request.add_header("Authorization", f"Basic {packed}")
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def seen(self, user: str) -> set[str]:
        """The studies in the user's list."""
        return {study["name"] for study in json.loads(self.ask("/hpo/api/studies", user)[1])}

    def act(self, user: str, study: str, action: str) -> tuple[int, str]:
        """What the study's page answers to an action."""
        return self.ask(f"/hpo/api/studies/{self.runs[study]}/actions/{action}", user, {})


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[Guarded]:
    """Started once."""
    made = Guarded(tmp_path_factory.mktemp("guarded"))
    copy_database(empty_database, made.server.database)
    try:
        made.fill()
        yield made
    finally:
        made.server.kill()


@pytest.mark.parametrize("path", ["/hpo", "/hpo/api/studies"])
@pytest.mark.parametrize("user, password", [(None, ""), ("reader", "guessed"), ("nobody", PASSWORD)])
def test_who_is_not_known_is_asked(guarded: Guarded, path: str, user: str | None, password: str) -> None:
    """401, on the page itself too, so that the browser asks for name and password."""
    assert guarded.ask(path, user, password=password)[0] == 401


def test_everybody_sees_their_own_studies(guarded: Guarded) -> None:
    """In the list and by address; the server's own interface agrees."""
    assert guarded.seen("admin") == {"open", "secret"}
    assert guarded.seen("reader") == guarded.seen("editor") == {"open"}
    assert guarded.seen("stranger") == set()
    missing = guarded.ask(f"/hpo/api/studies/{'0' * 32}", "reader")
    for user, granted in GRANTS.items():
        assert guarded.ask("/hpo", user)[0] == 200
        for study, run in guarded.runs.items():
            for page in ("", "/trials", "/trials/0", "/blocks?of=0", "/compare?trials=0"):
                status, text = guarded.ask(f"/hpo/api/studies/{run}{page}", user)
                assert (status == 200) == (study in granted), (user, study, page)
                if study not in granted:
                    assert (status, text) == missing
            own = guarded.ask(f"/api/2.0/mlflow/runs/get?run_id={run}", user)[0]
            assert (own == 200) == (study in granted)


def test_a_verdict_leads_only_to_what_its_reader_may_see(guarded: Guarded) -> None:
    """The sentence is the study's own; the page of the study that confirmed it may be another's."""
    for user, leads_to in (("admin", guarded.runs["secret"]), ("reader", None)):
        study = json.loads(guarded.ask(f"/hpo/api/studies/{guarded.runs['open']}", user)[1])
        assert (study["confirmation"]["after"], study["confirmation"]["run_id"]) == (": it holds.", leads_to)


def test_only_editors_act(guarded: Guarded) -> None:
    """A reader is refused and nothing happens; an editor cancels; nobody acts on what they cannot see."""
    journal = guarded.folder / "home" / "studies" / "open" / "journal.jsonl"
    before = journal.read_bytes()
    assert guarded.act("reader", "open", "cancel") == (
        403,
        '{"message":"you may not change this experiment"}',
    )
    for user in ("stranger", "reader", "editor"):
        assert guarded.act(user, "secret", "cancel")[0] == 404
    assert guarded.act("stranger", "open", "cancel")[0] == 404
    assert journal.read_bytes() == before
    status, text = guarded.act("editor", "open", "cancel")
    assert status == 200, text
    assert b"study_stopped" in journal.read_bytes()
