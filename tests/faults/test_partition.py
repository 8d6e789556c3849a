"""The network between a driver and its Dask cluster is cut for a while, and healed."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.checks import check_whole
from tests.faults.cluster import Cluster
from tests.faults.conftest import MakeDriver
from tests.faults.harness import Driver, checkpoint, wait_until
from tests.faults.network import Network

pytest.importorskip("distributed")
pytestmark = pytest.mark.faults

# Dask gives up a connection that answers nothing after half a minute; tests need not wait so long. The
# trials take a second and more, so that their results are kept.
_SURROUNDINGS = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "12s", "HPO_TEST_STEP": "0.25"}


@pytest.fixture
def network() -> Iterator[Network]:
    """Healed so far."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("NO NETWORK WAS CUT: it takes root and the program ip to have one of its own")
    try:
        made = Network()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"NO NETWORK WAS CUT: this machine allows no network namespaces ({error})")
    yield made
    made.remove()


@pytest.fixture
def driver(
    make_driver: MakeDriver, network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Driver]:
    """A study whose trials run on the other machine; its folder is on a disk that both share.

    The network was cut while trial 3 was in its third step, and all trials go on.
    """
    for name, value in _SURROUNDINGS.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "trace").mkdir()
    cluster = Cluster(tmp_path, tmp_path / "trace", host=network.there, inside=network.inside)
    with contextlib.closing(cluster):
        cluster.restart()
        made = make_driver(runner="dask", dask=cluster.address)
        made.environment |= _SURROUNDINGS
        made.hold(3, 2)
        made.start()
        wait_until(lambda: checkpoint(made, 3) == 2, "a checkpoint of trial 3")
        network.cut()
        made.release()
        yield made


def test_a_short_cut_costs_nothing(driver: Driver, network: Network) -> None:
    wait_until(lambda: steps(driver, 3) == 6, "the trial to go on meanwhile")
    network.heal()
    driver.finish()
    study = check_whole(driver)
    assert {trial.attempt for trial in study.trials} == {1}


def test_after_a_long_cut_what_had_finished_meanwhile_is_taken_over(driver: Driver, network: Network) -> None:
    """Each side takes the other for dead; the workers had finished their trials before."""
    process = driver.process
    assert process is not None
    wait_until((driver.study_folder / "outcomes" / "3-1.json").exists, "the trial's result")
    wait_until(lambda: "was lost; waiting for it" in process.err, "the driver to notice")
    network.heal()
    driver.finish()
    study = check_whole(driver)
    assert sum(trial.losses for trial in study.trials) == 0
    assert (driver.trace / "steps-3").read_text() == "".join(f"1 {step}\n" for step in range(1, 7))
    assert {"trial": 3, "attempt": 1} in [n.data for n in study.state.notes if n.topic == "adopted"]


def steps(driver: Driver, number: int) -> int:
    """How many steps the trial has trained."""
    return len((driver.trace / f"steps-{number}").read_text().splitlines())
