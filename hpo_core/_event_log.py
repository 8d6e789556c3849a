"""A study's events: checked, then written to the journal, then folded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hpo_core import _events as ev
from hpo_core._errors import StudyStateError
from hpo_core._fold import Fold
from hpo_core._given import checked_time
from hpo_core._journal import EventSink
from hpo_core._records import TrialRecord
from hpo_core._trial import Trial


class EventLog:
    """What has happened in a study: ``fold``, and ``sink``, where events are kept (``None``: in memory only).

    All events but the first, which makes the fold, are appended here and nowhere else, so the object built by
    running and the object built by replaying are the same.
    """

    def __init__(self, fold: Fold, sink: EventSink | None) -> None:
        self.fold = fold
        self._sink = sink

    def append(self, event: ev.Event) -> None:
        """Check, write and fold one event.

        Raises :class:`StudyStateError` for one that cannot follow: nothing is written then. What the journal
        raises leaves the fold as it was.
        """
        at = checked_time(event.at)
        if at is not event.at:
            event = replace(event, at=at)
        self.fold.check(event)
        if self._sink is not None:
            self._sink.append(event)
        self.fold.apply(event, checked=True)

    def known(self, trial: Trial | int) -> TrialRecord:
        """The record of a trial. Raises :class:`StudyStateError` for one of another study."""
        if isinstance(trial, np.integer):
            trial = int(trial)
        if isinstance(trial, Trial) and trial.study not in ("", self.fold.created.study_id):
            raise StudyStateError(f"{trial!r} is a trial of another study; tell it to the one that was asked")
        return self.fold.trial(trial.number if isinstance(trial, Trial) else trial)

    def current(self, trial: Trial | int) -> bool:
        """Whether this is the trial's latest attempt; a bare number always is."""
        return not isinstance(trial, Trial) or trial.attempt == self.known(trial).attempt
