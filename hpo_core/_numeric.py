"""Numbers in a range: real and whole, linear, logarithmic or on a grid."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hpo_core._domain import (
    CONTINUOUS,
    INTEGER,
    Parameter,
    checked_flag,
    checked_number,
    checked_whole,
    outside,
    set_fields,
)
from hpo_core._errors import SpaceError

# Beyond these, neighbouring values fall on the same double in [0, 1]: a cell (i + 0.5) / c needs
# c * 2**-52 < 1/2, and on a log scale the rounding of log and exp counts about fifty times as much.
_MOST_CELLS = 2**50
_MOST_ON_LOG = 2**40
# A logarithmic scale over a range that is narrower than this, relative to its lower end, is linear to within
# an eighth of it; its logarithms would cancel to a few digits.
_NARROW = 1e-6
# The widest range of logarithms whose half `exp` can still take.
_MOST_SPAN = 1400.0
# Ranges in which neighbouring doubles lie farther apart than this in [0, 1] have their doubles as a grid.
_GRAIN = 1e-10
# How far off a grid a stepped value may be, in steps: what printing with six digits leaves.
_OFF_GRID = 1e-6


def _check_range(low: float, high: float, log: bool, kind: str) -> None:
    if low > high:
        raise SpaceError(f"{kind}: low must not be above high, got low={low!r}, high={high!r}; swap them")
    if log and low <= 0:
        raise SpaceError(f"{kind}: a log scale needs low > 0, got low={low!r}; raise low or drop log=True")


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Float(Parameter):
    """A real number in ``[low, high]``, on a log scale if ``log``, on a grid from ``low`` if ``step``.

    With a ``step`` the range ends at the last grid point that is not above ``high``. ``default`` is
    what a sampler may try first; with a step it goes to the nearest grid point.
    """

    _required = ("low", "high")
    _optional: ClassVar[Mapping[str, Any]] = {"log": False, "step": None, "default": None}

    low: float
    high: float
    log: bool
    step: float | None
    default: float | None

    def __init__(
        self,
        low: float,
        high: float,
        *,
        log: bool = False,
        step: float | None = None,
        default: float | None = None,
    ) -> None:
        low, high = checked_number(low, "Float: low"), checked_number(high, "Float: high")
        log = checked_flag(log, "Float: log")
        _check_range(low, high, log, "Float")
        set_fields(self, low=low, high=high, log=log, step=None, default=None, conditions=())
        if step is not None:
            if log:
                raise SpaceError(f"Float: step={step!r} and log=True exclude each other; drop one")
            step = checked_number(step, "Float: step")
            if step <= 0:
                raise SpaceError(f"Float: step must be positive, got {step!r}")
            set_fields(self, step=step)
            set_fields(self, high=self._grid_value(self.cardinality - 1))
        if default is not None:
            value = checked_number(default, "Float: default")
            if not low <= value <= high:
                raise SpaceError(f"Float: default {value!r} is outside [{low!r}, {high!r}]")
            set_fields(self, default=self._nearest(value) if self.step else value)

    @property
    def kind(self) -> int:
        """INTEGER when stepped (or a single point), else CONTINUOUS."""
        return INTEGER if self.cardinality else CONTINUOUS

    @functools.cached_property
    def cardinality(self) -> int:
        """Number of grid points; 0 when continuous."""
        if self.low == self.high:
            return 1
        if self.step is None:
            return 0
        # In decimals, as the user wrote them: 0.3 / 0.1 is 3 and not 2.9999999999999996.
        bottom, step = self._decimals
        cells = int((_decimal(self.high) - bottom) / step) + 1
        if cells > _MOST_CELLS:
            raise SpaceError(
                f"Float: step={self.step!r} makes {Decimal(cells):.1e} values of [{self.low!r}, "
                f"{self.high!r}], too many to tell apart; drop the step or raise it"
            )
        return cells

    @functools.cached_property
    def _decimals(self) -> tuple[Decimal, Decimal]:
        return _decimal(self.low), _decimal(self.step or 0.0)

    def _grid_value(self, index: int) -> float:
        bottom, step = self._decimals
        return float(bottom + index * step)

    def _nearest(self, value: float) -> float:
        bottom, step = self._decimals
        index = int(((_decimal(value) - bottom) / step).to_integral_value()) if step else 0
        return self._grid_value(min(max(index, 0), self.cardinality - 1))

    @functools.cached_property
    def grainy(self) -> bool:
        """Whether the range has so few doubles that two of them are far apart in [0, 1]."""
        if self.cardinality or self._curved:
            return False
        return math.ulp(max(abs(self.low), abs(self.high))) > _GRAIN * (self.high - self.low)

    def canonical(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """The canonical ``u`` nearest to each of ``u`` (n,)."""
        if not self.grainy:
            return Parameter.canonical(self, u)
        # `decode` and `encode` of arrays. The difference of such near doubles is exact, and the rounding of
        # the product less than half the distance to the next one, so the same points come back.
        width = self.high - self.low
        values = np.minimum(np.maximum(self.low + u * width, self.low), self.high)
        return np.asarray((values - self.low) / width)

    @functools.cached_property
    def _curved(self) -> bool:
        return self.log and self.high - self.low > _NARROW * self.low

    @functools.cached_property
    def _log_span(self) -> float:
        # The quotient is exact to the last digit where the difference of logarithms cancels; it overflows
        # only where they are far apart.
        ratio = self.high / self.low
        return math.log(ratio) if math.isfinite(ratio) else math.log(self.high) - math.log(self.low)

    def decode(self, u: float) -> float:
        """The value at ``u``; the ends map to ``low`` and ``high`` exactly."""
        if self.cardinality:
            return self._grid_value(min(int(u * self.cardinality), self.cardinality - 1))
        if u >= 1.0:
            return self.high
        if self._curved:
            # By roots: exp overflows before the product does, and of the widest ranges a square root too.
            parts = 2 if self._log_span < _MOST_SPAN else 4
            root = math.exp(u * self._log_span / parts)
            value = self.low
            for _ in range(parts):
                value *= root
        elif self.high - self.low < math.inf:
            value = self.low + u * (self.high - self.low)
        else:
            value = 2.0 * (self.low / 2 + u * (self.high / 2 - self.low / 2))
        return min(max(value, self.low), self.high)

    def encode(self, value: Any, name: str = "") -> float:
        """The ``u`` of a value in range."""
        v = checked_number(value, f"parameter {name!r}")
        if self.cardinality:
            return self._encode_on_grid(v, name)
        if not self.low <= v <= self.high:
            raise outside(name, value, self.low, self.high)
        if self._curved:
            ratio = v / self.low
            gap = math.log(ratio) if math.isfinite(ratio) else math.log(v) - math.log(self.low)
            return min(gap / self._log_span, 1.0)
        if self.high - self.low < math.inf:
            return (v - self.low) / (self.high - self.low)
        return (v / 2 - self.low / 2) / (self.high / 2 - self.low / 2)

    def _encode_on_grid(self, v: float, name: str) -> float:
        bottom, step = self._decimals
        slack = _OFF_GRID * (self.step or 0.0)
        if not self.low - slack <= v <= self.high + slack:
            raise outside(name, v, self.low, self.high)
        place = float((_decimal(v) - bottom) / step) if step else 0.0
        index = round(place)
        if abs(place - index) > _OFF_GRID:
            raise SpaceError(
                f"parameter {name!r}: {v!r} is not one of {self.low!r}, {self._grid_value(1)!r}, ..., "
                f"{self.high!r}; take {self._nearest(v)!r}, or drop the step"
            )
        return (min(index, self.cardinality - 1) + 0.5) / self.cardinality

    def widened(self, other: Parameter, name: str) -> Parameter:
        """The range that covers both, on the same scale."""
        if isinstance(other, Float) and (other.log, other.step) == (self.log, self.step):
            step = self._decimals[1]
            if not step or not (self._decimals[0] - other._decimals[0]) % step:
                low, high = min(self.low, other.low), max(self.high, other.high)
                union = Float(low, high, log=self.log, step=self.step, default=self.default)
                return union._under(self.conditions)
        return Parameter.widened(self, other, name)


def _decimal(value: float) -> Decimal:
    return Decimal(repr(value))


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Int(Parameter):
    """A whole number in ``[low, high]``, on a log scale if ``log``, in steps of ``step`` from ``low``.

    The range ends at the last such number that is not above ``high``.
    """

    _required = ("low", "high")
    _optional: ClassVar[Mapping[str, Any]] = {"log": False, "step": 1, "default": None}

    low: int
    high: int
    log: bool
    step: int
    default: int | None

    def __init__(
        self, low: int, high: int, *, log: bool = False, step: int = 1, default: int | None = None
    ) -> None:
        low, high, step = (
            checked_whole(low, "Int: low"),
            checked_whole(high, "Int: high"),
            checked_whole(step, "Int: step"),
        )
        log = checked_flag(log, "Int: log")
        _check_range(low, high, log, "Int")
        if step < 1 or (log and step != 1):
            raise SpaceError(f"Int: step must be at least 1, and 1 with log=True, got step={step!r}")
        high = low + (high - low) // step * step
        if log and high > max(_MOST_ON_LOG, low):
            raise SpaceError(
                f"Int: with log=True values go up to 2**40, got high={high!r}; use Float(..., log=True)"
            )
        if (high - low) // step >= _MOST_CELLS:
            raise SpaceError(
                f"Int: {low!r} to {high!r} are too many values to tell apart; raise the step or use Float"
            )
        set_fields(self, low=low, high=high, log=log, step=step, default=None, conditions=())
        if default is not None:
            default = checked_whole(default, "Int: default")
            if not low <= default <= high:
                raise SpaceError(f"Int: default {default!r} is outside [{low!r}, {high!r}]")
            if (default - low) % step:
                raise SpaceError(f"Int: default {default!r} is not on the grid {low}, {low + step}, ...")
            set_fields(self, default=default)

    @property
    def kind(self) -> int:
        """INTEGER, but CONTINUOUS on a log scale, whose cells are unequal."""
        return INTEGER if self.cardinality else CONTINUOUS

    @property
    def cardinality(self) -> int:
        """Number of values; 0 on a log scale, whose cells are unequal."""
        return 0 if self.log and self.high > self.low else (self.high - self.low) // self.step + 1

    @property
    def grainy(self) -> bool:
        """On a log scale: whole numbers without equal cells."""
        return not self.cardinality

    @property
    def count(self) -> int:
        """Number of values."""
        return (self.high - self.low) // self.step + 1

    def value_at(self, index: int) -> int:
        """The value with this index, ascending."""
        return self.low + self.step * index

    def unit_at(self, index: int) -> float:
        """Canonical ``u`` of the value with this index."""
        if self.cardinality:
            return (index + 0.5) / self.cardinality
        return float(self._log_units(np.array([float(self.low + index)]))[0])

    def units(self) -> NDArray[np.float64]:
        """(count,) canonical ``u`` of every value, ascending."""
        if self.cardinality:
            return Parameter.units(self)
        return self._log_units(np.arange(self.low, self.high + 1, dtype=float))

    def canonical(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """The canonical ``u`` nearest to each of ``u`` (n,)."""
        if self.cardinality:
            return Parameter.canonical(self, u)
        bottom, top = self._log_ends
        values = np.rint(np.exp(bottom + u * (top - bottom)))
        return self._log_units(np.minimum(np.maximum(values, self.low), self.high))

    def masses(self) -> NDArray[np.float64]:
        """(count,) the prior probability of each value: the size of its cell."""
        if self.cardinality:
            return Parameter.masses(self)
        return np.diff(self._log_units(np.arange(self.low, self.high + 2, dtype=float) - 0.5))

    @functools.cached_property
    def _log_ends(self) -> tuple[float, float]:
        # Cells [v - 1/2, v + 1/2) on the log axis give every end value its fair share.
        return math.log(self.low - 0.5), math.log(self.high + 0.5)

    def _log_units(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        bottom, top = self._log_ends
        return np.asarray((np.log(values) - bottom) / (top - bottom))

    def decode(self, u: float) -> int:
        """The value of the cell that ``u`` falls into."""
        if self.cardinality:
            return self.low + self.step * min(int(u * self.cardinality), self.cardinality - 1)
        bottom, top = self._log_ends
        return min(max(round(float(np.exp(bottom + u * (top - bottom)))), self.low), self.high)

    def encode(self, value: Any, name: str = "") -> float:
        """The ``u`` of a value in range."""
        v = checked_whole(value, f"parameter {name!r}")
        if not self.low <= v <= self.high:
            raise outside(name, value, self.low, self.high)
        index, rest = divmod(v - self.low, self.step)
        if rest:
            raise SpaceError(
                f"parameter {name!r}: {value!r} is not one of {self.low}, {self.low + self.step}, ..., "
                f"{self.high}; take {v - rest}, or drop the step"
            )
        return self.unit_at(index)

    def widened(self, other: Parameter, name: str) -> Parameter:
        """The range that covers both, on the same scale."""
        if isinstance(other, Int) and (other.log, other.step) == (self.log, self.step):
            aligned = (self.low - other.low) % self.step == 0
            if aligned:
                low, high = min(self.low, other.low), max(self.high, other.high)
                union = Int(low, high, log=self.log, step=self.step, default=self.default)
                return union._under(self.conditions)
        return Parameter.widened(self, other, name)
