"""What a study's journal holds for later readers: what was asked for, where it is shown, the models made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo_core import Study, TrialState
from tracking import redacted

if TYPE_CHECKING:
    from tracking import StudyTracker

TRACKING, FINAL_MODEL, PROMOTION = "tracking", "final_model", "promotion"
WARM_START = "warm_start"
# Where the objective's file, its project's folder, the table or the space is, if not where it was at first.
PLACE = "place"


def request_data(meta: Mapping[str, Any]) -> dict[str, Any]:
    """The request that the study was made by, as in its ``meta``; empty for one made by other means."""
    return dict(meta.get("request") or {})


def note_place(study: Study, meta: Mapping[str, Any], now: float, *, space: bool) -> None:
    """Keep where the files are that the study goes on with, if they have been moved, and a space that was
    edited: commands that know its name alone look there.

    ``space``: whether the study has the space that was asked for; one that is over keeps its own.
    """
    asked = request_data(meta)
    known = request_data(study.created.meta) | newest(study, PLACE)
    moved: dict[str, Any] = {
        term: asked[term]
        for term in ("objective", "data")
        if term in known and Path(_path(asked.get(term))).is_absolute() and asked[term] != known[term]
    }
    if space and asked.get("space") not in (None, known.get("space")):
        moved["space"] = asked["space"]
    if moved:
        study.note(PLACE, newest(study, PLACE) | moved, now=now)


def _path(reference: Any) -> str:
    """The file or folder of ``PATH.py:function``, ``FOLDER#ENTRY`` or a table's path."""
    text = str(reference or "")
    return text.rpartition(":")[0] if ".py:" in text else text.partition("#")[0]


def identity_of(meta: Mapping[str, Any]) -> dict[str, str]:
    """What must stay the same for the study to mean the same: ``objective``, of a ready one ``data`` and
    ``question`` too; empty for a study made by other means.
    """
    return dict(meta.get("identity") or {})


def newest(study: Study, topic: str, **match: Any) -> dict[str, Any]:
    """The newest note on a topic with these fields; empty when there is none."""
    for note in reversed(study.state.notes):
        if note.topic == topic and all(note.data.get(k) == v for k, v in match.items()):
            return dict(note.data)
    return {}


def whereabouts_of(uri: str | None) -> dict[str, str | None]:
    """The tracking URI as a journal may have it: one with a password only to be shown, not to be used."""
    if uri is None or redacted(uri) == uri:
        return {"uri": uri}
    return {"uri": None, "guarded_uri": redacted(uri)}


def shown_by(tracker: StudyTracker, run_id: str) -> dict[str, Any]:
    """The note on where MLflow shows the study, as the run of that id, once the tracker has started."""
    connection = tracker.connection
    return {
        **whereabouts_of(connection.uri),
        "experiment": tracker.experiment,
        "experiment_id": connection.experiment_id,
        "run_id": run_id,
        "url": tracker.parent_url,
    }


def run_in(study: Study, experiment: str) -> str | None:
    """The run that has shown the study in that experiment, renamed or not; ``None`` if none has."""
    return newest(study, TRACKING, experiment=experiment).get("run_id")


def final_model(study: Study) -> dict[str, Any]:
    """What is known of the final model of the best trial; empty while none was made."""
    if not study.history.count(TrialState.COMPLETE):
        return {}
    return newest(study, FINAL_MODEL, trial=study.best.number)
