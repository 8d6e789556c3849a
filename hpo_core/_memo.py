"""What a sampler or scheduler keeps from one call to the next: what it has read of a history, no decision.

A memo holds nothing that could not be read off the history again; copying or pickling its owner drops it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from hpo_core._history import History
from hpo_core._logs import Reports
from hpo_core._space import SearchSpace

__all__ = ["Memo"]

View = TypeVar("View")


class Memo(Generic[View]):
    """One view for each history, for as long as it lives; made anew when its space, or the ``key``, changes.

    A view itself counts how far it has read: rows of evidence and of reports never change, but for what a new
    version of the space does to them. Where a trial is run again both are new logs, and so is the view.
    """

    def __init__(self) -> None:
        # By the log of reports, which a history shares with that of its study without new trials: what is
        # remembered of the one holds for the other.
        self._views: WeakKeyDictionary[Reports, tuple[SearchSpace, object, View]] = WeakKeyDictionary()

    def of(self, history: History, make: Callable[[], View], key: object = None) -> View:
        """The view of this history; made when there is none."""
        space, known, view = self._views.get(history.reports, (None, None, None))
        if view is None or space is not history.space or known != key:
            return self.put(history, make(), key)
        return view

    def put(self, history: History, view: View, key: object = None) -> View:
        """Keep ``view`` in place of the last one."""
        self._views[history.reports] = history.space, key, view
        return view

    def __reduce__(self) -> tuple[type[Memo[View]], tuple[()]]:
        return type(self), ()
