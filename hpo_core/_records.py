"""What a study knows of each trial beyond the columns that strategies read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hpo_core._errors import InputError
from hpo_core._states import TrialState


@dataclass(slots=True)
class TrialRecord:
    """One trial, as the fold has it now. Read it; only the fold writes it.

    ``values`` are the objectives in the user's directions by the study's rule; ``metrics`` whatever
    else the objective returned. ``attempt`` is the number of the latest attempt (0: never started),
    ``segments`` how many segments ended properly. ``checkpoints`` maps steps to ``(uri, bytes)``.
    """

    number: int
    params: dict[str, Any]
    state: TrialState = TrialState.WAITING
    origin: str = "sampler"
    note: str = ""
    target: int | None = None
    bracket: int = 0
    parent: int | None = None
    start_step: int = 0
    step: int = 0
    attempt: int = 0
    segments: int = 0
    values: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    worker: str = ""
    asked_at: float = 0.0
    started_at: float = 0.0
    finished_at: float = 0.0
    busy_seconds: float = 0.0
    segment_started_at: float = 0.0
    checkpoints: dict[int, tuple[str, int]] = field(default_factory=dict)
    losses: int = 0

    @property
    def checkpoint_step(self) -> int:
        """The newest step with a checkpoint; the fork's start step, or 0, when it has none of its own."""
        return max(self.checkpoints, default=self.start_step)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The study's budget; ``None`` is no limit.

    ``trials``: configurations in total. ``seconds``: wall time of all drivers together. ``steps``:
    steps of all trials together. ``cost``: worker-seconds of all trials together. ``failures``:
    failed, timed-out and out-of-memory trials after which the study stops.
    """

    trials: int | None = None
    seconds: float | None = None
    steps: int | None = None
    cost: float | None = None
    failures: int | None = None

    def __post_init__(self) -> None:
        for name in ("trials", "seconds", "steps", "cost", "failures"):
            value = getattr(self, name)
            if value is None:
                continue
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or value <= 0:
                raise InputError(f"the limit {name} must be a positive number, got {value!r}")
            if name in ("trials", "steps", "failures"):
                if value != int(value):
                    raise InputError(f"the limit {name} must be a whole number, got {value!r}")
                object.__setattr__(self, name, int(value))

    def to_json(self) -> dict[str, float | None]:
        """The limits that are set."""
        names = ("trials", "seconds", "steps", "cost", "failures")
        return {n: getattr(self, n) for n in names if getattr(self, n) is not None}

    def updated(self, changes: Mapping[str, float | None]) -> Limits:
        """These limits with some replaced."""
        return replace(self, **dict(changes))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Rules of a study that hold for its whole life.

    ``rule``: which of a trial's results counts: the ``last``, the ``best``, or ``average-k`` over the
    last k reports; used by ranking, checkpoint choice and registry alike. ``on_duplicate``: what
    happens to a proposal that was tried before: ``resample`` another, ``reuse`` the known result,
    ``repeat`` the run. ``max_steps``: the step at which a trial is complete, for schedulers that need
    to know. ``max_attempts``: how often a trial is repeated when its workers vanish.
    """

    rule: str = "last"
    on_duplicate: str = "resample"
    workers: int = 1
    max_steps: int | None = None
    max_attempts: int = 5

    def __post_init__(self) -> None:
        average = self.rule.startswith("average-") and self.rule[8:].isdigit() and int(self.rule[8:]) > 0
        if self.rule not in ("last", "best") and not average:
            raise InputError(f"rule must be 'last', 'best' or 'average-K', got {self.rule!r}")
        if self.on_duplicate not in ("resample", "reuse", "repeat"):
            raise InputError(
                f"on_duplicate must be 'resample', 'reuse' or 'repeat', got {self.on_duplicate!r}"
            )
        for name in ("workers", "max_steps", "max_attempts"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise InputError(f"{name} must be a whole number of at least 1, got {value!r}")
