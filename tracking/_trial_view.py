"""One trial as its run in MLflow is to look: folds the trial's events and says what is not written yet."""

from __future__ import annotations

import json
import math
from typing import Any

from hpo_core.inner import events as ev
from hpo_core.inner import trial_seed
from tracking._states import KILLED, RUNNING, TRIAL_STATUS
from tracking._text import MAX_TAG, Names, config_json, param_text, preview, sha256
from tracking._writes import Point, RunWrite
from tracking.tags import (
    ATTEMPT,
    BUSY,
    BUSY_SINCE,
    CONFIG_SHA256,
    NAMES,
    PARAMS,
    PARENT_RUN_ID,
    PARENT_TRIAL,
    REASON,
    ROLE,
    STATE,
    STUDY,
    STUDY_ID,
    TRIAL,
    UID,
    trial_uid,
)

UNSURE = "?"
# How a segment ends.
_ENDS = (ev.TrialPausedAt, ev.AttemptLost, ev.TrialFinished)


def milliseconds(at: float) -> int:
    """Seconds since the epoch as MLflow's whole milliseconds."""
    return max(round(at * 1000), 0)


class StudyTerms:
    """What all trials of a study share: its identity, the names of its keys, tags from outside."""

    def __init__(self, created: ev.StudyCreated) -> None:
        self.created = created
        self.parent_run = ""
        # MLflow's own context: user, source, version of the code. Known once MLflow is.
        self.context_tags: dict[str, str] = {}
        self.params = Names()
        self.metrics = Names()
        # A define-by-run trial is free not to use what was proposed, and a parameter cannot be taken
        # back from MLflow: there, parameters are written when the trial has ended.
        self.declared = bool(created.space.get("parameters"))
        self._name_sets: dict[frozenset[str], frozenset[str]] = {}

    def once(self, names: frozenset[str]) -> frozenset[str]:
        """An equal set that all trials share: ten thousand of them stay in memory, half a KiB each."""
        return self._name_sets.setdefault(names, names)


class TrialView:
    """One trial. ``run_id`` is ``None`` while it has no run; ``due`` says whether anything is unwritten."""

    __slots__ = (
        "_busy",
        "_diverged",
        "_drawing",
        "_drawn",
        "_end",
        "_last",
        "_sent_params",
        "_sent_tags",
        "_since",
        "_start",
        "_tags",
        "_terms",
        "attempt",
        "checkpoints",
        "first_unwritten",
        "intended",
        "number",
        "params",
        "points",
        "run_id",
        "sent_status",
        "state",
        "step",
        "unwritten",
        "values",
        "wanted",
        "written_seq",
    )

    def __init__(self, terms: StudyTerms, event: ev.TrialAsked) -> None:
        self._terms = terms
        self.number = event.trial
        self.params: dict[str, Any] = event.params
        self.state = "waiting"
        self.step = event.start_step
        self.attempt = 0
        self.values: dict[str, float] = {}
        self.points: list[Point] = []
        self.run_id: str | None = None
        # A creation was begun and its end was never seen: look before creating again.
        self.intended = False
        self.wanted = False
        self.written_seq = -1
        self.unwritten = 0
        self.first_unwritten = -1
        self._start = milliseconds(event.at)
        self._end = 0
        # Milliseconds of the segments that have ended, and when the one that runs began.
        self._busy = 0
        self._since = 0
        self._last: dict[str, tuple[int, float, int]] = {}
        self._diverged: dict[str, tuple[int, str]] = {}
        # By curve the last step that earlier attempts have logged, and that of this one.
        self._drawn: dict[str, int] = {}
        self._drawing: dict[str, int] = {}
        # Step to where the checkpoint lies.
        self.checkpoints: dict[int, str] = {}
        self._sent_tags: dict[str, str] = {}
        self._sent_params: frozenset[str] = frozenset()
        # The status that MLflow shows; a new run's is RUNNING. UNSURE is sent again in any case.
        self.sent_status = RUNNING
        self._tags: dict[str, str] = {}
        if event.origin != "sampler":
            self._tags["hpo.origin"] = event.origin
        if event.note:
            self._tags["hpo.note"] = preview(event.note, MAX_TAG)
        if event.bracket:
            self._tags["hpo.bracket"] = str(event.bracket)
        if event.parent is not None:
            self._tags[PARENT_TRIAL] = str(event.parent)
            self._tags["hpo.start_step"] = str(event.start_step)

    @property
    def finished(self) -> bool:
        """Whether the trial has its end state."""
        return self.state in TRIAL_STATUS

    @property
    def times(self) -> tuple[int, int]:
        """When the trial began, and when the last thing about it happened; milliseconds."""
        return self._start, self._end

    @property
    def due(self) -> bool:
        """Whether something is to be written. A trial that only waits has nothing to show."""
        started = self.run_id is not None or self.attempt > 0 or self.finished
        return self.wanted or (self.unwritten > 0 and started)

    def apply(self, seq: int, event: ev.Event) -> None:
        """Fold one of the trial's events after the first. Its points count only if they are new here."""
        at = milliseconds(event.at)
        if not self.finished:
            self._end = at or self._end
        if self._since and isinstance(event, _ENDS):
            self._busy += max(at - self._since, 0)
            self._since = 0
            # Where it ends and never paused, its run's duration says it.
            if not isinstance(event, ev.TrialFinished) or BUSY in self._tags:
                self._tag_busy()
        match event:
            case ev.SegmentStarted():
                if not self.attempt:
                    self._start = at or self._start
                self.state, self.attempt, self._since = "running", event.attempt, at
                self._drawn = {**self._drawn, **self._drawing}
                if self._busy or BUSY in self._tags:
                    self._tag_busy()
                if event.worker:
                    self._tags["hpo.worker"] = event.worker
            case ev.TrialReported():
                # Run again, it comes by its steps once more; of all values MLflow shows that of the last one.
                self.step = max(self.step, event.step)
                self._add(event.metrics, at, event.step, new=seq > self.written_seq)
            case ev.CurveLogged():
                self._draw(event, at, new=seq > self.written_seq)
            case ev.TrialResolved():
                self.params = event.params
            case ev.TrialPausedAt():
                self.state = "paused"
            case ev.TrialResumed() | ev.AttemptLost() | ev.TrialRequeued():
                paused = isinstance(event, ev.TrialRequeued) and event.paused
                self.state, self._end = "paused" if paused else "waiting", at
                if REASON in self._tags:
                    self._tags[REASON] = ""
                if isinstance(event, ev.AttemptLost):
                    self._tags["hpo.last_loss"] = preview(event.reason, MAX_TAG)
            case ev.CheckpointSaved():
                self.checkpoints[event.step] = event.uri
            case ev.CheckpointDropped():
                self.checkpoints.pop(event.step, None)
                if self.finished:
                    # Housekeeping after the end is not worth a call per trial.
                    return
            case ev.TrialFinished():
                self._finish(event, at, new=seq > self.written_seq)
        if seq > self.written_seq:
            self.touch(seq)

    def _tag_busy(self) -> None:
        self._tags |= {BUSY: f"{self._busy / 1000:g}", BUSY_SINCE: str(self._since or "")}

    @property
    def reason(self) -> str:
        """Why it ended as it did; empty where nobody said."""
        return self._tags.get(REASON, "")

    def touch(self, seq: int) -> None:
        """Count one event that MLflow does not show yet."""
        if not self.unwritten:
            self.first_unwritten = seq
        self.unwritten += 1

    def tag(self, tags: dict[str, str], seq: int) -> None:
        """Add tags from outside, such as the ids of Prefect's runs."""
        self._tags.update({k: preview(str(v), MAX_TAG) for k, v in tags.items()})
        if seq > self.written_seq:
            self.touch(seq)

    def _finish(self, event: ev.TrialFinished, at: int, *, new: bool) -> None:
        self.state = event.state
        self.step = max(self.step, event.step)
        self.values = event.values
        if event.reason:
            self._tags[REASON] = preview(event.reason, MAX_TAG)
        self._add({**event.metrics, **event.values}, at, self.step, new=new, final=True)

    def _draw(self, event: ev.CurveLogged, at: int, *, new: bool) -> None:
        """Add points of a curve; what an attempt repeats since it was lost, or failed, is there already."""
        known = self._drawn.get(event.name, -1)
        points = [(s, p) for s, p in zip(event.steps, event.points, strict=True) if s > known]
        if points:
            self._drawing[event.name] = max(self._drawing.get(event.name, -1), max(points)[0])
        for step, value in points if new else ():
            self._add({event.name: value}, at, step, new=True)

    def _add(self, metrics: dict[str, float], at: int, step: int, *, new: bool, final: bool = False) -> None:
        for name, value in metrics.items():
            key = self._terms.metrics.key(name)
            if not math.isfinite(value):
                # MLflow would keep NaN, turn infinities into 1.8e308, and match both in filters.
                self._diverged.setdefault(key, (step, repr(value)))
                continue
            when, known = at, self._last.get(key)
            if final and known is not None and known[0] == step:
                # The final value usually is the last report; a second point there would only be a spike.
                if known[1] == value:
                    continue
                # Of points of one step and millisecond MLflow takes the largest for the latest.
                when = max(at, known[2] + 1)
            self._last[key] = (step, value, when)
            if new:
                self.points.append(Point(key, value, when, step))

    # -- what is to be written -----------------------------------------------------------------

    def _all_tags(self) -> dict[str, str]:
        terms, created = self._terms, self._terms.created
        config = config_json(self.params)
        tags = {
            **terms.context_tags,
            PARENT_RUN_ID: terms.parent_run,
            ROLE: "trial",
            STUDY: preview(created.name, MAX_TAG),
            STUDY_ID: created.study_id,
            UID: trial_uid(created.study_id, self.number),
            TRIAL: str(self.number),
            STATE: self.state,
            ATTEMPT: str(self.attempt),
            "hpo.seed": str(trial_seed(created.seed, self.number)),
            CONFIG_SHA256: sha256(config),
            **self._tags,
        }
        if len(config) <= MAX_TAG:
            tags[PARAMS] = config
        if self.checkpoints:
            tags["hpo.checkpoint_step"] = str(max(self.checkpoints))
        if self._diverged:
            tags["hpo.diverged"] = preview(json.dumps(self._diverged), MAX_TAG)
        renamed = {**terms.params.renamed(), **terms.metrics.renamed()}
        if renamed:
            tags[NAMES] = preview(json.dumps(renamed, ensure_ascii=False), MAX_TAG)
        return tags

    @property
    def long_config(self) -> str | None:
        """The configuration as JSON where it is too long for a tag and has to become an artifact."""
        text = config_json(self.params)
        return text if len(text) > MAX_TAG else None

    def pending(self, *, suspended: bool = False) -> RunWrite:
        """Everything that MLflow does not show yet. ``suspended``: the driver is about to leave."""
        created = self._terms.created
        params: dict[str, str] = {}
        if self._terms.declared or self.finished:
            keyed = ((self._terms.params.key(n), v) for n, v in self.params.items())
            params = {k: param_text(v) for k, v in keyed if k not in self._sent_params}
        # Names are asked for first: the tags list those that had to be changed.
        tags = {k: v for k, v in self._all_tags().items() if self._sent_tags.get(k) != v}
        status = TRIAL_STATUS.get(self.state, KILLED if suspended else RUNNING)
        return RunWrite(
            number=self.number,
            uid=trial_uid(created.study_id, self.number),
            run_id=self.run_id,
            name=f"trial-{self.number:04d}",
            start_time=self._start,
            tags=tags,
            params=params,
            points=self.points,
            status=None if status == self.sent_status else status,
            end_time=None if status == RUNNING else (self._end or self._start),
        )

    def written(self, write: RunWrite, seq: int) -> None:
        """``write``, made of everything up to ``seq``, is in MLflow."""
        self._sent_tags.update(write.tags)
        self._sent_params = self._terms.once(self._sent_params.union(write.params))
        if write.status is not None:
            # A suspended trial may end with the same status, but later.
            self.sent_status = write.status if self.finished or write.status == RUNNING else UNSURE
        self.points = []
        self.unwritten = 0
        self.written_seq = seq
        self.wanted = self.intended = False
        if self.finished:
            # Ten thousand of these stay in memory; only a requeued trial needs them again.
            self._sent_tags = {}
            self._last = {}
            if self.state == "complete":  # the only end that is for good
                self._drawn, self._drawing = {}, {}

    def restore(self, *, run_id: str | None, seq: int, status: str | None, intended: bool) -> None:
        """Take over from the cursor file what an earlier projector had written."""
        self.run_id, self.written_seq, self.intended = run_id, seq, intended
        self.sent_status = UNSURE if status is None and run_id is not None else status or RUNNING

    def adopt(self, run_id: str) -> None:
        """The trial's run was found in MLflow: what it shows is unknown, so everything is sent again."""
        self.run_id, self.sent_status, self.intended = run_id, UNSURE, False
