"""The states of a trial and the moves between them."""

from __future__ import annotations

from enum import IntEnum

from hpo_core._errors import StudyStateError


class TrialState(IntEnum):
    """Where a trial stands. Everything from ``COMPLETE`` on is an end state."""

    WAITING = 0
    RUNNING = 1
    PAUSED = 2
    COMPLETE = 3
    PRUNED = 4
    FAILED = 5
    INFEASIBLE = 6
    TIMED_OUT = 7
    OUT_OF_MEMORY = 8
    CANCELLED = 9
    LOST = 10

    @property
    def finished(self) -> bool:
        """Whether this is an end state."""
        return self >= TrialState.COMPLETE

    @property
    def label(self) -> str:
        """The name in journals, tags and tables: ``complete``, ``out_of_memory``..."""
        return self.name.lower()

    @classmethod
    def of(cls, label: str) -> TrialState:
        """The state with this label. Raises :class:`StudyStateError` with the list of labels."""
        try:
            return cls[label.upper()]
        except KeyError:
            raise StudyStateError(
                f"a trial's state must be one of {[s.label for s in cls]}, got {label!r}"
            ) from None


# States in which the objective itself said something about the configuration. A cancelled or lost
# trial says nothing and teaches a sampler nothing.
INFORMATIVE = frozenset(
    {
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.FAILED,
        TrialState.INFEASIBLE,
        TrialState.TIMED_OUT,
        TrialState.OUT_OF_MEMORY,
    }
)

_ENDS = frozenset(s for s in TrialState if s.finished)
_MOVES: dict[TrialState, frozenset[TrialState]] = {
    TrialState.WAITING: frozenset({TrialState.RUNNING}) | _ENDS,
    TrialState.RUNNING: frozenset({TrialState.WAITING, TrialState.PAUSED}) | _ENDS,
    TrialState.PAUSED: frozenset({TrialState.WAITING}) | _ENDS,
    **dict.fromkeys(_ENDS, frozenset({TrialState.WAITING})),
}
_MOVES[TrialState.COMPLETE] = frozenset()


def check_move(trial: int, old: TrialState, new: TrialState) -> None:
    """Raise :class:`StudyStateError` when the transition table has no such move."""
    if new not in _MOVES[old]:
        allowed = sorted(s.label for s in _MOVES[old]) or ["nothing: it is complete"]
        raise StudyStateError(
            f"trial {trial} is {old.label} and cannot become {new.label}; it can become " + ", ".join(allowed)
        )
