"""The connection to a Dask scheduler: when it may be used."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows._dask import DaskRunner, _Segment
from flows._runner import Work


class CutInBetween:
    """A line that is whole when it is first looked at, and no longer."""

    client = "the old one"

    def __init__(self) -> None:
        self._looks = 0

    @property
    def cut(self) -> bool:
        self._looks += 1
        return self._looks > 1


def test_a_client_that_connects_anew_gets_no_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next scheduler ran it, the trial was complete, and none of its reports had been heard."""

    async def go() -> Any:
        runner = DaskRunner(Work(objective="", folder=tmp_path), slots=1)

        async def mend() -> None:
            runner._line = SimpleNamespace(client="the new one", cut=False)  # type: ignore[assignment]

        runner._line = CutInBetween()  # type: ignore[assignment]
        monkeypatch.setattr(runner, "_mend", mend)
        return await runner._connected_unless_over(_Segment())

    assert asyncio.run(go()) == "the new one"
