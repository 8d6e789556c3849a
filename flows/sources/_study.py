"""An earlier study as a source."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from flows._files import is_there
from flows.sources._source import Names
from hpo_core import InputError, Study, TrialState
from hpo_core.inner import JOURNAL, nearest, read_journal
from hpo_core.inner import events as ev
from hpo_core.warm_start import Outcome, Past, unjudged

__all__ = ["EarlierStudy", "from_study"]


@dataclass(frozen=True, kw_only=True)
class EarlierStudy:
    """See :func:`from_study`."""

    name: str
    params: Names = field(default_factory=dict)
    metrics: Names = field(default_factory=dict)
    experiment: str | None = None
    home: Path | str | None = None

    @property
    def label(self) -> str:
        """``study:NAME``."""
        return f"study:{self.name}"

    def read(self, tracking_uri: str | None) -> Past:
        """Its trials, and what it was warm-started with itself."""
        from flows._workspace import studies_home, study_folder, study_names

        journal = study_folder(self.name, self.home) / JOURNAL
        if is_there(journal):
            return self._past(journal)
        from tracking import connect_to_study, fetch_journal

        connection = connect_to_study(tracking_uri, self.name, self.experiment)
        if connection is None:
            raise InputError(
                f"there is no study {self.name!r} to start from, neither in {studies_home(self.home)} nor "
                f"in MLflow{nearest(self.name, study_names(self.home))}"
            )
        with tempfile.TemporaryDirectory() as scratch:
            return self._past(fetch_journal(connection, self.name, Path(scratch)))

    def _past(self, journal: Path) -> Past:
        events = [event for _, event, _ in read_journal(journal)]
        study = Study.replay(events)
        uid = study.created.study_id
        measured = [{**trial.metrics, **trial.values} for trial in study.trials]
        trials = [
            Outcome(
                key=f"{uid}:{trial.number}",
                params=trial.params,
                values=values,
                state=unjudged(trial.state, values, study.state.outcome_constraints),
            )
            for trial, values in zip(study.trials, measured, strict=True)
        ]
        elsewhere = [
            Outcome(
                key=e.source or f"{uid}:observed-{i}",
                params=e.params,
                values=e.values,
                state=_observed(e, study.objectives),
                text=e.text,
            )
            for i, e in enumerate(events)
            if isinstance(e, ev.Observed)
        ]
        return Past(
            source=self.label,
            outcomes=[*elsewhere, *trials],
            directions=study.objectives,
            params=self.params,
            metrics=self.metrics,
        )


def _observed(event: ev.Observed, objectives: Iterable[str]) -> TrialState:
    """A failure is observed as a value that is not finite."""
    finite = all(math.isfinite(event.values.get(name, math.nan)) for name in objectives)
    return TrialState.COMPLETE if finite else TrialState.FAILED


def from_study(
    name: str,
    *,
    params: Names | None = None,
    metrics: Names | None = None,
    experiment: str | None = None,
    home: Path | str | None = None,
) -> EarlierStudy:
    """The trials of an earlier study: of its folder here, else of its journal in MLflow.

    ``params`` and ``metrics``: this study's name to the earlier one's, where they differ; ``-NAME`` turns a
    metric's sign. ``experiment``: the MLflow experiment to look in; by default all. ``home``: where studies
    live, by default ``HPO_HOME``.
    """
    return EarlierStudy(
        name=name, params=params or {}, metrics=metrics or {}, experiment=experiment, home=home
    )
