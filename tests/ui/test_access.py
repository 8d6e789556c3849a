"""Who sees and changes what on a server that is guarded: MLflow's answer decides, asked as the caller."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flows.ui._access import Access
from flows.ui._routes import Pages
from tests.tracking.studies import Script
from tracking import Board, StudyTracker

# What each user may do with an experiment, by the study's name.
RIGHTS = {"ann": {"open": "edit", "secret": "edit"}, "bob": {"open": "read"}}


class Guarded:
    """MLflow's REST interface as far as the pages ask it, guarded like basic auth, and the pages."""

    def __init__(self, database: str, experiments: dict[str, str]) -> None:
        self.time = 0.0
        self.rights = {user: dict(rights) for user, rights in RIGHTS.items()}
        self._names = {experiment: name for name, experiment in experiments.items()}
        self.tags: list[dict[str, str]] = []
        self.app = Starlette(
            routes=[
                Route("/api/2.0/mlflow/experiments/search", self._search, methods=["POST"]),
                Route("/api/2.0/mlflow/experiments/get", self._get),
                Route("/api/2.0/mlflow/runs/set-tag", self._set_tag, methods=["POST"]),
            ]
        )
        self._engine = create_engine(database)
        access = Access(self.app, "", protected=True, clock=lambda: self.time)
        pages = Pages(access, "", lambda: Board(self._engine))
        self.app.router.routes[:0] = pages.routes()

    def _rights(self, request: Request) -> dict[str, str] | None:
        _, _, packed = request.headers.get("authorization", "").partition(" ")
        return self.rights.get(base64.b64decode(packed).decode().partition(":")[0])

    async def _search(self, request: Request) -> Response:
        if self._rights(request) is None:
            return Response("who are you?", 401, {"WWW-Authenticate": 'Basic realm="mlflow"'})
        return JSONResponse({})

    async def _get(self, request: Request) -> Response:
        name = self._names[request.query_params["experiment_id"]]
        return JSONResponse({}, 200 if name in (self._rights(request) or {}) else 403)

    async def _set_tag(self, request: Request) -> Response:
        rights = self._rights(request) or {}
        self.tags.append(await request.json())
        return JSONResponse({}, 200 if "edit" in rights.values() else 403)

    def ask(self, path: str, user: str | None = None, body: Any = None) -> httpx.Response:
        """A request to the pages."""

        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            auth = None if user is None else (user, "password")
            async with httpx.AsyncClient(transport=transport, base_url="http://here", auth=auth) as client:
                if body is None:
                    return await client.get(f"/hpo{path}")
                return await client.post(f"/hpo{path}", json=body)

        return asyncio.run(asked())


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two finished studies, each in its own experiment, and their database."""
    home = tmp_path_factory.mktemp("guarded")
    database = f"sqlite:///{home / 'mlflow.db'}"
    found: dict[str, Any] = {"home": home, "database": database, "experiments": {}}
    for name in ("open", "secret"):
        script = Script(home / "studies" / name, name=name)
        script.run(0.5)
        script.finish(script.begin(), state="failed", reason="it broke")
        script.stop()
        tracker = StudyTracker(script.folder, database, name)
        found[name] = tracker.start()
        assert tracker.close(60.0)
        found["experiments"][name] = tracker.connection.experiment_id
        script.close()
    return found


@pytest.fixture
def guarded(runs: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Guarded:
    """The pages over these studies."""
    monkeypatch.setenv("HPO_HOME", str(runs["home"]))
    return Guarded(runs["database"], runs["experiments"])


@pytest.mark.parametrize("path", ["", "/api/studies"])
@pytest.mark.parametrize("user", [None, "eve"])
def test_strangers_are_asked_who_they_are(guarded: Guarded, path: str, user: str | None) -> None:
    """The page itself makes the browser ask for name and password; nothing comes without."""
    answer = guarded.ask(path, user)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Basic realm="mlflow"'


def test_everybody_sees_what_mlflow_lets_them_see(guarded: Guarded, runs: dict[str, Any]) -> None:
    """In the list, and by address; a study that may not be seen is as one that does not exist."""
    assert [s["name"] for s in guarded.ask("/api/studies", "bob").json()] == ["open"]
    assert {s["name"] for s in guarded.ask("/api/studies", "ann").json()} == {"open", "secret"}
    for page in ("", "/trials", "/trials/0", "/blocks?of=0", "/compare?trials=0"):
        refused = guarded.ask(f"/api/studies/{runs['secret']}{page}", "bob")
        missing = guarded.ask(f"/api/studies/{'0' * 32}{page}", "bob")
        assert (refused.status_code, refused.text) == (404, missing.text)
        assert guarded.ask(f"/api/studies/{runs['secret']}{page}", "ann").status_code == 200


def test_a_right_that_was_given_or_taken_counts_within_seconds(guarded: Guarded) -> None:
    """MLflow's answer is remembered for as long as a page takes to ask for all that it shows."""

    def seen() -> set[str]:
        return {study["name"] for study in guarded.ask("/api/studies", "bob").json()}

    assert seen() == {"open"}
    guarded.rights["bob"] = {"secret": "read"}
    guarded.time = 4.0
    assert seen() == {"open"}
    guarded.time = 6.0
    assert seen() == {"secret"}


def test_a_request_has_its_limits(guarded: Guarded, runs: dict[str, Any]) -> None:
    """A few words, a few trials; nobody fills the server's memory, or its time, with one."""
    many = f"/api/studies/{runs['open']}/compare?trials={'0,' * 8}99"
    assert guarded.ask(many, "ann").status_code == 200
    assert guarded.ask(many.replace("0,0,", "", 1), "ann").status_code == 404
    extend = f"/api/studies/{runs['open']}/actions/extend"
    assert guarded.ask(extend, "ann", {"trials": "9" * 20_000}).json() == {
        "message": "the request is too long"
    }
    assert "whole number" in guarded.ask(extend, "ann", {"trials": "9" * 5_000}).json()["message"]


def test_only_who_may_edit_may_act(guarded: Guarded, runs: dict[str, Any]) -> None:
    """A reader is refused before anything is run; what may not be seen cannot be acted on either."""
    retry = f"/api/studies/{runs['open']}/actions/retry"
    assert guarded.ask(retry, "bob", {}).json() == {"message": "you may not change this experiment"}
    assert guarded.tags == [{"run_id": runs["open"], "key": "hpo.requested", "value": "retry"}]
    assert not Path(runs["home"], "studies", "open", "ui.log").exists()
    assert guarded.ask(f"/api/studies/{runs['secret']}/actions/retry", "bob", {}).status_code == 404
    said = guarded.ask(retry, "ann", {}).json()["message"]
    assert "does not say how it was started" in said
