"""Libraries of a version that this project was not made for are told of, before anything is made."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata

import pytest

from hpo_core import InputError
from tracking import check_version, connect, probe

DECLARED = ["mlflow<4,>=3.17", "prefect<3.9,>=3.8.8", 'optuna<6,>=4; extra == "optuna"']


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The versions that are installed, as the test sets them."""
    versions = {"mlflow-hpo": "0.1.0", "mlflow": "3.17.2", "prefect": "3.8.8", "optuna": "1.0"}
    monkeypatch.setattr(metadata, "requires", lambda name: DECLARED)
    monkeypatch.setattr(metadata, "version", versions.__getitem__)
    check_version.cache_clear()
    yield versions
    check_version.cache_clear()


@pytest.mark.parametrize(
    "version, fits", [("3.16.1", False), ("3.17.0", True), ("3.99", True), ("4.0.0", False)]
)
def test_a_version_outside_the_declared_range_is_named(
    installed: dict[str, str], version: str, fits: bool
) -> None:
    installed["mlflow"] = version
    if fits:
        check_version("mlflow")
    else:
        said = f"needs mlflow<4,>=3.17, and {version} is installed; pip install 'mlflow<4,>=3.17'"
        with pytest.raises(InputError, match=said):
            check_version("mlflow")


def test_what_only_an_extra_needs_is_no_matter(installed: dict[str, str]) -> None:
    check_version("optuna")


def test_nothing_is_connected_to_with_another_mlflow(installed: dict[str, str], sqlite_uri: str) -> None:
    installed["mlflow"] = "2.9.2"
    for way in (probe, lambda uri: connect(uri, "e")):
        with pytest.raises(InputError, match=r"2\.9\.2 is installed"):
            way(sqlite_uri)


def test_prefect_is_asked_for_its_version_before_anything_runs(installed: dict[str, str]) -> None:
    from flows._prefect import prefect_api

    installed["prefect"] = "3.9.1"
    with pytest.raises(InputError, match=r"needs prefect<3\.9,>=3\.8\.8, and 3\.9\.1"), prefect_api():
        pytest.fail("the block was entered")


def test_from_its_sources_it_runs_with_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def requires(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", requires)
    check_version.cache_clear()
    check_version("mlflow")
    check_version.cache_clear()
