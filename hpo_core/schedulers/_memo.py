"""What a scheduler remembers of a history between two calls: a view that catches up, never a decision.

A memo holds nothing that could not be read off the history again; copying or pickling a scheduler drops it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from hpo_core._history import History

__all__ = ["Memo"]

View = TypeVar("View")


class Memo(Generic[View]):
    """One view for each history that the scheduler has seen, for as long as the history lives."""

    def __init__(self) -> None:
        self._views: WeakKeyDictionary[History, View] = WeakKeyDictionary()

    def of(self, history: History, make: Callable[[], View]) -> View:
        """The view of this history; made when there is none."""
        view = self._views.get(history)
        if view is None:
            view = self._views[history] = make()
        return view

    def __reduce__(self) -> tuple[type[Memo[View]], tuple[()]]:
        return type(self), ()
