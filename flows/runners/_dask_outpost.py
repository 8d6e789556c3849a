"""What a study has on the workers of a Dask cluster: its objective, and processes that are warm."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import cloudpickle
from distributed import Client

from flows.runners import _messages as m
from flows.runners._dask_worker import leave, try_objective, warm_up
from flows.runners._port import Work
from hpo_core import ObjectiveError


class Outpost:
    """``work``: as the workers can load it; it goes along with every segment.

    ``topic``: under which they know the study, and report.
    """

    def __init__(self, work: Work, topic: str) -> None:
        self.work = work
        self.topic = topic

    async def ship(self, client: Client) -> None:
        """Prove that the workers can load the objective, its module going along if they do not have it.

        Raises :class:`ObjectiveError` when they cannot.
        """
        problem = await self._problem(client)
        if "No module named" in problem and (module := self._module()) is not None:
            cloudpickle.register_pickle_by_value(module)
            self.work = replace(self.work, objective=m.pack(m.unpack(self.work.objective)))
            problem = await self._problem(client)
        if problem:
            raise ObjectiveError(
                f"the Dask workers cannot load the objective ({problem}); install its package on the "
                "workers, or put it into one file and name it as PATH.py:function"
            )

    async def warm_up(self, client: Client) -> None:
        """Start a process for each thread of the workers."""
        await client.run(warm_up, self.topic, self.work, on_error="return")

    async def leave(self, client: Client) -> None:
        """End this study's processes on the workers."""
        await client.run(leave, self.topic)

    async def _problem(self, client: Client) -> str:
        answers = await client.run(try_objective, self.work.objective, on_error="return")
        for answer in answers.values():
            if isinstance(answer, BaseException):
                return f"{type(answer).__name__}: {answer}; is mlflow-hpo installed on the workers?"
            if answer:
                return str(answer)
        return ""

    def _module(self) -> Any:
        objective = m.unpack(self.work.objective)
        return sys.modules.get(getattr(objective, "__module__", type(objective).__module__))
