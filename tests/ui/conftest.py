"""The study pages as users get them: a real ``mlflow server --app-name hpo``, and a browser."""

from __future__ import annotations

import json
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.databases import copy_database
from tests.tracking.conftest import Server, search_path
from tests.tracking.studies import Script
from tests.ui.browser import Tab, browser, chromium
from tracking import StudyTracker

ROOT = Path(__file__).resolve().parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What MLflow does to the libraries below it is not ours to mend."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            for category in ("DeprecationWarning", "PendingDeprecationWarning", "FutureWarning"):
                item.add_marker(pytest.mark.filterwarnings(f"ignore::{category}:mlflow"))


def entry_points(folder: Path) -> None:
    """What an installation of this checkout would tell MLflow, whatever is installed here."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    lines = [
        f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in one.items()) for group, one in groups.items()
    ]
    made = folder / "mlflow_hpo-0.1.0.dist-info"
    made.mkdir(parents=True)
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: mlflow-hpo\nVersion: 0.1.0\n")
    (made / "entry_points.txt").write_text("\n".join(lines))


class Site:
    """A server with the pages, and the studies that it shows."""

    def __init__(self, folder: Path) -> None:
        entry_points(folder / "site")
        self._home = folder / "home" / "studies"
        environment = {
            "PYTHONPATH": search_path(folder / "site", ROOT),
            "HPO_HOME": str(folder / "home"),
        }
        self.server = Server(folder, ["--app-name", "hpo"], environment)
        self._runs: dict[str, str] = {}

    def study(self, name: str, **terms: Any) -> Script:
        """A study whose folder is where the server looks for it."""
        return Script(self._home / name, name=name, **terms)

    def show(self, script: Script) -> str:
        """Bring MLflow up to date with the study; returns the id of its run."""
        tracker = StudyTracker(script.folder, f"sqlite:///{self.server.database}", script.study.name)
        parent = tracker.start()
        assert tracker.close(60.0)
        assert parent is not None
        return parent

    def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any, Any]:
        """Status, JSON, headers."""
        data = None if body is None else json.dumps(body).encode()
        asked = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(f"{self.server.uri}/hpo/{path}", data, asked)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text else None, answer.headers
        except urllib.error.HTTPError as error:
            with error:
                ours = error.headers.get_content_type() == "application/json"
                return error.code, json.load(error) if ours else None, error.headers


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[Site]:
    """Started once."""
    made = Site(tmp_path_factory.mktemp("ui"))
    copy_database(empty_database, made.server.database)
    made.server.start()
    yield made
    made.server.kill()


@pytest.fixture(scope="session")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """One browser for all tests."""
    if chromium() is None:
        pytest.skip("no chromium on this machine; apt-get install chromium")
    with browser(tmp_path_factory.mktemp("profile")) as made:
        yield made
