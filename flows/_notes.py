"""What sessions leave in a study's journal for later readers: where it is shown, the final models made."""

from __future__ import annotations

from typing import Any

from hpo_core import Study, TrialState

TRACKING, FINAL_MODEL, PROMOTION = "tracking", "final_model", "promotion"
WARM_START = "warm_start"


def newest(study: Study, topic: str, **match: Any) -> dict[str, Any]:
    """The newest note on a topic with these fields; empty when there is none."""
    for note in reversed(study.state.notes):
        if note.topic == topic and all(note.data.get(k) == v for k, v in match.items()):
            return dict(note.data)
    return {}


def final_model(study: Study) -> dict[str, Any]:
    """What is known of the final model of the best trial; empty while none was made."""
    if not study.history.count(TrialState.COMPLETE):
        return {}
    return newest(study, FINAL_MODEL, trial=study.best.number)
