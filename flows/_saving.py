"""When a trial writes a checkpoint: seldom while it runs, and always when it is interrupted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["Checkpoint", "Saving"]

# Seconds of work that a lost worker may cost.
_SAVE_SECONDS = 20.0


class Checkpoint(Protocol):
    """What a resumed trial starts from."""

    @property
    def step(self) -> int:
        """The step at which it was saved."""

    def load(self) -> Any:
        """What was saved."""


class _Trial(Protocol):
    @property
    def checkpoint(self) -> Checkpoint | None:
        """Where to go on from."""

    def save(self, step: int, content: Any) -> None:
        """Save a checkpoint."""


class Saving:
    """When a trial saves: at most every 20 seconds, and when its steps end before the last one.

    A short trial that runs to its end never touches the disk; a lost worker costs little; what is paused can
    go on. ``content`` is asked for only when it is saved.
    """

    def __init__(self, trial: _Trial, content: Callable[[], Any]) -> None:
        self._trial, self._content = trial, content
        self._step = trial.checkpoint.step if trial.checkpoint is not None else 0
        self._at = time.monotonic()

    def passed(self, step: int, of: int | None = None) -> None:
        """A step is done; call before reporting it.

        ``of``: the last one, after which nothing is saved: for an objective whose result comes out of its
        steps, and which would have none where no step is left to do.
        """
        if step != of and time.monotonic() - self._at > _SAVE_SECONDS:
            self._save(step)

    def ended(self, step: int, of: int) -> None:
        """The steps have ended after ``step`` of ``of``."""
        if self._step < step < of:
            self._save(step)

    def _save(self, step: int) -> None:
        self._trial.save(step, self._content())
        self._step, self._at = step, time.monotonic()
