"""The duplicate check that all samplers share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hpo_core._history import History

__all__ = ["first_new", "is_new"]

Array = NDArray[np.float64]

# Canonical coordinates closer than this are the same value (cells are 1/cardinality apart).
_SAME = 1e-12


def is_new(history: History, u: Array) -> bool:
    """Whether canonical ``u`` ``(d,)`` is neither a trial nor a warm-start observation."""
    if history.seen(u) is not None:
        return False
    evidence = history.evidence
    warm = evidence.X[evidence.trials < 0]
    return not (np.isclose(warm, u, rtol=0.0, atol=_SAME, equal_nan=True).all(axis=1)).any()


def first_new(history: History, candidates: Array, *, most: int = 64) -> Array | None:
    """The first of ``candidates`` ``(c, d)`` that has not been tried; ``None`` if all of them were.

    Only the first ``most`` are looked at, and an infinite space is not searched at all: there,
    repeats have probability zero.
    """
    if not len(candidates):
        return None
    if history.space.size is None:
        return np.asarray(candidates[0])
    for u in candidates[:most]:
        if is_new(history, u):
            return np.asarray(u)
    return None
