"""The kinds of parameter: frozen records that know their own map to and from [0, 1].

Every ``decode`` is monotone in ``u`` for numeric kinds, and ``decode(encode(v)) == v`` for every
value in range (floats up to rounding).
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from hpo_core._errors import SpaceError

CONTINUOUS, INTEGER, ORDINAL, NOMINAL = 0, 1, 2, 3


@dataclass(frozen=True)
class Condition:
    """``parent`` is one of ``values``, or lies in ``[ge, le]``; false when the parent is inactive."""

    parent: str
    values: tuple[Any, ...] = ()
    ge: float | None = None
    le: float | None = None

    def holds(self, value: Any) -> bool:
        """Whether the condition holds for this value of the parent."""
        if self.values:
            return any(_same(value, v) for v in self.values)
        return (self.ge is None or value >= self.ge) and (self.le is None or value <= self.le)

    def table(self, parent: Parameter) -> NDArray[np.bool_]:
        """(cardinality,) bool: the condition at each value of a discrete parent."""
        cells = (np.arange(parent.cardinality) + 0.5) / max(parent.cardinality, 1)
        return np.array([self.holds(parent.decode(float(u))) for u in cells], dtype=bool)

    def check(self, name: str, parent: Parameter) -> None:
        """Raise :class:`SpaceError` when the parent can never have any of the named values."""
        if not self.values and isinstance(parent, Categorical):
            raise SpaceError(
                f"parameter {name!r}: a range condition on categorical {self.parent!r} has no meaning; "
                f"name the values, such as .when({self.parent!r}, {parent.choices[0]!r})"
            )
        for value in self.values:
            if not parent.contains(value):
                raise SpaceError(
                    f"parameter {name!r} is to be active when {self.parent!r} is {value!r}, which "
                    f"{self.parent!r} can never be: {parent!r}"
                )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        if self.values:
            return {"parent": self.parent, "values": list(self.values)}
        return {"parent": self.parent, "ge": self.ge, "le": self.le}


def _same(a: Any, b: Any) -> bool:
    # 1 == True in Python, but a user who lists both means two things.
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


@dataclass(frozen=True)
class Parameter:
    """Abstract base: a domain, a default and the conditions under which it is active."""

    kind: ClassVar[int]
    conditions: tuple[Condition, ...] = dataclasses.field(default=(), kw_only=True)

    @property
    def cardinality(self) -> int:
        """Number of equal cells of the column; 0 when the column is (treated as) continuous."""
        raise NotImplementedError

    @property
    def count(self) -> int | None:
        """Number of distinct values; ``None`` when infinite."""
        return self.cardinality or None

    def units(self) -> NDArray[np.float64]:
        """(count,) canonical ``u`` of every value, ascending; only for a finite ``count``."""
        return (np.arange(self.cardinality) + 0.5) / max(self.cardinality, 1)

    def canonical(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """The canonical ``u`` nearest to each of ``u`` (n,), which lie in [0, 1]."""
        if not self.cardinality:
            return u
        index = np.minimum(np.floor(u * self.cardinality), self.cardinality - 1)
        return np.asarray((index + 0.5) / self.cardinality)

    @property
    def default(self) -> Any:
        """The declared default, or ``None``."""
        return getattr(self, "_default", None)

    def decode(self, u: float) -> Any:
        """The value at ``u`` in [0, 1]."""
        raise NotImplementedError

    def encode(self, value: Any, name: str = "") -> float:
        """The ``u`` of a value; :class:`SpaceError` names ``name`` when the value is out of range."""
        raise NotImplementedError

    def contains(self, value: Any) -> bool:
        """Whether the value is one that :meth:`decode` can return."""
        try:
            self.encode(value)
        except SpaceError:
            return False
        return True

    def widened(self, other: Parameter, name: str) -> Parameter:
        """The union with ``other``, which must be of the same kind and scale."""
        if self == other:
            return self
        raise SpaceError(
            f"parameter {name!r} was {self!r} and is now asked for as {other!r}; ask for it with one "
            "distribution, or give the second one another name"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, the kind under ``type``."""
        data: dict[str, Any] = {"type": type(self).__name__.lower()}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "conditions":
                if value:
                    data["when"] = [c.to_json() for c in value]
            elif value is not None and value is not False:
                data[field.name.lstrip("_")] = list(value) if field.name == "choices" else value
        return data

    def when(self, parent: str, *values: Any, ge: float | None = None, le: float | None = None) -> Self:
        """Active only when ``parent`` is one of ``values``, or lies in ``[ge, le]``.

        Several calls add up: all conditions must hold.
        """
        if bool(values) == (ge is not None or le is not None):
            raise SpaceError(
                f".when({parent!r}, ...) needs either values of {parent!r} or a range ge= / le=, "
                f"got values={values!r}, ge={ge!r}, le={le!r}"
            )
        return dataclasses.replace(
            self, conditions=(*self.conditions, Condition(parent, tuple(values), ge, le))
        )


def _number(value: Any, what: str, name: str = "") -> float:
    label = f"parameter {name!r}: " if name else ""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise SpaceError(f"{label}{what} must be a number, got {value!r}")
    if not math.isfinite(value):
        raise SpaceError(f"{label}{what} must be finite, got {value!r}")
    return float(value)


def _check_range(low: float, high: float, log: bool, kind: str) -> None:
    if low > high:
        raise SpaceError(f"{kind}: low must not be above high, got low={low!r}, high={high!r}; swap them")
    if log and low <= 0:
        raise SpaceError(f"{kind}: a log scale needs low > 0, got low={low!r}; raise low or drop log=True")


@dataclass(frozen=True, init=False)
class Float(Parameter):
    """A real number in ``[low, high]``, on a log scale if ``log``, on a grid from ``low`` if ``step``."""

    low: float
    high: float
    log: bool = False
    step: float | None = None
    _default: float | None = None

    def __init__(
        self,
        low: float,
        high: float,
        *,
        log: bool = False,
        step: float | None = None,
        default: float | None = None,
        conditions: tuple[Condition, ...] = (),
        _default: float | None = None,
    ) -> None:
        low, high = _number(low, "low of a Float"), _number(high, "high of a Float")
        _check_range(low, high, log, "Float")
        if step is not None:
            if log:
                raise SpaceError(f"Float: step={step!r} and log=True exclude each other; drop one")
            if _number(step, "step of a Float") <= 0:
                raise SpaceError(f"Float: step must be positive, got {step!r}")
            high = low + step * math.floor((high - low) / step + 1e-9)
        default = default if default is not None else _default
        _set(self, low=low, high=high, log=bool(log), step=step, conditions=conditions)
        _set(self, _default=None if default is None else self._checked_default(default))

    def _checked_default(self, default: float) -> float:
        value = _number(default, "default of a Float")
        if not self.low <= value <= self.high:
            raise SpaceError(f"Float: default {value!r} is outside [{self.low!r}, {self.high!r}]")
        return self.decode(self.encode(value)) if self.step else value

    @property
    def kind(self) -> int:  # type: ignore[override]
        """INTEGER when stepped (or a single point), else CONTINUOUS."""
        return INTEGER if self.cardinality else CONTINUOUS

    @property
    def cardinality(self) -> int:
        """Number of grid points; 0 when continuous."""
        if self.low == self.high:
            return 1
        return 0 if self.step is None else round((self.high - self.low) / self.step) + 1

    def decode(self, u: float) -> float:
        """The value at ``u``; the ends map to ``low`` and ``high`` exactly."""
        if self.cardinality:
            index = min(int(u * self.cardinality), self.cardinality - 1)
            # Rounded to the step's own digits, so that 0.1 * 3 reads 0.3.
            value = self.low + index * (self.step or 0.0)
            return min(float(f"{value:.12g}"), self.high)
        if self.log:
            value = math.exp(math.log(self.low) + u * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low * (1.0 - u) + self.high * u  # no overflow at +-1e308
        return min(max(value, self.low), self.high)

    def encode(self, value: Any, name: str = "") -> float:
        """The ``u`` of a value in range."""
        v = _number(value, "a Float's value", name)
        slack = 1e-9 * max(abs(self.low), abs(self.high)) if self.step else 0.0
        if not self.low - slack <= v <= self.high + slack:
            raise SpaceError(f"parameter {name!r}: {value!r} is outside [{self.low!r}, {self.high!r}]")
        if self.cardinality:
            index = round((v - self.low) / self.step) if self.step else 0
            return (min(max(index, 0), self.cardinality - 1) + 0.5) / self.cardinality
        if self.log:
            span = math.log(self.high) - math.log(self.low)
            return (math.log(v) - math.log(self.low)) / span
        return (v / 2 - self.low / 2) / (self.high / 2 - self.low / 2)

    def widened(self, other: Parameter, name: str) -> Parameter:
        """The range that covers both, on the same scale."""
        if isinstance(other, Float) and (other.log, other.step) == (self.log, self.step):
            return Float(
                min(self.low, other.low),
                max(self.high, other.high),
                log=self.log,
                step=self.step,
                default=self._default,
                conditions=self.conditions,
            )
        return Parameter.widened(self, other, name)


@dataclass(frozen=True, init=False)
class Int(Parameter):
    """A whole number in ``[low, high]``, on a log scale if ``log``, in steps of ``step`` from ``low``."""

    low: int
    high: int
    log: bool = False
    step: int = 1
    _default: int | None = None

    def __init__(
        self,
        low: int,
        high: int,
        *,
        log: bool = False,
        step: int = 1,
        default: int | None = None,
        conditions: tuple[Condition, ...] = (),
        _default: int | None = None,
    ) -> None:
        low, high, step = _whole(low, "low"), _whole(high, "high"), _whole(step, "step")
        _check_range(low, high, log, "Int")
        if step < 1 or (log and step != 1):
            raise SpaceError(f"Int: step must be at least 1, and 1 with log=True, got step={step!r}")
        high = low + (high - low) // step * step
        default = default if default is not None else _default
        _set(self, low=low, high=high, log=bool(log), step=step, conditions=conditions)
        if default is not None:
            default = _whole(default, "default")
            if not low <= default <= high:
                raise SpaceError(f"Int: default {default!r} is outside [{low!r}, {high!r}]")
        _set(self, _default=default)

    @property
    def kind(self) -> int:  # type: ignore[override]
        """INTEGER, but CONTINUOUS on a log scale, whose cells are unequal."""
        return INTEGER if self.cardinality else CONTINUOUS

    @property
    def cardinality(self) -> int:
        """Number of values; 0 on a log scale, whose cells are unequal."""
        return 0 if self.log and self.high > self.low else (self.high - self.low) // self.step + 1

    @property
    def count(self) -> int | None:
        """Number of values."""
        return (self.high - self.low) // self.step + 1

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
        values = np.round(np.exp(bottom + u * (top - bottom)))
        return self._log_units(np.clip(values, self.low, self.high))

    @property
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
            raise SpaceError(f"parameter {name!r}: {value!r} is outside [{self.low}, {self.high}]")
        if self.cardinality:
            return (round((v - self.low) / self.step) + 0.5) / self.cardinality
        return float(self._log_units(np.array([float(v)]))[0])

    def widened(self, other: Parameter, name: str) -> Parameter:
        """The range that covers both, on the same scale."""
        if isinstance(other, Int) and (other.log, other.step) == (self.log, self.step):
            return Int(
                min(self.low, other.low),
                max(self.high, other.high),
                log=self.log,
                step=self.step,
                default=self._default,
                conditions=self.conditions,
            )
        return Parameter.widened(self, other, name)


def _whole(value: Any, what: str) -> int:
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise SpaceError(f"{what} of an Int must be a whole number, got {value!r}")
    return int(value)


@dataclass(frozen=True, init=False)
class Categorical(Parameter):
    """One of ``choices``: any JSON values, each once; ``ordered`` when their order carries meaning."""

    choices: tuple[Any, ...]
    ordered: bool = False
    _default: Any = None

    def __init__(
        self,
        choices: Sequence[Any],
        *,
        ordered: bool = False,
        default: Any = None,
        conditions: tuple[Condition, ...] = (),
        _default: Any = None,
    ) -> None:
        if isinstance(choices, str) or not isinstance(choices, Sequence) or not choices:
            raise SpaceError(f"Categorical needs a non-empty list of choices, got {choices!r}")
        choices = tuple(_plain(c) for c in choices)
        texts = [_text(c) for c in choices]
        if len(set(texts)) != len(texts):
            twice = next(c for c, t in zip(choices, texts, strict=True) if texts.count(t) > 1)
            raise SpaceError(f"Categorical: the choice {twice!r} appears twice; list it once")
        _set(self, choices=choices, ordered=bool(ordered), conditions=conditions)
        default = default if default is not None else _default
        if default is not None and _text(default) not in texts:
            raise SpaceError(f"Categorical: default {default!r} is not one of {list(choices)!r}")
        _set(self, _default=default)

    @property
    def kind(self) -> int:  # type: ignore[override]
        """ORDINAL when ordered, else NOMINAL."""
        return ORDINAL if self.ordered else NOMINAL

    @property
    def cardinality(self) -> int:
        """Number of choices."""
        return len(self.choices)

    @functools.cached_property
    def _index(self) -> dict[str, int]:
        return {_text(c): i for i, c in enumerate(self.choices)}

    def decode(self, u: float) -> Any:
        """The choice of the cell that ``u`` falls into."""
        return self.choices[min(int(u * len(self.choices)), len(self.choices) - 1)]

    def encode(self, value: Any, name: str = "") -> float:
        """The cell centre of a choice."""
        index = self._index.get(_text(_plain(value)))
        if index is None:
            raise SpaceError(f"parameter {name!r}: {value!r} is not one of {list(self.choices)!r}")
        return (index + 0.5) / len(self.choices)

    def widened(self, other: Parameter, name: str) -> Parameter:
        """The choices of both, the known ones first."""
        if isinstance(other, Categorical) and other.ordered == self.ordered:
            new = [c for c in other.choices if _text(c) not in self._index]
            if not new:
                return self
            if not self.ordered:
                return dataclasses.replace(self, choices=(*self.choices, *new))
        return Parameter.widened(self, other, name)


def _plain(value: Any) -> Any:
    """JSON's own types: numpy scalars to Python's, tuples to lists; refuses what JSON cannot carry."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, tuple):
        value = [_plain(v) for v in value]
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise SpaceError(
            f"a choice must be a JSON value (string, number, bool, null, list, object), got {value!r}; "
            "use a name for it and look the object up in the objective"
        ) from None
    return value


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


@dataclass(frozen=True, init=False)
class Normal(Parameter):
    """A normal variable with mean ``mu`` and deviation ``sigma``, truncated to ``[low, high]``."""

    kind: ClassVar[int] = CONTINUOUS
    mu: float
    sigma: float
    low: float | None = None
    high: float | None = None
    _default: float | None = None

    def __init__(
        self,
        mu: float,
        sigma: float,
        *,
        low: float | None = None,
        high: float | None = None,
        default: float | None = None,
        conditions: tuple[Condition, ...] = (),
        _default: float | None = None,
    ) -> None:
        kind = type(self).__name__
        if _number(sigma, f"sigma of a {kind}") <= 0:
            raise SpaceError(f"{kind}: sigma must be positive, got {sigma!r}")
        if low is not None and high is not None and not low < high:
            raise SpaceError(f"{kind}: low must be below high, got low={low!r}, high={high!r}")
        _set(self, mu=_number(mu, f"mu of a {kind}"), sigma=float(sigma), low=low, high=high)
        _set(self, conditions=conditions, _default=None)
        default = default if default is not None else _default
        if default is not None:
            self.encode(default, "default")
            _set(self, _default=float(default))

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
        if high - low < 1e-12:
            raise SpaceError(f"{self!r}: the range holds none of the distribution's mass; widen it")
        return low, high

    def decode(self, u: float) -> float:
        """The quantile at ``u``, 8 sigma at most from the mean where there is no bound."""
        low, high = self._tails
        mass = min(max(low + u * (high - low), 1e-15), 1 - 1e-15)
        value = self._outward(NormalDist(self.mu, self.sigma).inv_cdf(mass))
        value = value if self.low is None else max(value, float(self.low))
        return value if self.high is None else min(value, float(self.high))

    def encode(self, value: Any, name: str = "") -> float:
        """The probability mass below the value, within the range."""
        v = _number(value, f"a {type(self).__name__}'s value", name)
        below = self.low is not None and v < self.low
        if below or (self.high is not None and v > self.high):
            raise SpaceError(f"parameter {name!r}: {value!r} is outside [{self.low!r}, {self.high!r}]")
        low, high = self._tails
        u = (NormalDist(self.mu, self.sigma).cdf(self._inward(v)) - low) / (high - low)
        return min(max(u, 0.0), 1.0)


@dataclass(frozen=True, init=False)
class LogNormal(Normal):
    """``exp`` of a normal variable: ``mu`` and ``sigma`` are of the logarithm, the range is of the value."""

    def _inward(self, value: float) -> float:
        if value <= 0:
            raise SpaceError(f"LogNormal: values must be positive, got {value!r}")
        return math.log(value)

    def _outward(self, z: float) -> float:
        return math.exp(z)


@dataclass(frozen=True)
class Constant(Parameter):
    """A fixed JSON value: part of every configuration, not of the search."""

    kind: ClassVar[int] = NOMINAL
    value: Any = None

    @property
    def cardinality(self) -> int:
        """One value."""
        return 1

    def decode(self, u: float) -> Any:  # noqa: ARG002 - the base's signature
        """The value."""
        return self.value

    def encode(self, value: Any, name: str = "") -> float:
        """0.5, if the value is the constant."""
        if not _same(value, self.value):
            raise SpaceError(f"parameter {name!r} is fixed at {self.value!r}, got {value!r}")
        return 0.5


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
        raise SpaceError(f"parameter {name!r}: type {data['type']!r} is not one of {sorted(_BY_TYPE)}")
    fields = {f.name.lstrip("_") for f in dataclasses.fields(kind)} - {"conditions"}
    arguments = {k: v for k, v in data.items() if k not in ("type", "when")}
    unknown = sorted(set(arguments) - fields)
    if unknown:
        raise SpaceError(
            f"parameter {name!r}: {unknown[0]!r} is not a field of {data['type']}: {sorted(fields)}"
        )
    try:
        parameter = kind(**arguments)
        for c in data.get("when", ()):
            parameter = parameter.when(c["parent"], *c.get("values", ()), ge=c.get("ge"), le=c.get("le"))
    except TypeError as error:
        raise SpaceError(f"parameter {name!r}: {data!r} is incomplete ({error})") from None
    except SpaceError as error:
        raise SpaceError(f"parameter {name!r}: {error}") from None
    return parameter


def _set(record: Parameter, **values: Any) -> None:
    """Write fields of a frozen record from its own ``__init__``."""
    for field, value in values.items():
        object.__setattr__(record, field, value)
