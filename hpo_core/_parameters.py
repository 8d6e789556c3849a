"""The kinds of parameter: frozen records that know their own map to and from [0, 1].

Every ``decode`` is monotone in ``u`` for numeric kinds, and ``decode(encode(v)) == v`` for every
value in range (floats up to rounding).
"""

from __future__ import annotations

import copy
import functools
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import NormalDist
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from hpo_core._conditions import Condition, same
from hpo_core._errors import SpaceError, nearest

CONTINUOUS, INTEGER, ORDINAL, NOMINAL = 0, 1, 2, 3

# Beyond these, neighbouring values fall on the same double in [0, 1]: a cell (i + 0.5) / c needs
# c * 2**-52 < 1/2, and on a log scale the rounding of log and exp counts about fifty times as much.
_MOST_CELLS = 2**50
_MOST_ON_LOG = 2**40
# How far off a grid a stepped value may be, in steps: what printing with six digits leaves.
_OFF_GRID = 1e-6
# Standard deviations at which an unbounded normal ends, as a probability.
_TAIL = 1e-15
# How many choices a message or repr shows.
_SHOWN = 20


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Parameter(ABC):
    """Abstract base: a domain, a default and the conditions under which it is active."""

    # Constructor arguments: those without a default, and the others with theirs.
    _required: ClassVar[tuple[str, ...]] = ()
    _optional: ClassVar[Mapping[str, Any]] = {}

    default: Any
    conditions: tuple[Condition, ...]

    @property
    @abstractmethod
    def kind(self) -> int:
        """CONTINUOUS, INTEGER, ORDINAL or NOMINAL."""

    @property
    @abstractmethod
    def cardinality(self) -> int:
        """Number of equal cells of the column; 0 when the column is (treated as) continuous."""

    @property
    def count(self) -> int | None:
        """Number of distinct values; ``None`` when infinite."""
        return self.cardinality or None

    @property
    def numeric(self) -> bool:
        """Whether values are numbers in an order that ``decode`` follows."""
        return True

    @abstractmethod
    def decode(self, u: float) -> Any:
        """The value at ``u`` in [0, 1]."""

    @abstractmethod
    def encode(self, value: Any, name: str = "") -> float:
        """The ``u`` of a value; :class:`SpaceError` names ``name`` when the value is out of range."""

    def unit_at(self, index: int) -> float:
        """Canonical ``u`` of the value with this index; only for a finite ``count``."""
        return (index + 0.5) / self.cardinality

    def value_at(self, index: int) -> Any:
        """The value with this index, in ascending order; only for a finite ``count``."""
        return self.decode(self.unit_at(index))

    def units(self) -> NDArray[np.float64]:
        """(count,) canonical ``u`` of every value, ascending; only for a finite ``count``."""
        return (np.arange(self.cardinality) + 0.5) / max(self.cardinality, 1)

    def masses(self) -> NDArray[np.float64]:
        """(count,) the prior probability of each value; only for a finite ``count``."""
        return np.full(self.cardinality, 1.0 / max(self.cardinality, 1))

    def canonical(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """The canonical ``u`` nearest to each of ``u`` (n,), which lie in [0, 1]."""
        if not self.cardinality:
            return u
        index = np.minimum(np.floor(u * self.cardinality), self.cardinality - 1)
        return np.asarray((index + 0.5) / self.cardinality)

    def contains(self, value: Any) -> bool:
        """Whether the value is one that :meth:`decode` can return."""
        try:
            self.encode(value)
        except SpaceError:
            return False
        return True

    def widened(self, other: Parameter, name: str) -> Parameter:
        """The union with ``other``, which must be of the same kind and scale, under these conditions."""
        if type(self) is type(other) and self._own_json() == other._own_json():
            return self
        raise SpaceError(
            f"parameter {name!r} was {self!r} and is now asked for as {other!r}; ask for it with one "
            "distribution, or give the second one another name"
        )

    def when(self, parent: str, *values: Any, ge: float | None = None, le: float | None = None) -> Self:
        """Active only when ``parent`` is one of ``values``, or lies in ``[ge, le]``.

        Several calls add up: all conditions must hold.
        """
        if bool(values) == (ge is not None or le is not None):
            raise SpaceError(
                f".when({parent!r}, ...) needs either values of {parent!r} or a range ge= / le=, "
                f"got values={values!r}, ge={ge!r}, le={le!r}"
            )
        bounds = [None if b is None else _number(b, f".when({parent!r}): a bound") for b in (ge, le)]
        condition = Condition(parent, tuple(plain_json(v) for v in values), *bounds)
        return self._under((*self.conditions, condition))

    def _under(self, conditions: tuple[Condition, ...]) -> Self:
        changed = copy.copy(self)
        _set(changed, conditions=conditions)
        return changed

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, the kind under ``type``; what is at its default is left out."""
        data = self._own_json()
        if self.conditions:
            data["when"] = [c.to_json() for c in self.conditions]
        return data

    def _own_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {"type": type(self).__name__.lower()}
        for name in self._required:
            value = getattr(self, name)
            data[name] = list(value) if isinstance(value, tuple) else value
        for name, usual in self._optional.items():
            value = getattr(self, name)
            if value != usual:
                data[name] = value
        return data

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Parameter) and _text(self.to_json()) == _text(other.to_json())

    def __hash__(self) -> int:
        return hash(_text(self.to_json()))

    def __repr__(self) -> str:
        data = self._own_json()
        given = [_short(data[name]) for name in self._required]
        given += [f"{name}={data[name]!r}" for name in self._optional if name in data]
        return ".".join([f"{type(self).__name__}({', '.join(given)})", *map(repr, self.conditions)])


def _short(value: Any) -> str:
    if not isinstance(value, list) or len(value) <= _SHOWN:
        return repr(value)
    return f"[{', '.join(map(repr, value[:3]))}, ... {len(value) - 3} more]"


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        hint = ""
        if isinstance(value, str):
            hint = "; write it without quotes (YAML reads 1e-5 as text and 1.0e-5 as a number)"
        raise SpaceError(f"{what} must be a number, got {value!r}{hint}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise SpaceError(f"{what} must be a finite number, got {value!r}")
    return number


def _whole(value: Any, what: str) -> int:
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise SpaceError(f"{what} must be a whole number, got {value!r}")
    return int(value)


def _check_range(low: float, high: float, log: bool, kind: str) -> None:
    if low > high:
        raise SpaceError(f"{kind}: low must not be above high, got low={low!r}, high={high!r}; swap them")
    if log and low <= 0:
        raise SpaceError(f"{kind}: a log scale needs low > 0, got low={low!r}; raise low or drop log=True")


def _outside(name: str, value: Any, low: Any, high: Any) -> SpaceError:
    return SpaceError(f"parameter {name!r}: {value!r} is outside [{low!r}, {high!r}]")


def _set(record: Parameter, **values: Any) -> None:
    """Write fields of a frozen record from its own ``__init__``."""
    for field, value in values.items():
        object.__setattr__(record, field, value)


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
        low, high = _number(low, "Float: low"), _number(high, "Float: high")
        _check_range(low, high, log, "Float")
        _set(self, low=low, high=high, log=bool(log), step=None, default=None, conditions=())
        if step is not None:
            if log:
                raise SpaceError(f"Float: step={step!r} and log=True exclude each other; drop one")
            step = _number(step, "Float: step")
            if step <= 0:
                raise SpaceError(f"Float: step must be positive, got {step!r}")
            _set(self, step=step)
            _set(self, high=self._grid_value(self.cardinality - 1))
        if default is not None:
            value = _number(default, "Float: default")
            if not low <= value <= high:
                raise SpaceError(f"Float: default {value!r} is outside [{low!r}, {high!r}]")
            _set(self, default=self._nearest(value) if self.step else value)

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
        if self.log:
            half = math.exp(0.5 * u * self._log_span)  # squared below, as exp overflows before its root
            value = self.low * half * half
        elif self.high - self.low < math.inf:
            value = self.low + u * (self.high - self.low)
        else:
            value = 2.0 * (self.low / 2 + u * (self.high / 2 - self.low / 2))
        return min(max(value, self.low), self.high)

    def encode(self, value: Any, name: str = "") -> float:
        """The ``u`` of a value in range."""
        v = _number(value, f"parameter {name!r}")
        if self.cardinality:
            return self._encode_on_grid(v, name)
        if not self.low <= v <= self.high:
            raise _outside(name, value, self.low, self.high)
        if self.log:
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
            raise _outside(name, v, self.low, self.high)
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
        low, high, step = _whole(low, "Int: low"), _whole(high, "Int: high"), _whole(step, "Int: step")
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
        _set(self, low=low, high=high, log=bool(log), step=step, default=None, conditions=())
        if default is not None:
            default = _whole(default, "Int: default")
            if not low <= default <= high:
                raise SpaceError(f"Int: default {default!r} is outside [{low!r}, {high!r}]")
            if (default - low) % step:
                raise SpaceError(f"Int: default {default!r} is not on the grid {low}, {low + step}, ...")
            _set(self, default=default)

    @property
    def kind(self) -> int:
        """INTEGER, but CONTINUOUS on a log scale, whose cells are unequal."""
        return INTEGER if self.cardinality else CONTINUOUS

    @property
    def cardinality(self) -> int:
        """Number of values; 0 on a log scale, whose cells are unequal."""
        return 0 if self.log and self.high > self.low else (self.high - self.low) // self.step + 1

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
        v = _whole(value, f"parameter {name!r}")
        if not self.low <= v <= self.high:
            raise _outside(name, value, self.low, self.high)
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


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Categorical(Parameter):
    """One of ``choices``: any JSON values, each once; ``ordered`` when their order carries meaning.

    Tuples become lists, as JSON has no tuples. ``default=None`` means that none was declared.
    """

    _required = ("choices",)
    _optional: ClassVar[Mapping[str, Any]] = {"ordered": False, "default": None}

    choices: tuple[Any, ...]
    ordered: bool
    default: Any

    def __init__(self, choices: Sequence[Any], *, ordered: bool = False, default: Any = None) -> None:
        if isinstance(choices, str) or not isinstance(choices, Sequence) or not choices:
            raise SpaceError(f"Categorical needs a non-empty list of choices, got {choices!r}")
        choices = tuple(plain_json(c) for c in choices)
        _set(self, choices=choices, ordered=bool(ordered), default=None, conditions=())
        if len(self._index) != len(choices):
            # The index keeps the last of equals, so an earlier one is not where it should be.
            twice = next(c for i, c in enumerate(choices) if self._index[_text(c)] != i)
            raise SpaceError(f"Categorical: the choice {twice!r} appears twice; list it once")
        if default is not None:
            if not self.contains(default):
                raise SpaceError(f"Categorical: default {default!r} is not one of {_short(list(choices))}")
            _set(self, default=plain_json(default))

    @property
    def kind(self) -> int:
        """ORDINAL when ordered, else NOMINAL."""
        return ORDINAL if self.ordered else NOMINAL

    @property
    def cardinality(self) -> int:
        """Number of choices."""
        return len(self.choices)

    @property
    def numeric(self) -> bool:
        """False: choices have no scale, even where they look like numbers."""
        return False

    @functools.cached_property
    def _index(self) -> dict[str, int]:
        return {_text(c): i for i, c in enumerate(self.choices)}

    def decode(self, u: float) -> Any:
        """The choice of the cell that ``u`` falls into."""
        choice = self.choices[min(int(u * len(self.choices)), len(self.choices) - 1)]
        # A list or dict goes to user code, which may change it.
        return copy.deepcopy(choice) if isinstance(choice, list | dict) else choice

    def encode(self, value: Any, name: str = "") -> float:
        """The cell centre of a choice."""
        index = self._index.get(_text(plain_json(value)))
        if index is None:
            known = [c for c in self.choices if isinstance(c, str)]
            hint = nearest(value, known) if isinstance(value, str) else ""
            raise SpaceError(
                f"parameter {name!r}: {value!r} is not one of {_short(list(self.choices))}{hint}"
            )
        return (index + 0.5) / len(self.choices)

    def widened(self, other: Parameter, name: str) -> Parameter:
        """The choices of both, the known ones first; an order cannot take new choices."""
        if isinstance(other, Categorical):
            new = [c for c in other.choices if _text(c) not in self._index]
            if not new:
                return self
            if not self.ordered and not other.ordered:
                union = Categorical([*self.choices, *new], default=self.default)
                return union._under(self.conditions)
        return Parameter.widened(self, other, name)


def plain_json(value: Any) -> Any:
    """JSON's own types: numpy scalars to Python's, tuples to lists; refuses what JSON cannot carry."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value) in (str, int, bool):
        return value
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise SpaceError(
            f"a choice must be a JSON value (string, number, bool, null, list, object), got {value!r}; "
            "use a name for it and look the object up in the objective"
        ) from None
    return json.loads(text)


# One encoder for all: `json.dumps` makes a new one for each call that sorts keys.
_text = json.JSONEncoder(sort_keys=True).encode


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
        sigma = _number(sigma, f"{kind}: sigma")
        if sigma <= 0:
            raise SpaceError(f"{kind}: sigma must be positive, got {sigma!r}")
        low = None if low is None else _number(low, f"{kind}: low")
        high = None if high is None else _number(high, f"{kind}: high")
        if low is not None and high is not None and not low < high:
            raise SpaceError(f"{kind}: low must be below high, got low={low!r}, high={high!r}")
        _set(self, mu=_number(mu, f"{kind}: mu"), sigma=sigma, low=low, high=high)
        _set(self, default=None, conditions=())
        bottom, top = self._tails
        if top - bottom < 1e-9:
            raise SpaceError(f"{self!r}: the range holds next to none of the distribution; widen it")
        if default is not None:
            self.encode(default, "default")
            _set(self, default=float(default))

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
        v = _number(value, f"parameter {name!r}")
        below = self.low is not None and v < self.low
        if below or (self.high is not None and v > self.high):
            raise _outside(name, value, self.low, self.high)
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


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Constant(Parameter):
    """A fixed JSON value: part of every configuration, not of the search."""

    _required = ("value",)
    value: Any

    def __init__(self, value: Any) -> None:
        _set(self, value=plain_json(value), default=None, conditions=())

    @property
    def kind(self) -> int:
        """NOMINAL."""
        return NOMINAL

    @property
    def cardinality(self) -> int:
        """One value."""
        return 1

    @property
    def numeric(self) -> bool:
        """Whether the value is a number."""
        return isinstance(self.value, int | float) and not isinstance(self.value, bool)

    def decode(self, u: float) -> Any:  # noqa: ARG002 - the base's signature
        """The value."""
        return copy.deepcopy(self.value) if isinstance(self.value, list | dict) else self.value

    def encode(self, value: Any, name: str = "") -> float:
        """0.5, if the value is the constant."""
        if not same(plain_json(value), self.value):
            raise SpaceError(f"parameter {name!r} is fixed at {self.value!r}, got {value!r}")
        return 0.5

    def widened(self, other: Parameter, name: str) -> Parameter:
        """The constant, where the objective asks for a range that holds it: it was fixed on purpose."""
        return self if other.contains(self.value) else Parameter.widened(self, other, name)


_BY_TYPE: dict[str, type[Parameter]] = {
    c.__name__.lower(): c for c in (Float, Int, Categorical, Normal, LogNormal, Constant)
}


def parameter_from_json(name: str, data: Mapping[str, Any]) -> Parameter:
    """The parameter that :meth:`Parameter.to_json` wrote, or a user's space file has.

    Raises :class:`SpaceError` naming the parameter and the field.
    """
    if not isinstance(data, Mapping) or "type" not in data:
        raise SpaceError(f"parameter {name!r} needs a type, one of {sorted(_BY_TYPE)}; got {data!r}")
    kind = _BY_TYPE.get(str(data["type"]).lower())
    if kind is None:
        hint = nearest(str(data["type"]), _BY_TYPE)
        raise SpaceError(f"parameter {name!r}: type {data['type']!r} is not one of {sorted(_BY_TYPE)}{hint}")
    fields = [*kind._required, *kind._optional]
    arguments = {k: v for k, v in data.items() if k not in ("type", "when")}
    for given in arguments:
        if given not in fields:
            raise SpaceError(
                f"parameter {name!r}: {given!r} is not a field of {data['type']}: "
                f"{[*fields, 'when']}{nearest(str(given), fields)}"
            )
    for needed in kind._required:
        if needed not in arguments:
            raise SpaceError(f"parameter {name!r}: a {data['type']} needs {needed!r}, got {dict(data)!r}")
    try:
        parameter = kind(**arguments)
        for condition in data.get("when", ()):
            parameter = _conditional(parameter, condition)
    except SpaceError as error:
        raise SpaceError(f"parameter {name!r}: {error}") from None
    return parameter


def _conditional(parameter: Parameter, condition: Any) -> Parameter:
    known = {"parent", "values", "ge", "le"}
    if not isinstance(condition, Mapping) or "parent" not in condition or set(condition) - known:
        raise SpaceError(
            "a condition is {'parent': NAME, 'values': [...]} or {'parent': NAME, 'ge': ..., 'le': ...}, "
            f"got {condition!r}"
        )
    values, bounds = condition.get("values", ()), {k: condition.get(k) for k in ("ge", "le")}
    return parameter.when(condition["parent"], *values, **bounds)
