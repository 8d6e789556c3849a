"""A Dask cluster given by address whose workers join late, or never."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest

from flows import tune
from flows.runners import _messages as m
from flows.runners._messages import Job, Outcome
from flows.runners._port import Message, OnMessage, Work
from hpo_core import InputError
from tests.flows import objectives_for_tests as objectives
from tests.flows.conftest import Place

distributed = pytest.importorskip("distributed")
from flows.runners._dask import DaskRunner  # noqa: E402 - only where there is Dask

_PATIENCE = 60.0


@contextlib.asynccontextmanager
async def no_workers_yet() -> AsyncIterator[Any]:
    """A scheduler that nobody has joined."""
    async with distributed.LocalCluster(
        n_workers=0, threads_per_worker=1, asynchronous=True, dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster


class Told:
    """The lines for the user, and whether there was one."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.any = asyncio.Event()

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        self.any.set()


@contextlib.asynccontextmanager
async def runner_at(
    cluster: Any,
    folder: Path,
    told: Told,
    *,
    objective: Callable[[Any], Any] = objectives.square,
    patience: float = _PATIENCE,
    gpus: int = 0,
) -> AsyncIterator[DaskRunner]:
    runner = DaskRunner(
        Work(objective=m.pack(objective), folder=folder),
        slots=1,
        address=cluster.scheduler_address,
        resources={"GPU": float(gpus)} if gpus else {},
        patience=patience,
        tell=told,
    )
    try:
        yield runner
    finally:
        await runner.close()


async def run(runner: DaskRunner, folder: Path, heard: OnMessage, **params: object) -> Outcome:
    job = Job(
        trial=0, attempt=1, params=params, seed=7, target=None, from_step=0, known_step=0, checkpoint="",
        folder=str(folder),
    )  # fmt: skip
    return await asyncio.wait_for(runner.run(0, job, heard), _PATIENCE)


async def result_of(runner: DaskRunner, folder: Path) -> object:
    async def heard(message: Message) -> None: ...

    return (await run(runner, folder, heard, x=0.5)).values


def test_a_study_waits_for_the_first_worker_of_a_cluster_and_says_so(tmp_path: Path) -> None:
    """It was refused at once, where workers come from a queue and take minutes."""

    async def go() -> object:
        told = Told()
        async with no_workers_yet() as cluster, runner_at(cluster, tmp_path, told) as runner:
            starting = asyncio.create_task(runner.start())
            await asyncio.wait_for(told.any.wait(), _PATIENCE)
            assert "has no workers; waiting 60 s for one to join" in told.lines[0]
            cluster.scale(1)
            await asyncio.wait_for(starting, _PATIENCE)
            assert len(told.lines) == 1
            return await result_of(runner, tmp_path)

    assert asyncio.run(go()) == 0.25


def test_a_cluster_that_scales_with_its_load_gets_some_to_start_with(tmp_path: Path) -> None:
    """Without a task it starts no worker, and both would wait for each other."""

    async def go() -> object:
        async with no_workers_yet() as cluster, runner_at(cluster, tmp_path, Told()) as runner:
            cluster.adapt(minimum=0, maximum=1, interval="50ms")
            await asyncio.wait_for(runner.start(), _PATIENCE)
            return await result_of(runner, tmp_path)

    assert asyncio.run(go()) == 0.25


def test_a_cluster_that_nobody_joins_is_refused_in_the_end(tmp_path: Path) -> None:
    async def go() -> None:
        async with (
            no_workers_yet() as cluster,
            runner_at(cluster, tmp_path, Told(), patience=0.0) as runner,
        ):
            with pytest.raises(InputError, match="has no workers, and none came within 0 s"):
                await runner.start()

    asyncio.run(go())


def test_a_study_that_no_worker_could_begin_is_nowhere(
    tracked: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow was left with an experiment and a deleted run, Prefect with a flow run that had failed."""
    monkeypatch.setenv("HPO_DASK_PATIENCE", "0")
    with distributed.LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as cluster:
        at = cluster.scheduler_address
        with pytest.raises(InputError, match="has no workers, and none came within 0 s"):
            tune(objectives.square, trials=2, name="idle", runner="dask", dask=at)
    assert tracked.studies == []
    assert experiments(tracked) == ["Default"]
    monkeypatch.setattr("flows.runners._dask_connection._CONNECT_SECONDS", 0.2)
    monkeypatch.setattr("flows._tune._under_prefect", None)
    with pytest.raises(InputError, match=f"no Dask scheduler answers at '{at}'"):
        tune(objectives.square, trials=2, name="idle", runner="dask", dask=at)


def experiments(tracked: Place) -> list[str]:
    """The names of those that MLflow has."""
    client = mlflow.MlflowClient(f"sqlite:///{tracked.database}")
    return [experiment.name for experiment in client.search_experiments()]


def test_workers_without_the_resource_are_not_taken_for_ones_that_have_it(tmp_path: Path) -> None:
    async def go() -> None:
        async with (
            no_workers_yet() as cluster,
            runner_at(cluster, tmp_path, Told(), patience=0.0, gpus=2) as runner,
        ):
            cluster.scale(1)
            await cluster
            with pytest.raises(InputError, match=r"no Dask worker offers GPU=2 .*and none came within 0 s"):
                await runner.start()

    asyncio.run(go())


def test_work_lost_with_the_last_worker_is_noticed_at_once(tmp_path: Path) -> None:
    """A scheduler of somebody else's kept it for a worker that might join, and the study said nothing."""

    async def go() -> tuple[Outcome, list[str]]:
        told = Told()

        async def kill(message: Message) -> None:
            for nanny in cluster.workers.values():
                nanny.auto_restart = False
                os.kill(nanny.pid, signal.SIGKILL)

        async with (
            no_workers_yet() as cluster,
            runner_at(cluster, tmp_path, told, objective=objectives.hangs) as runner,
        ):
            cluster.scale(1)
            await cluster
            await runner.start()
            outcome = await run(runner, tmp_path, kill, file=str(tmp_path / "pids"))
            await asyncio.wait_for(told.any.wait(), _PATIENCE)
            return outcome, told.lines

    outcome, lines = asyncio.run(go())
    assert outcome.kind == m.LOST
    assert "the Dask worker" in outcome.reason
    assert ["has no workers any more; the study goes on when one joins" in line for line in lines] == [True]


@pytest.mark.parametrize("ask", ["suspend", "stop", "kill"])
def test_what_no_worker_has_begun_ends_when_it_is_asked_to(tmp_path: Path, ask: str) -> None:
    """Who pressed Ctrl-C once waited for a worker to join, and for all of the trial then."""

    async def go() -> tuple[Outcome, object]:
        told = Told()

        async def heard(message: Message) -> None: ...

        async with no_workers_yet() as cluster, runner_at(cluster, tmp_path, told) as runner:
            cluster.scale(1)
            await cluster
            await runner.start()
            cluster.scale(0)
            await asyncio.wait_for(told.any.wait(), _PATIENCE)
            assert "has no workers any more" in told.lines[0]
            running = asyncio.create_task(run(runner, tmp_path, heard, x=0.5))
            for _ in range(100):  # turns of the loop, in which it comes to be queued
                await asyncio.sleep(0)
            asked = getattr(runner, ask)(0, *(["enough"] if ask == "kill" else []))
            if ask == "kill":
                await asked
            outcome = await running
            cluster.scale(1)
            return outcome, await result_of(runner, tmp_path)

    outcome, next_one = asyncio.run(go())
    assert (outcome.kind, outcome.reason) == (m.LOST, "enough" if ask == "kill" else "it had not begun")
    assert next_one == 0.25
