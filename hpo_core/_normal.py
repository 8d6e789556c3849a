"""Normal and log-normal variables, truncated or not."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, ClassVar

import numpy as np

from hpo_core._domain import CONTINUOUS, Parameter, checked_number, outside, set_fields
from hpo_core._errors import SpaceError

# Standard deviations at which an unbounded normal ends, as a probability.
_TAIL = 1e-15


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Normal(Parameter):
    """A normal variable with mean ``mu`` and deviation ``sigma``, truncated to ``[low, high]``."""

    _required = ("mu", "sigma")
    _optional: ClassVar[Mapping[str, Any]] = {"low": None, "high": None, "default": None}

    mu: float
    sigma: float
    low: float | None
    high: float | None
    default: float | None

    def __init__(
        self,
        mu: float,
        sigma: float,
        *,
        low: float | None = None,
        high: float | None = None,
        default: float | None = None,
    ) -> None:
        kind = type(self).__name__
        sigma = checked_number(sigma, f"{kind}: sigma")
        if sigma <= 0:
            raise SpaceError(f"{kind}: sigma must be positive, got {sigma!r}")
        low = None if low is None else checked_number(low, f"{kind}: low")
        high = None if high is None else checked_number(high, f"{kind}: high")
        if low is not None and high is not None and not low < high:
            raise SpaceError(f"{kind}: low must be below high, got low={low!r}, high={high!r}")
        set_fields(self, mu=checked_number(mu, f"{kind}: mu"), sigma=sigma, low=low, high=high)
        set_fields(self, default=None, conditions=())
        bottom, top = self._tails
        if top - bottom < 1e-9:
            raise SpaceError(f"{self!r}: the range holds next to none of the distribution; widen it")
        if default is not None:
            self.encode(default, "default")
            set_fields(self, default=float(default))

    @property
    def kind(self) -> int:
        """CONTINUOUS."""
        return CONTINUOUS

    @property
    def cardinality(self) -> int:
        """Continuous: 0."""
        return 0

    # LogNormal is the same variable seen through exp; these two are all that differs.
    def _inward(self, value: float) -> float:
        return value

    def _outward(self, z: float) -> float:
        return z

    @functools.cached_property
    def _tails(self) -> tuple[float, float]:
        """Probability mass below ``low`` and below ``high``."""
        distribution = NormalDist(self.mu, self.sigma)
        low = 0.0 if self.low is None else distribution.cdf(self._inward(self.low))
        high = 1.0 if self.high is None else distribution.cdf(self._inward(self.high))
        return low, high

    def decode(self, u: float) -> float:
        """The quantile at ``u``, 8 sigma at most from the mean where there is no bound."""
        low, high = self._tails
        mass = min(max(low + u * (high - low), _TAIL), 1 - _TAIL)
        z = NormalDist(self.mu, self.sigma).inv_cdf(mass)
        largest = float(np.finfo(float).max)
        value = self._outward(min(max(z, -largest), largest))
        value = value if self.low is None else max(value, self.low)
        return value if self.high is None else min(value, self.high)

    def encode(self, value: Any, name: str = "") -> float:
        """The probability mass below the value, within the range."""
        v = checked_number(value, f"parameter {name!r}")
        below = self.low is not None and v < self.low
        if below or (self.high is not None and v > self.high):
            raise outside(name, value, self.low, self.high)
        low, high = self._tails
        u = (NormalDist(self.mu, self.sigma).cdf(self._inward(v)) - low) / (high - low)
        return min(max(u, 0.0), 1.0)


@dataclass(frozen=True, init=False, eq=False, repr=False)
class LogNormal(Normal):
    """``exp`` of a normal variable: ``mu`` and ``sigma`` are of the logarithm, the range is of the value."""

    def _inward(self, value: float) -> float:
        if value <= 0:
            raise SpaceError(f"LogNormal: values must be positive, got {value!r}")
        return math.log(value)

    def _outward(self, z: float) -> float:
        # The logarithms of the smallest and the largest double.
        return math.exp(min(max(z, -744.0), 709.78))
