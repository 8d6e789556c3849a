"""What a study's owner decides of how it is shown in MLflow."""

from __future__ import annotations

from dataclasses import dataclass

from hpo_core import InputError

# Which checkpoints MLflow gets.
UPLOADED = ("none", "best", "kept")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerOptions:
    """How often things are written, in seconds, and which checkpoints are uploaded.

    ``flush``: how long a trial's news may wait for more news; ``summary``: between two updates of the
    study's run; ``journal``: at most, between two uploads of the journal. ``checkpoints``: ``"best"`` for
    those of the best trials when the driver leaves, ``"kept"`` for all that are kept here, with each journal
    (with which a study can move to another machine), or ``"none"``.
    """

    flush: float = 0.5
    summary: float = 5.0
    journal: float = 300.0
    checkpoints: str = "best"

    def __post_init__(self) -> None:
        if self.checkpoints not in UPLOADED:
            raise InputError(f"checkpoints must be one of {', '.join(UPLOADED)}, got {self.checkpoints!r}")
