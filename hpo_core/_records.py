"""What a study knows of each trial beyond the columns that strategies read."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from typing import Any, SupportsFloat

from hpo_core._errors import InputError, nearest
from hpo_core._outcome_constraints import checked_outcome_constraints
from hpo_core._states import TrialState

# What the limit on improvement can be besides a number.
IMPROVEMENTS = ("noise", "never")


def _is_amount(value: object) -> bool:
    """Whether it is a positive number that a float can hold."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return 0.0 < float(value) < math.inf
    except OverflowError:
        return False


def check_countable(what: str, number: int, kind: type[InputError] = InputError) -> None:
    """Raise an error of that ``kind`` for more than the columns of a history, and MLflow, can count."""
    if (bits := number.bit_length()) > 63:
        raise kind(f"{what} must be below 2**63, got a number of {bits} bits")


@dataclass(slots=True, repr=False)
class TrialRecord:
    """One trial, as the fold has it now. Read it; only the fold writes it.

    ``values`` are the objectives in the user's directions by the study's rule; ``metrics`` whatever
    else the objective returned. ``attempt`` is the number of the latest attempt (0: never started),
    ``segments`` how many segments ended properly. ``ended_after``: seconds that the study had been driven
    when the trial ended, time without a driver left out; ``steps_until_end``: steps that all trials together
    had taken by then. ``reported_at``: when the present segment last reported, 0 before. ``checkpoints`` maps
    steps to ``(uri, bytes)``; ``from_step`` is that of the one that the latest segment began from,
    0 for none. ``trained_to``: the step that it has got to in that segment, as far as it has said; behind
    ``step`` while it repeats what an attempt before it had reported.
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
    ended_after: float = 0.0
    steps_until_end: int = 0
    busy_seconds: float = 0.0
    segment_started_at: float = 0.0
    from_step: int = 0
    trained_to: int = 0
    reported_at: float = 0.0
    checkpoints: dict[int, tuple[str, int]] = field(default_factory=dict)
    losses: int = 0

    @property
    def checkpoint_step(self) -> int:
        """The newest step with a checkpoint; the fork's start step, or 0, when it has none of its own."""
        return max(self.checkpoints, default=self.start_step)

    def __repr__(self) -> str:
        result = f", values={self.values}" if self.values else ""
        step = f", step={self.step}" if self.step else ""
        reason = f", reason={self.reason!r}" if self.reason else ""
        return f"TrialRecord({self.number}, {self.state.label}, params={self.params}{result}{step}{reason})"


def origin_of(trials: Sequence[TrialRecord], fork: TrialRecord) -> tuple[int, int] | None:
    """The trial and step of the checkpoint that a fork begins from while it has none of its own.

    It is the newest on the way that the fork has come: not every trial saves at each step that it pauses at.
    ``None`` where nothing was saved.
    """
    while fork.parent is not None:
        parent = trials[fork.parent]
        if before := [step for step in parent.checkpoints if step <= fork.start_step]:
            return parent.number, max(before)
        fork = parent
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The study's budget; ``None`` is no limit.

    ``trials``: configurations in total. ``seconds``: wall time of all drivers together. ``steps``:
    steps of all trials together, each as often as it was trained. ``cost``: worker-seconds of all trials
    together. ``failures``: trials that failed, timed out, ran out of memory or were lost in every attempt,
    after which the study stops. ``seconds`` and ``cost`` need the study to be told the time (``now``).
    ``improvement``: start nothing more once all further trials together are expected to improve on
    the best by less than this, in the objective's units, or, with ``"noise"``, by less than the
    noise of one result; ``"never"`` takes that back. What runs may finish then. One objective only.
    """

    trials: int | None = None
    seconds: float | None = None
    steps: int | None = None
    cost: float | None = None
    failures: int | None = None
    improvement: float | str | None = None

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if value is None or (name == "improvement" and isinstance(value, str) and value in IMPROVEMENTS):
                continue
            if not _is_amount(value):
                words = "".join(f"{word!r} or " for word in IMPROVEMENTS if name == "improvement")
                raise InputError(f"the limit {name} must be {words}a positive number, got {value!r}")
            whole = name in ("trials", "steps", "failures")
            if whole and value != int(value):
                raise InputError(f"the limit {name} must be a whole number, got {value!r}")
            object.__setattr__(self, name, int(value) if whole else float(value))

    def to_json(self) -> dict[str, float | str | None]:
        """The limits that are set."""
        return {n: getattr(self, n) for n in self.__slots__ if getattr(self, n) is not None}

    def updated(self, changes: Mapping[str, SupportsFloat | str | None]) -> Limits:
        """These limits with some replaced. Raises :class:`InputError` for unknown names and bad values."""
        for name in changes:
            if name not in self.__slots__:
                raise InputError(
                    f"there is no limit {name!r}{nearest(name, self.__slots__)} ({', '.join(self.__slots__)})"
                )
        fields: dict[str, Any] = dict(changes)
        return replace(self, **fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Rules of a study that hold for its whole life.

    ``rule``: which of a trial's results counts: the ``last``, the ``best`` (of several objectives, of
    each by itself), or ``average-k`` over the last k; used by ranking, checkpoint choice and registry.
    ``on_duplicate``: what happens to a proposal that was tried before: ``resample`` another, ``reuse``
    the known result, ``repeat`` the run. ``workers``: how many trials run at a time. ``max_steps``: the
    step at which a trial is complete, for schedulers that need to know. ``max_attempts``: how often a
    trial is repeated when its workers vanish. ``deterministic``: results are taken in the order of the
    trials, not in that of their arrival, so that the same objective, seed and ``workers`` give the same study
    again; in :meth:`Study.ask` and :meth:`Study.tell` the order is the caller's. ``outcome_constraints``:
    bounds on metrics such as ``"latency_ms <= 10"``; a trial that breaks one at its end is infeasible, which
    model-based samplers learn to avoid.
    """

    rule: str = "last"
    on_duplicate: str = "resample"
    workers: int = 1
    max_steps: int | None = None
    max_attempts: int = 5
    deterministic: bool = False
    outcome_constraints: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.rule, str) or not re.fullmatch(r"last|best|average-[1-9][0-9]*", self.rule):
            raise InputError(f"rule must be 'last', 'best' or 'average-K', got {self.rule!r}")
        known = ("resample", "reuse", "repeat")
        if not isinstance(self.on_duplicate, str) or self.on_duplicate not in known:
            raise InputError(
                f"on_duplicate must be 'resample', 'reuse' or 'repeat', got {self.on_duplicate!r}"
            )
        constraints = checked_outcome_constraints(self.outcome_constraints)
        object.__setattr__(self, "outcome_constraints", constraints)
        if not isinstance(self.deterministic, bool):
            raise InputError(f"deterministic must be True or False, got {self.deterministic!r}")
        for name in ("workers", "max_steps", "max_attempts"):
            value = getattr(self, name)
            if value is None and name == "max_steps":
                continue
            if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
                raise InputError(f"{name} must be a whole number of at least 1, got {value!r}")
            check_countable(name, int(value))
            object.__setattr__(self, name, int(value))
