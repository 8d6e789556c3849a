"""The part of a trial that the callbacks use, and a report that saves when the trial is to be paused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from flows._saving import Checkpoint
from hpo_core import TrialPaused


class Trial(Protocol):
    """The part of a trial that the callbacks use."""

    @property
    def checkpoint(self) -> Checkpoint | None:
        """Where to go on from."""

    def steps(self, n: int) -> Iterator[int]:
        """Steps 1 .. n, from after the checkpoint; ends early on a stop or a pause."""

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Tell the study how it goes; ends the trial by an exception outside of :meth:`steps`."""

    def save(self, step: int, thing: Any) -> None:
        """Save a checkpoint."""


def report_and_save(
    trial: Trial, step: int, metrics: Mapping[str, float], content: Callable[[], Any]
) -> None:
    """Report; when this pauses the trial, save what it is to go on from first."""
    try:
        trial.report(step, metrics)
    except TrialPaused:
        trial.save(step, content())
        raise
