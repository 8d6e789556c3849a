"""The unit that an orchestrator sees: a stretch, one task run around a segment or a few short ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Stretch:
    """What one orchestrated task runs: a segment, and further short ones while there is time."""

    title: str
    body: Callable[[], Awaitable[tuple[str, str]]]
    after: tuple[Any, ...]


# Runs the stretch's body as one task run and returns a handle that later stretches can follow.
Orchestrate = Callable[[Stretch], Awaitable[Any]]


async def bare(stretch: Stretch) -> None:
    """Run the body with no orchestrator around it."""
    await stretch.body()
