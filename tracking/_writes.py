"""What is to be written about one run: records between the views, which know the study, and the
writers, which know MLflow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from tracking._text import MAX_TAG, preview


class Point(NamedTuple):
    """One value of a metric; ``timestamp`` in milliseconds. Written twice it is one point."""

    key: str
    value: float
    timestamp: int
    step: int


@dataclass(slots=True, kw_only=True)
class RunWrite:
    """Everything new about one run.

    ``number``: the trial, or -1 for the study. ``run_id``: ``None`` when the run is to be created,
    with ``name``, ``start_time`` (ms) and ``tags``. ``status``: ``None`` to leave it as it is;
    ``end_time`` (ms) goes with the status of a run that ends.
    """

    number: int
    uid: str
    run_id: str | None
    name: str
    start_time: int
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    status: str | None = None
    end_time: int | None = None


# The tag of a run that says what of it MLflow has refused.
REFUSED = "hpo.refused"


class Refused(NamedTuple):
    """Something that MLflow will never take, however often it is sent. ``number``: as of the write."""

    number: int
    what: str
    why: str


def all_refused(write: RunWrite, run_id: str) -> Refused:
    """What becomes of a write to a run that somebody has deleted."""
    return Refused(write.number, "run", f"run {run_id} was deleted in MLflow")


def refused_text(items: Sequence[Refused]) -> str:
    """The value of the tag :data:`REFUSED`."""
    return preview("; ".join(f"{item.what}: {item.why}" for item in items), MAX_TAG)


class Progress(Protocol):
    """How a writer tells what it has achieved, as soon as it has: from any thread, one call at a time."""

    def creating(self, write: RunWrite) -> None:
        """The run is about to be created; whether it was is not known until ``created``."""

    def created(self, write: RunWrite, run_id: str) -> None:
        """The run exists now; the rest of ``write`` does not yet."""

    def done(self, write: RunWrite, run_id: str) -> None:
        """All of ``write`` is there."""

    def refused(self, refused: Refused) -> None:
        """Part of a write was given up."""


class Writer(Protocol):
    """Writes runs; idempotent except for their creation. ``batch``: how many to hand over at once."""

    batch: int

    def write(self, writes: Sequence[RunWrite], progress: Progress) -> None:
        """Write all, in any order; no run comes twice.

        Raises whatever MLflow raises when it does not answer; what was achieved by then has been told to
        ``progress``.
        """

    def close(self) -> None:
        """Let go of what is open; calling it twice is harmless."""
