"""What a session leaves to say: the fields of :class:`flows.Result`."""

from __future__ import annotations

from typing import Any

from flows._session import Session
from hpo_core import TrialState


def summary_of(current: Session) -> dict[str, Any]:
    """The result's fields, from the study and its notes."""
    study = current.study
    final = next((n.data for n in reversed(study.state.notes) if n.topic == "final_model"), {})
    counts = {s.label: study.history.count(s) for s in TrialState if study.history.count(s)}
    stopped = study.stopped
    return {
        "study": study,
        "name": study.name,
        "ended": current.ended or (stopped.reason if stopped else ""),
        "run_id": current.parent_run,
        "run_url": current.tracker.parent_url,
        "model": final.get("model"),
        "scores": dict(final.get("scores", {})),
        "summary": {"counts": counts, "resumed": current.resumed, "final": dict(final)},
    }
