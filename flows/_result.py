"""What a session gives back to its caller."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import Any

from hpo_core import Study, StudyStateError, TrialRecord

# Why a session ended that was broken off: by Ctrl-C, or with the process that it ran in.
INTERRUPTED, TERMINATED = "interrupted", "terminated"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came out of a session.

    ``study``: to be read (``best``, ``pareto_front``, ``trials``, ``history``). ``ended``: why the
    session ended. ``run_id`` and ``run_url``: the study's parent run in MLflow. ``model``: the
    registered version as ``name@alias (version n)``, if one was made, and ``scores`` its scores on rows
    that tuning never saw.
    """

    study: Study
    name: str
    ended: str
    run_id: str | None = None
    run_url: str | None = None
    model: str | None = None
    scores: dict[str, float] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def state(self) -> str:
        """``finished``; ``failed`` where as many trials failed as may; ``cancelled``; or ``interrupted``."""
        return "interrupted" if self.study.stopped is None else self.study.stopped.state

    @property
    def broken_off(self) -> bool:
        """Whether somebody ended this session before the study had come to its end."""
        return self.ended in (INTERRUPTED, TERMINATED)

    @property
    def best(self) -> TrialRecord:
        """The best complete trial. Raises :class:`StudyStateError` when there is none, with what to do."""
        try:
            return self.study.best
        except StudyStateError as error:
            from flows._words import ended_badly, what_next

            became = "; ".join(f"{label}: {line}" for label, line in ended_badly(self.study))
            raise StudyStateError(
                f"{error}{f' ({became})' * bool(became)}; next: {', '.join(what_next(self.study))}"
            ) from None

    def _repr_html_(self) -> str:
        """In a notebook: what the command line says at the end, failures and leaders among it."""
        from flows._live import conclusion

        return f"<pre>{html.escape(conclusion(self))}</pre>"

    def to_json(self) -> dict[str, Any]:
        """The result in plain JSON types, without the trials."""
        complete = bool(self.summary.get("counts", {}).get("complete"))
        best = self.best if complete else None
        return {
            "study": self.name,
            "state": self.state,
            "ended": self.ended,
            "run_id": self.run_id,
            "run_url": self.run_url,
            "model": self.model,
            "scores": self.scores,
            "best": None
            if best is None
            else {"trial": best.number, "values": best.values, "params": best.params},
            "front": [trial.number for trial in self.study.pareto_front],
            **self.summary,
        }
