"""Where results become disasters: one rule for every axis, and for all that an outlier would drown."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hpo_core._logs import sign_of

__all__ = ["FAR", "robust_range", "worst_to_show"]

Array = NDArray[np.float64]

# Farther out is as good or bad as any. Objectives return 1e308 where they diverge; variances add up squares.
FAR = 1e150


def worst_to_show(values: Array) -> float:
    """Where finite, minimised ``values`` ``(n,)`` become disasters; infinity when there are none.

    There are some when the worst is four times as far from the best as the worst but a tenth are.
    """
    if len(values) < 10:
        return np.inf
    best, typical, worst = float(values.min()), float(np.percentile(values, 90)), float(values.max())
    span = typical - best
    return best + 1.6 * span if span > 0 and worst > best + 4.0 * span else np.inf


def robust_range(shown: Array, direction: str) -> tuple[float, float] | None:
    """An axis range that leaves out disasters on the bad side; ``None`` where there are none."""
    finite = shown[np.isfinite(shown)]
    towards = sign_of(direction) * finite
    high = worst_to_show(towards)
    if not np.isfinite(high):
        return None
    low = float(towards.min()) - 0.04 * (high - float(towards.min()))
    return (low, high) if direction == "min" else (-high, -low)
