"""What every kind of parameter is: the abstract base, and the checks that the kinds share."""

from __future__ import annotations

import copy
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from hpo_core._conditions import Condition
from hpo_core._errors import InputError, SpaceError

CONTINUOUS, INTEGER, ORDINAL, NOMINAL = 0, 1, 2, 3

# How many choices a message or repr shows.
_SHOWN = 20
# Of the largest whole number that is a float: above it nothing can be drawn, compared or modelled.
_MOST_BITS = 1023


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
    def grainy(self) -> bool:
        """Whether a column without cells has points of its own that :meth:`canonical` finds."""
        return False

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
        if not isinstance(parent, str):
            raise SpaceError(f".when() takes the name of another parameter first, got {parent!r}")
        if bool(values) == (ge is not None or le is not None):
            raise SpaceError(
                f".when({parent!r}, ...) needs either values of {parent!r} or a range ge= / le=, "
                f"got values={values!r}, ge={ge!r}, le={le!r}"
            )
        bounds = [None if b is None else checked_number(b, f".when({parent!r}): a bound") for b in (ge, le)]
        condition = Condition(parent, tuple(plain_json(v) for v in values), *bounds)
        return self._under((*self.conditions, condition))

    def _under(self, conditions: tuple[Condition, ...]) -> Self:
        changed = copy.copy(self)
        set_fields(changed, conditions=conditions)
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
        return isinstance(other, Parameter) and json_text(self.to_json()) == json_text(other.to_json())

    def __hash__(self) -> int:
        return hash(json_text(self.to_json()))

    def __repr__(self) -> str:
        data = self._own_json()
        given = [shortened(data[name]) for name in self._required]
        given += [f"{name}={data[name]!r}" for name in self._optional if name in data]
        return ".".join([f"{type(self).__name__}({', '.join(given)})", *map(repr, self.conditions)])


def shortened(value: Any) -> str:
    """``repr``, of a long list its beginning and how many more there are."""
    if not isinstance(value, list) or len(value) <= _SHOWN:
        return repr(value)
    return f"[{', '.join(map(repr, value[:3]))}, ... {len(value) - 3} more]"


def checked_number(value: Any, what: str) -> float:
    """A finite float. Raises :class:`SpaceError` saying that ``what`` must be one."""
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


def checked_whole(value: Any, what: str) -> int:
    """A whole number. Raises :class:`SpaceError` saying that ``what`` must be one."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise SpaceError(f"{what} must be a whole number, got {value!r}")
    if (bits := int(value).bit_length()) > _MOST_BITS:
        raise SpaceError(f"{what} must be a whole number that a float can hold, got one of {bits} bits")
    return int(value)


def checked_flag(value: Any, what: str) -> bool:
    """True or False. Raises :class:`SpaceError` for others: the text ``'false'`` would be true."""
    if not isinstance(value, bool | int | np.bool_) or value not in (0, 1):
        raise SpaceError(f"{what} must be true or false, got {value!r}")
    return bool(value)


def outside(name: str, value: Any, low: Any, high: Any) -> SpaceError:
    """The error for a value out of range."""
    return SpaceError(f"parameter {name!r}: {value!r} is outside [{low!r}, {high!r}]")


def set_fields(record: Parameter, **values: Any) -> None:
    """Write fields of a frozen record from its own ``__init__``."""
    for field, value in values.items():
        object.__setattr__(record, field, value)


def choice_text(value: object) -> str:
    """A choice of any JSON type for people: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def plain_json(value: Any, what: str = "a choice") -> Any:
    """JSON's own types: numpy scalars to Python's, tuples to lists; refuses what JSON cannot carry.

    ``what``: which value it is, for the error's text.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value) is bool or (type(value) is str and value.isascii()):
        return value
    if type(value) is int:
        return checked_whole(value, what)
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError):
        raise SpaceError(
            f"{what} must be a JSON value (string, number, bool, null, list, object), got {value!r}; "
            "use a name for it and look the object up in the objective"
        ) from None
    if not _is_written(text):
        raise SpaceError(f"{what} must be text that can be written as UTF-8, got {value!r}")
    return value if type(value) is str else json.loads(text, parse_int=_whole_choice)


def _whole_choice(digits: str) -> int:
    return checked_whole(int(digits), "a choice")


def check_name(what: str, name: object, kind: type[InputError] = SpaceError) -> None:
    """Raise an error of that ``kind`` unless it is a text, not empty, that files and databases can hold."""
    if not isinstance(name, str) or not name:
        raise kind(f"{what} must be a non-empty string, got {name!r}")
    if not _is_written(name):
        raise kind(f"{what} must be text that can be written as UTF-8, got {name!r}")


def _is_written(text: str) -> bool:
    """False of half a character, as what was read with a wrong encoding has it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# One encoder for all: `json.dumps` makes a new one for each call that sorts keys.
json_text = json.JSONEncoder(sort_keys=True).encode
