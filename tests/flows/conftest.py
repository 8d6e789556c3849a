"""What the tests of studies share: a folder of their own, one Prefect server, one MLflow database."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows._workspace import read_study
from flows.cli import main
from hpo_core import Study
from tests.databases import copy_database


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What MLflow and Prefect do to the libraries below them is not ours to mend."""
    here = Path(__file__).parent
    with_prefect = {item.path for item in items if "prefect_server" in getattr(item, "fixturenames", ())}
    for item in items:
        if item.path.is_relative_to(here):
            for module in ("mlflow", "prefect", "pydantic", "websockets"):
                for category in ("DeprecationWarning", "PendingDeprecationWarning", "FutureWarning"):
                    item.add_marker(pytest.mark.filterwarnings(f"ignore::{category}:{module}"))
            if item.path in with_prefect:
                # Prefect leaves sockets to the garbage collector, which may come in a later test of the file.
                item.add_marker(pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"))
                item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))


@dataclass(frozen=True)
class Place:
    """A working folder, with what is in it after a command."""

    folder: Path

    @property
    def database(self) -> Path:
        """The MLflow database of the folder; made by the first study that is tracked."""
        return self.folder / "mlflow.db"

    @property
    def studies(self) -> list[str]:
        """Names of the studies that have a folder, whatever is in it."""
        home = self.folder / ".hpo" / "studies"
        return sorted(p.name for p in home.iterdir()) if home.is_dir() else []

    def study(self, name: str) -> Study:
        """The study as its journal has it."""
        return read_study(self.folder / ".hpo" / "studies" / name)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """An empty working folder with its own studies, its own tracking and its own modules."""
    if "mlflow" in sys.modules:
        # What a test before chose for this process would win over the variable below.
        sys.modules["mlflow"].set_tracking_uri(None)
    monkeypatch.chdir(tmp_path)
    # Commands put the folders of objectives there; later tests must not find this one's.
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("HPO_HOME", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    yield Place(tmp_path)
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(f"{tmp_path}{os.sep}"):
            del sys.modules[name]


@pytest.fixture(scope="session")
def prefect_server(prefect_url: str) -> None:
    """For the tests that need no more of it than that it is up."""
    # It writes for good to the stderr that it is imported with, which must not be that of one test.
    importlib.import_module("prefect.main")


@pytest.fixture
def tracked(place: Place, prefect_server: None, empty_database: Path) -> Place:
    """A working folder whose studies run under Prefect and are tracked, both warm."""
    copy_database(empty_database, place.database)
    return place


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str


Hpo = Callable[..., Said]


@pytest.fixture
def hpo(place: Place, capsys: pytest.CaptureFixture[str]) -> Hpo:
    """The command line in this process: ``hpo("list", "--json")``."""

    def run(*arguments: object) -> Said:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Said(code, *capsys.readouterr())

    return run
