"""The port behind which segments compute, and what every runner shares.

A runner has slots, numbered from 0, and runs one segment in a slot at a time. It knows nothing of
studies: jobs go in, messages and outcomes come out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from flows.runners._messages import Job, Outcome
from hpo_core import HpoError


class RunnerGone(HpoError):
    """Where the segments run is gone for good; the study is left for a later driver."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialLimits:
    """Hard limits of each attempt, enforced by killing its process tree; ``None`` is no limit.

    ``seconds`` of wall time per attempt; ``memory`` in bytes of resident memory of the process tree.
    """

    seconds: float | None = None
    memory: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What every worker needs before its first job.

    ``objective``: packed by :func:`flows.runners._messages.pack`. ``tracking``: how workers make a trial's
    MLflow run the active one, ``{}`` without tracking. ``environment``: variables set before the
    worker imports anything. ``folder``: the study's.
    """

    objective: str
    folder: Path
    tracking: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    limits: TrialLimits = TrialLimits()


@dataclass(frozen=True, slots=True)
class Report:
    """Metrics of the running segment at a step; ``begun`` as in :meth:`hpo_core.Study.report`."""

    step: int
    metrics: dict[str, float]
    begun: int | None = None


@dataclass(frozen=True, slots=True)
class Saved:
    """The running segment saved a checkpoint."""

    step: int
    uri: str
    size: int


@dataclass(frozen=True, slots=True)
class Curve:
    """Points to be seen in MLflow."""

    name: str
    steps: list[int]
    points: list[float]


@dataclass(frozen=True, slots=True)
class RunIdWanted:
    """The objective uses MLflow and needs the id of the trial's run; ``answer`` delivers it."""

    answer: Callable[[str], None]


Message = Report | Curve | Saved | RunIdWanted
OnMessage = Callable[[Message], Awaitable[None]]


class Runner(Protocol):
    """Runs segments somewhere. All methods are called from one event loop."""

    @property
    def slots(self) -> int:
        """How many segments run at once."""
        ...

    async def start(self) -> None:
        """Bring the workers up. Raises :class:`InputError` when they cannot take the objective."""
        ...

    def label(self, slot: int) -> str:
        """Where the slot is, for people: ``local-0``, a Dask worker's address, a GPU."""
        ...

    async def run(self, slot: int, job: Job, on_message: OnMessage) -> Outcome:
        """Run the segment to its outcome; never raises for what happens to it.

        Raises :class:`RunnerGone` when no segment can be run any more.
        """
        ...

    def stop(self, slot: int) -> None:
        """Ask what runs in the slot to end at its next step."""
        ...

    def suspend(self, slot: int) -> None:
        """Ask what runs in the slot to end once it has a checkpoint."""
        ...

    async def kill(self, slot: int, reason: str) -> None:
        """End what runs in the slot now, processes and all; its outcome is ``lost``, with the reason."""
        ...

    async def close(self) -> None:
        """End the workers and everything they started."""
        ...


def data_of(message: Message) -> dict[str, Any]:
    """The message as a worker's JSON, from which :func:`message_of` makes it again."""
    match message:
        case Report(step, metrics, begun):
            return {"type": "report", "step": step, "metrics": metrics, "begun": begun}
        case Curve(name, steps, points):
            return {"type": "curve", "name": name, "steps": steps, "points": points}
        case Saved(step, uri, size):
            return {"type": "saved", "step": step, "uri": uri, "size": size}
        case RunIdWanted():
            return {"type": "run_id"}


def message_of(data: dict[str, Any], answer: Callable[[str], None]) -> Message | None:
    """The message of a worker's JSON, or ``None`` for kinds that runners keep to themselves."""
    match data["type"]:
        case "report":
            metrics = {name: float(value) for name, value in data["metrics"].items()}
            return Report(int(data["step"]), metrics, data.get("begun"))
        case "curve":
            return Curve(str(data["name"]), list(data["steps"]), list(data["points"]))
        case "saved":
            return Saved(int(data["step"]), str(data["uri"]), int(data["size"]))
        case "run_id":
            return RunIdWanted(answer)
    return None
