"""Which of a trial's results counts, by the study's rule: the last, the best, or the mean of the last k.

One implementation for all that asks: what a trial's result is, what a rung compares, what a model learns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from hpo_core._moments import mean

__all__ = ["counting", "result"]


def counting(values: Sequence[float], rule: str) -> list[float]:
    """Those of a trial's ``values``, in their order and less being better, that its result is the mean of.

    Values that are not finite count for nothing, except where there is no other and for ``last``. What counts
    of the values so far and the next one is all that can ever count of them, so they need not be kept:
    ``counting([*counting(values, rule), value], rule)`` is ``counting([*values, value], rule)``.
    """
    finite = [value for value in values if math.isfinite(value)]
    if rule == "last" or not finite:
        return list(values[-1:])
    return [min(finite)] if rule == "best" else finite[-int(rule.removeprefix("average-")) :]


def result(values: Sequence[float], rule: str) -> float:
    """What a trial's ``values``, at least one, in their order and less being better, amount to."""
    return mean(counting(values, rule))
