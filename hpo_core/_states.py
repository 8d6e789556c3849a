"""The states of a trial and the moves between them."""

from __future__ import annotations

from enum import IntEnum

from hpo_core._errors import InputError, StudyStateError, nearest


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
    def of(cls, label: TrialState | str) -> TrialState:
        """The state with this label. Raises :class:`InputError` with the list of labels."""
        if isinstance(label, TrialState):
            return label
        found = cls.__members__.get(label.upper()) if isinstance(label, str) else None
        if found is None:
            labels = [s.label for s in cls]
            hint = nearest(label, labels) if isinstance(label, str) else ""
            raise InputError(f"a trial's state must be one of {labels}, got {label!r}{hint}")
        return found


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

# States whose values are results to compare. Of the others a value may be known, and is not one.
VALUED = frozenset({TrialState.COMPLETE, TrialState.PRUNED})

# Bad ends: they count against the limit on failures, and can be run once more.
BAD = (TrialState.FAILED, TrialState.TIMED_OUT, TrialState.OUT_OF_MEMORY, TrialState.LOST)

_ENDS = frozenset(s for s in TrialState if s.finished)
_MOVES: dict[TrialState, frozenset[TrialState]] = {
    TrialState.WAITING: frozenset({TrialState.RUNNING}) | _ENDS,
    TrialState.RUNNING: frozenset({TrialState.WAITING, TrialState.PAUSED}) | _ENDS,
    TrialState.PAUSED: frozenset({TrialState.WAITING}) | _ENDS,
    **dict.fromkeys(_ENDS, frozenset({TrialState.WAITING, TrialState.PAUSED})),
}
_MOVES[TrialState.COMPLETE] = frozenset()


def check_move(trial: int, old: TrialState, new: TrialState) -> None:
    """Raise :class:`StudyStateError` when the transition table has no such move."""
    if new not in _MOVES[old]:
        allowed = [s.label for s in sorted(_MOVES[old])] or ["nothing else"]
        raise StudyStateError(
            f"trial {trial} is {old.label} and cannot become {new.label}; it can become " + ", ".join(allowed)
        )
