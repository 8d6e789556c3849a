"""What samplers share: the duplicate check, and a memo for folds over the evidence."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from hpo_core._history import History
from hpo_core._space import SearchSpace

__all__ = ["FoldMemo", "first_new", "is_new", "trial_rng"]

Array = NDArray[np.float64]
State = TypeVar("State")


def is_new(history: History, u: Array) -> bool:
    """Whether canonical ``u`` ``(d,)`` is neither a trial nor a warm-start observation."""
    return bool(history.untried(u[None, :])[0])


def first_new(history: History, candidates: Array, *, most: int = 64) -> Array | None:
    """The first of ``candidates`` ``(c, d)`` that has not been tried; ``None`` if all of them were.

    Only the first ``most`` are looked at.
    """
    untried = history.untried(candidates[:most])
    return np.asarray(candidates[np.argmax(untried)]) if untried.any() else None


def trial_rng(history: History, trial: int) -> np.random.Generator:
    """The generator that a study hands to its sampler for ``trial``."""
    return np.random.default_rng(np.random.SeedSequence([history.seed, trial]))


class FoldMemo(Generic[State]):
    """The state of a fold over one history's evidence, kept between calls and rebuilt when lost.

    The state itself counts the rows that it has folded. Rows of evidence never change, so a state
    stays valid for as long as the history and its space are the same objects.
    """

    def __init__(self) -> None:
        self._history: weakref.ref[History] | None = None
        self._space: SearchSpace | None = None
        self._state: State | None = None

    def state(self, history: History, fresh: Callable[[], State]) -> State:
        """The state kept for ``history``, or a ``fresh`` one."""
        same = self._history is not None and self._history() is history
        if self._state is None or not same or self._space is not history.space:
            self._history, self._space = weakref.ref(history), history.space
            self._state = fresh()
        return self._state

    def renew(self, state: State) -> State:
        """Keep ``state`` in place of the last one, for the same history."""
        self._state = state
        return state

    def __reduce__(self) -> tuple[Any, ...]:
        # A copied or pickled sampler starts without a memo: it must not share the original's.
        return FoldMemo, ()
