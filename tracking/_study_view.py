"""The study as its run in MLflow is to look: counts, the best trials so far, and the trials' views."""

from __future__ import annotations

import bisect
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from hpo_core.folds import REPEAT
from hpo_core.inner import BAD, WorkingTime, sign_of, strategy_words
from hpo_core.inner import events as ev
from tracking._states import study_status
from tracking._summary import Standing, failure_lines, note
from tracking._text import MAX_TAG, config_json, ordered_json, preview, safe_key
from tracking._trial_view import StudyTerms, TrialView, milliseconds
from tracking._writes import Point, RunWrite
from tracking.tags import (
    BEST_VALUES,
    BUSY,
    BUSY_SINCE,
    CONFIRMS,
    CONSTRAINTS,
    COUNTS,
    FAILURES,
    LIMITS,
    NOTE,
    OBJECTIVES,
    OUTSIDE,
    PLANNED,
    REASON,
    REPEATS,
    ROLE,
    SPACE,
    STATE,
    STRATEGY,
    STUDY,
    STUDY_ID,
)

_TRIAL_EVENTS = (
    ev.TrialResumed, ev.SegmentStarted, ev.TrialResolved, ev.TrialReported, ev.CurveLogged,
    ev.CheckpointSaved, ev.CheckpointDropped, ev.TrialPausedAt, ev.AttemptLost, ev.TrialFinished,
    ev.TrialRequeued,
)  # fmt: skip
_BAD = {state.label for state in BAD}


class StudyView:
    """Folds a journal into views. Tracks the best by the values that the study's rule gave.

    ``dirty``: the study's own run is out of date.
    """

    def __init__(self, created: ev.StudyCreated) -> None:
        self.terms = StudyTerms(created)
        self.trials: list[TrialView] = []
        self.seq = 0
        self.last_at = milliseconds(created.at)
        self.working_time = WorkingTime(created.at)
        self.ended: ev.StudyStopped | None = None
        self.limits: dict[str, Any] = dict(created.limits)
        self.space: dict[str, Any] = created.space
        self.tags: dict[str, str] = {}
        self.counts: Counter[str] = Counter()
        self.dirty = True
        # Best value and trial for each objective, and the points of best-so-far not yet written.
        self.best: dict[str, tuple[float, int]] = {}
        self.points: list[Point] = []
        # The Pareto front: minimised values, and the trials that have them, by number.
        self._front: dict[tuple[float, ...], list[int]] = {}
        # Trials that the space as it was edited cannot have rank while there are no others.
        self._outside: frozenset[int] = frozenset()
        self._only_outside = True
        self._requeued = False
        self._finished = 0
        self._forks = 0
        self._sent: dict[str, str] = {}
        self._sent_status: str | None = None

    def apply(self, seq: int, event: ev.Event) -> Sequence[TrialView]:
        """Fold one event; returns the views of the trials it is about."""
        self.seq = seq
        self.working_time.heard(event, stopped=self.ended is not None)
        if self.ended is None or not isinstance(event, ev.Noted):
            # What is noted of a study that has ended, a promotion say, makes it no longer.
            self.last_at = milliseconds(event.at) or self.last_at
        match event:
            case ev.TrialAsked():
                self.trials.append(TrialView(self.terms, event))
                self.counts["waiting"] += 1
                self._forks += event.parent is not None
                self.dirty = True
                return self.trials[-1:]
            case ev.StudyStopped():
                self.ended, self.dirty = event, True
            case ev.StudyExtended():
                self.limits.update(event.limits)
                self.ended, self.dirty = None, True
            case ev.SpaceChanged():
                self.space, self.dirty = event.space, True
                return () if event.found else self._edited(seq, event)
            case ev.Noted():
                return self._noted(seq, event)
            case _ if isinstance(event, _TRIAL_EVENTS):
                return (self._trial_event(seq, event),)
        return ()

    def _trial_event(self, seq: int, event: Any) -> TrialView:
        view = self.trials[event.trial]
        before = view.state
        view.apply(seq, event)
        if view.state != before:
            self.counts[before] -= 1
            self.counts[view.state] += 1
            self.dirty = True
        if isinstance(event, ev.TrialFinished):
            self._finished += 1
            self._rank(view, milliseconds(event.at))
        elif isinstance(event, ev.TrialRequeued):
            self.ended, self._requeued = None, True
        return view

    def _noted(self, seq: int, event: ev.Noted) -> Sequence[TrialView]:
        """Topic ``tags``: tags for the study's run, or for that of ``trial``. Others stay in the journal."""
        tags = event.data.get("tags")
        if event.topic != "tags" or not isinstance(tags, dict):
            return ()
        trial = event.data.get("trial")
        if trial is None:
            self.tags.update({safe_key(k): preview(str(v), MAX_TAG) for k, v in tags.items()})
            self.dirty = True
            return ()
        view = self.trials[trial]
        view.tag({safe_key(k): str(v) for k, v in tags.items()}, seq)
        return (view,)

    def _edited(self, seq: int, event: ev.SpaceChanged) -> Sequence[TrialView]:
        """Rank anew what the edited space can have, as :attr:`hpo_core.Study.best` does."""
        before, self._outside = self._outside, frozenset(event.outside)
        changed = [self.trials[number] for number in sorted(before ^ self._outside)]
        for view in changed:
            view.tag({OUTSIDE: "true" if view.number in self._outside else ""}, seq)
        points, self.points = self.points, []
        self._forget_ranks()
        for view in self.trials:
            self._rank(view, milliseconds(event.at))
        # Of the way that the best so far took here, its end alone is news.
        self.points = [*points, *{point.key: point for point in self.points}.values()]
        return changed

    def _forget_ranks(self) -> None:
        self.best, self._front, self._only_outside = {}, {}, True

    def _rank(self, view: TrialView, at: int) -> None:
        objectives = self.terms.created.objectives
        if view.state != "complete" or any(n not in view.values for n in objectives):
            return
        if view.number not in self._outside:
            if self._only_outside:
                self._forget_ranks()
            self._only_outside = False
        elif not self._only_outside:
            return
        for name, direction in objectives.items():
            value = view.values[name]
            sign = sign_of(direction)
            if name not in self.best or sign * value < sign * self.best[name][0]:
                self.best[name] = (value, view.number)
                key = safe_key(f"best_{self.terms.metrics.key(name)}")
                self.points.append(Point(key, value, at, self._finished))
        row = tuple(sign_of(d) * view.values[n] for n, d in objectives.items())
        if row in self._front:
            bisect.insort(self._front[row], view.number)
        elif not any(_covers(other, row) for other in self._front):
            rest = {kept: numbers for kept, numbers in self._front.items() if not _covers(row, kept)}
            self._front = {**rest, row: [view.number]}

    # -- what is to be written -----------------------------------------------------------------

    def best_trials(self, most: int | None = None) -> list[TrialView]:
        """The best trial, of equals the earliest; or the Pareto front by its first objective."""
        if len(self.terms.created.objectives) == 1:
            return [self.trials[numbers[0]] for numbers in self._front.values()]
        found = sorted((row[0], number) for row, numbers in self._front.items() for number in numbers)
        return [self.trials[number] for _, number in found[:most]]

    def standing(self, *, suspended: bool) -> Standing:
        """What a reader wants to know of the study now."""
        created = self.terms.created
        state = self.ended.state if self.ended else "suspended" if suspended else "running"
        return Standing(
            name=created.name,
            state=state,
            reason=self.ended.reason if self.ended else "",
            objectives=created.objectives,
            strategy=strategy_words(created.strategy) or str(created.strategy),
            planned=self._planned(),
            counts={k: n for k, n in self.counts.items() if n > 0},
            best=self.best_trials(),
            seconds=self.working_time.seconds,
            failures=failure_lines((t.number, t.state, t.reason) for t in self.trials if t.state in _BAD),
        )

    def _planned(self) -> int | None:
        """As :attr:`hpo_core._history.History.planned`."""
        trials = self.limits.get("trials")
        return None if trials is None else int(trials) + self._forks

    def pending(self, run_id: str | None, *, suspended: bool = False) -> RunWrite:
        """What the study's run does not show yet; ``suspended``: the driver is about to leave."""
        created = self.terms.created
        standing = self.standing(suspended=suspended)
        tags = self._tags(standing, run_id)
        status = study_status(None if standing.state == "running" else standing.state)
        return RunWrite(
            number=-1,
            uid=created.study_id,
            run_id=run_id,
            name=created.name,
            start_time=milliseconds(created.at),
            tags={k: v for k, v in tags.items() if self._sent.get(k) != v},
            points=list(self.points),
            status=None if status == self._sent_status else status,
            end_time=None if status == "RUNNING" else self.last_at,
        )

    def _tags(self, standing: Standing, run_id: str | None) -> dict[str, str]:
        created = self.terms.created
        tags = {
            **self.terms.context_tags,
            ROLE: "study",
            STUDY: preview(created.name, MAX_TAG),
            STUDY_ID: created.study_id,
            STATE: standing.state,
            REASON: preview(standing.reason, MAX_TAG),
            OBJECTIVES: ordered_json(created.objectives),
            STRATEGY: preview(config_json(created.strategy), MAX_TAG),
            SPACE: preview(ordered_json(self.space), MAX_TAG),
            LIMITS: config_json(self.limits),
            "hpo.seed": str(created.seed),
            "hpo.trials": str(len(self.trials)),
            COUNTS: config_json(standing.counts),
            BUSY: f"{standing.seconds:.3f}",
            BUSY_SINCE: str(milliseconds(self.working_time.last)) if standing.state == "running" else "",
            NOTE: note(standing, run_id),
            **self.tags,
        }
        if standing.planned is not None:
            tags[PLANNED] = str(standing.planned)
        if standing.failures or self._requeued:  # a tag cannot be taken back, only emptied
            tags[FAILURES] = preview("\n".join(standing.failures), MAX_TAG)
        if created.meta.get("made_with"):
            tags["hpo.made_with"] = preview(config_json(created.meta["made_with"]), MAX_TAG)
        if created.meta.get("step_unit") == REPEAT:
            tags[REPEATS] = str(created.settings["max_steps"])
        if created.settings.get("outcome_constraints"):
            tags[CONSTRAINTS] = preview(json.dumps(list(created.settings["outcome_constraints"])), MAX_TAG)
        if created.meta.get("confirms"):
            tags[CONFIRMS] = preview(config_json(created.meta["confirms"]), MAX_TAG)
        if standing.best:
            first = standing.best[0]
            tags["hpo.best_trial"] = str(first.number)
            tags["hpo.best_params"] = preview(config_json(first.params), MAX_TAG)
            tags[BEST_VALUES] = config_json(first.values)
            if first.run_id:
                tags["hpo.best_run_id"] = first.run_id
        if len(created.objectives) > 1:
            tags["hpo.pareto"] = preview(json.dumps([t.number for t in standing.best]), MAX_TAG)
        return tags

    def hide_context(self) -> None:
        """Leave user, source and version of the adopted run as they are."""
        self._sent.update(self.terms.context_tags)

    def written(self, write: RunWrite) -> None:
        """``write`` is in MLflow."""
        self._sent.update(write.tags)
        self._sent_status = write.status or self._sent_status
        del self.points[: len(write.points)]
        self.dirty = False


def _covers(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    """Whether ``a`` is at least as good as ``b`` everywhere."""
    return all(x <= y for x, y in zip(a, b, strict=True))
