"""The journal's vocabulary: frozen records of what happened to a study, in plain JSON both ways.

Every record is a fact in the past tense. The study is the fold of these records and of nothing else.
``at`` is seconds since the epoch, handed in by whoever drives the study; 0.0 where nobody keeps time.
Metrics and values are in the user's own units and directions; non-finite numbers travel as strings.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

JOURNAL_VERSION = 1
# Before the reason of a study that has ended without a result.
NO_RESULT = "no trial is complete: "
# Why a study has ended that no further trial could go on with.
ALL_TRIED = "every configuration of the space has been tried"

Params = dict[str, Any]
Metrics = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all records."""

    type: ClassVar[str]
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyCreated(Event):
    """The study's fixed terms. ``limits`` may be raised later, the space versioned; the rest stays."""

    type: ClassVar[str] = "study_created"
    study_id: str
    name: str
    space: dict[str, Any]
    objectives: dict[str, str]
    strategy: dict[str, Any]
    seed: int
    limits: dict[str, float | str | None]
    settings: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    version: int = JOURNAL_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverTookOver(Event):
    """A driver began to drive. ``token`` rises by one each time and fences off earlier drivers."""

    type: ClassVar[str] = "driver_took_over"
    driver: str
    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceChanged(Event):
    """The space has a new version: edited on resume, or grown by what an objective asked for.

    ``found`` names the parameters that the objective asked for; it is empty for an edit, which declares
    every parameter anew. ``outside``: the trials so far whose configurations the edited space cannot have.
    Input constraints that are functions are known when it is edited and not to every reader.
    """

    type: ClassVar[str] = "space_changed"
    space: dict[str, Any]
    found: list[str] = field(default_factory=list)
    outside: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueued(Event):
    """A configuration to try before the sampler is asked again; missing parameters are sampled.

    ``source``: what wanted it, in words by which that knows it again.
    """

    type: ClassVar[str] = "enqueued"
    params: Params
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed(Event):
    """A result from elsewhere: evidence for the sampler, not a trial of this study.

    ``text``: the values of the parameters are text, read by the types that the space has for them.
    """

    type: ClassVar[str] = "observed"
    params: Params
    values: Metrics = field(default_factory=dict)
    source: str = ""
    text: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialAsked(Event):
    """A trial exists. ``target`` is the step its next segment runs to (``None``: the end).

    A fork starts from the checkpoint that trial ``parent`` has at ``start_step``.
    """

    type: ClassVar[str] = "trial_asked"
    trial: int
    params: Params
    origin: str = "sampler"
    note: str = ""
    target: int | None = None
    bracket: int = 0
    parent: int | None = None
    start_step: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResumed(Event):
    """A paused trial is to run on to ``target``."""

    type: ClassVar[str] = "trial_resumed"
    trial: int
    target: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentStarted(Event):
    """A worker began the trial's segment. ``attempt`` counts from 1 over the whole trial and fences."""

    type: ClassVar[str] = "segment_started"
    trial: int
    attempt: int
    worker: str = ""
    from_step: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResolved(Event):
    """What the objective really asked for, where that differs from what was proposed."""

    type: ClassVar[str] = "trial_resolved"
    trial: int
    params: Params


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialReported(Event):
    """Metrics of a running trial at a step; steps rise within a trial.

    ``begun``: the step that the training which led to them began at, where that was not the trial's last one.
    """

    type: ClassVar[str] = "trial_reported"
    trial: int
    step: int
    metrics: Metrics = field(default_factory=dict)
    begun: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveLogged(Event):
    """Points of a trial's curve that are to be seen and that no decision reads."""

    type: ClassVar[str] = "curve_logged"
    trial: int
    name: str
    steps: list[int]
    points: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSaved(Event):
    """A checkpoint of the trial at a step lies at ``uri`` and has ``size`` bytes."""

    type: ClassVar[str] = "checkpoint_saved"
    trial: int
    step: int
    uri: str
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointDropped(Event):
    """A checkpoint that nothing can need any more was deleted."""

    type: ClassVar[str] = "checkpoint_dropped"
    trial: int
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialPausedAt(Event):
    """The segment reached its target below the end; the trial waits for a promotion."""

    type: ClassVar[str] = "trial_paused"
    trial: int
    step: int
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptLost(Event):
    """The worker vanished, or was sent away on purpose (``counted`` is false then).

    The segment is to be repeated; nothing is learned about the trial.
    """

    type: ClassVar[str] = "attempt_lost"
    trial: int
    attempt: int
    reason: str = ""
    counted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialFinished(Event):
    """The trial has its end state. ``values`` hold the objectives by the study's rule, if any."""

    type: ClassVar[str] = "trial_finished"
    trial: int
    state: str
    values: Metrics = field(default_factory=dict)
    metrics: Metrics = field(default_factory=dict)
    step: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRequeued(Event):
    """A trial that ended badly is to be run again, as its next attempt.

    ``paused``: it had been paused when it was cancelled, and waits for its promotion again.
    """

    type: ClassVar[str] = "trial_requeued"
    trial: int
    paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyExtended(Event):
    """The limits were changed; those that are absent stay. A stopped study is open again."""

    type: ClassVar[str] = "study_extended"
    limits: dict[str, float | str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyStopped(Event):
    """The study ended.

    ``state``: ``finished`` when its plan is done or its time is up, ``failed`` when too many trials failed
    or none is complete then, ``cancelled`` when somebody said so.
    """

    type: ClassVar[str] = "study_stopped"
    state: str
    reason: str

    @property
    def resumable(self) -> bool:
        """Whether there is something to go on with under the limits that it has."""
        return self.state == "cancelled"

    @property
    def left(self) -> str:
        """Why a trial that was paused then is pruned; once the study is extended it is paused again."""
        return f"not promoted: {self.reason}"

    def interrupted(self, state: str, reason: str) -> bool:
        """Whether a trial that ended so ran when a limit ended the study; it is run again on extending.

        A limit on steps has it pruned, in its report.
        """
        return state in ("cancelled", "pruned") and reason in (
            self.reason,
            self.reason.removeprefix(NO_RESULT),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted(Event):
    """Something a later reader wants to know and no decision depends on (a promotion, a flow run)."""

    type: ClassVar[str] = "noted"
    topic: str
    data: dict[str, Any]


EVENT_TYPES: dict[str, type[Event]] = {
    c.type: c
    for c in (
        StudyCreated, DriverTookOver, SpaceChanged, Enqueued, Observed, TrialAsked, TrialResumed,
        SegmentStarted, TrialResolved, TrialReported, CurveLogged, CheckpointSaved,
        CheckpointDropped,
        TrialPausedAt, AttemptLost, TrialFinished, TrialRequeued, StudyExtended, StudyStopped, Noted,
    )
}  # fmt: skip

_FIELDS = {c: tuple(f.name for f in dataclasses.fields(c)) for c in EVENT_TYPES.values()}
_DEFAULTS: dict[type[Event], dict[str, Any]] = {
    c: {f.name: f.default for f in dataclasses.fields(c) if f.default is not dataclasses.MISSING}
    for c in EVENT_TYPES.values()
}
_NUMERIC = ("values", "metrics")


def event_to_json(event: Event) -> dict[str, Any]:
    """A plain JSON object; fields at their defaults are left out."""
    cls = type(event)
    defaults = _DEFAULTS[cls]
    data: dict[str, Any] = {"type": cls.type}
    for name in _FIELDS[cls]:
        value = getattr(event, name)
        if name in defaults and value == defaults[name]:
            continue
        if name in _NUMERIC:
            if not value:
                continue
            value = {k: v if math.isfinite(v) else repr(float(v)) for k, v in value.items()}
        data[name] = value
    return data


def event_from_json(data: Mapping[str, Any]) -> Event:
    """The record that :func:`event_to_json` wrote; unknown fields of later versions are ignored.

    Raises ``KeyError`` or ``TypeError`` for an unknown type or missing fields.
    """
    cls = EVENT_TYPES[data["type"]]
    fields: dict[str, Any] = {name: data[name] for name in _FIELDS[cls] if name in data}
    for name in _NUMERIC:
        if name in fields:
            fields[name] = {sys.intern(k): float(v) for k, v in fields[name].items()}
    if "params" in fields:
        # JSON makes new strings for each line; a study of many trials keeps its few names once.
        fields["params"] = {sys.intern(k): v for k, v in fields["params"].items()}
    return cls(**fields)
