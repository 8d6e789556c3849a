"""Arrays that grow at the end in O(1) amortised, seen through read-only views."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Column:
    """A growing array: ``view`` is ``(n,)``, or ``(n, width)`` when a width is given.

    Views stay valid but stop growing when the buffer is replaced; take a new one for each decision.
    """

    def __init__(self, dtype: DTypeLike, *, width: int | None = None, fill: Any = 0) -> None:
        self._fill = fill
        shape = (16,) if width is None else (16, width)
        self._buffer: NDArray[Any] = np.full(shape, fill, dtype=dtype)
        self._n = 0

    def append(self, value: Any) -> None:
        """Add one element (or one row)."""
        if self._n == len(self._buffer):
            grown = np.full((2 * self._n, *self._buffer.shape[1:]), self._fill, dtype=self._buffer.dtype)
            grown[: self._n] = self._buffer
            self._buffer = grown
        self._buffer[self._n] = value
        self._n += 1

    def __setitem__(self, index: int, value: Any) -> None:
        if not 0 <= index < self._n:
            raise IndexError(f"row {index} of {self._n}")
        self._buffer[index] = value

    def __len__(self) -> int:
        return self._n

    def kept(self, rows: NDArray[np.bool_]) -> Column:
        """A copy with those rows alone that ``(n,)`` says."""
        other, found = copy.copy(self), self.view[rows]
        room = np.full((16, *found.shape[1:]), self._fill, dtype=found.dtype)
        other._buffer, other._n = np.concatenate([found, room]), len(found)
        return other

    @property
    def view(self) -> NDArray[Any]:
        """The filled part, read-only, without a copy."""
        view = self._buffer[: self._n]
        view.flags.writeable = False
        return view
