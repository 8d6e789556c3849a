"""What a driver does with a study: it is handed segments, and says what became of them.

A segment is due (:meth:`Execution.next`), begins (:meth:`Execution.started`), reports
(:meth:`hpo_core.Study.report`) and ends: the trial is paused at its target, or finished, or the segment is
lost with its worker. Ask / tell does the same in two calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hpo_core import _events as ev
from hpo_core._decide import Decider, Segment
from hpo_core._event_log import EventLog
from hpo_core._fold import Fold
from hpo_core._given import Metrics, WholeNumber, checked_metrics, checked_step, checked_time
from hpo_core._parameters import Parameter, plain_json
from hpo_core._result import ended
from hpo_core._states import TrialState
from hpo_core._strategy import Finish, Strategy, Wait
from hpo_core._trial import Trial


class Execution:
    """The driver's side of a study: what is due next, and what became of it.

    ``study.execution`` is one, made by the study. What happened is journaled before it counts, as everywhere.
    ``decider`` asks the strategy, for those who check strategies.
    """

    def __init__(self, log: EventLog, strategy: Strategy) -> None:
        self._log = log
        self._strategy = strategy
        self.decider = Decider(log.fold, strategy, log.append)

    @property
    def _fold(self) -> Fold:
        return self._log.fold

    def exhausted(self, now: float = 0.0) -> str | None:
        """Which limit is spent, as a sentence, or ``None``."""
        return self.decider.exhausted(checked_time(now))

    def enough(self) -> str | None:
        """Why further trials are not worth it by the limit on ``improvement``, or ``None``."""
        return self.decider.enough()

    def next(self, now: float = 0.0) -> Segment | Wait | Finish:
        """What to run next: a segment, or the reason to wait or to finish.

        A segment stays due until :meth:`started` is called for it; until then asking again gives the
        same one. Nothing is handed out once a limit is spent or the study was stopped.
        """
        return self.decider.next(checked_time(now))

    def started(self, segment: Segment, *, worker: str = "", now: float = 0.0) -> None:
        """A worker has begun the segment."""
        self._log.append(
            ev.SegmentStarted(
                at=now,
                trial=segment.trial,
                attempt=segment.attempt,
                worker=worker,
                from_step=segment.from_step,
            )
        )

    def resolved(self, trial: Trial | int, params: Mapping[str, Any], found: Mapping[str, Parameter]) -> None:
        """A define-by-run objective asked for ``found`` and used ``params``.

        A parameter that was proposed because earlier trials asked for it, but that this one did not ask
        for, is inactive in this trial. A declared one keeps its range where the objective asks for a wider
        one: it was narrowed on purpose. Raises :class:`SpaceError` where ``found`` contradicts what earlier
        trials asked for, and :class:`StrategyError` where the strategy cannot handle it; nothing has
        changed then.
        """
        record = self._log.known(trial)
        declared = self._fold.declared.parameters
        kept = {n for n in found if n in declared and declared[n].contains(params[n])}
        space = self._fold.history.space.extended(found, kept=kept)
        used = {n: plain_json(v) for n, v in params.items() if n in found or n in declared}
        space.encode(used)
        if space.digest() != self._fold.history.space.digest():
            self._strategy.check(space, len(self._fold.created.objectives), self._fold.settings.max_steps)
            self._log.append(ev.SpaceChanged(at=self._fold.last_at, space=space.to_json(), found=list(found)))
        if used != record.params:
            self._log.append(ev.TrialResolved(at=self._fold.last_at, trial=record.number, params=used))

    def curve(
        self, trial: int, name: str, steps: Sequence[int], points: Sequence[float], now: float = 0.0
    ) -> None:
        """Keep points of a curve for those who look at the trial; no decision reads them."""
        kept = [(int(s), float(p)) for s, p in zip(steps, points, strict=True) if np.isfinite(p)]
        self._log.append(
            ev.CurveLogged(
                at=now, trial=trial, name=name, steps=[s for s, _ in kept], points=[p for _, p in kept]
            )
        )

    def checkpointed(self, trial: Trial | int, step: int, uri: str, size: int = 0, now: float = 0.0) -> None:
        """A checkpoint of the trial exists."""
        number = self._log.known(trial).number
        self._log.append(ev.CheckpointSaved(at=now, trial=number, step=step, uri=uri, size=size))

    def dropped_checkpoint(self, trial: Trial | int, step: int, now: float = 0.0) -> None:
        """A checkpoint of the trial was deleted."""
        self._log.append(ev.CheckpointDropped(at=now, trial=self._log.known(trial).number, step=step))

    def paused(self, trial: Trial | int, now: float = 0.0) -> None:
        """The trial reached its segment's target and waits for the scheduler."""
        record = self._log.known(trial)
        self._log.append(ev.TrialPausedAt(at=now, trial=record.number, step=record.step))

    def finish(
        self,
        trial: Trial | int,
        returned: Metrics | None = None,
        *,
        state: TrialState | str = TrialState.COMPLETE,
        step: WholeNumber | None = None,
        reason: str = "",
        now: float = 0.0,
    ) -> TrialState:
        """The trial has ended; returns the end state it got.

        ``returned`` is what the objective returned, the ``last`` result; the study's rule makes the
        trial's values from it and the reports. A complete trial without a finite value for every
        objective is failed, with the reason. What an earlier attempt says of a trial that is being
        repeated is ignored.

        Raises :class:`StudyStateError` for a trial that has ended already.
        """
        record = self._log.known(trial)
        if not self._log.current(trial):
            return record.state
        metrics = checked_metrics(returned, self._fold.created.objectives)
        step = None if step is None else checked_step(step, 0, "the step that a trial ends at")
        event = ended(self._fold, record, metrics, TrialState.of(state), step=step, reason=reason, now=now)
        self._log.append(event)
        return record.state

    def lost(self, trial: Trial | int, reason: str, *, counted: bool = True, now: float = 0.0) -> None:
        """The trial's worker is gone: repeat the segment, or give up after ``max_attempts`` losses.

        A loss that is nobody's fault, such as the end of the driver, is not ``counted``.
        """
        record = self._log.known(trial)
        self._log.append(
            ev.AttemptLost(
                at=now, trial=record.number, attempt=record.attempt, reason=reason, counted=counted
            )
        )
        most = self._fold.settings.max_attempts
        if record.losses >= most:
            reason = f"{reason} ({most} attempts were lost)"
            self.finish(record.number, state=TrialState.LOST, reason=reason, now=now)

    def take_over(self, driver: str, now: float = 0.0) -> int:
        """Become the study's driver; returns the fencing token.

        What the last driver had running is lost, which counts against no trial. It was when that driver was
        last heard of: nobody worked on it from then on, however long it took until somebody noticed.
        """
        for number in self._fold.history.in_state(TrialState.RUNNING).tolist():
            self.lost(number, "its driver ended", counted=False, now=self._fold.last_at)
        token = self._fold.token + 1
        self._log.append(ev.DriverTookOver(at=now, driver=driver, token=token))
        return token
