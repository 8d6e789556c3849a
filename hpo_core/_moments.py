"""Mean and spread of results, which need not be small: objectives return 1e308 where they diverge.

The mean of such values is a number although their sum is none. Scaling by a power of two changes no digit.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

__all__ = ["deviation", "mean"]


def mean(values: Sequence[float]) -> float:
    """Of at least one value; not finite where one of them is not."""
    if not all(map(math.isfinite, values)):
        return sum(values) / len(values)
    scaled, unit = _scaled(values)
    return math.ldexp(statistics.fmean(scaled), unit)


def deviation(values: Sequence[float]) -> float:
    """The sample standard deviation of finite values, at least two; infinite where no float is as large."""
    scaled, unit = _scaled(values)
    return 2.0 * math.ldexp(statistics.stdev(scaled), unit - 1)


def _scaled(values: Sequence[float]) -> tuple[list[float], int]:
    """The values over 2^unit, none of them beyond 1, and the unit."""
    _, unit = math.frexp(max(map(abs, values)))
    return [math.ldexp(value, -unit) for value in values], unit
