"""The connection to a Dask scheduler: when it may be used."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import pytest

from flows._embedded import free_port
from flows.runners._dask import DaskRunner, Segment
from flows.runners._dask_connection import Line
from flows.runners._port import Work
from hpo_core import InputError


class Given:
    """A line that is whole at the first ``looks``, and no longer."""

    def __init__(self, looks: int) -> None:
        self._looks = looks

    @property
    def cut(self) -> bool:
        self._looks -= 1
        return self._looks < 0


def test_a_line_that_is_cut_while_it_is_handed_over_gets_no_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next scheduler ran it, the trial was complete, and none of its reports had been heard."""
    old, new = Given(1), Given(100)

    async def go() -> object:
        runner = DaskRunner(Work(objective="", folder=tmp_path), slots=1)
        connection = runner._connection

        async def mend() -> None:
            connection._line = cast("Line", new)

        connection._line = cast("Line", old)
        monkeypatch.setattr(connection, "_mend", mend)
        return await runner._line_unless_over(Segment("key"))

    assert asyncio.run(go()) is new


def test_a_scheduler_that_nobody_has_started_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Dask gives to wait for after a vain try is no coroutine, and that was what the user was told."""
    monkeypatch.setattr("flows.runners._dask_connection._CONNECT_SECONDS", 0.2)
    address = f"tcp://127.0.0.1:{free_port()}"

    async def go() -> None:
        runner = DaskRunner(Work(objective="", folder=tmp_path), slots=1, address=address)
        try:
            await runner.start()
        finally:
            await runner.close()

    with pytest.raises(InputError, match=f"no Dask scheduler answers at '{address}'"):
        asyncio.run(go())
